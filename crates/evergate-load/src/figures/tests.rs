//! What rounds amount to, and what is not known of them.

use super::*;
use crate::fault::Fault;
use crate::tally::Tally;
use crate::target::Target;
use crate::tls::Trust;

const SECOND_NS: u64 = 1_000_000_000;

/// A hundred requests a second, for tests.
pub fn load(pace: Pace) -> Load {
    Load { rate: 100.0, ..crate::conduct::tests::load(pace) }
}

/// A round of two seconds in which nothing was asked, for tests.
pub fn measured(tally: Tally) -> Measured {
    Measured {
        tally,
        seconds: 2.0,
        server_cpu_seconds: None,
        memory_before: None,
        memory_idle: None,
        memory: None,
        own_cpu_seconds: 1.0,
        connected: 1,
        idle: 0,
        interrupted: false,
        deserted: false,
    }
}

/// A server of which nothing is known, for tests.
pub fn server() -> Server {
    Server {
        target: Target::new("ws://127.0.0.1:7682/x", &Trust::default()).expect("a URL"),
        pids: Vec::new(),
        echo: false,
    }
}

pub fn of(pace: Pace, rounds: &[&Measured]) -> Figures {
    Figures::new(&load(pace), &server(), rounds)
}

pub const CLOSED: Pace = Pace::Closed { in_flight: 1, think_ns: 0 };

/// A tally of two seconds with so many replies, each of a millisecond.
pub fn answered(replies: u64) -> Tally {
    let mut tally = Tally::new(false);
    tally.begin(0, SECOND_NS);
    for _ in 0..replies {
        tally.answer(0, 0, 1_000_000);
    }
    tally.end(2 * SECOND_NS);
    tally
}

#[test]
fn throughput_and_cpu_are_of_the_replies_that_came_and_latency_of_the_requests_that_were_due() {
    let mut tally = Tally::new(true);
    tally.begin(2 * SECOND_NS, SECOND_NS);
    for _ in 0..8 {
        tally.answer(0, SECOND_NS, 3 * SECOND_NS);
    }
    tally.answer(0, 3 * SECOND_NS, 3 * SECOND_NS + 1_000_000);
    tally.end(4 * SECOND_NS);
    for _ in 0..2 {
        tally.answer(0, 3 * SECOND_NS, 5 * SECOND_NS);
    }
    let round = Measured { server_cpu_seconds: Some(0.9), ..measured(tally) };
    let figures = of(Pace::Open, &[&round]);
    assert_eq!((figures.requests, figures.throughput), (9, Some(4.5)));
    assert_eq!((figures.server.cpu_us_per_request, figures.server.cpu_share), (Some(100_000.0), Some(0.45)));
    assert_eq!(figures.latency_requests, 3);
}

#[test]
fn what_was_not_measured_is_null_and_not_zero() {
    let round = Measured { seconds: 0.001, own_cpu_seconds: 0.0012, ..measured(Tally::new(false)) };
    let json = serde_json::to_value(of(CLOSED, &[&round])).expect("JSON");
    for figure in [
        "/throughput",
        "/latency_us",
        "/connect_us",
        "/generator/cpu_share",
        "/server/cpu_us_per_request",
        "/server/pss_bytes_per_idle_client",
        "/sent_late",
        "/not_sent",
        "/churned",
        "/reconnects",
        "/retried",
    ] {
        assert_eq!(json.pointer(figure), Some(&serde_json::Value::Null), "{figure}");
    }
    assert_eq!(json["generator"]["is_bottleneck"], false);
}

#[test]
fn the_generators_cpu_is_known_though_no_reply_was_right() {
    let [idle, busy] = [0.4, 1.9].map(|own_cpu_seconds| Measured { own_cpu_seconds, ..measured(Tally::new(false)) });
    let generator = of(CLOSED, &[&idle, &busy]).generator;
    assert_eq!((generator.cpu_share, generator.cpu_share_max), (Some(0.575), Some(0.95)));
    assert!(generator.is_bottleneck);
}

#[test]
fn the_cpu_of_a_server_that_died_is_that_of_the_rounds_before() {
    let whole = Measured { server_cpu_seconds: Some(1.0), ..measured(answered(10)) };
    let figures = of(CLOSED, &[&whole, &measured(answered(5))]);
    assert_eq!((figures.requests, figures.server.cpu_us_per_request), (15, Some(100_000.0)));
    assert_eq!(figures.server.cpu_share, Some(0.5));
}

#[test]
fn memory_that_did_not_grow_says_nothing_of_a_client() {
    let memory = |pss_bytes| Some(crate::host::Memory { rss_bytes: pss_bytes, pss_bytes: Some(pss_bytes) });
    let per_client = |after| {
        let round = Measured {
            idle: 10,
            memory_before: memory(5_000),
            memory_idle: memory(after),
            ..measured(Tally::new(false))
        };
        of(CLOSED, &[&round]).server.pss_bytes_per_idle_client
    };
    assert_eq!([4_000, 5_000, 7_000].map(per_client), [None, None, Some(200.0)]);
}

#[test]
fn nobody_deserts_who_never_came() {
    let refused = Measured { connected: 0, deserted: true, ..measured(Tally::new(false)) };
    assert!(!of(CLOSED, &[&refused]).deserted);
    assert!(of(CLOSED, &[&Measured { connected: 1, ..refused }]).deserted);
}

#[test]
fn a_server_that_was_not_measured_has_no_figure_that_is_none() {
    let round = Measured { interrupted: true, ..measured(answered(9)) };
    let rows = crate::table::rows(&[&of(CLOSED, &[&round]), &of(CLOSED, &[])], None);
    let cells: Vec<&String> = rows.iter().map(|(_, cells)| &cells[1]).collect();
    assert!(!cells.iter().any(|cell| cell.contains("NaN") || cell.contains("-0")), "{cells:?}");
}

#[test]
fn who_refused_one_round_has_not_refused_all() {
    let refusing = || {
        let mut tally = Tally::new(false);
        tally.fault(Fault::Refused(503));
        Measured { connected: 0, ..measured(tally) }
    };
    let mut tally = answered(9);
    tally.connect.saturating_record(1_000);
    let serving = Measured { connected: 4, ..measured(tally) };
    assert!(of(CLOSED, &[&refusing(), &refusing()]).refused);
    let partly = of(CLOSED, &[&serving, &refusing()]);
    assert_eq!((partly.refused, partly.connected, partly.connected_most), (false, 0, 4));
    assert!(!of(CLOSED, &[]).refused, "nobody asked");
    assert!(!of(CLOSED, &[&Measured { interrupted: true, ..refusing() }]).refused, "nobody waited for the answer");
}
