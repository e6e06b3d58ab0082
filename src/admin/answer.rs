//! One request in, one answer out.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use evergate_proto::opensrf::printable::Shown;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::mpsc;

use super::actions::{Action, FETCH_SITE};
use super::health::Verdict;
use super::metrics::Format;
use super::page::Page;
use super::places::{Place, Stage};
use super::status::held;
use super::{View, health, metrics, status};
use crate::process::roster;

/// What a page without a script of its own, or no page at all, may do in a browser: nothing.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";

/// Says that nobody else's page may have this as a part of its own.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Says to nginx that it must pass each event on as it comes.
const PROXY_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Content {
    /// All of it.
    Whole(Full<Bytes>),
    /// Events as they come.
    Events(mpsc::Receiver<Bytes>),
}

impl Body for Content {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Whole(whole) => Pin::new(whole).poll_frame(cx),
            Self::Events(events) => events.poll_recv(cx).map(|event| event.map(|event| Ok(Frame::data(event)))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Events(_) => SizeHint::default(),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(whole) if whole.is_end_stream())
    }
}

/// A text and what it is.
struct Document {
    /// For `Content-Type`.
    kind: &'static str,
    /// UTF-8.
    text: String,
}

impl Document {
    fn line(text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.push('\n');
        Self { kind: "text/plain; charset=utf-8", text }
    }
}

/// One connection, and its one request.
pub(super) struct Visit {
    view: Arc<View>,
    place: Mutex<Place>,
    peer: IpAddr,
}

impl Visit {
    pub(super) fn new(view: Arc<View>, place: Place, peer: IpAddr) -> Self {
        Self { view, place: Mutex::new(place), peer }
    }

    /// Whether it is for `/events`, which has no end.
    pub(super) fn is_stream(&self) -> bool {
        held(&self.place).is_of(&self.view.streams)
    }

    /// The answer to a request that came to `local`, the address of our side of its connection.
    pub(super) async fn answer(&self, request: Request<Incoming>, local: Option<IpAddr>) -> Response<Content> {
        held(&self.place).reached(Stage::Answering);
        let view = &*self.view;
        let (parts, body) = request.into_parts();
        if let Err((code, why)) = view.hosts.judge(parts.version, &parts.uri, &parts.headers, local) {
            return respond(code, Document::line(why));
        }
        let path = parts.uri.path();
        if let (Some(actions), Some(action)) = (&view.actions, Action::of(path)) {
            if parts.method != Method::POST {
                return not_allowed("POST", "this is what the page's buttons post to");
            }
            let (code, answer) = actions.act(action, &parts.headers, body, self.peer, view).await;
            let text = serde_json::to_string(&answer).unwrap_or_default();
            return respond(code, Document { kind: "application/json", text });
        }
        if parts.method != Method::GET && parts.method != Method::HEAD {
            return not_allowed("GET, HEAD", "only GET and HEAD are served here");
        }
        match path {
            "/" => page(view, &parts.headers),
            "/events" if parts.method == Method::GET => self.events(&parts.headers),
            "/connections" => self.connections(parts.uri.query().unwrap_or_default().to_owned()).await,
            _ => get(view, path, Format::accepted(&parts.headers)),
        }
    }

    /// Who is connected, as far as `query` asks for it.
    async fn connections(&self, query: String) -> Response<Content> {
        let shared = Arc::clone(&self.view.shared);
        let ask = move || roster::Query::parse(&query).and_then(|query| roster::page(&shared, &query));
        let (code, document) = match self.view.questions.ask(ask).await {
            Ok(Ok(page)) => match serde_json::to_string(&page) {
                Ok(text) => (StatusCode::OK, Document { kind: "application/json", text }),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, Document::line(error.to_string())),
            },
            Ok(Err(why)) => (StatusCode::BAD_REQUEST, Document::line(Shown(&why).to_string())),
            Err(unanswered) => {
                let (code, why) = unanswered.told();
                (code, Document::line(why))
            }
        };
        respond(code, document)
    }

    /// The stream that a page reads.
    fn events(&self, headers: &HeaderMap) -> Response<Content> {
        // A page of somebody else's could not read them, but could take the places of those that can.
        if headers.get(FETCH_SITE).is_some_and(|site| site != "same-origin" && site != "none") {
            return respond(StatusCode::FORBIDDEN, Document::line("these events are for the page of this address"));
        }
        let view = &*self.view;
        let Some(task) = held(&self.place).change_to(&view.streams) else {
            return respond(StatusCode::SERVICE_UNAVAILABLE, Document::line("its place was needed"));
        };
        let first = held(&view.recorder).hello(view, console(view, headers));
        let mut response = respond(StatusCode::OK, Document { kind: "text/event-stream", text: String::new() });
        *response.body_mut() = Content::Events(view.viewers.admit(first.into(), task));
        response.headers_mut().insert(PROXY_BUFFERING, HeaderValue::from_static("no"));
        response
    }
}

/// Where the console of a page connects: by the name by which the page was asked for, where clients may connect to any address.
fn console(view: &View, headers: &HeaderMap) -> Option<String> {
    let listen = view.options.console?;
    if !listen.ip().is_unspecified() {
        return Some(format!("ws://{listen}"));
    }
    let host = headers.get(header::HOST)?.to_str().ok()?.parse::<hyper::http::uri::Authority>().ok()?;
    Some(format!("ws://{}:{}", host.host(), listen.port()))
}

/// The page itself.
fn page(view: &View, headers: &HeaderMap) -> Response<Content> {
    let console = console(view, headers);
    match Page::render(view, console.as_deref()) {
        Ok(Page { text, policy }) => {
            let mut response = respond(StatusCode::OK, Document { kind: "text/html; charset=utf-8", text });
            if let Ok(policy) = HeaderValue::from_str(&policy) {
                response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
            }
            response
        }
        Err(why) => respond(StatusCode::INTERNAL_SERVER_ERROR, Document::line(why)),
    }
}

/// The answer to GET. For HEAD it is the same; hyper leaves its body out.
fn get(view: &View, path: &str, format: Format) -> Response<Content> {
    let now_ms = view.shared.now_ms();
    let (code, document) = match path {
        "/events" => (StatusCode::OK, Document { kind: "text/event-stream", text: String::new() }),
        "/healthz" => judge(view, &health::health(&view.shared)),
        "/readyz" => judge(view, &health::readiness(&view.shared, now_ms, view.options.ready_bus_grace_seconds)),
        "/status" => match status::json(view.source(), now_ms) {
            Ok(text) => (StatusCode::OK, Document { kind: "application/json", text }),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, Document::line(error.to_string())),
        },
        "/metrics" => match metrics::render(view, now_ms, format) {
            Ok(text) => (StatusCode::OK, Document { kind: format.media_type(), text }),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, Document::line(error.to_string())),
        },
        _ => (
            StatusCode::NOT_FOUND,
            Document::line("not found: there are /, /events, /healthz, /readyz, /status, /connections and /metrics"),
        ),
    };
    respond(code, document)
}

fn judge(view: &View, verdict: &Verdict) -> (StatusCode, Document) {
    let code = if verdict.good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Document::line(verdict.told(&view.shared)))
}

fn not_allowed(allowed: &'static str, why: &str) -> Response<Content> {
    let mut refusal = respond(StatusCode::METHOD_NOT_ALLOWED, Document::line(why));
    refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    refusal
}

fn respond(code: StatusCode, document: Document) -> Response<Content> {
    let mut response = Response::new(Content::Whole(Full::new(Bytes::from(document.text))));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, document.kind),
        (header::VARY, "Accept"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, NOTHING),
        (RESOURCE_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
