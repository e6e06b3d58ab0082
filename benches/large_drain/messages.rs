//! What clients ask and what they are answered: each reply can be told from every other, byte by byte.

use serde_json::Value;

/// The service that clients ask.
const SERVICE: &str = "opensrf.bench";
/// What large replies are made of.
const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz012345";
/// Letters that one random number gives.
const LETTERS_TOGETHER: usize = 12;

/// Numbers that look random, the same for the same seed (splitmix64).
pub struct Random(u64);

impl Random {
    /// Those of one client of one run.
    pub fn new(seed: u64, client: u32) -> Self {
        Self(seed.wrapping_mul(0x1_0000_0001).wrapping_add(client.into()))
    }

    /// The next one.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next one, from `least` up to and without `end`.
    pub fn between(&mut self, least: u64, end: u64) -> u64 {
        least + self.next() % (end - least).max(1)
    }
}

/// The content of a large reply: letters of its client's own, in which any two places differ.
pub fn large(client: u32, bytes: usize) -> String {
    let mut random = Random::new(0, client);
    let mut letters = Vec::with_capacity(bytes + LETTERS_TOGETHER);
    while letters.len() < bytes {
        let mixed = random.next();
        let five_bits = (0..LETTERS_TOGETHER).map(|place| (mixed >> (5 * place)) as usize % LETTERS.len());
        letters.extend(five_bits.map(|letter| LETTERS[letter]));
    }
    letters.truncate(bytes);
    String::from_utf8(letters).expect("letters are ASCII")
}

/// A request; its method takes `params`, a JSON array.
pub fn request(thread: &str, trace: u64, method: &str, params: &str) -> String {
    let payload =
        format!(r#","payload":{{"__c":"osrfMethod","__p":{{"method":"opensrf.bench.{method}","params":{params}}}}}"#);
    envelope(thread, trace, "REQUEST", &payload)
}

/// The begin of a session.
pub fn connect(thread: &str) -> String {
    envelope(thread, 0, "CONNECT", "")
}

/// The end of a session, which nobody answers.
pub fn disconnect(thread: &str, trace: u64) -> String {
    envelope(thread, trace, "DISCONNECT", "")
}

fn envelope(thread: &str, trace: u64, kind: &str, payload: &str) -> String {
    format!(
        r#"{{"service":"{SERVICE}","thread":"{thread}","osrf_msg":[{{"__c":"osrfMessage","__p":{{"threadTrace":{trace},"type":"{kind}"{payload}}}}}]}}"#
    )
}

/// The content of the whole reply to a request; nothing where `text` is anything else.
pub fn content(text: &[u8], thread: &str, trace: u64) -> Option<Value> {
    let [mut result, complete] = messages::<2>(text, thread, trace)?;
    (status_code(&complete)? == 205).then(|| result.pointer_mut("/__p/payload/__p/content").map(Value::take))?
}

/// Whether `text` says that the session has begun.
pub fn is_connected(text: &[u8], thread: &str) -> bool {
    messages::<1>(text, thread, 0).and_then(|[status]| status_code(&status)) == Some(200)
}

/// The messages of an envelope that has so many, all about the same.
fn messages<const COUNT: usize>(text: &[u8], thread: &str, trace: u64) -> Option<[Value; COUNT]> {
    let mut envelope: Value = serde_json::from_slice(text).ok()?;
    let Value::Array(messages) = envelope["osrf_msg"].take() else { return None };
    let is_about = |message: &Value| message.pointer("/__p/threadTrace").and_then(Value::as_u64) == Some(trace);
    (envelope["thread"] == thread && messages.iter().all(is_about)).then(|| messages.try_into().ok())?
}

fn status_code(message: &Value) -> Option<u64> {
    message.pointer("/__p/payload/__p/statusCode")?.as_u64()
}
