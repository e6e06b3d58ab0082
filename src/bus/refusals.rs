//! Does Redis take pushes? One that has no memory left, cannot write to its disk, has become a replica or has changed its ACL
//! answers as fast as ever, and refuses. The node is taken out then, so that no client comes whose request could show that it
//! works again: the link asks with a push of its own.

/// How often Redis is asked whether it takes pushes again, ms.
const PROBE_MS: u64 = 1_000;

/// What is known of the pushes on one link. It outlasts the connection: a new one that takes no pushes is no better.
#[derive(Debug, Default)]
pub struct Refusals {
    /// When a push was refused first, with none taken since, ms.
    since_ms: Option<u64>,
    /// Something was refused that is no push.
    doubted: bool,
    /// When Redis was asked last, ms.
    probed_ms: u64,
}

impl Refusals {
    /// Redis took a push. Says whether it had refused them before.
    pub fn taken(&mut self) -> bool {
        self.doubted = false;
        self.since_ms.take().is_some()
    }

    /// Redis refused a push. Says whether it had taken the last one.
    pub fn refused(&mut self, now_ms: u64) -> bool {
        self.doubted = false;
        let is_first = self.since_ms.is_none();
        self.since_ms.get_or_insert(now_ms);
        is_first
    }

    /// Redis refused what a link that is idle is probed with. If the account may do so otherwise, as no error of the ACL says, it is
    /// likely to refuse a push as well.
    pub fn doubt(&mut self, error: &str) {
        self.doubted = !error.starts_with("NOPERM");
    }

    /// Whether to ask Redis with a push, now.
    pub fn wants_probe(&mut self, now_ms: u64) -> bool {
        let wants = (self.doubted || self.since_ms.is_some()) && now_ms >= self.probed_ms.saturating_add(PROBE_MS);
        if wants {
            self.probed_ms = now_ms;
        }
        wants
    }

    /// Since when Redis has refused every push, ms; 0 = it takes them, as far as is known.
    pub fn since_ms(&self) -> u64 {
        self.since_ms.map_or(0, |since_ms| since_ms.max(1))
    }
}
