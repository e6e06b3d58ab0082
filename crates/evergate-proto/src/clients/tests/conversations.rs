//! Requests, sessions, and what the router and the workers answer.

use super::*;

#[test]
fn a_stateless_request_goes_to_the_router_and_its_replies_come_back() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("0.47\"é", &[request(7)]));
    let push = world.pushed_one();
    assert_eq!((push.domain, &*push.key), (0, ROUTER_KEY));
    assert_eq!(push.json["to"], "opensrf:service:_:_:opensrf.math");
    assert_eq!(push.json["from"], OUR_ADDRESS);
    assert_eq!(push.json["osrf_xid"], "x-0.47\"é");
    assert_eq!(push.thread(), format!("{slot}.0.0:0.47\"é"));
    let mut sent = request(7);
    sent["__p"]["ingress"] = "ws-translator-v2".into();
    assert_eq!(push.json["body"], json!([sent]), "only ingress is set");
    assert_eq!(world.state(slot).book.pending(), 1);
    world.answer(&push, WORKER, &[result(7)]);
    world.answer(&push, WORKER, &[status(7, 205)]);
    let heard = world.heard(slot);
    assert_eq!(heard[0], json!({"thread": "0.47\"é", "log_xid": "x-0.47\"é", "osrf_msg": [result(7)]}));
    assert_eq!(heard[1]["osrf_msg"], json!([status(7, 205)]));
    assert!(world.state(slot).book.is_idle());
    world.check_gauges();
}

#[test]
fn the_wrapper_puts_thread_first_and_a_lone_body_object_in_an_array() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[request(0)]));
    let push = world.pushed_one();
    world.stalled.insert(slot);
    world.bus(&json!({"from": WORKER, "thread": push.thread(), "osrf_xid": "other", "body": result(0)}));
    let chunk = world.clients.take_outbound(slot).expect("a reply");
    let frame = chunk.bytes();
    let start = frame.iter().position(|byte| *byte == b'{').expect("JSON");
    let text = std::str::from_utf8(&frame[start..]).expect("text");
    assert!(text.starts_with(r#"{"thread":"t","log_xid":"other","osrf_msg":[{"#), "{text}");
}

#[test]
fn a_200_makes_a_session_whose_requests_go_to_the_worker_with_the_connects_bus_thread() {
    let mut world = World::new();
    let slot = world.client();
    let connected = world.session(slot, "t", WORKER);
    let mut nameless = envelope("t", &[request(1)]);
    nameless.as_object_mut().expect("an object").remove("service");
    world.say(slot, &nameless);
    let push = world.pushed_one();
    assert_eq!((push.domain, &*push.key, push.json["to"].as_str()), (1, WORKER, Some(WORKER)));
    assert_eq!(push.thread(), connected.thread());
    world.answer(&push, WORKER, &complete(1));
    assert_eq!(traces(&world.heard_one(slot)), [json!(1), json!(1)]);
    assert_eq!((world.state(slot).book.pending(), world.state(slot).book.sessions()), (0, 1));
    world.say(slot, envelope("t", &[disconnect(2)]));
    let push = world.pushed_one();
    assert_eq!((&*push.key, push.kinds()), (WORKER, vec!["DISCONNECT"]));
    assert!(world.state(slot).book.is_idle(), "a DISCONNECT ends the session when it is relayed");
    world.say(slot, envelope("t", &[request(3)]));
    assert_eq!(world.pushed_one().key, ROUTER_KEY);
    world.check_gauges();
}

#[test]
fn a_session_takes_whatever_service_a_later_envelope_names_and_a_second_connect() {
    let mut world = World::new();
    let slot = world.client();
    let connected = world.session(slot, "t", WORKER);
    let mut other = envelope("t", &[request(1)]);
    other["service"] = "router".into();
    world.say(slot, &other);
    let first = world.pushed_one();
    assert_eq!(first.key, WORKER);
    world.answer(&first, WORKER, &complete(1));
    world.say(slot, envelope("t", &[connect(2)]));
    let push = world.pushed_one();
    assert_eq!((&*push.key, push.thread()), (WORKER, connected.thread()));
    world.answer(&push, WORKER, &[status(2, 200)]);
    assert_eq!(world.pushed().len(), 0, "no DISCONNECT");
    assert_eq!((world.state(slot).book.pending(), world.state(slot).book.sessions()), (0, 1));
    world.check_gauges();
}

#[test]
fn what_comes_behind_a_pending_connect_waits_in_order_while_other_threads_pass() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[connect(0)]));
    let push = world.pushed_one();
    for trace in 1..=3 {
        world.say(slot, envelope("t", &[request(trace)]));
    }
    world.say(slot, envelope("t", &[disconnect(4)]));
    assert_eq!(world.pushed().len(), 0);
    world.say(slot, envelope("u", &[request(9)]));
    assert_eq!(world.pushed_one().thread(), "0.0.1:u");
    world.answer(&push, WORKER, &[status(0, 200)]);
    for trace in 1..=4 {
        let next = world.pushed_one();
        assert_eq!((&*next.key, next.thread()), (WORKER, push.thread()));
        assert_eq!(next.json["body"][0]["__p"]["threadTrace"], trace, "one envelope of a session at a time");
        if trace < 4 {
            world.answer(&next, WORKER, &complete(trace));
        }
    }
    assert_eq!((world.state(slot).book.pending(), world.state(slot).book.sessions()), (1, 0));
    world.check_gauges();
}

#[test]
fn a_connect_that_fails_lets_what_waited_go_to_the_router() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[connect(0)]));
    let push = world.pushed_one();
    world.say(slot, envelope("t", &[request(1)]));
    world.answer(&push, WORKER, &[status(0, 500)]);
    assert_eq!(world.pushed_one().key, ROUTER_KEY);
}

#[test]
fn connect_and_request_in_one_envelope_share_a_conversation() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[connect(0), request(1)]));
    let push = world.pushed_one();
    assert_eq!(push.kinds(), ["CONNECT", "REQUEST"]);
    world.answer(&push, WORKER, &[status(0, 200)]);
    assert_eq!((world.state(slot).book.pending(), world.state(slot).book.sessions()), (1, 1));
    world.answer(&push, WORKER, &complete(1));
    assert_eq!((world.state(slot).book.pending(), world.state(slot).book.sessions()), (0, 1));
    world.say(slot, envelope("t", &[request(2)]));
    assert_eq!(world.pushed_one().key, WORKER);
}

#[test]
fn connect_and_disconnect_in_one_envelope_leave_no_session() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[connect(0), disconnect(1)]));
    let push = world.pushed_one();
    world.say(slot, envelope("t", &[request(2)]));
    assert_eq!(world.pushed().len(), 0, "the CONNECT is pending");
    world.answer(&push, WORKER, &[status(0, 200)]);
    assert_eq!(world.heard(slot).len(), 1);
    let push = world.pushed_one();
    assert_eq!((&*push.key, push.kinds()), (ROUTER_KEY, vec!["REQUEST"]));
    world.answer(&push, WORKER, &complete(2));
    assert!(world.state(slot).book.is_idle());
    world.check_gauges();
}

#[test]
fn disconnect_and_connect_in_one_envelope_begin_a_new_session() {
    let mut world = World::new();
    let slot = world.client();
    world.session(slot, "t", WORKER);
    world.say(slot, envelope("t", &[disconnect(1), connect(2)]));
    let push = world.pushed_one();
    assert_eq!(push.key, WORKER);
    world.answer(&push, WORKER, &[status(2, 200)]);
    assert_eq!((world.state(slot).book.pending(), world.state(slot).book.sessions()), (0, 1));
}

#[test]
fn a_disconnect_without_a_session_is_not_relayed_and_not_answered_but_counted() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[disconnect(0)]));
    assert_eq!((world.pushed().len(), world.counts().disconnects_ignored.load(Relaxed)), (0, 1));
    assert!(world.state(slot).book.is_idle());
    assert_eq!(world.heard(slot).len(), 0);
}

#[test]
fn a_session_survives_the_workers_own_404_and_500() {
    let mut world = World::new();
    let slot = world.client();
    world.session(slot, "t", WORKER);
    for (trace, code) in [(1, 404), (2, 500)] {
        world.say(slot, envelope("t", &[request(trace)]));
        let push = world.pushed_one();
        world.answer(&push, WORKER, &[status(trace, code)]);
        let heard = world.heard_one(slot);
        assert_eq!(heard.get("transport_error"), None, "a method's error is no fault of the transport");
        assert_eq!((world.state(slot).book.pending(), world.state(slot).book.sessions()), (0, 1), "{code}");
    }
    world.say(slot, envelope("t", &[request(3)]));
    assert_eq!(world.pushed_one().key, WORKER);
}

#[test]
fn a_307_and_a_417_end_the_request_and_the_session_and_are_passed_through() {
    for code in [307, 417] {
        let mut world = World::new();
        let slot = world.client();
        world.session(slot, "t", WORKER);
        world.say(slot, envelope("t", &[request(1)]));
        let push = world.pushed_one();
        world.answer(&push, WORKER, &[status(1, code)]);
        assert_eq!(world.heard_one(slot)["osrf_msg"], json!([status(1, code)]));
        assert!(world.state(slot).book.is_idle(), "{code}");
        world.say(slot, envelope("t", &[request(2)]));
        assert_eq!(world.pushed_one().key, ROUTER_KEY, "{code}");
    }
}

#[test]
fn a_408_ends_the_session_whatever_threadtrace_it_names() {
    // C services send 0, Perl ones that of the last request.
    for trace in [json!("0"), json!(1)] {
        let mut world = World::new();
        let slot = world.client();
        let push = world.session(slot, "t", WORKER);
        world.answer(&push, WORKER, &[status(trace.clone(), 408)]);
        assert_eq!(world.heard_one(slot)["osrf_msg"], json!([status(trace, 408)]), "passed through");
        assert!(world.state(slot).book.is_idle());
        world.say(slot, envelope("t", &[request(0)]));
        assert_eq!(world.pushed_one().key, ROUTER_KEY);
    }
}

#[test]
fn a_408_fails_what_the_worker_had_not_answered_with_503() {
    let mut world = World::new();
    let slot = world.client();
    let push = world.session(slot, "t", WORKER);
    world.say(slot, envelope("t", &[request(1), request("2")]));
    world.say(slot, envelope("u", &[request(1)]));
    world.answer(&push, WORKER, &[status(1, 408)]);
    let heard = world.heard(slot);
    assert_eq!(heard[0]["osrf_msg"], json!([status(1, 408)]));
    assert_eq!(error_in(&heard[1]), Some((503, json!(1), true)));
    assert_eq!(error_in(&heard[2]), Some((503, json!("2"), true)));
    assert_eq!((heard.len(), world.state(slot).book.pending()), (3, 1), "another thread's request stays");
    world.check_gauges();
}

#[test]
fn a_408_after_the_disconnect_still_fails_what_was_pending_at_that_worker() {
    let mut world = World::new();
    let slot = world.client();
    let push = world.session(slot, "t", WORKER);
    world.say(slot, envelope("t", &[request(1)]));
    world.say(slot, envelope("t", &[disconnect(2)]));
    assert_eq!(world.state(slot).book.pending(), 1, "requests stay pending until they end");
    world.answer(&push, WORKER, &[status(0, 408)]);
    let heard = world.heard(slot);
    assert_eq!(error_in(&heard[1]), Some((503, json!(1), true)));
    assert!(world.state(slot).book.is_idle());
}

#[test]
fn the_routers_404_comes_back_for_each_request_with_its_own_trace() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[request(0), request("5"), disconnect(6)]));
    world.say(slot, envelope("t", &[request(1)]));
    let pushed = world.pushed();
    world.answer_no_service(&pushed[0]);
    let heard = world.heard(slot);
    assert_eq!(heard.iter().flat_map(traces).collect::<Vec<_>>(), [json!(0), json!("5")], "one envelope for each");
    for heard in heard {
        assert_eq!((&heard["thread"], &heard["log_xid"]), (&json!("t"), &json!("x-t")), "log_xid is put back");
        assert_eq!(heard["transport_error"], true);
        let payload = &heard["osrf_msg"][0]["__p"]["payload"];
        assert_eq!(payload["__c"], "osrfServiceException", "the class is kept");
        assert_eq!(payload["__p"]["statusCode"], "404");
    }
    assert_eq!(world.state(slot).book.pending(), 1, "the other envelope is another conversation");
    world.answer(&pushed[1], WORKER, &complete(1));
    assert!(world.state(slot).book.is_idle());
    world.check_gauges();
}

#[test]
fn two_requests_in_one_envelope_get_both_their_replies() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[request(0), request(1)]));
    let push = world.pushed_one();
    world.answer(&push, WORKER, &complete(0));
    world.answer(&push, WORKER, &complete(1));
    assert_eq!(world.heard(slot).len(), 2);
    assert!(world.state(slot).book.is_idle());
}

#[test]
fn equal_threadtraces_are_counted_and_a_number_equals_its_string() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[request(7), request("7"), request(7)]));
    let push = world.pushed_one();
    for left in [2, 1, 0] {
        world.answer(&push, WORKER, &[status("7", 205)]);
        assert_eq!(world.state(slot).book.pending(), left);
    }
    assert_eq!(world.heard(slot).len(), 3);
    world.answer(&push, WORKER, &[status(7, 205)]);
    assert_eq!(world.heard(slot).len(), 0, "the conversation is forgotten");
    assert_eq!(world.counts().undeliverable.load(Relaxed), 1);
}

#[test]
fn only_a_status_ends_a_request() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[connect(0)]));
    let push = world.pushed_one();
    world.answer(&push, WORKER, &[result(0), status(0, 100), status(0, 202), message("RESULT", 0, json!({}))]);
    assert_eq!((world.state(slot).book.pending(), world.state(slot).book.sessions()), (1, 0));
    assert_eq!(world.heard_one(slot)["osrf_msg"].as_array().map(Vec::len), Some(4));
}

#[test]
fn a_reply_after_the_client_is_gone_reaches_nobody_not_even_the_next_client_of_its_slot() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[request(0)]));
    let push = world.pushed_one();
    world.hang_up(slot);
    world.answer(&push, WORKER, &complete(0));
    let next = world.client();
    assert_eq!(next, slot);
    world.say(next, envelope("t", &[request(0)]));
    assert_ne!(world.pushed_one().thread(), push.thread(), "the generation differs");
    world.answer(&push, WORKER, &complete(0));
    assert_eq!(world.heard(next).len(), 0);
    assert_eq!(world.counts().undeliverable.load(Relaxed), 2);
    world.check_gauges();
}

#[test]
fn slots_are_used_again_the_one_that_was_freed_first_in_front() {
    let mut world = World::new();
    let slots: Vec<SlotIndex> = (0..4).map(|_| world.client()).collect();
    for slot in [2, 0, 3] {
        world.hang_up(slots[slot]);
    }
    assert_eq!(world.clients.len(), 1);
    assert_eq!((0..4).map(|_| world.client()).collect::<Vec<_>>(), [2, 0, 3, 4]);
}

#[test]
fn a_client_that_leaves_frees_each_of_its_workers() {
    let mut world = World::new();
    let slot = world.client();
    let first = world.session(slot, "t", WORKER);
    let second = world.session(slot, "u", OTHER_WORKER);
    world.hang_up(slot);
    let pushed = world.pushed();
    let gone: Vec<_> = pushed.iter().map(|push| (push.domain, &*push.key, push.thread(), push.kinds())).collect();
    let farewell = vec!["DISCONNECT"];
    assert_eq!(gone, [(1, WORKER, first.thread(), farewell.clone()), (0, OTHER_WORKER, second.thread(), farewell)]);
    world.answer(&first, WORKER, &[status(0, 408)]);
    assert_eq!(world.pushed().len(), 0, "a late 408 is read and forgotten");
}

#[test]
fn a_200_that_nobody_waits_for_is_answered_with_a_disconnect() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[connect(0)]));
    let push = world.pushed_one();
    world.hang_up(slot);
    world.answer(&push, WORKER, &[status(0, 200)]);
    let farewell = world.pushed_one();
    assert_eq!((farewell.domain, &*farewell.key, farewell.kinds()), (1, WORKER, vec!["DISCONNECT"]));
    assert_eq!((farewell.thread(), farewell.ticket), (push.thread(), None));
}

#[test]
fn a_worker_of_a_domain_that_may_not_be_dialled_gets_no_session_but_its_replies_arrive() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[connect(0), request(1)]));
    let push = world.pushed_one();
    world.answer(&push, FOREIGN_WORKER, &[status(0, 200)]);
    assert_eq!(world.told(slot), (503, vec![json!(0)], true));
    assert_eq!(world.counts().foreign_sessions_refused.load(Relaxed), 1);
    assert!(world.log.iter().any(|(level, line)| *level == Severity::Warn && line.contains("elsewhere.example")));
    world.answer(&push, FOREIGN_WORKER, &complete(1));
    assert_eq!(world.heard(slot).len(), 1);
    assert_eq!(world.pushed().len(), 0, "nothing is pushed to a domain that may not be dialled");
    assert!(world.state(slot).book.is_idle());
}

#[test]
fn a_reply_that_is_not_utf8_becomes_a_500_and_still_ends_its_request() {
    let mut world = World::new();
    let slot = world.client();
    world.say(slot, envelope("t", &[request(4)]));
    let push = world.pushed_one();
    for place in ["osrf_xid", "body"] {
        let mut reply = json!({"from": WORKER, "thread": push.thread(), "osrf_xid": "x", "body": [result(4)]});
        if place == "body" {
            reply["body"] = json!([status(4, 205)]);
            reply["body"][0]["__p"]["locale"] = "BAD".into();
        } else {
            reply["osrf_xid"] = "BAD".into();
        }
        let mut bytes = reply.to_string().into_bytes();
        let at = bytes.windows(3).position(|window| window == b"BAD").expect("BAD");
        bytes[at] = 0xff;
        assert_eq!(world.clients.from_bus(&[&bytes]), 1);
        world.settle();
        assert_eq!(world.told(slot), (500, vec![json!(4)], false), "{place}");
    }
    assert_eq!(world.counts().bus_garbage.load(Relaxed), 2);
    assert!(world.state(slot).book.is_idle());
}

#[test]
fn replies_that_come_together_each_find_their_client() {
    let mut world = World::new();
    let slots: Vec<_> = (0..40).map(|_| world.client()).collect();
    let mut replies = vec!["{".to_owned(), r#"{"thread":"99999999999999999999.0.0:t"}"#.to_owned()];
    for (at, slot) in slots.iter().enumerate() {
        world.say(*slot, envelope("t", &[request(7)]));
        let thread = world.pushed_one().thread().to_owned();
        // Whoever writes a bus message chooses the order of its members; the thread may be far behind.
        let body = json!([result(7), status(7, 205)]).to_string();
        let padding = "p".repeat(at * 40);
        replies.push(match at % 3 {
            0 => format!(r#"{{"thread":"{thread}","from":"{WORKER}","body":{body}}}"#),
            1 => format!(r#"{{"from":"{WORKER}","osrf_xid":"{padding}","thread":"{thread}","body":{body}}}"#),
            _ => format!(r#"{{"body":{body},"from":"{WORKER}","thread":"{thread}"}}"#),
        });
    }
    assert_eq!(world.clients.from_bus(&replies.iter().map(String::as_bytes).collect::<Vec<_>>()), replies.len());
    world.settle();
    for slot in slots {
        assert_eq!(world.heard_one(slot)["osrf_msg"][1]["__p"]["payload"]["__p"]["statusCode"], 205);
        assert!(world.state(slot).book.is_idle());
    }
    assert_eq!(world.counts().bus_pops.load(Relaxed), 42);
    assert_eq!(world.counts().bus_garbage.load(Relaxed) + world.counts().undeliverable.load(Relaxed), 2);
}

#[test]
fn what_cannot_be_read_from_the_bus_is_counted_and_harms_nobody() {
    let mut world = World::new();
    let slot = world.client();
    let garbage = ["", "{", "[]", "{}", r#"{"thread":"0.0.0:t","body":5}"#, "\u{1}"];
    assert_eq!(world.clients.from_bus(&garbage.map(str::as_bytes)), garbage.len());
    assert_eq!(world.counts().bus_garbage.load(Relaxed), 6);
    for thread in ["", "t", "9.0.0:t", "0.0.7:t", "0.00.0:t", "-1.0.0:t", "0.0.99999999999999999999:t"] {
        world.bus(&json!({"from": WORKER, "thread": thread, "osrf_xid": "x", "body": [result(0)]}));
    }
    assert_eq!(world.counts().undeliverable.load(Relaxed), 7);
    assert!(world.is_open(slot) && world.heard(slot).is_empty());
}

#[test]
fn activity_is_logged_when_a_request_is_relayed_with_the_sessions_service() {
    let mut world = World::new();
    let slot = world.client();
    world.session(slot, "t", WORKER);
    world.activity.clear();
    world.say(slot, json!({"thread": "t", "osrf_msg": [request(1)]}));
    world.say(slot, json!({"service": "router", "thread": "u", "osrf_msg": [request(1)]}));
    world.say_close(slot, 1000);
    let lines = &world.activity;
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0], "[127.0.0.1] [] opensrf.math add 1, 2 [#0.0.0 made-up-1]");
    assert!(lines[1].starts_with("[127.0.0.1] [] disconnect after 0.000 s, 1 requests: "), "{}", lines[1]);
}
