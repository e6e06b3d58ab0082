//! How a connection to Redis begins: the account is accepted, and Redis carries out a probe of what the link is for, so that an
//! account or a server that refuses it is found out before the link counts as up.

use super::input::Input;
use super::refusals;
use super::resp::{self, Token};
use super::stranger;
use super::trouble::Trouble;

/// As much of an answer will do to know by it what answers.
const FIRST_BYTES: usize = 256;
/// The most that both answers together may take, bytes. Redis' are some hundred, and as much for each of its modules. Before the account
/// is accepted nothing speaks for whoever says more, or claims that it will.
const ANSWERS_BYTES_MAX: usize = 64 * 1024;
/// The shortest element of an array (`+`, CR LF), bytes.
const ELEMENT_BYTES_MIN: usize = 3;
/// The most of an error that is shown, bytes: Redis' are a line.
const ERROR_BYTES_SHOWN: usize = 512;

/// What a greeting has found out.
#[derive(Debug, PartialEq, Eq)]
pub struct Greeted {
    /// The number that Redis gave the connection.
    pub id: i64,
    /// Redis is too old for the probe, which one of any age would otherwise have carried out.
    pub lacks_probe: bool,
}

/// Whose reply is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Account,
    Probe,
}

/// A greeting under way.
#[derive(Debug)]
pub struct Greeting {
    /// The port, which may tell what answers there.
    port: Option<u16>,
    /// The probe's name.
    probe: &'static str,
    /// What came first.
    first: Vec<u8>,
    step: Step,
    /// Tokens that the reply still lacks, as far as is known.
    left: usize,
    /// Bytes of the answers that have been read.
    read_bytes: usize,
    /// Whether the account's reply is a map, as Redis writes it in RESP 2.
    is_map: Option<bool>,
    /// The next token is the connection's number.
    is_id: bool,
    id: i64,
}

impl Greeting {
    /// Begins, with what is to be sent: `probe` is a command that changes nothing.
    pub fn begin(
        out: &mut Vec<u8>,
        (username, passwd): (&str, &str),
        port: Option<u16>,
        probe: (&'static str, &[&[u8]]),
    ) -> Self {
        let (name, arguments) = probe;
        resp::write_command(out, &[b"HELLO", b"2", b"AUTH", username.as_bytes(), passwd.as_bytes()]);
        resp::write_array(out, 1 + arguments.len());
        resp::write_bulk(out, name.as_bytes());
        for word in arguments {
            resp::write_bulk(out, word);
        }
        Self {
            port,
            probe: name,
            first: Vec::new(),
            step: Step::Account,
            left: 1,
            read_bytes: 0,
            is_map: None,
            is_id: false,
            id: 0,
        }
    }

    /// Reads on; `None` = it goes on.
    pub fn read(&mut self, input: &mut Input) -> Result<Option<Greeted>, Trouble> {
        let unread_bytes = input.unread().len();
        let greeted = self.read_answers(input)?;
        self.read_bytes += unread_bytes - input.unread().len();
        let needed_bytes = input.unread().len().max(input.wanted()).max(self.left.saturating_mul(ELEMENT_BYTES_MIN));
        if greeted.is_none() && self.read_bytes.saturating_add(needed_bytes) > ANSWERS_BYTES_MAX {
            return Err(Trouble::Stranger(stranger::describe_talker(ANSWERS_BYTES_MAX)));
        }
        Ok(greeted)
    }

    fn read_answers(&mut self, input: &mut Input) -> Result<Option<Greeted>, Trouble> {
        if self.first.is_empty() {
            let unread = input.unread();
            self.first = unread[..unread.len().min(FIRST_BYTES)].to_vec();
        }
        if !stranger::may_be_redis(&self.first) {
            return Err(self.stranger());
        }
        if self.step == Step::Account {
            match self.reply(input, "the account") {
                Ok(false) => return Ok(None),
                Ok(true) if self.is_map == Some(false) => return Err(self.stranger()),
                Ok(true) => (self.step, self.left) = (Step::Probe, 1),
                Err(Trouble::Malformed) => return Err(self.stranger()),
                Err(Trouble::Refused(text)) if text.contains("unknown command") => {
                    return Err(Trouble::Refused(format!(
                        "{text}; this Redis is older than 6.0 and knows no accounts: upgrade to 6.2 or later"
                    )));
                }
                Err(trouble) => return Err(trouble),
            }
        }
        match self.reply(input, self.probe) {
            Ok(false) => Ok(None),
            Ok(true) => Ok(Some(Greeted { id: self.id, lacks_probe: false })),
            // Said before the account's rights are looked at, and in no newer version.
            Err(Trouble::Refused(text)) if text.contains("wrong number of arguments") => {
                Ok(Some(Greeted { id: self.id, lacks_probe: true }))
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Whether a port has said nothing at all.
    pub fn is_unheard(&self) -> bool {
        self.first.is_empty() && self.port.is_some()
    }

    fn stranger(&self) -> Trouble {
        Trouble::Stranger(stranger::describe(&self.first, self.port))
    }

    /// Reads one whole reply, as far as it has come; an error of Redis' names `what`.
    fn reply(&mut self, input: &mut Input, what: &str) -> Result<bool, Trouble> {
        while self.left > 0 {
            let Some(token) = input.next()? else { return Ok(false) };
            self.left -= 1;
            match &token {
                Token::Error(text) => {
                    let word = String::from_utf8_lossy(&text[..text.len().min(ERROR_BYTES_SHOWN)]);
                    // What it does not know or cannot parse is a matter of its version, and the caller's.
                    let why = if word.starts_with("ERR ") { word.into_owned() } else { refusals::explain(&word) };
                    return Err(Trouble::Refused(format!("Redis refused {what}: {why}")));
                }
                Token::Array(n) => self.left = self.left.saturating_add(*n),
                _ => {}
            }
            if self.step == Step::Account {
                self.is_map.get_or_insert(matches!(token, Token::Array(_)));
                if let (Token::Integer(n), true) = (&token, self.is_id) {
                    self.id = *n;
                }
                self.is_id = token == Token::Bulk(b"id");
            }
        }
        Ok(true)
    }
}
