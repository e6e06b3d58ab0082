//! The second opinion on JSON: `serde_json`, with repeated keys kept.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

/// The members of an object in the order of the text, as often as they stand there.
pub struct Members(pub Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// Whether `serde_json` takes the text; none where it is deeper than it follows.
pub fn is_valid(text: &[u8]) -> Option<bool> {
    let deep = text.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() > 120;
    (!deep).then(|| serde_json::from_slice::<&RawValue>(text).is_ok())
}

/// The value; none where `serde_json` has none for it (a number beyond f64, half a surrogate pair).
pub fn value(text: &[u8]) -> Option<Value> {
    serde_json::from_slice(text).ok()
}

/// The value of what must be valid; none as above.
pub fn must_be_valid(text: &[u8]) -> Option<Value> {
    assert_ne!(is_valid(text), Some(false), "not valid: {}", String::from_utf8_lossy(text));
    value(text)
}

/// What a string says, or how a number is spelled.
pub fn text_of(value: &RawValue) -> Option<String> {
    let text = value.get();
    match text.as_bytes()[0] {
        b'"' => serde_json::from_str(text).ok(),
        b'-' | b'0'..=b'9' => Some(text.to_owned()),
        _ => None,
    }
}

/// The same as the JSON text of a string.
pub fn quoted(value: &RawValue) -> Option<String> {
    let text = value.get();
    match text.as_bytes()[0] {
        b'"' => Some(text.to_owned()),
        b'-' | b'0'..=b'9' => Some(format!("\"{text}\"")),
        _ => None,
    }
}
