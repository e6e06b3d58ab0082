//! What the page's buttons do: POST, with a token, and only where the option `admin_actions` allows it.
//!
//! A browser on this host carries requests of sites that are somebody else's. So a request that acts must come from the page itself:
//! its `Origin` is the host that it was sent to (which `hosts` has found to be ours), its `Sec-Fetch-Site`, where there is one, says the
//! same, its body is JSON, and the token stands in a header that no site of somebody else's can set without being asked first. What is
//! then done is done by the main thread, as if a signal or the control socket had asked.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::Sender;

use bytes::Bytes;
use evergate_proto::clients::number::ConnectionNumber;
use http_body_util::{BodyExt as _, Limited};
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::http::uri::{Authority, Uri};
use serde::Deserialize;
use subtle::ConstantTimeEq as _;
use tokio::sync::oneshot;

use super::View;
use super::questions::Unanswered;
use crate::config::Secret;
use crate::process::control::protocol::Answer;
use crate::process::control::{Asker, Reply, Request};
use crate::process::roster;
use crate::process::shared::Shared;

/// The header that holds the token.
pub(super) const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-evergate-token");

/// Says who made a request, in a browser's own words (Fetch Metadata).
pub(super) const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Bytes of a request's body.
const BODY_BYTES_MAX: usize = 4 * 1024;

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// As SIGUSR1.
    Drain,
    /// As SIGUSR2.
    Cancel,
    /// As `evergate clients --close`.
    Close,
}

impl Action {
    /// By the path to which it is posted.
    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "/actions/drain" => Some(Self::Drain),
            "/actions/cancel" => Some(Self::Cancel),
            "/actions/close" => Some(Self::Close),
            _ => None,
        }
    }

    /// In the log.
    fn verb(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Cancel => "cancel the drain",
            Self::Close => "close a connection",
        }
    }
}

/// The body of a drain and of a cancel: an object without members.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// The body of a close.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Closing {
    /// The number of the connection.
    connection: String,
    /// At once, whatever is under way; else at its gap.
    #[serde(default)]
    now: bool,
}

/// Why it is not done, for whoever asked.
type Refusal = (StatusCode, String);

/// What is needed to act.
#[derive(Debug)]
pub(super) struct Actions {
    token: Secret,
    requests: Sender<Request>,
    /// Requests that were refused here.
    refused: AtomicU64,
}

impl Actions {
    pub(super) fn new(token: Secret, requests: Sender<Request>) -> Self {
        Self { token, requests, refused: AtomicU64::new(0) }
    }

    /// Requests that came without the token, or from elsewhere.
    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Does what `peer` asks for, if it may.
    pub(super) async fn act(
        &self,
        action: Action,
        headers: &HeaderMap,
        body: Incoming,
        peer: IpAddr,
        view: &View,
    ) -> (StatusCode, Answer) {
        let verb = action.verb();
        if let Err((code, why)) = self.judge(headers) {
            self.refused.fetch_add(1, Relaxed);
            tracing::warn!("page: {peer} may not {verb}: {why}");
            return (code, Answer::refused(why));
        }
        let done = match read(body).await {
            Ok(bytes) => {
                tracing::info!("page: {peer} asks to {verb}");
                self.ask(action, &bytes, peer, view).await
            }
            Err(refusal) => Err(refusal),
        };
        match done {
            Ok(answer) => (StatusCode::OK, answer),
            Err((code, why)) => {
                tracing::warn!("page: {peer} could not {verb}: {why}");
                (code, Answer::refused(why))
            }
        }
    }

    /// Whether a request comes from the page itself, and from somebody who has the token.
    fn judge(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let forbidden = |why: &str| Err((StatusCode::FORBIDDEN, why.to_owned()));
        // What stands twice may be read in two ways, here and in a proxy.
        let names = [ORIGIN, HOST, FETCH_SITE, TOKEN_HEADER, CONTENT_TYPE];
        if let Some(name) = names.iter().find(|name| headers.get_all(*name).iter().nth(1).is_some()) {
            return Err((StatusCode::BAD_REQUEST, format!("{name} stands there more than once")));
        }
        let [origin, host, token] =
            [ORIGIN, HOST, TOKEN_HEADER].map(|name| headers.get(name).and_then(|value| value.to_str().ok()));
        let is_elsewhere = headers.get(FETCH_SITE).is_some_and(|site| site != "same-origin");
        if is_elsewhere || !is_same_origin(origin, host) {
            return forbidden(
                "the request does not come from this page: its Origin must be the host that it is sent to",
            );
        }
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
            return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Type must be application/json".to_owned()));
        }
        let Some(token) = token else {
            return forbidden("X-Evergate-Token is missing: it is what the file admin_token_file holds");
        };
        // It takes the same time whatever is wrong with it, but its length.
        if !bool::from(token.as_bytes().ct_eq(self.token.expose().as_bytes())) {
            return forbidden("the token is not the one that the file admin_token_file held when the process started");
        }
        Ok(())
    }

    async fn ask(&self, action: Action, body: &[u8], peer: IpAddr, view: &View) -> Result<Answer, Refusal> {
        let by = Asker::Page(peer);
        match action {
            Action::Drain => {
                parse::<Nothing>(body)?;
                let drain = self.ask_main(|reply| Request::Drain { by, reply }, &view.shared).await?;
                Ok(Answer { drain: Some(drain), ..Answer::done() })
            }
            Action::Cancel => {
                parse::<Nothing>(body)?;
                self.ask_main(|reply| Request::Cancel { by, reply }, &view.shared).await?;
                Ok(Answer::done())
            }
            Action::Close => close(parse(body)?, peer, view).await,
        }
    }

    /// Asks the main thread, which looks several times a second.
    async fn ask_main<T>(&self, request: impl FnOnce(Reply<T>) -> Request, shared: &Shared) -> Result<T, Refusal> {
        let (reply, answer): (_, oneshot::Receiver<_>) = Reply::to_task();
        let ends = || (StatusCode::SERVICE_UNAVAILABLE, "the process is ending".to_owned());
        self.requests.send(request(reply)).map_err(|_| ends())?;
        shared.wake_main();
        answer.await.map_err(|_| ends())?.map_err(|why| (StatusCode::CONFLICT, why))
    }
}

/// Has the core close a connection.
async fn close(Closing { connection, now }: Closing, peer: IpAddr, view: &View) -> Result<Answer, Refusal> {
    let number: ConnectionNumber = connection.parse().map_err(|why| (StatusCode::BAD_REQUEST, why))?;
    tracing::info!("page: {peer} closes connection {number} {}", if now { "at once" } else { "at its gap" });
    let shared = Arc::clone(&view.shared);
    let closes = view.questions.ask(move || roster::close(&shared, number, now)).await.map_err(Unanswered::told)?;
    let closes = closes.map_err(|why| (StatusCode::CONFLICT, why))?;
    Ok(Answer { closes: Some(closes), ..Answer::done() })
}

/// Whether a page of the host that a request is for made it. Without `Origin` it is no browser's: those say it with every POST.
fn is_same_origin(origin: Option<&str>, host: Option<&str>) -> bool {
    let (Some(origin), Some(host)) = (origin.and_then(|origin| origin.parse::<Uri>().ok()), host) else { return false };
    let (Some(of_page), Ok(asked)) = (origin.authority(), host.parse::<Authority>()) else { return false };
    // A browser's has neither.
    if of_page.as_str().contains('@') || !matches!(origin.path(), "" | "/") {
        return false;
    }
    // A proxy may speak https to the browser and http to us: `Host` is what the browser asked for.
    let default_port = match origin.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return false,
    };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(default_port);
    of_page.host().eq_ignore_ascii_case(asked.host()) && port(of_page) == port(&asked)
}

async fn read(body: Incoming) -> Result<Bytes, Refusal> {
    let read = Limited::new(body, BODY_BYTES_MAX).collect().await;
    read.map(|body| body.to_bytes()).map_err(|_| {
        (StatusCode::PAYLOAD_TOO_LARGE, format!("the body is not whole, or has more than {BODY_BYTES_MAX} bytes"))
    })
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    // serde takes an array for a structure, too.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err((StatusCode::BAD_REQUEST, "the body is not what this action takes: a JSON object".to_owned()));
    }
    serde_json::from_slice(body)
        .map_err(|error| (StatusCode::BAD_REQUEST, format!("the body is not what this action takes: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_twice_or_is_no_browsers_origin_is_refused() {
        let (requests, _) = std::sync::mpsc::channel();
        let actions = Actions { token: Secret::new("t".repeat(20)), requests, refused: AtomicU64::new(0) };
        let good = [
            ("origin", "http://localhost:7683"),
            ("host", "localhost:7683"),
            ("sec-fetch-site", "same-origin"),
            ("content-type", "application/json"),
            ("x-evergate-token", "tttttttttttttttttttt"),
        ];
        let judged = |more: &[(&'static str, &str)], without: &str| {
            let mut headers = HeaderMap::new();
            for (name, value) in good.iter().filter(|(name, _)| *name != without).chain(more) {
                headers.append(*name, value.parse().expect("a value"));
            }
            actions.judge(&headers).map_err(|(code, _)| code.as_u16())
        };
        assert_eq!(judged(&[], ""), Ok(()));
        for (name, value) in good {
            assert_eq!(judged(&[(name, value)], ""), Err(400), "{name} twice");
        }
        assert_eq!(judged(&[("origin", "http://x@localhost:7683")], "origin"), Err(403));
        assert_eq!(judged(&[("origin", "http://localhost:7683/path")], "origin"), Err(403));
        assert_eq!(judged(&[("sec-fetch-site", "cross-site")], "sec-fetch-site"), Err(403));
        assert!(parse::<Nothing>(b"[]").is_err() && parse::<Nothing>(b" {}").is_ok());
    }

    #[test]
    fn a_page_of_another_host_port_or_scheme_is_another() {
        let same = |origin: &str, host: &str| is_same_origin(Some(origin), Some(host));
        assert!(same("http://localhost:7683", "localhost:7683") && same("http://[::1]:7683", "[::1]:7683"));
        assert!(same("http://Admin.example", "admin.example:80") && same("https://admin.example", "admin.example"));
        for (origin, host) in [
            ("http://evil.example", "localhost:7683"),
            ("http://localhost:7682", "localhost:7683"),
            ("http://localhost", "localhost:7683"),
            ("http://localhost:7683.evil.example", "localhost:7683"),
            ("http://127.0.0.1:7683", "localhost:7683"),
            ("file://localhost:7683", "localhost:7683"),
            ("null", "localhost:7683"),
            ("", "localhost:7683"),
            ("http://localhost:7683", ""),
        ] {
            assert!(!same(origin, host), "{origin} {host}");
        }
        assert!(!is_same_origin(None, Some("localhost")) && !is_same_origin(Some("http://localhost"), None));
    }
}
