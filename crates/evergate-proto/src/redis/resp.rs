//! The Redis serialization protocol, version 2, as far as a client needs it.
//!
//! Why not a crate: an element of a reply must be handed on as soon as it is complete, while the rest
//! of its array is still on the way, and no kept crate does that. They are slower besides (docs/performance.md,
//! "Codecs").

/// The largest bulk that is taken from Redis, bytes (Redis' own `proto-max-bulk-len`).
pub const BULK_BYTES_MAX: usize = 512 * 1024 * 1024;
/// The longest line (type byte, number or text, CR LF), bytes.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// The most elements an array may announce.
const ARRAY_MAX: usize = 1024 * 1024;

/// One piece of a reply. An array is its header; its elements follow as tokens of their own.
#[derive(Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// `*n`: that many elements follow.
    Array(usize),
    /// `$-1` or `*-1`.
    Nil,
    /// `$n`: a string.
    Bulk(&'a [u8]),
    /// `:n`.
    Integer(i64),
    /// `+text`.
    Simple(&'a [u8]),
    /// `-text`.
    Error(&'a [u8]),
}

/// What came is not RESP 2: the connection cannot be used any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// The next token in `buffer[*at..]`, or `None` when it is not all here yet; moves `at` past it.
/// Costs no more for a large unfinished bulk than for a small one.
pub fn next<'a>(buffer: &'a [u8], at: &mut usize) -> Result<Option<Token<'a>>, Malformed> {
    let rest = &buffer[*at..];
    let Some(end) = memchr::memchr(b'\n', &rest[..rest.len().min(LINE_BYTES_MAX)]) else {
        return if rest.len() >= LINE_BYTES_MAX { Err(Malformed) } else { Ok(None) };
    };
    if end < 2 || rest[end - 1] != b'\r' {
        return Err(Malformed);
    }
    let line = &rest[1..end - 1];
    let token = match rest[0] {
        b'+' => Token::Simple(line),
        b'-' => Token::Error(line),
        b':' => Token::Integer(number(line)?),
        b'*' => match number(line)? {
            -1 => Token::Nil,
            n => Token::Array(usize::try_from(n).ok().filter(|&n| n <= ARRAY_MAX).ok_or(Malformed)?),
        },
        b'$' => match number(line)? {
            -1 => Token::Nil,
            n => {
                let n = usize::try_from(n).ok().filter(|&n| n <= BULK_BYTES_MAX).ok_or(Malformed)?;
                let start = end + 1;
                let Some(tail) = rest.get(start + n..start + n + 2) else { return Ok(None) };
                if tail != b"\r\n" {
                    return Err(Malformed);
                }
                *at += start + n + 2;
                return Ok(Some(Token::Bulk(&rest[start..start + n])));
            }
        },
        _ => return Err(Malformed),
    };
    *at += end + 1;
    Ok(Some(token))
}

/// How many bytes the token at `buffer[at..]` needs in all, as far as that is known; for reserving space once.
pub fn wanted(buffer: &[u8], at: usize) -> usize {
    let rest = &buffer[at..];
    if rest.first() == Some(&b'$')
        && let Some(end) = memchr::memchr(b'\n', &rest[..rest.len().min(32)])
        && end >= 2
        && let Ok(n) = number(&rest[1..end - 1])
        && let Ok(n) = usize::try_from(n)
        && n <= BULK_BYTES_MAX
    {
        return end + 1 + n + 2;
    }
    0
}

fn number(text: &[u8]) -> Result<i64, Malformed> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 18 {
        return Err(Malformed);
    }
    let mut value = 0_i64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return Err(Malformed);
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    Ok(if negative { -value } else { value })
}

/// Appends the header of a command of `n` words.
pub fn write_array(out: &mut Vec<u8>, n: usize) {
    write_number(out, b'*', n);
}

/// Appends one word of a command.
pub fn write_bulk(out: &mut Vec<u8>, word: &[u8]) {
    write_number(out, b'$', word.len());
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

/// Appends a whole command.
pub fn write_command(out: &mut Vec<u8>, words: &[&[u8]]) {
    write_array(out, words.len());
    for word in words {
        write_bulk(out, word);
    }
}

fn write_number(out: &mut Vec<u8>, kind: u8, n: usize) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
    out.extend_from_slice(b"\r\n");
}
