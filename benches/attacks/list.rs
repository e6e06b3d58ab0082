//! All attacks.

use super::attack::Party;
use super::{calls, connections, large};

/// One way to hurt others.
pub struct Attack {
    /// Its name on the command line.
    pub name: &'static str,
    /// The line of the issue (No client, and no broken disk, can hurt the others) that it belongs to; 8: the rest.
    pub line: u8,
    /// What it does.
    pub about: &'static str,
    /// What the gateway is told besides.
    pub flags: &'static str,
    /// Attacks until its time has passed, and ends the process.
    pub run: fn(&Party),
}

impl Attack {
    const fn new(name: &'static str, line: u8, about: &'static str, run: fn(&Party)) -> Self {
        Self { name, line, about, flags: "", run }
    }

    /// Whether the answers of the admin page are timed, too.
    pub fn is_on_admin(&self) -> bool {
        self.line == 7
    }

    /// Whether the bus has work of it.
    pub fn is_on_bus(&self) -> bool {
        matches!(self.line, 2 | 4 | 5) || self.name == "relayed"
    }

    /// Whether it lives on replies so large that the services are not asked for them.
    pub fn has_large_replies(&self) -> bool {
        self.name.starts_with("unread")
    }

    /// Whether memory counts: it is compared with what the options allow, during and long after.
    pub fn is_on_memory(&self) -> bool {
        self.line == 5
    }
}

/// Every attack, in the order of the table.
pub const ATTACKS: [Attack; 26] = [
    Attack::new("keys", 1, "780,000 distinct keys in 10 MB, the last byte of all together", large::keys),
    Attack::new("keys-escaped", 1, "the same with an escape in each key", large::keys_escaped),
    Attack::new("newlines", 1, "8 MB of escaped newlines, not valid in the last byte", large::newlines),
    Attack::new("numbers", 1, "7.8 MB of numbers, likewise", large::numbers),
    Attack::new("string", 1, "7.8 MB of one plain string, likewise", large::string),
    Attack::new("deep", 1, "7.8 MB of nests of 980 levels, likewise", large::deep),
    Attack::new("objects", 1, "7.8 MB of objects of three keys, likewise", large::objects),
    Attack::new("relayed", 1, "7.8 MB of one plain string, valid: the bus takes it", large::relayed),
    Attack::new("disconnects", 2, "DISCONNECTs without a session", calls::disconnects),
    Attack::new("disconnects-large", 2, "the same with 100 KB of payload", calls::disconnects_large),
    Attack::new("abort", 2, "connect, 100 requests, reset, and again", calls::abort_requests),
    Attack::new("connects", 2, "connect, 64 CONNECTs, reset, and again", calls::connect_flood),
    Attack::new("never", 2, "50 x 100 requests that are never answered (20 x 100 of each of several)", calls::never),
    Attack::new("requests", 2, "requests, pipelined", calls::requests),
    Attack::new("nobody", 2, "requests to a service that does not exist", calls::nobody),
    Attack::new("backlog", 4, "a full backlog of distinct threads, DISCONNECTs behind their own", calls::backlog),
    Attack {
        flags: "--core-bytes-max 64MiB",
        ..Attack::new("unread", 5, "replies of 4.9 MB, ten a second, to clients that do not read", calls::unread)
    },
    Attack {
        flags: "--core-bytes-max 1GiB",
        ..Attack::new("unread-kept", 5, "the same, and all are kept until all leave at once", calls::unread)
    },
    Attack::new(
        "turnover",
        5,
        "no attack: clients that come, have strings of 64 bytes to 1 MB echoed, and leave",
        calls::turnover,
    ),
    Attack::new("admin", 7, "400 silent connections and half requests (100 of each of several)", connections::admin),
    Attack::new("fragments", 8, "empty continuation frames", connections::fragments),
    Attack::new("pings", 8, "empty pings", connections::pings),
    Attack::new("bytes", 8, "a message, a byte a write", connections::bytes),
    Attack::new(
        "half-handshakes",
        8,
        "1,000 headers that never end (120 of each of several)",
        connections::half_handshakes,
    ),
    Attack::new("churn", 8, "handshake, end, and again", connections::churn),
    Attack::new("headers", 8, "the same with a header of 30 KB", connections::headers),
];
