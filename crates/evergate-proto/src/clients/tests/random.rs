//! Anything may happen at any time: the gauges stay right, and every request ends in its replies, in an error told, or
//! with its client.

use proptest::prelude::*;

use super::*;

/// What may happen. Indexes are taken modulo what there is.
#[derive(Clone, Debug)]
enum Action {
    Arrive,
    Say {
        who: usize,
        thread: u8,
        messages: Vec<u8>,
    },
    SayBadly {
        who: usize,
        how: usize,
    },
    SayHalf {
        who: usize,
    },
    Leave {
        who: usize,
        politely: bool,
    },
    Stall {
        who: usize,
    },
    Unstall,
    /// A worker answers an envelope that was pushed.
    Answer {
        which: usize,
        how: u8,
        other_worker: bool,
    },
    /// The same, once more.
    AnswerAgain {
        which: usize,
    },
    PushFails {
        which: usize,
    },
    Pass {
        ms: u64,
    },
    PopsLost,
    PopsBack,
    Emptied {
        domain: usize,
    },
    Away {
        domain: usize,
        away: bool,
    },
    Drain,
}

fn action() -> impl Strategy<Value = Action> {
    let who = 0..8_usize;
    prop_oneof![
        2 => Just(Action::Arrive),
        12 => (who.clone(), 0..3_u8, prop::collection::vec(0..6_u8, 1..4))
            .prop_map(|(who, thread, messages)| Action::Say { who, thread, messages }),
        1 => (who.clone(), 0..4_usize).prop_map(|(who, how)| Action::SayBadly { who, how }),
        1 => who.clone().prop_map(|who| Action::SayHalf { who }),
        1 => (who.clone(), any::<bool>()).prop_map(|(who, politely)| Action::Leave { who, politely }),
        1 => who.prop_map(|who| Action::Stall { who }),
        1 => Just(Action::Unstall),
        12 => (any::<usize>(), 0..12_u8, prop::bool::weighted(0.2))
            .prop_map(|(which, how, other_worker)| Action::Answer { which, how, other_worker }),
        1 => any::<usize>().prop_map(|which| Action::AnswerAgain { which }),
        1 => any::<usize>().prop_map(|which| Action::PushFails { which }),
        3 => (1..45_000_u64).prop_map(|ms| Action::Pass { ms }),
        1 => Just(Action::PopsLost),
        1 => Just(Action::PopsBack),
        1 => (0..2_usize).prop_map(|domain| Action::Emptied { domain }),
        1 => (0..2_usize, any::<bool>()).prop_map(|(domain, away)| Action::Away { domain, away }),
        1 => Just(Action::Drain),
    ]
}

/// The world and what the workers know.
struct Play {
    world: World,
    slots: Vec<SlotIndex>,
    /// Envelopes that were pushed and not answered.
    open: Vec<Pushed>,
    answered: Vec<Pushed>,
    /// The number of the next REQUEST: its threadTrace, so that its end can be told from all others.
    next: i64,
    /// REQUESTs that clients sent: whose, and how often their end was heard.
    asked: HashMap<i64, (SlotIndex, u32, usize)>,
    draining: bool,
}

impl Play {
    fn new() -> Self {
        let world = World::with(|limits| {
            limits.parallel_max = 4;
            limits.backlog_max = 3;
            limits.sessions_max = 2;
            limits.request_max_ms = 100_000;
            limits.outbound_bytes_max = 20_000;
            limits.core_bytes_max = 60_000;
            limits.garbage_max = 3;
        });
        Self {
            world,
            slots: Vec::new(),
            open: Vec::new(),
            answered: Vec::new(),
            next: 1,
            asked: HashMap::new(),
            draining: false,
        }
    }

    fn who(&self, who: usize) -> Option<SlotIndex> {
        let slot = *self.slots.get(who % self.slots.len().max(1))?;
        self.world.is_open(slot).then_some(slot)
    }

    fn say(&mut self, slot: SlotIndex, thread: u8, kinds: &[u8]) {
        if !self.world.clients.may_read(slot) {
            return;
        }
        let generation = self.world.state(slot).generation();
        let mut messages = Vec::new();
        for kind in kinds {
            let trace = self.next;
            self.next += 1;
            messages.push(match kind {
                0 => connect(trace),
                1 => disconnect(trace),
                _ => request(trace),
            });
            if *kind != 1 {
                self.asked.insert(trace, (slot, generation, 0));
            }
        }
        self.world.say(slot, envelope(["", "t", "u"][usize::from(thread)], &messages));
    }

    /// One of the ways in which a worker, or the router, deals with an envelope.
    fn answer(&mut self, push: &Pushed, how: u8, other_worker: bool) {
        let worker = match (other_worker, push.key.as_str()) {
            (true, _) => [OTHER_WORKER, FOREIGN_WORKER][usize::from(how) % 2],
            (false, ROUTER_KEY) => WORKER,
            (false, worker) => worker,
        }
        .to_owned();
        if how == 0 && push.key == ROUTER_KEY {
            self.world.answer_no_service(push);
            return;
        }
        if how == 1 {
            self.world.answer(push, &worker, &[status(0, 408)]);
        }
        for message in push.json["body"].as_array().expect("an array") {
            let trace = message["__p"]["threadTrace"].as_i64().expect("a number");
            let code = match how {
                2 => 500,
                3 => 307,
                4 => 417,
                _ if message["__p"]["type"] == "CONNECT" => 200,
                5 => 404,
                _ => 205,
            };
            if message["__p"]["type"] != "DISCONNECT" {
                // A worker's 200 comes alone.
                let messages = [result(trace), status(trace, code)];
                self.world.answer(push, &worker, &messages[usize::from(code == 200)..]);
            }
        }
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Arrive => {
                let slot = self.world.client();
                self.slots.retain(|known| *known != slot);
                self.slots.push(slot);
            }
            Action::Say { who, thread, ref messages } => {
                if let Some(slot) = self.who(who) {
                    self.say(slot, thread, messages);
                }
            }
            Action::SayBadly { who, how } => {
                if let Some(slot) = self.who(who).filter(|slot| self.world.clients.may_read(*slot)) {
                    let bad = ["{", "[1]", r#"{"thread":"t","osrf_msg":[null]}"#, r#"{"service":5,"osrf_msg":{}}"#];
                    self.world.say(slot, bad[how]);
                }
            }
            Action::SayHalf { who } => {
                if let Some(slot) = self.who(who).filter(|slot| self.world.clients.may_read(*slot)) {
                    // Whatever follows completes it, as garbage.
                    self.world.input(slot, &[0x81, 0x8a]);
                }
            }
            Action::Leave { who, politely } => {
                if let Some(slot) = self.who(who) {
                    if politely {
                        self.world.say_close(slot, 1000);
                    }
                    self.world.hang_up(slot);
                }
            }
            Action::Stall { who } => self.world.stalled.extend(self.who(who)),
            Action::Unstall => {
                for slot in std::mem::take(&mut self.world.stalled) {
                    self.world.drain_outbound(slot);
                    self.world.settle();
                }
            }
            Action::Answer { which, how, other_worker } => {
                if !self.open.is_empty() {
                    let push = self.open.remove(which % self.open.len());
                    self.answer(&push, how, other_worker);
                    self.answered.push(push);
                }
            }
            Action::AnswerAgain { which } => {
                if let Some(push) = self.answered.get(which % self.answered.len().max(1)).cloned() {
                    self.answer(&push, 9, false);
                }
            }
            Action::PushFails { which } => {
                if !self.open.is_empty() {
                    let push = self.open.remove(which % self.open.len());
                    if let Some(ticket) = push.ticket {
                        self.world.clients.push_failed(ticket, "the link broke");
                    }
                }
            }
            Action::Pass { ms } => self.world.pass(ms),
            Action::PopsLost => self.world.clients.pops_lost(),
            Action::PopsBack => self.world.clients.pops_back(),
            Action::Emptied { domain } => self.world.clients.bus_emptied(domain),
            Action::Away { domain, away } => self.world.clients.context.take_messages(domain, !away),
            Action::Drain => {
                if !self.draining {
                    self.draining = true;
                    let deadline_ms = self.world.now_ms() + 120_000;
                    let options = crate::drain::DrainOptions { deadline_ms, closes_per_second: 10.0 };
                    self.world.clients.begin_drain(options);
                }
            }
        }
        self.world.settle();
    }

    /// Takes what was pushed and heard, and counts the ends of requests.
    fn look(&mut self) {
        self.world.check_gauges();
        for push in self.world.pushed() {
            if push.ticket.is_some() {
                self.open.push(push);
            }
        }
        for slot in self.slots.clone() {
            for heard in self.world.heard(slot) {
                let told = error_in(&heard).is_some();
                for message in heard["osrf_msg"].as_array().expect("an array") {
                    let parameters = &message["__p"];
                    let code = parameters["payload"]["__p"]["statusCode"].as_i64();
                    let code = code.or_else(|| parameters["payload"]["__p"]["statusCode"].as_str()?.parse().ok());
                    let Some(trace) = parameters["threadTrace"].as_i64().filter(|trace| *trace != 0) else { continue };
                    let (owner, _, ends) = self.asked.get_mut(&trace).expect("somebody asked");
                    assert_eq!(*owner, slot, "no client hears what is meant for another");
                    assert!(!told || *ends == 0, "request {trace} had ended when it was said to have failed");
                    if parameters["type"] == "STATUS" && code.is_some_and(|code| code >= 200) {
                        *ends += 1;
                    }
                }
            }
        }
    }

    /// Whether a request's end is still awaited: in the books, or in the backlog.
    fn awaits(&self, slot: SlotIndex, trace: i64) -> bool {
        let book = &self.world.state(slot).book;
        let waiting = format!("\"threadTrace\":{trace},");
        book.conversations().flat_map(|c| c.pending.iter()).any(|pending| pending.trace.value == trace)
            || book.waiting().any(|w| std::str::from_utf8(w.text()).expect("text").contains(&waiting))
    }

    /// Every request of a client that is here has ended or is awaited.
    fn check_requests(&self) {
        for (&trace, &(slot, generation, ends)) in &self.asked {
            let here = self.world.is_open(slot) && self.world.state(slot).generation() == generation;
            if here && !self.world.stalled.contains(&slot) {
                let awaited = self.awaits(slot, trace);
                assert!(ends > 0 || awaited, "request {trace} is lost");
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_no_request_is_lost_and_every_gauge_is_right(actions in prop::collection::vec(action(), 1..120)) {
        let mut play = Play::new();
        for _ in 0..3 {
            play.act(&Action::Arrive);
        }
        for action in &actions {
            play.act(action);
            play.look();
            play.check_requests();
        }
        // In the end everybody has heard the end of everything, and leaves.
        play.act(&Action::Unstall);
        for domain in 0..2 {
            play.world.clients.context.take_messages(domain, true);
        }
        for _ in 0..200 {
            play.world.pass(10_000);
            play.look();
            let pending = play.world.counts().pending.load(Relaxed);
            if pending == 0 {
                break;
            }
        }
        play.check_requests();
        prop_assert_eq!(play.world.counts().pending.load(Relaxed), 0, "what is old is given up");
        for slot in 0..play.world.clients.slots_len() {
            if play.world.clients.client(slot).is_some() {
                play.world.hang_up(slot);
            }
        }
        // What they left behind is forgotten, then their addresses.
        for _ in 0..2 {
            play.world.clients.context.now_ms += 602_000;
            play.world.clients.tick(|| true);
        }
        for (name, gauge, _, value) in play.world.counts().table() {
            prop_assert!(!gauge || value == 0, "{} is {}", name, value);
        }
        prop_assert_eq!(play.world.clients.context.core_bytes(), 0);
    }
}
