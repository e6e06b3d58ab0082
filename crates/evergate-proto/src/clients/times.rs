//! The times that a client's timers go by. An idle client costs little but these, hence their size.

/// A time, ms since the process began, in five bytes: 34 years. What is later is never.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp([u8; 5]);

impl Stamp {
    /// No time, and earlier than all.
    pub(super) const NONE: Self = Self([0; 5]);
    /// Later than all others.
    pub(super) const NEVER: Self = Self([0xff; 5]);

    /// So many ms after the process began.
    pub(super) fn at(ms: u64) -> Self {
        let [bytes @ .., _, _, _] = ms.min(Self::NEVER.ms()).to_le_bytes();
        Self(bytes)
    }

    /// Its ms.
    pub(super) const fn ms(self) -> u64 {
        let [a, b, c, d, last] = self.0;
        u32::from_le_bytes([a, b, c, d]) as u64 | (last as u64) << 32
    }

    /// Whether it is a time.
    pub(super) fn is_some(self) -> bool {
        self != Self::NONE
    }

    /// Whether it is none.
    pub(super) fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// Changes its ms.
    pub(super) fn change(&mut self, change: impl FnOnce(u64) -> u64) {
        *self = Self::at(change(self.ms()));
    }
}

impl std::fmt::Debug for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ms", self.ms())
    }
}

/// The times of one client.
#[derive(Debug)]
pub(super) struct Times {
    /// The connection was accepted.
    pub(super) accepted: Stamp,
    /// Any byte came; also the start of a read pause.
    pub(super) received: Stamp,
    /// The upgrade, the last byte of a data message, the last byte of a reply taken by the kernel, then delivered.
    pub(super) activity: Stamp,
    /// The first byte of a message that is not complete came.
    pub(super) message_since: Stamp,
    /// The last byte of it came.
    pub(super) message_heard: Stamp,
    /// A ping was sent and nothing has come since, or a slow reader was found alive; none: no pong is owed.
    pub(super) ping_since: Stamp,
    /// It was last seen to acknowledge more while something was on its way to it; none: nothing is.
    pub(super) acknowledged: Stamp,
    /// Its replies have been on their way since then; none: they are not.
    pub(super) sending_since: Stamp,
    /// When the first pending request may have to be given up.
    pub(super) requests_due: Stamp,
}

impl Times {
    /// Of a connection that is accepted now.
    pub(super) fn accepted_at(now_ms: u64) -> Self {
        let (now, none) = (Stamp::at(now_ms), Stamp::NONE);
        Self {
            accepted: now,
            received: now,
            activity: now,
            message_since: none,
            message_heard: none,
            ping_since: none,
            acknowledged: none,
            sending_since: none,
            requests_due: Stamp::NEVER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_what_it_was_and_what_is_too_late_is_never() {
        for ms in [0, 1, 255, 256, 1 << 32, (1 << 40) - 2] {
            assert_eq!(Stamp::at(ms).ms(), ms);
        }
        for ms in [(1 << 40) - 1, 1 << 40, u64::MAX] {
            assert_eq!(Stamp::at(ms), Stamp::NEVER);
        }
        assert!(Stamp::at(0).is_none() && Stamp::at(1).is_some());
    }
}
