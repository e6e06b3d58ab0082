//! Frames as a server writes them: unmasked, never fragmented (RFC 6455 5.2).

pub use fastwebsockets::OpCode;

/// The longest payload of a control frame in bytes (RFC 6455 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// The longest reason of a Close in bytes: the code takes two.
pub const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// The longest header that a server writes, in bytes.
pub const HEADER_BYTES_MAX: usize = 10;

/// The header of a whole message, and how many of the bytes are used, for callers that send header and payload as
/// separate pieces.
pub fn header(opcode: OpCode, payload_bytes: usize) -> ([u8; HEADER_BYTES_MAX], usize) {
    const FIN: u8 = 0x80;
    let mut header = [0; HEADER_BYTES_MAX];
    header[0] = FIN | opcode as u8;
    let used = if payload_bytes <= 125 {
        header[1] = payload_bytes as u8;
        2
    } else if let Ok(length) = u16::try_from(payload_bytes) {
        header[1] = 126;
        header[2..4].copy_from_slice(&length.to_be_bytes());
        4
    } else {
        header[1] = 127;
        header[2..10].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
        10
    };
    (header, used)
}

/// Appends the header of a whole message whose `payload_bytes` the caller appends next.
fn write_header(out: &mut Vec<u8>, opcode: OpCode, payload_bytes: usize) {
    let (header, used) = header(opcode, payload_bytes);
    out.extend_from_slice(&header[..used]);
}

/// Appends a Close with `code` (see [`super::CloseCode`]) and as much of `reason` as fits, cut between characters.
pub fn close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let reason = &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)];
    write_header(out, OpCode::Close, 2 + reason.len());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

/// Appends the answer to a client's Close: its own code, or an empty Close where it named none (RFC 6455 5.5.1).
pub fn close_echo(out: &mut Vec<u8>, code: Option<u16>) {
    match code {
        Some(code) => close(out, code, ""),
        None => write_header(out, OpCode::Close, 0),
    }
}

/// Appends a Ping. `payload` is ours, at most [`CONTROL_BYTES_MAX`] bytes.
pub fn ping(out: &mut Vec<u8>, payload: &[u8]) {
    control(out, OpCode::Ping, payload);
}

/// Appends the Pong that answers a Ping with this `payload`, which [`super::decoder`] has bounded.
pub fn pong(out: &mut Vec<u8>, payload: &[u8]) {
    control(out, OpCode::Pong, payload);
}

fn control(out: &mut Vec<u8>, opcode: OpCode, payload: &[u8]) {
    assert!(payload.len() <= CONTROL_BYTES_MAX, "a control frame holds at most 125 bytes");
    write_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}
