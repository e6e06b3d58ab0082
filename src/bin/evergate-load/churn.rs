//! Clients that come and go: connect, shake hands, close.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::conduct::Load;
use super::connect::connect;
use super::deadline::within;
use super::frame;
use super::round::{Phase, Round};
use super::schedule::{Arrival, Schedule};
use super::target::{Target, source};

/// Such clients at once; when there are so many, the next wait.
const AT_ONCE_MAX: usize = 256;

/// Time for each half of the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Connects and closes at a fixed rate until the measured part ends.
pub async fn run(round: Rc<Round>, target: Target, load: Load) {
    let (at_once, target) = (Rc::new(Cell::new(0_usize)), Rc::new(target));
    let mut schedule = Schedule::new(Arrival::Fixed, load.churn, round.now_ns(), load.seed);
    let mut number = 0;
    while round.phase.get() == Phase::Running {
        while schedule.peek() <= round.now_ns() && at_once.get() < AT_ONCE_MAX {
            schedule.advance();
            number += 1;
            at_once.set(at_once.get() + 1);
            let (round, target, at_once) = (Rc::clone(&round), Rc::clone(&target), Rc::clone(&at_once));
            let source = source(number, load.sources);
            Rc::clone(&round).spawn(async move {
                one(&round, &target, source).await;
                at_once.set(at_once.get() - 1);
            });
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn one(round: &Round, target: &Target, source: Option<std::net::IpAddr>) {
    let began_ns = round.now_ns();
    let connected = match connect(target, source).await {
        Ok(connected) => connected,
        Err(fault) => return round.fault(fault),
    };
    let taken_ns = round.now_ns() - began_ns;
    {
        let mut tally = round.tally.borrow_mut();
        tally.connect.saturating_record(taken_ns);
        tally.churned += 1;
    }
    let mut close = Vec::new();
    frame::write(&mut close, frame::opcode::CLOSE, round.plan.mask, &1000_u16.to_be_bytes());
    let stream = &connected.stream;
    let _ = within(CLOSE_TIMEOUT, stream, stream.write_all(close)).await;
    // The server ends the connection first, so that its address is free again at once.
    let _ = within(CLOSE_TIMEOUT, stream, stream.read(Vec::with_capacity(64))).await;
}
