//! The router and the services: what they do with what they are given, and what they do besides.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::oracle::{ADDRESS, Reply, ReplyMsg};
use crate::random::Random;
use crate::tally::{Tally, What};

pub const ROUTER: &str = "opensrf:client:router:public.localhost:vm:1:aaaa";
/// Workers: on the primary domain, on another that is listed, on one that is not.
pub const WORKERS: [&str; 5] = [
    "opensrf:client:opensrf:public.localhost:vm:2:b0",
    "opensrf:client:opensrf:public.localhost:vm:2:b1",
    "opensrf:client:opensrf:public.localhost:vm:2:b2",
    "opensrf:client:opensrf:private.localhost:vm:3:c0",
    "opensrf:client:opensrf:elsewhere.example:vm:4:d0",
];

/// A message that was pushed, as a worker reads it.
#[derive(Debug, Clone)]
pub struct Job {
    pub to: Option<(u32, u32, u64)>,
    pub thread: String,
    pub xid: String,
    pub service: String,
    /// Kind's first letter, trace.
    pub asks: Vec<(u8, i64)>,
    pub tag: String,
    pub worker: String,
    /// It came by the router.
    pub is_routed: bool,
    /// Messages dealt with.
    pub step: usize,
    /// It still sends so many RESULTs or words of progress before it ends the request under way.
    pub talks: usize,
}

pub fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let from = text.find(before).map_or(0, |at| at + before.len());
    let to = text[from..].find(after).map_or(text.len(), |at| from + at);
    &text[from..to]
}

/// Slot, generation and conversation of a bus thread; none where the gateway would have written it otherwise.
pub fn address(thread: &str) -> Option<(u32, u32, u64)> {
    let mut numbers = thread.split_once(':')?.0.split('.');
    let to = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    thread.starts_with(&format!("{}.{}.{}:", to.0, to.1, to.2)).then_some(to)
}

impl Job {
    pub fn new(message: &[u8]) -> Self {
        let text = String::from_utf8_lossy(message);
        let thread = between(&text, "\"thread\":\"", "\",\"osrf_xid\"").to_owned();
        let asks = text
            .split("\"threadTrace\":")
            .skip(1)
            .map(|rest| {
                let trace = rest.trim_start_matches('"').split(['"', ',']).next().and_then(|n| n.parse().ok());
                (between(rest, "\"type\":\"", "\"").as_bytes()[0], trace.unwrap_or(0))
            })
            .collect();
        Self {
            to: address(&thread),
            thread,
            xid: between(&text, "\"osrf_xid\":", ",\"body\"").to_owned(),
            service: between(&text, "\"to\":\"", "\"").rsplit(':').next().unwrap_or_default().to_owned(),
            asks,
            tag: if text.contains("<c") { format!("<c{}>", between(&text, "<c", ">")) } else { String::new() },
            worker: String::new(),
            is_routed: false,
            step: 0,
            talks: 0,
        }
    }
}

/// The services.
#[derive(Default)]
pub struct Workers {
    open: Vec<Job>,
    done: Vec<Job>,
    /// What was sent, by its number.
    sent: BTreeMap<u64, Rc<Reply>>,
    next: u64,
}

impl Workers {
    pub fn routed(&mut self, mut job: Job, random: &mut Random) {
        // Some workers take the last request first, as OpenSRF's in C do.
        if self.next % 8 == 7 && job.asks.iter().all(|(kind, _)| *kind == b'R') {
            job.asks.reverse();
        }
        job.worker = if job.service == "no.such" { ROUTER } else { WORKERS[random.below(WORKERS.len())] }.to_owned();
        job.is_routed = true;
        self.open.push(job);
    }

    pub fn taken(&mut self, mut job: Job, worker: &str) {
        job.worker = worker.to_owned();
        self.open.push(job);
    }

    /// The reply whose text was popped.
    pub fn sent(&mut self, text: &[u8]) -> Option<Rc<Reply>> {
        let digits: String =
            text.strip_prefix(b"{\"sim\":")?.iter().take_while(|b| b.is_ascii_digit()).map(|b| *b as char).collect();
        self.sent.remove(&digits.parse().ok()?)
    }

    fn msg(random: &mut Random, trace: i64, kind: &str, code: u16, class: &str, content: &str) -> (String, ReplyMsg) {
        let quoted = random.percent(30);
        let code_text = if quoted { format!("\"{code}\"") } else { code.to_string() };
        let payload = format!(
            "{{\"__c\":\"{class}\",\"__p\":{{\"status\":\"s\",\"content\":{{\"a\":[\"{content}\",100000000000000000000001]}},\"statusCode\":{code_text}}}}}"
        );
        let pre = if random.percent(30) {
            format!("{{\"__c\":\"osrfMessage\",\"__p\":{{\"type\":\"{kind}\",\"payload\":{payload},\"threadTrace\":")
        } else {
            "{\"__c\":\"osrfMessage\",\"__p\":{\"threadTrace\":".to_owned()
        };
        let post = if pre.contains("payload") {
            "}}".to_owned()
        } else {
            format!(",\"locale\":\"en-US\",\"type\":\"{kind}\",\"payload\":{payload}}}}}")
        };
        let value = if quoted { format!("\"{trace}\"") } else { trace.to_string() };
        let msg = ReplyMsg {
            status: (kind == "STATUS").then_some(code),
            trace: Some(trace),
            around_trace: (pre.clone(), post.clone()),
            exception: class == "osrfServiceException",
        };
        (format!("{pre}{value}{post}"), msg)
    }

    /// Sends one bus message.
    fn send(&mut self, random: &mut Random, tally: &mut Tally, job: &Job, msgs: Vec<(String, ReplyMsg)>) -> Vec<u8> {
        let (texts, msgs): (Vec<String>, Vec<ReplyMsg>) = msgs.into_iter().unzip();
        let is_array = texts.len() != 1 || !random.percent(10);
        tally.add(What::reply_bare_body, usize::from(!is_array));
        let mut body = if is_array { format!("[{}]", texts.join(",")) } else { texts[0].clone() }.into_bytes();
        let utf8 = !(body.windows(2).any(|two| two == b"<c") && random.percent(2));
        if !utf8 && let Some(at) = body.windows(2).position(|two| two == b"<c") {
            body[at + 1] = 0xff;
        }
        let is_router = job.worker == ROUTER;
        let xid = (!is_router && !random.percent(5)).then(|| job.xid.clone()).filter(|xid| xid != "null");
        let xid_text = xid.clone().unwrap_or_else(|| "null".to_owned());
        let number = self.next;
        self.next += 1;
        let thread = if random.percent(30) { job.thread.replace('\u{e9}', "\\u00e9") } else { job.thread.clone() };
        let (thread_member, from_member) = (format!("\"thread\":\"{thread}\""), format!("\"from\":\"{}\"", job.worker));
        let rest = if random.percent(50) {
            format!("\"to\":\"{ADDRESS}\",{from_member},{thread_member},\"osrf_xid\":{xid_text},")
        } else {
            format!("{thread_member},\"osrf_xid\":{xid_text},{from_member},\"to\":\"{ADDRESS}\",")
        };
        let mut text = format!("{{\"sim\":{number},{rest}\"body\":").into_bytes();
        text.extend_from_slice(&body);
        let readable = !random.percent(1) || !random.percent(30);
        if readable {
            text.push(b'}');
        }
        let reply = Reply {
            to: job.to,
            thread: job.thread.clone(),
            from: job.worker.clone(),
            is_router,
            xid,
            msgs,
            body,
            is_array,
            utf8,
            readable,
        };
        self.sent.insert(number, Rc::new(reply));
        text
    }

    /// A worker has its turn. `odd`: it does what it should not, or what is rare.
    pub fn work(&mut self, odd: bool, random: &mut Random, tally: &mut Tally) -> Vec<Vec<u8>> {
        if odd && random.percent(60) {
            return self.old(random, tally);
        }
        if self.open.is_empty() {
            return Vec::new();
        }
        // Workers are not in step: any of the first few.
        let at = random.below(self.open.len().min(6));
        let mut job = self.open.remove(at);
        let Some(&(kind, trace)) = job.asks.get(job.step) else { return Vec::new() };
        let mut replies = Vec::new();
        if job.worker == ROUTER {
            let (_, mut msg) = Self::msg(random, 1, "STATUS", 404, "osrfServiceException", "");
            msg.trace = Some(1);
            let text = format!("{}\"1\"{}", msg.around_trace.0, msg.around_trace.1);
            replies.push(self.send(random, tally, &job, vec![(text, msg)]));
            return replies;
        }
        if kind == b'R' && (job.talks > 0 || random.percent(8)) {
            job.talks = if job.talks > 0 { job.talks - 1 } else { 1 + random.below(16) };
            let msg = if random.percent(60) {
                Self::msg(random, trace, "RESULT", 200, "osrfResult", &job.tag)
            } else {
                let code = [100, 202][random.below(2)];
                Self::msg(random, trace, "STATUS", code, "osrfStatus", "")
            };
            replies.push(self.send(random, tally, &job, vec![msg]));
            // The others have their turns before it goes on.
            self.open.push(job);
            return replies;
        }
        let code = match (odd, random.below(12)) {
            (true, 0) => 307,
            (true, 1) => 417,
            // In a session.
            (_, 2) if !job.is_routed => [307, 417, 408, 500][random.below(4)],
            (true, 2 | 3) => 500,
            (true, 4) => 404,
            (true, 5) => 408,
            (true, 6..=9) => 0,
            _ if kind == b'C' => 200,
            (_, 0) => 404,
            _ => 205,
        };
        job.step += 1;
        if kind != b'D' && code > 0 {
            let mut msgs = Vec::new();
            if kind == b'R' && code == 205 {
                let results = 1 + random.below(3);
                tally.add(What::reply_streamed, usize::from(results > 1));
                for _ in 0..results {
                    let result = Self::msg(random, trace, "RESULT", 200, "osrfResult", &job.tag);
                    if random.percent(50) {
                        replies.push(self.send(random, tally, &job, vec![result]));
                    } else {
                        msgs.push(result);
                    }
                }
            }
            let class = if code >= 300 { "osrfMethodException" } else { "osrfConnectStatus" };
            msgs.push(Self::msg(random, trace, "STATUS", code, class, ""));
            replies.push(self.send(random, tally, &job, msgs));
        }
        if job.step < job.asks.len() {
            self.open.insert(at.min(self.open.len()), job);
        } else {
            self.done.push(job);
            if self.done.len() > 24 {
                self.done.remove(random.below(8));
            }
        }
        replies
    }

    /// Something about a job that was done before: late, twice, a keep-alive that ran out, a 200 for nobody.
    fn old(&mut self, random: &mut Random, tally: &mut Tally) -> Vec<Vec<u8>> {
        if self.done.is_empty() {
            return Vec::new();
        }
        let mut job = self.done[random.below(self.done.len())].clone();
        let (_, trace) = job.asks[random.below(job.asks.len())];
        if random.percent(4) {
            let thread = ["", "x", "1.2:t", "99.0.0:t", "0.0.0", "0.0.01:a", "4294967296.0.0:"][random.below(7)];
            job.thread = thread.to_owned();
            job.to = address(thread);
        }
        if random.percent(10) {
            job.worker = WORKERS[random.below(WORKERS.len())].to_owned();
        }
        tally.one(What::reply_duplicate);
        let msgs = match random.below(7) {
            // The keep-alive ran out: C services say 0, Perl ones the last request's number.
            0 | 1 => {
                let trace = if random.percent(50) { 0 } else { trace };
                vec![Self::msg(random, trace, "STATUS", 408, "osrfConnectStatus", "")]
            }
            2 => vec![Self::msg(random, trace, "STATUS", 200, "osrfConnectStatus", "")],
            3 => vec![Self::msg(random, trace, "STATUS", 205, "osrfConnectStatus", "")],
            4 => vec![Self::msg(random, trace, "STATUS", 100, "osrfStatus", "")],
            5 => vec![
                Self::msg(random, trace, "RESULT", 200, "osrfResult", &job.tag),
                Self::msg(random, trace, "STATUS", 205, "osrfConnectStatus", ""),
            ],
            _ => vec![Self::msg(random, trace, "RESULT", 206, "osrfResult", &job.tag)],
        };
        vec![self.send(random, tally, &job, msgs)]
    }
}
