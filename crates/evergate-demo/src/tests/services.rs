use std::collections::HashSet;

use super::*;
use crate::{attach, password_from_file, serve_services, server};

/// A reply's text with the services' own addresses made alike.
fn alike(text: &str, caller: &Caller) -> String {
    let from = serde_json::from_str::<Value>(text).unwrap()["from"].as_str().unwrap().to_owned();
    text.replace(&caller.address, "CALLER").replace(&from, "FROM")
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn a_call_through_the_router_is_answered_as_recorded_from_a_c_service() {
    let demo = Demo::start("public.localhost", 3).unwrap();
    let mut caller = Caller::of(&demo).await;
    caller.send("opensrf.math", "t", &request("add", "[1,2]", 0)).await;
    let text = caller.text().await;
    assert!(text.contains(r#""from":"opensrf:client:opensrf:public.localhost:"#), "{text}");
    assert_eq!(
        alike(&text, &caller),
        r#"{"to":"CALLER","from":"FROM","thread":"t","osrf_xid":"x-t","body":[{"__c":"osrfMessage","__p":{"threadTrace":"0","locale":"en-US","api_level":1,"type":"RESULT","payload":{"__c":"osrfResult","__p":{"status":"OK","statusCode":"200","content":3}}}},{"__c":"osrfMessage","__p":{"threadTrace":"0","locale":"en-US","api_level":1,"type":"STATUS","payload":{"__c":"osrfConnectStatus","__p":{"status":"Request Complete","statusCode":"205"}}}}]}"#
    );
    for (method, params, content) in
        [("sub", r#"["5",7]"#, "-2"), ("mult", "[0.5,3]", "1.5"), ("div", r#"["6","3"]"#, "2")]
    {
        caller.send("opensrf.math", "t", &request(method, params, 0)).await;
        assert_eq!(caller.until(205).await[0].1.to_string(), content);
    }
    for (method, params, code) in [("div", "[1,0]", 500), ("add", r#"["x",1]"#, 400), ("add", "{}", 404)] {
        caller.send("opensrf.math", "t", &request(method, params, 0)).await;
        assert_eq!(codes(&caller.reply().await), [(code, Value::Null)], "{method} {params}");
    }
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn errors_are_answered_as_recorded() {
    let demo = Demo::start("public.localhost", 3).unwrap();
    let mut caller = Caller::of(&demo).await;
    let error = |trace: &str, xid: &str, class: &str, status: &str| {
        format!(
            r#"{{"to":"CALLER","from":"FROM","thread":"t","osrf_xid":{xid},"body":[{{"__c":"osrfMessage","__p":{{"threadTrace":"{trace}","locale":"en-US","api_level":1,"type":"STATUS","payload":{{"__c":"{class}","__p":{{"status":"{status}","statusCode":"404"}}}}}}}}]}}"#
        )
    };
    let cases = [
        ("opensrf.math", "nosuch", "osrfMethodException", "Method [nosuch] not found for service opensrf.math"),
        ("opensrf.math", "add", "osrfMethodException", "Not enough params for method add / service opensrf.math"),
        ("opensrf.nosuch", "add", "osrfServiceException", "Service Not Found"),
        ("opensrf:math", "add", "osrfServiceException", "Service Not Found"),
    ];
    for (service, method, class, status) in cases {
        caller.send(service, "t", &request(method, "[1]", 2)).await;
        let text = caller.text().await;
        let router = class == "osrfServiceException";
        assert_eq!(text.contains(r#""from":"opensrf:client:router:public.localhost:"#), router);
        let (trace, xid) = if router { ("1", "null") } else { ("2", r#""x-t""#) };
        assert_eq!(alike(&text, &caller), error(trace, xid, class, status));
    }
    caller.send("opensrf.demo", "t", &request("opensrf.demo.nosuch", "[]", 2)).await;
    assert_eq!(codes(&caller.reply().await), [(404, Value::Null)]);
    caller.send("router", "t", &request("opensrf.router.info.class.list", "[]", 0)).await;
    assert_eq!(
        caller.until(205).await[0].1,
        json!(["opensrf.demo", "opensrf.demo.c", "opensrf.demo.perl", "opensrf.math"])
    );
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn a_session_keeps_its_worker_until_it_disconnects() {
    let demo = Demo::start("public.localhost", 3).unwrap();
    let mut caller = Caller::of(&demo).await;
    let both = format!("{},{}", message("CONNECT", 0), request("opensrf.demo.counter", "[]", 1));
    caller.send("opensrf.demo", "a", &both).await;
    let connected = caller.reply().await;
    assert_eq!(codes(&connected), [(200, Value::Null)]);
    assert_eq!(connected["body"][0]["__p"]["type"], "STATUS");
    let worker = connected["from"].as_str().unwrap().to_owned();
    assert_eq!(caller.until(205).await[0].1, json!(1));

    caller.send("opensrf.demo", "b", &request("opensrf.demo.pid", "[]", 0)).await;
    let other = caller.reply().await;
    assert_ne!(other["from"], json!(worker), "the worker is held");
    // Another thread's message to a held worker, and one of no known type, are passed over.
    caller.send(&worker, "b", &request("opensrf.demo.pid", "[]", 0)).await;
    caller.send(&worker, "a", &message("WHAT", 2)).await;
    // An error ends a request and not its session.
    caller.send(&worker, "a", &request("opensrf.demo.fail", r#"["404","gone"]"#, 3)).await;
    let failed = caller.reply().await;
    assert_eq!(failed["body"][0]["__p"]["payload"]["__c"], "osrfMethodException");
    assert_eq!(failed["body"][0]["__p"]["payload"]["__p"]["status"], "gone");
    let two = format!("{},{}", request("opensrf.demo.counter", "[]", 4), request("opensrf.demo.pid", "[]", 5));
    caller.send(&worker, "a", &two).await;
    assert_eq!(caller.until(205).await[0].1, json!(2));
    assert!(worker.contains(&format!(":{}:", caller.until(205).await[0].1)));
    caller.send(&worker, "a", &message("CONNECT", 6)).await;
    assert_eq!(codes(&caller.reply().await)[0].0, 200);
    caller.send(&worker, "a", &message("DISCONNECT", 7)).await;
    // Lowest number first: the worker answers strangers again as soon as it is free.
    let mut freed = false;
    for _ in 0..100 {
        caller.send("opensrf.demo", "c", &request("opensrf.demo.counter", "[]", 0)).await;
        let reply = caller.reply().await;
        assert_eq!(codes(&reply)[0].1, json!(1));
        freed |= reply["from"] == json!(worker);
    }
    assert!(freed);
}

/// Opens a session, pushes five calls of `counter` and a DISCONNECT to its worker at once, and gives the trace of each 205.
async fn answers_to_five_and_a_disconnect(caller: &mut Caller, service: &str) -> Vec<String> {
    caller.send(service, "t", &message("CONNECT", 0)).await;
    let worker = caller.reply().await["from"].as_str().unwrap().to_owned();
    let counts = (1..=5).map(|trace| request("opensrf.demo.counter", "[]", trace));
    let texts: Vec<String> =
        counts.chain([message("DISCONNECT", 6)]).map(|message| caller.envelope(&worker, "t", &message)).collect();
    let all: Vec<_> = texts.iter().map(|text| (worker.as_str(), text.as_bytes())).collect();
    caller.pusher.push(&all).await.unwrap();
    // The worker that serves the session is the lowest free one again only after its end.
    let mut answered = Vec::new();
    loop {
        caller.send(service, "other", &request("opensrf.demo.counter", "[]", 9)).await;
        let mut of_other = false;
        let mut freed = false;
        while !of_other {
            let reply = caller.reply().await;
            let ends = codes(&reply).iter().any(|&(code, _)| code == 205);
            let trace = reply["body"][0]["__p"]["threadTrace"].to_string().trim_matches('"').to_owned();
            match reply["thread"].as_str() {
                Some("t") if ends => answered.push(trace),
                Some("t") => {}
                _ => (of_other, freed) = (ends, reply["from"] == json!(worker)),
            }
        }
        if freed {
            return answered;
        }
    }
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn a_perl_worker_that_reads_a_disconnect_while_it_serves_drops_the_requests_queued_before_it() {
    let demo = Demo::start("public.localhost", 60).unwrap();
    let mut caller = Caller::of(&demo).await;
    assert_eq!(answers_to_five_and_a_disconnect(&mut caller, "opensrf.demo.perl").await, ["1"]);
    // A patient one loses nothing, and a C worker answers all, the last first.
    assert_eq!(answers_to_five_and_a_disconnect(&mut caller, "opensrf.demo").await, ["1", "2", "3", "4", "5"]);
    assert_eq!(answers_to_five_and_a_disconnect(&mut caller, "opensrf.demo.c").await, ["5", "4", "3", "2", "1"]);
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn a_perl_worker_answers_what_comes_one_at_a_time_and_the_request_in_which_it_reads_a_disconnect() {
    let demo = Demo::start("public.localhost", 60).unwrap();
    let mut caller = Caller::of(&demo).await;
    caller.send("opensrf.demo.perl", "t", &message("CONNECT", 0)).await;
    let connected = caller.reply().await;
    let worker = connected["from"].as_str().unwrap().to_owned();
    for count in 1..=3 {
        caller.send(&worker, "t", &request("opensrf.demo.counter", "[]", count)).await;
        assert_eq!(caller.until(205).await[0].1, json!(count));
    }
    // Without a DISCONNECT nothing that is queued is lost.
    let texts: Vec<String> =
        (4..=6).map(|count| caller.envelope(&worker, "t", &request("opensrf.demo.counter", "[]", count))).collect();
    let all: Vec<_> = texts.iter().map(|text| (worker.as_str(), text.as_bytes())).collect();
    caller.pusher.push(&all).await.unwrap();
    for count in 4..=6 {
        assert_eq!(caller.until(205).await[0].1, json!(count));
    }
    // A DISCONNECT of another thread is no end of this session.
    caller.send(&worker, "t", &request("opensrf.demo.sleep", "[0.3]", 7)).await;
    caller.send(&worker, "u", &message("DISCONNECT", 8)).await;
    caller.send(&worker, "t", &request("opensrf.demo.counter", "[]", 8)).await;
    assert_eq!(caller.until(205).await[0].1, json!(0.3));
    assert_eq!(caller.until(205).await[0].1, json!(7));
    caller.send(&worker, "t", &request("opensrf.demo.count", "[2,0.3]", 9)).await;
    // It serves: what is sent now is read while it does.
    assert_eq!(caller.reply().await["body"][0]["__p"]["payload"]["__p"]["content"], json!(1));
    caller.send(&worker, "t", &request("opensrf.demo.counter", "[]", 10)).await;
    caller.send(&worker, "t", &message("DISCONNECT", 11)).await;
    assert_eq!(codes(&caller.reply().await), [(200, json!(2))]);
    assert_eq!(codes(&caller.reply().await), [(205, Value::Null)]);
    caller.send("opensrf.demo.perl", "t", &request("opensrf.demo.nosuch", "[]", 0)).await;
    let refused = caller.reply().await;
    assert_eq!(codes(&refused)[0].0, 404);
    let status = &refused["body"][0]["__p"]["payload"]["__p"]["status"];
    assert!(status.as_str().unwrap().contains("opensrf.demo.perl"), "{status}");
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn a_session_without_messages_ends_with_408_after_its_keep_alive() {
    let demo = Demo::start("public.localhost", 1).unwrap();
    let mut caller = Caller::of(&demo).await;
    for (service, trace) in [("opensrf.math", json!("0")), ("opensrf.demo", json!("5"))] {
        caller.send(service, "t", &message("CONNECT", 5)).await;
        let connected = caller.reply().await;
        let begun = Instant::now();
        let ended = caller.reply().await;
        assert!(begun.elapsed() >= Duration::from_millis(900) && begun.elapsed() < Duration::from_secs(3));
        assert_eq!(codes(&ended), [(408, Value::Null)]);
        let inner = &ended["body"][0]["__p"];
        assert_eq!(inner["payload"]["__p"]["status"], "Disconnected on timeout");
        assert_eq!(inner["threadTrace"].to_string().trim_matches('"'), trace.as_str().unwrap());
        // What comes for the old session is not carried out by the next one on the same worker.
        let worker = connected["from"].as_str().unwrap();
        caller.send(worker, "t", &request("opensrf.demo.pid", "[]", 6)).await;
        caller.send(service, "u", &message("CONNECT", 0)).await;
        assert_eq!(codes(&caller.reply().await)[0].0, 200);
        assert_eq!(codes(&caller.reply().await)[0].0, 408);
    }
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn statuses_that_end_a_session_free_its_worker() {
    let demo = Demo::start("public.localhost", 1).unwrap();
    let mut caller = Caller::of(&demo).await;
    let both = format!("{},{}", message("CONNECT", 0), request("opensrf.demo.fail", "[417]", 1));
    caller.send("opensrf.demo", "t", &both).await;
    assert_eq!(caller.until(417).await.len(), 2);
    sleep(Duration::from_millis(1_300)).await;
    caller.send("opensrf.math", "t", &request("add", "[1,2]", 0)).await;
    assert_eq!(caller.until(205).await.len(), 2, "no 408 came in between");
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn demo_methods_do_what_their_names_say() {
    let demo = Demo::start("public.localhost", 3).unwrap();
    let mut caller = Caller::of(&demo).await;
    let sacred = r#"{"n":100000000000000000000001,"s":"\u00e9\/é","e":1e400}"#;
    caller.send("opensrf.demo", "t", &request("opensrf.demo.echo", &format!("[{sacred}]"), 0)).await;
    assert!(caller.text().await.contains(&format!(r#""content":{sacred}"#)));
    caller.send("opensrf.demo", "t", &request("opensrf.demo.echo", "[1, 2]", 0)).await;
    assert!(caller.text().await.contains(r#""content":[1, 2]"#));

    caller.send("opensrf.demo", "t", &request("opensrf.demo.count", "[3,0.01]", 7)).await;
    for expected in [(200, json!(1)), (200, json!(2)), (200, json!(3)), (205, Value::Null)] {
        let reply = caller.reply().await;
        assert_eq!(codes(&reply), [expected]);
        assert_eq!((&reply["thread"], &reply["osrf_xid"]), (&json!("t"), &json!("x-t")));
        assert_eq!(reply["body"][0]["__p"]["threadTrace"].to_string().trim_matches('"'), "7");
        assert_eq!(reply["body"][0]["__p"]["ingress"], "ws-translator-v2");
    }
    caller.send("opensrf.demo", "t", &request("opensrf.demo.bundled", r#"["4"]"#, 0)).await;
    assert_eq!(codes(&caller.reply().await).len(), 5);
    caller.send("opensrf.demo", "t", &request("opensrf.demo.big", "[100000]", 0)).await;
    assert_eq!(caller.until(205).await[0].1.as_str().unwrap().len(), 100_000);
    caller.send("opensrf.demo", "t", &request("opensrf.demo.chunked", "[2500]", 0)).await;
    let pieces = caller.until(205).await;
    assert_eq!(pieces.iter().map(|piece| piece.0).collect::<Vec<_>>(), [206, 206, 206, 204, 205]);
    let text: String = pieces[..3].iter().map(|piece| piece.1.as_str().unwrap()).collect();
    assert_eq!(serde_json::from_str::<String>(&text).unwrap().len(), 2_500);
    for method in ["sleep", "count", "bundled", "big", "chunked"] {
        caller.send("opensrf.demo", "t", &request(&format!("opensrf.demo.{method}"), "[]", 0)).await;
        assert_eq!(codes(&caller.reply().await), [(205, Value::Null)], "{method}");
        caller.send("opensrf.demo", "t", &request(&format!("opensrf.demo.{method}"), "[-1]", 0)).await;
        assert_eq!(codes(&caller.reply().await), [(400, Value::Null)], "{method}");
    }
    caller.send("opensrf.demo", "t", &request("opensrf.demo.never", "[]", 0)).await;
    caller.send("opensrf.demo", "t", &message("DISCONNECT", 0)).await;
    caller.send("opensrf.demo", "u", &request("opensrf.demo.sleep", "[0.3]", 0)).await;
    assert_eq!(caller.reply().await["thread"], "u", "neither is ever answered");
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn hundreds_of_calls_and_sessions_are_served_side_by_side() {
    let demo = Demo::start("public.localhost", 30).unwrap();
    let mut caller = Caller::of(&demo).await;
    let begun = Instant::now();
    for _ in 0..250 {
        caller.send("opensrf.demo", "t", &request("opensrf.demo.sleep", "[1]", 0)).await;
    }
    for _ in 0..250 {
        assert_eq!(codes(&caller.reply().await)[0].0, 200);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    for number in 0..120 {
        caller.send("opensrf.demo", &number.to_string(), &message("CONNECT", 0)).await;
    }
    let mut workers = HashSet::new();
    for _ in 0..120 {
        workers.insert(caller.reply().await["from"].as_str().unwrap().to_owned());
    }
    assert_eq!(workers.len(), 120);
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn calls_wait_in_the_services_queue_while_all_workers_are_busy() {
    let redis = server::start(LOOPBACK, stock_users()).unwrap();
    let mut options = service_options(redis.addr());
    options.workers = 1;
    let _running = attach(&options).unwrap();
    let mut caller = Caller::new(redis.addr(), "gateway-test").await;
    caller.send("opensrf.demo", "held", &message("CONNECT", 0)).await;
    caller.reply().await;
    caller.send("opensrf.demo", "t", &request("opensrf.demo.pid", "[]", 0)).await;
    caller.send("opensrf.math", "t", &request("add", "[1,2]", 0)).await;
    assert_eq!(caller.until(205).await[0].1, json!(3));
    assert_eq!(redis.list_length("opensrf:service:opensrf:public.localhost:opensrf.demo"), 1);
    assert_eq!(caller.until(408).await.len(), 1);
    assert_eq!(caller.until(205).await.len(), 2);
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn a_worker_of_another_domain_is_reached_on_that_domains_redis() {
    let public = server::start(LOOPBACK, stock_users()).unwrap();
    let private = server::start(LOOPBACK, stock_users()).unwrap();
    let mut options = service_options(public.addr());
    options.service_domain = Some("private.localhost".into());
    options.service_redis = Some(private.addr().to_string());
    let _running = attach(&options).unwrap();
    let mut caller = Caller::new(public.addr(), "gateway-test").await;
    let elsewhere = Caller::new(private.addr(), "gateway-test").await;
    caller.send("opensrf.demo", "t", &message("CONNECT", 0)).await;
    let worker = caller.reply().await["from"].as_str().unwrap().to_owned();
    assert!(worker.starts_with("opensrf:client:opensrf:private.localhost:"), "{worker}");
    let call = request("opensrf.demo.counter", "[]", 1);
    let text =
        format!(r#"{{"to":"{worker}","from":"{}","thread":"t","osrf_xid":"x","body":[{call}]}}"#, caller.address);
    elsewhere.pusher.push(&[(worker.as_str(), text.as_bytes())]).await.unwrap();
    assert_eq!(caller.until(205).await[0].1, json!(1));
}

/// Waits until a call is answered again, and returns how long it took.
async fn answered_after(redis: SocketAddr) -> Duration {
    let begun = Instant::now();
    let mut caller = Caller::new(redis, "gateway-test").await;
    caller.send("opensrf.math", "t", &request("add", "[1,2]", 0)).await;
    assert_eq!(caller.until(205).await[0].1, json!(3));
    begun.elapsed()
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn services_are_back_within_a_second_of_their_redis() {
    let redis = server::start(LOOPBACK, stock_users()).unwrap();
    let addr = redis.addr();
    let _running = attach(&service_options(addr)).unwrap();
    answered_after(addr).await;
    let mut held = Caller::new(addr, "gateway-test").await;
    held.send("opensrf.math", "held", &message("CONNECT", 0)).await;
    held.reply().await;
    drop(redis);
    sleep(Duration::from_millis(700)).await;
    let redis = server::start(addr, stock_users()).unwrap();
    let took = answered_after(redis.addr()).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn the_services_work_on_a_real_redis_under_the_stock_acl_and_after_its_restart() {
    let Some(redis) = RealRedis::start().await else { return };
    let addr = redis.addr;
    let _running = attach(&service_options(addr)).unwrap();
    let mut caller = Caller::new(addr, "gateway-test").await;
    caller.send("opensrf.demo", "t", &message("CONNECT", 0)).await;
    let worker = caller.reply().await["from"].as_str().unwrap().to_owned();
    caller.send(&worker, "t", &request("opensrf.demo.counter", "[]", 1)).await;
    assert_eq!(caller.until(205).await[0].1, json!(1));
    assert_eq!(caller.until(408).await.len(), 1);
    drop(redis);
    let Some(redis) = RealRedis::start_at(addr).await else { return };
    let took = answered_after(redis.addr).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn served_services_answer_and_wrong_options_are_refused() {
    let redis = server::start(LOOPBACK, stock_users()).unwrap();
    let options = service_options(redis.addr());
    let split = ServiceOptions { service_redis: Some("127.0.0.1:1".into()), ..options.clone() };
    let refusal = std::thread::spawn(move || serve_services(split, |_| Ok(()))).join().unwrap();
    assert!(refusal.unwrap_err().contains("--service-domain"));
    assert!(password_from_file(std::path::Path::new("/nonexistent")).unwrap_err().contains("/nonexistent"));
    // It ends with the process.
    std::thread::spawn(move || serve_services(options, |_| Ok(())));
    answered_after(redis.addr()).await;
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn a_dropped_demo_closes_its_port_and_every_connection() {
    let demo = Demo::start("public.localhost", 30).unwrap();
    let addr = demo.address();
    let mut caller = Caller::of(&demo).await;
    caller.send("opensrf.demo", "held", &message("CONNECT", 0)).await;
    caller.reply().await;
    caller.send("opensrf.demo", "t", &request("opensrf.demo.sleep", "[30]", 0)).await;
    drop(demo);
    assert!(caller.popper.pop(&caller.address, WAIT, 1).await.is_err());
    let deadline = Instant::now() + WAIT;
    while TcpStream::connect(addr).await.is_ok() {
        assert!(Instant::now() < deadline, "the port is open");
        sleep(Duration::from_millis(1)).await;
    }
}

#[monoio::test(driver = "uring", enable_timer = true)]
async fn a_name_is_resolved_and_each_of_its_addresses_tried() {
    let redis = server::start(LOOPBACK, stock_users()).unwrap();
    let options =
        ServiceOptions { redis: format!("localhost:{}", redis.addr().port()), ..service_options(redis.addr()) };
    let _running = attach(&options).unwrap();
    answered_after(redis.addr()).await;
}

#[test]
fn a_redis_address_that_is_none_is_refused_with_a_remedy() {
    for wrong in ["", "localhost", ":6379", "localhost:x", "localhost:70000"] {
        let error = super::super::host_and_port(wrong).unwrap_err();
        assert!(error.contains("HOST:PORT"), "{error}");
    }
    assert_eq!(super::super::host_and_port("[::1]:6379").unwrap(), ("::1".to_owned(), 6379));
}
