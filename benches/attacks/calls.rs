//! Lines 2, 4 and 5: what goes to the bus, what waits in a backlog, what nobody reads.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::attack::{Attacker, Party, abort};
use super::messages::frame;

/// Envelopes of a block that is written again and again.
const TOGETHER: usize = 1_000;
/// Requests of a client in flight at most: `parallel_max`.
const PARALLEL: usize = 100;
/// Sessions of a client at most: `sessions_max`.
const SESSIONS: usize = 64;
/// Content of a reply that nobody reads.
const UNREAD_BYTES: usize = 4_900_000;
/// How long such a client stays.
const UNREAD_STAY: Duration = Duration::from_secs(4);

/// DISCONNECTs without a session, as fast as they are read.
pub fn disconnects(party: &Party) {
    flood(party, many(TOGETHER, |number| envelope("opensrf.math", &thread_name(number), "DISCONNECT", "")), TOGETHER);
}

/// The same with a payload of 100 KB.
pub fn disconnects_large(party: &Party) {
    let payload = format!(r#","payload":"{}""#, "x".repeat(100_000));
    flood(party, many(10, |number| envelope("opensrf.math", &thread_name(number), "DISCONNECT", &payload)), 10);
}

/// A hundred requests behind a handshake, a reset, and again.
pub fn abort_requests(party: &Party) {
    leave(party, many(PARALLEL, |number| call("opensrf.math", &thread_name(number), "add", "1,2")), PARALLEL);
}

/// As many CONNECTs behind a handshake as a client may have sessions, a reset, and again.
pub fn connect_flood(party: &Party) {
    leave(party, many(SESSIONS, |number| envelope("opensrf.demo", &thread_name(number), "CONNECT", "")), SESSIONS);
}

/// Requests that are never answered, as many as a client may have, of many connections that stay.
pub fn never(party: &Party) {
    let block = many(PARALLEL, |number| call("opensrf.demo", &thread_name(number), "opensrf.demo.never", ""));
    party.attack(move |attacker| {
        let connections = if attacker.is_alone() { 50 } else { 20 };
        let mut open = Vec::new();
        for _ in 0..connections {
            let stream = attacker.connect()?;
            attacker.write(&stream, &block)?;
            attacker.sent(PARALLEL as u64);
            open.push(stream);
        }
        loop {
            for stream in &open {
                attacker.discard(stream)?;
            }
            thread::sleep(Duration::from_millis(20));
        }
    });
}

/// Requests as fast as they are read.
pub fn requests(party: &Party) {
    flood(party, many(TOGETHER, |number| call("opensrf.math", &thread_name(number), "add", "1,2")), TOGETHER);
}

/// Requests to a service that nobody registered: the router answers 404.
pub fn nobody(party: &Party) {
    flood(party, many(TOGETHER, |number| call("opensrf.nobody", &thread_name(number), "add", "1,2")), TOGETHER);
}

/// A session, a hundred short requests in flight, a full backlog of distinct threads, and now and then a DISCONNECT behind its own thread.
pub fn backlog(party: &Party) {
    let connect = frame(envelope("opensrf.demo", "session", "CONNECT", "").as_bytes());
    let mut block = Vec::new();
    // More threads than wait, so that no request waits for its own thread.
    for number in 0..2 * TOGETHER {
        let thread = thread_name(number);
        block.extend(frame(call("opensrf.demo", &thread, "opensrf.demo.sleep", "0.02").as_bytes()));
        if number % 100 == 0 {
            block.extend(frame(envelope("opensrf.demo", &thread, "DISCONNECT", "").as_bytes()));
        }
    }
    party.attack(move |attacker| {
        let stream = attacker.connect()?;
        attacker.write(&stream, &connect)?;
        attacker.read(&stream)?;
        loop {
            attacker.write(&stream, &block)?;
            attacker.sent(2 * TOGETHER as u64);
        }
    });
}

/// Replies of 5 MB to clients that read nothing, ten a second over all attackers. Each stays for some seconds.
pub fn unread(party: &Party) {
    let request = frame(call("opensrf.demo", "big", "opensrf.demo.big", &UNREAD_BYTES.to_string()).as_bytes());
    party.attack(move |attacker| {
        let turn = Duration::from_millis(100) * attacker.number as u32;
        thread::sleep(turn.min(UNREAD_STAY));
        let mut open = Vec::new();
        loop {
            let address = attacker.gateway;
            let stream = attacker.dial_with(address, Some(4 * 1_024))?;
            let head = attacker.handshake("");
            attacker.write(&stream, &[&head[..], &request].concat())?;
            attacker.sent(1);
            open.push((Instant::now(), stream));
            thread::sleep(if attacker.is_alone() { Duration::from_millis(100) } else { UNREAD_STAY });
            open.retain(|(since, _)| since.elapsed() < UNREAD_STAY);
        }
    });
}

/// Each comes, has forty strings echoed, 20 a second, and leaves. Their lengths are spread evenly over their orders of magnitude: what an
/// allocator has to bear in a day's work (`--seconds 3600`).
pub fn turnover(party: &Party) {
    party.attack(move |attacker| {
        let stream = attacker.connect()?;
        for number in 0..40 {
            let bits = 6 + attacker.random() % 14;
            let bytes = ((1 << bits) + attacker.random() % (1 << bits)) as usize;
            let echo =
                call("opensrf.demo", &thread_name(number), "opensrf.demo.echo", &format!("\"{}\"", "x".repeat(bytes)));
            attacker.write(&stream, &frame(echo.as_bytes()))?;
            attacker.sent(1);
            attacker.take(&stream, bytes)?;
            thread::sleep(Duration::from_millis(50));
        }
        abort(stream)
    });
}

/// Writes a block again and again, on one connection as long as it lasts.
fn flood(party: &Party, block: Vec<u8>, messages: usize) {
    party.attack(move |attacker| {
        let stream = attacker.connect()?;
        loop {
            attacker.write(&stream, &block)?;
            attacker.sent(messages as u64);
        }
    });
}

/// Writes a handshake and a block, and leaves once anything has come back.
fn leave(party: &Party, block: Vec<u8>, messages: usize) {
    party.attack(move |attacker| once(attacker, &block, messages));
}

fn once(attacker: &mut Attacker, block: &[u8], messages: usize) -> io::Result<()> {
    let stream = attacker.dial()?;
    let head = attacker.handshake("");
    attacker.write(&stream, &[&head, block].concat())?;
    attacker.read(&stream)?;
    attacker.sent(messages as u64);
    abort(stream)
}

/// Frames, one behind the other.
fn many(count: usize, text: impl Fn(usize) -> String) -> Vec<u8> {
    (0..count).flat_map(|number| frame(text(number).as_bytes())).collect()
}

/// As long as a thread may be, and different in its end only.
fn thread_name(number: usize) -> String {
    format!("{number:064}")
}

fn call(service: &str, thread: &str, method: &str, params: &str) -> String {
    let payload = format!(r#","payload":{{"__c":"osrfMethod","__p":{{"method":"{method}","params":[{params}]}}}}"#);
    envelope(service, thread, "REQUEST", &payload)
}

fn envelope(service: &str, thread: &str, kind: &str, more: &str) -> String {
    format!(
        r#"{{"service":"{service}","thread":"{thread}","osrf_msg":[{{"__c":"osrfMessage","__p":{{"threadTrace":1,"type":"{kind}"{more}}}}}]}}"#
    )
}
