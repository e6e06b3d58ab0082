//! What is judged while it comes in is judged as what is read at once.

use proptest::prelude::*;

use super::super::envelope::parse_judged;
use super::*;
use crate::counters::Limit;
use crate::json::judge::{Fault, Judge, Judged};
use crate::json::strictness::{Strict, Strictness};
use crate::json::tests::{any_json, jsonish};

/// The verdict on text that comes in pieces which end at `cuts`.
fn judge(text: &[u8], cuts: &[usize], depth_max: usize) -> Judged {
    let mut judge = Judge::new(depth_max);
    for cut in cuts {
        judge.see(&text[..*cut]);
    }
    judge.finish(text)
}

/// What [`Strict`] says of the same: whether it is JSON, and whether `\u0000` is in it.
fn strict(text: &[u8], depth_max: usize) -> (bool, bool) {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let start = text.iter().position(|byte| !is_space(byte)).unwrap_or(text.len());
    let mut rules = Strict::new(depth_max);
    let is_json = rules.value(text, start).is_ok_and(|end| text[end..].iter().all(is_space));
    (is_json, rules.nul)
}

fn any_cuts(text: Vec<u8>) -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    let length = text.len();
    prop::collection::vec(0..=length, 0..8).prop_map(move |mut cuts| {
        cuts.sort_unstable();
        (text.clone(), cuts)
    })
}

fn agree(text: &[u8], cuts: &[usize]) -> Result<(), TestCaseError> {
    for depth_max in [1_000, 3] {
        let judged = judge(text, cuts, depth_max);
        let (is_json, nul) = strict(text, depth_max);
        prop_assert_eq!(judged.fault.is_none(), is_json, "{:?} at {:?}", String::from_utf8_lossy(text), cuts);
        prop_assert!(!is_json || judged.nul == nul);
    }
    let every: Vec<usize> = (0..text.len()).collect();
    prop_assert_eq!(judge(text, &every, 1_000).fault, judge(text, &[], 1_000).fault);
    Ok(())
}

proptest! {
    #[test]
    fn json_is_judged_alike_however_it_was_cut((text, cuts) in any_json().prop_flat_map(|text| any_cuts(text.into_bytes()))) {
        agree(&text, &cuts)?;
    }

    #[test]
    fn what_is_nearly_json_is_judged_alike_however_it_was_cut((text, cuts) in jsonish().prop_flat_map(any_cuts)) {
        // The gateway's messages are UTF-8 by then.
        if std::str::from_utf8(&text).is_ok() {
            agree(&text, &cuts)?;
        }
    }

    #[test]
    fn a_judged_envelope_is_read_as_any_other(params in any_json(), extra in any_json()) {
        // Long enough for its params, its payload and what is about them to be large values.
        let long = format!("[{params},\"{}\",{extra}]", "x\\n".repeat(20_000));
        let payload = format!(r#"{{"method":"m\u0041","params":{long}}}"#);
        let text = envelope_of(&format!("[{}],\"other\":{long}", request("5", &payload)));
        let judged = judge(text.as_bytes(), &[10, 40_000, 41_000], 1_000);
        prop_assert!(!judged.large.is_empty());
        let (one, other) = (read(&text), parse_judged(text.as_bytes(), &judged, &LIMITS));
        let other = other.map_err(|refusal| TestCaseError::fail(format!("{refusal:?}")))?;
        let body = |envelope: &Envelope<'_>| {
            let mut body = Vec::new();
            envelope.write_body(&mut body, INGRESS);
            body
        };
        prop_assert_eq!(body(&one), body(&other));
        prop_assert_eq!((&one.service, &one.thread, &one.xid), (&other.service, &other.thread, &other.xid));
        prop_assert_eq!(one.messages[0].params, other.messages[0].params);
        prop_assert_eq!(&one.messages[0].method, &other.messages[0].method);
        prop_assert!(other.escaped_at_most(0) >= text.len());
    }
}

#[test]
fn large_values_are_remembered_from_their_first_byte_to_their_last() {
    let string = format!("\"{}\"", "y".repeat(40_000));
    let text = format!("{{\"a\":[{string}],\"b\":{string}, \"c\": [1]}}");
    let judged = judge(text.as_bytes(), &[7, 9, 50_000], 1_000);
    let spelled: Vec<&str> = judged.large.iter().map(|&(start, end)| &text[start..end]).collect();
    assert_eq!(spelled, [text.as_str(), &format!("[{string}]"), &string, &string]);
}

#[test]
fn a_judged_message_is_refused_for_what_is_wrong_with_it_first() {
    let refused = |text: &str| parse_judged(text.as_bytes(), &judge(text.as_bytes(), &[], 20), &LIMITS).unwrap_err();
    let deep = format!("{{\"thread\":\"t\",\"x\":{}}}", "[".repeat(30));
    assert_eq!(judge(deep.as_bytes(), &[], 20).fault, Some(Fault::TooDeep));
    assert_eq!((refused(&deep).limit, refused(&deep).thread_spelled), (Some(Limit::json_depth_max), b"\"t\"".to_vec()));
    assert!(refused(r#"{"thread":"t","x":"\ud800"}"#).reason.contains("surrogate"));
    assert!(refused(r#"{"thread":"t","x":"\u0000","osrf_msg":[]}"#).reason.contains("u0000"));
    assert!(refused("{\"x\":tru}").reason.contains("not valid JSON"));
}

#[test]
fn an_object_may_have_so_many_keys_and_its_envelope_ten_times_as_many() {
    let limits = EnvelopeLimits { keys_per_object_max: 100, ..LIMITS };
    let object = |keys: usize| {
        let members: Vec<String> = (0..keys).map(|n| format!("\"k{n}\":{{\"a\":[0]}}")).collect();
        format!("{{\"method\":\"m\",{}}}", members.join(","))
    };
    for (keys, messages, is_taken) in
        [(99, 1, true), (100, 1, false), (90, 13, true), (90, 15, false), (5_000, 2, false)]
    {
        let all: Vec<String> = (0..messages).map(|n| request(&n.to_string(), &object(keys))).collect();
        let text = envelope_of(&format!("[{}]", all.join(",")));
        for read in
            [parse(text.as_bytes(), &limits), parse_judged(text.as_bytes(), &judge(text.as_bytes(), &[], 9), &limits)]
        {
            assert_eq!(read.is_ok(), is_taken, "{keys} keys in {messages} messages");
            if let Err(refusal) = read {
                assert_eq!(refusal.limit, Some(Limit::keys_per_object_max), "{}", refusal.reason);
                assert!(refusal.reason.contains("keys_per_object_max"), "{}", refusal.reason);
                assert_eq!(refusal.traces.len(), messages, "each is told");
            }
        }
    }
}
