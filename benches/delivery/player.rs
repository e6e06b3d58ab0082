//! Plays one case: asks for the reply, does what the case says, and reads to the end.

use std::io;
use std::net::SocketAddr;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use crate::case::{Behaviour, Case, Way};
use crate::slow::{End, Seen, Slow, has_big};

/// The longest wait for the first byte of the reply, with all the others beside it.
const FIRST_BYTE: Duration = Duration::from_mins(1);
/// How long an end may take beyond what the reply takes at its rate.
const SLACK: Duration = Duration::from_mins(1);

/// What a client got.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its case.
    pub case: Case,
    /// Whether the large reply came whole.
    pub is_whole: bool,
    /// Bytes that it got.
    pub bytes: u64,
    /// Requests that it sent beside, and their answers.
    pub asked: u32,
    /// Of those, how many were answered.
    pub answered: u32,
    /// The code of the Close.
    pub code: Option<u16>,
    /// How the stream ended; none where it had not in its time.
    pub end: Option<End>,
    /// From the request to the end.
    pub seconds: f64,
}

/// Plays a case. `begun` is where all wait for one another: at it every reply has begun.
pub fn play(case: Case, address: SocketAddr, begun: &Barrier) -> Outcome {
    let ready = begin(case, address);
    // Also where it failed: the others wait.
    begun.wait();
    let start = Instant::now();
    let mut slow = match ready {
        Ok(slow) => slow,
        Err(error) => {
            eprintln!("{}: {error}", case.name());
            return Outcome {
                case,
                is_whole: false,
                bytes: 0,
                asked: 0,
                answered: 0,
                code: None,
                end: None,
                seconds: 0.0,
            };
        }
    };
    let limit = start + case.time() + SLACK;
    // A few times within the reply, and as the issue has it: after five seconds.
    let pause = (case.time() / 4).min(Duration::from_secs(5));
    let mut asked = 0;
    let mut has_acted = false;
    while slow.seen.end.is_none() && Instant::now() < limit {
        slow.read_until(pause, |seen| seen.close.is_some());
        if slow.seen.close.is_some() {
            slow.read_until(limit.saturating_duration_since(Instant::now()), |_| false);
            break;
        }
        let is_whole = slow.seen.texts.iter().any(|text| text.len() > case.bytes);
        match case.behaviour {
            Behaviour::Pinging => slow.ping(),
            Behaviour::Asking if !is_whole => {
                asked += 1;
                slow.text(&request("opensrf.math", &format!("a{asked}"), "add", "[1,2]"));
            }
            Behaviour::HalfClosing if !has_acted => slow.finish(),
            Behaviour::Closing if !has_acted => slow.close(1000),
            _ => {}
        }
        has_acted = true;
        let answered = slow.seen.texts.len() as u32 > asked;
        if case.way == Way::Alive && is_whole && answered && !matches!(case.behaviour, Behaviour::HalfClosing) {
            // Served to the end: now it goes by itself, once.
            if case.behaviour != Behaviour::Closing {
                slow.close(1000);
            }
            slow.read_until(limit.saturating_duration_since(Instant::now()), |_| false);
            break;
        }
    }
    let seen = &slow.seen;
    Outcome {
        case,
        is_whole: has_big(&seen.texts, case.bytes),
        bytes: seen.bytes,
        asked,
        answered: seen.texts.iter().filter(|text| text.contains(r#""thread":"a"#) && text.contains("205")).count()
            as u32,
        code: seen.code(),
        end: seen.end,
        seconds: start.elapsed().as_secs_f64(),
    }
}

/// Connects, asks, and sees the beginning of the reply.
fn begin(case: Case, address: SocketAddr) -> io::Result<Slow> {
    let mut slow = Slow::connect(address, case.rate)?;
    slow.text(&request("opensrf.demo", "big", "opensrf.demo.big", &format!("[{}]", case.bytes)));
    if slow.read_until(FIRST_BYTE, Seen::has_begun) {
        return Ok(slow);
    }
    Err(io::Error::other(format!("nothing of the reply, {:?}", slow.seen.end)))
}

fn request(service: &str, thread: &str, method: &str, params: &str) -> String {
    format!(
        r#"{{"service":"{service}","thread":"{thread}","osrf_msg":[{{"__c":"osrfMessage","__p":{{"threadTrace":0,"type":"REQUEST","payload":{{"__c":"osrfMethod","__p":{{"method":"{method}","params":{params}}}}}}}}}]}}"#
    )
}
