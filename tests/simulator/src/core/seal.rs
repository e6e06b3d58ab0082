//! A cipher in miniature, in the place of TLS: each side says words of its own first, and then every byte is turned over. It
//! adds nothing to what it seals, so that counts of bytes stay true.

use std::collections::VecDeque;

use evergate_proto::redis::dial::Cipher;

use crate::world::violated;

/// What the core's end begins with.
const HELLO: &[u8] = b"hello";
/// What the other answers.
const WELCOME: &[u8] = b"welcome";
/// What the core's end says before anything that is sealed.
const READY: &[u8] = b"ready";

/// Whether what is sent is a word of the core's end: no batch.
pub fn is_own(bytes: &[u8]) -> bool {
    bytes == HELLO || bytes == READY
}

/// The core's end.
#[derive(Debug, Default)]
pub struct Near {
    has_greeted: bool,
    has_thanked: bool,
    /// Bytes of the welcome that have come.
    heard: usize,
}

impl Cipher for Near {
    fn greet(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.has_greeted, true) {
            out.extend(HELLO);
        }
        if self.is_ready() && !std::mem::replace(&mut self.has_thanked, true) {
            out.extend(READY);
        }
    }

    fn is_ready(&self) -> bool {
        self.heard == WELCOME.len()
    }

    fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        if !self.is_ready() {
            violated!("{} bytes are to be sealed before both ends have agreed", plain.len());
        }
        self.greet(out);
        out.extend(plain.iter().map(|byte| !byte));
        Ok(())
    }

    fn open(&mut self, sealed: &[u8], plain: &mut Vec<u8>) -> Result<bool, String> {
        let own = sealed.len().min(WELCOME.len() - self.heard);
        if sealed[..own] != WELCOME[self.heard..self.heard + own] {
            return Err("the welcome is none".to_owned());
        }
        self.heard += own;
        plain.extend(sealed[own..].iter().map(|byte| !byte));
        Ok(false)
    }
}

/// The other end, in front of a Redis.
#[derive(Debug, Default)]
pub struct Far {
    /// Bytes that have come.
    heard: usize,
    /// Bytes of the welcome that have gone.
    said: usize,
}

impl Far {
    /// Bytes come: those that are for Redis.
    pub fn open(&mut self, sealed: impl Iterator<Item = u8>, plain: &mut Vec<u8>) {
        for byte in sealed {
            let due = HELLO.iter().chain(READY).nth(self.heard);
            self.heard += 1;
            match due {
                None => plain.push(!byte),
                Some(due) if *due == byte => {}
                Some(_) => violated!("a sealed link said {byte:#x} where the ends were to agree"),
            }
        }
    }

    /// Bytes of its own that are yet to go.
    pub fn owed(&self) -> usize {
        WELCOME.len() - self.said
    }

    /// Takes the next bytes for the core, not more than `most`, of its own and of what Redis has answered: how many.
    pub fn seal(&mut self, answers: &mut Vec<u8>, most: usize, out: &mut VecDeque<u8>) -> usize {
        if self.heard < HELLO.len() {
            return 0;
        }
        let own = most.min(self.owed());
        out.extend(&WELCOME[self.said..self.said + own]);
        self.said += own;
        let rest = answers.len().min(most - own);
        out.extend(answers.drain(..rest).map(|byte| !byte));
        own + rest
    }
}
