//! The methods of `opensrf.math`, and those of `opensrf.demo` and its kind.

use std::borrow::Cow;
use std::time::Duration;

use monoio::time::sleep;
use serde_json::value::RawValue;

use super::super::link::SendError;
use super::super::messages::{Call, Reply, quoted};
use super::Service;
use super::worker::{Replies, Verdict};

/// Longest sleep or pause, in seconds.
const SLEEP_SECONDS_MAX: f64 = 3_600.0;
/// Most results of one call.
const RESULTS_MAX: f64 = 100_000.0;
/// Longest content that `big` and `chunked` make, in bytes.
const CONTENT_BYTES_MAX: f64 = 64.0 * 1024.0 * 1024.0;
/// Bytes of the content's JSON text in one chunk.
const CHUNK_BYTES: usize = 1_000;
/// Statuses after which a real worker is gone: redirected, timed out, broken session.
const ENDING: [u16; 3] = [307, 408, 417];

/// A call and what it may use of its worker.
pub(super) struct Called<'a> {
    /// The method and its params.
    pub(super) call: &'a Call<'a>,
    /// Calls of `opensrf.demo.counter` so far in this session.
    pub(super) counter: &'a mut u64,
    /// The worker's number.
    pub(super) worker: usize,
}

/// Carries out a call and sends its replies.
pub(super) async fn run(service: Service, called: Called<'_>, replies: &Replies<'_>) -> Result<Verdict, SendError> {
    match service {
        Service::Math => replies.send(&math(called.call)).await.map(|()| Verdict::Lives),
        Service::Demo | Service::DemoPerl | Service::DemoC => demo(service, called, replies).await,
    }
}

/// `add`, `sub`, `mult`, `div` on two params.
fn math(call: &Call<'_>) -> Vec<Reply<'static>> {
    let operation: fn(f64, f64) -> f64 = match call.method.as_ref() {
        "add" => |left, right| left + right,
        "sub" => |left, right| left - right,
        "mult" => |left, right| left * right,
        "div" => |left, right| left / right,
        other => {
            return vec![failed(404, format!("Method [{other}] not found for service {}", Service::Math.name()))];
        }
    };
    let [left, right, ..] = call.params.as_slice() else {
        let text = format!("Not enough params for method {} / service {}", call.method, Service::Math.name());
        return vec![failed(404, text)];
    };
    let (Some(left), Some(right)) = (number(left), number(right)) else {
        return vec![failed(400, format!("Params of method {} must be numbers", call.method))];
    };
    match number_text(operation(left, right)) {
        Some(text) => vec![Reply::Content(text.into()), Reply::Complete],
        // JSON has no infinity, and a reply that is no JSON would never reach the client.
        None => vec![failed(500, format!("Result of method {} is not a finite number", call.method))],
    }
}

async fn demo(service: Service, called: Called<'_>, replies: &Replies<'_>) -> Result<Verdict, SendError> {
    let Called { call, counter, worker } = called;
    let Some(method) = call.method.strip_prefix("opensrf.demo.") else {
        return unknown(service, call, replies).await;
    };
    let answer: Answer<'_> = match method {
        "echo" => {
            let content = if let [only] = call.params.as_slice() { only.get() } else { call.text };
            Ok(vec![Reply::Content(content.into()), Reply::Complete])
        }
        "sleep" => slept(call).await,
        "count" => counted(call, replies).await?,
        "bundled" => count(call, RESULTS_MAX).map(|results| {
            let results = (1..=results.unwrap_or(0)).map(|result| Reply::Content(result.to_string().into()));
            results.chain([Reply::Complete]).collect()
        }),
        "big" => count(call, CONTENT_BYTES_MAX).map(|bytes| match bytes {
            Some(bytes) => vec![Reply::Content(filler(bytes).into()), Reply::Complete],
            None => nothing(),
        }),
        "chunked" => match count(call, CONTENT_BYTES_MAX) {
            Ok(Some(bytes)) => {
                chunks(&filler(bytes), replies).await?;
                Ok(nothing())
            }
            Ok(None) => Ok(nothing()),
            Err(refusal) => Err(refusal),
        },
        "fail" => return fail(param(call, 0), param(call, 1), replies).await,
        "never" => return Ok(Verdict::Lives),
        "pid" => Ok(vec![Reply::Content(worker.to_string().into()), Reply::Complete]),
        "counter" => {
            *counter += 1;
            Ok(vec![Reply::Content(counter.to_string().into()), Reply::Complete])
        }
        _ => return unknown(service, call, replies).await,
    };
    replies.send(&answer.unwrap_or_else(|refusal| vec![refusal])).await.map(|()| Verdict::Lives)
}

/// What ends a call's replies, or refuses it.
type Answer<'a> = Result<Vec<Reply<'a>>, Reply<'a>>;

/// As Perl does where a method checks nothing: called without its param, it returns nothing, and that is a 205.
fn nothing<'a>() -> Vec<Reply<'a>> {
    vec![Reply::Complete]
}

/// Its param, after so many seconds.
async fn slept<'a>(call: &Call<'a>) -> Answer<'a> {
    let Some(seconds) = param(call, 0) else { return Ok(nothing()) };
    let Some(pause) = pause(Some(seconds)) else { return Err(failed(400, bad_param(call, SLEEP_SECONDS_MAX))) };
    sleep(pause).await;
    Ok(vec![Reply::Content(seconds.get().into()), Reply::Complete])
}

/// The numbers up to its first param, one envelope each, its second param apart.
async fn counted(call: &Call<'_>, replies: &Replies<'_>) -> Result<Answer<'static>, SendError> {
    let results = match count(call, RESULTS_MAX) {
        Ok(results) => results,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let Some(pause) = pause(param(call, 1)) else {
        return Ok(Err(failed(400, bad_param(call, SLEEP_SECONDS_MAX))));
    };
    for result in 1..=results.unwrap_or(0) {
        replies.send(&[Reply::Content(result.to_string().into())]).await?;
        sleep(pause).await;
    }
    Ok(Ok(nothing()))
}

async fn unknown(service: Service, call: &Call<'_>, replies: &Replies<'_>) -> Result<Verdict, SendError> {
    let text = format!("Method [{}] not found for service {}", call.method, service.name());
    replies.send(&[failed(404, text)]).await.map(|()| Verdict::Lives)
}

/// The content's JSON text in pieces, one envelope each, then the 204.
async fn chunks(content: &str, replies: &Replies<'_>) -> Result<(), SendError> {
    let mut rest = content;
    while !rest.is_empty() {
        // The filler is ASCII: every index is a character's boundary.
        let (piece, tail) = rest.split_at(rest.len().min(CHUNK_BYTES));
        replies.send(&[Reply::Partial(piece)]).await?;
        rest = tail;
    }
    replies.send(&[Reply::PartialComplete]).await
}

/// A STATUS of the client's choice, without a 205 after it.
async fn fail(code: Option<&RawValue>, text: Option<&RawValue>, replies: &Replies<'_>) -> Result<Verdict, SendError> {
    let code = code.map_or(Some(500), |code| whole(code, 999.0).and_then(|code| u16::try_from(code).ok()));
    let Some(code) = code.filter(|&code| code >= 100) else {
        let refusal = failed(400, "The code must be a number from 100 to 999".to_owned());
        return replies.send(&[refusal]).await.map(|()| Verdict::Lives);
    };
    let text = text.map_or("Failed at your request".to_owned(), plain);
    replies.send(&[failed(code, text)]).await?;
    Ok(if ENDING.contains(&code) { Verdict::Ends } else { Verdict::Lives })
}

fn failed(code: u16, text: String) -> Reply<'static> {
    Reply::Failed(code, Cow::Owned(text))
}

fn bad_param(call: &Call<'_>, max: f64) -> String {
    format!("Params of {} must be numbers from 0 to {max}", call.method)
}

fn param<'a>(call: &Call<'a>, index: usize) -> Option<&'a RawValue> {
    call.params.get(index).copied()
}

/// The first param as a whole number up to `max`, where there is one.
fn count(call: &Call<'_>, max: f64) -> Result<Option<usize>, Reply<'static>> {
    let Some(raw) = param(call, 0) else { return Ok(None) };
    whole(raw, max).map(Some).ok_or_else(|| failed(400, bad_param(call, max)))
}

/// A JSON string of this many characters.
fn filler(bytes: usize) -> String {
    const ALPHABET: &str = "abcdefghijklmnopqrstuvwxyz";
    quoted(&ALPHABET.chars().cycle().take(bytes).collect::<String>())
}

/// A param's text: a string's own, any other value's JSON.
fn plain(param: &RawValue) -> String {
    serde_json::from_str::<String>(param.get()).unwrap_or_else(|_| param.get().to_owned())
}

/// A param as a number: OpenSRF's clients send numbers and strings of digits alike.
fn number(param: &RawValue) -> Option<f64> {
    plain(param).trim().parse().ok().filter(|number: &f64| number.is_finite())
}

/// A param as a whole number up to `max`.
#[expect(clippy::cast_sign_loss, reason = "the range is checked: 0 to `max`")]
fn whole(param: &RawValue, max: f64) -> Option<usize> {
    number(param).filter(|number| (0.0..=max).contains(number)).map(|number| number as usize)
}

/// A param as a time; absent is none.
fn pause(param: Option<&RawValue>) -> Option<Duration> {
    let seconds = param.map_or(Some(0.0), number)?;
    (0.0..=SLEEP_SECONDS_MAX).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// A number as OpenSRF prints it: without a fraction where there is none.
fn number_text(number: f64) -> Option<String> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        return Some((number as i64).to_string());
    }
    serde_json::Number::from_f64(number).map(|number| number.to_string())
}
