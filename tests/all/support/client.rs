//! A WebSocket client that is not ours (tungstenite), and the JSON that an Evergreen client writes.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tungstenite::client::IntoClientRequest;
use tungstenite::error::ProtocolError;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Bytes, Error, Message, WebSocket};

use super::PATIENCE;
use super::gateway::Gateway;

/// A JSON string literal.
pub fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// One message: `threadTrace` and the payload as JSON text.
pub fn message(kind: &str, trace: &str, payload: &str) -> String {
    let payload = if payload.is_empty() { String::new() } else { format!(r#","payload":{payload}"#) };
    format!(
        r#"{{"__c":"osrfMessage","__p":{{"threadTrace":{trace},"type":"{kind}","locale":"en-US","tz":"America/New_York","api_level":1{payload}}}}}"#
    )
}

/// A REQUEST; `params` is a JSON array as text.
pub fn request(trace: u32, method: &str, params: &str) -> String {
    message(
        "REQUEST",
        &trace.to_string(),
        &format!(r#"{{"__c":"osrfMethod","__p":{{"method":{},"params":{params}}}}}"#, quoted(method)),
    )
}

/// A CONNECT, as the browser client writes it.
pub fn connect(trace: u32) -> String {
    message("CONNECT", &trace.to_string(), r#""null""#)
}

/// A DISCONNECT, as the browser client writes it.
pub fn disconnect(trace: u32) -> String {
    message("DISCONNECT", &trace.to_string(), r#""null""#)
}

/// An envelope around messages.
pub fn envelope(service: &str, thread: &str, messages: &[String]) -> String {
    format!(r#"{{"service":{},"thread":{},"osrf_msg":[{}]}}"#, quoted(service), quoted(thread), messages.join(","))
}

/// One envelope that the gateway sent.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// Its exact text.
    pub text: String,
    /// The same, parsed.
    pub json: Value,
}

/// The parts of one message that tests look at.
#[derive(Clone, Debug)]
pub struct Part {
    /// `STATUS` or `RESULT`.
    pub kind: String,
    /// `threadTrace` as a string, however it was spelled.
    pub trace: String,
    /// `statusCode`, however it was spelled.
    pub code: u16,
    /// The payload's `__c`.
    pub class: String,
    /// The payload's `status`.
    pub status: String,
    /// The payload's `content`.
    pub content: Value,
}

impl Envelope {
    /// What was received as `text`.
    pub fn new(text: &str) -> Self {
        let json = serde_json::from_str(text).unwrap_or_else(|error| panic!("not JSON ({error}): {text:.400}"));
        Self { text: text.to_owned(), json }
    }

    /// Its messages.
    pub fn parts(&self) -> Vec<Part> {
        let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let messages =
            self.json["osrf_msg"].as_array().unwrap_or_else(|| panic!("osrf_msg is no array: {:.400}", self.text));
        let part = |message: &Value| {
            let (outer, payload) = (&message["__p"], &message["__p"]["payload"]);
            Part {
                kind: word(&outer["type"]),
                trace: word(&outer["threadTrace"]),
                code: word(&payload["__p"]["statusCode"]).parse().unwrap_or(0),
                class: word(&payload["__c"]),
                status: word(&payload["__p"]["status"]),
                content: payload["__p"]["content"].clone(),
            }
        };
        messages.iter().map(part).collect()
    }

    /// The wrapper's thread.
    pub fn thread(&self) -> &str {
        self.json["thread"].as_str().unwrap_or_else(|| panic!("thread is no string: {:.400}", self.text))
    }

    /// Whether the wrapper says `transport_error`.
    pub fn transport_error(&self) -> bool {
        match self.json.get("transport_error") {
            None => false,
            Some(Value::Bool(true)) => true,
            Some(other) => panic!("transport_error only when true, not {other}"),
        }
    }

    /// Whether it ends a request, or answers a CONNECT, with this code.
    pub fn has_status(&self, code: u16) -> bool {
        self.parts().iter().any(|part| part.kind == "STATUS" && part.code == code)
    }

    /// `(threadTrace, code)` of every STATUS that ends something.
    pub fn ends(&self) -> Vec<(String, u16)> {
        let over = |part: &Part| part.kind == "STATUS" && (part.code == 205 || part.code >= 300);
        self.parts().into_iter().filter(over).map(|part| (part.trace, part.code)).collect()
    }
}

/// What a read brought.
#[derive(Debug)]
pub enum Event {
    /// An envelope.
    Envelope(Envelope),
    /// A Ping of the gateway (answered by tungstenite).
    Ping,
    /// A Close frame with its code.
    Close(Option<u16>),
    /// The end of the stream without a Close frame, or a reset.
    Gone(Box<Error>),
    /// Nothing in time.
    Silence,
}

/// One connected client, blocking.
pub struct Client {
    socket: WebSocket<TcpStream>,
}

impl Client {
    /// Connects and shakes hands.
    pub fn connect(gateway: &Gateway) -> Self {
        Self::connect_with(gateway.address(), &[]).unwrap_or_else(|error| panic!("connect: {error}"))
    }

    /// Connects, and asks the demo for a reply that takes so long; gives one that is known to wait for it.
    pub fn waiting(gateway: &Gateway, seconds: f64) -> Self {
        let before = gateway.count("waiting_for_replies");
        let mut client = Self::connect(gateway);
        client.request("opensrf.demo", "t", 0, "opensrf.demo.sleep", &format!("[{seconds}]"));
        gateway.until_count("waiting_for_replies", before + 1);
        client
    }

    /// Connects with more header fields; the error where the gateway refuses.
    pub fn connect_with(address: SocketAddr, fields: &[(&'static str, &str)]) -> Result<Self, Box<Error>> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(Error::from)?;
        Self::over(stream, address, fields)
    }

    /// The same from an address of this host's own: all of 127.0.0.0/8 are.
    pub fn connect_from(
        source: IpAddr,
        address: SocketAddr,
        fields: &[(&'static str, &str)],
    ) -> Result<Self, Box<Error>> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).map_err(Error::from)?;
        socket.bind(&SocketAddr::new(source, 0).into()).map_err(Error::from)?;
        socket.connect_timeout(&address.into(), PATIENCE).map_err(Error::from)?;
        Self::over(socket.into(), address, fields)
    }

    /// Shakes hands over a connection.
    fn over(stream: TcpStream, address: SocketAddr, fields: &[(&'static str, &str)]) -> Result<Self, Box<Error>> {
        stream.set_nodelay(true).map_err(Error::from)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(Error::from)?;
        let mut request = format!("ws://{address}/osrf-websocket-translator").into_client_request()?;
        for (name, value) in fields {
            request.headers_mut().insert(*name, value.parse().expect("a header value"));
        }
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        match tungstenite::client::client_with_config(request, stream, Some(config)) {
            Ok((socket, _)) => Ok(Self { socket }),
            Err(tungstenite::HandshakeError::Failure(error)) => Err(Box::new(error)),
            Err(tungstenite::HandshakeError::Interrupted(_)) => {
                Err(Box::new(Error::Io(io::ErrorKind::TimedOut.into())))
            }
        }
    }

    /// The status code of the refusal, where the gateway refuses the handshake; None where it connects.
    pub fn refusal(address: SocketAddr, fields: &[(&'static str, &str)]) -> Option<u16> {
        match Self::connect_with(address, fields).map_err(|error| *error) {
            Ok(_) => None,
            Err(Error::Http(response)) => Some(response.status().as_u16()),
            Err(other) => panic!("neither connected nor refused: {other}"),
        }
    }

    /// Sends a text message.
    pub fn send(&mut self, text: &str) {
        self.try_send(text).unwrap_or_else(|error| panic!("send: {error}"));
    }

    /// The same where the gateway may have closed.
    pub fn try_send(&mut self, text: &str) -> Result<(), Box<Error>> {
        self.socket.send(Message::text(text)).map_err(Box::new)
    }

    /// Sends a binary message.
    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.socket
            .send(Message::Binary(Bytes::copy_from_slice(bytes)))
            .unwrap_or_else(|error| panic!("send: {error}"));
    }

    /// Sends a Ping.
    pub fn ping(&mut self) {
        self.socket.send(Message::Ping(Bytes::from_static(b"test"))).unwrap_or_else(|error| panic!("ping: {error}"));
    }

    /// Sends one REQUEST in an envelope of its own.
    pub fn request(&mut self, service: &str, thread: &str, trace: u32, method: &str, params: &str) {
        self.send(&envelope(service, thread, &[request(trace, method, params)]));
    }

    /// Waits for whatever comes next, Pings and Pongs of no interest apart.
    pub fn event(&mut self, bound: Duration) -> Event {
        let end = Instant::now() + bound;
        loop {
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket.get_ref().set_read_timeout(Some(left)).ok();
            match self.socket.read() {
                Ok(Message::Text(text)) => return Event::Envelope(Envelope::new(&text)),
                Ok(Message::Ping(_)) => {
                    self.socket.flush().ok();
                    return Event::Ping;
                }
                Ok(Message::Close(frame)) => {
                    self.socket.flush().ok();
                    self.socket.get_ref().shutdown(std::net::Shutdown::Write).ok();
                    return Event::Close(frame.map(|frame| frame.code.into()));
                }
                Ok(Message::Pong(_) | Message::Frame(_)) => {}
                Ok(Message::Binary(_)) => panic!("replies are text frames"),
                Err(Error::Io(error))
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
                {
                    if Instant::now() >= end {
                        return Event::Silence;
                    }
                }
                Err(error) => return Event::Gone(Box::new(error)),
            }
        }
    }

    /// The next envelope; anything else is a failure.
    pub fn recv(&mut self) -> Envelope {
        self.recv_within(PATIENCE)
    }

    /// The same with a bound of one's own.
    pub fn recv_within(&mut self, bound: Duration) -> Envelope {
        self.next_envelope(bound).unwrap_or_else(|other| panic!("expected an envelope within {bound:?}, got {other:?}"))
    }

    /// The next envelope, or what came instead.
    fn next_envelope(&mut self, bound: Duration) -> Result<Envelope, Event> {
        let end = Instant::now() + bound;
        loop {
            match self.event(end.saturating_duration_since(Instant::now())) {
                Event::Envelope(envelope) => return Ok(envelope),
                Event::Ping => {}
                other => return Err(other),
            }
        }
    }

    /// Envelopes up to and including the one that holds a STATUS of `code`.
    pub fn until_status(&mut self, code: u16) -> Vec<Envelope> {
        self.try_until_status(code).unwrap_or_else(|(other, got)| {
            panic!("no {code}: {other:?} after {} envelopes, the last {:.300?}", got.len(), got.last())
        })
    }

    /// The same, or what came instead, and the envelopes before it.
    fn try_until_status(&mut self, code: u16) -> Result<Vec<Envelope>, (Event, Vec<Envelope>)> {
        let mut got = vec![];
        while !got.last().is_some_and(|last: &Envelope| last.has_status(code)) {
            match self.next_envelope(PATIENCE) {
                Ok(envelope) => got.push(envelope),
                Err(other) => return Err((other, got)),
            }
        }
        Ok(got)
    }

    /// Envelopes until `n` requests or connects have ended, whatever their codes: `(thread, threadTrace, code)` of each.
    pub fn until_ended(&mut self, n: usize) -> Vec<(String, String, u16)> {
        let mut ended = vec![];
        while ended.len() < n {
            let envelope = self.recv();
            let thread = envelope.thread().to_owned();
            ended.extend(envelope.ends().into_iter().map(|(trace, code)| (thread.clone(), trace, code)));
        }
        ended
    }

    /// Sends one request, and gives the contents of its RESULTs when its 205 comes. None where a 1012 comes in its place: it may be asked again.
    pub fn call_unless_restarted(
        &mut self,
        service: &str,
        thread: &str,
        trace: u32,
        method: &str,
        params: &str,
    ) -> Option<Vec<Value>> {
        self.request(service, thread, trace, method, params);
        match self.try_until_status(205) {
            Ok(got) => Some(contents(&got)),
            Err((Event::Close(Some(1012)), _)) => None,
            Err((other, _)) => panic!("neither answered nor told to come again: {other:?}"),
        }
    }

    /// Sends one request, waits for its 205 and gives the contents of its RESULTs.
    pub fn call(&mut self, service: &str, thread: &str, trace: u32, method: &str, params: &str) -> Vec<Value> {
        self.request(service, thread, trace, method, params);
        contents(&self.until_status(205))
    }

    /// Opens a stateful session.
    pub fn open_session(&mut self, service: &str, thread: &str) {
        self.send(&envelope(service, thread, &[connect(0)]));
        self.until_status(200);
    }

    /// Reads to the Close frame: its code and the envelopes that came before it. None where the stream just ended.
    pub fn close_code(&mut self, bound: Duration) -> (Option<u16>, Vec<Envelope>) {
        let (end, mut before) = (Instant::now() + bound, vec![]);
        loop {
            match self.event(end.saturating_duration_since(Instant::now())) {
                Event::Envelope(envelope) => before.push(envelope),
                Event::Ping => {}
                Event::Close(code) => return (code, before),
                Event::Gone(error) => {
                    let broken = ProtocolError::ResetWithoutClosingHandshake;
                    let ours = matches!(&*error, Error::Protocol(reason) if *reason != broken)
                        || matches!(&*error, Error::Utf8(_));
                    assert!(!ours, "the gateway sent what is no WebSocket: {error}");
                    return (None, before);
                }
                Event::Silence => panic!("no Close within {bound:?}; before that: {} envelopes", before.len()),
            }
        }
    }

    /// Closes as a browser does: Close 1000, then reads to the end.
    pub fn close(mut self) {
        self.socket.close(None).ok();
        while self.socket.read().is_ok() {}
    }

    /// Fails where the connection does not answer any more.
    pub fn must_be_connected(&mut self) {
        self.ping();
        let end = Instant::now() + PATIENCE;
        loop {
            self.socket.get_ref().set_read_timeout(Some(PATIENCE)).ok();
            match self.socket.read() {
                Ok(Message::Pong(payload)) if payload.as_ref() == b"test" => return,
                Ok(Message::Close(frame)) => panic!("closed: {frame:?}"),
                Ok(_) => assert!(Instant::now() < end, "no Pong"),
                Err(error) => panic!("not connected: {error}"),
            }
        }
    }
}

/// The contents of all RESULTs.
pub fn contents(envelopes: &[Envelope]) -> Vec<Value> {
    envelopes.iter().flat_map(Envelope::parts).filter(|part| part.kind == "RESULT").map(|part| part.content).collect()
}

/// Runs one closure per client on a thread of its own and gives their results in order; a panic in one is the test's.
pub fn on_threads<T: Send, R: Send>(clients: Vec<T>, work: impl Fn(usize, T) -> R + Sync) -> Vec<R> {
    let work = &work;
    std::thread::scope(|scope| {
        let handles: Vec<_> =
            clients.into_iter().enumerate().map(|(i, client)| scope.spawn(move || work(i, client))).collect();
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}
