//! Requests that begin at a time of their own: an open loop's, and those of clients that have thought.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::peer::Peer;
use super::round::{Phase, Round};
use super::schedule::Schedule;
use super::timer::Timer;

/// Scripts under way per client in an open loop; who has so many is passed over.
const IN_FLIGHT_MAX: usize = 64;

/// Clients that are asked at random before all are, in turn.
const TRIES: usize = 4;

/// A request sent so much after it was due is counted as late, in nanoseconds.
const LATE_NS: u64 = 1_000_000;

/// Pause while no client can take a request.
const FULL_PAUSE: Duration = Duration::from_micros(500);

/// Longest wait, so that the end of the round is seen.
const WAIT_MAX: Duration = Duration::from_millis(20);

/// Sends what is due, until the round's measured part has ended. A request's time is its due time, also where no client
/// could take it then.
pub async fn open_loop(round: Rc<Round>, mut schedule: Schedule) -> io::Result<()> {
    let mut timer = Timer::new()?;
    loop {
        // What was due before the end is sent, though the end was seen first.
        let is_over = round.phase.get() != Phase::Running;
        let now_ns = if is_over { round.ended_ns() } else { round.now_ns() };
        let mut wait = WAIT_MAX;
        while schedule.peek() < now_ns {
            let Some(peer) = pick(&round) else {
                wait = FULL_PAUSE;
                break;
            };
            let due_ns = schedule.peek();
            schedule.advance();
            round.begin(&mut peer.client.borrow_mut(), due_ns);
            peer.kick();
            let mut tally = round.tally.borrow_mut();
            if now_ns - due_ns > LATE_NS && tally.is_measured(due_ns) {
                tally.sent_late += 1;
            }
        }
        if is_over {
            break;
        }
        if schedule.peek() > now_ns {
            wait = wait.min(Duration::from_nanos(schedule.peek().saturating_sub(round.now_ns())));
        }
        timer.wait(wait).await?;
    }
    let mut not_sent = 0;
    while schedule.peek() < round.ended_ns() {
        not_sent += u64::from(round.tally.borrow().is_measured(schedule.peek()));
        schedule.advance();
    }
    round.tally.borrow_mut().not_sent += not_sent;
    Ok(())
}

/// A client that can take a request.
fn pick(round: &Round) -> Option<Rc<Peer>> {
    let peers = round.peers.borrow();
    if peers.is_empty() {
        return None;
    }
    let has_room = |peer: &&Rc<Peer>| peer.client.borrow().has_room(IN_FLIGHT_MAX);
    for _ in 0..TRIES {
        let peer = &peers[round.below(peers.len())];
        if has_room(&peer) {
            return Some(Rc::clone(peer));
        }
    }
    peers.iter().find(has_room).map(Rc::clone)
}

/// Lets clients that have thought for long enough ask again.
pub async fn thinkers(round: Rc<Round>) -> io::Result<()> {
    let mut timer = Timer::new()?;
    while round.phase.get() == Phase::Running {
        let now_ns = round.now_ns();
        let due = || round.thinking.borrow_mut().pop_front_if(|(due_ns, _)| *due_ns <= now_ns);
        while let Some((_, peer)) = due() {
            round.begin(&mut peer.client.borrow_mut(), now_ns);
            peer.kick();
        }
        let next = round.thinking.borrow().front().map(|(due_ns, _)| *due_ns);
        match next {
            Some(due_ns) => {
                let wait = Duration::from_nanos(due_ns.saturating_sub(round.now_ns()));
                timer.wait(wait.min(WAIT_MAX)).await?;
            }
            None => {
                let _ = tokio::time::timeout(WAIT_MAX, round.thought.notified()).await;
            }
        }
    }
    Ok(())
}
