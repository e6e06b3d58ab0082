//! Calls that are timed beside the neighbours': one straight over the bus, past the gateway, and one to the admin page.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use super::background::Background;
use super::latency::{Sample, Samples};
use super::process::http;
use super::site::{DOMAIN, ROUTER};

/// Between two probes. No attack has a period that it divides or is divided by: in step with it, a probe would always come between two blows.
const PERIOD: Duration = Duration::from_millis(23);
/// How long Redis and the service may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A probe at work.
pub struct Probe {
    samples: Samples,
    thread: Background,
}

impl Probe {
    /// Calls `ask` on a schedule; it says whether the right answer came. Where it is late, the next one was due all the same.
    fn start(mut ask: impl FnMut() -> bool + Send + 'static) -> io::Result<Self> {
        let samples = Samples::default();
        let seen = samples.clone();
        let thread = Background::start("probe", move |over| {
            let mut due = Instant::now();
            while !over.load(Relaxed) {
                thread::sleep(due.saturating_duration_since(Instant::now()));
                let is_good = ask();
                seen.append(&mut vec![Sample { due, took: due.elapsed(), is_good }]);
                due += PERIOD;
            }
        })?;
        Ok(Self { samples, thread })
    }

    /// GET `/readyz`.
    pub fn admin(admin: SocketAddr) -> io::Result<Self> {
        Self::start(move || http(admin, "/readyz").is_some())
    }

    /// A sum, over Redis alone, under the gateway's own account.
    pub fn bus(redis: SocketAddr) -> io::Result<Self> {
        let mut direct = None;
        Self::start(move || {
            if direct.is_none() {
                direct = Direct::open(redis).ok();
            }
            let is_good = direct.as_mut().is_some_and(|direct| direct.ask().is_ok());
            if !is_good {
                direct = None;
            }
            is_good
        })
    }

    /// Ends it.
    pub fn finish(mut self) -> Vec<Sample> {
        self.thread.stop();
        self.samples.all()
    }
}

/// A client of the bus.
struct Direct {
    connection: redis::Connection,
    number: u64,
}

impl Direct {
    fn address() -> String {
        format!("opensrf:client:gateway:{DOMAIN}:bench:1:00000000000000000000000000000000")
    }

    fn open(redis: SocketAddr) -> redis::RedisResult<Self> {
        let client = redis::Client::open(format!("redis://gateway:gateway-test@{redis}/"))?;
        let mut connection = client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        redis::cmd("DEL").arg(Self::address()).query::<()>(&mut connection)?;
        Ok(Self { connection, number: 0 })
    }

    fn ask(&mut self) -> redis::RedisResult<()> {
        self.number += 1;
        let (own, thread) = (Self::address(), format!("0.0.0:direct.{}.", self.number));
        let call = format!(
            r#"{{"to":"opensrf:service:_:_:opensrf.math","from":"{own}","thread":"{thread}","osrf_xid":"direct","body":[{{"__c":"osrfMessage","__p":{{"threadTrace":1,"locale":"en-US","ingress":"ws-translator-v2","type":"REQUEST","payload":{{"__c":"osrfMethod","__p":{{"method":"add","params":[1,2]}}}}}}}}]}}"#
        );
        redis::cmd("RPUSH").arg(ROUTER).arg(call).query::<()>(&mut self.connection)?;
        loop {
            let popped: (String, String) = redis::cmd("BLPOP").arg(&own).arg(0).query(&mut self.connection)?;
            if popped.1.contains(&thread) {
                return Ok(());
            }
        }
    }
}
