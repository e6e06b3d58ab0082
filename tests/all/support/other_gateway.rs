//! Gateways that are not ours: WebSocket servers that answer, or do not, as a test wants it.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket};

use super::serve;

/// Where clients of `OpenSRF` connect.
pub fn url(address: SocketAddr) -> String {
    format!("ws://{address}/osrf-websocket-translator")
}

/// A server whose every connection is served by this, until it returns.
pub fn server(each: impl Fn(WebSocket<TcpStream>) + Clone + Send + 'static) -> String {
    url(serve(move |stream| {
        stream.set_nodelay(true).ok();
        if let Ok(socket) = tungstenite::accept(stream) {
            each(socket);
        }
    }))
}

/// What `opensrf.math add` answers.
pub fn right_answer(request: &str) -> String {
    let request: Value = serde_json::from_str(request).expect("JSON");
    let message = &request["osrf_msg"][0]["__p"];
    let (thread, trace) = (&request["thread"], &message["threadTrace"]);
    let params = &message["payload"]["__p"]["params"];
    let sum = params[0].as_u64().expect("a number") + params[1].as_u64().expect("a number");
    format!(
        r#"{{"thread":{thread},"log_xid":"1","osrf_msg":[{{"__c":"osrfMessage","__p":{{"threadTrace":{trace},"type":"RESULT","payload":{{"__c":"osrfResult","__p":{{"status":"OK","statusCode":200,"content":{sum}}}}}}}}},{{"__c":"osrfMessage","__p":{{"threadTrace":{trace},"type":"STATUS","payload":{{"__c":"osrfConnectStatus","__p":{{"status":"Request Complete","statusCode":205}}}}}}}}]}}"#
    )
}

/// A server that answers so many requests of each connection and closes at the next, unanswered, with the codes by turns; and what was
/// asked of it, each time.
pub fn closing_with(codes: &'static [u16], answers: usize) -> (String, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (seen, connections) = (Arc::clone(&asked), Arc::new(AtomicUsize::new(0)));
    let url = server(move |mut socket| {
        let code = codes[connections.fetch_add(1, Ordering::Relaxed) % codes.len()];
        for request in 0..=answers {
            let Ok(Message::Text(text)) = socket.read() else { return };
            seen.lock().expect("nobody panicked").push(text.to_string());
            if request < answers {
                socket.send(Message::text(right_answer(&text))).ok();
            }
        }
        socket.close(Some(CloseFrame { code: code.into(), reason: "".into() })).ok();
        while socket.read().is_ok() {}
    });
    (url, asked)
}
