//! A core's share of what the process listens on: taking connections, and closing the share without losing one.
//!
//! The order of a close matters: a listener that is closed with an accept in flight goes on listening, so that is cancelled first;
//! what still completes is taken, and what the kernel has queued. Where another process has the same listeners and goes on with them,
//! what is queued is left to it.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::{EventLoop, Host, ListeningSocket};
use crate::clients::output::Severity;
use crate::counters::Limit;
use crate::lifecycle::{Listener, Orders, Phase};
use crate::ring::{Completion, Kind, Op, Ring, Socket};
use crate::websocket::proxy_header::Opening;

/// The pause after the process has run out of descriptors or places, unless a connection ends before, ms.
const PAUSE_MS: u64 = 100;

/// Where the share stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Closed,
    Open,
    /// It is to be closed; an accept may be under way.
    Closing,
    /// More is established than there is room for: the rest is taken as clients leave.
    Crowded,
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

/// A listening socket.
#[derive(Debug)]
struct Listening {
    of: ListeningSocket,
    under_way: Accept,
}

/// The share: a socket for each listener, or several where there were more cores before.
#[derive(Debug)]
pub(super) struct Accepting {
    listeners: Vec<Listening>,
    stage: Stage,
    /// Nothing is taken until then, ms, unless there is room before.
    until_ms: u64,
    /// A connection has ended since that was said.
    has_room: bool,
    /// Something has come of it, or may have: to count the connections of all cores costs a cache line of each.
    is_due: bool,
    /// It is closed, or crowded, and nobody has asked yet.
    has_news: bool,
    /// Connections that are accepted and wait for others to have shaken hands.
    queue: VecDeque<(Socket, Opening)>,
}

impl Accepting {
    /// Takes nobody yet.
    pub fn new() -> Self {
        Self {
            listeners: Vec::new(),
            stage: Stage::Closed,
            until_ms: 0,
            has_room: false,
            is_due: false,
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

    /// Connections are taken from `sockets`, too.
    fn open(&mut self, sockets: Vec<ListeningSocket>) {
        self.listeners.extend(sockets.into_iter().map(|of| Listening { of, under_way: Accept::None }));
        (self.stage, self.is_due) = (Stage::Open, true);
    }

    /// The share is to be closed.
    pub fn close(&mut self) {
        (self.stage, self.is_due) = (Stage::Closing, true);
    }

    fn has_under_way(&self, accept: impl Fn(Accept) -> bool) -> bool {
        self.listeners.iter().any(|listening| accept(listening.under_way))
    }

    fn pause(&mut self, now_ms: u64) {
        (self.until_ms, self.has_room) = (now_ms + PAUSE_MS, false);
    }

    /// Whether it is time to take somebody.
    fn is_time(&self, now_ms: u64) -> bool {
        self.has_room || now_ms >= self.until_ms
    }
}

/// The name of the accept of a listener. No two have had the same: none is under way when others are opened.
fn accept_of(listener: usize) -> Op {
    Op::new(Kind::Accept, listener as u32, 0)
}

impl<R: Ring, H: Host> EventLoop<R, H> {
    /// Takes connections from what the process listens on for this core.
    pub(super) fn open_listeners(&mut self) {
        let sockets = self.host.listeners();
        self.clients.context.core().listener_closed.store(false, SeqCst);
        self.accepting.open(sockets);
    }

    /// A connection has come, or an accept has ended.
    pub(super) fn accepted(&mut self, completion: &Completion) {
        let listening = self.accepting.listeners.get_mut(completion.op.place as usize);
        let listening = listening.expect("no listener is given up with an accept under way");
        if !completion.more {
            listening.under_way = Accept::None;
        }
        let opening = listening.of.opening;
        self.accepting.is_due = true;
        match completion.result {
            Ok(descriptor) => self.accepting.queue.push_back((Socket(descriptor.cast_signed()), opening)),
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
        let is_under_way = self.accepting.has_under_way(|accept| accept != Accept::None);
        match self.accepting.stage {
            Stage::Open => self.take_queued(now_ms),
            Stage::Closing if is_under_way => return self.cancel_accepts(|_| true),
            Stage::Closing => self.empty(now_ms),
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
            if let Some((socket, opening)) = self.accepting.queue.pop_front() {
                self.serve(socket, opening, false);
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
        let is_multishot = room > self.options.backlog.saturating_mul(self.accepting.listeners.len() as u64);
        if !(is_multishot && self.accepting.queue.is_empty()) {
            self.cancel_accepts(|accept| accept == Accept::Multishot);
        }
        if !self.accepting.has_under_way(|accept| accept == Accept::None)
            || !self.accepting.queue.is_empty()
            || !self.accepting.is_time(now_ms)
            || !self.shakes_more_hands(now_ms)
        {
            return;
        }
        // What is kept aside for links, logs and the admin page is not for a rush of clients without a place.
        if room == 0 {
            return self.accepting.pause(now_ms);
        }
        let under_way = self.accepting.listeners.iter().filter(|listening| listening.under_way != Accept::None).count();
        let most = if is_multishot { usize::MAX } else { (room as usize).saturating_sub(under_way) };
        // Where there is not room for all, each is the first in its turn. An accept under way is known by its place.
        if under_way == 0 && most < self.accepting.listeners.len() {
            self.accepting.listeners.rotate_left(1);
        }
        let idle = self.accepting.listeners.iter_mut().enumerate();
        for (at, listening) in idle.filter(|(_, listening)| listening.under_way == Accept::None).take(most) {
            let goes_on = is_multishot && !listening.of.is_shared;
            listening.under_way = if goes_on { Accept::Multishot } else { Accept::One };
            self.ring.accept(accept_of(at), listening.of.socket, goes_on);
        }
    }

    fn cancel_accepts(&mut self, which: impl Fn(Accept) -> bool) {
        for (at, listening) in self.accepting.listeners.iter_mut().enumerate() {
            let is_under_way = !matches!(listening.under_way, Accept::None | Accept::Cancelled);
            if is_under_way && which(listening.under_way) {
                listening.under_way = Accept::Cancelled;
                self.ring.cancel(accept_of(at));
            }
        }
    }

    /// Takes all that are established, and says so when that was not all.
    fn empty(&mut self, now_ms: u64) {
        let orders = self.host.orders();
        // A stop lets nobody go for others to come: there is no use in waiting for room. Everybody has been told when it overtakes
        // a drain.
        let may_wait = orders.phase == Phase::Draining;
        let again = self.accepting.stage == Stage::Crowded;
        // By a drain also in the room that is for refusals otherwise.
        for (socket, opening) in std::mem::take(&mut self.accepting.queue) {
            self.serve(socket, opening, may_wait);
        }
        let listeners = std::mem::take(&mut self.accepting.listeners);
        self.accepting.listeners =
            listeners.into_iter().filter(|listening| !self.empty_one(listening.of, &orders, again)).collect();
        let is_over = self.accepting.listeners.is_empty();
        self.accepting.has_news |= is_over || !again;
        if is_over {
            self.accepting.stage = Stage::Closed;
            self.clients.context.core().listener_closed.store(true, SeqCst);
        } else {
            self.accepting.pause(now_ms);
            if !again {
                self.say_crowded();
            }
            self.accepting.stage = Stage::Crowded;
        }
    }

    /// Takes all that are queued on a listener, as far as there is room, and closes it where that was all.
    fn empty_one(&mut self, listener: ListeningSocket, orders: &Orders, again: bool) -> bool {
        let may_wait = orders.phase == Phase::Draining;
        if !orders.left.contains(listener.number) {
            let most = if again && !may_wait { 0 } else { self.room() };
            let emptied = self.ring.empty(listener.socket, most, !may_wait);
            for socket in emptied.taken {
                self.serve(socket, listener.opening, may_wait);
            }
            if let Some(errno) = emptied.error {
                let text = format!("host: connections that were established may be lost: {}", errno.text());
                self.host.log(Severity::Warn, text);
            }
            if !emptied.is_over {
                return false;
            }
        }
        self.ring.close(listener.socket);
        true
    }

    /// More is established than there is room for: nothing is to come on top of it, and whoever closes the share lets clients go,
    /// which makes the room.
    fn say_crowded(&mut self) {
        for listening in &self.accepting.listeners {
            if let Err(errno) = self.ring.refuse_new(listening.of.socket) {
                let text = format!(
                    "host: new connections come on until all that are established have been taken: {}",
                    errno.text()
                );
                self.host.log(Severity::Warn, text);
            }
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
    fn serve(&mut self, socket: Socket, opening: Opening, anyway: bool) {
        // Else it has gone.
        let Ok(peer) = self.ring.peer(socket) else { return self.ring.close(socket) };
        let peer = peer.to_canonical();
        // It has nothing to say that would be believed: it gets no place to say it.
        if !self.clients.admits(peer, opening) {
            return self.ring.close(socket);
        }
        let is_full = !anyway && self.connections_of_all() >= self.options.clients_max;
        if is_full {
            self.clients.context.hit(Limit::clients_max);
        }
        let slot = self.clients.accept(peer, opening);
        self.connections.open(slot, socket);
        if is_full {
            self.clients.no_place(slot);
        }
        self.held.listen(slot);
    }
}
