//! The links that push, while they are up: what Redis answers, when that is read, and what a broken one means.

use std::rc::Rc;

use smallvec::SmallVec;

use super::connection::Half;
use super::domain::Domain;
use super::links::{LinkId, Links};
use super::outbox::{Answer, Push, Ticket};
use super::refusals;
use super::served::Served;
use super::trouble::Trouble;
use crate::clients::output::{BusNews, Severity};
use crate::clients::router_list::RouterNews;
use crate::counters::{self, LinkState};

/// How long after a batch the end of the connection is waited for, ms.
const QUIET_MS: u64 = 40;
/// A pause after which a link may have been closed unnoticed, ms.
const PAUSE_MS: u64 = 2;
/// Fewer missing confirmations are not worth a receive: they are read with those of later batches.
const UNCONFIRMED_FEW: usize = 8;

impl Links {
    /// Whether the confirmations that have come are to be read before the next batch is written; with `true` all of them, so that
    /// nothing is written to a link that Redis has closed in a pause.
    pub fn catches_up(&self, link: LinkId, now_ms: u64) -> Option<bool> {
        let domain = &self.domains[link.domain];
        let paused = now_ms.saturating_sub(domain.wrote_ms) >= PAUSE_MS;
        let reads = link.half == Half::Push
            && domain.push.is_up()
            && !domain.outbox.is_empty()
            && (paused || domain.outbox.unconfirmed() >= UNCONFIRMED_FEW);
        reads.then_some(paused)
    }

    /// Takes the confirmations that are whole; tells the clients of refused pushes.
    pub(super) fn confirm(&mut self, clients: &mut impl Served, index: usize) -> Result<(), Trouble> {
        let now_ms = clients.context().now_ms();
        let mut refused = Vec::new();
        let mut news = SmallVec::<[RouterNews; 8]>::new();
        let (mut answered, mut takes_again) = (false, false);
        let Domain { push, outbox, refusals, silence, trip, .. } = &mut self.domains[index];
        let router = &self.names.router;
        let read = loop {
            let token = match push.input.next() {
                Ok(Some(token)) => token,
                Ok(None) => break Ok(()),
                Err(malformed) => break Err(malformed.into()),
            };
            answered = true;
            if let Some(round_trip_us) = trip.answered(clients.context().now_us()) {
                clients.context().core().histograms.bus_round_trip.count(round_trip_us);
            }
            match outbox.answer(&token) {
                Some(Answer::Done { list, messages, length }) => {
                    if Rc::ptr_eq(&list, router) {
                        news.push(RouterNews::Took { messages, length });
                    }
                    takes_again |= refusals.taken();
                }
                Some(Answer::Deleted | Answer::Asked(false)) => {}
                Some(Answer::Asked(true)) => news.push(RouterNews::Empty),
                Some(Answer::NotDeleted(text)) => refusals.doubt(&text),
                Some(Answer::Refused { list, tickets, text }) => {
                    if Rc::ptr_eq(&list, router) {
                        news.push(RouterNews::Refused { messages: tickets.len() as u64 });
                    }
                    refused.push((tickets, text));
                }
                None => break Err(Trouble::Unexpected),
            }
        };
        if answered {
            silence.answered(now_ms, outbox.is_confirmed());
        }
        if takes_again {
            clients.context().tell(BusNews::TakesPushes { domain: index });
            self.unpublished = true;
        }
        if read.is_ok() {
            hear_of_router(clients, index, &news);
            for (tickets, text) in refused {
                self.refused(clients, index, tickets, &text);
            }
        }
        read
    }

    /// Redis has refused a push, with `text`.
    fn refused(&mut self, clients: &mut impl Served, index: usize, tickets: Vec<Ticket>, text: &str) {
        counters::add(&clients.context().counts().bus_pushes_refused, 1);
        let name = &self.names.domains[index];
        let now_ms = clients.context().now_ms();
        if self.domains[index].refusals.refused(now_ms, text) {
            clients.context().tell(BusNews::RefusesPushes { domain: index, text: refusals::explain(text) });
            self.unpublished = true;
        } else {
            clients.context().log(Severity::Debug, format!("bus: {name} refused a push: {text}"));
        }
        let text = text.trim_end_matches('.');
        let text = format!("the bus (Redis) refused the message: {text}; it may or may not have been carried out");
        for ticket in tickets {
            clients.push_failed(ticket, &text);
        }
    }

    /// A link that pushes has ended, of which nobody knows what it has done last.
    pub(super) fn pushes_ended(&mut self, clients: &mut impl Served, index: usize, trouble: &Trouble) {
        let domain = &mut self.domains[index];
        domain.push_state = LinkState::Connecting;
        domain.outbox.written();
        domain.trip.broken_off();
        let unconfirmed = domain.outbox.take_unconfirmed();
        hear_of_router(clients, index, &[RouterNews::Lost]);
        if self.ending {
            return;
        }
        let name = &self.names.domains[index];
        if unconfirmed.is_empty() {
            let text = format!("bus: the idle link that pushes to {name} ended: {trouble}");
            return clients.context().log(Severity::Debug, text);
        }
        counters::add(&clients.context().counts().bus_links_lost, 1);
        let count = unconfirmed.len();
        let text = format!("bus: the link that pushes to {name} broke: {trouble} unconfirmed={count}");
        clients.context().log(Severity::Warn, text);
        let text = format!("the link to the bus broke ({trouble}); this may or may not have been carried out");
        for ticket in unconfirmed {
            clients.push_failed(ticket, &text);
        }
    }

    /// A link that pushes and has been quiet is listened to, and probed after a while.
    pub(super) fn tick_pushes(&mut self, index: usize, now_ms: u64) {
        let domain = &mut self.domains[index];
        if !domain.push.is_up() {
            return;
        }
        let quiet_ms = now_ms.saturating_sub(domain.wrote_ms);
        let is_confirmed = domain.outbox.is_confirmed();
        // A refusal is told within a tick. Later than that the end of the connection is waited for.
        domain.listens |= quiet_ms >= QUIET_MS || self.ending || !is_confirmed;
        // While others are under way, they show it.
        if !domain.outbox.is_empty() || !is_confirmed {
            return;
        }
        if domain.refusals.wants_probe(now_ms) {
            // What was refused tells nothing of now, and where the node was taken out nobody else asks.
            domain.outbox.push(Push { key: Rc::clone(&self.probe_key), message: b"probe".to_vec(), ticket: None });
            domain.outbox.delete(Rc::clone(&self.probe_key));
        } else if quiet_ms >= self.options.probe_ms {
            domain.outbox.delete(Rc::clone(&self.probe_key));
        }
    }
}

/// Redis has told something of the router's list, which is on the primary domain.
pub(super) fn hear_of_router(clients: &mut impl Served, domain: usize, news: &[RouterNews]) {
    if domain == 0 && !news.is_empty() {
        clients.heard_of_router(news);
    }
}
