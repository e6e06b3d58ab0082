//! The direct round trip over the bus, without a gateway: RPUSH to the router's list, BLPOP of the answer.

use std::io::{self, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use evergate_proto::redis::resp;
use serde_json::{Value, json};

use super::responder::Input;

/// Where the answers go.
const OWN: &str = "opensrf:client:gateway:public.localhost:bench:1:00000000000000000000000000000000";
/// The message of the call, as the gateway passes it on.
const CALL: &str = r#"{"__c":"osrfMessage","__p":{"threadTrace":1,"locale":"en-US","tz":"America/New_York","ingress":"ws-translator-v2","api_level":1,"type":"REQUEST","payload":{"__c":"osrfMethod","__p":{"method":"add","params":[1,2]}}}}"#;

/// One request in flight for that long, under the gateway's own account; percentiles in µs.
pub fn measure(redis: &str, router: &str, seconds: f64) -> io::Result<Value> {
    let mut stream = TcpStream::connect(redis)?;
    stream.set_nodelay(true)?;
    let (mut out, mut input) = (Vec::new(), Input::default());
    resp::write_command(&mut out, &[b"AUTH", b"gateway", b"gateway-test"]);
    resp::write_command(&mut out, &[b"DEL", OWN.as_bytes()]);
    stream.write_all(&out)?;
    input.integers_or_ok(&mut stream, 2)?;
    // In the order in which the gateway writes the members: the responder takes no other.
    let call = format!(
        r#"{{"to":"opensrf:service:_:_:opensrf.math","from":"{OWN}","thread":"0.0.0:direct","osrf_xid":"direct","body":[{CALL}]}}"#
    );
    out.clear();
    resp::write_command(&mut out, &[b"RPUSH", router.as_bytes(), call.as_bytes()]);
    resp::write_command(&mut out, &[b"BLPOP", OWN.as_bytes(), b"0"]);
    let (begin, mut latencies_us) = (Instant::now(), Vec::new());
    while begin.elapsed() < Duration::from_secs_f64(seconds) {
        let sent = Instant::now();
        stream.write_all(&out)?;
        input.integers_or_ok(&mut stream, 1)?;
        input.elements(&mut stream, 1, &mut |_| true)?;
        latencies_us.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    latencies_us.sort_by(f64::total_cmp);
    let percentile = |percent: usize| latencies_us.get(latencies_us.len() * percent / 100).copied();
    Ok(json!({ "requests": latencies_us.len(), "p50": percentile(50), "p99": percentile(99) }))
}
