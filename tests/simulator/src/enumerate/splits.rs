//! Every way to cut a stream of frames, or of RESP, in two or three.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use evergate_proto::redis::inbox::Inbox;
use evergate_proto::redis::outbox::{Outbox, Push, Ticket};
use evergate_proto::redis::resp;

use super::small::Small;
use super::what_panicked;
use crate::browser::{Bounds, Browser, Ev, Kind, Said};
use crate::random::Random;
use crate::world::violated;

/// What comes of a stream of frames that is cut there.
fn cut(stream: &[u8], events: &Browser, cuts: &[usize]) -> [Vec<u8>; 2] {
    let mut small = Small::new();
    small.browser.events.clone_from(&events.events);
    small.browser.clean.clone_from(&events.clean);
    let mut from = 0;
    for &to in cuts.iter().chain([&stream.len()]) {
        if to > from {
            small.input(&mut stream[from..to].to_vec());
            from = to;
        }
    }
    small.transcript
}

pub fn frames() -> Result<u64, String> {
    let mut count = 0;
    for seed in 0..14_u64 {
        let mut random = Random::new(seed);
        let mut browser = Browser::new(1, &mut random);
        browser.shake_well();
        browser.say_on(&mut random, 1, &[Kind::Request], 0);
        browser.ping(&mut random);
        if seed % 2 == 0 {
            browser.message(&mut random, b"{}", Ev::Message(bad()));
        }
        if seed < 7 {
            browser.close(&mut random);
        } else {
            browser.violate(&mut random, &RULES_SMALL);
        }
        let stream: Vec<u8> = browser.unsent.iter().copied().collect();
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let whole = cut(&stream, &browser, &[]);
            let mut count = 0;
            for first in 1..stream.len() {
                let step = if seed == 0 { 5 } else { 37 };
                for second in (first..stream.len()).step_by(step) {
                    if cut(&stream, &browser, &[first, second]) != whole {
                        violated!("frames cut at {first} and {second} (stream {seed}) mean something else");
                    }
                    count += 1;
                }
            }
            let bytes: Vec<usize> = (1..stream.len()).collect();
            if cut(&stream, &browser, &bytes) != whole {
                violated!("frames byte by byte (stream {seed}) mean something else");
            }
            count + 1
        }));
        count += ran.map_err(|panic| format!("{} (stream {seed})", what_panicked(&*panic)))?;
    }
    Ok(count)
}

/// Only for its `message_bytes`, which must fit two bytes.
const RULES_SMALL: Bounds = Bounds { message_bytes: 60_000, bus_bytes: 0, per_envelope: 0, depth: 0 };

fn bad() -> Rc<Said> {
    Rc::new(Said::Bad { spelled: "\"\"".to_owned(), xid: None, traces: Vec::new(), silent: false })
}

/// What comes of the answers to pops that are cut there.
fn pops(stream: &[u8], cuts: &[usize]) -> String {
    let mut inbox = Inbox::new("k");
    inbox.write(&mut Vec::new());
    let (mut buffer, mut at, mut from, mut said) = (Vec::new(), 0, 0, String::new());
    for &to in cuts.iter().chain([&stream.len()]) {
        buffer.extend_from_slice(&stream[from..to]);
        from = to;
        while let Ok(Some(token)) = resp::next(&buffer, &mut at).map_err(|e| said.push_str(&format!("{e:?}"))) {
            match inbox.token(&token) {
                Ok(Some(message)) => said.push_str(&format!("[{}]", String::from_utf8_lossy(message))),
                Ok(None) => {}
                Err(error) => said.push_str(&format!("{error:?}")),
            }
        }
    }
    said
}

/// What comes of confirmations that are cut there.
fn confirmations(stream: &[u8], cuts: &[usize]) -> String {
    let mut outbox = Outbox::default();
    for n in 0..4 {
        let ticket = Some(Ticket { slot: 0, generation: 0, n, push: 0 });
        outbox.push(Push { key: format!("k{n}").into(), message: b"m".to_vec(), ticket });
    }
    outbox.delete("d".into());
    outbox.write(&mut Vec::new());
    let (mut buffer, mut at, mut from, mut said) = (Vec::new(), 0, 0, String::new());
    for &to in cuts.iter().chain([&stream.len()]) {
        buffer.extend_from_slice(&stream[from..to]);
        from = to;
        while let Ok(Some(token)) = resp::next(&buffer, &mut at) {
            said.push_str(&format!("{:?};", outbox.answer(&token)));
        }
    }
    said.push_str(&format!("{:?}", outbox.take_unconfirmed()));
    said
}

pub fn resp() -> Result<u64, String> {
    let pop = b"*2\r\n$1\r\nk\r\n$9\r\na\r\nb$3\r\n*\r\n*3\r\n$0\r\n\r\n$5\r\n-ERR\r\r\n$11\r\n$3\r\nabc\r\n*2\r\n\
        *2\r\n$1\r\nk\r\n$1\r\nz\r\n*-1\r\n*-1\r\n*1\r\n$2\r\n\r\n\r\n*2\r\n$1\r\nk\r\n$4\r\nlast";
    let push = b":1\r\n-OOM command not allowed when used memory > 'maxmemory'.\r\n:123456789\r\n:0\r\n:1\r";
    let mut count = 0;
    for (what, stream, read) in [
        ("pops", &pop[..], pops as fn(&[u8], &[usize]) -> String),
        ("confirmations", &push[..], confirmations as fn(&[u8], &[usize]) -> String),
    ] {
        let whole = read(stream, &[]);
        if whole.len() < 20 {
            return Err(format!("{what}: {whole}"));
        }
        for first in 0..stream.len() {
            for second in first..stream.len() {
                if read(stream, &[first, second]) != whole {
                    return Err(format!("{what} cut at {first} and {second} mean something else than {whole}"));
                }
                count += 1;
            }
        }
        let bytes: Vec<usize> = (1..stream.len()).collect();
        if read(stream, &bytes) != whole {
            return Err(format!("{what} byte by byte mean something else"));
        }
    }
    // Known by hand, not only the same whichever way it is cut.
    let messages = pops(pop, &[]);
    if messages != "[a\r\nb$3\r\n*][][-ERR\r][$3\r\nabc\r\n*2][z][\r\n]" {
        return Err(format!("pops mean {messages}"));
    }
    Ok(count)
}
