//! The lines: what a client asks, and what it is answered, as JSON.
//!
//! A client sends `{"evergate_control":1,"version":"0.1.0","command":"drain"}`. It gets `{"ok":true,…}`, or `{"ok":false,"error":"what is
//! wrong and what to do"}`, with the versions of the server. `status` is answered with the status alone, `watch` with one each
//! [`WATCH_EVERY`], and at the end of the process with [`Ended`]. Behind the answer to `replace` come the descriptors (`passing`), and
//! when the successor serves it sends `{"ready":true}`. The version changes when an older program would misunderstand.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::request::DrainBegun;
use crate::config::{ListenAt, cli};
use crate::process::roster::{Closes, Page, Query};
use crate::unix_socket::SocketFile;

/// The version of the protocol.
pub const VERSION: u64 = 1;

/// Bytes of a line that a client sends.
pub const ASK_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a line that it is answered with: the status of some ten thousand cores.
pub const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Between two lines of `watch`.
pub const WATCH_EVERY: Duration = Duration::from_millis(250);

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// [`VERSION`] of the client.
    pub evergate_control: u64,
    /// The version of the client's program, for errors.
    #[serde(default)]
    pub version: String,
    /// What it wants.
    #[serde(flatten)]
    pub command: Command,
}

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum Command {
    /// How the process is.
    Status,
    /// The same, again and again until it ends.
    Watch,
    /// That it drains.
    Drain {
        /// And goes on as [`Command::Watch`] does.
        #[serde(default)]
        watch: bool,
    },
    /// That a drain is taken back.
    Cancel,
    /// Who is connected: a page of it.
    Connections {
        /// Who is meant, and which page.
        #[serde(default)]
        query: Query,
    },
    /// That a connection ends.
    Close {
        /// Its number.
        connection: String,
        /// At once, whatever is under way; else at its gap.
        #[serde(default)]
        now: bool,
    },
    /// That it hands over its listening sockets, and drains once the successor serves.
    Replace {
        /// Where the successor would listen: the first address, which is all that a program before 0.2 looks at.
        listen: SocketAddr,
        /// All places where it would; a program before 0.2 does not say them.
        #[serde(default)]
        places: Vec<ListenAt>,
        /// The successor.
        pid: u32,
    },
}

/// The names of the commands, for errors.
const COMMANDS: &str = "status, watch, drain, cancel, connections, close, replace";

impl Ask {
    /// That, from this program.
    pub fn new(command: Command) -> Self {
        Self { evergate_control: VERSION, version: cli::VERSION.to_owned(), command }
    }

    /// Reads a line. The error is for whoever sent it.
    pub fn parse(line: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(line).map_err(|error| {
            let form = "one line is one object, such as {\"evergate_control\":1,\"command\":\"status\"}";
            format!("not JSON: {error}; {form}")
        })?;
        match value.get("evergate_control").and_then(Value::as_u64) {
            Some(VERSION) => {}
            Some(other) => {
                let program = value.get("version").and_then(Value::as_str).unwrap_or("unknown");
                return Err(format!(
                    "this is evergate {}, whose control protocol has version {VERSION}; the other end is evergate \
                     {program} with version {other}: use the program of the running process, or drain that by \
                     `kill -USR1 {}` and start the other when it has ended",
                    cli::VERSION,
                    std::process::id(),
                ));
            }
            None => {
                return Err(format!("\"evergate_control\" is missing: the version of the protocol, here {VERSION}"));
            }
        }
        serde_json::from_value(value).map_err(|error| format!("{error}; the commands are {COMMANDS}"))
    }
}

/// The successor serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// True.
    pub ready: bool,
}

/// What a client is answered. Beside `ok` and the versions only what belongs to the command is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it was done.
    pub ok: bool,
    /// [`VERSION`] of the server.
    pub evergate_control: u64,
    /// The version of its program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Of a drain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainBegun>,
    /// Who is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<Page>,
    /// How the connection ends that was to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes: Option<Closes>,
    /// The places of the sockets that follow, in their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sockets: Option<Vec<ListenAt>>,
    /// The files of those among them that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<SocketFile>>,
    /// The service manager listens there as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<bool>,
    /// To a successor that is ready: the old process drains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining: Option<bool>,
}

impl Answer {
    /// It was done.
    pub fn done() -> Self {
        Self {
            ok: true,
            evergate_control: VERSION,
            version: cli::VERSION.to_owned(),
            pid: std::process::id(),
            error: None,
            drain: None,
            page: None,
            closes: None,
            sockets: None,
            files: None,
            kept: None,
            draining: None,
        }
    }

    /// It was not, and why.
    pub fn refused(error: impl Into<String>) -> Self {
        Self { ok: false, error: Some(error.into()), ..Self::done() }
    }
}

/// The last line of `watch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How the process ends.
    pub ended: Exited,
}

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// Its exit code.
    pub exit_code: u8,
}

impl Ended {
    /// With that exit code.
    pub fn with(exit_code: u8) -> Self {
        Self { ended: Exited { exit_code } }
    }
}

/// A line of what this module defines.
pub(super) fn line(of: &impl Serialize) -> String {
    // Strings, numbers and addresses: nothing that JSON could not hold.
    serde_json::to_string(of).unwrap_or_default()
}
