//! What is counted of services, errors, closes and sizes.

use super::*;
use crate::histograms::Reading;
use crate::services::{Seen, Services};

impl World {
    /// What the callers of a service have seen; of all others with `None`.
    fn seen(&self, service: Option<&str>) -> Option<Seen> {
        Services::seen(&[&self.cores[0].services]).into_iter().find(|(name, _)| *name == service).map(|(_, seen)| seen)
    }

    /// How much later it is.
    fn later_us(&mut self, us: u64) {
        self.clients.context.at_us(self.clients.context.now_us() + us);
    }

    fn counted<const KNOWN: usize>(codes: &crate::codes::Codes<KNOWN>) -> Vec<(Option<u16>, u64)> {
        codes.read().filter(|(_, count)| *count > 0).collect()
    }
}

/// How many values, and all of them together.
fn in_short(reading: Reading) -> (u64, u64) {
    (reading.values(), reading.sum)
}

#[test]
fn a_service_is_timed_to_its_first_reply_and_to_the_end_of_each_request() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[request(1), request(2)]));
    let push = world.pushed_one();
    world.later_us(1_500);
    world.answer(&push, WORKER, &[result(1)]);
    world.later_us(2_000);
    world.answer(&push, WORKER, &[status(1, 205)]);
    world.answer(&push, WORKER, &[result(2), status(2, 205)]);
    let seen = world.seen(Some("opensrf.math")).expect("it has a place");
    assert_eq!((in_short(seen.first), in_short(seen.completion), seen.failures), ((1, 1_500), (2, 7_000), 0));
}

#[test]
fn a_sessions_requests_are_timed_one_by_one_and_its_errors_counted() {
    let mut world = World::new();
    let slot = world.client();
    world.session(slot, "t", WORKER);
    for (trace, code) in [(1, 205), (2, 500)] {
        world.say(slot, envelope("t", &[request(trace)]));
        let push = world.pushed_one();
        world.later_us(10_000);
        world.answer(&push, WORKER, &[status(trace, code)]);
    }
    let seen = world.seen(Some("opensrf.math")).expect("it has a place");
    assert_eq!(in_short(seen.first), (3, 20_000), "the CONNECT is answered, too");
    assert_eq!((in_short(seen.completion), seen.failures), ((2, 20_000), 1));
}

#[test]
fn a_service_that_nobody_has_gets_no_place_however_many_are_named() {
    let mut world = World::new();
    let slot = world.client();
    for at in 0..100 {
        let mut named = envelope(&format!("t{at}"), &[request(1)]);
        named["service"] = format!("attack.{at}").into();
        world.say(slot, named);
        let push = world.pushed_one();
        world.answer_no_service(&push);
    }
    let seen = Services::seen(&[&world.cores[0].services]);
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!(in_short(seen[0].1.first), (0, 0));
}

#[test]
fn a_request_that_was_given_up_is_an_error_of_the_gateways_and_in_no_histogram() {
    let mut world = World::with(|limits| limits.request_max_ms = 1_000);
    let slot = world.client();
    world.say(slot, envelope("t", &[request(1)]));
    let push = world.pushed_one();
    world.pass(1_100);
    assert_eq!(world.told(slot).0, 504);
    assert_eq!(World::counted(&world.cores[0].codes.errors), [(Some(504), 1)]);
    world.answer(&push, WORKER, &complete(1));
    assert!(world.seen(Some("opensrf.math")).is_none(), "its conversation is forgotten, and nobody is told");
}

#[test]
fn closes_are_counted_by_who_began_them_and_by_their_code() {
    let mut world = World::with(|limits| limits.garbage_max = 1);
    let [rude, polite, mute, gone, silent] = std::array::from_fn(|_| world.client());
    world.say(rude, "{");
    world.say_close(polite, 1000);
    world.frame(mute, OpCode::Close, &[]);
    world.hang_up(gone);
    world.clients.ended(silent, "it ended");
    world.settle();
    let codes = &world.cores[0].codes;
    assert_eq!(World::counted(&codes.closed), [(Some(1008), 1)]);
    assert_eq!(World::counted(&codes.left), [(Some(1000), 1), (Some(1005), 1), (Some(1006), 2)]);
    assert_eq!(World::counted(&codes.errors), [(Some(400), 1)]);
}

#[test]
fn a_refused_handshake_is_counted_by_its_status() {
    let mut world = World::new();
    let slot = world.connection();
    world.input(slot, b"POST / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(World::counted(&world.cores[0].codes.refusals), [(Some(405), 1)]);
}

#[test]
fn messages_are_counted_by_size_either_way_and_bytes_as_tcp_has_them() {
    let mut world = World::new();
    let slot = world.client();
    let text = envelope("t", &[request(1)]).to_string();
    world.say(slot, &text);
    let push = world.pushed_one();
    world.answer(&push, WORKER, &[result(1)]);
    let reply = world.heard_one(slot).to_string();
    let histograms = &world.cores[0].histograms;
    assert_eq!(in_short(histograms.message_in.read()), (1, text.len() as u64));
    assert_eq!(in_short(histograms.message_out.read()), (1, reply.len() as u64));
    let frame_in = masked(OpCode::Text, text.as_bytes()).len() + HANDSHAKE.len();
    assert_eq!(world.counts().received_bytes.load(Relaxed), frame_in as u64);
    assert!(world.counts().sent_bytes.load(Relaxed) > reply.len() as u64 + 100, "the answer to the handshake, too");
}
