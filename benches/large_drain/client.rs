//! What one client does: nothing, one request, a session, or one large reply that it reads slowly. Then it waits for its Close.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::clock::unix_ms;
use super::connection::{Connection, Frame};
use super::messages::{Random, connect, content, disconnect, is_connected, large, request};

/// From this stage on there are sessions and large replies.
const HELD: u32 = 1;
/// From this stage on the requests are in flight, and sessions have their time.
const ASKED: u32 = 2;
/// The least time that a reply takes, ms: the signal comes within it.
pub const LEAD_MS: u64 = 3_000;
/// The time beyond that, ms: any up to this.
const LATER_MS: u64 = 20_000;
/// How long a session lasts, ms.
const SESSION_MS: [u64; 2] = [20_000, 40_000];
/// Between two requests in a session, ms.
const SESSION_PAUSE_MS: [u64; 2] = [2_000, 6_000];
/// The most that a request in a session takes, ms.
const SESSION_REPLY_MS: u64 = 500;
/// Bytes of a large reply.
pub const LARGE_BYTES: usize = 3_000_000;
/// Bytes of it that a slow reader takes in a second.
pub const SLOW_RATE: u32 = 150_000;

/// What a client is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Asks nothing.
    Idle,
    /// Has a request in flight at the signal.
    Asking,
    /// Has a session, asks now and then, and ends it by itself.
    Session,
    /// Reads one large reply slowly.
    Slow,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Idle, Self::Asking, Self::Session, Self::Slow];

    /// In a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Asking => "a request in flight",
            Self::Session => "in a session",
            Self::Slow => "a slow reader",
        }
    }
}

/// What came of one client. Times are milliseconds since 1970.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// What it was there for.
    pub part: Part,
    /// Requests sent, CONNECTs among them.
    pub asked: u32,
    /// Replies that came whole and were the right ones.
    pub answered: u32,
    /// When it had all that it was there for: its last reply, or its own DISCONNECT. None: that was nothing, or it never had it.
    pub done_ms: Option<u64>,
    /// When its Close came, with 1012 and after all that.
    pub closed_ms: Option<u64>,
    /// What else happened.
    pub failure: Option<String>,
}

/// One client.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// What it is there for.
    pub part: Part,
    /// Its own number.
    pub number: u32,
    /// For whatever is left to chance.
    pub seed: u64,
}

impl Client {
    /// Plays it to the end of its connection.
    pub async fn play(self, gateway: SocketAddr, connecting: Arc<Semaphore>, stages: watch::Receiver<u32>) -> Outcome {
        let mut outcome =
            Outcome { part: self.part, asked: 0, answered: 0, done_ms: None, closed_ms: None, failure: None };
        let played = async {
            let rate = (self.part == Part::Slow).then_some(SLOW_RATE);
            let permit = connecting.acquire().await.map_err(io::Error::other)?;
            let mut connection = Connection::open(self.number, gateway, rate).await?;
            drop(permit);
            let mut player = Player {
                connection: &mut connection,
                stages,
                random: Random::new(self.seed, self.number),
                client: self.number,
                thread: format!("bench.{}", self.number),
                outcome: &mut outcome,
            };
            match self.part {
                Part::Idle => {}
                Part::Asking => player.ask().await?,
                Part::Session => player.hold_session().await?,
                Part::Slow => player.read_slowly().await?,
            }
            match connection.next().await? {
                Frame::Close(1012) => outcome.closed_ms = Some(unix_ms()),
                Frame::Close(code) => return Err(io::Error::other(format!("closed with {code}"))),
                Frame::Text(_) => return Err(io::Error::other("a message behind its last reply")),
            }
            connection.end().await
        };
        let played: io::Result<()> = played.await;
        outcome.failure = played.err().map(|error| error.to_string());
        outcome
    }
}

/// A client at work.
struct Player<'c> {
    connection: &'c mut Connection,
    stages: watch::Receiver<u32>,
    random: Random,
    client: u32,
    thread: String,
    outcome: &'c mut Outcome,
}

impl Player<'_> {
    async fn ask(&mut self) -> io::Result<()> {
        self.stage(ASKED).await?;
        let wait = LEAD_MS + self.random.between(0, LATER_MS);
        self.request(0, "later", &format!("[{wait},{}]", self.client), |client| client.into()).await
    }

    async fn read_slowly(&mut self) -> io::Result<()> {
        self.stage(HELD).await?;
        let expected = |client| large(client, LARGE_BYTES).into();
        self.request(0, "large", &format!("[{LARGE_BYTES},{}]", self.client), expected).await
    }

    async fn hold_session(&mut self) -> io::Result<()> {
        self.stage(HELD).await?;
        self.send(&connect(&self.thread))?;
        if !is_connected(&self.connection.message().await?, &self.thread) {
            return Err(io::Error::other("no session"));
        }
        self.outcome.answered += 1;
        self.stage(ASKED).await?;
        let end = Instant::now() + self.milliseconds(SESSION_MS);
        let mut requests = 0;
        loop {
            let pause = self.milliseconds(SESSION_PAUSE_MS);
            if Instant::now() + pause > end {
                break;
            }
            self.connection.quiet_until(sleep(pause)).await?;
            requests += 1;
            let wait = self.random.between(0, SESSION_REPLY_MS);
            self.request(requests, "counter", &format!("[{wait}]"), |_| requests.into()).await?;
        }
        self.connection.quiet_until(sleep_until(end)).await?;
        self.connection.send(&disconnect(&self.thread, requests + 1))?;
        self.outcome.done_ms = Some(unix_ms());
        Ok(())
    }

    /// Sends a request and checks its reply against what this client must get.
    async fn request(
        &mut self,
        trace: u64,
        method: &str,
        params: &str,
        expected: impl FnOnce(u32) -> Value,
    ) -> io::Result<()> {
        self.send(&request(&self.thread, trace, method, params))?;
        let reply = self.connection.message().await?;
        // Before it is looked through, which takes a moment where it is long.
        self.outcome.done_ms = Some(unix_ms());
        if content(&reply, &self.thread, trace) != Some(expected(self.client)) {
            return Err(io::Error::other(format!(
                "not its reply: {}",
                String::from_utf8_lossy(&reply[..reply.len().min(300)])
            )));
        }
        self.outcome.answered += 1;
        Ok(())
    }

    fn send(&mut self, text: &str) -> io::Result<()> {
        self.outcome.asked += 1;
        self.connection.send(text)
    }

    /// Waits until all are told to go on.
    async fn stage(&mut self, stage: u32) -> io::Result<()> {
        let reached = async { self.stages.wait_for(|reached| *reached >= stage).await.map(drop) };
        self.connection.quiet_until(reached).await?.map_err(io::Error::other)
    }

    fn milliseconds(&mut self, [least, end]: [u64; 2]) -> Duration {
        Duration::from_millis(self.random.between(least, end))
    }
}
