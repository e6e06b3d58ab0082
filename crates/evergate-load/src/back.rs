//! The way back of a client whose connection has ended: another connection, sooner or later.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;

use super::connect::{Connected, connect};
use super::round::{Phase, Round};
use super::target::Target;

/// The first pause, behind an attempt that failed, and the longest; they double in between, and each is shortened by up to half, for
/// clients that left together shall not come back together.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Where a client comes back to.
pub struct Back {
    target: Rc<Target>,
    source: Option<IpAddr>,
}

impl Back {
    /// To where it was.
    pub fn new(target: Rc<Target>, source: Option<IpAddr>) -> Self {
        Self { target, source }
    }

    /// Tries until it is connected; `None`: the round closes before that. Each attempt that fails is counted as a fault.
    pub async fn take(&self, round: &Round) -> Option<Connected> {
        let mut pause = PAUSE.0;
        loop {
            let began_ns = round.now_ns();
            if let Some(connected) = connect(round, &self.target, self.source).await {
                round.tally.borrow_mut().connect.saturating_record(round.now_ns() - began_ns);
                return Some(connected);
            }
            if round.phase.get() == Phase::Closing {
                return None;
            }
            let shortened = pause / 2 + pause.mul_f64(round.below(1_000) as f64 / 2_000.0);
            tokio::select! { () = sleep(shortened) => {}, () = round.closing() => return None }
            pause = (pause * 2).min(PAUSE.1);
        }
    }
}
