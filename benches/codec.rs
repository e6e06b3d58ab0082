//! What reading and writing a message costs, and what the alternatives would: `cargo bench --bench codec`.
//!
//! "fastest" is the column to compare: whatever else runs on the machine only ever adds. Hence also small samples: many of
//! them fit between two interruptions. Results are kept in
//! `benches/results`; what follows from them is in docs/performance.md, "Codecs" and "JSON".

use std::fmt;
use std::hint::black_box;

use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

#[path = "support/json.rs"]
mod json;
#[path = "support/messages.rs"]
mod messages;
#[path = "support/provenance.rs"]
mod provenance;

fn main() {
    println!("{}", provenance::line());
    divan::main();
}

/// A long message of every kind that is dear: 10 ns a byte (95 MB/s) is what one may cost.
#[divan::bench_group(sample_size = 1, sample_count = 20)]
mod envelope_in_long {
    use std::fmt::Write as _;

    use super::{Bencher, BytesCount, black_box};
    use evergate_proto::json::judge::{Judge, Judged};
    use evergate_proto::opensrf::envelope::{EnvelopeLimits, parse_judged};

    const LIMITS: EnvelopeLimits = EnvelopeLimits::DEFAULT;
    const BYTES: usize = 7_800_000;
    /// What a core reads at once.
    const READ: usize = 16 * 1024;
    const KINDS: [&str; 10] = [
        "keys, distinct",
        "keys, escaped",
        "keys, 2,300 in each of 256 messages",
        "newlines, escaped",
        "characters, escaped",
        "string",
        "numbers",
        "deep",
        "small objects",
        "white space",
    ];

    /// Distinct keys, as members that follow others.
    fn keys(letter: &str, count: usize) -> String {
        (0..count).fold(String::new(), |mut all, n| {
            write!(all, ",\"{letter}{n:06}\":0").expect("a String takes it");
            all
        })
    }

    fn request(extra: &str, params: &str) -> String {
        format!(
            r#"{{"__c":"osrfMessage","__p":{{"threadTrace":1,"type":"REQUEST","payload":{{"__c":"osrfMethod","__p":{{"method":"m","params":[{params}]}}{extra}}}}}}}"#
        )
    }

    fn text(kind: &str) -> String {
        let many = |part: &str| part.repeat(BYTES / part.len());
        let nest = format!("{}0{},", "[{\"a\":".repeat(490), "}]".repeat(490));
        let messages = match kind {
            "keys, distinct" => request(&keys("k", BYTES / 12), ""),
            "keys, escaped" => request(&keys("\\u006b", BYTES / 17), ""),
            "keys, 2,300 in each of 256 messages" => vec![request(&keys("k", 2_300), ""); 256].join(","),
            "newlines, escaped" => request("", &format!("\"{}\"", many("\\n"))),
            "characters, escaped" => request("", &format!("\"{}\"", many("\\u00e9"))),
            "string" => request("", &format!("\"{}\"", many("x"))),
            "numbers" => request("", &format!("{}0", many("-12.5e1,"))),
            "deep" => request("", &format!("{}0", many(&nest))),
            "small objects" => request("", &format!("{}0", many(r#"{"a":1,"b":"2","c":null},"#))),
            _ => request("", &many(" ")),
        };
        format!("{{\"service\":\"s\",\"thread\":\"t\",\"osrf_msg\":[{messages}]}}")
    }

    fn judge(text: &[u8]) -> Judged {
        let mut judge = Judge::new(LIMITS.json_depth_max);
        for end in (READ..text.len()).step_by(READ) {
            judge.see(&text[..end]);
        }
        judge.finish(text)
    }

    /// All of it, over all the turns in which it comes.
    #[divan::bench(args = KINDS)]
    fn judged_and_read(bencher: Bencher<'_, '_>, kind: &str) {
        let text = text(kind);
        let read = || parse_judged(text.as_bytes(), &judge(black_box(text.as_bytes())), &LIMITS).is_ok();
        bencher.counter(BytesCount::new(text.len())).bench_local(read);
    }

    /// What is left for the turn that brings the last byte.
    #[divan::bench(args = KINDS)]
    fn read(bencher: Bencher<'_, '_>, kind: &str) {
        let text = text(kind);
        let judged = judge(text.as_bytes());
        let read = || parse_judged(black_box(text.as_bytes()), &judged, &LIMITS).is_ok();
        bencher.counter(BytesCount::new(text.len())).bench_local(read);
    }
}

/// A client's envelope: all of it is judged, its fields are found.
#[divan::bench_group(sample_size = 16, min_time = 0.4, max_time = 1)]
mod envelope_in {
    use super::{Bencher, BytesCount, black_box, json, messages};
    use evergate_proto::opensrf::envelope::{EnvelopeLimits, parse};
    use evergate_proto::opensrf::transport::{escaped_len, write_message};

    /// The defaults of the options table.
    const LIMITS: EnvelopeLimits = EnvelopeLimits::DEFAULT;
    const BYTES: [usize; 2] = [470, 4096];

    #[divan::bench(args = BYTES)]
    fn evergate(bencher: Bencher<'_, '_>, bytes: usize) {
        let text = messages::request(bytes);
        bencher.counter(BytesCount::new(bytes)).bench_local(|| {
            black_box(parse(black_box(text.as_bytes()), &LIMITS)).is_ok_and(|envelope| {
                let message = &envelope.messages[0];
                message.method.is_some() && message.params.is_some()
            })
        });
    }

    /// And writes the bus message.
    #[divan::bench(args = BYTES)]
    fn evergate_and_bus_message(bencher: Bencher<'_, '_>, bytes: usize) {
        let text = messages::request(bytes);
        let mut out = Vec::new();
        bencher.counter(BytesCount::new(bytes)).bench_local(|| {
            out.clear();
            let envelope = parse(black_box(text.as_bytes()), &LIMITS).expect("a valid envelope");
            let (to, from) = ("opensrf:service:_:_:open-ils.search", "opensrf:client:gateway:h:1:2");
            write_message(&mut out, to, from, "1.2.3:t", b"\"x\"", &envelope, b"\"ws-translator-v2\"");
            escaped_len(&out)
        });
    }

    /// Judges, and finds nothing.
    #[divan::bench(args = BYTES)]
    fn simd_json_tape(bencher: Bencher<'_, '_>, bytes: usize) {
        let text = messages::request(bytes);
        let mut parser = json::SimdJson::default();
        bencher.counter(BytesCount::new(bytes)).bench_local(|| parser.tape(black_box(text.as_bytes())));
    }

    #[divan::bench(args = BYTES)]
    fn serde_json_raw_values(bencher: Bencher<'_, '_>, bytes: usize) {
        let text = messages::request(bytes);
        assert!(json::serde_json_raw::envelope(&text).is_some());
        bencher.counter(BytesCount::new(bytes)).bench_local(|| json::serde_json_raw::envelope(black_box(&text)));
    }

    #[divan::bench(args = BYTES)]
    fn sonic_rs_lazy_values(bencher: Bencher<'_, '_>, bytes: usize) {
        let text = messages::request(bytes);
        assert_eq!(json::sonic_rs_lazy::envelope(&text), json::serde_json_raw::envelope(&text));
        bencher.counter(BytesCount::new(bytes)).bench_local(|| json::sonic_rs_lazy::envelope(black_box(&text)));
    }
}

/// A service's reply: its fields are found, the wrapper and the body's bytes are written.
#[divan::bench_group(sample_size = 4, min_time = 0.4, max_time = 1)]
mod envelope_out {
    use super::{Bencher, BytesCount, Reply, black_box, fmt, json, messages};
    use evergate_proto::opensrf::reply::parse_reply;
    use evergate_proto::opensrf::transport::{ReplyTo, write_envelope};
    use messages::Content::{EscapedXml, OneString, Records};

    const REPLIES: [Reply; 5] = [
        Reply("600 B", Records, 600),
        Reply("64 KB", Records, 65_536),
        Reply("1 MB of records", Records, 1 << 20),
        Reply("1 MB, one string", OneString, 1 << 20),
        Reply("1 MB of XML, escaped", EscapedXml, 1 << 20),
    ];

    impl fmt::Display for Reply {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    #[divan::bench(args = REPLIES)]
    fn evergate(bencher: Bencher<'_, '_>, reply: Reply) {
        let text = reply.text();
        let mut messages = Vec::new();
        let mut out = Vec::new();
        bencher.counter(BytesCount::of_str(&text)).bench_local(|| {
            out.clear();
            let reply = parse_reply(black_box(text.as_bytes()), std::mem::take(&mut messages)).expect("a valid reply");
            write_envelope(&mut out, ReplyTo { thread: b"\"t\"", xid: b"\"x\"" }, text.as_bytes(), &reply);
            messages = reply.messages;
        });
    }

    #[divan::bench(args = REPLIES)]
    fn serde_json_raw_values(bencher: Bencher<'_, '_>, reply: Reply) {
        let text = reply.text();
        let mut out = Vec::new();
        assert_eq!(json::serde_json_raw::reply(&text, &mut out), Some(405));
        bencher.counter(BytesCount::of_str(&text)).bench_local(|| {
            out.clear();
            json::serde_json_raw::reply(black_box(&text), &mut out)
        });
    }

    #[divan::bench(args = REPLIES)]
    fn sonic_rs_lazy_values(bencher: Bencher<'_, '_>, reply: Reply) {
        let text = reply.text();
        let mut out = Vec::new();
        assert_eq!(json::sonic_rs_lazy::reply(&text, &mut out), Some(405));
        bencher.counter(BytesCount::of_str(&text)).bench_local(|| {
            out.clear();
            json::sonic_rs_lazy::reply(black_box(&text), &mut out)
        });
    }

    /// Looks at everything once, finds and writes nothing.
    #[divan::bench(args = REPLIES)]
    fn serde_json_ignored_any(bencher: Bencher<'_, '_>, reply: Reply) {
        let text = reply.text();
        bencher.counter(BytesCount::of_str(&text)).bench_local(|| json::serde_json_ignored(black_box(&text)));
    }

    /// Makes the tape, finds and writes nothing.
    #[divan::bench(args = REPLIES)]
    fn simd_json_tape(bencher: Bencher<'_, '_>, reply: Reply) {
        let text = reply.text();
        let mut parser = json::SimdJson::default();
        bencher.counter(BytesCount::of_str(&text)).bench_local(|| parser.tape(black_box(text.as_bytes())));
    }

    /// Copies the text: what nobody can beat who forwards it.
    #[divan::bench(args = REPLIES)]
    fn copy_alone(bencher: Bencher<'_, '_>, reply: Reply) {
        let text = reply.text();
        let mut out = Vec::new();
        bencher.counter(BytesCount::of_str(&text)).bench_local(|| {
            out.clear();
            out.extend_from_slice(black_box(text.as_bytes()));
        });
    }
}

/// A reply's name, what it carries, about how many bytes it has.
#[derive(Clone, Copy, Debug)]
struct Reply(&'static str, messages::Content, usize);

impl Reply {
    fn text(self) -> String {
        messages::reply("1.2.3:0.4711", self.1, self.2)
    }
}

/// A client's frame: header, unmasking, UTF-8.
#[divan::bench_group(sample_size = 100, min_time = 0.4, max_time = 1)]
mod frame_in {
    use super::{Bencher, BytesCount, black_box, messages};
    use evergate_proto::websocket::decoder::Decoder;

    #[divan::bench(args = [470, 4096, 1 << 20])]
    fn evergate(bencher: Bencher<'_, '_>, bytes: usize) {
        let mut frame = messages::frame(messages::request(bytes).as_bytes());
        let mut decoder = Decoder::new();
        bencher.counter(BytesCount::new(bytes)).bench_local(|| {
            let event = decoder.next(black_box(&mut frame), &mut 0, 2 << 20);
            black_box(event).is_ok_and(|event| event.is_some())
        });
    }
}

/// Redis' reply to a pop: 512 messages of 1 KB.
#[divan::bench_group(sample_size = 16, min_time = 0.4, max_time = 1)]
mod resp_pop {
    use super::{Bencher, ItemsCount, black_box, messages};
    use bytes::Bytes;
    use evergate_proto::redis::resp;

    const COUNT: usize = 512;

    fn popped() -> Vec<u8> {
        messages::pop(COUNT, 1024)
    }

    #[divan::bench]
    fn evergate(bencher: Bencher<'_, '_>) {
        let popped = popped();
        bencher.counter(ItemsCount::new(COUNT)).bench_local(|| {
            let mut at = 0;
            while let Ok(Some(token)) = resp::next(black_box(&popped), &mut at) {
                black_box(&token);
            }
            assert_eq!(at, popped.len());
        });
    }

    #[divan::bench]
    fn redis_protocol_decode_range(bencher: Bencher<'_, '_>) {
        let popped = popped();
        bencher
            .counter(ItemsCount::new(COUNT))
            .bench_local(|| redis_protocol::resp2::decode::decode_range(black_box(&popped)).expect("RESP"));
    }

    #[divan::bench]
    fn redis_protocol_decode_bytes(bencher: Bencher<'_, '_>) {
        let popped = Bytes::from(popped());
        bencher
            .counter(ItemsCount::new(COUNT))
            .bench_local(|| redis_protocol::resp2::decode::decode_bytes(black_box(&popped)).expect("RESP"));
    }

    #[divan::bench]
    fn redis_crate(bencher: Bencher<'_, '_>) {
        let popped = popped();
        bencher
            .counter(ItemsCount::new(COUNT))
            .bench_local(|| redis::parse_redis_value(black_box(&popped)).expect("RESP"));
    }
}
