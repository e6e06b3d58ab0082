//! The page, its events and its actions, over HTTP.

use super::*;
use crate::config::Secret;
use crate::process::control::{Asker, DrainBegun, Request};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A page whose actions are allowed.
fn acting(shared: &Arc<Shared>) -> Admin {
    let options = AdminOptions { token: Some(Secret::new(TOKEN)), ..options() };
    let admin = start(bind("127.0.0.1:0".parse().unwrap()).unwrap(), Arc::clone(shared), options).unwrap();
    admin.begin();
    admin
}

/// A stream of events, and what of it was not looked at yet.
struct Events {
    stream: TcpStream,
    header: String,
    rest: String,
}

impl Events {
    /// Opens `/events` with more header lines.
    fn open(admin: &Admin, more: &str) -> Self {
        let mut stream = connect(admin);
        write!(stream, "GET /events HTTP/1.1\r\nHost: localhost\r\n{more}\r\n").unwrap();
        let mut events = Self { stream, header: String::new(), rest: String::new() };
        events.header = events.until("\r\n\r\n").expect("an answer");
        events
    }

    /// What comes up to and with `end`; none where the stream ends before.
    fn until(&mut self, end: &str) -> Option<String> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(at) = self.rest.find(end) {
                let rest = self.rest.split_off(at + end.len());
                return Some(std::mem::replace(&mut self.rest, rest));
            }
            let read = self.stream.read(&mut chunk).expect("something within its time");
            if read == 0 {
                return None;
            }
            self.rest.push_str(&String::from_utf8_lossy(&chunk[..read]));
        }
    }

    /// The text of the next event, whole.
    fn text(&mut self) -> Option<String> {
        self.until("event: ")?;
        self.until("\n\n").map(|text| format!("event: {text}"))
    }

    /// The data of the next event of that name.
    fn next(&mut self, name: &str) -> Value {
        loop {
            let text = self.text().unwrap_or_else(|| panic!("no {name} came"));
            let mut lines = text.lines();
            if lines.next() == Some(&format!("event: {name}")) {
                let line = lines.next().and_then(|line| line.strip_prefix("data: ")).expect("its data");
                return serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            }
        }
    }
}

#[test]
fn a_page_that_is_opened_is_told_what_has_been_and_then_once_a_second_what_is() {
    let shared = Arc::new(serving());
    let admin = listen(&shared);
    set(&shared.cores[0].counts.open, 7);
    let mut events = Events::open(&admin, "");
    let header = events.header.to_ascii_lowercase();
    assert!(
        header.contains("content-type: text/event-stream") && header.contains("cache-control: no-store"),
        "{header}"
    );
    assert!(header.contains("x-accel-buffering: no"), "{header}");
    assert!(header.contains("x-content-type-options: nosniff") && !header.contains("access-control"), "{header}");
    let hello = events.next("hello");
    assert_eq!((&hello["pid"], &hello["actions"]), (&std::process::id().into(), &false.into()));
    assert_eq!((&hello["console"], &hello["drain_max_seconds"]), (&Value::Null, &120.into()));
    set(&shared.cores[0].counts.requests, 500);
    set(&shared.cores[1].counts.idle, 4);
    shared.cores[0].limit_hit(Limit::parallel_max);
    let now = loop {
        let now = events.next("now");
        if now["sample"]["requests"].as_f64().is_some_and(|rate| rate > 0.0) {
            break now;
        }
    };
    assert_eq!((&now["phase"], &now["sample"]["clients"]), (&"serving".into(), &7.into()), "{now}");
    assert_eq!((&now["cores"][1]["core"], &now["cores"][1]["open"]), (&2.into(), &4.into()), "{now}");
    assert!(now["cores"][0]["pace"]["requests"].as_f64().unwrap() > 0.0 && now["drain"].is_null(), "{now}");
    assert_eq!(now["hits"]["parallel_max"]["times"], 1);
    // Whoever opens the page now is told of that second.
    let hello = Events::open(&admin, "").next("hello");
    let history = &hello["history"];
    assert!(history["requests"].as_array().unwrap().contains(&now["sample"]["requests"]), "{history}");
    assert_eq!(history["at_ms"].as_array().map(Vec::len), history["requests"].as_array().map(Vec::len));
}

#[test]
fn limits_are_told_with_how_near_they_are_and_what_clients_wrote_cannot_end_an_event() {
    let shared = Arc::new(serving());
    let numbers = crate::config::TABLE.iter().map(|option| (option.name, 1_000_000)).collect();
    let options = AdminOptions { numbers, ..options() };
    let admin = start(bind("127.0.0.1:0".parse().unwrap()).unwrap(), Arc::clone(&shared), options).unwrap();
    admin.begin();
    set(&shared.cores[0].counts.core_bytes, 1 << 19);
    set(&shared.cores[1].counts.core_bytes, 1 << 18);
    set(&shared.cores[0].counts.connections, 400);
    set(&shared.cores[1].counts.connections, 300);
    *shared.cores[1].oldest.lock().unwrap() = Some(Oldest {
        service: "a\n\nevent: now\ndata: {}\u{2028}".into(),
        method: "<script>".into(),
        age_ms: 1_500,
        client: "192.0.2.1".into(),
    });
    shared.drain(0, 3_600_000);
    let mut events = Events::open(&admin, "");
    events.text().expect("hello");
    let text = events.text().expect("now");
    assert!(text.starts_with("event: now\ndata: {") && text.matches('\n').count() == 3, "{text}");
    assert!(text.contains("event: now\\ndata: {}") && !text.contains('\u{2028}'), "{text}");
    let now: Value = serde_json::from_str(text.lines().nth(1).unwrap().strip_prefix("data: ").unwrap()).unwrap();
    let limit = |name: &str| now["limits"].as_array().unwrap().iter().find(|limit| limit["name"] == name).unwrap();
    assert_eq!(
        (&limit("core_bytes_max")["now"], &limit("core_bytes_max")["most"]),
        (&(1 << 19).into(), &1_000_000.into())
    );
    assert_eq!((&limit("clients_max")["now"], &limit("clients_max")["most"]), (&700.into(), &1_000_000.into()));
    for limit in now["limits"].as_array().unwrap() {
        assert_eq!(limit["most"], 1_000_000, "{limit} is an option");
    }
    let wait = &now["drain"]["waits"][0];
    assert_eq!((&wait["core"], &wait["method"], &wait["age_ms"]), (&2.into(), &"<script>".into(), &1_500.into()));
    assert!(now["drain"]["seconds_left"].as_f64().unwrap() > 3_500.0, "{now}");
}

#[test]
fn events_are_for_pages_of_this_address() {
    let admin = listen(&Arc::new(serving()));
    for (site, code) in [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)] {
        let header = Events::open(&admin, &format!("Sec-Fetch-Site: {site}\r\n")).header;
        assert!(header.starts_with(&format!("HTTP/1.1 {code} ")), "{site}: {header}");
    }
    assert_eq!(say(&admin, "GET /events HTTP/1.1\r\nHost: evil.example\r\n\r\n").0, 421);
    let (code, header, body) = ask(&admin, "HEAD", "/events");
    assert!(code == 200 && header.contains("text/event-stream") && body.is_empty(), "{header}");
}

#[test]
fn pages_that_are_open_take_no_place_from_probes_and_of_too_many_the_oldest_goes() {
    let admin = listen(&Arc::new(serving()));
    // One address may have three quarters of the 16.
    let mut open: Vec<Events> = (0..12).map(|_| Events::open(&admin, "")).collect();
    let _one_more = Events::open(&admin, "");
    while open[0].text().is_some() {}
    for events in &mut open[1..] {
        events.next("now");
        events.next("now");
    }
    assert_eq!(get(&admin, "/healthz").0, 200);
}

#[test]
fn at_the_end_of_the_process_an_open_page_is_told_the_exit_code_and_nobody_is_waited_for_who_does_not_look() {
    let shared = Arc::new(serving());
    let admin = listen(&shared);
    let mut events = Events::open(&admin, "");
    events.next("now");
    shared.enter(Phase::Stopping);
    admin.end(3);
    let ended = events.next("ended");
    assert_eq!((&ended["exit_code"], &ended["now"]["phase"]), (&3.into(), &"stopping".into()), "{ended}");
    assert_eq!(events.text(), None, "that was the last");
    let admin = listen(&shared);
    let began = Instant::now();
    admin.end(0);
    assert!(began.elapsed() < Duration::from_millis(400), "{:?}", began.elapsed());
}

#[test]
fn the_page_is_one_document_whose_policy_allows_nothing_but_itself() {
    let admin = listen(&Arc::new(serving()));
    let of = |admin: &Admin| {
        let (code, header, body) = ask(admin, "GET", "/");
        assert_eq!(code, 200);
        let policy = header.lines().find_map(|line| line.strip_prefix("content-security-policy: ")).unwrap().to_owned();
        (policy, body)
    };
    let (policy, body) = of(&admin);
    let nonce = policy.split("script-src 'nonce-").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    for part in
        ["default-src 'none'", "connect-src 'self';", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'"]
    {
        assert!(policy.contains(part), "{part} in {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("ws:") && !policy.contains('*'), "{policy}");
    assert_eq!(body.matches(&format!("nonce=\"{nonce}\"")).count(), 2, "its style and its script");
    assert_eq!((body.matches("<script").count(), body.matches("<style").count()), (1, 1));
    assert!(!body.contains("{{") && !body.contains("src=") && !body.contains("style=\""), "{body}");
    assert_eq!(body.matches("http://www.w3.org/2000/svg").count(), body.matches("://").count(), "nothing is elsewhere");
    assert_ne!(of(&admin).0, policy, "the next has another nonce");

    let demo = AdminOptions { console: Some("127.0.0.1:7682".parse().unwrap()), ..options() };
    let demo = start(bind("127.0.0.1:0".parse().unwrap()).unwrap(), Arc::new(serving()), demo).unwrap();
    demo.begin();
    assert!(of(&demo).0.contains("connect-src 'self' ws://127.0.0.1:7682;"), "{}", of(&demo).0);
    let hello = Events::open(&demo, "").next("hello");
    assert_eq!(hello["console"], "ws://127.0.0.1:7682");
}

/// A POST to an action: the code and the body. A header of `None` is left out.
fn act(address: SocketAddr, path: &str, change: &[(&str, Option<&str>)], body: &str) -> (u16, String) {
    let mut headers = [
        ("Host", Some("localhost")),
        ("Origin", Some("http://localhost")),
        ("Sec-Fetch-Site", Some("same-origin")),
        ("Content-Type", Some("application/json")),
        ("X-Evergate-Token", Some(TOKEN)),
    ];
    for (name, value) in change {
        headers.iter_mut().find(|(of, _)| of == name).expect("one of these").1 = *value;
    }
    let mut text = format!("POST {path} HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers.iter().filter_map(|(name, value)| value.map(|value| (name, value))) {
        text.extend([name, ": ", value, "\r\n"]);
    }
    say_to(address, &format!("{text}\r\n{body}"))
}

#[test]
fn who_has_no_token_or_comes_from_elsewhere_may_not_act_and_nothing_is_asked_of_the_process() {
    let admin = acting(&Arc::new(serving()));
    let wrong = "0123456789abcdef0123456789abcdee";
    for (change, code) in [
        ((&[("X-Evergate-Token", None)][..]), 403),
        (&[("X-Evergate-Token", Some(""))], 403),
        (&[("X-Evergate-Token", Some(wrong))], 403),
        (&[("X-Evergate-Token", Some(&TOKEN[1..]))], 403),
        (&[("Origin", None)], 403),
        (&[("Origin", Some("null"))], 403),
        (&[("Origin", Some("http://evil.example"))], 403),
        (&[("Origin", Some("http://localhost:81"))], 403),
        (&[("Sec-Fetch-Site", Some("cross-site"))], 403),
        (&[("Sec-Fetch-Site", Some("same-site"))], 403),
        (&[("Sec-Fetch-Site", Some("none"))], 403),
        (&[("Content-Type", None)], 415),
        (&[("Content-Type", Some("text/plain"))], 415),
        (&[("Content-Type", Some("application/x-www-form-urlencoded"))], 415),
        // A name that was made to resolve here: its own page is its origin.
        (&[("Host", Some("evil.example")), ("Origin", Some("http://evil.example"))], 421),
    ] {
        for path in ["/actions/drain", "/actions/cancel", "/actions/close"] {
            assert_eq!(act(admin.addr(), path, change, "{}").0, code, "{path} {change:?}");
        }
    }
    let big = format!("{{{}}}", " ".repeat(8_000));
    for (body, code) in [("", 400), ("[1]", 400), ("{\"a\":1}", 400), ("nonsense", 400), (&*big, 413)] {
        assert_eq!(act(admin.addr(), "/actions/drain", &[], body).0, code, "{body:.20}");
    }
    for (body, code) in [("{}", 400), ("{\"connection\":\"what?\"}", 400), ("{\"connection\":\"7.0.0\"}", 409)] {
        assert_eq!(act(admin.addr(), "/actions/close", &[], body).0, code, "{body}");
    }
    assert!(admin.take_requests().is_empty());
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        let (code, header, _) = ask(&admin, method, "/actions/drain");
        assert!(code == 405 && header.contains("allow: post"), "{header}");
        assert!(!header.contains("access-control"), "{header}");
    }
    assert_eq!(ask(&admin, "POST", "/status").0, 405);
    let (_, metrics) = get(&admin, "/metrics");
    assert!(metrics.contains("evergate_admin_actions_refused_total 42\n"), "{metrics}");
}

#[test]
fn where_actions_are_not_allowed_they_are_not_there() {
    let admin = listen(&Arc::new(serving()));
    let (code, body) = act(admin.addr(), "/actions/drain", &[], "{}");
    assert!(code == 405 && body.contains("GET and HEAD"), "{body}");
    assert_eq!(get(&admin, "/actions/drain").0, 404);
}

/// What the main thread was asked, once it was.
fn next(admin: &Admin) -> Request {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(request) = admin.take_requests().pop() {
            return request;
        }
        assert!(Instant::now() < until, "nothing was asked");
        std::thread::yield_now();
    }
}

#[test]
fn the_page_asks_the_main_thread_and_tells_what_it_answers() {
    let admin = acting(&Arc::new(serving()));
    let address = admin.addr();
    std::thread::scope(|scope| {
        let asks = scope.spawn(move || act(address, "/actions/drain", &[], "{}"));
        let begun = DrainBegun { already: false, port_closes_in_seconds: 0.0, seconds_left: 120.0, closed_before: 0 };
        match next(&admin) {
            Request::Drain { by, reply } => {
                assert_eq!(by, Asker::Page("127.0.0.1".parse().unwrap()));
                assert_eq!(by.to_string(), "127.0.0.1 by the admin page");
                reply.answer(Ok(begun));
            }
            other => panic!("{other:?}"),
        }
        let (code, body) = asks.join().unwrap();
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (code, &answer["ok"], &answer["drain"]["seconds_left"]),
            (200, &true.into(), &120.0.into()),
            "{body}"
        );

        let asks = scope.spawn(move || act(address, "/actions/cancel", &[("Sec-Fetch-Site", None)], "{}"));
        match next(&admin) {
            Request::Cancel { reply, .. } => reply.answer(Err("no drain is under way".to_owned())),
            other => panic!("{other:?}"),
        }
        let (code, body) = asks.join().unwrap();
        assert!(code == 409 && body.contains("no drain is under way"), "{code} {body}");

        let asks = scope.spawn(move || act(address, "/actions/drain", &[], "{}"));
        drop(next(&admin));
        let (code, body) = asks.join().unwrap();
        assert!(code == 503 && body.contains("ending"), "{code} {body}");
    });
}
