//! The link that pops, while it is up: what it brings, and what a broken one means.

use smallvec::SmallVec;

use super::connection::Half;
use super::domain::Domain;
use super::links::{LinkId, Links};
use super::served::Served;
use super::trouble::Trouble;
use crate::clients::from_bus::TOGETHER;
use crate::clients::output::{BusNews, Severity};
use crate::counters::{self, LinkState};

/// How long a link whose pops were refused before must go without another refusal to count as up, ms.
const REFUSAL_WAIT_MS: u64 = 500;
/// A reply of so many bytes is not copied: it is larger by far than what else may stand in the buffer that received it.
const LARGE_BYTES: usize = if cfg!(feature = "simulator") { 360 } else { 128 * 1024 };

/// What was handed on.
enum Delivered {
    /// One message, alone; there may be more behind it.
    Large,
    /// So many; fewer than are handled together are all that were there.
    These(usize),
}

impl Links {
    /// Hands on replies that are whole, about as many as are handled well together: how many. With none left it is 0.
    pub fn deliver(&mut self, clients: &mut impl Served) -> usize {
        let mut delivered = 0;
        loop {
            match self.deliver_together(clients) {
                Delivered::Large => delivered += 1,
                Delivered::These(count) => return delivered + count,
            }
        }
    }

    fn deliver_together(&mut self, clients: &mut impl Served) -> Delivered {
        let Domain { pop: Some(pop), inbox, pops_refused_ms, .. } = &mut self.domains[0] else {
            return Delivered::These(0);
        };
        if !pop.is_up() {
            return Delivered::These(0);
        }
        let generation = pop.generation;
        let mut messages = SmallVec::<[&[u8]; TOGETHER]>::new();
        let mut large = None;
        let read = pop.input.each(|token| {
            let message = inbox.token(token)?;
            large = message.map(<[u8]>::len).filter(|bytes| messages.is_empty() && *bytes >= LARGE_BYTES);
            messages.extend(message);
            if let Some(popped) = inbox.ended() {
                clients.context().core().histograms.bus_pop.count(popped as u64);
            }
            Ok::<_, Trouble>(large.is_some() || messages.len() == TOGETHER)
        });
        let delivered = messages.len();
        if let (Some(since_ms), 1..) = (pops_refused_ms, delivered) {
            // Nothing is refused any more, as the next tick says.
            *since_ms = 0;
        }
        if let Some(bytes) = large {
            drop(messages);
            // The buffer that received it goes on to the client.
            let (buffer, at) = pop.input.take_last(bytes);
            clients.take_large_reply(buffer, at);
            if clients.context().is_core_full() {
                clients.cut_holders();
            }
            return Delivered::Large;
        }
        let mut rest = &messages[..];
        while !rest.is_empty() {
            let taken = clients.take_replies(rest);
            rest = &rest[taken..];
            if clients.context().is_core_full() {
                clients.cut_holders();
            }
        }
        drop(messages);
        if let Err(trouble) = read {
            self.broke(clients, LinkId { domain: 0, half: Half::Pop }, generation, &trouble);
        }
        Delivered::These(delivered)
    }

    /// The link that pops has ended, with whatever Redis had popped for it.
    pub(super) fn pops_ended(&mut self, clients: &mut impl Served, trouble: &Trouble) {
        let primary = &mut self.domains[0];
        primary.pop_state = LinkState::Connecting;
        primary.pops_lost = true;
        if self.ending {
            return;
        }
        // An account that may log in and not pop (an ACL, a replica, a key of another type) is refused again at once.
        primary.pops_refused_ms = trouble.is_refusal().then_some(clients.context().now_ms());
        clients.pops_lost();
        if trouble.is_refusal() {
            // Again and again: the log hears of it as of a link that cannot be opened.
            clients.context().tell(BusNews::Failed {
                domain: 0,
                half: Half::Pop,
                text: trouble.to_string(),
                refused: true,
            });
        } else {
            let text = format!("bus: the link that pops from {} broke: {trouble}", self.names.domains[0]);
            clients.context().log(Severity::Warn, text);
        }
        counters::add(&clients.context().counts().bus_links_lost, 1);
    }

    /// A link whose pops were refused before counts as up when they have not been for a while.
    pub(super) fn tick_pops(&mut self, clients: &mut impl Served, now_ms: u64) {
        let primary = &mut self.domains[0];
        if primary.pops_refused_ms.is_some_and(|since_ms| now_ms >= since_ms + REFUSAL_WAIT_MS) {
            primary.pops_refused_ms = None;
            self.set_state(clients, LinkId { domain: 0, half: Half::Pop }, LinkState::Up);
            clients.context().tell(BusNews::Opened { domain: 0, half: Half::Pop });
        }
    }
}
