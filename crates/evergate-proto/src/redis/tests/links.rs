//! The life of links: what the simulator does not show, above all what Redis may refuse; `greeted`: who answers.

mod greeted;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::clients::context::Context;
use crate::clients::limits::{BusNames, Limits};
use crate::clients::output::{BusNews, Output, Severity};
use crate::clients::table::Clients;
use crate::counters::{self, LinkState};
use crate::redis::connection::Half;
use crate::redis::links::{LinkId, LinkOptions, Links, Want};
use crate::redis::outbox::Push;
use crate::redis::trouble::Trouble;

const OUR_ADDRESS: &str = "opensrf:client:gateway:public.localhost:vm:7:00ff";
const PUSH: LinkId = LinkId { domain: 0, half: Half::Push };
const POP: LinkId = LinkId { domain: 0, half: Half::Pop };
const OTHER: LinkId = LinkId { domain: 1, half: Half::Push };
const TICK_MS: u64 = 20;
/// What Redis answers to HELLO.
const HELLO: &str = "*4\r\n$2\r\nid\r\n:7\r\n$7\r\nmodules\r\n*0\r\n";

/// A core's links, and Redis as a script.
struct World {
    clients: Clients,
    links: Links,
    cores: Arc<[counters::Core]>,
    /// Asked for, not done yet.
    wants: Vec<Want>,
    news: Vec<BusNews>,
    log: Vec<(Severity, String)>,
}

impl World {
    fn new() -> Self {
        let names = Rc::new(BusNames {
            address: OUR_ADDRESS.to_owned(),
            router: "opensrf:router:router:public.localhost".into(),
            domains: vec!["public.localhost".to_owned(), "private.localhost".to_owned()],
            xid_prefix: String::new(),
        });
        let cores: Arc<[_]> = Arc::new([counters::Core::new(0)]);
        let mut context = Context::new(Rc::new(Limits::default()), Rc::clone(&names), Arc::clone(&cores), 0);
        context.at(1_000_000);
        let options = LinkOptions {
            username: "gateway".to_owned(),
            passwd: "secret".to_owned(),
            connect_max_ms: 5_000,
            backoff_max_ms: 400,
            probe_ms: 30_000,
        };
        let mut links = Links::new(options, names);
        links.begin(context.now_ms());
        Self { clients: Clients::new(context), links, cores, wants: Vec::new(), news: Vec::new(), log: Vec::new() }
    }

    /// A world whose primary links are up.
    fn up() -> Self {
        let mut world = Self::new();
        for link in [PUSH, POP] {
            world.connects(link);
            world.greets(link, &format!("{HELLO}{}", if link == PUSH { ":0\r\n" } else { "*-1\r\n" }));
        }
        assert_eq!(world.shown(), LinkState::Up);
        world.news.clear();
        world
    }

    fn shown(&mut self) -> LinkState {
        self.links.publish(self.clients.context.core());
        self.cores[0].bus_state()
    }

    fn trouble(&mut self) -> String {
        self.links.publish(self.clients.context.core());
        self.cores[0].bus_trouble.lock().expect("nobody panics with it").clone()
    }

    fn settle(&mut self) {
        let mut decided = self.clients.take_output(Output::default());
        self.news.append(&mut decided.bus);
        self.log.append(&mut decided.events);
    }

    /// What is wanted next.
    fn want(&mut self) -> Option<Want> {
        self.wants.extend(std::iter::from_fn(|| self.links.next_want()));
        (!self.wants.is_empty()).then(|| self.wants.remove(0))
    }

    /// The attempt that the link wants, which finds somebody at Redis' port.
    fn connects(&mut self, link: LinkId) -> u32 {
        let generation = self.attempt(link);
        self.links.connected(&mut self.clients, link, generation, Ok(Some(6379)));
        self.settle();
        generation
    }

    fn attempt(&mut self, link: LinkId) -> u32 {
        self.wants.extend(std::iter::from_fn(|| self.links.next_want()));
        let at = self.wants.iter().position(|want| matches!(want, Want::Connect { link: of, .. } if *of == link));
        match self.wants.remove(at.unwrap_or_else(|| panic!("{link:?} is not connected"))) {
            Want::Connect { generation, .. } | Want::Close { generation, .. } => generation,
        }
    }

    /// What the link writes now.
    fn written(&mut self, link: LinkId) -> String {
        let mut batch = Vec::new();
        if self.links.write(&mut self.clients, link, &mut batch) {
            let generation = self.links.generation(link).expect("it has a connection");
            self.links.written(&mut self.clients, link, generation, Ok(()));
        }
        self.settle();
        String::from_utf8(batch).expect("text")
    }

    /// Redis says something on the link.
    fn hears(&mut self, link: LinkId, text: &str) {
        let generation = self.links.generation(link).expect("it has a connection");
        let mut room = self.links.room(link).expect("nobody has it");
        room.extend_from_slice(text.as_bytes());
        let received = Ok(Some(text.len()));
        self.links.received(&mut self.clients, link, generation, room, received);
        if link == POP {
            while self.links.deliver(&mut self.clients) > 0 {}
        }
        self.settle();
    }

    /// The greeting goes out, and is answered so.
    fn greets(&mut self, link: LinkId, answer: &str) {
        assert!(
            self.written(link).contains("$5\r\nHELLO\r\n$1\r\n2\r\n$4\r\nAUTH\r\n$7\r\ngateway\r\n$6\r\nsecret\r\n")
        );
        self.hears(link, answer);
    }

    /// A push is answered, whose answer was waited for to be timed: none is for a second.
    fn times_one(&mut self) {
        self.links.push(0, push("opensrf:client:worker"), self.clients.context.now_ms());
        self.written(PUSH);
        assert!(self.links.receives(PUSH, false) && self.links.wants_time(PUSH));
        self.hears(PUSH, ":1\r\n");
    }

    /// Time passes, tick by tick.
    fn passes(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(TICK_MS) {
            self.clients.context.at(self.clients.context.now_ms() + TICK_MS);
            self.links.tick(&mut self.clients);
            self.settle();
        }
    }

    fn failures(&self) -> Vec<&str> {
        self.news
            .iter()
            .filter_map(|news| if let BusNews::Failed { text, .. } = news { Some(text.as_str()) } else { None })
            .collect()
    }
}

fn push(key: &str) -> Push {
    Push { key: key.into(), message: b"{}".to_vec(), ticket: None }
}

#[test]
fn a_link_is_up_when_redis_has_done_what_it_is_for_however_the_answer_is_cut() {
    let whole = format!("{HELLO}*-1\r\n");
    for cut in 1..whole.len() {
        let mut world = World::new();
        world.connects(POP);
        world.greets(POP, &whole[..cut]);
        assert!(!world.news.contains(&BusNews::Opened { domain: 0, half: Half::Pop }), "{cut}");
        world.hears(POP, &whole[cut..]);
        assert_eq!(world.news, [BusNews::Opened { domain: 0, half: Half::Pop }], "{cut}");
    }
}

#[test]
fn an_account_that_is_refused_is_said_with_the_remedy_and_tried_again_with_growing_pauses() {
    let mut world = World::new();
    world.connects(PUSH);
    world.greets(PUSH, "-WRONGPASS invalid username-password pair\r\n");
    assert!(world.failures()[0].starts_with("Redis refused the account: WRONGPASS"), "{:?}", world.news);
    assert!(world.failures()[0].contains("evergate check"));
    assert!(world.trouble().starts_with("Redis refused the account"));
    assert!(!world.clients.context.takes_messages(0));
    let mut pauses = Vec::new();
    for _ in 0..5 {
        let since_ms = world.clients.context.now_ms();
        world.news.clear();
        while world.links.generation(PUSH).is_none() {
            world.passes(TICK_MS);
        }
        pauses.push(world.clients.context.now_ms() - since_ms);
        let generation = world.attempt(PUSH);
        let refused = Trouble::Host(io::ErrorKind::ConnectionRefused.into());
        world.links.connected(&mut world.clients, PUSH, generation, Err(refused));
        world.settle();
    }
    // Half of 50, 100, 200, 400, 400 ms at least, and a tick more than all of it at most.
    for (pause_ms, backoff_ms) in pauses.iter().zip([50, 100, 200, 400, 400]) {
        assert!((backoff_ms / 2..=backoff_ms + TICK_MS).contains(pause_ms), "{pauses:?}");
    }
}

#[test]
fn a_link_whose_pops_were_refused_counts_as_up_when_they_have_not_been_for_a_while() {
    let mut world = World::up();
    assert!(world.written(POP).contains("BLPOP"));
    world.hears(POP, "-NOPERM this user has no permissions to run the 'blpop' command\r\n");
    assert_eq!(world.shown(), LinkState::Away);
    assert!(world.trouble().starts_with("Redis refused a pop: NOPERM"), "{}", world.trouble());
    assert!(
        world.failures()[0].starts_with("Redis refused a pop: NOPERM") && world.news.len() == 1,
        "{:?}",
        world.news
    );
    assert!(world.log.is_empty(), "whoever gathers it for all cores says it: {:?}", world.log);
    world.news.clear();
    world.passes(400);
    world.connects(POP);
    world.greets(POP, &format!("{HELLO}*-1\r\n"));
    world.passes(460);
    assert_eq!(world.shown(), LinkState::Away, "it is likely to be refused again");
    world.passes(60);
    assert_eq!(world.shown(), LinkState::Up);
    assert_eq!(world.news, [BusNews::Opened { domain: 0, half: Half::Pop }], "and not before");
}

#[test]
fn an_idle_link_that_redis_closes_is_opened_again_at_once_and_without_a_warning() {
    let mut world = World::up();
    world.passes(100);
    assert!(world.links.receives(PUSH, false), "a quiet link is listened to");
    let (generation, room) = (world.links.generation(PUSH).expect("up"), world.links.room(PUSH).expect("room"));
    world.links.received(&mut world.clients, PUSH, generation, room, Ok(Some(0)));
    world.settle();
    assert_eq!(world.want(), Some(Want::Close { link: PUSH, generation }));
    assert!(matches!(world.want(), Some(Want::Connect { link: PUSH, attempt: 0, .. })));
    assert!(world.clients.context.takes_messages(0));
    assert!(world.log.iter().all(|(level, _)| *level == Severity::Debug), "{:?}", world.log);
}

#[test]
fn a_link_that_ends_as_soon_as_it_is_opened_is_given_a_pause() {
    let mut world = World::up();
    let generation = world.links.generation(PUSH).expect("up");
    world.links.broke(&mut world.clients, PUSH, generation, &Trouble::Closed);
    assert_eq!(world.want(), Some(Want::Close { link: PUSH, generation }));
    assert_eq!(world.want(), None);
    world.passes(60);
    assert!(matches!(world.want(), Some(Want::Connect { link: PUSH, .. })));
}

#[test]
fn confirmations_are_left_for_later_unless_many_are_missing_or_the_link_was_quiet() {
    let mut world = World::up();
    world.times_one();
    for n in 0..8 {
        world.links.push(0, push("opensrf:client:worker"), world.clients.context.now_ms());
        assert_eq!(world.links.catches_up(PUSH, world.clients.context.now_ms()), None, "{n} are missing");
        assert!(world.written(PUSH).contains("RPUSH"));
        assert!(!world.links.receives(PUSH, false));
    }
    world.links.push(0, push("opensrf:client:worker"), world.clients.context.now_ms());
    assert_eq!(world.links.catches_up(PUSH, world.clients.context.now_ms()), Some(false), "eight are missing");
    world.clients.context.at(world.clients.context.now_ms() + 2);
    assert_eq!(world.links.catches_up(PUSH, world.clients.context.now_ms()), Some(true), "it may be closed");
    world.passes(20);
    assert!(world.links.receives(PUSH, false), "a refusal is told within a tick");
}

#[test]
fn the_answer_to_one_push_a_second_is_waited_for_and_timed() {
    let mut world = World::up();
    world.times_one();
    let timed = |world: &World| {
        let reading = world.cores[0].histograms.bus_round_trip.read();
        (reading.values(), reading.sum)
    };
    assert_eq!(timed(&world), (1, 0));
    world.clients.context.at(world.clients.context.now_ms() + 1_000);
    for _ in 0..2 {
        world.links.push(0, push("opensrf:client:worker"), world.clients.context.now_ms());
        world.written(PUSH);
        assert!(world.links.receives(PUSH, false));
    }
    let now_us = world.clients.context.now_us();
    world.links.timed_from(PUSH, now_us + 100);
    world.clients.context.at_us(now_us + 250);
    world.hears(PUSH, ":1\r\n:1\r\n");
    assert_eq!(timed(&world), (2, 150), "one of the two");
    assert!(!world.links.receives(PUSH, false));
}

#[test]
fn batches_are_counted_by_their_messages_either_way_and_links_that_come_back() {
    let mut world = World::up();
    for _ in 0..3 {
        world.links.push(0, push("opensrf:client:worker"), world.clients.context.now_ms());
    }
    world.written(PUSH);
    world.written(POP);
    let message = "$2\r\n{}\r\n";
    world.hears(POP, &format!("*2\r\n$1\r\nk\r\n{message}*2\r\n{message}{message}*2\r\n$1\r\nk\r\n{message}*-1\r\n"));
    let histograms = &world.cores[0].histograms;
    let [pushed, popped] = [&histograms.bus_push, &histograms.bus_pop].map(|histogram| histogram.read());
    assert_eq!(((pushed.values(), pushed.sum), (popped.values(), popped.sum)), ((1, 3), (2, 4)));
    assert_eq!(world.cores[0].counts.bus_reconnects.load(Relaxed), 0);
    let generation = world.links.generation(POP).expect("up");
    world.passes(100);
    world.links.broke(&mut world.clients, POP, generation, &Trouble::Closed);
    world.connects(POP);
    world.greets(POP, &format!("{HELLO}*-1\r\n"));
    assert_eq!(world.cores[0].counts.bus_reconnects.load(Relaxed), 1);
}

#[test]
fn a_redis_that_refuses_pushes_is_asked_with_one_of_ours_until_it_takes_them() {
    let mut world = World::up();
    world.links.push(0, push("opensrf:client:worker"), world.clients.context.now_ms());
    world.written(PUSH);
    world.hears(PUSH, "-OOM command not allowed when used memory > 'maxmemory'.\r\n");
    assert_eq!(world.shown(), LinkState::Refusing);
    assert!(world.trouble().starts_with("OOM"), "{}", world.trouble());
    world.passes(1_000);
    let probe = world.written(PUSH);
    assert!(probe.contains("RPUSH") && probe.contains(":probe") && probe.contains("$3\r\nDEL"), "{probe}");
    world.hears(PUSH, ":1\r\n:1\r\n");
    assert_eq!(world.shown(), LinkState::Up);
    assert_eq!(world.news.last(), Some(&BusNews::TakesPushes { domain: 0 }));
}

#[test]
fn a_quiet_link_is_probed_and_another_domain_is_dialled_when_something_goes_there() {
    let mut world = World::up();
    world.passes(30_020);
    assert!(world.written(PUSH).contains("$3\r\nDEL"));
    assert_eq!(world.links.generation(OTHER), None);
    world.links.push(1, push("opensrf:client:worker"), world.clients.context.now_ms());
    world.connects(OTHER);
    world.greets(OTHER, &format!("{HELLO}:0\r\n"));
    assert!(world.written(OTHER).contains("RPUSH"));
}

#[test]
fn what_answered_what_was_not_asked_is_given_up() {
    for (link, answer) in [(PUSH, ":1\r\n"), (POP, ":1\r\n"), (PUSH, "x\r\n"), (POP, "x\r\n")] {
        let mut world = World::up();
        world.written(POP);
        let generation = world.links.generation(link);
        world.hears(link, answer);
        assert_ne!(world.links.generation(link), generation, "{link:?} {answer}");
        assert_eq!(world.shown(), LinkState::Away, "trying again at once is of no use");
    }
}

#[test]
fn a_core_that_ends_deletes_its_list_and_opens_nothing_any_more() {
    let mut world = World::up();
    world.links.end();
    assert!(!world.links.are_done());
    assert!(world.written(PUSH).ends_with(&format!("$3\r\nDEL\r\n${}\r\n{OUR_ADDRESS}\r\n", OUR_ADDRESS.len())));
    world.passes(20);
    assert!(world.links.receives(PUSH, false), "its confirmation is waited for");
    world.hears(PUSH, ":1\r\n");
    assert!(world.links.are_done());
    let generation = world.links.generation(PUSH).expect("up");
    world.links.broke(&mut world.clients, PUSH, generation, &Trouble::Closed);
    world.passes(1_000);
    assert_eq!(world.links.generation(PUSH), None);
}

#[test]
fn a_name_that_is_not_resolved_yet_is_a_failure_like_another() {
    let mut world = World::new();
    let generation = world.attempt(PUSH);
    world.links.connected(&mut world.clients, PUSH, generation, Err(Trouble::Unresolved));
    world.settle();
    assert_eq!(world.failures(), ["the name is not resolved yet"]);
    world.passes(100);
    assert!(world.links.generation(PUSH).is_some(), "it is tried again");
}
