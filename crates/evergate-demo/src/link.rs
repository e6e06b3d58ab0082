//! Connections to Redis for the router and the services: pops on one of their own, pushes on a shared one.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use async_lock::Mutex;
use futures_channel::{mpsc, oneshot};
use futures_util::future::{Either, select};
use monoio::time::{Instant, sleep, timeout};
use redis::{FromRedisValue, RedisError, Value};

use super::redis_client::Connection;

/// First and longest pause between two attempts to reach Redis: services are back within a second of its return.
const BACKOFF: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(320);
/// Longest wait for a connection to be made. Long, too: a reply whose connection is not made in time is lost.
const CONNECT_MAX: Duration = Duration::from_secs(30);
/// Longest wait for the answer to a command that does not block.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Time beyond a BLPOP's own time-out after which its connection counts as dead. Long: on a starved host five seconds passed
/// with nothing wrong, and what Redis hands to a connection that was given up is lost.
const POP_GRACE: Duration = Duration::from_mins(1);
/// Seconds that one BLPOP of a listener waits: a dead host is noticed, an idle one costs nothing.
const LISTEN_SECONDS: f64 = 20.0;
/// Idle time after which a pushing connection is tried before it is trusted: Redis may have closed it for idleness, and
/// a push that fails may not be repeated.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// Where a Redis is and who logs in.
#[derive(Clone)]
pub(super) struct Account {
    /// Host name or address.
    pub(super) host: String,
    /// TCP port.
    pub(super) port: u16,
    /// User of the ACL.
    pub(super) user: String,
    /// Its password.
    pub(super) password: String,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}@{}:{}", self.user, self.host, self.port)
    }
}

/// BLPOP's answer: the list and its element.
type First = Option<(Vec<u8>, Vec<u8>)>;

/// Waits for an answer, for at most `limit`; the error after that says `late`.
async fn within<T>(
    limit: Duration,
    late: &'static str,
    answer: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, RedisError> {
    match timeout(limit, answer).await {
        Ok(result) => result,
        Err(_elapsed) => Err(std::io::Error::new(std::io::ErrorKind::TimedOut, late).into()),
    }
}

/// Connects and logs in.
async fn connect(account: &Account) -> Result<Connection, RedisError> {
    within(CONNECT_MAX, "no connection in time", Connection::open(account)).await
}

/// An answer as what it stands for; a refusal is an error.
fn read<T: FromRedisValue>(answer: Value) -> Result<T, RedisError> {
    Ok(redis::from_redis_value(answer.extract_error()?)?)
}

/// A connection that pops, and does nothing else, for BLPOP holds up whatever follows it.
#[derive(Debug)]
pub(super) struct Popper {
    connection: Connection,
}

impl Popper {
    /// Logs in.
    pub(super) async fn connect(account: &Account) -> Result<Self, RedisError> {
        Ok(Self { connection: connect(account).await? })
    }

    /// Deletes a list.
    pub(super) async fn delete(&mut self, key: &str) -> Result<(), RedisError> {
        let command = redis::cmd("DEL").arg(key).get_packed_command();
        within(ANSWER_MAX, "DEL unanswered", self.connection.ask(command, 1)).await?.into_iter().try_for_each(read)
    }

    /// Takes what is in a list, up to `count` elements, without waiting.
    pub(super) async fn take(&mut self, key: &str, count: usize) -> Result<Vec<Vec<u8>>, RedisError> {
        let command = redis::cmd("LPOP").arg(key).arg(count).get_packed_command();
        let answers = within(ANSWER_MAX, "LPOP unanswered", self.connection.ask(command, 1)).await?;
        let mut elements = Vec::new();
        for answer in answers {
            elements.extend(read::<Option<Vec<Vec<u8>>>>(answer)?.unwrap_or_default());
        }
        Ok(elements)
    }

    /// Waits up to `wait` for an element and takes up to `count - 1` more with it. The popper is to be dropped after an
    /// error: its connection may still hold a BLPOP.
    pub(super) async fn pop(&mut self, key: &str, wait: Duration, count: usize) -> Result<Vec<Vec<u8>>, RedisError> {
        let answer_max = wait + POP_GRACE;
        // Zero would wait for ever.
        let seconds = wait.as_secs_f64().max(0.001);
        let mut commands = redis::pipe();
        commands.cmd("BLPOP").arg(key).arg(seconds);
        if count > 1 {
            commands.cmd("LPOP").arg(key).arg(count - 1);
        }
        let asked = self.connection.ask(commands.get_packed_pipeline(), commands.len());
        let mut answers = within(answer_max, "BLPOP unanswered", asked).await?.into_iter();
        let mut elements = Vec::new();
        if let Some(first) = answers.next() {
            elements.extend(read::<First>(first)?.map(|(_, element)| element));
        }
        for more in answers {
            elements.extend(read::<Option<Vec<Vec<u8>>>>(more)?.unwrap_or_default());
        }
        Ok(elements)
    }
}

/// The connection that one account pushes with; made when first needed and again after a failure.
#[derive(Debug)]
pub(super) struct Pusher {
    account: Account,
    /// Pushes that came while the connection was in use: whoever gets it next sends them all in one write.
    waiting: RefCell<Waiting>,
    state: Mutex<Pushing>,
    /// The connection is not to be used again.
    is_forgotten: Cell<bool>,
}

#[derive(Debug)]
struct Pushing {
    /// Not there while it is in use: what was given up in the middle is of no use any more.
    connection: Option<Connection>,
    /// When it was last known to work.
    trusted: Instant,
}

/// Pushes that have not been sent.
#[derive(Debug, Default)]
struct Waiting {
    /// Their commands, spelled.
    commands: Vec<u8>,
    /// For each push its number of commands, and who hears what became of them.
    senders: Vec<(usize, oneshot::Sender<Result<(), RedisError>>)>,
}

impl Pusher {
    /// A pusher that is not connected yet.
    pub(super) fn new(account: Account) -> Rc<Self> {
        let state = Mutex::new(Pushing { connection: None, trusted: Instant::now() });
        Rc::new(Self { account, waiting: RefCell::default(), state, is_forgotten: Cell::new(false) })
    }

    /// The account it uses.
    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// Forgets the connection: a listener has just found that this Redis went away.
    pub(super) fn forget(&self) {
        self.is_forgotten.set(true);
    }

    /// Appends each element, of one at least, to its list, in order. Nothing is sent twice: after an error, whatever
    /// was not confirmed is lost.
    pub(super) async fn push(&self, elements: &[(&str, &[u8])]) -> Result<(), RedisError> {
        let (told, mut result) = oneshot::channel();
        {
            let mut waiting = self.waiting.borrow_mut();
            for (key, element) in elements {
                redis::cmd("RPUSH").arg(key).arg(element).write_packed_command(&mut waiting.commands);
            }
            waiting.senders.push((elements.len(), told));
        }
        // Either the connection is free, or who has it sends this as well.
        let sent = match select(pin!(self.state.lock()), &mut result).await {
            Either::Left((mut state, _)) => {
                self.send_waiting(&mut state).await;
                drop(state);
                result.await
            }
            Either::Right((sent, _)) => sent,
        };
        sent.unwrap_or_else(|_cancelled| Err(std::io::Error::other("given up before it was sent").into()))
    }

    /// Sends whatever waits and tells each of its senders.
    async fn send_waiting(&self, state: &mut Pushing) {
        let Waiting { commands, senders } = self.waiting.take();
        if senders.is_empty() {
            return;
        }
        let count = senders.iter().map(|(count, _)| count).sum();
        let answers = async {
            let mut connection = self.connection(state).await?;
            let answers = within(ANSWER_MAX, "RPUSH unanswered", connection.ask(commands, count)).await?;
            state.connection = Some(connection);
            Ok::<_, RedisError>(answers.into_iter())
        };
        let mut answers = answers.await;
        for (count, told) in senders {
            let result = match &mut answers {
                Ok(answers) => answers.by_ref().take(count).try_for_each(read),
                Err(error) => Err(error.clone()),
            };
            // Who has stopped waiting need not know.
            let _ = told.send(result);
        }
    }

    /// Takes the connection out of the state, a new one if need be.
    async fn connection(&self, state: &mut Pushing) -> Result<Connection, RedisError> {
        let is_forgotten = self.is_forgotten.take();
        if let Some(mut connection) = state.connection.take().filter(|_| !is_forgotten) {
            if state.trusted.elapsed() < TRUSTED_FOR {
                return Ok(connection);
            }
            let key = format!("opensrf:client:{}:probe", self.account.user);
            let probe = redis::cmd("DEL").arg(key).get_packed_command();
            let answers = within(CONNECT_MAX, "DEL unanswered", connection.ask(probe, 1)).await;
            if answers.is_ok_and(|answers| answers.into_iter().try_for_each(read::<()>).is_ok()) {
                state.trusted = Instant::now();
                return Ok(connection);
            }
        }
        let connection = connect(&self.account).await?;
        state.trusted = Instant::now();
        Ok(connection)
    }
}

/// One account's pushers, by the domain that they reach.
#[derive(Debug, Clone, Default)]
pub(super) struct Domains(HashMap<String, Rc<Pusher>>);

impl Domains {
    /// Adds a domain.
    pub(super) fn insert(&mut self, domain: &str, pusher: Rc<Pusher>) {
        self.0.insert(domain.to_owned(), pusher);
    }

    /// The pusher for a domain.
    pub(super) fn get(&self, domain: &str) -> Option<&Rc<Pusher>> {
        self.0.get(domain)
    }

    /// Pushes a message to a client's address, on the Redis of the domain that the address names.
    pub(super) async fn send(&self, address: &str, message: &[u8]) -> Result<(), SendError> {
        let domain = address.strip_prefix("opensrf:client:").and_then(|rest| rest.split(':').nth(1));
        let pusher = domain.and_then(|domain| self.get(domain)).ok_or(SendError::UnknownDomain)?;
        pusher.push(&[(address, message)]).await.map_err(SendError::Redis)
    }
}

/// Why a message could not be sent.
#[derive(Debug)]
pub(super) enum SendError {
    /// The address is no client's, or names a domain that these services do not reach.
    UnknownDomain,
    /// Redis is away or refused it.
    Redis(RedisError),
}

impl std::fmt::Display for SendError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownDomain => formatter.write_str("its address names a domain that is not served here"),
            Self::Redis(error) => error.fmt(formatter),
        }
    }
}

/// A listener on one list that outlives its Redis: it reconnects for as long as it takes.
#[derive(Debug)]
pub(super) struct Listener {
    /// The list.
    key: String,
    /// Account to pop with, and the pusher to reset when the Redis went away.
    pusher: Rc<Pusher>,
    popper: Option<Popper>,
    /// Told once, when the first login has succeeded.
    ready: Option<mpsc::UnboundedSender<()>>,
    /// The error that was logged last, until Redis answers again: the same one is not said again.
    said: Option<String>,
}

impl Listener {
    /// A listener that connects when first asked for messages.
    pub(super) fn new(key: String, pusher: Rc<Pusher>, ready: mpsc::UnboundedSender<()>) -> Self {
        Self { key, pusher, popper: None, ready: Some(ready), said: None }
    }

    /// Waits for at least one message; returns at most `count`.
    pub(super) async fn messages(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut backoff = BACKOFF;
        loop {
            let result = self.attempt(count).await;
            if result.is_ok() && self.said.take().is_some() {
                tracing::info!("{:?} reads {} again", self.pusher.account(), self.key);
            }
            match result {
                Ok(messages) if messages.is_empty() => {}
                Ok(messages) => return messages,
                Err(error) => {
                    let error = error.to_string();
                    if self.said.as_ref() != Some(&error) {
                        let account = self.pusher.account();
                        let text = error.trim_end_matches('.');
                        tracing::warn!("{account:?} cannot read {}: {text}; trying again", self.key);
                        self.said = Some(error);
                    }
                    self.popper = None;
                    self.pusher.forget();
                    sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
            }
        }
    }

    async fn attempt(&mut self, count: usize) -> Result<Vec<Vec<u8>>, RedisError> {
        let popper = match &mut self.popper {
            Some(popper) => popper,
            empty => empty.insert(Popper::connect(self.pusher.account()).await?),
        };
        if let Some(ready) = self.ready.take() {
            // Nobody waits for readiness any more: no matter.
            let _ = ready.unbounded_send(());
        }
        popper.pop(&self.key, Duration::from_secs_f64(LISTEN_SECONDS), count).await
    }
}
