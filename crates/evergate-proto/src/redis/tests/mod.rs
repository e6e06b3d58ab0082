//! Bytes from and to Redis, however they are cut.

mod inbox;
mod links;
mod outbox;
mod refusals;
mod resp;
mod silence;
mod stranger;

use super::resp::{Malformed, Token, next};

/// A [`Token`] that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owned {
    Array(usize),
    Nil,
    Bulk(Vec<u8>),
    Integer(i64),
    Simple(Vec<u8>),
    Error(Vec<u8>),
}

impl From<Token<'_>> for Owned {
    fn from(token: Token<'_>) -> Self {
        match token {
            Token::Array(n) => Self::Array(n),
            Token::Nil => Self::Nil,
            Token::Bulk(bytes) => Self::Bulk(bytes.to_vec()),
            Token::Integer(n) => Self::Integer(n),
            Token::Simple(text) => Self::Simple(text.to_vec()),
            Token::Error(text) => Self::Error(text.to_vec()),
        }
    }
}

/// The tokens of a stream that arrives in `chunks`, and how it ended.
fn tokens(chunks: &[&[u8]]) -> (Vec<Owned>, Result<(), Malformed>) {
    let (mut buffer, mut at, mut tokens) = (Vec::new(), 0, Vec::new());
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        loop {
            match next(&buffer, &mut at) {
                Ok(Some(token)) => tokens.push(token.into()),
                Ok(None) => break,
                Err(malformed) => return (tokens, Err(malformed)),
            }
        }
    }
    (tokens, Ok(()))
}
