//! What a server sends, read by a parser of its own.

/// What a server sends.
#[derive(Debug, PartialEq, Eq, Clone)]
pub enum Frame {
    Http(u16),
    Text(Vec<u8>),
    Ping,
    Pong(Vec<u8>),
    Close(Option<u16>),
    Nonsense(u8),
}

/// The whole frames at the beginning, and how many bytes they are.
pub fn unframe_all(bytes: &[u8]) -> (Vec<Frame>, usize) {
    let (mut at, mut frames) = (0, Vec::new());
    while let Some((frame, used)) = unframe(&bytes[at..]) {
        at += used;
        frames.push(frame);
    }
    (frames, at)
}

/// The first whole frame (or HTTP response) and its length.
fn unframe(bytes: &[u8]) -> Option<(Frame, usize)> {
    if bytes.first() == Some(&b'H') {
        let text = String::from_utf8_lossy(bytes);
        let end = text.find("\r\n\r\n")? + 4;
        let status = text.get(9..12)?.parse().ok()?;
        let body = text
            .find("Content-Length: ")
            .filter(|at| *at < end)
            .and_then(|at| text[at + 16..].split('\r').next()?.parse::<usize>().ok());
        let whole = end + body.unwrap_or(0);
        return (bytes.len() >= whole).then_some((Frame::Http(status), whole));
    }
    let second = *bytes.get(1)?;
    let (header, length) = match second {
        126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize),
        short => (2, usize::from(short)),
    };
    let payload = bytes.get(header..header + length)?;
    let frame = match bytes[0] {
        0x81 => Frame::Text(payload.to_vec()),
        0x88 => Frame::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
        0x89 => Frame::Ping,
        0x8a => Frame::Pong(payload.to_vec()),
        other => Frame::Nonsense(other),
    };
    Some((frame, header + length))
}
