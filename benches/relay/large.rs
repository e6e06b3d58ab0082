//! A reply of 1 MB: what it costs the gateway, against a bare server that sends as many bytes.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Bench;
use crate::client::Client;
use crate::load::Round;
use crate::process::{Process, SERVER_CPU};
use crate::results::print_table;
use crate::series::Series;
use crate::site::serve;

/// Bytes of the content.
const CONTENT_BYTES: usize = 1_000_000;
/// Replies before the measured ones: buffers grow, TCP finds its window.
const WARM_UP: usize = 20;

/// Measures both and prints the table.
pub fn run(bench: &Bench) -> io::Result<Value> {
    let bus = bench.bus()?;
    let gateway = bench.gateway(&bus, &[])?;
    let mut client = Client::connect(gateway.address)?;
    client.send(&request())?;
    let bytes = client.receive()?;
    drop(client);
    let (bare_address, bare) = serve("bare", SERVER_CPU, &[&bytes.to_string()], bench.folder.path())?;
    let (mut relayed, mut sent) = (vec![], vec![]);
    for round in 1..=bench.options.rounds {
        eprintln!("large: round {round} of {}", bench.options.rounds);
        relayed.push(measure(bench, gateway.address, &gateway.process)?);
        sent.push(measure(bench, bare_address, &bare)?);
    }
    let [one, other] = [&relayed, &sent].map(|rounds| Series::of(rounds, "cpu_us"));
    let per_second = |rounds: &[Round]| Series::of(rounds, "requests_per_second").to_string();
    print_table(
        &format!("A reply of {bytes} bytes, one client (CPU µs per reply)"),
        &["gateway", "bare server", "x bare", "replies/s", "bare, replies/s"],
        &[vec![one.to_string(), other.to_string(), one.against(&other), per_second(&relayed), per_second(&sent)]],
    );
    Ok(json!({ "part": "large", "bytes": bytes, "gateway": relayed, "bare": sent }))
}

/// One client, one request in flight.
fn measure(bench: &Bench, address: SocketAddr, server: &Process) -> io::Result<Round> {
    let mut client = Client::connect(address)?;
    let request = request();
    let mut ask = || {
        client.send(&request)?;
        client.receive()
    };
    for _ in 0..WARM_UP {
        ask()?;
    }
    let (begin, cpu, mut replies) = (Instant::now(), server.cpu()?, 0.0);
    while begin.elapsed() < Duration::from_secs_f64(bench.options.seconds) {
        ask()?;
        replies += 1.0;
    }
    let (seconds, cpu) = (begin.elapsed().as_secs_f64(), server.cpu()?.saturating_sub(cpu));
    Ok(Round::from([
        ("cpu_us", cpu.as_secs_f64() * 1e6 / replies),
        ("requests_per_second", replies / seconds),
        ("requests", replies),
    ]))
}

fn request() -> String {
    format!(
        r#"{{"service":"opensrf.demo","thread":"large","log_xid":"large","osrf_msg":[{{"__c":"osrfMessage","__p":{{"threadTrace":1,"locale":"en-US","tz":"America/New_York","api_level":1,"type":"REQUEST","payload":{{"__c":"osrfMethod","__p":{{"method":"opensrf.demo.big","params":[{CONTENT_BYTES}]}}}}}}}}]}}"#
    )
}
