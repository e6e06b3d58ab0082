//! Who answers the calls of `opensrf.demo.big`, before the services' router sees them: `--role big REDIS`.
//!
//! The demo's services are one thread. To make a reply of 5 MB took it 50 ms, in which the neighbours' calls waited there, and the gateway
//! was blamed. Here it is made once, and a thread of its own pushes it.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;

use evergate_proto::redis::resp;
use memchr::memmem;
use serde_json::Value;

use super::site::{DOMAIN, ROUTER};

/// The router's name that the services are given instead of its own.
pub const INNER: &str = "inner";

/// Forwards everything but those calls, until Redis ends.
pub fn serve(redis: &str) -> io::Result<()> {
    let (calls, to_answer) = mpsc::channel::<Value>();
    let pusher = Pusher::connect(redis)?;
    thread::spawn(move || {
        let Err(error) = answer_all(pusher, &to_answer) else { return };
        eprintln!("large replies end: {error}");
    });
    let client = redis::Client::open(format!("redis://router:router-test@{redis}/")).map_err(io::Error::other)?;
    let mut connection = client.get_connection().map_err(io::Error::other)?;
    let inner = format!("opensrf:router:{INNER}:{DOMAIN}");
    loop {
        let popped = redis::cmd("BLPOP").arg(ROUTER).arg(0).query::<(String, Vec<u8>)>(&mut connection);
        let Ok((_, call)) = popped else { return Ok(()) };
        if memmem::find(&call, b"opensrf.demo.big").is_some() {
            calls.send(serde_json::from_slice(&call)?).map_err(io::Error::other)?;
        } else if redis::cmd("RPUSH").arg(&inner).arg(&call).query::<()>(&mut connection).is_err() {
            return Ok(());
        }
    }
}

fn answer_all(mut pusher: Pusher, calls: &mpsc::Receiver<Value>) -> io::Result<()> {
    let mut content = String::new();
    for call in calls {
        let bytes = call.pointer("/body/0/__p/payload/__p/params/0").and_then(Value::as_u64);
        let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok()).ok_or(io::ErrorKind::InvalidData)?;
        if content.len() != bytes {
            content = "x".repeat(bytes);
        }
        let [to, thread, xid, trace] = ["/from", "/thread", "/osrf_xid", "/body/0/__p/threadTrace"]
            .map(|it| call.pointer(it).unwrap_or(&Value::Null));
        let before = format!(
            r#"{{"to":{to},"from":"opensrf:client:opensrf:{DOMAIN}:bench:2:0","thread":{thread},"osrf_xid":{xid},"body":[{{"__c":"osrfMessage","__p":{{"threadTrace":{trace},"locale":"en-US","type":"RESULT","payload":{{"__c":"osrfResult","__p":{{"status":"OK","statusCode":200,"content":""#
        );
        let after = format!(
            r#""}}}}}}}},{{"__c":"osrfMessage","__p":{{"threadTrace":{trace},"locale":"en-US","type":"STATUS","payload":{{"__c":"osrfConnectStatus","__p":{{"status":"Request Complete","statusCode":205}}}}}}}}]}}"#
        );
        pusher.push(to.as_str().ok_or(io::ErrorKind::InvalidData)?, [&before, &content, &after])?;
    }
    Ok(())
}

/// A connection to Redis that pushes without copying.
struct Pusher(BufReader<TcpStream>);

impl Pusher {
    fn connect(redis: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(redis)?;
        stream.set_nodelay(true)?;
        let mut pusher = Self(BufReader::new(stream));
        let mut command = Vec::new();
        resp::write_command(&mut command, &[b"AUTH", b"router", b"router-test"]);
        pusher.0.get_mut().write_all(&command)?;
        pusher.confirmed(b'+').map(|()| pusher)
    }

    /// Pushes one message, which is these pieces.
    fn push(&mut self, key: &str, pieces: [&str; 3]) -> io::Result<()> {
        let mut command = Vec::new();
        resp::write_array(&mut command, 3);
        resp::write_bulk(&mut command, b"RPUSH");
        resp::write_bulk(&mut command, key.as_bytes());
        let [before, content, after] = pieces.map(str::as_bytes);
        write!(command, "${}\r\n", before.len() + content.len() + after.len())?;
        command.extend_from_slice(before);
        let stream = self.0.get_mut();
        stream.write_all(&command)?;
        stream.write_all(content)?;
        stream.write_all(&[after, b"\r\n"].concat())?;
        self.confirmed(b':')
    }

    fn confirmed(&mut self, kind: u8) -> io::Result<()> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        if line.as_bytes().first() == Some(&kind) { Ok(()) } else { Err(io::Error::other(line)) }
    }
}
