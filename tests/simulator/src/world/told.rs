//! What the links tell the clients: the oracle decides for itself, and holds it against what must be told.

use std::ops::Range;

use evergate_proto::clients::context::Context;
use evergate_proto::clients::router_list::RouterNews;
use evergate_proto::clients::table::Clients;
use evergate_proto::redis::outbox::Ticket;
use evergate_proto::redis::served::Served;

use super::{World, checks};
use crate::tally::What;

/// The clients, as the links see them: the oracle decides for itself, whatever is told.
pub(super) struct Told<'w>(pub(super) &'w mut World);

impl Told<'_> {
    /// Whether messages are taken may have changed in the middle of a call; at its end it is judged.
    fn world(&mut self) -> &mut World {
        let world = &mut *self.0;
        for domain in 0..2 {
            world.oracle.accepting[domain] = world.clients.context.takes_messages(domain);
        }
        world.oracle.ever_up = world.clients.context.was_bus_up();
        world
    }
}

impl Served for Told<'_> {
    fn context(&mut self) -> &mut Context {
        &mut self.0.clients.context
    }

    fn push_failed(&mut self, ticket: Ticket, text: &str) {
        let world = self.world();
        note!(world, "a push fails ({text}): {ticket:?}");
        if world.expected.failed.pop_front() != Some(ticket) {
            violated!("{ticket:?} fails ({text}), which nothing calls for");
        }
        world.call(|clients| clients.push_failed(ticket, text));
        world.oracle.push_failed((ticket.slot, ticket.generation, ticket.n, ticket.push));
        world.settle();
    }

    fn pops_lost(&mut self) {
        let world = self.world();
        if !std::mem::take(&mut world.expected.pops_lost) {
            violated!("the link that pops is said to be lost");
        }
        world.call(Clients::pops_lost);
        world.oracle.pops_lost();
        world.settle();
    }

    fn pops_back(&mut self) {
        let world = self.world();
        if !std::mem::take(&mut world.expected.pops_back) {
            violated!("the link that pops is said to be back");
        }
        world.call(Clients::pops_back);
        world.oracle.pops_back();
        world.settle();
    }

    fn bus_emptied(&mut self, domain: usize) {
        let world = self.world();
        note!(world, "Redis of {domain} came back empty");
        if world.expected.emptied.take() != Some(domain) {
            violated!("the Redis of {domain} is said to have restarted");
        }
        world.tally.one(What::redis_restarted_empty);
        world.call(|clients| clients.bus_emptied(domain));
        world.oracle.emptied(domain);
        world.settle();
    }

    fn heard_of_router(&mut self, news: &[RouterNews]) {
        let world = self.world();
        let served = world.call(|clients| clients.heard_of_router(news));
        world.oracle.heard_of_router(news, &served);
        world.settle();
    }

    fn take_replies(&mut self, texts: &[&[u8]]) -> usize {
        self.world().take_replies(texts)
    }

    fn take_large_reply(&mut self, buffer: Vec<u8>, at: Range<usize>) {
        self.world().take_large_reply(buffer, at);
    }

    fn cut_holders(&mut self) {
        let world = self.world();
        world.call(Clients::cut_holders);
        world.oracle.cut_holders();
        world.settle();
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        self.0.clients.recycle(buffer);
    }
}

impl World {
    /// What was popped reaches the clients.
    fn take_replies(&mut self, texts: &[&[u8]]) -> usize {
        checks::tell_halves(&mut self.oracle, &self.clients);
        let taken = self.call(|clients| clients.from_bus(texts));
        for (at, message) in texts[..taken].iter().enumerate() {
            self.popped(message);
            // More is taken until the core is full, and none beyond.
            let full = self.oracle.is_core_full(self.clients.context.loop_bytes());
            if at + 1 < texts.len() && full == (at + 1 < taken) {
                violated!("of {} messages {taken} were taken: the core is full after {}: {full}", texts.len(), at + 1);
            }
        }
        self.settle();
        checks::tell_halves(&mut self.oracle, &self.clients);
        taken
    }

    /// A large one does, in the buffer in which it came.
    fn take_large_reply(&mut self, buffer: Vec<u8>, at: Range<usize>) {
        let message = buffer[at.clone()].to_vec();
        self.tally.one(What::reply_in_place);
        checks::tell_halves(&mut self.oracle, &self.clients);
        self.call(|clients| clients.large_from_bus(buffer, at));
        self.popped(&message);
        self.settle();
        checks::tell_halves(&mut self.oracle, &self.clients);
    }

    /// The oracle hears of a message that was popped.
    fn popped(&mut self, message: &[u8]) {
        let Some(reply) = self.workers.sent(message) else {
            violated!("popped is what nobody sent: {}", String::from_utf8_lossy(message));
        };
        note!(self, "popped {}", String::from_utf8_lossy(message));
        self.oracle.reply(&reply);
    }
}
