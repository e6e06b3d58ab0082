//! A request's frame, built once: masked bytes with places for the numbers that differ from request to request.

use crate::frame;

/// What a place in the frame holds, in digits of a fixed number, so that no length ever changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// The client's number, in the thread.
    Client,
    /// The number of the exchange, in the thread.
    Exchange,
    /// `threadTrace`.
    Trace,
    /// The first number that is to be added, which tells the client.
    Left,
    /// The second number, which tells the request.
    Right,
}

/// The numbers of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// The client's.
    pub client: u32,
    /// The exchange's: that of its first request.
    pub exchange: u32,
    /// The request's own.
    pub request: u32,
}

/// Requests of one client before its numbers begin again.
const REQUESTS: u64 = 1_000_000_000;

impl Numbers {
    /// `threadTrace`: ten digits that a C service's `int` still holds.
    pub fn trace(self) -> u64 {
        REQUESTS + u64::from(self.request) % REQUESTS
    }

    /// The first number to be added.
    pub fn left(self) -> u64 {
        1_000_000 + u64::from(self.client) % 1_000_000
    }

    /// The second number to be added.
    pub fn right(self) -> u64 {
        self.trace()
    }

    fn digits(self, field: Field) -> u64 {
        match field {
            Field::Client => u64::from(self.client) % 1_000_000,
            Field::Exchange => u64::from(self.exchange),
            Field::Trace => self.trace(),
            Field::Left => self.left(),
            Field::Right => self.right(),
        }
    }
}

impl Field {
    /// Digits.
    fn width(self) -> usize {
        match self {
            Self::Client => 6,
            Self::Left => 7,
            Self::Exchange | Self::Trace | Self::Right => 10,
        }
    }
}

/// A message's text while it is put together.
#[derive(Debug, Clone, Default)]
pub struct Text {
    bytes: Vec<u8>,
    fields: Vec<(usize, Field)>,
}

impl Text {
    /// Appends text that is always the same.
    pub fn push(&mut self, text: &str) -> &mut Self {
        self.bytes.extend_from_slice(text.as_bytes());
        self
    }

    /// Appends a number's place.
    pub fn field(&mut self, field: Field) -> &mut Self {
        self.fields.push((self.bytes.len(), field));
        self.bytes.resize(self.bytes.len() + field.width(), b'0');
        self
    }

    /// Bytes of the frame that it would make.
    pub fn frame_bytes(&self) -> usize {
        let header = if self.bytes.len() <= 125 { 2 } else { 4 + 6 * usize::from(self.bytes.len() > 65_535) };
        header + 4 + self.bytes.len()
    }
}

/// A frame that waits for its numbers.
#[derive(Debug, Clone)]
pub struct Template {
    /// The message as it reads.
    text: Text,
    /// The same as a masked frame.
    frame: Vec<u8>,
    /// Where the payload begins in the frame.
    payload: usize,
    /// The mask: one for the whole run, for a fresh one would cost a copy and test nothing.
    mask: [u8; 4],
}

impl Template {
    /// Makes the frame.
    pub fn new(text: Text, mask: [u8; 4]) -> Self {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, frame::opcode::TEXT, mask, &text.bytes);
        let payload = bytes.len() - text.bytes.len();
        Self { text, frame: bytes, payload, mask }
    }

    /// Bytes of the frame.
    pub fn frame_bytes(&self) -> usize {
        self.frame.len()
    }

    /// Appends the frame with these numbers.
    pub fn write(&self, out: &mut Vec<u8>, numbers: Numbers) {
        let start = out.len() + self.payload;
        out.extend_from_slice(&self.frame);
        for &(offset, field) in &self.text.fields {
            let mut rest = numbers.digits(field);
            for place in (offset..offset + field.width()).rev() {
                out[start + place] = (b'0' + (rest % 10) as u8) ^ self.mask[place % 4];
                rest /= 10;
            }
        }
    }

    /// Whether a message is this one with these numbers: an echo.
    pub fn equals(&self, message: &[u8], numbers: Numbers) -> bool {
        let text = &self.text.bytes;
        if message.len() != text.len() {
            return false;
        }
        let mut from = 0;
        for &(offset, field) in &self.text.fields {
            let end = offset + field.width();
            if message[from..offset] != text[from..offset]
                || read_digits(&message[offset..end]) != Some(numbers.digits(field))
            {
                return false;
            }
            from = end;
        }
        message[from..] == text[from..]
    }
}

/// A number of digits alone, at most 18 of them.
pub fn read_digits(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    digits.iter().try_fold(0, |number: u64, byte| byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

    fn unmask(frame: &[u8], header: usize) -> String {
        let (mask, payload) = frame[header..].split_at(4);
        String::from_utf8(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect())
            .expect("text")
    }

    #[test]
    fn numbers_are_put_in_their_places_under_the_mask() {
        let mut text = Text::default();
        text.push("c").field(Field::Client).push(".").field(Field::Exchange).push(" ").field(Field::Trace).push(" ");
        text.field(Field::Left).push("+").field(Field::Right);
        let template = Template::new(text.clone(), MASK);
        assert_eq!(template.frame_bytes(), text.frame_bytes());
        let numbers = Numbers { client: 17, exchange: 4, request: 1_000_000_005 };
        let mut out = vec![0xff; 3];
        template.write(&mut out, numbers);
        let message = unmask(&out[3..], 2);
        assert_eq!(message, "c000017.0000000004 1000000005 1000017+1000000005");
        assert!(template.equals(message.as_bytes(), numbers));
    }

    #[test]
    fn an_echo_that_differs_anywhere_is_no_echo() {
        let mut text = Text::default();
        text.push("<").field(Field::Client).push("|").field(Field::Trace).push(">");
        let template = Template::new(text, MASK);
        let numbers = Numbers { client: 1, exchange: 2, request: 3 };
        let message = b"<000001|1000000003>".to_vec();
        assert!(template.equals(&message, numbers));
        for place in 0..message.len() {
            let mut other = message.clone();
            other[place] ^= 1;
            assert!(!template.equals(&other, numbers), "{place}");
        }
        assert!(!template.equals(&message[1..], numbers));
    }

    #[test]
    fn digits_are_digits_alone() {
        assert_eq!(read_digits(b"0012"), Some(12));
        for wrong in [&b""[..], b"1a", b"-1", b"1234567890123456789"] {
            assert_eq!(read_digits(wrong), None);
        }
    }
}
