//! The cases: what closes, what the client does, by which path, how large a reply at which rate.

use std::time::Duration;

/// What the gateway does while the clients read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// SIGUSR1.
    Drain,
    /// The idle time-out, which is shorter than any of the replies takes.
    Idle,
    /// SIGTERM.
    Stop,
    /// Nothing but its pings, which are answered once they are seen: behind the reply.
    Alive,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Drain, Self::Idle, Self::Stop, Self::Alive];

    /// As it stands in a case's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Idle => "idle",
            Self::Stop => "stop",
            Self::Alive => "alive",
        }
    }

    /// The code of the Close that the gateway sends of itself; a client that is served on closes by itself.
    pub fn code(self) -> u16 {
        match self {
            Self::Drain => 1012,
            Self::Idle | Self::Alive => 1000,
            Self::Stop => 1001,
        }
    }
}

/// What the client does besides reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Nothing.
    Silent,
    /// Sends a ping now and then.
    Pinging,
    /// Sends a request now and then, until its large reply is whole.
    Asking,
    /// Sends FIN in the middle of its reply.
    HalfClosing,
    /// Sends a Close in the middle of its reply.
    Closing,
}

impl Behaviour {
    const ALL: [Self; 5] = [Self::Silent, Self::Pinging, Self::Asking, Self::HalfClosing, Self::Closing];

    fn name(self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Pinging => "pinging",
            Self::Asking => "asking",
            Self::HalfClosing => "half-closing",
            Self::Closing => "closing",
        }
    }
}

/// How the client reaches the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// By itself.
    Direct,
    /// Through nginx, configured as `tuning/` says.
    Nginx,
    /// The same with `proxy_buffering on`.
    Buffered,
}

impl Path {
    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Buffered => "buffered",
        }
    }
}

/// Bytes of the reply and of those that the client takes in a second: from 3 to 100 s each.
const PAIRS: [(usize, u32); 10] = [
    (300_000, 5_000),
    (500_000, 6_000),
    (500_000, 40_000),
    (1_000_000, 20_000),
    (3_000_000, 30_000),
    (3_000_000, 150_000),
    (3_000_000, 1_000_000),
    (6_000_000, 100_000),
    (12_000_000, 200_000),
    (12_000_000, 1_000_000),
];
/// Those of a quick run.
const QUICK: [(usize, u32); 3] = [(500_000, 40_000), (3_000_000, 150_000), (12_000_000, 1_000_000)];

/// One client's part.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What the gateway does.
    pub way: Way,
    /// What the client does.
    pub behaviour: Behaviour,
    /// By which path.
    pub path: Path,
    /// Content bytes of the reply.
    pub bytes: usize,
    /// Bytes that the client takes in a second.
    pub rate: u32,
}

impl Case {
    /// All cases of one way.
    pub fn all(way: Way, is_quick: bool, has_nginx: bool) -> Vec<Self> {
        let pairs: &[(usize, u32)] = if is_quick { &QUICK } else { &PAIRS };
        let paths: &[Path] = if has_nginx { &[Path::Direct, Path::Nginx, Path::Buffered] } else { &[Path::Direct] };
        let mut cases = vec![];
        for &path in paths {
            for behaviour in Behaviour::ALL {
                for &(bytes, rate) in pairs {
                    cases.push(Self { way, behaviour, path, bytes, rate });
                }
            }
        }
        cases
    }

    /// `drain direct pinging 3000000@150000`.
    pub fn name(&self) -> String {
        let Self { way, behaviour, path, bytes, rate } = self;
        format!("{} {} {} {bytes}@{rate}", way.name(), path.name(), behaviour.name())
    }

    /// How long the reply takes at that rate.
    pub fn time(&self) -> Duration {
        Duration::from_secs_f64(self.bytes as f64 / f64::from(self.rate))
    }
}
