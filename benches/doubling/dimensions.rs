//! What is doubled, and what happens to each unit of it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering::Relaxed;

use evergate_proto::clients::output::SlotIndex;
use evergate_proto::drain::DrainOptions;
use evergate_proto::websocket::proxy_header::Opening;

use super::core::{Core, Kind, Pushed, envelope, frame};

/// What is timed, once, after all that leads to it. The core is given back, so that its end is not timed.
pub type Run = Box<dyn FnOnce() -> Core>;

/// A dimension.
pub struct Dimension {
    /// What there is more and more of, and what happens.
    pub name: &'static str,
    /// What a time is given for.
    pub unit: &'static str,
    /// The first size; it is doubled [`DOUBLINGS`](super::DOUBLINGS) times.
    pub first: usize,
    /// Leads to what is timed.
    pub make: fn(usize) -> Run,
}

/// The primary domain's only worker, where it does not matter which.
const WORKER: (usize, usize) = (0, 1);

/// Every dimension.
pub const DIMENSIONS: [Dimension; 21] = [
    Dimension { name: "clients: a request and its reply each", unit: "request", first: 125, make: clients },
    Dimension { name: "clients, idle: a tick", unit: "client", first: 125, make: idle_clients },
    Dimension {
        name: "threads that wait for room, a DISCONNECT behind its own",
        unit: "end",
        first: 125,
        make: threads,
    },
    Dimension { name: "backlog of one session", unit: "end", first: 125, make: session_backlog },
    Dimension { name: "conversations: answered in order", unit: "reply", first: 125, make: in_order },
    Dimension { name: "conversations: answered in reversed order", unit: "reply", first: 125, make: reversed },
    Dimension { name: "conversations: all pushes refused", unit: "push", first: 125, make: refused },
    Dimension { name: "conversations: in doubt, then answered", unit: "reply", first: 125, make: doubted },
    Dimension { name: "sessions: CONNECT, request, DISCONNECT", unit: "session", first: 125, make: sessions },
    Dimension {
        name: "sessions: a backlog comes and goes beside them",
        unit: "session",
        first: 125,
        make: beside_sessions,
    },
    Dimension { name: "messages per envelope, answered in order", unit: "message", first: 16, make: messages },
    Dimension {
        name: "messages per envelope, answered in reversed order",
        unit: "message",
        first: 16,
        make: messages_reversed,
    },
    Dimension { name: "keys per object", unit: "key", first: 100, make: keys },
    Dimension { name: "bytes per message", unit: "KiB", first: 16, make: bytes },
    Dimension { name: "header lines that come one by one", unit: "line", first: 3, make: header_lines },
    Dimension { name: "domains: a session in each", unit: "session", first: 4, make: domains },
    Dimension { name: "paused clients: read from again one by one", unit: "client", first: 125, make: woken },
    Dimension { name: "paused clients: they leave one by one", unit: "client", first: 125, make: paused_leave },
    Dimension { name: "paused clients: a tick", unit: "client", first: 125, make: paused_tick },
    Dimension { name: "closing clients: given up, released", unit: "client", first: 125, make: closing },
    Dimension { name: "drain: 2,000 a second are closed at their gap", unit: "client", first: 125, make: drain },
];

fn threads_of(pushed: Vec<Pushed>) -> Vec<String> {
    pushed.into_iter().map(|push| push.thread).collect()
}

fn clients(n: usize) -> Run {
    let mut core = Core::new(1, |_| ());
    let slots = core.open(n);
    let request = envelope(1, &[Kind::Request]);
    Box::new(move || {
        for slot in slots {
            core.say(slot, &mut request.clone());
        }
        core.write_batch();
        for thread in threads_of(core.take_pushed()) {
            core.answer(WORKER, &thread, 1, 205);
        }
        core
    })
}

fn idle_clients(n: usize) -> Run {
    let mut core = Core::new(1, |_| ());
    core.open(n);
    core.tick(20, 0);
    Box::new(move || {
        core.tick(20, 0);
        core
    })
}

/// One request may be under way; `n` threads wait behind it, and a DISCONNECT behind its own thread.
fn threads(n: usize) -> Run {
    let mut core = Core::new(1, |limits| limits.parallel_max = 2);
    let slot = core.open(1)[0];
    core.say(slot, &mut envelope(0, &[Kind::Connect]));
    let connecting = core.take_pushed().remove(0);
    core.answer(WORKER, &connecting.thread, 1, 200);
    core.say(slot, &mut envelope(0, &[Kind::Request]));
    core.say(slot, &mut envelope(0, &[Kind::Disconnect]));
    core.take_pushed();
    for thread in 0..=n {
        core.say(slot, &mut envelope(thread + 1, &[Kind::Request]));
    }
    Box::new(move || {
        let mut ended = 0;
        while let Some(next) = core.pushed.pop() {
            core.answer(WORKER, &next.thread, 1, 205);
            ended += 1;
        }
        assert_eq!(ended, n + 1);
        core
    })
}

fn session_backlog(n: usize) -> Run {
    let mut core = Core::new(1, |_| ());
    let slot = core.open(1)[0];
    core.say(slot, &mut envelope(0, &[Kind::Connect]));
    let connecting = core.take_pushed().remove(0);
    for _ in 0..n {
        core.say(slot, &mut envelope(0, &[Kind::Request]));
    }
    core.answer(WORKER, &connecting.thread, 1, 200);
    Box::new(move || {
        let mut ended = 0;
        while let Some(next) = core.pushed.pop() {
            core.answer(WORKER, &next.thread, 1, 205);
            ended += 1;
        }
        assert_eq!(ended, n);
        core
    })
}

/// A client with a request under way on each of `n` threads.
fn conversations(n: usize) -> (Core, Vec<Pushed>) {
    let mut core = Core::new(1, |_| ());
    let slot = core.open(1)[0];
    for thread in 0..n {
        core.say(slot, &mut envelope(thread, &[Kind::Request]));
    }
    let pushed = core.take_pushed();
    assert_eq!(pushed.len(), n);
    (core, pushed)
}

fn in_order(n: usize) -> Run {
    let (mut core, pushed) = conversations(n);
    Box::new(move || {
        for thread in threads_of(pushed) {
            core.answer(WORKER, &thread, 1, 205);
        }
        core
    })
}

fn reversed(n: usize) -> Run {
    let (mut core, pushed) = conversations(n);
    Box::new(move || {
        threads_of(pushed).iter().rev().for_each(|thread| core.answer(WORKER, thread, 1, 205));
        core
    })
}

fn refused(n: usize) -> Run {
    let (mut core, pushed) = conversations(n);
    Box::new(move || {
        for ticket in pushed.into_iter().filter_map(|push| push.ticket) {
            core.clients.push_failed(ticket, "refused");
            core.settle();
        }
        core
    })
}

fn doubted(n: usize) -> Run {
    let (mut core, pushed) = conversations(n);
    Box::new(move || {
        core.clients.pops_lost();
        core.clients.pops_back();
        for thread in threads_of(pushed) {
            core.answer(WORKER, &thread, 1, 205);
        }
        core
    })
}

/// A client with `n` sessions, each with a worker of its own.
fn connected(n: usize, mut core: Core) -> (Core, SlotIndex, Vec<String>) {
    let slot = core.open(1)[0];
    for thread in 0..n {
        core.say(slot, &mut envelope(thread, &[Kind::Connect]));
    }
    let threads = threads_of(core.take_pushed());
    for (number, thread) in threads.iter().enumerate() {
        core.answer((0, number), thread, 1, 200);
    }
    (core, slot, threads)
}

fn sessions(n: usize) -> Run {
    let core = Core::new(1, |_| ());
    Box::new(move || {
        let (mut core, slot, threads) = connected(n, core);
        for (number, thread) in threads.iter().enumerate() {
            core.say(slot, &mut envelope(number, &[Kind::Request]));
            core.answer((0, number), thread, 1, 205);
        }
        core.take_pushed();
        for number in 0..n {
            core.say(slot, &mut envelope(number, &[Kind::Disconnect]));
        }
        assert_eq!(core.take_pushed().len(), n);
        core.write_batch();
        core
    })
}

fn beside_sessions(n: usize) -> Run {
    let (mut core, slot, threads) = connected(n, Core::new(1, |_| ()));
    Box::new(move || {
        for (number, thread) in threads.iter().enumerate() {
            core.say(slot, &mut envelope(number, &[Kind::Request]));
            core.say(slot, &mut envelope(number, &[Kind::Request]));
            core.answer((0, number), thread, 1, 205);
            core.answer((0, number), thread, 1, 205);
        }
        assert_eq!(core.take_pushed().len(), 2 * n);
        core
    })
}

/// An envelope of `n` requests that has been relayed is answered in the order of `traces`.
fn messages_in(n: usize, traces: impl Iterator<Item = usize> + 'static) -> Run {
    let mut core = Core::new(1, |_| ());
    let slot = core.open(1)[0];
    let mut request = envelope(0, &vec![Kind::Request; n]);
    Box::new(move || {
        core.say(slot, &mut request);
        let pushed = core.take_pushed().remove(0);
        traces.for_each(|trace| core.answer(WORKER, &pushed.thread, trace, 205));
        core
    })
}

fn messages(n: usize) -> Run {
    messages_in(n, 1..=n)
}

fn messages_reversed(n: usize) -> Run {
    messages_in(n, (1..=n).rev())
}

fn say_payload(payload: &str) -> Run {
    let mut core = Core::new(1, |_| ());
    let slot = core.open(1)[0];
    let text = format!(
        r#"{{"service":"s","thread":"t","osrf_msg":[{{"__c":"osrfMessage","__p":{{"threadTrace":1,"type":"REQUEST","payload":{payload}}}}}]}}"#
    );
    let mut request = frame(text.as_bytes());
    Box::new(move || {
        core.say(slot, &mut request);
        assert_eq!(core.pushed.len(), 1, "it is relayed");
        core
    })
}

fn keys(n: usize) -> Run {
    let keys: Vec<String> = (0..n).map(|key| format!(r#""key{key}":{key}"#)).collect();
    say_payload(&format!(r#"{{"__c":"osrfMethod","__p":{{"method":"m","params":[]}},{}}}"#, keys.join(",")))
}

fn bytes(n: usize) -> Run {
    let fill = "lorem ipsum \\n ".repeat(n * 1024 / 15);
    say_payload(&format!(r#"{{"__c":"osrfMethod","__p":{{"method":"m","params":["{fill}"]}}}}"#))
}

fn header_lines(n: usize) -> Run {
    let mut core = Core::new(1, |_| ());
    let slot = core.clients.accept(IpAddr::V4(Ipv4Addr::LOCALHOST).into(), Opening::Request);
    core.say(slot, &mut b"GET / HTTP/1.1\r\n".to_vec());
    let line = format!("X-Filler: {}\r\n", "x".repeat(100));
    Box::new(move || {
        for _ in 0..n {
            core.say(slot, &mut line.clone().into_bytes());
        }
        core
    })
}

fn domains(n: usize) -> Run {
    let mut core = Core::new(n, |_| ());
    let slot = core.open(1)[0];
    for thread in 0..n {
        core.say(slot, &mut envelope(thread, &[Kind::Connect]));
    }
    let threads = threads_of(core.take_pushed());
    Box::new(move || {
        for (domain, thread) in threads.iter().enumerate() {
            core.answer((domain, 1), thread, 1, 200);
        }
        core
    })
}

/// Clients that are not read from, for each has as much in its backlog as it may.
fn paused(n: usize) -> (Core, Vec<SlotIndex>, Vec<String>) {
    let mut core = Core::new(1, |limits| (limits.parallel_max, limits.backlog_max) = (1, 1));
    let slots = core.open(n);
    for &slot in &slots {
        core.say(slot, &mut envelope(1, &[Kind::Request]));
        core.say(slot, &mut envelope(2, &[Kind::Request]));
    }
    assert_eq!(core.clients.paused().len(), n);
    let threads = threads_of(core.take_pushed());
    (core, slots, threads)
}

fn woken(n: usize) -> Run {
    let (mut core, _, threads) = paused(n);
    Box::new(move || {
        threads.iter().rev().for_each(|thread| core.answer(WORKER, thread, 1, 205));
        assert_eq!(core.resumed, n);
        core
    })
}

fn paused_leave(n: usize) -> Run {
    let (mut core, slots, _) = paused(n);
    Box::new(move || {
        for slot in slots.into_iter().rev() {
            core.clients.broke(slot, "gone");
            core.clients.release(slot);
            core.settle();
        }
        assert!(core.clients.is_empty());
        core
    })
}

fn paused_tick(n: usize) -> Run {
    let (mut core, ..) = paused(n);
    core.tick(20, 0);
    Box::new(move || {
        core.tick(20, 0);
        core
    })
}

/// All are told to go; nobody acknowledges anything, until all are given up.
fn closing(n: usize) -> Run {
    let mut core = Core::new(1, |_| ());
    core.open(n);
    Box::new(move || {
        core.clients.stop(1001, false);
        core.settle();
        while !core.clients.is_empty() {
            core.tick(100, 1);
            for slot in std::mem::take(&mut core.hang_up) {
                core.clients.release(slot);
            }
        }
        core
    })
}

/// All are idle and acknowledge everything; who is closed leaves at once.
fn drain(n: usize) -> Run {
    let mut core = Core::new(1, |_| ());
    core.open(n);
    core.clients.context.at(core.clients.context.now_ms() + 1_000);
    let deadline_ms = core.clients.context.now_ms() + 3_600_000;
    Box::new(move || {
        core.clients.begin_drain(DrainOptions { deadline_ms, closes_per_second: 2_000.0 });
        while core.clients.context.counts().closed_at_gap.load(Relaxed) < n as u64 {
            core.tick(20, 0);
        }
        core
    })
}
