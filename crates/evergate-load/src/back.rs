//! The way back of a client whose connection has ended: another connection, sooner or later.

use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use super::connect::{Connected, connect};
use super::round::{Phase, Round};
use super::target::Target;

/// The first pause, behind an attempt that failed or a connection that hardly stood, and the longest; they double in between, and each
/// is shortened by up to half, for clients that left together shall not come back together.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Where a client comes back to.
pub struct Back {
    target: Rc<Target>,
    source: Option<IpAddr>,
    /// The pause before the next attempt; none behind a connection that has stood for longer than the longest.
    pause: Cell<Duration>,
}

impl Back {
    /// To where it was.
    pub fn new(target: Rc<Target>, source: Option<IpAddr>) -> Self {
        Self { target, source, pause: Cell::new(Duration::ZERO) }
    }

    /// Tries until it is connected; `None`: the round closes before that. Each attempt that fails is counted as a fault. The connection
    /// that has ended had `stood` for so long.
    pub async fn take(&self, round: &Round, stood: Duration) -> Option<Connected> {
        if stood > PAUSE.1 {
            self.pause.set(Duration::ZERO);
        }
        loop {
            let pause = self.pause.replace((self.pause.get() * 2).clamp(PAUSE.0, PAUSE.1));
            if !pause.is_zero() {
                let shortened = pause / 2 + pause.mul_f64(round.below(1_000) as f64 / 2_000.0);
                tokio::select! { () = sleep(shortened) => {}, () = round.closing() => return None }
            }
            let began_ns = round.now_ns();
            if let Some(connected) = connect(round, &self.target, self.source).await {
                round.tally.borrow_mut().connect.saturating_record(round.now_ns() - began_ns);
                return Some(connected);
            }
            if round.phase.get() == Phase::Closing {
                return None;
            }
        }
    }
}
