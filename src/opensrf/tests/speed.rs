//! Rough figures, printed and not judged: `cargo test --release speed -- --ignored --nocapture`.

use std::hint::black_box;
use std::time::Instant;

use super::super::transport::*;
use super::*;

fn figure(name: &str, bytes: usize, mut run: impl FnMut()) {
    let turns = (10_000_000 / (bytes + 1000)).max(5);
    let batch = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        for _ in 0..turns {
            run();
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(u32::try_from(turns).unwrap())
    };
    // The least of many batches: what else runs on the machine only ever adds.
    let ns = (0..30).map(|_| batch(&mut run)).fold(f64::INFINITY, f64::min);
    let gbps = f64::from(u32::try_from(bytes).unwrap()) / ns;
    eprintln!("{name:40} {bytes:8} B {ns:12.0} ns {gbps:6.2} GB/s");
}

#[test]
#[ignore = "prints figures"]
fn rough_figures_of_reading_and_writing() {
    let mut scratch = Scratch::new();
    let mut out = Vec::new();
    let browser = format!(
        r#"{{"service":"open-ils.search","thread":"0.48137501846315281732046523","log_xid":"1795334569294820","osrf_msg":[{{"__c":"osrfMessage","__p":{{"threadTrace":0,"locale":"en-US","tz":"America/New_York","type":"REQUEST","payload":{{"__c":"osrfMethod","__p":{{"method":"open-ils.search.biblio.record.mods_slim.retrieve","params":["{}",123,{{"limit":10,"offset":0}}]}}}},"api_level":1}}}}],"api_ver":1}}"#,
        "x".repeat(80)
    );
    figure("inbound: parse", browser.len(), || drop(black_box(parse(browser.as_bytes(), &LIMITS, &mut scratch))));
    figure("inbound: parse and write", browser.len(), || {
        out.clear();
        let envelope = parse(browser.as_bytes(), &LIMITS, &mut scratch).unwrap();
        write_message(&mut out, "opensrf:service:_:_:open-ils.search", "me", "1.2.3:t", b"\"x\"", &envelope, INGRESS);
        black_box(escaped_len(&out));
    });
    let fields = format!(
        "{{\"__c\":\"bre\",\"__p\":[{}null]}}",
        "\"some field\",12345,null,\"2026-11-22T20:57:00-0500\",\"t\",".repeat(4)
    );
    for (name, content) in [
        ("outbound: 600 B", format!("\"{}\"", "x".repeat(100))),
        ("outbound: 1 MB, one string", format!("\"{}\"", "lorem ipsum ".repeat(85_000))),
        (
            "outbound: 1 MB, escaped XML",
            format!("\"{}\"", "<tag name=\\\"a\\\">text of a record</tag>\\n".repeat(25_000)),
        ),
        ("outbound: 1 MB, records", format!("[{}null]", format!("{fields},").repeat(4000))),
    ] {
        let text = format!(
            r#"{{"to":"opensrf:client:gateway:public.localhost:vm:29482:e725a801","from":"opensrf:client:opensrf:private.localhost:vm:29172:1593265","thread":"1.2.3:0.4711","osrf_xid":"1795334569294820","body":[{{"__c":"osrfMessage","__p":{{"threadTrace":0,"locale":"en-US","type":"RESULT","payload":{{"__c":"osrfResult","__p":{{"status":"OK","statusCode":200,"content":{content}}}}}}}}},{{"__c":"osrfMessage","__p":{{"threadTrace":0,"type":"STATUS","payload":{{"__c":"osrfConnectStatus","__p":{{"status":"Request Complete","statusCode":205}}}}}}}}]}}"#
        );
        let mut messages = Vec::new();
        figure(name, text.len(), || {
            out.clear();
            let reply = parse_reply(text.as_bytes(), std::mem::take(&mut messages)).unwrap();
            write_envelope(&mut out, b"\"t\"", b"\"x\"", &reply);
            messages = reply.messages;
        });
    }
}
