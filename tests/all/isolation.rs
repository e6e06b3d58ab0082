//! No reply ever reaches another client: everybody uses the same thread names and the same traces, and many leave in the middle.

use std::time::Duration;

use crate::support::client::{Client, on_threads};
use crate::support::gateway::Gateway;
use crate::support::redis::Redis;
use crate::support::services::Services;
use crate::support::{Random, unique};

/// The clients of the test.
const CLIENTS: usize = 1_000;

/// How many of its threads drive them.
const DRIVERS: usize = 8;

/// Requests in all: enough for a few seconds of a debug build, unless the environment asks for the 200,000.
fn requests() -> usize {
    let asked =
        std::env::var("EVERGATE_ISOLATION_REQUESTS").ok().map(|text| text.parse().expect("a number of requests"));
    asked.unwrap_or(if cfg!(debug_assertions) { 10_000 } else { 200_000 })
}

/// One client with the name that nobody else ever has.
struct Named {
    client: Client,
    name: String,
}

impl Named {
    fn new(gateway: &Gateway) -> Self {
        Self { client: Client::connect(gateway), name: format!("client-{}", unique()) }
    }

    /// Sends `n` requests under everybody's thread names and traces.
    fn ask(&mut self, n: u32) {
        for trace in 0..n {
            let (thread, name) = (format!("thread-{}", trace % 2), &self.name);
            self.client.request(
                "opensrf.demo",
                &thread,
                trace,
                "opensrf.demo.echo",
                &format!("[\"{name}/{thread}/{trace}\"]"),
            );
        }
    }

    /// Takes the answers, each of which must be its own and come once.
    fn check(&mut self, n: u32) {
        let mut missing: Vec<String> = (0..n).map(|trace| trace.to_string()).collect();
        while !missing.is_empty() {
            let envelope = self.client.recv_within(Duration::from_secs(30));
            for part in envelope.parts() {
                if part.kind == "RESULT" {
                    let expected = format!("{}/{}/{}", self.name, envelope.thread(), part.trace);
                    assert!(
                        part.content.to_string().contains(&format!("\"{expected}\"")),
                        "{expected} got {}",
                        envelope.text
                    );
                }
            }
            for (trace, code) in envelope.ends() {
                assert_eq!(code, 205, "{}", envelope.text);
                let at = missing
                    .iter()
                    .position(|waiting| *waiting == trace)
                    .unwrap_or_else(|| panic!("not asked or twice: {}", envelope.text));
                missing.swap_remove(at);
            }
        }
    }
}

#[test]
fn no_reply_ever_reaches_another_client_however_clients_come_and_go() {
    let redis = Redis::start();
    let _services = Services::start(&redis, &[]);
    let gateway = Gateway::serve(&redis, &[]);
    let (burst, mut random) = (5_u32, Random::new());
    let rounds = requests().div_ceil(CLIENTS * burst as usize);
    let randoms: Vec<Random> = (0..DRIVERS).map(|_| random.fork()).collect();
    let served = on_threads(randoms, |_, mut random| {
        let mut clients: Vec<Named> = (0..CLIENTS / DRIVERS).map(|_| Named::new(&gateway)).collect();
        let mut served = 0;
        for _ in 0..rounds {
            for named in &mut clients {
                named.ask(burst);
            }
            for named in &mut clients {
                // One in ten leaves with its requests in flight; whoever gets its slot must see none of their replies.
                match random.below(20) {
                    0 => *named = Named::new(&gateway),
                    1 => std::mem::replace(named, Named::new(&gateway)).client.close(),
                    _ => {
                        named.check(burst);
                        served += burst;
                        continue;
                    }
                }
                named.ask(burst);
                named.check(burst);
                served += burst;
            }
        }
        served as usize
    });
    assert!(served.iter().sum::<usize>() >= requests());
}
