//! Hundreds of clients that come at once and stay, followed from one thread.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::raw::{CLOSE, HANDSHAKE, frame};

/// One of them.
struct Comer {
    stream: TcpStream,
    /// What it received.
    bytes: Vec<u8>,
    /// It has answered a Close.
    answered: bool,
    end: Option<End>,
}

/// How one ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was served, and closed with this code.
    Closed(u16),
    /// Its handshake was refused with this status.
    Refused(u16),
    /// It was reset, or the stream ended without a word.
    Lost,
}

/// All of them.
#[derive(Default)]
pub struct Rush(Vec<Comer>);

impl Rush {
    /// One more: connects and asks for a WebSocket; waits for nothing. Says whether it could connect.
    pub fn come(&mut self, address: SocketAddr) -> bool {
        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(2)) else { return false };
        stream.write_all(HANDSHAKE.as_bytes()).expect("a handshake fits the kernel's buffer");
        stream.set_nonblocking(true).expect("not to be waited for");
        self.0.push(Comer { stream, bytes: Vec::new(), answered: false, end: None });
        true
    }

    /// Takes those of another.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Reads what has come, answers every Close, and says how each has ended, all of which must have within `bound`.
    pub fn until_ended(&mut self, bound: Duration) -> Vec<End> {
        let until = Instant::now() + bound;
        while self.0.iter().any(|comer| comer.end.is_none()) {
            assert!(Instant::now() < until, "{} have not ended", self.0.iter().filter(|one| one.end.is_none()).count());
            self.0.iter_mut().for_each(Comer::follow);
            std::thread::sleep(Duration::from_millis(5));
        }
        self.0.iter().filter_map(|comer| comer.end).collect()
    }
}

impl Comer {
    /// Reads what has come, and answers a Close.
    fn follow(&mut self) {
        let mut buffer = [0; 1024];
        while self.end.is_none() {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.end = Some(self.judge()),
                Ok(n) => self.bytes.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.end = Some(End::Lost),
            }
        }
        if let (false, Some(code)) = (self.answered, self.close_code()) {
            self.answered = true;
            // It may have been given up meanwhile.
            let _ = self.stream.write_all(&frame(true, CLOSE, &code.to_be_bytes()));
        }
    }

    /// The frames after the answer to the handshake: one Close at the most, and no client of these asks for more.
    fn close_code(&self) -> Option<u16> {
        let header = self.bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let [0x88, _, code @ ..] = &self.bytes[header + 4..] else { return None };
        code.first_chunk().map(|code| u16::from_be_bytes(*code))
    }

    fn judge(&self) -> End {
        let status = String::from_utf8_lossy(&self.bytes).split(' ').nth(1).and_then(|code| code.parse().ok());
        match (status, self.close_code()) {
            (Some(101), Some(code)) => End::Closed(code),
            (Some(status), _) if status != 101 => End::Refused(status),
            _ => End::Lost,
        }
    }
}
