//! Connections that an operator ends, and the list that he finds them in.

use super::super::census::{Filter, Found, SLOTS_MAX, State, States};
use super::super::dismissing::Dismissal;
use super::*;

/// As long as a client must have been quiet, ms.
const QUIET_MS: u64 = 250;

impl World {
    fn dismiss(&mut self, slot: SlotIndex, now: bool) -> Dismissal {
        let generation = self.state(slot).generation();
        let dismissal = self.clients.dismiss(slot, generation, now);
        self.settle();
        dismissal
    }

    fn closed_by_operator(&self) -> u64 {
        self.counts().closed_by_operator.load(Relaxed)
    }

    fn find(&self, filter: &Filter) -> Vec<SlotIndex> {
        self.clients.find(filter, 0, 1_000).connections.iter().map(|found| found.slot).collect()
    }
}

#[test]
fn an_idle_client_is_closed_with_1012_when_an_operator_asks_and_nobody_else_is() {
    let mut world = World::new();
    let (slot, other) = (world.client(), world.client());
    world.say(slot, "nonsense");
    assert_eq!(world.dismiss(slot, false), Dismissal::AtGap);
    world.pass(QUIET_MS - TICK_MS);
    assert!(world.is_open(slot), "it may be about to say something");
    world.pass(2 * TICK_MS);
    assert_eq!((world.closed_with(slot), world.closed_by_operator()), (Some(1012), 1));
    assert_eq!(world.dismiss(slot, false), Dismissal::Closing);
    world.pass(10_000);
    assert!(world.is_open(other));
    assert_eq!((world.counts().closed_at_gap.load(Relaxed), world.counts().cut.load(Relaxed)), (0, 0), "no drain did");
    world.check_gauges();
}

#[test]
fn a_client_that_waits_for_a_reply_or_has_a_session_is_closed_when_it_has_that_behind_it() {
    let mut world = World::new();
    let (asks, sits) = (world.client(), world.client());
    world.session(sits, "t", WORKER);
    world.say(asks, envelope("t", &[request(7)]));
    let push = world.pushed_one();
    for slot in [asks, sits] {
        assert_eq!(world.dismiss(slot, false), Dismissal::AtGap);
    }
    world.pass(20_000);
    assert!(world.is_open(asks) && world.is_open(sits));
    assert!(world.clients.find(&Filter::ALL, 0, 9).connections.iter().all(|found| found.is_dismissed));
    world.answer(&push, WORKER, &complete(7));
    world.say(sits, envelope("t", &[disconnect(1)]));
    assert_eq!(world.heard(asks).len(), 1);
    world.pass(QUIET_MS + TICK_MS);
    assert_eq!([asks, sits].map(|slot| world.closed_with(slot)), [Some(1012); 2]);
}

#[test]
fn a_request_that_has_come_when_the_time_is_over_is_answered_first() {
    let mut world = World::new();
    let slot = world.client();
    world.dismiss(slot, false);
    world.unread.insert(slot, masked(OpCode::Text, envelope("t", &[request(7)]).to_string().as_bytes()));
    world.pass(QUIET_MS + TICK_MS);
    let push = world.pushed_one();
    assert!(world.is_open(slot), "what had come was read first");
    world.answer(&push, WORKER, &complete(7));
    world.pass(QUIET_MS + TICK_MS);
    assert_eq!((world.heard(slot).len(), world.closed_with(slot)), (1, Some(1012)));
}

#[test]
fn closed_at_once_a_client_is_told_1001_its_workers_are_and_the_log_says_what_it_lost() {
    let mut world = World::new();
    let slot = world.client();
    world.session(slot, "t", WORKER);
    world.say(slot, envelope("u", &[request(7)]));
    world.pushed();
    assert_eq!(world.dismiss(slot, true), Dismissal::Closing);
    let told = world.pushed_one();
    assert_eq!((told.key.as_str(), told.kinds()), (WORKER, vec!["DISCONNECT"]));
    assert_eq!((world.closed_with(slot), world.closed_by_operator()), (Some(1001), 1));
    let cut = |(_, line): &(Severity, String)| line.contains("cut off by the operator: opensrf.math add for 0 ms");
    assert!(world.log.iter().any(cut), "{:?}", world.log);
    world.check_gauges();
}

#[test]
fn whose_number_is_anothers_by_now_or_was_nobodys_is_not_closed() {
    let mut world = World::new();
    let slot = world.client();
    let generation = world.state(slot).generation();
    world.hang_up(slot);
    assert_eq!(world.clients.dismiss(slot, generation, true), Dismissal::Ended);
    assert_eq!(world.clients.dismiss(slot, generation + 1, true), Dismissal::Unknown);
    let next = world.client();
    assert_eq!(next, slot);
    assert_eq!(world.clients.dismiss(slot, generation, true), Dismissal::Ended);
    assert_eq!(world.clients.dismiss(slot, generation + 2, true), Dismissal::Unknown);
    assert_eq!(world.clients.dismiss(slot + 1, 0, true), Dismissal::Unknown);
    world.settle();
    assert!(world.is_open(slot));
}

#[test]
fn whoever_shakes_hands_is_refused_with_503() {
    let mut world = World::new();
    let slot = world.connection_from(Ipv4Addr::LOCALHOST.into());
    assert!(world.find(&Filter { states: States::Open, ..Filter::ALL }).is_empty());
    assert_eq!(world.dismiss(slot, false), Dismissal::Closing);
    let answer = String::from_utf8_lossy(&world.received[&slot]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("operator"), "{answer}");
}

#[test]
fn who_is_there_is_found_by_address_state_age_and_what_it_waits_for() {
    let mut world = World::new();
    let idle = world.client_from("192.0.2.1");
    world.pass(5_000);
    let (waits, sits) = (world.client_from("192.0.2.2"), world.client_from("2001:db8::1"));
    world.session(sits, "t", WORKER);
    for trace in 0..3 {
        world.say(waits, envelope("t", &[request(trace)]));
    }
    let found = world.clients.find(&Filter::ALL, 0, 9).connections;
    let seen: Vec<_> = found.iter().map(|it| (it.slot, it.state, it.age_ms, it.requests, it.in_flight)).collect();
    assert_eq!(
        seen,
        [
            (idle, State::Idle, 5_000, 0, 0),
            (waits, State::WaitingForReplies, 0, 3, 3),
            (sits, State::InStatefulSession, 0, 0, 0)
        ]
    );
    assert_eq!(found.iter().map(|it| it.sessions).sum::<usize>(), 1);
    let all = Filter::ALL;
    let filters = [
        (Filter { address: Some("192.0.2.0/24".parse().unwrap()), ..all.clone() }, vec![idle, waits]),
        (Filter { address: Some("2001:db8::1".parse().unwrap()), ..all.clone() }, vec![sits]),
        (Filter { states: States::One(State::WaitingForReplies), ..all.clone() }, vec![waits]),
        (Filter { states: States::Open, ..all.clone() }, vec![idle, waits, sits]),
        (Filter { age_ms_min: 5_000, ..all.clone() }, vec![idle]),
        (Filter { in_flight_min: 4, ..all.clone() }, vec![]),
        (Filter { in_flight_min: 3, ..all }, vec![waits]),
    ];
    for (filter, expected) in filters {
        assert_eq!(world.find(&filter), expected, "{filter:?}");
    }
    world.say_close(waits, 1000);
    assert_eq!(world.find(&Filter { states: States::One(State::Closing), ..Filter::ALL }), [waits]);
}

#[test]
fn a_look_ends_behind_so_many_slots_or_connections_and_says_where_it_goes_on() {
    let mut world = World::new();
    let slots: Vec<_> = (0..SLOTS_MAX + 10).map(|_| world.connection_from(Ipv4Addr::LOCALHOST.into())).collect();
    let none = Filter { in_flight_min: 1, ..Filter::ALL };
    assert_eq!(world.clients.find(&none, 0, 9), Found { connections: vec![], next: Some(SLOTS_MAX) });
    assert_eq!(world.clients.find(&none, SLOTS_MAX, 9), Found::default());
    let found = world.clients.find(&Filter::ALL, 0, 7);
    assert_eq!((found.connections.len(), found.next), (7, Some(7)));
    let last = world.clients.find(&Filter::ALL, slots.len() as u32 - 2, 2);
    assert_eq!((last.connections.len(), last.next), (2, None));
    assert_eq!(world.clients.find(&Filter::ALL, u32::MAX, 2), Found::default());
}
