//! One core: completions in, decisions, submissions out, one entry into the kernel a turn.
//!
//! Its ring is a parameter, and so is what else it needs of the world ([`Host`]): the gateway's ring enters the kernel, the
//! simulator's answers as no kernel ever has. What is simulated is what serves.
//!
//! - `connections`: the sockets of the clients, and what is under way on them
//! - `receiving`: bytes of clients, those of heavy ones in turns; `held`: what has come of those who may not be read from
//! - `sending`: bytes for clients
//! - `leaving`: the end of a client's socket
//! - `accepting`: the listener share
//! - `wires`: the sockets of the links to Redis
//! - `inquiries`: what other threads ask of the clients
//! - `judging`: clients that are to be looked at before they are judged
//! - `tick`: time, phases, the end
//! - `waits`: how it waits for its next turn

mod accepting;
mod connections;
mod held;
mod inquiries;
mod judging;
mod leaving;
mod receiving;
mod sending;
mod tick;
mod waits;
mod wires;

use std::collections::VecDeque;
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use evergate_prefetch::prefetch;

use crate::clients::context::Context;
use crate::clients::limits::Limits;
use crate::clients::output::{BusNews, Output, Severity, SlotIndex};
use crate::clients::table::Clients;
use crate::counters;
use crate::effects::{Effector, carry_out};
use crate::lifecycle::{Lifecycle, LifecycleOptions, Orders};
use crate::redis::dial::Dial;
use crate::redis::links::{LinkOptions, Links};
use crate::redis::outbox::Push;
use crate::ring::{Completion, Errno, Kind, Ring, Socket, Wait};
use crate::websocket::handshake;
use crate::websocket::proxy_header::Opening;
use accepting::Accepting;
use connections::Connections;
use held::Held;
pub use inquiries::{Answer, Inquiry};
use judging::Judging;
use leaving::Leaving;
use sending::Sending;
use tick::Ticks;
use waits::Waits;
use wires::Wires;

/// A socket that a core takes connections from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListeningSocket {
    /// Its descriptor, the core's own.
    pub socket: Socket,
    /// Which of the process' listeners it belongs to, below 64.
    pub number: u8,
    /// What its connections begin with.
    pub opening: Opening,
    /// Other cores take from it, too. The kernel would give all to one of them, as long as that asks for one after the other.
    pub is_shared: bool,
}

/// What a core needs of the world besides its ring. Nothing here may wait.
pub trait Host {
    /// The time since the process began: at least a millisecond, and monotonic.
    fn now(&mut self) -> Duration;
    /// What the process wants of its cores.
    fn orders(&mut self) -> Orders;
    /// The listening sockets that this core is to take connections from and was not given before. They are its own.
    fn listeners(&mut self) -> Vec<ListeningSocket>;
    /// The limits, where they have changed.
    fn limits(&mut self) -> Option<Rc<Limits>>;
    /// What another thread asks of the core's clients, if any does. [`Self::answer`] follows before the next one.
    fn inquiry(&mut self) -> Option<Inquiry>;
    /// The answer to it.
    fn answer(&mut self, answer: Answer);
    /// How the Redis of a domain is reached, at the `attempt`th attempt to connect; `None` where that is not known.
    fn dial(&mut self, domain: usize, attempt: u32) -> Option<Dial>;
    /// Something has become of a link to the bus: the log hears of it once for all cores.
    fn bus(&mut self, news: BusNews);
    /// Whether the process is ready, and if not, why.
    fn readiness(&mut self, now_ms: u64) -> Result<String, String>;
    /// A line for the log.
    fn log(&mut self, level: Severity, line: String);
    /// There is no descriptor for a connection.
    fn exhausted(&mut self, now_ms: u64, errno: Errno);
    /// Lines for the activity log, each with its end of line.
    fn activity(&mut self, now_ms: u64, lines: &str);
    /// They have waited long enough for others.
    fn flush_activity(&mut self);
}

/// What a core is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections of the process, those that are being refused not among them.
    pub clients_max: u64,
    /// Connections beyond those.
    pub refusals_max: u64,
    /// Handshakes under way on this core.
    pub handshakes_max: u64,
    /// Connections that the kernel queues for a listener.
    pub backlog: u64,
    /// The longest time that it may look for what comes next.
    pub look_max: Duration,
    /// What the links must know.
    pub link: LinkOptions,
    /// After so long a link is given up whose peer acknowledges nothing.
    pub bus_dead: Duration,
    /// Large buffers of the ring's, for clients that send much.
    pub heavy_buffers: u32,
    /// How it ends.
    pub life: LifecycleOptions,
}

/// One core.
pub struct EventLoop<R, H> {
    ring: R,
    host: H,
    options: Options,
    clients: Clients,
    links: Links,
    life: Lifecycle,
    connections: Connections,
    held: Held,
    sending: Sending,
    leaving: Leaving,
    judging: Judging,
    accepting: Accepting,
    wires: Wires,
    ticks: Ticks,
    waits: Waits,
    /// Completions of this turn that have not been handled.
    batch: VecDeque<Completion>,
    /// Memory for the next decisions.
    spare_output: Output,
    /// When this turn began.
    began: Duration,
}

/// Completions that are asked for at a time.
const BATCH: usize = if cfg!(feature = "simulator") { 4 } else { 32 };

/// Completions of one entry, and from then on there may be more that the kernel has not made (Linux 6.18 makes 20 unless more are
/// asked for).
const FULL_ENTRY: usize = if cfg!(feature = "simulator") { 4 } else { 20 };

/// Completions with which a turn is large enough.
const TURN_COMPLETIONS: usize = if cfg!(feature = "simulator") { 12 } else { 96 };

/// The time after which no more completions are handled in a turn; the ring keeps the others for the next.
const TURN: Duration = Duration::from_millis(2);

impl<R: Ring, H: Host> EventLoop<R, H> {
    /// A core at the beginning of its life.
    pub fn new(options: Options, context: Context, ring: R, mut host: H) -> Self {
        let began = host.now();
        let mut clients = Clients::new(context);
        clients.context.at_us(in_us(began));
        let mut links = Links::new(options.link.clone(), Rc::clone(clients.context.names()));
        links.begin(clients.context.now_ms());
        let mut own = Self {
            ring,
            host,
            clients,
            links,
            life: Lifecycle::new(options.life),
            connections: Connections::default(),
            held: Held::default(),
            sending: Sending::default(),
            leaving: Leaving::default(),
            judging: Judging::default(),
            accepting: Accepting::new(),
            wires: Wires::default(),
            ticks: Ticks::new(began),
            waits: Waits::new(options.look_max),
            batch: VecDeque::with_capacity(BATCH),
            spare_output: Output::default(),
            began,
            options,
        };
        own.end_turn();
        own
    }

    /// Serves until the core has ended. `Err` is a defect of the ring.
    pub fn run(&mut self) -> Result<(), Errno> {
        while !self.has_ended() {
            self.turn()?;
        }
        Ok(())
    }

    /// Whether the core has ended: nothing is left to be done.
    pub fn has_ended(&self) -> bool {
        self.ticks.has_ended()
    }

    /// The core's clients.
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// What the core was given to reach the kernel with.
    pub fn ring(&mut self) -> &mut R {
        &mut self.ring
    }

    /// Waits for what comes next, and does what follows from it.
    pub fn turn(&mut self) -> Result<(), Errno> {
        let next = self.wait()?;
        self.begin_turn();
        self.shut_down();
        let (messages, handled) = self.complete_all(next)?;
        self.carry_out();
        self.take_turns(handled);
        self.tick();
        self.end_turn();
        self.waits.end_turn(messages, self.host.now());
        Ok(())
    }

    /// Enters the kernel; the first completion.
    fn wait(&mut self) -> Result<Option<Completion>, Errno> {
        let now = self.host.now();
        self.clients.context.core().worked(now.saturating_sub(self.began));
        let most = if self.has_more() { Duration::ZERO } else { self.until_next(now) };
        let pending = self.clients.context.counts().pending.load(Relaxed);
        // Who is sent a long reply takes what it takes when it does: nobody waits for the core.
        let few_max = if self.sending.is_under_way() { 0 } else { waits::FEW_PENDING };
        let (wait, look) = self.waits.next(pending, few_max, most);
        if let Wait::Something(most) = wait {
            return self.sleep(now, most);
        }
        self.enter(wait)?;
        let mut next = self.ring.next();
        if look.is_zero() || next.is_some() {
            return Ok(next);
        }
        let looked = loop {
            let looked = self.host.now().saturating_sub(now);
            if next.is_some() || looked >= look {
                break looked;
            }
            self.enter(Wait::No)?;
            next = self.ring.next();
        };
        self.waits.looked(looked);
        counters::add(&self.clients.context.counts().looked_us, looked.as_micros() as u64);
        if next.is_none() {
            next = self.sleep(now + looked, most.saturating_sub(looked))?;
        }
        Ok(next)
    }

    /// Sleeps until something has completed, from `now` on for `most`.
    fn sleep(&mut self, now: Duration, most: Duration) -> Result<Option<Completion>, Errno> {
        self.enter(Wait::Something(most))?;
        let next = self.ring.next();
        // Earlier than that a signal was heard, or nothing was to be waited for.
        if next.is_none()
            && let Some(late) = self.host.now().checked_sub(now + most)
        {
            self.waits.woke(most, late);
        }
        Ok(next)
    }

    fn enter(&mut self, wait: Wait) -> Result<(), Errno> {
        counters::add(&self.clients.context.counts().entries, 1);
        self.ring.enter(wait)
    }

    /// Whether there is something to do without waiting.
    fn has_more(&self) -> bool {
        !self.batch.is_empty()
            || self.held.has_more()
            || self.sending.has_more()
            || self.leaving.has_more()
            || self.judging.has_more()
            || self.wires.has_more()
            || self.ticks.is_unfinished()
    }

    /// How long nothing is due.
    fn until_next(&self, now: Duration) -> Duration {
        let most = self.ticks.until_next(now);
        if self.wires.waits_for_room() { most.min(wires::FULL_PAUSE) } else { most }
    }

    fn begin_turn(&mut self) {
        self.began = self.host.now();
        self.clients.context.at_us(in_us(self.began));
        self.clients.context.core().turns(self.clients.context.now_ms());
        self.held.begin_turn();
        self.wires.begin_turn();
        self.sending.begin_turn();
    }

    /// Does what the completions call for, as far as the turn has time; how many messages they may have brought, and how many they
    /// were.
    fn complete_all(&mut self, mut next: Option<Completion>) -> Result<(usize, usize), Errno> {
        let (mut messages, mut handled, mut entered) = (0, 0, 0);
        loop {
            // Some at a time, so that the memory of each is asked for before it is needed: among thousands of clients it is cold.
            while self.batch.len() < BATCH
                && let Some(completion) = next.take().or_else(|| self.ring.next())
            {
                if matches!(completion.op.kind, Kind::Receive | Kind::Send) {
                    self.connections.prefetch(completion.op.place);
                    self.clients.prefetch(completion.op.place);
                }
                self.batch.push_back(completion);
            }
            if self.batch.is_empty() {
                // The kernel makes so many of what is ready, and there may be more: what a turn costs is worth it.
                if handled - entered < FULL_ENTRY || handled >= TURN_COMPLETIONS {
                    break;
                }
                entered = handled;
                self.enter(Wait::No)?;
                next = self.ring.next();
                if next.is_none() {
                    break;
                }
                continue;
            }
            let mut looks = true;
            while let Some(completion) = self.batch.pop_front() {
                // That a send is over is no work that has come.
                handled += usize::from(!matches!(completion.op.kind, Kind::Send | Kind::LinkSend));
                messages += self.complete(completion);
                looks = self.held.looks_at_time();
                if looks {
                    break;
                }
            }
            if (looks || self.batch.is_empty()) && self.host.now().saturating_sub(self.began) >= TURN {
                break;
            }
        }
        Ok((messages, handled))
    }

    /// Does what a completion calls for; how many messages it may have brought.
    fn complete(&mut self, completion: Completion) -> usize {
        match completion.op.kind {
            Kind::Receive => {
                self.waits.heard(self.began);
                self.received(completion);
                return 1;
            }
            Kind::Send => self.sent(completion),
            Kind::WatchEnd => self.watched(completion.op, &completion),
            Kind::Accept => self.accepted(&completion),
            Kind::LinkConnect => self.link_connected(&completion),
            Kind::LinkSend => self.link_sent(completion),
            Kind::LinkReceive => {
                self.waits.heard(self.began);
                return self.link_received(completion);
            }
            Kind::Wake => self.ticks.wake(),
        }
        0
    }

    /// What each turn ends with: whoever may be read from is, what was decided is submitted.
    fn end_turn(&mut self) {
        self.judge();
        self.send_more();
        self.leave();
        self.accept();
        self.live_on();
        self.settle_links();
        self.receive_again();
    }

    /// Does what was decided.
    fn carry_out(&mut self) {
        if !self.clients.context.output().is_empty() {
            let spare = std::mem::take(&mut self.spare_output);
            self.spare_output = carry_out(self, spare);
        }
    }

    /// Lets the clients decide, and does what they decided.
    fn decide(&mut self, decide: impl FnOnce(&mut Clients)) {
        decide(&mut self.clients);
        self.carry_out();
    }

    fn now_ms(&self) -> u64 {
        self.clients.context.now_ms()
    }

    /// Bytes that stand in no client's account.
    fn count_bytes(&mut self) {
        let bytes = self.links.bytes() + self.leaving.bytes();
        self.clients.context.loop_holds(bytes);
    }
}

impl<R: Ring, H: Host> Effector for EventLoop<R, H> {
    fn clients(&mut self) -> &mut Clients {
        &mut self.clients
    }

    fn begin(&mut self, decided: &Output) {
        // Among thousands of clients each connection is cold.
        if decided.send.len() > 1 {
            for &slot in &decided.send {
                self.connections.get(slot).inspect(|connection| prefetch(*connection));
            }
        }
    }

    fn activity(&mut self, lines: &str) {
        self.host.activity(self.clients.context.now_ms(), lines);
    }

    fn bus(&mut self, news: BusNews) {
        self.host.bus(news);
    }

    fn log(&mut self, level: Severity, line: String) {
        self.host.log(level, line);
    }

    fn push(&mut self, domain: usize, push: Push) {
        self.links.push(domain, push, self.clients.context.now_ms());
    }

    fn pushed(&mut self) {
        self.count_bytes();
    }

    fn probe(&mut self, slot: SlotIndex, head: bool) {
        let (status, why) = match self.host.readiness(self.clients.context.now_ms()) {
            Ok(why) => (200, why),
            Err(why) => (503, why),
        };
        self.clients.answer(slot, &handshake::response(status, &why, head));
    }

    fn send(&mut self, slot: SlotIndex) {
        self.send_to(slot);
    }

    fn half_close(&mut self, slot: SlotIndex) {
        if let Some(connection) = self.connections.get(slot) {
            self.ring.shutdown(connection.socket, Shutdown::Write);
        }
    }

    fn look(&mut self, slot: SlotIndex) {
        self.judging.ask(slot);
    }

    fn resume(&mut self, slot: SlotIndex) {
        self.resume_receiving(slot);
    }

    fn hang_up(&mut self, slot: SlotIndex) {
        self.begin_leaving(slot);
    }
}

/// Microseconds since the process began.
fn in_us(now: Duration) -> u64 {
    now.as_micros() as u64
}

/// Milliseconds since the process began; never 0, which says "never".
fn in_ms(now: Duration) -> u64 {
    (now.as_millis() as u64).max(1)
}
