//! The links to Redis.

use std::collections::{BTreeMap, VecDeque};

use evergate_proto::clients::router_list::RouterNews;
use evergate_proto::clients::table::Clients;
use evergate_proto::redis::inbox::Inbox;
use evergate_proto::redis::outbox::{Answer, Outbox, Ticket};
use evergate_proto::redis::resp;

use super::{World, checks};
use crate::oracle::{ADDRESS, ROUTER_KEY};
use crate::redis::Wire;
use crate::tally::What;

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) enum State {
    #[default]
    Connecting,
    Up,
    Away,
}

/// The link that pushes to one domain.
#[derive(Default)]
pub(super) struct PushLink {
    pub(super) outbox: Outbox,
    pub(super) started: bool,
    pub(super) state: State,
    pub(super) wire: Option<Wire>,
    pub(super) input: Vec<u8>,
    pub(super) failures: u32,
    /// What the simulator wrote down: tickets that wait, with their lists; tickets written, one entry a command.
    pub(super) waiting: Vec<(String, Option<Ticket>)>,
    pub(super) written: VecDeque<Vec<Ticket>>,
    pub(super) redis_id: i64,
}

pub(super) struct PopLink {
    pub(super) inbox: Inbox,
    pub(super) state: State,
    pub(super) wire: Option<Wire>,
    pub(super) input: Vec<u8>,
    pub(super) lost: bool,
}

impl PopLink {
    pub(super) fn new() -> Self {
        Self { inbox: Inbox::new(ADDRESS), state: State::Connecting, wire: None, input: Vec::new(), lost: false }
    }
}

impl World {
    pub(super) fn set_state(&mut self, domain: usize, push: Option<State>, pop: Option<State>) {
        self.push[domain].state = push.unwrap_or(self.push[domain].state);
        self.pop.state = pop.unwrap_or(self.pop.state);
        let pop = if domain == 0 { self.pop.state } else { State::Up };
        let away = self.push[domain].state == State::Away || pop == State::Away;
        let up = self.push[domain].state == State::Up && pop == State::Up;
        self.clients.context.accepting[domain] = !away;
        self.oracle.accepting[domain] = !away;
        if up && domain == 0 {
            self.clients.context.bus_ever_up = true;
            self.oracle.ever_up = true;
        }
    }

    pub(super) fn fail_pushes(&mut self, tickets: Vec<Ticket>, text: &str) {
        note!(self, "pushes fail ({text}): {tickets:?}");
        for ticket in tickets {
            self.call(|clients| clients.push_failed(ticket, text));
            self.oracle.push_failed((ticket.slot, ticket.generation, ticket.n, ticket.push));
            self.settle();
        }
    }

    pub(super) fn connect_push(&mut self, domain: usize) {
        let link = &mut self.push[domain];
        if !link.started || link.wire.is_some() {
            return;
        }
        if self.redis[domain].down {
            self.tally.one(What::connect_refused);
            if self.push[domain].state != State::Away {
                self.tally.one(What::bus_away);
            }
            self.push[domain].failures += 1;
            self.set_state(domain, Some(State::Away), None);
            let link = &mut self.push[domain];
            let expected: Vec<Ticket> = link.waiting.drain(..).filter_map(|(_, ticket)| ticket).collect();
            let tickets = link.outbox.take_unsent();
            self.hear_of_router(domain, &[RouterNews::Lost]);
            if tickets != expected {
                violated!("unsent are {tickets:?}, must be {expected:?}");
            }
            self.tally.add(What::push_unsent, tickets.len());
            self.fail_pushes(tickets, "away");
            return;
        }
        let id = self.greet(domain);
        self.push[domain].failures = 0;
        self.push[domain].wire = Some(Wire::default());
        self.push[domain].input.clear();
        self.note_id(domain, id);
        self.set_state(domain, Some(State::Up), None);
    }

    pub(super) fn greet(&mut self, domain: usize) -> i64 {
        self.redis[domain].next_id += 1;
        self.redis[domain].next_id
    }

    /// A lower number than before: Redis restarted empty.
    pub(super) fn note_id(&mut self, domain: usize, id: i64) {
        let known = self.push[domain].redis_id;
        self.push[domain].redis_id = if id < known { id } else { known.max(id) };
        if id < known {
            note!(self, "Redis of {domain} came back empty");
            self.tally.one(What::redis_restarted_empty);
            self.call(|clients| clients.bus_emptied(domain));
            self.oracle.emptied(domain);
            self.settle();
        }
    }

    /// Redis has told something of the router's list.
    fn hear_of_router(&mut self, domain: usize, news: &[RouterNews]) {
        if domain == 0 && !news.is_empty() {
            let served = self.call(|clients| clients.heard_of_router(news));
            self.oracle.heard_of_router(news, &served);
            self.settle();
        }
    }

    pub(super) fn write_pushes(&mut self, domain: usize) {
        if domain == 0 && self.clients.asks_about_router() && self.push[0].wire.is_some() {
            self.tally.add(What::router_asked, usize::from(!self.push[0].outbox.is_asking()));
            self.push[0].outbox.ask(ROUTER_KEY.into());
        }
        let link = &mut self.push[domain];
        let Some(wire) = &mut link.wire else { return };
        if link.outbox.is_empty() {
            return;
        }
        let waited = link.outbox.len();
        let mut batch = Vec::new();
        let was_asking = link.outbox.is_asking();
        let commands = link.outbox.write(&mut batch);
        let asks = usize::from(link.outbox.is_asking() && !was_asking);
        // What is too much for one batch goes with the next.
        let messages = waited - link.outbox.len();
        let left = link.waiting.split_off(messages.min(link.waiting.len()));
        link.outbox.take_used().for_each(|buffer| self.clients.recycle(buffer));
        let mut lists: Vec<&str> = Vec::new();
        let mut written: BTreeMap<usize, Vec<Ticket>> = BTreeMap::new();
        for (key, ticket) in &link.waiting {
            let at = lists.iter().position(|list| list == key).unwrap_or_else(|| {
                lists.push(key);
                lists.len() - 1
            });
            written.entry(at).or_default().extend(ticket);
        }
        if messages + asks == 0 || left.len() != link.outbox.len() || commands != lists.len() + asks {
            violated!("{messages} pushes in {commands} commands, must be {} in {}", link.waiting.len(), lists.len());
        }
        self.tally.add(What::batch_of_several, usize::from(messages > commands));
        link.written.extend(written.into_values());
        link.written.extend((asks > 0).then(Vec::new));
        link.waiting = left;
        wire.to.extend(batch);
        self.write_pushes(domain);
    }

    /// Bytes reach Redis, and it carries out what it can.
    pub(super) fn serve_redis(&mut self) {
        for domain in 0..2 {
            let n = self.some_bytes(|world| world.push[domain].wire.as_ref().map_or(0, |wire| wire.to.len()));
            if self.redis[domain].stalled {
                continue;
            }
            let mut seen = Vec::new();
            if let Some(wire) = &mut self.push[domain].wire {
                wire.arrive(n);
                self.redis[domain].serve(wire, |_, message| seen.push(message.to_vec()));
            }
            for message in seen {
                // A DISCONNECT of ours answers each 200 that nobody waits for; all else is pushed once.
                let mark = b"\"body\":[{\"__c\":\"osrfMessage\",\"__p\":{\"threadTrace\":\"0\",\"locale\"";
                let ours = message.windows(mark.len()).any(|part| part == mark);
                if !ours && !self.executed.insert(message.clone()) {
                    let text = String::from_utf8_lossy(&message);
                    violated!("a push was sent twice: {text}");
                }
            }
        }
        let n = self.some_bytes(|world| world.pop.wire.as_ref().map_or(0, |wire| wire.to.len()));
        if !self.redis[0].stalled
            && let Some(wire) = &mut self.pop.wire
        {
            wire.arrive(n);
            self.redis[0].serve(wire, |_, _| ());
        }
    }

    /// Confirmations reach the gateway.
    pub(super) fn confirm(&mut self, domain: usize) {
        let n = self.some_bytes(|world| world.push[domain].wire.as_ref().map_or(0, |wire| wire.back.len()));
        let link = &mut self.push[domain];
        let Some(wire) = &mut link.wire else { return };
        link.input.extend(wire.back.drain(..n));
        let mut at = 0;
        let mut refused = Vec::new();
        let mut news = Vec::new();
        loop {
            match resp::next(&link.input, &mut at) {
                Err(error) => violated!("what Redis sent is not understood: {error:?}"),
                Ok(None) => break,
                Ok(Some(token)) => {
                    let expected = link.written.pop_front();
                    match link.outbox.answer(&token) {
                        Some(Answer::Done { list, messages, length }) if expected.is_some() => {
                            if *list == *ROUTER_KEY {
                                news.push(RouterNews::Took { messages, length });
                            }
                        }
                        Some(Answer::Asked(is_empty)) if expected == Some(Vec::new()) => {
                            news.extend(is_empty.then_some(RouterNews::Empty));
                        }
                        Some(Answer::Refused { list, tickets, text }) if Some(&tickets) == expected.as_ref() => {
                            if *list == *ROUTER_KEY {
                                news.push(RouterNews::Refused { messages: tickets.len() as u64 });
                            }
                            refused.push((tickets, text));
                        }
                        other => violated!("Redis answered {token:?}: {other:?}, must be about {expected:?}"),
                    }
                }
            }
        }
        if at < link.input.len() {
            self.tally.one(What::resp_cut);
        }
        self.push[domain].input.drain(..at);
        self.hear_of_router(domain, &news);
        for (tickets, text) in refused {
            self.tally.add(What::push_refused, tickets.len());
            self.fail_pushes(tickets, &text);
        }
    }

    pub(super) fn break_push(&mut self, domain: usize) {
        if self.push[domain].wire.take().is_none() {
            return;
        }
        self.tally.one(What::push_link_lost);
        note!(self, "the link that pushes to {domain} breaks");
        // As in the shell: told when the bus is next known to be up or away.
        self.push[domain].state = State::Connecting;
        let expected: Vec<Ticket> = self.push[domain].written.drain(..).flatten().collect();
        let tickets = self.push[domain].outbox.take_unconfirmed();
        self.hear_of_router(domain, &[RouterNews::Lost]);
        if tickets != expected {
            violated!("unconfirmed are {tickets:?}, must be {expected:?}");
        }
        self.tally.add(What::push_unconfirmed, tickets.len());
        self.fail_pushes(tickets, "broke");
        self.set_state(domain, None, None);
    }

    pub(super) fn connect_pop(&mut self) {
        if self.pop.wire.is_some() {
            return;
        }
        if self.redis[0].down {
            self.set_state(0, None, Some(State::Away));
            return;
        }
        let id = self.greet(0);
        self.pop.wire = Some(Wire::default());
        self.pop.input.clear();
        self.pop.inbox = Inbox::new(ADDRESS);
        self.note_id(0, id);
        self.set_state(0, None, Some(State::Up));
        if self.pop.lost {
            self.call(Clients::pops_back);
            self.oracle.pops_back();
            self.settle();
        }
    }

    pub(super) fn write_pops(&mut self) {
        if let Some(wire) = &mut self.pop.wire {
            self.pop.inbox.write(&mut wire.to);
        }
    }

    /// What was popped reaches the gateway.
    pub(super) fn deliver(&mut self) {
        let n = self.some_bytes(|world| world.pop.wire.as_ref().map_or(0, |wire| wire.back.len()));
        let Some(wire) = &mut self.pop.wire else { return };
        self.pop.input.extend(wire.back.drain(..n));
        let input = std::mem::take(&mut self.pop.input);
        let mut at = 0;
        let mut messages = Vec::new();
        loop {
            match resp::next(&input, &mut at) {
                Err(error) => violated!("what Redis sent is not understood: {error:?}"),
                Ok(None) => break,
                Ok(Some(token)) => match self.pop.inbox.token(&token) {
                    Err(error) => violated!("what Redis sent is not taken for a pop: {error:?}"),
                    Ok(None) => {}
                    Ok(Some(message)) => messages.push(message),
                },
            }
        }
        let mut rest = &messages[..];
        while !rest.is_empty() {
            checks::tell_halves(&mut self.oracle, &self.clients);
            let taken = self.call(|clients| clients.from_bus(rest));
            for (at, message) in rest[..taken].iter().enumerate() {
                let Some(reply) = self.workers.sent(message) else {
                    violated!("popped is what nobody sent: {}", String::from_utf8_lossy(message));
                };
                note!(self, "popped {}", String::from_utf8_lossy(message));
                self.oracle.reply(&reply);
                // More is taken until the core is full, and none beyond.
                let full = self.oracle.is_core_full(self.clients.context.shell_bytes);
                if at + 1 < rest.len() && full == (at + 1 < taken) {
                    violated!(
                        "of {} messages {taken} were taken: the core is full after {}: {full}",
                        rest.len(),
                        at + 1
                    );
                }
            }
            rest = &rest[taken..];
            self.settle();
            checks::tell_halves(&mut self.oracle, &self.clients);
            self.call(Clients::cut_holders);
            self.oracle.cut_holders();
            self.settle();
        }
        if at < input.len() {
            self.tally.one(What::resp_cut);
        }
        self.pop.input = input[at..].to_vec();
    }

    pub(super) fn break_pop(&mut self) {
        let Some(wire) = self.pop.wire.take() else { return };
        self.tally.one(What::pop_link_lost);
        note!(self, "the link that pops breaks");
        let mark = b"{\"sim\":";
        let lost = wire.back.windows(mark.len()).filter(|part| part == mark).count();
        self.tally.add(What::reply_lost_between_pop_and_read, lost);
        self.pop.state = State::Connecting;
        self.pop.lost = true;
        self.call(Clients::pops_lost);
        self.oracle.pops_lost();
        self.settle();
        self.set_state(0, None, None);
    }
}
