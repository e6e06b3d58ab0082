//! Whom the links serve.

use std::ops::Range;

use super::outbox::Ticket;
use crate::clients::context::Context;
use crate::clients::router_list::RouterNews;
use crate::clients::table::Clients;

/// Whom the links serve: the clients of a core.
pub trait Served {
    /// What they share: the time, and where the log's lines go.
    fn context(&mut self) -> &mut Context;
    /// A push was refused, or may or may not have been carried out; `text` says so.
    fn push_failed(&mut self, ticket: Ticket, text: &str);
    /// The link that pops broke, with whatever Redis had popped for it.
    fn pops_lost(&mut self);
    /// There is a link that pops again.
    fn pops_back(&mut self);
    /// The Redis of a domain came back empty.
    fn bus_emptied(&mut self, domain: usize);
    /// Redis has told something of the router's list.
    fn heard_of_router(&mut self, news: &[RouterNews]);
    /// Messages from the bus; how many were taken, at least one: the core is full behind the last.
    fn take_replies(&mut self, texts: &[&[u8]]) -> usize;
    /// A large message from the bus, at a place in the buffer that received it.
    fn take_large_reply(&mut self, buffer: Vec<u8>, at: Range<usize>);
    /// The core holds too much.
    fn cut_holders(&mut self);
    /// A buffer that is used no more.
    fn recycle(&mut self, buffer: Vec<u8>);
}

impl Served for Clients {
    fn context(&mut self) -> &mut Context {
        &mut self.context
    }

    fn push_failed(&mut self, ticket: Ticket, text: &str) {
        self.push_failed(ticket, text);
    }

    fn pops_lost(&mut self) {
        self.pops_lost();
    }

    fn pops_back(&mut self) {
        self.pops_back();
    }

    fn bus_emptied(&mut self, domain: usize) {
        self.bus_emptied(domain);
    }

    fn heard_of_router(&mut self, news: &[RouterNews]) {
        self.heard_of_router(news);
    }

    fn take_replies(&mut self, texts: &[&[u8]]) -> usize {
        self.from_bus(texts)
    }

    fn take_large_reply(&mut self, buffer: Vec<u8>, at: Range<usize>) {
        self.large_from_bus(buffer, at);
    }

    fn cut_holders(&mut self) {
        self.cut_holders();
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        self.recycle(buffer);
    }
}
