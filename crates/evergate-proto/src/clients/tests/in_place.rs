//! A large reply goes to the client in the buffer that received it.

use super::*;

/// The bus message of a service, as text: the body first, or last.
fn message(push: &Pushed, body: &Value, is_body_first: bool) -> String {
    let head = format!("\"to\":{},\"from\":{},\"thread\":{}", json!(OUR_ADDRESS), json!(WORKER), json!(push.thread()));
    if is_body_first { format!("{{\"body\":{body},{head}}}") } else { format!("{{{head},\"body\":{body}}}") }
}

fn large(content: &str) -> Value {
    let mut messages = json!(complete(0));
    messages[0]["__p"]["payload"]["__p"]["content"] = content.into();
    messages
}

/// A client with a request that is relayed, and that push.
fn asked(world: &mut World) -> (SlotIndex, Pushed) {
    let slot = world.client();
    world.say(slot, envelope("t", &[request(0)]));
    let push = world.pushed_one();
    world.stalled.insert(slot);
    (slot, push)
}

/// What goes to the client of a reply that came with `before` in front of it in the buffer.
fn sent(is_large: bool, before: &str, is_body_first: bool, body: impl Fn() -> Value) -> (Vec<u8>, bool) {
    let mut world = World::new();
    let (slot, push) = asked(&mut world);
    let text = message(&push, &body(), is_body_first);
    let mut received = false;
    if is_large {
        let buffer = format!("{before}{text}\r\n").into_bytes();
        let (start, end) = (buffer.as_ptr(), before.len() + text.len());
        world.clients.large_from_bus(buffer, before.len()..end);
        world.settle();
        let chunk = world.clients.take_outbound(slot).expect("a reply");
        received = chunk.buffer.as_ptr() == start;
        return (chunk.bytes().to_vec(), received);
    }
    world.clients.from_bus(&[text.as_bytes()]);
    world.settle();
    let chunk = world.clients.take_outbound(slot).expect("a reply");
    (chunk.bytes().to_vec(), received)
}

#[test]
fn it_is_the_same_frame_as_a_copied_one_and_no_byte_of_it_was_copied() {
    for bytes in [10, 200, 70_000] {
        let array = || large(&"é".repeat(bytes));
        let object = || array()[0].clone();
        for body in [&array as &dyn Fn() -> Value, &object] {
            let (copied, _) = sent(false, "", false, body);
            let (placed, is_in_place) = sent(true, "*2\r\n$3\r\nkey\r\n$1000\r\n", false, body);
            assert!(copied == placed && is_in_place, "{bytes} bytes: {}", String::from_utf8_lossy(&placed[..80]));
        }
    }
}

#[test]
fn where_there_is_no_room_before_the_body_it_is_copied() {
    let body = || large("content");
    let (copied, _) = sent(false, "", true, body);
    let (short, is_in_place) = sent(true, "", true, body);
    assert!(copied == short && !is_in_place);
    let (roomy, is_in_place) = sent(true, &" ".repeat(100), true, body);
    assert!(copied == roomy && is_in_place);
}

#[test]
fn it_has_its_place_among_other_replies_and_nothing_of_the_bus_goes_along() {
    let mut world = World::new();
    let slot = world.client();
    for trace in 0..4 {
        world.say(slot, envelope("t", &[request(trace)]));
    }
    world.stalled.insert(slot);
    for (at, push) in world.pushed().into_iter().enumerate() {
        let mut body = json!(complete(i64::try_from(at).expect("few")));
        body[0]["__p"]["payload"]["__p"]["content"] = "z".repeat(at * 1_000).into();
        let text = message(&push, &body, false);
        if at % 2 == 1 {
            let end = text.len();
            world.clients.large_from_bus(format!("{text}\r\n").into_bytes(), 0..end);
        } else {
            world.clients.from_bus(&[text.as_bytes()]);
        }
        world.settle();
    }
    let owed = world.clients.owed(slot);
    world.stalled.clear();
    world.drain_outbound(slot);
    let heard = world.heard(slot);
    let traces: Vec<&Value> = heard.iter().map(|envelope| &envelope["osrf_msg"][0]["__p"]["threadTrace"]).collect();
    assert_eq!(traces.len(), 4, "{heard:?}");
    assert!(traces.is_sorted_by_key(|trace| trace.to_string()) && owed > 6_000, "{traces:?}, {owed}");
    world.check_gauges();
}

#[test]
fn one_for_a_client_that_is_gone_or_closing_goes_nowhere() {
    let mut world = World::new();
    let (slot, push) = asked(&mut world);
    world.say_close(slot, 1000);
    let text = message(&push, &large("late"), false);
    let end = text.len();
    world.clients.large_from_bus(format!("{text}\r\n").into_bytes(), 0..end);
    world.settle();
    world.stalled.clear();
    world.drain_outbound(slot);
    assert_eq!(world.heard(slot), Vec::<Value>::new());
}
