//! How long has Redis confirmed nothing of what it was given? One that hangs (a slow disk, a long command, a stopped process)
//! keeps its connections, refuses nothing and answers nothing.

/// A tick that is so late is a standstill of our own, in which no confirmation could be read.
const STALL_MS: u64 = 1_000;

/// What is known of one link that pushes. It outlasts the connection: a new one that is not answered is no better.
#[derive(Debug, Default)]
pub struct Silence {
    /// When the oldest of what is unconfirmed was written, or the last confirmation before it came, ms.
    since_ms: Option<u64>,
    /// When the last tick was, ms; 0 = none yet.
    ticked_ms: u64,
}

impl Silence {
    /// Something was written that Redis must confirm.
    pub fn wrote(&mut self, now_ms: u64) {
        self.since_ms.get_or_insert(now_ms);
    }

    /// Redis answered; whether everything `is_confirmed` now.
    pub fn answered(&mut self, now_ms: u64, is_confirmed: bool) {
        self.since_ms = (!is_confirmed).then_some(now_ms);
    }

    /// Time has passed. Says how long Redis has been silent though it was asked, ms.
    pub fn tick(&mut self, now_ms: u64) -> u64 {
        let passed_ms = now_ms.saturating_sub(self.ticked_ms);
        if self.ticked_ms > 0 && passed_ms >= STALL_MS {
            self.since_ms = self.since_ms.map(|since_ms| since_ms.saturating_add(passed_ms).min(now_ms));
        }
        self.ticked_ms = now_ms;
        self.since_ms.map_or(0, |since_ms| now_ms.saturating_sub(since_ms))
    }
}
