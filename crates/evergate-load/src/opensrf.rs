//! A reply's text: JSON and nothing else, of which an envelope of `OpenSRF` is left. `serde_json` judges it, for the
//! gateway's own walk would share its mistakes.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::template::read_digits;

/// The text is no UTF-8, no JSON, or no envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// What the gateway sends to a client.
#[derive(Debug, Deserialize)]
pub struct Envelope<'a> {
    /// Of the request.
    #[serde(borrow, default)]
    pub thread: Cow<'a, str>,
    /// In their order.
    #[serde(rename = "osrf_msg", borrow)]
    pub messages: Vec<Classed<'a, Message<'a>>>,
}

/// An object with the name of its class.
#[derive(Debug, Deserialize)]
pub struct Classed<'a, T> {
    /// `__c`.
    #[serde(rename = "__c", borrow, default)]
    pub class: Cow<'a, str>,
    /// `__p`.
    #[serde(rename = "__p")]
    pub object: T,
}

/// One message of a reply.
#[derive(Debug, Deserialize)]
pub struct Message<'a> {
    /// Spelled as a number or as a string.
    #[serde(rename = "threadTrace", borrow)]
    trace: Option<&'a RawValue>,
    /// RESULT or STATUS.
    #[serde(rename = "type", borrow, default)]
    pub kind: Cow<'a, str>,
    #[serde(borrow)]
    payload: Option<Classed<'a, Payload<'a>>>,
}

#[derive(Debug, Deserialize)]
struct Payload<'a> {
    /// Spelled as a number or as a string.
    #[serde(rename = "statusCode", borrow)]
    code: Option<&'a RawValue>,
    /// For people.
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

impl<'a> Envelope<'a> {
    /// Judges a text, and finds what is in it.
    pub fn new(text: &'a [u8]) -> Result<Self, Malformed> {
        let text = simdutf8::basic::from_utf8(text).map_err(|_| Malformed)?;
        serde_json::from_str(text).map_err(|_| Malformed)
    }
}

impl<'a> Classed<'a, Message<'a>> {
    /// Whether message and payload are of the classes that the type calls for.
    pub fn is_sound(&self) -> bool {
        let payload = self.object.payload.as_ref().map_or("", |payload| &payload.class);
        let wanted = if self.object.kind == "RESULT" { "osrfResult" } else { "osrf" };
        self.class == "osrfMessage" && payload.starts_with(wanted)
    }
}

impl<'a> Message<'a> {
    /// `threadTrace`; 0 where it is none.
    pub fn trace(&self) -> u64 {
        number(self.trace)
    }

    /// `statusCode`; 0 where it is none.
    pub fn code(&self) -> u64 {
        number(self.payload.as_ref().and_then(|payload| payload.object.code))
    }

    /// The text that goes with the code; nothing where there is none.
    pub fn status(&self) -> String {
        let status = self.payload.as_ref().and_then(|payload| payload.object.status);
        status.and_then(|status| serde_json::from_str(status.get()).ok()).unwrap_or_default()
    }

    /// The content's JSON; nothing where there is none.
    pub fn content(&self) -> &'a str {
        let content = self.payload.as_ref().and_then(|payload| payload.object.content);
        content.map_or("", RawValue::get)
    }
}

fn number(value: Option<&RawValue>) -> u64 {
    read_digits(value.map_or("", RawValue::get).trim_matches('"').as_bytes()).unwrap_or(0)
}

/// How many bytes a JSON string stands for; `None` where it is no string.
pub fn string_bytes(json: &str) -> Option<usize> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text<'_>>(json).ok().map(|text| text.0.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: &str = r#"{ "thread" : "t", "x": [1, {"y":"]}"} ], "osrf_msg":[{"__c":"osrfMessage","__p":{"threadTrace":"7",
        "type":"RESULT","payload":{"__c":"osrfResult","__p":{"status":"OK","statusCode":200,"content":{"a": [1.5]}}}}}]}"#;

    #[test]
    fn what_a_client_must_know_is_found_however_it_is_spelled() {
        let envelope = Envelope::new(REPLY.as_bytes()).expect("an envelope");
        let [message] = &*envelope.messages else { panic!("one message") };
        assert_eq!((&*envelope.thread, &*message.object.kind), ("t", "RESULT"));
        assert_eq!((message.object.trace(), message.object.code()), (7, 200));
        assert_eq!(message.object.status(), "OK");
        assert_eq!(message.object.content(), r#"{"a": [1.5]}"#);
        assert!(message.is_sound());
    }

    #[test]
    fn what_is_no_json_is_malformed_wherever_it_stands() {
        for (right, wrong) in [
            ("[1, {", "[1 {"),
            ("[1, {", "[01, {"),
            ("{\"y\":\"]}\"}", "}"),
            ("{\"y\":\"]}\"}", "[{]}"),
            ("\"]}\"", "\"\\q\""),
            ("\"]}\"", "\"\\u12\""),
            ("\"]}\"", "\"\0\""),
            ("\"]}\"", "@#!"),
            ("\"thread\" :", "\"thread\""),
            ("[1.5]", "[1.5"),
            ("[1.5]", "[1.5,]"),
            ("}]}", "}]}}}GARBAGE"),
            ("}]}", "}]}{}"),
        ] {
            let text = REPLY.replacen(right, wrong, 1);
            assert_ne!(text, REPLY);
            assert_eq!(Envelope::new(text.as_bytes()).err(), Some(Malformed), "{text}");
        }
        let text: Vec<u8> = REPLY.bytes().map(|byte| if byte == b'y' { 0xff } else { byte }).collect();
        assert_eq!(Envelope::new(&text).err(), Some(Malformed), "no UTF-8");
    }

    #[test]
    fn classes_must_be_those_of_the_type() {
        for (right, wrong) in [("osrfMessage", "nonsense"), ("osrfResult", "nonsense"), ("osrfResult", "osrfStatus")] {
            let text = REPLY.replace(right, wrong);
            let envelope = Envelope::new(text.as_bytes()).expect("an envelope");
            assert!(!envelope.messages[0].is_sound(), "{text}");
        }
    }

    #[test]
    fn a_million_brackets_cost_no_stack() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert!(Envelope::new(REPLY.replace("[1.5]", &deep).as_bytes()).is_ok());
        assert!(Envelope::new(deep.as_bytes()).is_err());
    }

    #[test]
    fn escapes_count_as_what_they_stand_for() {
        assert_eq!(string_bytes("\"abc\""), Some(3));
        assert_eq!(string_bytes(r#""\"a\n""#), Some(3));
        assert_eq!(string_bytes("\"\\u00e9é\""), Some(4));
        assert_eq!(string_bytes(r#""\ud83d\ude00""#), Some(4));
        assert_eq!(string_bytes("12"), None);
    }
}
