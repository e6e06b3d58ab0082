//! A request header that comes in pieces: the cost of reading it is that of its bytes, however TCP cuts it.
//!
//! It is looked at where a line ends, and then each line is judged once. Once it has ended, or something in it is wrong, or a
//! limit is reached, [`handshake::read`](super::handshake::read) has the whole of it and says what the answer is.

use httparse::{EMPTY_HEADER, Request, Status, parse_headers};

use super::handshake::{Address, HEADER_LINES_MAX, Policy, Progress, read};

/// What has come of a header that has not ended.
#[derive(Debug)]
pub struct Header {
    bytes: Vec<u8>,
    /// Up to here, which is where a line begins, nothing is wrong.
    judged: usize,
    /// The request line is among what was judged; before it come only empty lines.
    has_request_line: bool,
    /// Header lines among what was judged.
    lines: usize,
}

/// The first bytes of a connection; if they are not a whole header, keep them in a [`Header`].
pub fn begin(bytes: &[u8], policy: &Policy, peer: Address) -> Progress {
    if is_due(bytes, bytes, policy) { read(bytes, policy, peer) } else { Progress::Incomplete }
}

/// Whether a header of which the last `came` must be looked at: a line has ended, or there is more than there may be. Without
/// either, what no request begins with is refused at once, for it may be TLS, whose client waits for us.
fn is_due(header: &[u8], came: &[u8], policy: &Policy) -> bool {
    let begins_none = |&first: &u8| !first.is_ascii_graphic() && !matches!(first, b'\r' | b'\n');
    came.contains(&b'\n') || header.len() > policy.header_bytes_max || header.first().is_some_and(begins_none)
}

impl Header {
    /// One that begins with these bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), judged: 0, has_request_line: false, lines: 0 }
    }

    /// Bytes that have come.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether none has come.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// All that has come; behind a header that has ended, frames.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Takes the bytes that came next. The answer is that of [`read`] to all that has come.
    pub fn take(&mut self, came: &[u8], policy: &Policy, peer: Address) -> Progress {
        self.bytes.extend_from_slice(came);
        if !is_due(&self.bytes, came, policy) || self.len() < policy.header_bytes_max && self.judge() {
            return Progress::Incomplete;
        }
        read(&self.bytes, policy, peer)
    }

    /// Judges what has come since the last line that was judged: whether it is the middle of a good header.
    fn judge(&mut self) -> bool {
        let unjudged = &self.bytes[self.judged..];
        for line in unjudged.split_inclusive(|&byte| byte == b'\n') {
            let fits = if self.has_request_line {
                // A line of its own, so one place does; it is the end if it is empty.
                self.lines < HEADER_LINES_MAX && parse_headers(line, &mut [EMPTY_HEADER]) == Ok(Status::Partial)
            } else {
                Request::new(&mut []).parse(line) == Ok(Status::Partial)
            };
            if !fits {
                return false;
            }
            if line.ends_with(b"\n") {
                self.judged += line.len();
                self.lines += usize::from(self.has_request_line);
                self.has_request_line |= !matches!(line, b"\n" | b"\r\n");
            }
        }
        true
    }
}
