//! One request in, one answer out.

use std::sync::Arc;

use bytes::Bytes;
use evergate_proto::opensrf::printable::Shown;
use http_body_util::Full;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Response, StatusCode};

use super::health::Verdict;
use super::hosts::Refusal;
use super::metrics::Format;
use super::{View, health, metrics, page, status};
use crate::process::roster;

/// A body and what it is.
struct Body {
    /// For `Content-Type`.
    kind: &'static str,
    /// UTF-8.
    text: String,
}

impl Body {
    fn line(text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.push('\n');
        Self { kind: "text/plain; charset=utf-8", text }
    }
}

/// The answer to `method` on `path`. For HEAD it is GET's; hyper leaves its body out.
pub(super) fn answer(view: &View, method: &Method, path: &str, format: Format) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        let mut refusal = respond(StatusCode::METHOD_NOT_ALLOWED, Body::line("only GET and HEAD are served here"));
        refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    let now_ms = view.shared.now_ms();
    let (code, body) = match path {
        "/" => (StatusCode::OK, Body { kind: "text/html; charset=utf-8", text: page::render(view, now_ms) }),
        "/healthz" => judge(view, &health::health(&view.shared)),
        "/readyz" => judge(view, &health::readiness(&view.shared, now_ms, view.options.ready_bus_grace_seconds)),
        "/status" => match status::json(view.source(), now_ms) {
            Ok(text) => (StatusCode::OK, Body { kind: "application/json", text }),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, Body::line(error.to_string())),
        },
        "/metrics" => match metrics::render(view, now_ms, format) {
            Ok(text) => (StatusCode::OK, Body { kind: format.media_type(), text }),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, Body::line(error.to_string())),
        },
        _ => (
            StatusCode::NOT_FOUND,
            Body::line("not found: there are /, /healthz, /readyz, /status, /connections and /metrics"),
        ),
    };
    respond(code, body)
}

/// The answer to GET of `/connections`, for what stands behind its `?`. The cores are asked, so that it comes from a thread that may
/// wait.
pub(super) async fn connections(view: Arc<View>, query: String) -> Response<Full<Bytes>> {
    let asked = move || roster::Query::parse(&query).and_then(|query| roster::page(&view.shared, &query));
    let (code, body) = match tokio::task::spawn_blocking(asked).await {
        Ok(Ok(page)) => match serde_json::to_string(&page) {
            Ok(text) => (StatusCode::OK, Body { kind: "application/json", text }),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, Body::line(error.to_string())),
        },
        Ok(Err(why)) => (StatusCode::BAD_REQUEST, Body::line(Shown(&why).to_string())),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, Body::line(error.to_string())),
    };
    respond(code, body)
}

/// The answer to who asks for another host.
pub(super) fn refuse((code, why): Refusal) -> Response<Full<Bytes>> {
    respond(code, Body::line(why))
}

fn judge(view: &View, verdict: &Verdict) -> (StatusCode, Body) {
    let code = if verdict.good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Body::line(verdict.told(&view.shared)))
}

fn respond(code: StatusCode, body: Body) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.text)));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(body.kind));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // The page has one inline style and nothing else.
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    );
    response
}
