//! `evergate call`: one call through a gateway, by hand or in a script.
//!
//! May use: a WebSocket client, blocking and with a time limit; stdout and stderr. May never: be used by what serves.
//!
//! A Close 1012 before the reply means that the request was not relayed: it is sent again, as browsers do
//! (`tuning/browser/`). After any other end it may have been carried out, and that is said.

#![forbid(unsafe_code)]

use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use evergate_proto::opensrf::printable::Shown;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tungstenite::client::{IntoClientRequest as _, client};
use tungstenite::error::ProtocolError;
use tungstenite::http::Uri;
use tungstenite::protocol::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use crate::config::calling::Call;
use crate::process::Exit;
use crate::stdio;

/// How soon who is to come again comes again.
const COME_AGAIN: Duration = Duration::from_millis(100);

/// Pieces of a chunked reply, bytes together.
const CHUNKED_BYTES_MAX: usize = 1 << 30;

/// Characters of a refusal that are shown.
const REASON_CHARS_MAX: usize = 200;

/// What a URL must be.
const URL_FORM: &str = "it must be ws://HOST:PORT/PATH";

/// What a server means that says nothing.
const UNANSWERED: &str = "it closed the connection without an answer: no gateway, or a listener with ;proxy";

/// Why there is no result, or no more.
enum Failed {
    /// Nothing was carried out.
    Unsent(String),
    /// The gateway drains: nothing was carried out, and another connection will do.
    Restarts,
    /// The service, the router or the gateway says so.
    Refused(String),
    /// It may have been carried out.
    Broken(String),
}

/// Calls, and prints each result as a line of JSON as it comes.
pub fn run(call: &Call) -> ExitCode {
    let end = Instant::now() + call.limit;
    let mut restarts = false;
    loop {
        let has_time = Instant::now() + COME_AGAIN < end;
        match attempt(call, end) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(Failed::Restarts) if has_time => restarts = true,
            // It is gone, and the next has not come.
            Err(Failed::Unsent(_)) if restarts && has_time => {}
            Err(Failed::Restarts) => return fail("the gateway drains, and no other has come in its place"),
            Err(Failed::Unsent(why) | Failed::Refused(why)) => return fail(&why),
            Err(Failed::Broken(why)) => return fail(&format!("{why}; it may or may not have been carried out")),
        }
        thread::sleep(COME_AGAIN);
    }
}

fn fail(why: &str) -> ExitCode {
    stdio::say(why);
    Exit::Host.into()
}

fn attempt(call: &Call, end: Instant) -> Result<(), Failed> {
    let mut gateway = Gateway::connect(call, end)?;
    if call.connects {
        gateway.send(&envelope(call, 0, "CONNECT", None))?;
        gateway.answers(false)?;
    }
    gateway.send(&envelope(call, 1, "REQUEST", Some(&call.params)))?;
    gateway.answers(true)?;
    if call.connects {
        gateway.send(&envelope(call, 2, "DISCONNECT", None))?;
    }
    // All is here: how the connection ends is nobody's concern.
    let _ = gateway.socket.close(None);
    let _ = gateway.socket.flush();
    Ok(())
}

/// The text of an envelope with one message. The params go as they were given.
fn envelope(call: &Call, trace: u32, kind: &str, params: Option<&[String]>) -> String {
    let payload = params.map_or_else(String::new, |params| {
        let (method, params) = (json!(call.method), params.join(","));
        format!(r#","payload":{{"__c":"osrfMethod","__p":{{"method":{method},"params":[{params}]}}}}"#)
    });
    let service = json!(call.service);
    format!(
        r#"{{"service":{service},"thread":"call","osrf_msg":[{{"__c":"osrfMessage","__p":{{"threadTrace":{trace},"locale":"en-US","type":"{kind}"{payload}}}}}]}}"#
    )
}

/// A frame from the gateway.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    osrf_msg: Vec<Part<'a>>,
}

/// An OpenSRF message.
#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, rename = "__p")]
    fields: Fields<'a>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    payload: Payload<'a>,
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow, rename = "__p")]
    says: Says<'a>,
}

/// What a STATUS and a RESULT say.
#[derive(Deserialize)]
struct Says<'a> {
    #[serde(default)]
    status: String,
    /// Perl writes it as a number, C as a string.
    #[serde(rename = "statusCode")]
    code: Value,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

impl Says<'_> {
    fn code(&self) -> Option<u64> {
        self.code.as_u64().or_else(|| self.code.as_str()?.parse().ok())
    }
}

/// A connection to the gateway.
struct Gateway {
    socket: WebSocket<TcpStream>,
    /// When the time is over.
    end: Instant,
    /// Something was answered on it: what comes then is no matter of this connection alone.
    is_answered: bool,
    /// The pieces of a chunked reply.
    pieces: String,
}

impl Gateway {
    fn connect(call: &Call, end: Instant) -> Result<Self, Failed> {
        let unsent = |why: String| Failed::Unsent(format!("{}: {why}", call.url));
        let request = call.url.as_str().into_client_request().map_err(|_| unsent(URL_FORM.to_owned()))?;
        let address = address(request.uri()).map_err(unsent)?;
        let addresses = address.to_socket_addrs().map_err(|error| unsent(format!("{address}: {error}")))?;
        let mut refused = format!("{address} has no address");
        for address in addresses {
            let connected = left(end).and_then(|left| TcpStream::connect_timeout(&address, left)).and_then(|stream| {
                stream.set_nodelay(true)?;
                limit(&stream, end)?;
                Ok(stream)
            });
            match connected {
                Ok(stream) => {
                    let (socket, _) = client(request, stream).map_err(|error| match error {
                        HandshakeError::Failure(Error::Http(answer)) => {
                            let body = String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default());
                            unsent(format!("it refuses the handshake: {} {}", answer.status(), reason(&body)))
                        }
                        HandshakeError::Failure(
                            Error::Protocol(ProtocolError::HandshakeIncomplete) | Error::ConnectionClosed,
                        ) => unsent(UNANSWERED.to_owned()),
                        HandshakeError::Failure(Error::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                            unsent(UNANSWERED.to_owned())
                        }
                        HandshakeError::Failure(error) => unsent(format!("the handshake fails: {error}")),
                        HandshakeError::Interrupted(_) => unsent("the handshake takes too long".to_owned()),
                    })?;
                    return Ok(Self { socket, end, is_answered: false, pieces: String::new() });
                }
                Err(error) => refused = format!("{error}: does a gateway listen there? --url names another"),
            }
        }
        Err(unsent(refused))
    }

    fn send(&mut self, text: &str) -> Result<(), Failed> {
        limit(self.socket.get_ref(), self.end).map_err(|error| Failed::Broken(error.to_string()))?;
        self.socket.send(Message::text(text)).or_else(|error| match error {
            // The gateway's Close may be there already, and says more.
            Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_) => Ok(()),
            Error::Io(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                Ok(())
            }
            error => Err(Failed::Broken(format!("the request cannot be sent: {error}"))),
        })
    }

    /// Reads until what was sent is answered; `prints` the results.
    fn answers(&mut self, prints: bool) -> Result<(), Failed> {
        loop {
            limit(self.socket.get_ref(), self.end).map_err(|_| self.late())?;
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    let envelope: Envelope = serde_json::from_str(&text).map_err(|error| {
                        Failed::Broken(format!("the reply is not understood ({error}): {}", Shown(&text)))
                    })?;
                    for part in &envelope.osrf_msg {
                        if self.answer(&part.fields.payload.says, prints)? {
                            return Ok(());
                        }
                    }
                }
                Ok(Message::Close(frame)) => return Err(self.closed(frame.as_ref())),
                Ok(_) => {}
                Err(Error::Io(error))
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) =>
                {
                    return Err(self.late());
                }
                Err(error) => return Err(Failed::Broken(format!("the connection broke: {error}"))),
            }
        }
    }

    /// One STATUS or RESULT; whether it is the last.
    fn answer(&mut self, says: &Says<'_>, prints: bool) -> Result<bool, Failed> {
        self.is_answered = true;
        let content = says.content.map_or("null", RawValue::get);
        match says.code() {
            Some(205) => return Ok(true),
            Some(200) if !prints => return Ok(true),
            Some(206) => {
                let piece: String = serde_json::from_str(content)
                    .map_err(|error| Failed::Broken(format!("a piece of the reply is no string: {error}")))?;
                if self.pieces.len() + piece.len() > CHUNKED_BYTES_MAX {
                    return Err(Failed::Broken(format!("the reply is longer than {CHUNKED_BYTES_MAX} bytes")));
                }
                self.pieces.push_str(&piece);
            }
            Some(204) => print(&std::mem::take(&mut self.pieces))?,
            Some(code @ 300..) => return Err(Failed::Refused(format!("{code}: {}", Shown(&says.status)))),
            _ if says.content.is_some() && prints => print(content)?,
            _ => {}
        }
        Ok(false)
    }

    fn late(&self) -> Failed {
        Failed::Broken(format!(
            "nothing more has come in time (--timeout-seconds){}",
            if self.is_answered { ", but something has" } else { "" }
        ))
    }

    fn closed(&self, frame: Option<&CloseFrame>) -> Failed {
        match frame {
            Some(frame) if frame.code == CloseCode::Restart && !self.is_answered => Failed::Restarts,
            Some(frame) => Failed::Broken(format!(
                "the gateway has closed the connection: {} {}",
                u16::from(frame.code),
                Shown(&frame.reason)
            )),
            None => Failed::Broken("the gateway has closed the connection".to_owned()),
        }
    }
}

fn print(result: &str) -> Result<(), Failed> {
    stdio::print(&format!("{result}\n")).map_err(Failed::Broken)
}

/// `host:port` of a URL.
fn address(uri: &Uri) -> Result<String, String> {
    match (uri.scheme_str(), uri.host()) {
        (Some("ws"), Some(host)) => Ok(format!("{host}:{}", uri.port_u16().unwrap_or(80))),
        (Some("wss"), _) => Err("TLS is the proxy's work: call the gateway behind it, by ws://".to_owned()),
        _ => Err(URL_FORM.to_owned()),
    }
}

/// What a refusal says, as far as it is for the eye: the first line, and of a page that no more.
fn reason(body: &str) -> String {
    let body = body.trim();
    let line: String = body.lines().next().unwrap_or_default().chars().take(REASON_CHARS_MAX).collect();
    let is_other = body.starts_with('<') || body.contains("/healthz");
    format!("{}{}", Shown(&line), if is_other { " (is that the admin port?)" } else { "" })
}

/// The time that is left.
fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Bounds the next reads and writes by the time that is left.
fn limit(stream: &TcpStream, end: Instant) -> io::Result<()> {
    let left = left(end)?;
    stream.set_read_timeout(Some(left))?;
    stream.set_write_timeout(Some(left))
}
