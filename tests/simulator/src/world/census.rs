//! An operator: looks who is connected, and ends connections by their numbers.

use evergate_proto::clients::census::{Connected, Filter, SLOTS_MAX, State};

use super::World;
use crate::oracle::Stage;
use crate::tally::What;

impl World {
    /// Now and then one connection is to end: at its gap as a rule, and now and then one that has ended already.
    pub(super) fn operate(&mut self) {
        let is_open = |slot: &u32| self.oracle.client(*slot).is_some_and(|client| client.stage == Stage::Open);
        let (slots, open) = (self.conns.len(), self.slots().filter(is_open).collect::<Vec<u32>>());
        let Some(random) = self.operator.as_mut().filter(|_| !self.has_ended) else { return };
        if !random.percent(3) {
            return;
        }
        let (any, now, odd) = (random.below(slots + 1) as u32, random.percent(25), random.below(10));
        // As a rule somebody of whom it is not known how it goes on.
        let slot = open.get(random.below(open.len())).copied().filter(|_| odd > 2).unwrap_or(any);
        let generation = match (self.oracle.generation(slot), odd) {
            (generation, 0) => generation.saturating_sub(1),
            (generation, 1) => generation + 1,
            (generation, _) => generation,
        };
        self.look_who_is_there();
        note!(self, "the operator ends {slot}.{generation}, now: {now}");
        let told = self.call(|clients| clients.dismiss(slot, generation, now));
        let expected = self.oracle.dismiss(slot, generation, now);
        if told != expected {
            violated!("the operator is told {told:?} of {slot}.{generation}, must be {expected:?}");
        }
        self.settle();
    }

    /// Page by page, all are there, once and as they are.
    fn look_who_is_there(&mut self) {
        let random = self.operator.as_mut();
        let most = random.map_or(1, |random| 1 + random.below(4));
        let (mut from, mut seen) = (0, Vec::new());
        loop {
            let found = self.clients.find(&Filter::ALL, from, most);
            if found.connections.len() > most {
                violated!("{} are found, asked for were {most}", found.connections.len());
            }
            seen.extend(found.connections);
            match found.next {
                Some(next) if (from + 1..=from + SLOTS_MAX).contains(&next) => from = next,
                Some(next) => violated!("behind slot {from} the next to look at is {next}"),
                None => break,
            }
        }
        self.tally.add(What::listed, seen.len());
        let here: Vec<u32> = self.slots().filter(|slot| self.oracle.client(*slot).is_some()).collect();
        if !seen.iter().map(|found| &found.slot).eq(&here) {
            violated!("listed are {:?}, here are {here:?}", seen.iter().map(|found| found.slot).collect::<Vec<_>>());
        }
        seen.iter().for_each(|found| self.is_as_listed(found));
    }

    fn is_as_listed(&self, found: &Connected) {
        let Some(client) = self.oracle.client(found.slot) else { return };
        let classes =
            [State::Sending, State::WaitingForReplies, State::WaitingForRoom, State::InStatefulSession, State::Idle];
        let state = match (client.stage, client.class()) {
            (Stage::Handshake, _) => State::Handshaking,
            (_, Some(class)) => classes[class],
            _ => State::Closing,
        };
        let (pending, sessions, _, backlog, _) = client.books();
        let must_be = (state, pending, sessions, backlog, self.oracle.generation(found.slot), client.is_dismissed);
        let is = (found.state, found.in_flight, found.sessions, found.backlog, found.generation, found.is_dismissed);
        if is != must_be {
            violated!("slot {} is listed as {is:?}, must be {must_be:?}", found.slot);
        }
    }
}
