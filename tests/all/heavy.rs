//! Who sends or leaves much costs the others nothing: a turn of a core is bounded by work, and so is what it holds.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::bus::{self, Responder};
use crate::support::client::{Client, envelope, message, request};
use crate::support::gateway::Gateway;
use crate::support::raw::{Raw, TEXT, frame};
use crate::support::{PATIENCE, trio, until};

/// A REQUEST whose payload has so many keys besides those that it needs.
fn of_keys(count: usize) -> String {
    let mut payload = r#"{"__c":"osrfMethod","__p":{"method":"m","params":[]}"#.to_owned();
    for n in 0..count {
        write!(payload, r#","k{n:06}":0"#).expect("a String takes it");
    }
    envelope("s", "t", &[message("REQUEST", "1", &format!("{payload}}}"))])
}

fn core_bytes(gateway: &Gateway) -> u64 {
    gauge(gateway, "evergate_core_bytes")
}

fn gauge(gateway: &Gateway, name: &str) -> u64 {
    #[expect(clippy::cast_sign_loss, reason = "it counts")]
    let value = gateway.metric(name) as u64;
    value
}

#[test]
fn long_messages_full_of_keys_are_refused_one_a_turn_and_the_others_are_served_between() {
    let gateway = Gateway::demo(&["--cores", "0"]);
    let text = of_keys(150_000);
    let bytes = frame(true, TEXT, text.as_bytes());
    let (last, most) = bytes.split_last().expect("it is not empty");
    let mut senders: Vec<Raw> = (0..16).map(|_| Raw::upgrade(gateway.address())).collect();
    for sender in &mut senders {
        sender.send(most);
    }
    let all = (senders.len() * text.len()) as u64;
    until("all but the last bytes have come", PATIENCE, || core_bytes(&gateway) >= all - 1_000);
    let mut neighbour = Client::connect(&gateway);
    for sender in &mut senders {
        sender.send(&[*last]);
    }
    assert_eq!(neighbour.call("opensrf.math", "n", 1, "add", "[1,2]"), [serde_json::json!(3)]);
    let refused = gateway.limit("keys_per_object_max");
    assert!(refused < 16, "the neighbour had to wait for all of them");
    for sender in &mut senders {
        let answer = String::from_utf8(sender.next(TEXT).payload).expect("UTF-8");
        assert!(answer.contains("\"statusCode\":400") && answer.contains("keys_per_object_max"), "{answer}");
    }
    assert_eq!(gateway.limit("keys_per_object_max"), 16);
}

#[test]
fn an_object_may_have_ten_thousand_keys() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    let payload = |keys: usize| {
        let members: String = (0..keys).fold(String::new(), |mut all, n| {
            write!(all, ",\"k{n}\":{n}").expect("a String takes it");
            all
        });
        format!(r#"{{"__c":"osrfMethod","__p":{{"method":"m"{members}}}}}"#)
    };
    client.send(&envelope("s", "t", &[message("REQUEST", "1", &payload(9_999))]));
    let arrived = bus.next();
    assert_eq!(arrived.method(0), "m");
    bus.complete(&arrived, "1");
    client.until_status(205);
    client.send(&envelope("s", "t", &[message("REQUEST", "2", &payload(10_000))]));
    client.until_status(400);
    assert_eq!(gateway.limit("keys_per_object_max"), 1);
}

/// Resident memory of a process, bytes.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.split_ascii_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

#[test]
fn core_bytes_max_holds_within_one_message_and_the_memory_goes_back() {
    const MOST: u64 = 8 << 20;
    const REPLY: usize = 2_000_000;
    let most = MOST.to_string();
    let (_redis, gateway, mut small, mut bus) = trio(&["--cores", "0", "--core-bytes-max", &most]);
    let before = resident(gateway.pid());
    let content = format!("\"{}\"", "x".repeat(REPLY));
    // They do not read.
    let mut lazy = Vec::new();
    let mut highest = 0;
    for n in 0..12 {
        let mut raw = Raw::upgrade(gateway.address());
        raw.text(&envelope("s", &format!("t{n}"), &[request(1, "m", "[]")]));
        let arrived = bus.next();
        for _ in 0..4 {
            bus.answer(&arrived, &format!("[{}]", bus::result("1", &content)));
            highest = highest.max(core_bytes(&gateway));
        }
        lazy.push(raw);
    }
    answered(&mut small, &mut bus);
    assert!(gateway.limit("core_bytes_max") > 0, "48 replies of 2 MB are more than the kernel takes");
    assert!(highest <= MOST + 2 * REPLY as u64, "{highest} bytes were held");
    drop(lazy);
    until("all is given back", PATIENCE, || core_bytes(&gateway) == 0);
    answered(&mut small, &mut bus);
    until("the system has it again", Duration::from_mins(1), || resident(gateway.pid()) < before + (16 << 20));
}

fn answered(client: &mut Client, bus: &mut Responder) {
    client.request("s", "small", 7, "m", "[]");
    let arrived = bus.next();
    bus.complete(&arrived, "1");
    client.until_status(205);
}

#[test]
fn clients_that_leave_together_with_megabytes_give_all_of_them_back() {
    const REPLY: usize = 3_000_000;
    let (_redis, mut gateway, mut small, mut bus) = trio(&["--cores", "0"]);
    let before = resident(gateway.pid());
    let content = format!("\"{}\"", "x".repeat(REPLY));
    // The second time the process is told to stop while they leave.
    for is_stopped in [false, true] {
        let lazy: Vec<Raw> = (0..12)
            .map(|n| {
                let mut raw = Raw::upgrade(gateway.address());
                raw.text(&envelope("s", &format!("t{n}"), &[request(1, "m", "[]")]));
                let arrived = bus.next();
                for _ in 0..3 {
                    bus.answer(&arrived, &format!("[{}]", bus::result("1", &content)));
                }
                raw
            })
            .collect();
        answered(&mut small, &mut bus);
        let least = (lazy.len() * REPLY) as u64;
        assert!(core_bytes(&gateway) > least, "the kernel does not take three replies");
        // Each is reset, for there are bytes that it has not read.
        drop(lazy);
        if is_stopped {
            gateway.signal(Signal::SIGTERM);
            assert_eq!(gateway.wait_exit(PATIENCE), 0);
        } else {
            answered(&mut small, &mut bus);
            until("they are gone", PATIENCE, || gauge(&gateway, "evergate_connections") == 1);
            until("none is held", PATIENCE, || core_bytes(&gateway) == 0);
            until("the system has it again", PATIENCE, || resident(gateway.pid()) < before + (16 << 20));
        }
    }
}
