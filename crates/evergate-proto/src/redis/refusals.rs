//! Does Redis take pushes? One that has no memory left, cannot write to its disk, has become a replica or has changed its ACL
//! answers as fast as ever, and refuses. The node is taken out then, so that no client comes whose request could show that it
//! works again: the link asks with a push of its own.

/// What lasts is news again after so long, ms.
const AGAIN_MS: u64 = 60_000;
/// How often Redis is asked whether it takes pushes again, ms.
const PROBE_MS: u64 = 1_000;

/// What Redis' errors begin with, and what an operator can do about each.
const REMEDIES: [(&str, &str); 10] = [
    ("OOM", "raise Redis' maxmemory, and look which list has grown because nobody pops it (`redis-cli --bigkeys`)"),
    ("MISCONF", "free or mend the disk that Redis saves to, or let it not save (`save \"\"`)"),
    (
        "READONLY",
        "this Redis is a replica: promote it, or let domain or bus_domain_address name the one that takes writes",
    ),
    ("NOPERM", "give the account the rights of OpenSRF's own ACL; `evergate check` shows which it lacks"),
    ("NOAUTH", "compare username and passwd with Redis' ACL; `evergate check` tests them"),
    ("WRONGPASS", "compare username and passwd with Redis' ACL; `evergate check` tests them"),
    ("WRONGTYPE", "the key is no list: see who else writes to it, and delete it"),
    ("LOADING", "Redis is reading its data from disk: wait, or look into its log"),
    ("BUSY", "a script keeps Redis busy: `SCRIPT KILL`"),
    ("NOREPLICAS", "bring its replicas back, or lower Redis' min-replicas-to-write"),
];
/// Where Redis says something else.
const REMEDY: &str = "see Redis' log; `evergate check` shows what the account may do";

/// What is likely to mend what Redis refuses with an error that begins with `code`, where that is known.
pub fn known_remedy(code: &str) -> Option<&'static str> {
    REMEDIES.iter().find(|(begins, _)| *begins == code).map(|(_, remedy)| *remedy)
}

/// What is likely to mend what Redis refuses with `error`.
pub fn remedy(error: &str) -> &'static str {
    error.split(' ').next().and_then(known_remedy).unwrap_or(REMEDY)
}

/// `error`, in Redis' own words, and what is likely to mend it.
pub fn explain(error: &str) -> String {
    format!("{}; {}", error.trim_end_matches('.'), remedy(error))
}

/// What is known of the pushes on one link. It outlasts the connection: a new one that takes no pushes is no better.
#[derive(Debug, Default)]
pub struct Refusals {
    /// When a push was refused first, with none taken since, ms.
    since_ms: Option<u64>,
    /// What Redis said to the last that it refused.
    error: String,
    /// When that was news last, ms.
    told_ms: u64,
    /// Something was refused that is no push.
    doubted: bool,
    /// When Redis was asked last, ms.
    probed_ms: u64,
}

impl Refusals {
    /// Redis took a push. Says whether it had refused them before.
    pub fn taken(&mut self) -> bool {
        self.doubted = false;
        self.error.clear();
        self.since_ms.take().is_some()
    }

    /// Redis refused a push with `error`. Says whether that is news: it had taken the last one, or refused it with another word, or it
    /// has not been news for a minute.
    pub fn refused(&mut self, now_ms: u64, error: &str) -> bool {
        self.doubted = false;
        let is_new = self.since_ms.is_none() || remedy(&self.error) != remedy(error);
        let is_news = is_new || now_ms >= self.told_ms + AGAIN_MS;
        self.since_ms.get_or_insert(now_ms);
        if is_news {
            self.told_ms = now_ms;
            error.clone_into(&mut self.error);
        }
        is_news
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

    /// Why it refuses them, in its own words, and what is likely to mend it; `None` while it takes them.
    pub fn why(&self) -> Option<String> {
        self.since_ms.map(|_| explain(&self.error))
    }
}
