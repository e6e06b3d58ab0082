//! Line 7 and the rest: the admin page, frames that carry nothing, bytes one by one, handshakes that do not end, and churn.

use std::io;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use super::attack::{Attacker, Party};

/// Bytes of a block of frames.
const BLOCK_BYTES: usize = 256 * 1_024;
/// What the unending message of the one-byte writers claims to be.
const CLAIMED_BYTES: u64 = 1_000_000;
/// Between two looks at connections that stay.
const PAUSE: Duration = Duration::from_millis(50);

/// A fragmented message that never ends: empty continuation frames.
pub fn fragments(party: &Party) {
    flood(party, &[0x01, 0x80, 1, 2, 3, 4], &[0x00, 0x80, 1, 2, 3, 4]);
}

/// Empty pings.
pub fn pings(party: &Party) {
    flood(party, &[], &[0x89, 0x80, 1, 2, 3, 4]);
}

/// A message, a byte a write.
pub fn bytes(party: &Party) {
    let head = [&[0x81, 0xff][..], &CLAIMED_BYTES.to_be_bytes(), &[0; 4]].concat();
    party.attack(move |attacker| {
        let stream = attacker.connect()?;
        attacker.write(&stream, &head)?;
        for _ in 1..CLAIMED_BYTES {
            attacker.write(&stream, b"[")?;
            attacker.sent(1);
        }
        Ok(())
    });
}

/// Headers that never end, of as many connections as it takes to reach `handshakes_max` where there are 40; a byte now and then.
pub fn half_handshakes(party: &Party) {
    party.attack(|attacker| {
        let connections = if attacker.is_alone() { 1_000 } else { 120 };
        let head = attacker.handshake("X-Never-Ending: ");
        let head = &head[..head.len() - 2];
        stay(attacker, connections, Attacker::dial, |_| head, b"x")
    });
}

/// Handshake, end, and again.
pub fn churn(party: &Party) {
    party.attack(|attacker| once(attacker, ""));
}

/// The same with a header of 30 KB.
pub fn headers(party: &Party) {
    // Below the 256 lines of a header, and below `header_bytes_max`.
    let lines = format!("X-Cookie: {}\r\n", "x".repeat(118)).repeat(230);
    party.attack(move |attacker| once(attacker, &lines));
}

/// Connections to the admin page: half of them say nothing, half of them begin a request.
pub fn admin(party: &Party) {
    party.attack(|attacker| {
        let connections = if attacker.is_alone() { 400 } else { 100 };
        let dial = |attacker: &mut Attacker| {
            let address = attacker.admin;
            attacker.dial_with(address, None)
        };
        let half =
            |number: usize| if number.is_multiple_of(2) { &b""[..] } else { b"GET /readyz HTTP/1.1\r\nHost: loc" };
        stay(attacker, connections, dial, half, b"")
    });
}

fn once(attacker: &mut Attacker, lines: &str) -> io::Result<()> {
    let stream = attacker.dial()?;
    let head = attacker.handshake(lines);
    attacker.write(&stream, &head)?;
    attacker.read(&stream)?;
    attacker.sent(1);
    Ok(())
}

/// Keeps that many connections open, each begun with some bytes, and sends more now and then; what is closed is opened again.
fn stay<'a>(
    attacker: &mut Attacker,
    connections: usize,
    dial: impl Fn(&mut Attacker) -> io::Result<TcpStream>,
    begin: impl Fn(usize) -> &'a [u8],
    more: &[u8],
) -> io::Result<()> {
    let mut open: Vec<Option<TcpStream>> = (0..connections).map(|_| None).collect();
    loop {
        for (number, place) in open.iter_mut().enumerate() {
            let is_open = place
                .as_ref()
                .is_some_and(|stream| attacker.discard(stream).is_ok() && attacker.write(stream, more).is_ok());
            if !is_open {
                let stream = dial(attacker)?;
                attacker.write(&stream, begin(number))?;
                attacker.sent(1);
                *place = Some(stream);
            }
        }
        thread::sleep(PAUSE);
    }
}

/// Writes one frame again and again.
fn flood(party: &Party, first: &'static [u8], frame: &[u8]) {
    let count = BLOCK_BYTES / frame.len();
    let block = frame.repeat(count);
    party.attack(move |attacker| {
        let stream = attacker.connect()?;
        attacker.write(&stream, first)?;
        loop {
            attacker.write(&stream, &block)?;
            attacker.sent(count as u64);
        }
    });
}
