//! What must come out of the gateway, and whether what came out is that.

use crate::browser::Frame;

/// A message on the bus, as its sender knows it.
#[derive(Debug)]
pub struct Reply {
    /// Slot, generation, conversation; none where the thread is no thread of the gateway's.
    pub to: Option<(u32, u32, u64)>,
    /// The whole bus thread, escaped as little as can be.
    pub thread: String,
    pub from: String,
    pub is_router: bool,
    pub xid: Option<String>,
    pub msgs: Vec<ReplyMsg>,
    pub body: Vec<u8>,
    pub is_array: bool,
    pub utf8: bool,
    pub readable: bool,
}

#[derive(Debug, Clone)]
pub struct ReplyMsg {
    /// The code of a STATUS.
    pub status: Option<u16>,
    pub trace: Option<i64>,
    /// The text before and behind the value of threadTrace.
    pub around_trace: (String, String),
    pub exception: bool,
}

/// The next message that must be pushed; a made-up xid stands between the two halves.
#[derive(Debug)]
pub struct Push {
    pub domain: usize,
    pub key: String,
    pub before: String,
    pub xid: Option<String>,
    pub after: String,
    pub ticket: Option<super::Ticket>,
}

/// The next frame that a client must be sent.
#[derive(Debug)]
pub enum Expect {
    Exactly(Frame),
    Close(u16),
    /// An error of the gateway's: thread, xid where the client gave one, trace, status, `transport_error`.
    Error(String, Option<String>, String, u16, bool),
    /// What is before the xid, the xid, what is behind it.
    Text(String, Option<String>, String),
}

/// Whether this is the xid, or one that the gateway made up where there is none.
pub fn is_xid(expected: Option<&String>, is: &str) -> bool {
    expected.map_or(is.starts_with("\"sim."), |xid| xid == is)
}

/// Bytes of a frame around `n` bytes.
fn framed(n: usize) -> usize {
    n + match n {
        0..=125 => 2,
        126..=0xffff => 4,
        _ => 10,
    }
}

impl Expect {
    /// How many bytes it may take: exactly that, but for texts that are the product's own.
    pub fn bytes(&self) -> std::ops::RangeInclusive<usize> {
        let exactly = |n| n..=n;
        match self {
            Self::Exactly(Frame::Http(_)) => 60..=400,
            Self::Exactly(Frame::Pong(payload)) => exactly(framed(payload.len())),
            Self::Exactly(Frame::Ping | Frame::Close(None)) => exactly(2),
            Self::Exactly(Frame::Close(Some(_))) => exactly(4),
            Self::Exactly(_) | Self::Close(_) => 4..=127,
            Self::Error(spelled, ..) => 190 + spelled.len()..=700 + spelled.len(),
            Self::Text(before, Some(xid), after) => exactly(framed(before.len() + xid.len() + after.len())),
            Self::Text(before, None, after) => before.len() + after.len()..=before.len() + after.len() + 60,
        }
    }

    pub fn is(&self, frame: &Frame) -> bool {
        match (self, frame) {
            (Self::Exactly(expected), frame) => expected == frame,
            (Self::Close(code), Frame::Close(Some(is))) => code == is,
            (Self::Text(before, xid, after), Frame::Text(text)) => {
                let text = String::from_utf8_lossy(text);
                let middle = text.strip_prefix(&**before).and_then(|rest| rest.strip_suffix(&**after));
                middle.is_some_and(|middle| is_xid(xid.as_ref(), middle))
            }
            (Self::Error(spelled, xid, trace, status, transport), Frame::Text(text)) => {
                let text = String::from_utf8_lossy(text);
                let before = format!("{{\"thread\":{spelled},\"log_xid\":");
                let message = format!(
                    ",\"osrf_msg\":[{{\"__c\":\"osrfMessage\",\"__p\":{{\"threadTrace\":{trace},\"locale\":\"en-US\",\
                     \"type\":\"STATUS\",\"payload\":{{\"__c\":\"osrfMethodException\",\"__p\":{{\"status\":\"evergate: "
                );
                let transport = if *transport { ",\"transport_error\":true" } else { "" };
                let end = format!("\",\"statusCode\":{status}}}}}}}}}]{transport}}}");
                let rest = text.strip_prefix(&before).and_then(|rest| rest.strip_suffix(&end));
                rest.and_then(|rest| rest.split_once(&message))
                    .is_some_and(|(is, reason)| is_xid(xid.as_ref(), is) && !reason.is_empty())
            }
            _ => false,
        }
    }
}
