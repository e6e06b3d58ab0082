//! RESP, the protocol of Redis, as a server speaks it: requests in, replies out. No I/O.

/// Longest bulk string that a client may send, in bytes: Redis' `proto-max-bulk-len`.
pub(super) const BULK_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Most arguments in one request.
const ARGUMENTS_MAX: i64 = 1024 * 1024;
/// Longest line (an inline request, or the head of a bulk string), in bytes: Redis' `PROTO_INLINE_MAX_SIZE`.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// What Redis lets a client send before it has authenticated: arguments, and bytes in each.
const UNAUTHENTICATED_ARGUMENTS_MAX: i64 = 10;
const UNAUTHENTICATED_BULK_BYTES_MAX: usize = 16 * 1024;

/// What stands at the head of a client's buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// A whole request; an empty one (`*0`, a bare line end) has no arguments and gets no reply.
    Complete {
        /// The command's name and its arguments.
        arguments: Vec<Vec<u8>>,
        /// Bytes of the buffer that it took.
        bytes: usize,
    },
    /// The request's end has not arrived. Parsing again is pointless before the buffer holds this many bytes.
    Incomplete {
        /// Bytes the buffer must hold, counted from its head.
        bytes_min: usize,
    },
}

/// A request that breaks the protocol: the client is told and its connection closed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProtocolError(pub(super) String);

/// Reads the request at the head of `buffer`.
pub(super) fn request(buffer: &[u8], authenticated: bool) -> Result<Request, ProtocolError> {
    let Some(&first) = buffer.first() else { return Ok(Request::Incomplete { bytes_min: 1 }) };
    if first != b'*' {
        return inline(buffer);
    }
    let Some((head, mut at)) = line(buffer, 0, "too big mbulk count string")? else {
        return Ok(Request::Incomplete { bytes_min: buffer.len() + 1 });
    };
    let count = match integer(&head[1..]) {
        Some(count) if count <= 0 => return Ok(Request::Complete { arguments: Vec::new(), bytes: at }),
        Some(count) if !authenticated && count > UNAUTHENTICATED_ARGUMENTS_MAX => {
            return Err(ProtocolError("unauthenticated multibulk length".to_owned()));
        }
        Some(count) if count <= ARGUMENTS_MAX => count,
        _ => return Err(ProtocolError("invalid multibulk length".to_owned())),
    };
    // Capacity follows what arrived, not what the client announced.
    let mut arguments = Vec::new();
    for _ in 0..count {
        let Some((head, start)) = line(buffer, at, "too big bulk count string")? else {
            return Ok(Request::Incomplete { bytes_min: buffer.len() + 1 });
        };
        let length = match head.split_first() {
            Some((b'$', digits)) => bulk_length(digits, authenticated)?,
            Some((&other, _)) => {
                return Err(ProtocolError(format!("expected '$', got '{}'", char::from(other))));
            }
            None => return Err(ProtocolError("expected '$', got ' '".to_owned())),
        };
        let end = start + length;
        if buffer.len() < end + 2 {
            return Ok(Request::Incomplete { bytes_min: end + 2 });
        }
        arguments.push(buffer[start..end].to_vec());
        at = end + 2;
    }
    Ok(Request::Complete { arguments, bytes: at })
}

fn bulk_length(digits: &[u8], authenticated: bool) -> Result<usize, ProtocolError> {
    let length = integer(digits).and_then(|length| usize::try_from(length).ok());
    match length {
        Some(length) if length > BULK_BYTES_MAX => Err(ProtocolError("invalid bulk length".to_owned())),
        Some(length) if !authenticated && length > UNAUTHENTICATED_BULK_BYTES_MAX => {
            Err(ProtocolError("unauthenticated bulk length".to_owned()))
        }
        Some(length) => Ok(length),
        None => Err(ProtocolError("invalid bulk length".to_owned())),
    }
}

/// The inline form: words on one line, as from `telnet`. Quotes are plain characters here.
fn inline(buffer: &[u8]) -> Result<Request, ProtocolError> {
    let Some(end) = buffer.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\n') else {
        if buffer.len() >= LINE_BYTES_MAX {
            return Err(ProtocolError("too big inline request".to_owned()));
        }
        return Ok(Request::Incomplete { bytes_min: buffer.len() + 1 });
    };
    let words = buffer[..end].split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    Ok(Request::Complete { arguments: words.map(<[u8]>::to_vec).collect(), bytes: end + 1 })
}

/// The line that begins at `from`, without its CR LF, and where the next one begins; `None` while its end is missing.
fn line<'a>(buffer: &'a [u8], from: usize, too_big: &str) -> Result<Option<(&'a [u8], usize)>, ProtocolError> {
    let rest = &buffer[from..];
    match rest.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\r') {
        Some(end) if rest.len() > end + 1 => Ok(Some((&rest[..end], from + end + 2))),
        None if rest.len() >= LINE_BYTES_MAX => Err(ProtocolError(too_big.to_owned())),
        _ => Ok(None),
    }
}

/// A decimal number exactly as Redis reads one: no sign but `-`, no blank, no empty text.
pub(super) fn integer(digits: &[u8]) -> Option<i64> {
    if digits.first() == Some(&b'+') {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The protocol version that a client chose with HELLO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// RESP2: the default.
    Two,
    /// RESP3: differs here in nulls and in HELLO's own reply.
    Three,
}

/// Replies of one client that wait to be written.
#[derive(Debug)]
pub(super) struct Replies {
    /// The bytes, in order.
    pub(super) bytes: Vec<u8>,
    /// How nulls and maps are spelled.
    pub(super) version: Version,
}

impl Replies {
    /// No reply yet.
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), version: Version::Two }
    }

    fn head(&mut self, kind: u8, number: impl std::fmt::Display) {
        self.bytes.push(kind);
        self.bytes.extend_from_slice(number.to_string().as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// `+text`.
    pub(super) fn simple(&mut self, text: &str) {
        self.head(b'+', text);
    }

    /// `-text`; line ends in it become blanks, for they would end the reply.
    pub(super) fn error(&mut self, text: &str) {
        self.head(b'-', text.replace(['\r', '\n'], " "));
    }

    /// `:number`.
    pub(super) fn integer(&mut self, number: u64) {
        self.head(b':', number);
    }

    /// A bulk string.
    pub(super) fn bulk(&mut self, text: &[u8]) {
        self.head(b'$', text.len());
        self.bytes.extend_from_slice(text);
        self.bytes.extend_from_slice(b"\r\n");
    }

    /// The head of an array of `length` elements.
    pub(super) fn array(&mut self, length: usize) {
        self.head(b'*', length);
    }

    /// The head of a map of `pairs` pairs.
    pub(super) fn map(&mut self, pairs: usize) {
        match self.version {
            Version::Two => self.head(b'*', pairs * 2),
            Version::Three => self.head(b'%', pairs),
        }
    }

    /// "Nothing there" where a bulk string was asked for.
    pub(super) fn null(&mut self) {
        self.bytes.extend_from_slice(if self.version == Version::Two { b"$-1\r\n" } else { b"_\r\n" });
    }

    /// "Nothing there" where an array was asked for.
    pub(super) fn null_array(&mut self) {
        self.bytes.extend_from_slice(if self.version == Version::Two { b"*-1\r\n" } else { b"_\r\n" });
    }
}
