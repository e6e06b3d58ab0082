//! Calls a method through a gateway and prints what comes back: `cargo run -- demo`, and in another terminal
//! `cargo run --example call opensrf.math add 1 2`.

use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(service), Some(method)) = (words.next(), words.next()) else {
        return Err("call SERVICE METHOD PARAM…, a PARAM as JSON".into());
    };
    let params = words.map(|word| serde_json::from_str(&word)).collect::<Result<Vec<Value>, _>>()?;

    // The thread is the client's name for a session, threadTrace its number for a request of it.
    let request = json!({"service": service, "thread": "1", "osrf_msg": [
        {"__c": "osrfMessage", "__p": {"threadTrace": "1", "locale": "en-US", "type": "REQUEST", "payload":
            {"__c": "osrfMethod", "__p": {"method": method, "params": params}}}}]});

    let stream = std::net::TcpStream::connect("127.0.0.1:7682")?;
    let (mut gateway, _) = tungstenite::client("ws://127.0.0.1:7682/osrf-websocket-translator", stream)?;
    gateway.send(request.to_string().into())?;

    // A method may give many results, in many frames; a STATUS ends it: 205, or an error.
    loop {
        let reply: Value = serde_json::from_str(gateway.read()?.to_text()?)?;
        for message in reply["osrf_msg"].as_array().into_iter().flatten() {
            let payload = &message["__p"]["payload"]["__p"];
            // A string or a number: Perl and C write it differently.
            let code = payload["statusCode"].to_string();
            match (message["__p"]["type"].as_str(), code.trim_matches('"')) {
                (Some("RESULT"), _) => println!("{}", payload["content"]),
                (_, "205") => return Ok(gateway.close(None)?),
                (_, code) => return Err(format!("{code}: {}", payload["status"]).into()),
            }
        }
    }
}
