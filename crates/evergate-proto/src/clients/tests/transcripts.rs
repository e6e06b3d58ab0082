//! What was recorded of stdio and a live stack, replayed: ours does the same, except where a quirk of stdio's is named.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;

/// Where ours differs (`+` ours alone, `-` stdio alone), and by which quirk of docs/wire.md or which rule of ours
/// (tested in `opensrf::tests::refusals`).
const DIFFERENCES: &[(&str, &str, &[&str])] = &[
    ("close_with_session_open", "quirk 6: the worker is not left waiting", &["+bus t-open worker: DISCONNECT 0"]),
    (
        "connect_unknown_service",
        "quirk 1: the router's 404 names the CONNECT's own threadTrace",
        &["-client t-nosuch2: STATUS 1 404", "+client t-nosuch2: STATUS 0 404 transport_error"],
    ),
    (
        "disconnect_without_connect",
        "quirk 17: a DISCONNECT without a session means nothing to anybody",
        &["-bus t-dis router: DISCONNECT 0"],
    ),
    (
        "embedded_newline",
        "quirk 10: bad JSON is answered (what t-nl4's client sent was not recorded)",
        &["-bus t-nl4 router: REQUEST 0", "-client t-nl4: RESULT 0 200 STATUS 0 205", "+client : STATUS 0 400"],
    ),
    (
        "extra_keys",
        "quirk 12: the client's own keys stay in its messages",
        &["-bus t-extra router: REQUEST 0", "+bus t-extra router: REQUEST 0"],
    ),
    ("invalid_json", "quirk 10: bad JSON is answered", &["+client : STATUS 0 400"]),
    (
        "keepalive_timeout",
        "quirk 3: the 408 is read at once, so that the next request is not lost",
        &["-bus t-ka worker: REQUEST 1", "+bus t-ka router: REQUEST 1"],
    ),
    (
        "log_xid",
        "rule: over 64 bytes is 400, not silence",
        &["+client t-xid65: STATUS 0 400", "+client t-xid256: STATUS 0 400", "+client t-xid257: STATUS 0 400"],
    ),
    (
        "max_sessions",
        "quirk 3: the 408s are read at once",
        &[
            "+client t-m3: STATUS 0 408",
            "+client t-m4: STATUS 0 408",
            "+client t-m1: STATUS 0 408",
            "+client t-m0: STATUS 0 408",
            "+client t-m2: STATUS 0 408",
            "+client t-m17: STATUS 0 408",
            "+client t-m18: STATUS 0 408",
            "+client t-m13: STATUS 0 408",
            "+client t-m15: STATUS 0 408",
            "+client t-m16: STATUS 0 408",
            "+client t-m14: STATUS 0 408",
            "+client t-m12: STATUS 0 408",
            "+client t-m10: STATUS 0 408",
            "+client t-m11: STATUS 0 408",
            "+client t-m9: STATUS 0 408",
            "+client t-m8: STATUS 0 408",
            "+client t-m7: STATUS 0 408",
            "+client t-m6: STATUS 0 408",
            "+client t-m5: STATUS 0 408",
        ],
    ),
    (
        "msg_object_not_array",
        "quirk 9: a bare message is taken, and the client lives on",
        &["+bus t-obj router: REQUEST 0", "+bus t-alive router: REQUEST 0"],
    ),
    ("no_service", "rule: no service is 400, not silence", &["+client t-nosvc: STATUS 0 400"]),
    (
        "private_only_service",
        "rule: the router itself may not be called",
        &[
            "-bus t-router router: REQUEST 0",
            "-client t-router: RESULT 0 0",
            "-client t-router: STATUS 0 205",
            "+client t-router: STATUS 0 403",
        ],
    ),
    (
        "service_odd",
        "rule: a colon, no byte, a control character, over 256 bytes are 400; quirk 1 for the others",
        &[
            "-bus t-odd router: REQUEST 0",
            "-client t-odd: STATUS 1 404",
            "-client t-odd: STATUS 1 404",
            "-bus t-odd router: REQUEST 0",
            "-bus t-odd router: REQUEST 0",
            "-client t-odd: STATUS 1 404",
            "-bus t-odd router: REQUEST 0",
            "-client t-odd: STATUS 1 404",
            "-client t-odd: STATUS 1 404",
            "-client t-odd: STATUS 1 404",
            "-client t-odd: STATUS 1 404",
            "+client t-odd: STATUS 0 400",
            "+client t-odd: STATUS 0 404 transport_error",
            "+client t-odd: STATUS 0 400",
            "+client t-odd: STATUS 0 400",
            "+client t-odd: STATUS 0 400",
            "+client t-odd: STATUS 0 404 transport_error",
            "+client t-odd: STATUS 0 404 transport_error",
            "+client t-odd: STATUS 0 404 transport_error",
        ],
    ),
    (
        "stateful_perl_pid",
        "quirks 3 and 17: the 408 is read at once, so that the next request is not lost; then there is no session to end",
        &[
            "-bus t-stateful-perl worker: REQUEST 1",
            "-bus t-stateful-perl router: DISCONNECT 5",
            "+bus t-stateful-perl router: REQUEST 1",
        ],
    ),
    (
        "streaming",
        "none: the recording has t-split's reply behind the client's close",
        &["-client t-split: RESULT 0 200 RESULT 0 200 RESULT 0 200 STATUS 0 205"],
    ),
    (
        "thread_types",
        "rule: a thread that is true, an array or an object is 400, not the empty thread",
        &[
            "-bus  router: REQUEST 0",
            "-client : RESULT 0 200 STATUS 0 205",
            "-bus  router: REQUEST 0",
            "-client : RESULT 0 200 STATUS 0 205",
            "-bus  router: REQUEST 0",
            "-client : RESULT 0 200 STATUS 0 205",
            "+client : STATUS 0 400",
            "+client : STATUS 0 400",
            "+client : STATUS 0 400",
        ],
    ),
    (
        "two_requests_one_envelope",
        "quirk 2: the second reply is delivered",
        &["+client t-two: RESULT 1 200 STATUS 1 205"],
    ),
    (
        "unexpected_types",
        "quirk 14: a type that is no client's is an error",
        &[
            "-bus t-ty router: STATUS 0 200",
            "-bus t-ty router: RESULT 0 200",
            "+client t-ty: STATUS 0 400",
            "+client t-ty: STATUS 0 400",
        ],
    ),
    (
        "unknown_service",
        "quirk 1: the router's 404 names the request's own threadTrace",
        &["-client t-nosuch: STATUS 1 404", "+client t-nosuch: STATUS 7 404 transport_error"],
    ),
];

/// One recorded line, or a note.
enum Line {
    Said(String),
    Pushed { key: String, json: Value },
    Popped(Value),
    Heard(Value),
    Closed,
}

fn recorded(path: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(path).expect("a transcript");
    text.lines()
        .filter_map(|line| {
            let line: Value = serde_json::from_str(line).expect("a line is JSON");
            if line["note"] == "client closes" {
                return Some(Line::Closed);
            }
            let text = line["text"].as_str()?.to_owned();
            let json = || serde_json::from_str(&text).expect("what stdio and the bus say is JSON");
            let key = line["key"].as_str().unwrap_or_default().to_owned();
            Some(match line["dir"].as_str()? {
                "client_to_gateway" => Line::Said(text),
                "gateway_to_bus" => Line::Pushed { key, json: json() },
                "bus_to_gateway" => Line::Popped(json()),
                "gateway_to_client" => Line::Heard(json()),
                other => panic!("{other}"),
            })
        })
        .collect()
}

/// The messages with threadTrace as a number.
fn normal(messages: &Value) -> Value {
    let mut messages = messages.clone();
    for message in messages.as_array_mut().expect("an array") {
        let trace = &mut message["__p"]["threadTrace"];
        if let Some(number) = trace.as_str().and_then(|trace| trace.parse::<i64>().ok()) {
            *trace = number.into();
        }
    }
    messages
}

/// Every message's type, trace and status code.
fn short(messages: &Value) -> String {
    let one = |message: &Value| {
        let code = &message["__p"]["payload"]["__p"]["statusCode"];
        let code =
            code.as_str().map_or_else(|| code.as_u64().map(|code| code.to_string()), |code| Some(code.to_owned()));
        let kind = message["__p"]["type"].as_str().unwrap_or("?");
        format!(" {kind} {} {}", message["__p"]["threadTrace"], code.unwrap_or_default()).trim_end().to_owned()
    };
    messages.as_array().expect("an array").iter().map(one).collect()
}

/// What happened: in short, and in full for the comparison.
#[derive(Clone, Debug, PartialEq)]
struct Event {
    /// What is compared in order: one thread in one direction.
    stream: String,
    short: String,
    full: Value,
}

impl Event {
    fn heard(json: &Value) -> Self {
        let messages = normal(&json["osrf_msg"]);
        let transport = if json["transport_error"] == true { " transport_error" } else { "" };
        let stream = format!("client {}", json["thread"].as_str().expect("a thread"));
        let short = format!("{stream}:{}{transport}", short(&messages));
        Self { short, full: json!([messages, json["transport_error"]]), stream }
    }

    fn pushed(key: &str, client_thread: &str, json: &Value) -> Self {
        let messages = normal(&json["body"]);
        let whom = if key == ROUTER_KEY { "router" } else { "worker" };
        let stream = format!("bus {client_thread}");
        Self {
            short: format!("{stream} {whom}:{}", short(&messages)),
            full: json!([key, json["to"], messages]),
            stream,
        }
    }
}

/// Replays a transcript: what ours did, and what stdio did.
fn replay(lines: &[Line]) -> (Vec<Event>, Vec<Event>) {
    let mut world = World::new();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let mut slot = None;
    // What was pushed and not yet seen in the transcript; then: recorded osrf_xid or thread -> our bus thread.
    let mut unseen: Vec<(Event, String)> = Vec::new();
    let mut bus_threads: HashMap<String, String> = HashMap::new();
    for line in lines {
        match line {
            Line::Said(text) => {
                let slot = *slot.get_or_insert_with(|| world.client());
                world.say(slot, text);
            }
            Line::Pushed { key, json } => {
                let client_thread = json["thread"].as_str().expect("a thread");
                let event = Event::pushed(key, client_thread, json);
                // The same envelope if there is one, else one to somebody else on this thread, for its answer.
                let at = unseen.iter().position(|(unseen, _)| *unseen == event);
                if let Some(at) = at.or_else(|| unseen.iter().position(|(unseen, _)| unseen.stream == event.stream)) {
                    let (_, bus_thread) = unseen.remove(at);
                    bus_threads.insert(json["osrf_xid"].as_str().expect("an xid").to_owned(), bus_thread.clone());
                    bus_threads.insert(format!("thread {client_thread}"), bus_thread);
                }
                theirs.push(event);
            }
            Line::Popped(json) => {
                let by = |name: String| bus_threads.get(&name).cloned();
                let bus_thread = match json["osrf_xid"].as_str() {
                    Some(xid) => by(xid.to_owned()),
                    None => by(format!("thread {}", json["thread"].as_str().expect("a thread"))),
                };
                let mut json = json.clone();
                if let Some(bus_thread) = bus_thread {
                    json["thread"] = bus_thread.into();
                }
                world.bus(&json);
            }
            Line::Heard(json) => theirs.push(Event::heard(json)),
            Line::Closed => {
                if let Some(slot) = slot.take() {
                    world.say_close(slot, 1000);
                    world.hang_up(slot);
                }
            }
        }
        for push in world.pushed() {
            let (_, client_thread) = push.thread().split_once(':').expect("a colon");
            let event = Event::pushed(&push.key, client_thread, &push.json);
            ours.push(event.clone());
            unseen.push((event, push.thread().to_owned()));
        }
        for heard in world.heard.values_mut() {
            for heard in heard.drain(..) {
                if let Heard::Text(json) = heard {
                    ours.push(Event::heard(&json));
                }
            }
        }
        world.check_gauges();
    }
    (ours, theirs)
}

/// Those of `events` that `others` has not.
fn without(events: &[Event], others: &[Event]) -> Vec<Event> {
    let mut left = others.to_vec();
    let mut alone = events.to_vec();
    alone.retain(|event| match left.iter().position(|other| other == event) {
        Some(at) => {
            left.remove(at);
            false
        }
        None => true,
    });
    alone
}

#[test]
fn every_recorded_scenario_goes_as_recorded_or_as_the_contract_says_instead() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/transcripts");
    let mut found = BTreeMap::new();
    let mut files = 0;
    for entry in std::fs::read_dir(folder).expect("the recordings") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        files += 1;
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let (ours, theirs) = replay(&recorded(&path));
        let (ours_alone, theirs_alone) = (without(&ours, &theirs), without(&theirs, &ours));
        // What both did, they did in the same order: thread by thread, for stdio takes one request after the other.
        let mut streams: BTreeMap<&str, (Vec<&Event>, Vec<&Event>)> = BTreeMap::new();
        let (ours_common, theirs_common) = (without(&ours, &ours_alone), without(&theirs, &theirs_alone));
        for event in &ours_common {
            streams.entry(&event.stream).or_default().0.push(event);
        }
        for event in &theirs_common {
            streams.entry(&event.stream).or_default().1.push(event);
        }
        for (stream, (ours, theirs)) in streams {
            assert_eq!(ours, theirs, "{name}: {stream}");
        }
        let differences: Vec<String> = theirs_alone
            .iter()
            .map(|event| format!("-{}", event.short))
            .chain(ours_alone.iter().map(|event| format!("+{}", event.short)))
            .collect();
        if !differences.is_empty() {
            found.insert(name, differences);
        }
    }
    assert!(files >= 28, "only {files} transcripts");
    let expected: BTreeMap<String, Vec<String>> = DIFFERENCES
        .iter()
        .map(|(name, _, differences)| ((*name).to_owned(), differences.iter().map(|&d| d.to_owned()).collect()))
        .collect();
    assert_eq!(found, expected, "{found:#?}");
}
