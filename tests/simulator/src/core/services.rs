//! The router and the services: every message of theirs has a number, by which it is known at the client.

use crate::oracle::ADDRESS;
use crate::random::Random;
use crate::workers::{Job, ROUTER, WORKERS, between};

/// Workers whose domains may be dialled.
const DIALLED: usize = 4;

/// Whose message an `osrf_xid` is, and at which byte of what it said that began; none where the gateway made it up.
pub fn said_by(xid: &str) -> Option<(usize, u64)> {
    let (id, at) = xid.strip_prefix("\"x")?.trim_end_matches('"').split_once('.')?;
    Some((id.parse().ok()?, at.parse().ok()?))
}

/// What a client is sent carries its own number, and that of the message.
pub fn marks(text: &[u8]) -> impl Iterator<Item = (usize, Option<u64>)> + '_ {
    memchr::memmem::find_iter(text, b"<c").map(|at| {
        let number = |from: &[u8]| -> (u64, usize) {
            let digits = from.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (from[..digits].iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0')), digits)
        };
        let (id, digits) = number(&text[at + 2..]);
        let rest = &text[at + 2 + digits..];
        (id as usize, rest.strip_prefix(b">#").map(|rest| number(rest).0))
    })
}

/// What waits to be done.
#[derive(Default)]
pub struct Services {
    open: Vec<Job>,
    /// Messages sent.
    pub sent: u64,
}

impl Services {
    /// The router has taken a message.
    pub fn routed(&mut self, message: &[u8], random: &mut Random) {
        let mut job = Job::new(message);
        job.worker = if job.service == "no.such" { ROUTER } else { WORKERS[random.below(DIALLED)] }.to_owned();
        self.open.push(job);
    }

    /// A worker has taken a message of its session.
    pub fn taken(&mut self, message: &[u8], worker: &str) {
        let mut job = Job::new(message);
        job.worker = worker.to_owned();
        self.open.push(job);
    }

    /// Whether somebody has something to do.
    pub fn is_busy(&self) -> bool {
        !self.open.is_empty()
    }

    /// One does the next of what it has to do: what it sends.
    pub fn work(&mut self, random: &mut Random) -> Option<Vec<u8>> {
        let among = self.open.len().min(6);
        if among == 0 {
            return None;
        }
        let at = random.below(among);
        let job = &mut self.open[at];
        if job.worker == ROUTER {
            let job = self.open.remove(at);
            return Some(self.send(&job, 1, "STATUS", 404, "osrfServiceException"));
        }
        let Some(&(kind, trace)) = job.asks.get(job.step) else {
            self.open.remove(at);
            return None;
        };
        let (word, code) = match kind {
            b'C' => ("STATUS", 200),
            b'D' => ("", 0),
            _ if job.talks == 0 && random.percent(40) => {
                job.talks = 1 + random.below(5);
                ("RESULT", 200)
            }
            _ if job.talks > 1 => {
                job.talks -= 1;
                if random.percent(80) { ("RESULT", 200) } else { ("STATUS", 100) }
            }
            _ => ("STATUS", if random.percent(90) { 205 } else { 500 }),
        };
        let is_last = word != "RESULT" && code != 100;
        if is_last {
            job.talks = 0;
            job.step += 1;
        }
        let job = job.clone();
        if is_last && job.step == job.asks.len() {
            self.open.remove(at);
        }
        (code > 0)
            .then(|| self.send(&job, trace, word, code, if word == "RESULT" { "osrfResult" } else { "osrfStatus" }))
    }

    fn send(&mut self, job: &Job, trace: i64, kind: &str, code: u16, class: &str) -> Vec<u8> {
        self.sent += 1;
        let owner = said_by(&job.xid).map_or(usize::MAX, |(id, _)| id);
        // What the router says may reach the client several times, once for each of its requests.
        let number = if job.worker == ROUTER { String::new() } else { format!("#{};", self.sent) };
        // Two long ones in a row, of which the second has nothing before its body that could be overwritten.
        let place = self.sent % 9;
        let filling = "x".repeat(if place < 2 { self.sent as usize % 700 } else { 0 });
        let addresses = format!(
            "\"to\":\"{ADDRESS}\",\"from\":\"{}\",\"thread\":\"{}\",\"osrf_xid\":{}",
            job.worker, job.thread, job.xid
        );
        let body = format!(
            "\"body\":[{{\"__c\":\"osrfMessage\",\"__p\":{{\
             \"threadTrace\":\"{trace}\",\"locale\":\"en-US\",\"type\":\"{kind}\",\"payload\":{{\"__c\":\"{class}\",\"__p\":{{\
             \"status\":\"s\",\"statusCode\":\"{code}\",\"content\":\"<c{owner}>{number}{filling}\"}}}}}}}}]"
        );
        let (first, last) = if place == 1 { (body, addresses) } else { (addresses, body) };
        format!("{{{first},{last}}}").into_bytes()
    }
}

/// A message on its way to the bus, as it must be read.
pub struct Pushed<'a> {
    pub thread: &'a str,
    pub xid: &'a str,
    /// From the body's value on.
    pub body: &'a str,
}

impl<'a> Pushed<'a> {
    pub fn read(text: &'a str) -> Self {
        Self {
            thread: between(text, "\"thread\":\"", "\",\"osrf_xid\""),
            xid: between(text, "\"osrf_xid\":", ",\"body\""),
            body: text.split_once(",\"body\":").map_or("", |(_, body)| body),
        }
    }
}
