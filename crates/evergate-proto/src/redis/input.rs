//! What a link has received, and how far it has been read.

use std::ops::Range;

use super::resp::{self, Malformed, Token};

/// Received bytes. The buffer is lent to whoever receives into it ([`Self::take_room`]) and comes back with more behind what it had.
#[derive(Debug)]
pub struct Input {
    buffer: Vec<u8>,
    /// Bytes of it that have been read.
    at: usize,
    /// Bytes that one receive may bring; more for a message that is known to be larger.
    receive_bytes: usize,
    /// The buffer is on loan.
    lent: bool,
}

impl Input {
    /// Nothing yet; a receive brings so many bytes at most.
    pub fn new(receive_bytes: usize) -> Self {
        Self { buffer: Vec::new(), at: 0, receive_bytes, lent: false }
    }

    /// Lends the buffer, with room behind what has not been read yet. Of a message that is known to be large, for all of it.
    pub fn take_room(&mut self) -> Vec<u8> {
        debug_assert!(!self.lent, "one receive at a time");
        let least = self.receive_bytes / 4;
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
            if self.buffer.capacity() > 4 * self.receive_bytes {
                self.buffer = Vec::new();
            }
        }
        let have = self.buffer.len() - self.at;
        let wanted = self.wanted();
        if self.at > 0 && self.buffer.capacity() < self.at + wanted.max(have + least) {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        let room = wanted.saturating_sub(have).max(if have == 0 { self.receive_bytes } else { least });
        self.buffer.reserve(room);
        self.lent = true;
        std::mem::take(&mut self.buffer)
    }

    /// Bytes that are missing of the token that comes next, where it is longer than a receive.
    pub fn missing(&self) -> usize {
        if self.lent {
            return 0;
        }
        let missing = self.wanted().saturating_sub(self.buffer.len() - self.at);
        if missing > self.receive_bytes { missing } else { 0 }
    }

    /// Bytes that the token that comes next needs in all, where that is a string whose length is here.
    pub fn wanted(&self) -> usize {
        if self.lent { 0 } else { resp::wanted(&self.buffer, self.at) }
    }

    /// Takes the buffer back.
    pub fn give(&mut self, buffer: Vec<u8>) {
        debug_assert!(self.lent);
        self.buffer = buffer;
        self.lent = false;
    }

    /// Whether somebody receives into it.
    pub fn is_lent(&self) -> bool {
        self.lent
    }

    /// What has been received and not read yet; nothing while it is on loan.
    pub fn unread(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    /// The next token, or `None` when it is not all here.
    pub fn next(&mut self) -> Result<Option<Token<'_>>, Malformed> {
        if self.lent {
            return Ok(None);
        }
        resp::next(&self.buffer, &mut self.at)
    }

    /// Gives away the string of so many bytes that was just read: the buffer, and where it stands in it. What has come behind it
    /// stays.
    pub fn take_last(&mut self, bytes: usize) -> (Vec<u8>, Range<usize>) {
        let end = self.at - b"\r\n".len();
        let rest = self.buffer.split_off(self.at);
        self.at = 0;
        (std::mem::replace(&mut self.buffer, rest), end - bytes..end)
    }

    /// Shows `take` token after token until it says that it has enough, which is what is returned; false where the next token is not
    /// all here.
    pub fn each<'a, E: From<Malformed>>(
        &'a mut self,
        mut take: impl FnMut(&Token<'a>) -> Result<bool, E>,
    ) -> Result<bool, E> {
        if self.lent {
            return Ok(false);
        }
        while let Some(token) = resp::next(&self.buffer, &mut self.at)? {
            if take(&token)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_of_a_long_message_is_known_once_its_length_is_here() {
        let mut input = Input::new(100);
        let mut missing = |bytes: &[u8]| {
            let mut room = input.take_room();
            assert_eq!(input.missing(), 0, "nobody knows while it is on loan");
            room.extend_from_slice(bytes);
            input.give(room);
            input.missing()
        };
        assert_eq!(missing(b"$100"), 0, "this is not all of the number");
        assert_eq!(missing(b"0\r\n"), 1_002);
        assert_eq!(missing(&[b'x'; 902]), 0, "the rest is no more than a receive");
        assert_eq!(input.next().map(|token| token.is_some()), Ok(false));
    }
}
