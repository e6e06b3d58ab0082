//! A core's share of the listening port: taking connections, and closing the share without losing one.
//!
//! The order of a close matters: a listener that is closed with an accept in flight goes on listening, so that is cancelled first;
//! what still completes is taken, and what the kernel has queued.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::{EventLoop, Host};
use crate::clients::output::Severity;
use crate::counters::Limit;
use crate::lifecycle::{Listener, Phase};
use crate::ring::{Completion, Kind, Op, Ring, Socket};

/// The pause after the process has run out of descriptors or places, unless a connection ends before, ms.
const PAUSE_MS: u64 = 100;

/// Where the share stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Open,
    /// It is to be closed; an accept may be under way.
    Closing,
    /// More is established than there is room for: the rest is taken as clients leave.
    Crowded,
    Closed,
}

/// The accept under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accept {
    None,
    One,
    /// One that goes on.
    Multishot,
    Cancelled,
}

/// The share.
#[derive(Debug)]
pub(super) struct Accepting {
    listener: Socket,
    stage: Stage,
    under_way: Accept,
    /// Nothing is taken until then, ms, unless there is room before.
    until_ms: u64,
    /// A connection has ended since that was said.
    has_room: bool,
    /// Something has come of it, or may have: to count the connections of all cores costs a cache line of each.
    is_due: bool,
    /// It is closed, or crowded, and nobody has asked yet.
    has_news: bool,
    /// Connections that are accepted and wait for others to have shaken hands.
    queue: VecDeque<Socket>,
}

impl Accepting {
    /// Takes what `listener` has.
    pub fn new(listener: Socket) -> Self {
        Self {
            listener,
            stage: Stage::Open,
            under_way: Accept::None,
            until_ms: 0,
            has_room: false,
            is_due: true,
            has_news: false,
            queue: VecDeque::new(),
        }
    }

    /// A connection has ended.
    pub fn somebody_left(&mut self) {
        (self.has_room, self.is_due) = (true, true);
    }

    /// Time has passed.
    pub fn tick(&mut self) {
        self.is_due = true;
    }

    /// Whether it has been closed, or found to be crowded, since that was asked.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// How it is; `None` while it is being closed.
    pub fn state(&self) -> Option<Listener> {
        match self.stage {
            Stage::Open => Some(Listener::Open),
            Stage::Closing => None,
            Stage::Crowded => Some(Listener::Crowded),
            Stage::Closed => Some(Listener::Closed),
        }
    }

    /// The share is to be closed.
    pub fn close(&mut self) {
        (self.stage, self.is_due) = (Stage::Closing, true);
    }

    fn pause(&mut self, now_ms: u64) {
        (self.until_ms, self.has_room) = (now_ms + PAUSE_MS, false);
    }

    /// Whether it is time to take somebody.
    fn is_time(&self, now_ms: u64) -> bool {
        self.has_room || now_ms >= self.until_ms
    }
}

/// The accept's name.
const ACCEPT: Op = Op { kind: Kind::Accept, place: 0, generation: 0 };

impl<R: Ring, H: Host> EventLoop<R, H> {
    /// A connection has come, or an accept has ended.
    pub(super) fn accepted(&mut self, completion: &Completion) {
        if !completion.more {
            self.accepting.under_way = Accept::None;
        }
        self.accepting.is_due = true;
        match completion.result {
            Ok(descriptor) => self.accepting.queue.push_back(Socket(descriptor.cast_signed())),
            Err(errno) if errno.is_exhausted() => {
                self.accepting.pause(self.now_ms());
                self.host.exhausted(self.now_ms(), errno);
            }
            // The peer was gone before it was accepted, or the accept was cancelled.
            Err(_) => {}
        }
    }

    /// Takes those who have come as far as there is room, and goes on accepting where there is more.
    pub(super) fn accept(&mut self) {
        if !std::mem::take(&mut self.accepting.is_due) {
            return;
        }
        let now_ms = self.now_ms();
        match self.accepting.stage {
            Stage::Open => self.take_queued(now_ms),
            Stage::Closing if self.accepting.under_way == Accept::None => self.empty(now_ms),
            Stage::Closing => return self.cancel_accept(),
            Stage::Crowded if self.accepting.is_time(now_ms) => self.empty(now_ms),
            Stage::Crowded | Stage::Closed => {}
        }
        if self.accepting.stage == Stage::Open {
            self.accept_more(now_ms);
        }
        self.carry_out();
    }

    fn take_queued(&mut self, now_ms: u64) {
        while !self.accepting.queue.is_empty() && self.shakes_more_hands(now_ms) {
            if let Some(socket) = self.accepting.queue.pop_front() {
                self.serve(socket, false);
            }
        }
    }

    /// Whether another handshake may begin; if not, later.
    fn shakes_more_hands(&mut self, now_ms: u64) -> bool {
        if self.clients.context.counts().handshaking.load(Relaxed) < self.options.handshakes_max {
            return true;
        }
        if self.accepting.is_time(now_ms) {
            self.clients.context.hit(Limit::handshakes_max);
            self.accepting.pause(now_ms);
        }
        false
    }

    /// Accepts, where there is room for another: one after the other where there is room for all that the kernel may have queued.
    fn accept_more(&mut self, now_ms: u64) {
        let room = self.room();
        let is_multishot = room > self.options.backlog;
        if self.accepting.under_way != Accept::None {
            let goes_on = self.accepting.under_way == Accept::Multishot;
            if goes_on && !(is_multishot && self.accepting.queue.is_empty()) {
                self.cancel_accept();
            }
            return;
        }
        if !self.accepting.queue.is_empty() || !self.accepting.is_time(now_ms) || !self.shakes_more_hands(now_ms) {
            return;
        }
        // What is kept aside for links, logs and the admin page is not for a rush of clients without a place.
        if room == 0 {
            return self.accepting.pause(now_ms);
        }
        let listener = self.accepting.listener;
        self.accepting.under_way = if is_multishot { Accept::Multishot } else { Accept::One };
        self.ring.accept(ACCEPT, listener, is_multishot);
    }

    fn cancel_accept(&mut self) {
        if std::mem::replace(&mut self.accepting.under_way, Accept::Cancelled) != Accept::Cancelled {
            self.ring.cancel(ACCEPT);
        }
    }

    /// Takes all that are established, and says so when that was not all.
    fn empty(&mut self, now_ms: u64) {
        // A stop lets nobody go for others to come: there is no use in waiting for room. Everybody has been told when it overtakes
        // a drain.
        let may_wait = self.host.orders().phase == Phase::Draining;
        let again = self.accepting.stage == Stage::Crowded;
        let room = self.room();
        // By a drain also in the room that is for refusals otherwise.
        for socket in std::mem::take(&mut self.accepting.queue) {
            self.serve(socket, may_wait);
        }
        let most = if again && !may_wait { 0 } else { room };
        let emptied = self.ring.empty(self.accepting.listener, most, !may_wait);
        for socket in emptied.taken {
            self.serve(socket, may_wait);
        }
        if let Some(errno) = emptied.error {
            let text = format!("host: connections that were established may be lost: {}", errno.text());
            self.host.log(Severity::Warn, text);
        }
        self.accepting.has_news |= emptied.is_over || !again;
        if emptied.is_over {
            self.accepting.stage = Stage::Closed;
            self.ring.close(self.accepting.listener);
            self.clients.context.core().listener_closed.store(true, SeqCst);
        } else {
            self.accepting.pause(now_ms);
            if !again {
                self.say_crowded();
            }
            self.accepting.stage = Stage::Crowded;
        }
    }

    /// More is established than there is room for: nothing is to come on top of it, and whoever closes the share lets clients go,
    /// which makes the room.
    fn say_crowded(&mut self) {
        if let Err(errno) = self.ring.refuse_new(self.accepting.listener) {
            let text = format!(
                "host: new connections come on until all that are established have been taken: {}",
                errno.text()
            );
            self.host.log(Severity::Warn, text);
        }
        let core = self.clients.context.core_index();
        let text = format!(
            "drain: core {core}: more connections are established than there are descriptors for; the rest is taken as clients \
             leave"
        );
        self.host.log(Severity::Info, text);
    }

    /// Connections that this core may take at once, with all cores doing the same.
    fn room(&self) -> u64 {
        let most = self.options.clients_max.saturating_add(self.options.refusals_max);
        let cores = self.clients.context.cores();
        most.saturating_sub(self.connections_of_all()).div_ceil(cores.len() as u64)
    }

    /// Those of the whole process. Whatever its stage, a connection has a descriptor.
    fn connections_of_all(&self) -> u64 {
        let cores = self.clients.context.cores();
        let counted: u64 = cores.iter().map(|core| core.counts.connections.load(Relaxed)).sum();
        counted + self.accepting.queue.len() as u64
    }

    /// Begins with a connection: refuses it where there is no place, unless it is to be served all the same.
    fn serve(&mut self, socket: Socket, anyway: bool) {
        let peer = match self.ring.peer(socket) {
            Ok(IpAddr::V6(v6)) => v6.to_canonical(),
            Ok(v4) => v4,
            // It has gone.
            Err(_) => return self.ring.close(socket),
        };
        let is_full = !anyway && self.connections_of_all() >= self.options.clients_max;
        if is_full {
            self.clients.context.hit(Limit::clients_max);
        }
        let slot = self.clients.accept(peer);
        self.connections.open(slot, socket);
        if is_full {
            self.clients.no_place(slot);
        }
        self.held.listen(slot);
    }
}
