//! Delivered is what the client's TCP has acknowledged: however slowly a client reads, and whatever closes it, it gets what it is owed and no reset.
//! A slow client is alive as long as it takes bytes, and an upload as long as they come.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::support::client::{Envelope, envelope, request};
use crate::support::gateway::Gateway;
use crate::support::slow::{End, Seen, Slow, frame, has_big};
use crate::support::{PATIENCE, until};

const DEMO: &str = "opensrf.demo";
/// A reply that the kernel takes as a whole, at a rate that has it wait there for some five seconds.
const BIG: usize = 3_000_000;
const RATE: u32 = 600_000;
/// The longest that it may take on a busy machine.
const LONG: Duration = Duration::from_secs(30);

/// Text frames and what they begin with.
const TEXT: u8 = 1;
const CONTINUATION: u8 = 0;

fn big(trace: u32, bytes: usize) -> String {
    envelope(DEMO, &trace.to_string(), &[request(trace, "opensrf.demo.big", &format!("[{bytes}]"))])
}

fn add(trace: u32) -> String {
    envelope("opensrf.math", &trace.to_string(), &[request(trace, "add", "[1,2]")])
}

/// A client that asked for the big reply and has seen its beginning.
fn reading(gateway: &Gateway, rate: u32, bytes: usize) -> Slow {
    let mut slow = Slow::connect(gateway.address(), rate).expect("connect");
    slow.text(&big(0, bytes));
    assert!(slow.read_until(PATIENCE, Seen::has_begun), "nothing of the reply: {:?}", slow.seen.end);
    slow
}

/// Reads to the end, with a ping each half second as long as nothing has closed: what arrives at a socket that is gone brings a reset.
fn read_to_end(slow: &mut Slow) {
    let end = Instant::now() + LONG;
    while slow.seen.end.is_none() {
        assert!(Instant::now() < end, "no end of the stream; {}", summary(&slow.seen));
        slow.read_until(Duration::from_millis(500), |seen| seen.close.is_some());
        if slow.seen.close.is_none() {
            slow.ping();
        } else {
            slow.read_until(PATIENCE, |_| false);
        }
    }
}

fn summary(seen: &Seen) -> String {
    format!(
        "{} bytes, {} messages, {} bytes of one more, close {:?}, end {:?}",
        seen.bytes,
        seen.texts.len(),
        seen.unfinished,
        seen.code(),
        seen.end
    )
}

/// The whole reply, the Close, and the end of the stream without a reset.
fn must_be_whole(seen: &Seen, code: Option<u16>) {
    assert!(has_big(&seen.texts, BIG), "the reply is not whole: {}", summary(seen));
    assert_eq!((seen.code(), seen.end, seen.unfinished), (code, Some(End::Fin), 0), "{}", summary(seen));
}

#[test]
fn a_drain_waits_until_a_slow_reader_has_acknowledged_its_reply() {
    let mut gateway = Gateway::demo(&[]);
    let (mut silent, mut pinging, mut asking) =
        (reading(&gateway, RATE, BIG), reading(&gateway, RATE, BIG), reading(&gateway, RATE, BIG));
    gateway.signal(Signal::SIGUSR1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert!(silent.read_until(LONG, |seen| seen.end.is_some()), "{}", summary(&silent.seen));
            must_be_whole(&silent.seen, Some(1012));
        });
        scope.spawn(|| {
            read_to_end(&mut pinging);
            must_be_whole(&pinging.seen, Some(1012));
        });
        // Its request comes before its Close, so it is served.
        scope.spawn(|| {
            asking.read_for(Duration::from_secs(2));
            asking.text(&add(1));
            assert!(asking.read_until(LONG, |seen| seen.end.is_some()), "{}", summary(&asking.seen));
            must_be_whole(&asking.seen, Some(1012));
            let answer = asking.seen.texts.last().expect("an answer");
            let reply = Envelope::new(answer);
            assert!(reply.thread() == "1" && reply.has_status(205), "{answer:.300}");
        });
    });
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
    assert!(gateway.log().contains("3 clients closed at a gap, 0 cut off"));
}

#[test]
fn a_drains_deadline_cuts_who_has_not_acknowledged_its_reply_and_says_so() {
    let mut gateway = Gateway::demo(&["--drain-max-seconds", "2"]);
    let mut slow = reading(&gateway, 100_000, BIG);
    gateway.signal(Signal::SIGUSR1);
    slow.read_until(LONG, |seen| seen.end.is_some() || seen.bytes > 500_000);
    assert_eq!(gateway.wait_exit(PATIENCE), 3);
    assert!(gateway.log().contains("0 clients closed at a gap, 1 cut off"), "{}", gateway.log());
}

#[test]
fn the_idle_time_out_begins_when_a_slow_reader_has_acknowledged_its_reply() {
    let gateway = Gateway::demo(&["--idle-timeout-seconds", "1"]);
    let mut slow = reading(&gateway, RATE, BIG);
    read_to_end(&mut slow);
    must_be_whole(&slow.seen, Some(1000));
    let idle = slow.seen.close.zip(slow.seen.last_text).map(|((_, closed), whole)| closed.duration_since(whole));
    assert!(idle > Some(Duration::from_millis(700)), "closed as idle {idle:?} after its reply was whole");
}

#[test]
fn a_client_that_closes_while_it_reads_its_reply_gets_all_of_it_then_our_close_and_no_reset() {
    let gateway = Gateway::demo(&["--close-timeout-seconds", "1"]);
    std::thread::scope(|scope| {
        for pings in [false, true] {
            let mut slow = reading(&gateway, RATE, BIG);
            scope.spawn(move || {
                slow.read_for(Duration::from_millis(500));
                slow.close(1000);
                while slow.seen.end.is_none() && slow.seen.close.is_none() {
                    slow.read_until(Duration::from_millis(500), |seen| seen.close.is_some());
                    if pings {
                        // What follows a Close is discarded, and must not cost the client what is on its way to it.
                        slow.ping();
                    }
                }
                slow.read_until(PATIENCE, |_| false);
                must_be_whole(&slow.seen, Some(1000));
            });
        }
    });
    gateway.until_count("open", 0);
}

#[test]
fn a_client_that_half_closes_while_it_reads_gets_what_it_is_owed_and_no_reset_also_in_a_drain() {
    let mut gateway = Gateway::demo(&[]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let mut slow = reading(&gateway, RATE, BIG);
            slow.finish();
            scope.spawn(move || {
                slow.read_until(LONG, |_| false);
                assert!(has_big(&slow.seen.texts, BIG), "the reply is not whole: {}", summary(&slow.seen));
                assert_eq!(slow.seen.end, Some(End::Fin), "{}", summary(&slow.seen));
            });
        }
        gateway.signal(Signal::SIGUSR1);
        assert_eq!(gateway.wait_exit(LONG), 0);
    });
}

#[test]
fn a_slow_consumer_gets_the_frame_that_was_begun_then_1008_and_no_reset() {
    let gateway = Gateway::demo(&["--outbound-bytes-max", "5242880", "--cores", "0"]);
    let mut slow = reading(&gateway, 1_500_000, BIG);
    for trace in 1..=6 {
        slow.text(&big(trace, 2_000_000));
    }
    read_to_end(&mut slow);
    must_be_whole(&slow.seen, Some(1008));
    assert!(slow.seen.texts.len() < 7, "nothing was dropped: {}", summary(&slow.seen));
    assert!(gateway.limit("outbound_bytes_max") >= 1);
}

#[test]
fn a_fast_stop_delivers_what_a_slow_reader_takes_in_its_time_then_1001_and_no_reset() {
    let mut gateway = Gateway::demo(&["--stop-max-seconds", "20"]);
    let (mut silent, mut pinging) = (reading(&gateway, RATE, BIG), reading(&gateway, RATE, BIG));
    gateway.signal(Signal::SIGTERM);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            silent.read_until(LONG, |_| false);
            must_be_whole(&silent.seen, Some(1001));
        });
        scope.spawn(|| {
            read_to_end(&mut pinging);
            must_be_whole(&pinging.seen, Some(1001));
        });
    });
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
}

#[test]
fn a_fast_stop_ends_in_its_time_whoever_still_reads_and_says_what_it_cuts() {
    let mut gateway = Gateway::demo(&["--stop-max-seconds", "2"]);
    let mut slow = reading(&gateway, 50_000, BIG);
    let begun = Instant::now();
    gateway.signal(Signal::SIGTERM);
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(gateway.log().contains("bytes not delivered"), "{}", gateway.log());
    // Its kernel has the rest, and a client that is silent gets that.
    slow.read_for(Duration::from_millis(500));
    assert_ne!(slow.seen.end, Some(End::Reset), "{}", summary(&slow.seen));
}

#[test]
fn a_slow_reader_that_answers_pings_when_it_sees_them_is_alive() {
    let gateway = Gateway::demo(&["--ping-seconds", "1", "--pong-timeout-seconds", "2"]);
    let mut slow = reading(&gateway, RATE, BIG);
    slow.read_until(LONG, |seen| !seen.texts.is_empty());
    assert!(has_big(&slow.seen.texts, BIG), "{}", summary(&slow.seen));
    slow.text(&add(1));
    assert!(slow.read_until(PATIENCE, |seen| seen.texts.len() == 2), "{}", summary(&slow.seen));
    assert_eq!(gateway.limit("pong_timeout_seconds"), 0);
    // One that reads everything and says nothing is still found out.
    slow.answers_pings = false;
    assert!(slow.read_until(PATIENCE, |seen| seen.end.is_some()), "{}", summary(&slow.seen));
    assert_eq!(gateway.limit("pong_timeout_seconds"), 1);
}

#[test]
fn a_reader_below_slow_bytes_per_second_min_that_owes_a_pong_is_dropped() {
    let flags = ["--ping-seconds", "1", "--pong-timeout-seconds", "2", "--slow-bytes-per-second-min", "200000"];
    let gateway = Gateway::demo(&flags);
    let (mut below, mut above) = (reading(&gateway, 50_000, BIG), reading(&gateway, RATE, BIG));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            above.read_until(LONG, |seen| !seen.texts.is_empty());
            assert!(has_big(&above.seen.texts, BIG), "{}", summary(&above.seen));
        });
        scope.spawn(|| {
            while gateway.count("open") == 2 {
                below.read_for(Duration::from_millis(100));
                assert!(below.seen.bytes < BIG as u64 / 2, "still served: {}", summary(&below.seen));
            }
        });
    });
    assert_eq!((gateway.limit("slow_bytes_per_second_min"), gateway.count("open")), (1, 1));
}

#[test]
fn a_reader_that_takes_nothing_at_all_is_dropped_though_its_window_was_open_once() {
    let gateway = Gateway::demo(&["--ping-seconds", "1", "--pong-timeout-seconds", "1"]);
    let _stuck = reading(&gateway, RATE, BIG);
    until("it is dropped", PATIENCE, || gateway.limit("pong_timeout_seconds") == 1);
    gateway.until_count("open", 0);
}

/// A request with so many spaces in it, as the bytes of its frames: one, or two of which the first is not the last.
fn upload(bytes: usize, in_fragments: bool) -> Vec<u8> {
    let text = add(0).replace("[1,2]", &format!("[1,{}2]", " ".repeat(bytes)));
    let (first, second) = text.as_bytes().split_at(text.len() / 2);
    if in_fragments {
        [frame(false, TEXT, first), frame(true, CONTINUATION, second)].concat()
    } else {
        frame(true, TEXT, text.as_bytes())
    }
}

/// Sends bytes steadily over that time, as long as nothing closes it; gives how long that was.
fn send_over(slow: &mut Slow, bytes: &[u8], time: Duration) -> Duration {
    let begun = Instant::now();
    let pieces = 30;
    for piece in bytes.chunks(bytes.len().div_ceil(pieces)) {
        slow.send_bytes(piece);
        slow.read_until(time / pieces as u32, |seen| seen.close.is_some());
        if slow.seen.close.is_some() {
            break;
        }
    }
    begun.elapsed()
}

#[test]
fn an_upload_is_not_cut_while_its_bytes_come_however_long_it_takes() {
    let gateway = Gateway::demo(&["--message-timeout-seconds", "2"]);
    std::thread::scope(|scope| {
        for in_fragments in [false, true] {
            let mut slow = Slow::connect(gateway.address(), RATE).expect("connect");
            scope.spawn(move || {
                send_over(&mut slow, &upload(300_000, in_fragments), Duration::from_secs(5));
                slow.read_until(PATIENCE, |seen| !seen.texts.is_empty());
                assert!(slow.seen.texts.concat().contains(r#""content":3"#), "{}", summary(&slow.seen));
            });
        }
    });
    assert_eq!(gateway.limit("message_timeout_seconds"), 0);
}

#[test]
fn silence_inside_an_upload_ends_with_1008() {
    let gateway = Gateway::demo(&["--message-timeout-seconds", "2"]);
    let mut slow = Slow::connect(gateway.address(), RATE).expect("connect");
    let bytes = upload(300_000, true);
    send_over(&mut slow, &bytes[..bytes.len() - 10], Duration::from_secs(3));
    assert_eq!(slow.seen.code(), None, "while bytes came");
    let silent = Instant::now();
    slow.read_until(PATIENCE, |seen| seen.end.is_some());
    assert_eq!((slow.seen.code(), slow.seen.end), (Some(1008), Some(End::Fin)));
    let waited = slow.seen.close.map(|(_, closed)| closed.duration_since(silent));
    assert!(waited > Some(Duration::from_millis(1_700)) && waited < Some(Duration::from_secs(6)), "{waited:?}");
    assert_eq!(gateway.limit("message_timeout_seconds"), 1);
}

#[test]
fn an_upload_longer_than_message_max_seconds_ends_with_1008_though_its_bytes_come() {
    let gateway = Gateway::demo(&["--message-timeout-seconds", "2", "--message-max-seconds", "3"]);
    let mut slow = Slow::connect(gateway.address(), RATE).expect("connect");
    let took = send_over(&mut slow, &upload(300_000, false), Duration::from_secs(20));
    assert_eq!(slow.seen.code(), Some(1008), "{}", summary(&slow.seen));
    assert!(took > Duration::from_millis(2_700) && took < Duration::from_secs(8), "{took:?}");
    assert!(slow.read_until(PATIENCE, |seen| seen.end.is_some()) && slow.seen.end == Some(End::Fin));
    assert_eq!(gateway.limit("message_max_seconds"), 1);
}
