//! What all connections of a round share: the plan, the counts, and who may begin another request.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Instant;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;

use super::client::{Client, Outcome};
use super::fault::Fault;
use super::frame::Violation;
use super::peer::Peer;
use super::plan::Plan;
use super::tally::Tally;

/// How far a round is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Connections are opened; nobody asks for anything yet.
    Connecting,
    /// Requests are sent.
    Running,
    /// No further request begins; what is under way may end.
    Ending,
    /// Connections are closed.
    Closing,
}

/// Who begins a request when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// Each client keeps so many under way.
    Closed {
        /// Scripts under way per client.
        in_flight: usize,
        /// From a reply to the next request, in nanoseconds.
        think_ns: u64,
    },
    /// A schedule says when.
    Open,
}

/// Counts one more of something until its end, a panic's included.
pub struct Counted {
    round: Rc<Round>,
    of: fn(&Round) -> &Cell<usize>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let count = (self.of)(&self.round);
        count.set(count.get() - 1);
        self.round.changed.notify_one();
    }
}

/// One round.
pub struct Round {
    /// What clients send.
    pub plan: Plan,
    /// Who begins when.
    pub pace: Pace,
    /// What is counted.
    pub tally: RefCell<Tally>,
    /// How far it is.
    pub phase: Cell<Phase>,
    /// The active connections that are open.
    pub peers: RefCell<Vec<Rc<Peer>>>,
    /// The idle connections that are open.
    pub idle: RefCell<Vec<Rc<Peer>>>,
    /// The task that sends by the clock has not ended.
    pub is_timed: Cell<bool>,
    /// Connections, active and idle, that were opened.
    pub opened: Cell<usize>,
    /// Tasks that have not ended.
    pub tasks: Cell<usize>,
    /// Ends the measured part after so many right replies.
    pub count: Option<u64>,
    /// Handshakes under way, but for those of clients that come and go.
    pub shaking: Cell<usize>,
    /// Clients that come and go, at this moment.
    pub churning: Cell<usize>,
    /// Tells everybody that connections are closed now.
    pub closes: Notify,
    /// Tells the conductor that something changed which it may wait for.
    pub changed: Notify,
    /// Clients that think, with the time at which each asks again; all think for equally long, so they are in order.
    pub thinking: RefCell<VecDeque<(u64, Rc<Peer>)>>,
    /// Tells that somebody began to think.
    pub thought: Notify,
    /// When the round's time began.
    epoch: Instant,
    /// Picks scripts and clients.
    rng: RefCell<SmallRng>,
}

impl Round {
    /// A round whose time begins now.
    pub fn new(plan: Plan, pace: Pace, count: Option<u64>, seed: u64) -> Rc<Self> {
        Rc::new(Self {
            pace,
            tally: RefCell::new(Tally::of(&plan, pace == Pace::Open)),
            plan,
            phase: Cell::new(Phase::Connecting),
            peers: RefCell::default(),
            idle: RefCell::default(),
            is_timed: Cell::new(false),
            opened: Cell::new(0),
            tasks: Cell::new(0),
            count,
            shaking: Cell::new(0),
            churning: Cell::new(0),
            closes: Notify::new(),
            changed: Notify::new(),
            thinking: RefCell::default(),
            thought: Notify::new(),
            epoch: Instant::now(),
            rng: RefCell::new(SmallRng::seed_from_u64(seed)),
        })
    }

    /// Starts a task of this round, which is over when none is left.
    pub fn spawn(self: &Rc<Self>, work: impl Future<Output = ()> + 'static) {
        let task = self.counted(|round| &round.tasks);
        tokio_uring::spawn(async move {
            let _task = task;
            work.await;
        });
    }

    /// One more of these, until it is dropped.
    pub fn counted(self: &Rc<Self>, of: fn(&Self) -> &Cell<usize>) -> Counted {
        of(self).set(of(self).get() + 1);
        Counted { round: Rc::clone(self), of }
    }

    /// Nanoseconds since the round began.
    pub fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }

    /// When the measured part ended; 0 where it has not.
    pub fn ended_ns(&self) -> u64 {
        self.tally.borrow().ended_ns()
    }

    /// A number below `bound`.
    pub fn below(&self, bound: usize) -> usize {
        self.rng.borrow_mut().random_range(0..bound)
    }

    /// Begins a script of the mix, or remembers to, where much is unsent.
    pub fn begin(&self, client: &mut Client, due_ns: u64) {
        if !client.takes_more() {
            client.owed += 1;
            return;
        }
        let script = match self.plan.scripts.len() {
            1 => 0,
            _ => self.plan.pick(self.rng.borrow_mut().random_range(0..self.plan.weights)),
        };
        client.begin(&self.plan, script, due_ns);
    }

    /// Begins what was put off while much was unsent.
    pub fn resume(&self, client: &mut Client) {
        let owed = std::mem::take(&mut client.owed);
        if owed > 0 && self.phase.get() == Phase::Running {
            let now_ns = self.now_ns();
            (0..owed).for_each(|_| self.begin(client, now_ns));
        }
    }

    /// A connection is open. Idle ones have their round trip at once; others begin if the round has.
    pub fn add(&self, peer: &Rc<Peer>) {
        self.opened.set(self.opened.get() + 1);
        if peer.is_idle {
            self.idle.borrow_mut().push(Rc::clone(peer));
            peer.client.borrow_mut().begin(&self.plan, 0, self.now_ns());
        } else {
            self.peers.borrow_mut().push(Rc::clone(peer));
            if self.phase.get() == Phase::Running {
                self.start(peer);
            }
        }
    }

    /// A client begins, in a closed loop.
    pub fn start(&self, peer: &Peer) {
        if let Pace::Closed { in_flight, .. } = self.pace {
            let (mut client, now_ns) = (peer.client.borrow_mut(), self.now_ns());
            for _ in 0..in_flight {
                self.begin(&mut client, now_ns);
            }
            drop(client);
            peer.kick();
        }
    }

    /// A script of this client is over.
    pub fn free(&self, peer: &Rc<Peer>, client: &mut Client, now_ns: u64) {
        if peer.is_idle {
            return self.changed.notify_one();
        }
        match self.pace {
            _ if self.phase.get() != Phase::Running => self.changed.notify_one(),
            Pace::Closed { think_ns: 0, .. } => self.begin(client, now_ns),
            Pace::Closed { think_ns, .. } => {
                self.thinking.borrow_mut().push_back((now_ns + think_ns, Rc::clone(peer)));
                self.thought.notify_one();
            }
            Pace::Open => {}
        }
    }

    /// A request has its right reply.
    pub fn answered(&self, script: usize, due_ns: u64, now_ns: u64) {
        let mut tally = self.tally.borrow_mut();
        tally.answer(script, due_ns, now_ns);
        if self.count.is_some_and(|count| tally.answered >= count) && self.phase.get() == Phase::Running {
            tally.end(now_ns);
            self.phase.set(Phase::Ending);
            self.changed.notify_one();
        }
    }

    /// A request has failed.
    pub fn failed(&self, script: usize, fault: Fault) {
        self.tally.borrow_mut().fail(script, fault);
    }

    /// Something went wrong.
    pub fn fault(&self, fault: Fault) {
        self.tally.borrow_mut().fault(fault);
    }

    /// The server broke the protocol.
    pub fn violated(&self, Violation(how): Violation) -> Fault {
        self.said(Fault::Protocol, how);
        Fault::Protocol
    }

    /// A connection failed. What TLS says of it is kept.
    pub fn broken(&self, error: &io::Error) -> Fault {
        let fault = Fault::from(error);
        if matches!(fault, Fault::Certificate | Fault::Tls) {
            self.said(fault, &error.to_string());
        }
        fault
    }

    /// Comes when connections are to be closed.
    pub async fn closing(&self) {
        let closes = self.closes.notified();
        if self.phase.get() != Phase::Closing {
            closes.await;
        }
    }

    /// What the server said of a fault.
    pub fn said(&self, fault: Fault, text: &str) {
        self.tally.borrow_mut().said(fault, text);
    }

    /// Bytes came.
    pub fn received(&self, bytes: usize) {
        self.tally.borrow_mut().received(bytes);
    }

    /// Bytes went.
    pub fn sent(&self, bytes: usize) {
        self.tally.borrow_mut().sent(bytes);
    }

    /// A connection has ended whose client comes back. A 1012 is no fault of anybody's; any other end is, and costs what was under
    /// way.
    pub fn leaves(&self, peer: &Peer, fault: Fault) {
        let mut client = peer.client.borrow_mut();
        let before = client.in_flight();
        if fault == Fault::Closed(1012) {
            self.drained(&mut client);
        } else {
            self.fault(fault);
            client.lose(&mut |outcome| self.lost(outcome));
        }
        // They begin anew, as clients do whose requests have failed.
        if !peer.is_idle && self.pace != Pace::Open {
            client.owed += before - client.in_flight();
        }
    }

    /// Its client is back on a new connection.
    pub fn is_back(&self, peer: &Peer) {
        let mut client = peer.client.borrow_mut();
        let retried = client.reopen(&self.plan);
        self.resume(&mut client);
        drop(client);
        self.tally.borrow_mut().reconnected(retried);
    }

    /// A connection has ended for good. `fault`: unless we close it, that is one, and what was under way is lost.
    pub fn ended(&self, peer: &Rc<Peer>, fault: Option<Fault>) {
        let list = if peer.is_idle { &self.idle } else { &self.peers };
        let mut list = list.borrow_mut();
        if let Some(index) = list.iter().position(|other| Rc::ptr_eq(other, peer)) {
            list.swap_remove(index);
        }
        if self.phase.get() != Phase::Closing {
            if let Some(fault) = fault {
                self.fault(fault);
            }
            let mut client = peer.client.borrow_mut();
            if fault == Some(Fault::Closed(1012)) {
                self.drained(&mut client);
                (0..client.drop_unanswered()).for_each(|_| self.fault(Fault::Unanswered));
            }
            client.lose(&mut |outcome| self.lost(outcome));
        }
        self.changed.notify_one();
    }

    /// The server has closed its connection with 1012.
    fn drained(&self, client: &mut Client) {
        self.tally.borrow_mut().drained += 1;
        client.keep_unanswered(&mut |outcome| self.lost(outcome));
    }

    /// A request went with its connection.
    fn lost(&self, outcome: Outcome) {
        if let Outcome::Failed { script, fault } = outcome {
            self.failed(script, fault);
        }
    }

    /// Idle clients that are connected and had their round trip.
    pub fn idle_ready(&self) -> usize {
        self.idle.borrow().iter().filter(|peer| peer.has_answer.get()).count()
    }

    /// Connections, active and idle, that are open.
    pub fn open(&self) -> usize {
        self.peers.borrow().len() + self.idle.borrow().len()
    }

    /// Gives up requests that have waited since before this time.
    pub fn expire(&self, before_ns: u64) {
        let (peers, idle) = (self.peers.borrow().clone(), self.idle.borrow().clone());
        let now_ns = self.now_ns();
        for peer in peers.iter().chain(&idle) {
            let mut client = peer.client.borrow_mut();
            let mut freed = 0;
            client.expire(&self.plan, before_ns, &mut |outcome| match outcome {
                Outcome::Failed { script, fault } => self.failed(script, fault),
                _ => freed += 1,
            });
            for _ in 0..freed {
                self.free(peer, &mut client, now_ns);
            }
            drop(client);
            if freed > 0 {
                peer.kick();
            }
        }
    }
}

/// Requests under way, of so many clients.
pub fn in_flight(peers: &[Rc<Peer>]) -> usize {
    peers.iter().map(|peer| peer.client.borrow().in_flight()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Kind;
    use crate::plan::tests::options;

    #[test]
    fn what_cannot_be_sent_yet_begins_when_the_server_reads_again() {
        let pace = Pace::Closed { in_flight: 1_000, think_ns: 0 };
        let round = Round::new(Plan::new(&options(Kind::Stateless)), pace, None, 1);
        round.phase.set(Phase::Running);
        let mut client = Client::new(0);
        (0..1_000).for_each(|_| round.begin(&mut client, 0));
        let (begun, owed) = (client.in_flight(), client.owed);
        assert!(begun < 200 && begun + owed == 1_000, "{begun} {owed}");
        client.take_unsent(&round.plan, Vec::new());
        round.resume(&mut client);
        assert!(client.in_flight() > begun && client.in_flight() + client.owed == 1_000);
    }
}
