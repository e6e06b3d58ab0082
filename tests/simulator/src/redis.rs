//! Redis in miniature: lists, RPUSH, DEL, BLPOP, LPOP, as far as the stock account may use them. It parses and writes
//! RESP by itself.

use std::collections::{BTreeMap, VecDeque};

/// A server.
#[derive(Default)]
pub struct Redis {
    pub lists: BTreeMap<Vec<u8>, VecDeque<Vec<u8>>>,
    /// The number of the last connection; starts anew with the server.
    next_id: i64,
    /// It is not there.
    pub down: bool,
    /// It refuses writes (OOM).
    pub full: bool,
    /// It does not turn.
    pub stalled: bool,
}

/// One connection: what it has received and not carried out, what it has answered.
#[derive(Default)]
pub struct Wire {
    /// On the way to Redis.
    pub to: Vec<u8>,
    /// With Redis, not yet a command.
    held: Vec<u8>,
    /// Whole commands that wait (behind a BLPOP).
    commands: VecDeque<Vec<Vec<u8>>>,
    /// On the way back.
    pub back: Vec<u8>,
    /// The number that HELLO gave it.
    pub id: i64,
    /// Commands carried out; the first two are the greeting.
    pub done: usize,
    /// Bytes of the greeting's answer.
    pub greeting: usize,
    /// Bytes that the gateway has read of it.
    pub read: usize,
}

impl Wire {
    /// Whether a command waits.
    pub fn waits(&self) -> bool {
        !self.commands.is_empty()
    }

    /// `n` bytes arrive at Redis.
    pub fn arrive(&mut self, n: usize) {
        let n = n.min(self.to.len());
        self.held.extend(self.to.drain(..n));
        let mut at = 0;
        while let Some((command, used)) = command(&self.held[at..]) {
            at += used;
            self.commands.push_back(command);
        }
        self.held.drain(..at);
    }
}

/// A whole command and its length.
pub fn command(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let mut at = 0;
    let words = number(bytes, &mut at, b'*')?;
    let mut command = Vec::new();
    for _ in 0..words {
        let length = number(bytes, &mut at, b'$')?;
        command.push(bytes.get(at..at + length)?.to_vec());
        assert_eq!(bytes.get(at + length..at + length + 2)?, b"\r\n", "the gateway writes RESP");
        at += length + 2;
    }
    Some((command, at))
}

fn number(bytes: &[u8], at: &mut usize, kind: u8) -> Option<usize> {
    let rest = bytes.get(*at..)?;
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    assert_eq!(rest[0], kind, "the gateway writes RESP");
    *at += end + 2;
    Some(std::str::from_utf8(&rest[1..end]).expect("digits").parse().expect("a number"))
}

fn bulk(out: &mut Vec<u8>, word: &[u8]) {
    out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

impl Redis {
    pub fn push(&mut self, key: &[u8], message: Vec<u8>) {
        self.lists.entry(key.to_vec()).or_default().push_back(message);
    }

    pub fn pop(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        let list = self.lists.get_mut(key)?;
        let message = list.pop_front();
        if list.is_empty() {
            self.lists.remove(key);
        }
        message
    }

    /// Carries out what one connection has sent, up to a BLPOP that must wait. Shows every message that is pushed.
    pub fn serve(&mut self, wire: &mut Wire, mut pushed: impl FnMut(&[u8], &[u8])) -> usize {
        let mut done = 0;
        while let Some(command) = wire.commands.front() {
            let before = wire.back.len();
            match (&*command[0], &command[1..]) {
                (b"HELLO", [version, auth, _, passwd]) => {
                    assert_eq!((&**version, &**auth, &**passwd), (&b"2"[..], &b"AUTH"[..], &b"secret"[..]));
                    self.next_id += 1;
                    wire.id = self.next_id;
                    wire.back.extend_from_slice(b"*6\r\n$6\r\nserver\r\n$5\r\nredis\r\n$2\r\nid\r\n");
                    wire.back.extend_from_slice(format!(":{}\r\n$7\r\nmodules\r\n*0\r\n", wire.id).as_bytes());
                }
                (b"RPUSH", [_, ..]) if self.full => wire.back.extend_from_slice(b"-OOM command not allowed\r\n"),
                (b"RPUSH", [key, messages @ ..]) => {
                    for message in messages {
                        pushed(key, message);
                        self.push(key, message.clone());
                    }
                    let length = self.lists.get(key).map_or(0, VecDeque::len);
                    wire.back.extend_from_slice(format!(":{length}\r\n").as_bytes());
                }
                (b"DEL", [key]) => {
                    let was = self.lists.remove(key).is_some();
                    wire.back.extend_from_slice(format!(":{}\r\n", u8::from(was)).as_bytes());
                }
                (b"BLPOP", [key, _]) => {
                    let Some(message) = self.pop(key) else { return done };
                    wire.back.extend_from_slice(b"*2\r\n");
                    bulk(&mut wire.back, key);
                    bulk(&mut wire.back, &message);
                }
                (b"LPOP", [key, count]) => {
                    let count: usize = std::str::from_utf8(count).expect("digits").parse().expect("a number");
                    let have = self.lists.get(key).map_or(0, VecDeque::len).min(count);
                    if count == 0 && self.lists.contains_key(key) {
                        wire.back.extend_from_slice(b"*0\r\n");
                    } else if have == 0 {
                        wire.back.extend_from_slice(b"*-1\r\n");
                    } else {
                        wire.back.extend_from_slice(format!("*{have}\r\n").as_bytes());
                        for _ in 0..have {
                            let message = self.pop(key).expect("it has that many");
                            bulk(&mut wire.back, &message);
                        }
                    }
                }
                (other, _) => panic!("a command that the account may not use: {}", String::from_utf8_lossy(other)),
            }
            wire.commands.pop_front();
            if wire.done < 2 {
                wire.greeting += wire.back.len() - before;
            }
            wire.done += 1;
            done += 1;
        }
        done
    }

    /// Restarts empty.
    pub fn restart(&mut self) {
        self.lists.clear();
        self.next_id = 0;
        self.full = false;
    }
}
