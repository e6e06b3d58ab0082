//! Right replies, and every kind of wrong one.

use super::*;
use crate::plan::tests::options;
use crate::plan::{Kind, PlanOptions};

/// A client of one kind with a request under way.
fn begun(kind: Kind) -> (Plan, Client) {
    let plan = Plan::new(&options(kind));
    let mut client = Client::new(7);
    client.begin(&plan, 0, 100);
    (plan, client)
}

fn send(plan: &Plan, client: &mut Client, text: &str) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    let moment = Moment { now_ns: 200, is_ending: false };
    client.message(plan, text.as_bytes(), moment, &mut |outcome| outcomes.push(outcome));
    outcomes
}

/// What has been written since the last look.
fn sent(client: &mut Client) -> String {
    String::from_utf8_lossy(&std::mem::take(&mut client.out)).into_owned()
}

fn faults(plan: &Plan, client: &mut Client, text: &str) -> Vec<Fault> {
    let fault = |outcome| match outcome {
        Outcome::Fault(fault) | Outcome::Failed { fault, .. } => Some(fault),
        Outcome::Answered { .. } | Outcome::Free => None,
    };
    send(plan, client, text).into_iter().filter_map(fault).collect()
}

fn answered(due_ns: u64) -> Outcome {
    Outcome::Answered { script: 0, due_ns }
}

fn failed(fault: Fault) -> Outcome {
    Outcome::Failed { script: 0, fault }
}

pub fn thread(client: u32, exchange: u32) -> String {
    format!("load.test.{client:06}.{exchange:010}")
}

pub fn envelope(thread: &str, messages: &[String]) -> String {
    format!(r#"{{"thread":"{thread}","log_xid":"x","osrf_msg":[{}]}}"#, messages.join(","))
}

fn trace(request: u32) -> u64 {
    1_000_000_000 + u64::from(request)
}

pub fn coded(request: u32, code: u16, content: &str) -> String {
    format!(
        r#"{{"__c":"osrfMessage","__p":{{"threadTrace":{},"type":"RESULT","payload":{{"__c":"osrfResult","__p":{{"status":"OK","statusCode":{code},"content":{content}}}}}}}}}"#,
        trace(request)
    )
}

fn result(request: u32, content: &str) -> String {
    coded(request, 200, content)
}

/// As a Perl service spells it: other order, numbers as strings.
pub fn status(request: u32, code: u16) -> String {
    format!(
        r#"{{"__p":{{"payload":{{"__p":{{"statusCode":"{code}","status":"s"}},"__c":"osrfConnectStatus"}},"type":"STATUS","threadTrace":"{}"}},"__c":"osrfMessage"}}"#,
        trace(request)
    )
}

/// The sum that client 7 must get for its request.
fn sum(request: u32) -> String {
    (1_000_007 + trace(request)).to_string()
}

#[test]
fn a_right_reply_is_answered_once_and_frees_the_client() {
    let (plan, mut client) = begun(Kind::Stateless);
    let reply = envelope(&thread(7, 0), &[result(0, &sum(0)), status(0, 205)]);
    assert_eq!(send(&plan, &mut client, &reply), [answered(100), Outcome::Free]);
    assert_eq!(faults(&plan, &mut client, &reply), [Fault::Duplicate]);
}

#[test]
fn result_and_status_may_come_apart_and_the_thread_last() {
    let (plan, mut client) = begun(Kind::Stateless);
    assert_eq!(send(&plan, &mut client, &envelope(&thread(7, 0), &[status(0, 202), result(0, &sum(0))])), []);
    let reply = format!(r#"{{ "osrf_msg" : [ {} ] , "thread":"{}"}}"#, status(0, 205), thread(7, 0));
    assert_eq!(send(&plan, &mut client, &reply), [answered(100), Outcome::Free]);
}

#[test]
fn each_kind_of_wrong_reply_has_its_name() {
    let whole =
        |thread: &str, request: u32, content: &str| envelope(thread, &[result(request, content), status(request, 205)]);
    let own = thread(7, 0);
    for (reply, fault) in [
        (whole(&thread(8, 0), 0, &sum(0)), Fault::WrongClient),
        (whole(&thread(7, 5), 0, &sum(0)), Fault::WrongThread),
        (whole("load.other.000007.0000000000", 0, &sum(0)), Fault::WrongThread),
        (whole("", 0, &sum(0)), Fault::WrongThread),
        (whole(&own, 1, &sum(0)), Fault::WrongTrace),
        (whole(&own, 0, &sum(1)), Fault::WrongContent),
        (whole(&own, 0, "null"), Fault::WrongContent),
        (envelope(&own, &[status(0, 205)]), Fault::WrongCount),
        (envelope(&own, &[result(0, &sum(0)), result(0, &sum(0)), status(0, 205)]), Fault::WrongCount),
        (envelope(&own, &[status(0, 200)]), Fault::WrongType),
        (envelope(&own, &[r#"{"__p":{"threadTrace":1000000000,"type":"CONNECT"}}"#.to_owned()]), Fault::WrongType),
        (envelope(&own, &[status(0, 404)]), Fault::Status(404)),
        (envelope(&own, &[coded(0, 500, &sum(0)), status(0, 205)]), Fault::Status(500)),
        (whole(&own, 0, &sum(0)).replace("osrfResult", "nonsense"), Fault::WrongType),
        (whole(&own, 0, &sum(0)) + "}", Fault::Unparsable),
        ("{\"thread\":\"".to_owned(), Fault::Unparsable),
        ("{\"thread\":\"x\"}".to_owned(), Fault::Unparsable),
        ("[]".to_owned(), Fault::Unparsable),
    ] {
        let (plan, mut client) = begun(Kind::Stateless);
        let outcomes = send(&plan, &mut client, &reply);
        let outcome = if fault.is_request() { failed(fault) } else { Outcome::Fault(fault) };
        assert_eq!(outcomes.first(), Some(&outcome), "{reply}");
        assert!(!outcomes.iter().any(|outcome| matches!(outcome, Outcome::Answered { .. })), "{reply}");
    }
}

#[test]
fn a_wrong_reply_that_ends_its_request_frees_the_client() {
    let (plan, mut client) = begun(Kind::Stateless);
    let reply = envelope(&thread(7, 0), &[result(0, "3"), status(0, 205)]);
    assert_eq!(send(&plan, &mut client, &reply), [failed(Fault::WrongContent), Outcome::Free]);
    assert_eq!(client.in_flight(), 0);
}

#[test]
fn what_has_no_reply_in_time_is_missing_and_its_reply_late() {
    let (plan, mut client) = begun(Kind::Stateless);
    let mut outcomes = Vec::new();
    client.expire(&plan, 100, &mut |outcome| outcomes.push(outcome));
    assert_eq!(outcomes, [], "it is not older than that");
    client.expire(&plan, 101, &mut |outcome| outcomes.push(outcome));
    assert_eq!(outcomes, [failed(Fault::Missing), Outcome::Free]);
    let reply = envelope(&thread(7, 0), &[result(0, &sum(0)), status(0, 205)]);
    assert_eq!(faults(&plan, &mut client, &reply), [Fault::Late]);

    client.begin(&plan, 0, 150);
    let reply = envelope(&thread(7, 1), &[result(1, &sum(1)), status(1, 205)]);
    assert_eq!(send(&plan, &mut client, &reply), [answered(150), Outcome::Free]);
    assert_eq!(faults(&plan, &mut client, &reply), [Fault::Duplicate], "another was given up, this one was not");
}

#[test]
fn a_session_that_is_given_up_is_left_once_it_stands() {
    let (plan, mut client) = begun(Kind::Stateful);
    client.expire(&plan, 101, &mut |_| {});
    assert!(!sent(&mut client).contains("\"DISCONNECT\""), "there is nothing to disconnect from");
    client.begin(&plan, 0, 150);
    send(&plan, &mut client, &envelope(&thread(7, 1), &[status(1, 200)]));
    let mut outcomes = Vec::new();
    client.expire(&plan, 201, &mut |outcome| outcomes.push(outcome));
    assert_eq!(outcomes, [failed(Fault::Missing), Outcome::Free]);
    assert!(sent(&mut client).contains("\"DISCONNECT\""));
}

#[test]
fn what_is_under_way_when_the_connection_ends_is_lost() {
    let (plan, mut client) = begun(Kind::Stateless);
    client.begin(&plan, 0, 150);
    let mut outcomes = Vec::new();
    client.lose(&mut |outcome| outcomes.push(outcome));
    assert_eq!(outcomes, [failed(Fault::Lost); 2]);
}

#[test]
fn no_request_follows_a_close_and_none_is_counted_as_lost_for_it() {
    let (plan, mut client) = begun(Kind::Stateless);
    client.close(&plan, 1012);
    let sent = client.out.len();
    assert!(!client.has_room(usize::MAX));
    client.begin(&plan, 0, 150);
    assert_eq!((client.in_flight(), client.out.len()), (1, sent), "only the one from before");
}

#[test]
fn requests_of_one_client_are_told_apart_whatever_the_order_of_replies() {
    let (plan, mut client) = begun(Kind::Stateless);
    client.begin(&plan, 0, 150);
    for (request, due) in [(1, 150), (0, 100)] {
        let reply = envelope(&thread(7, request), &[result(request, &sum(request)), status(request, 205)]);
        assert_eq!(send(&plan, &mut client, &reply), [answered(due), Outcome::Free]);
    }
}

#[test]
fn a_session_goes_from_connect_to_disconnect() {
    let (plan, mut client) = begun(Kind::Stateful);
    let own = thread(7, 0);
    assert!(sent(&mut client).contains("\"CONNECT\""));
    assert_eq!(send(&plan, &mut client, &envelope(&own, &[status(0, 200)])), [answered(100)]);
    assert!(sent(&mut client).contains("1000000001"));
    let reply = envelope(&own, &[result(1, &sum(1)), status(1, 205)]);
    assert_eq!(send(&plan, &mut client, &reply), [answered(200)]);
    assert_eq!(faults(&plan, &mut client, &reply), [Fault::Duplicate, Fault::Duplicate]);
    sent(&mut client);
    let reply = envelope(&own, &[result(2, &sum(2)), status(2, 205)]);
    assert_eq!(send(&plan, &mut client, &reply), [answered(200), Outcome::Free]);
    let farewell = sent(&mut client);
    assert!(farewell.contains("\"DISCONNECT\"") && farewell.contains(&own), "{farewell}");
}

#[test]
fn a_session_takes_its_leave_in_place_of_a_further_step_when_the_run_ends() {
    let (plan, mut client) = begun(Kind::Stateful);
    sent(&mut client);
    let (mut outcomes, moment) = (Vec::new(), Moment { now_ns: 200, is_ending: true });
    let reply = envelope(&thread(7, 0), &[status(0, 200)]);
    client.message(&plan, reply.as_bytes(), moment, &mut |outcome| outcomes.push(outcome));
    assert_eq!(outcomes, [answered(100), Outcome::Free]);
    let farewell = sent(&mut client);
    assert!(farewell.contains("\"DISCONNECT\"") && !farewell.contains("\"REQUEST\""), "{farewell}");
}

#[test]
fn of_many_pings_the_latest_is_answered_and_none_behind_a_close() {
    let (plan, mut client) = begun(Kind::Stateless);
    sent(&mut client);
    for ping in 0..1_000 {
        client.pong(format!("ping {ping}").as_bytes());
    }
    client.close(&plan, 1000);
    client.pong(b"late");
    client.close(&plan, 1000);
    assert!(client.has_unsent());
    let mut frames = Vec::new();
    frame::write(&mut frames, frame::opcode::PONG, plan.mask, b"ping 999");
    frame::write(&mut frames, frame::opcode::CLOSE, plan.mask, &1000_u16.to_be_bytes());
    assert_eq!(client.take_unsent(&plan, Vec::new()), frames);
    assert!(!client.has_unsent());
}

#[test]
fn a_client_takes_no_more_while_the_server_does_not_read() {
    let plan = Plan::new(&options(Kind::Stateless));
    let mut client = Client::new(7);
    let mut begun = 0;
    while client.has_room(usize::MAX) {
        client.begin(&plan, 0, 100);
        begun += 1;
    }
    assert_eq!(begun, UNSENT_BYTES_MAX.div_ceil(400));
    client.take_unsent(&plan, Vec::new());
    assert!(client.has_room(usize::MAX));
}

#[test]
fn nothing_follows_a_close_neither_a_step_nor_a_farewell() {
    let (plan, mut client) = begun(Kind::Stateful);
    client.close(&plan, 1000);
    sent(&mut client);
    let reply = envelope(&thread(7, 0), &[status(0, 200)]);
    assert_eq!(send(&plan, &mut client, &reply), [answered(100), Outcome::Free]);
    assert_eq!(sent(&mut client), "");
}

#[test]
fn a_session_that_is_refused_is_over() {
    let (plan, mut client) = begun(Kind::Stateful);
    client.out.clear();
    let reply = envelope(&thread(7, 0), &[status(0, 503)]);
    assert_eq!(send(&plan, &mut client, &reply), [failed(Fault::Status(503)), Outcome::Free]);
    assert!(client.out.is_empty(), "there is nothing to disconnect from");
}

#[test]
fn streamed_results_are_counted_in_their_order() {
    let own = thread(7, 0);
    let stream = |numbers: &[u32]| {
        let mut messages: Vec<String> = numbers.iter().map(|number| result(0, &number.to_string())).collect();
        messages.push(status(0, 205));
        let (plan, mut client) = begun(Kind::Streamed);
        let mut outcomes = Vec::new();
        for message in messages {
            outcomes.extend(send(&plan, &mut client, &envelope(&own, &[message])));
        }
        outcomes[0]
    };
    assert_eq!(stream(&[1, 2, 3]), answered(100));
    assert_eq!(stream(&[1, 2]), failed(Fault::WrongCount));
    assert_eq!(stream(&[1, 2, 3, 4]), failed(Fault::WrongCount));
    assert_eq!(stream(&[2, 1, 3]), failed(Fault::WrongContent));
}

#[test]
fn a_large_reply_has_its_length_whole_or_in_chunks() {
    let own = thread(7, 0);
    let reply = |mut messages: Vec<String>| {
        messages.push(status(0, 205));
        let (plan, mut client) = begun(Kind::Large);
        send(&plan, &mut client, &envelope(&own, &messages))[0]
    };
    assert_eq!(reply(vec![result(0, "\"0123456789\"")]), answered(100));
    assert_eq!(reply(vec![result(0, "\"01234567\\u00e9\"")]), answered(100));
    assert_eq!(reply(vec![result(0, "\"012345678\"")]), failed(Fault::WrongLength));
    let chunks = |last: &str| vec![coded(0, 206, "\"\\\"01234\""), coded(0, 206, last), coded(0, 204, "\"\"")];
    assert_eq!(reply(chunks("\"56789\\\"\"")), answered(100));
    assert_eq!(reply(chunks("\"5678\\\"\"")), failed(Fault::WrongLength));
    let both = [vec![result(0, "\"0123456789\"")], chunks("\"56789\\\"\"")].concat();
    assert_eq!(reply(both), failed(Fault::WrongCount));
}

#[test]
fn a_request_fails_once_whatever_else_happens_to_it() {
    let wrong = envelope(&thread(7, 0), &[result(0, "1")]);
    let ends: [fn(&Plan, &mut Client, &mut Vec<Outcome>); 3] = [
        |plan, client, outcomes| client.expire(plan, u64::MAX, &mut |outcome| outcomes.push(outcome)),
        |_, client, outcomes| client.lose(&mut |outcome| outcomes.push(outcome)),
        |plan, client, outcomes| outcomes.extend(send(plan, client, &envelope(&thread(7, 0), &[status(0, 500)]))),
    ];
    for end in ends {
        let (plan, mut client) = begun(Kind::Stateless);
        assert_eq!(faults(&plan, &mut client, &wrong), [Fault::WrongContent]);
        let mut outcomes = Vec::new();
        end(&plan, &mut client, &mut outcomes);
        assert!(
            !outcomes.iter().any(|outcome| matches!(outcome, Outcome::Fault(_) | Outcome::Failed { .. })),
            "{outcomes:?}"
        );
        assert_eq!(client.in_flight(), 0);
    }
}

#[test]
fn the_text_of_a_status_that_fails_a_request_is_kept_with_its_call() {
    let (plan, mut client) = begun(Kind::Stateless);
    send(&plan, &mut client, &envelope(&thread(7, 0), &[status(0, 404)]));
    assert_eq!(client.said, Some((Fault::Status(404), "opensrf.math add: s".to_owned())));
}

#[test]
fn an_echo_must_be_the_request_itself() {
    let plan = Plan::new(&PlanOptions { echo: true, ..options(Kind::Stateless) });
    let mut client = Client::new(7);
    client.begin(&plan, 0, 100);
    // The mask is 0 here, so the frame holds the text.
    let text = client.out.iter().position(|byte| *byte == b'{').expect("a brace");
    let echo = String::from_utf8(client.out.split_off(text)).expect("text");
    let other = echo.replace("000007", "000008");
    assert_eq!(send(&plan, &mut client, &other), [Outcome::Fault(Fault::WrongThread)]);
    assert_eq!(send(&plan, &mut client, &echo), [answered(100), Outcome::Free]);
    assert_eq!(send(&plan, &mut client, &echo), [Outcome::Fault(Fault::Duplicate)]);
    client.begin(&plan, 0, 100);
    client.expire(&plan, 101, &mut |_| {});
    let text = client.out.iter().position(|byte| *byte == b'{').expect("a brace");
    let echo = String::from_utf8(client.out.split_off(text)).expect("text");
    assert_eq!(send(&plan, &mut client, &echo), [Outcome::Fault(Fault::Late)]);
}

#[test]
fn a_reply_cut_short_anywhere_is_unparsable_and_never_a_panic() {
    let reply = envelope(&thread(7, 0), &[result(0, &sum(0)), status(0, 205)]);
    for end in 0..reply.len() {
        let (plan, mut client) = begun(Kind::Stateless);
        let faults = faults(&plan, &mut client, &reply[..end]);
        assert_eq!(faults.last(), Some(&Fault::Unparsable), "{end}");
    }
}

#[test]
fn what_a_1012_left_unanswered_is_sent_again_as_it_was_and_nothing_else() {
    let (plan, mut client) = begun(Kind::Stateless);
    let first = sent(&mut client);
    client.begin(&plan, 0, 150);
    let second = sent(&mut client);
    // Of the first a part has come: a gateway that closes now with 1012 breaks its own rule.
    assert_eq!(send(&plan, &mut client, &envelope(&thread(7, 0), &[result(0, &sum(0))])), []);
    client.shut();
    let mut outcomes = Vec::new();
    client.keep_unanswered(&mut |outcome| outcomes.push(outcome));
    assert_eq!(outcomes, [failed(Fault::Lost)]);
    assert_eq!((client.reopen(&plan), sent(&mut client)), (1, second.clone()));
    assert_ne!(first, second);
    let reply = envelope(&thread(7, 1), &[result(1, &sum(1)), status(1, 205)]);
    assert_eq!(send(&plan, &mut client, &reply), [answered(150), Outcome::Free]);
    assert_eq!(client.reopen(&plan), 0);
}

#[test]
fn a_connect_is_sent_again_and_a_session_is_not() {
    let (plan, mut client) = begun(Kind::Stateful);
    let mut lost = 0;
    client.keep_unanswered(&mut |_| lost += 1);
    assert_eq!((client.reopen(&plan), lost), (1, 0));
    assert_eq!(send(&plan, &mut client, &envelope(&thread(7, 0), &[status(0, 200)])), [answered(100)]);
    client.keep_unanswered(&mut |_| lost += 1);
    assert_eq!((client.reopen(&plan), lost), (0, 1));
}
