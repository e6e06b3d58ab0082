//! The types of the fields of `Config`, and how a checked value becomes one.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use evergate_proto::websocket::handshake::Origins;

use super::listen::Listen;
use super::values::Value;

/// How much is logged; activity lines are, whatever the level. The number is that in `opensrf_core.xml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum LogLevel {
    /// 0: nothing.
    Off,
    /// 1.
    Error,
    /// 2.
    Warn,
    /// 3.
    Info,
    /// 4.
    Debug,
    /// 5, "internal".
    Trace,
}

impl LogLevel {
    /// The levels by their number in `opensrf_core.xml`.
    pub const ALL: [Self; 6] = [Self::Off, Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];

    /// `off`, `error`, `warn`, `info`, `debug`, `trace`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    /// A name, or that number.
    pub fn parse(text: &str) -> Option<Self> {
        let named = Self::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(text));
        named.or_else(|| text.parse::<usize>().ok().and_then(|n| Self::ALL.get(n).copied()))
    }
}

/// How lines of the log are written.
pub use evergate_proto::opensrf::activity::Format as LogFormat;

/// Where the log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Logfile {
    /// Standard error; activity goes there too, under the target `activity`.
    Stderr,
    /// The system log, under the facilities `syslog` and `actlog`.
    Syslog,
    /// A file, which SIGHUP reopens; activity goes there too, under the target `activity`.
    File(PathBuf),
}

/// A syslog facility (RFC 5424, 6.2.1), by its usual name: `local0`, `daemon`, ….
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facility {
    /// The name in lower case, without `LOG_`.
    pub name: &'static str,
}

impl Facility {
    const NAMES: [&'static str; 20] = [
        "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "local0",
        "local1", "local2", "local3", "local4", "local5", "local6", "local7",
    ];

    /// `local0` or `LOG_LOCAL0`, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        let lower = text.to_ascii_lowercase();
        let wanted = lower.strip_prefix("log_").unwrap_or(&lower);
        Self::NAMES.into_iter().find(|name| *name == wanted).map(|name| Self { name })
    }
}

/// A password. `Debug` masks it, and nothing prints it by accident.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a password.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The password itself, for `AUTH`.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "Secret(unset)" } else { "Secret(********)" })
    }
}

/// What a checked and resolved [`Value`] becomes in `Config`. The error says what was expected.
pub(super) trait Typed: Sized {
    fn typed(value: &Value) -> Result<Self, String>;

    /// The value where it is a number.
    fn number(&self) -> Option<u64> {
        None
    }
}

fn text(value: &Value) -> Result<&str, String> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err(format!("expected text, found {other:?}")),
    }
}

fn integer<T: TryFrom<u64>>(value: &Value) -> Result<T, String> {
    match value {
        Value::Integer(n) => T::try_from(*n).map_err(|_| format!("{n} is too large for this host")),
        other => Err(format!("expected a number, found {other:?}")),
    }
}

fn list(value: &Value) -> Result<&[String], String> {
    match value {
        Value::List(list) => Ok(list),
        other => Err(format!("expected a list, found {other:?}")),
    }
}

impl Typed for u64 {
    fn typed(value: &Value) -> Result<Self, String> {
        integer(value)
    }

    fn number(&self) -> Option<u64> {
        Some(*self)
    }
}

impl Typed for usize {
    fn typed(value: &Value) -> Result<Self, String> {
        integer(value)
    }

    fn number(&self) -> Option<u64> {
        Some(*self as u64)
    }
}

impl Typed for u16 {
    fn typed(value: &Value) -> Result<Self, String> {
        integer(value)
    }

    fn number(&self) -> Option<u64> {
        Some((*self).into())
    }
}

impl Typed for bool {
    fn typed(value: &Value) -> Result<Self, String> {
        match value {
            Value::Bool(set) => Ok(*set),
            other => Err(format!("expected true or false, found {other:?}")),
        }
    }
}

impl Typed for String {
    fn typed(value: &Value) -> Result<Self, String> {
        text(value).map(str::to_owned)
    }
}

impl Typed for Secret {
    fn typed(value: &Value) -> Result<Self, String> {
        text(value).map(Self::new)
    }
}

impl Typed for Option<String> {
    fn typed(value: &Value) -> Result<Self, String> {
        text(value).map(|text| (!text.is_empty()).then(|| text.to_owned()))
    }
}

impl Typed for Option<PathBuf> {
    fn typed(value: &Value) -> Result<Self, String> {
        text(value).map(|text| (!text.is_empty() && text != "off").then(|| PathBuf::from(text)))
    }
}

impl Typed for SocketAddr {
    fn typed(value: &Value) -> Result<Self, String> {
        text(value)?.parse().map_err(|_| "expected an address and a port".to_owned())
    }
}

impl Typed for Option<SocketAddr> {
    fn typed(value: &Value) -> Result<Self, String> {
        if text(value)? == "off" { Ok(None) } else { SocketAddr::typed(value).map(Some) }
    }
}

impl Typed for Vec<Listen> {
    fn typed(value: &Value) -> Result<Self, String> {
        list(value)?.iter().map(|listener| listener.parse()).collect()
    }
}

impl Typed for Vec<String> {
    fn typed(value: &Value) -> Result<Self, String> {
        list(value).map(<[String]>::to_vec)
    }
}

impl Typed for Vec<usize> {
    fn typed(value: &Value) -> Result<Self, String> {
        list(value)?.iter().map(|cpu| cpu.parse().map_err(|_| format!("{cpu} is not a CPU number"))).collect()
    }
}

impl Typed for BTreeMap<String, String> {
    fn typed(value: &Value) -> Result<Self, String> {
        match value {
            Value::Map(map) => Ok(map.clone()),
            other => Err(format!("expected a map, found {other:?}")),
        }
    }
}

impl Typed for Origins {
    fn typed(value: &Value) -> Result<Self, String> {
        match value {
            Value::List(list) => Self::parse(list.iter().map(String::as_str)),
            Value::Text(text) if text == "any" => Ok(Self::Any),
            other => Err(format!("expected any or a list, found {other:?}")),
        }
    }
}

impl Typed for LogLevel {
    fn typed(value: &Value) -> Result<Self, String> {
        let text = text(value)?;
        Self::parse(text).ok_or_else(|| format!("{text} is not a log level"))
    }
}

impl Typed for LogFormat {
    fn typed(value: &Value) -> Result<Self, String> {
        let text = text(value)?;
        Self::parse(text).ok_or_else(|| format!("{text} is no format of a log"))
    }
}

impl Typed for Logfile {
    fn typed(value: &Value) -> Result<Self, String> {
        Ok(match text(value)? {
            "stderr" => Self::Stderr,
            "syslog" => Self::Syslog,
            path => Self::File(PathBuf::from(path)),
        })
    }
}

impl Typed for Facility {
    fn typed(value: &Value) -> Result<Self, String> {
        let text = text(value)?;
        Self::parse(text).ok_or_else(|| format!("{text} is not a syslog facility"))
    }
}
