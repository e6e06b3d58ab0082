//! What a client says, as its writer knows it.

use std::rc::Rc;

/// What the gateway may count on: the limits that a browser oversteps now and then.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub message_bytes: usize,
    pub bus_bytes: usize,
    pub per_envelope: usize,
    pub depth: usize,
}

/// The `ingress` of the simulated gateway, as JSON.
pub const INGRESS: &str = "\"sim\\u002d1\"";

/// What a message asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Connect,
    Request,
    Disconnect,
}

/// One message of an envelope.
#[derive(Debug, Clone)]
pub struct Msg {
    pub kind: Kind,
    pub trace: i64,
    pub spelled: String,
    /// Its bytes on the bus.
    pub relayed: String,
}

/// An envelope as its writer knows it.
#[derive(Debug, Clone)]
pub struct Env {
    /// As it must stand in the bus thread, behind the colon.
    pub thread: String,
    /// As the client gets it back.
    pub spelled: String,
    /// `log_xid` as it must stand on the bus; none = made up by the gateway.
    pub xid: Option<String>,
    pub service: Option<String>,
    pub msgs: Vec<Msg>,
    pub text_len: usize,
}

/// Length once the C router has escaped what is not ASCII.
pub fn escaped(text: &str) -> usize {
    text.chars()
        .map(|c| match u32::from(c) {
            0x7f..=0xffff => 6,
            0..=0x7e => 1,
            _ => 12,
        })
        .sum()
}

impl Env {
    pub fn counted(&self) -> usize {
        self.msgs.iter().filter(|m| m.kind != Kind::Disconnect).count()
    }
    pub fn asks(&self) -> Vec<String> {
        self.msgs.iter().filter(|m| m.kind != Kind::Disconnect).map(|m| m.spelled.clone()).collect()
    }
    pub fn requests(&self) -> usize {
        self.msgs.iter().filter(|m| m.kind == Kind::Request).count()
    }
    pub fn body(&self) -> String {
        let all: Vec<&str> = self.msgs.iter().map(|m| m.relayed.as_str()).collect();
        format!("[{}]", all.join(","))
    }
    /// Refused for its size before it is looked at any further.
    pub fn is_too_large(&self, bounds: &Bounds) -> bool {
        self.text_len * 6 > bounds.bus_bytes
            && escaped(&self.body()) - self.msgs.len() * INGRESS.len() > bounds.bus_bytes
    }
}

/// A whole data message.
pub enum Said {
    Good(Rc<Env>),
    /// To be refused with 400: the thread as given back, the xid, the traces to be answered.
    Bad {
        spelled: String,
        xid: Option<String>,
        traces: Vec<String>,
        /// Not even an answer: nothing in it but DISCONNECTs.
        silent: bool,
    },
}

impl std::fmt::Debug for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Said::Bad { traces, .. } => write!(f, "bad {traces:?}"),
            Said::Good(env) => {
                write!(f, "{:?} {:?}:", env.thread, env.service)?;
                env.msgs.iter().try_for_each(|m| write!(f, " {:?} {}", m.kind, m.spelled))
            }
        }
    }
}

/// What is complete at some byte of a client's stream.
#[derive(Clone, Debug)]
pub enum Ev {
    Handshake,
    BadHandshake(u16),
    Message(Rc<Said>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
    Violation(u16),
}
