//! Connections to Redis for the router and the services: pops on one of their own, pushes on a shared one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisError};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep, timeout};

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

impl Account {
    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let login = RedisConnectionInfo::default()
            .set_username(&self.user)
            .set_password(&self.password)
            .set_skip_set_lib_name();
        let info = ConnectionAddr::Tcp(self.host.clone(), self.port).into_connection_info()?.set_redis_settings(login);
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_MAX)).set_response_timeout(None);
        Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await
    }
}

/// BLPOP's answer: the list and its element.
type First = Option<(Vec<u8>, Vec<u8>)>;

/// A result that did not come in time.
fn late(what: &'static str) -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, what).into()
}

/// A connection that pops, and does nothing else, for BLPOP holds up whatever follows it.
#[derive(Debug)]
pub(super) struct Popper {
    connection: MultiplexedConnection,
}

impl Popper {
    /// Logs in.
    pub(super) async fn connect(account: &Account) -> Result<Self, RedisError> {
        Ok(Self { connection: account.connect().await? })
    }

    /// Deletes a list.
    pub(super) async fn delete(&mut self, key: &str) -> Result<(), RedisError> {
        let mut command = redis::cmd("DEL");
        command.arg(key);
        timeout(ANSWER_MAX, command.exec_async(&mut self.connection)).await.map_err(|_| late("DEL unanswered"))?
    }

    /// Takes what is in a list, up to `count` elements, without waiting.
    pub(super) async fn take(&mut self, key: &str, count: usize) -> Result<Vec<Vec<u8>>, RedisError> {
        let mut command = redis::cmd("LPOP");
        command.arg(key).arg(count);
        let answer = command.query_async::<Option<Vec<Vec<u8>>>>(&mut self.connection);
        let elements = timeout(ANSWER_MAX, answer).await.map_err(|_| late("LPOP unanswered"))??;
        Ok(elements.unwrap_or_default())
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
        let answer = async {
            if count > 1 {
                commands.query_async::<(First, Option<Vec<Vec<u8>>>)>(&mut self.connection).await
            } else {
                commands.query_async::<(First,)>(&mut self.connection).await.map(|(first,)| (first, None))
            }
        };
        let (first, more) = timeout(answer_max, answer).await.map_err(|_| late("BLPOP unanswered"))??;
        let mut elements: Vec<_> = first.into_iter().map(|(_, element)| element).collect();
        elements.extend(more.unwrap_or_default());
        Ok(elements)
    }
}

/// The connection that one account pushes with; made when first needed and again after a failure.
#[derive(Debug)]
pub(super) struct Pusher {
    account: Account,
    state: Mutex<Pushing>,
}

#[derive(Debug)]
struct Pushing {
    connection: Option<MultiplexedConnection>,
    /// When it was last known to work.
    trusted: Instant,
}

impl Pusher {
    /// A pusher that is not connected yet.
    pub(super) fn new(account: Account) -> Arc<Self> {
        Arc::new(Self { account, state: Mutex::new(Pushing { connection: None, trusted: Instant::now() }) })
    }

    /// The account it uses.
    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// Forgets the connection: a listener has just found that this Redis went away.
    pub(super) async fn forget(&self) {
        self.state.lock().await.connection = None;
    }

    /// Appends each element to its list, in order. Nothing is sent twice: after an error, whatever was not confirmed
    /// is lost.
    pub(super) async fn push(&self, elements: &[(&str, &[u8])]) -> Result<(), RedisError> {
        let mut connection = self.connection().await?;
        let mut commands = redis::pipe();
        for (key, element) in elements {
            commands.cmd("RPUSH").arg(key).arg(element).ignore();
        }
        let pushed = timeout(ANSWER_MAX, commands.query_async::<()>(&mut connection)).await;
        let result = pushed.unwrap_or_else(|_| Err(late("RPUSH unanswered")));
        if result.is_err() {
            self.forget().await;
        }
        result
    }

    async fn connection(&self) -> Result<MultiplexedConnection, RedisError> {
        let mut state = self.state.lock().await;
        if let Some(connection) = &mut state.connection {
            let mut trusted = connection.clone();
            if state.trusted.elapsed() < TRUSTED_FOR {
                return Ok(trusted);
            }
            let mut probe = redis::cmd("DEL");
            probe.arg(format!("opensrf:client:{}:probe", self.account.user));
            if let Ok(Ok(())) = timeout(CONNECT_MAX, probe.exec_async(&mut trusted)).await {
                state.trusted = Instant::now();
                return Ok(trusted);
            }
        }
        let connection = self.account.connect().await?;
        *state = Pushing { connection: Some(connection.clone()), trusted: Instant::now() };
        Ok(connection)
    }
}

/// One account's pushers, by the domain that they reach.
#[derive(Debug, Clone, Default)]
pub(super) struct Domains(HashMap<String, Arc<Pusher>>);

impl Domains {
    /// Adds a domain.
    pub(super) fn insert(&mut self, domain: &str, pusher: Arc<Pusher>) {
        self.0.insert(domain.to_owned(), pusher);
    }

    /// The pusher for a domain.
    pub(super) fn get(&self, domain: &str) -> Option<&Arc<Pusher>> {
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
    pusher: Arc<Pusher>,
    popper: Option<Popper>,
    /// Told once, when the first login has succeeded.
    ready: Option<mpsc::UnboundedSender<()>>,
    /// The error that was logged last, until Redis answers again: the same one is not said again.
    said: Option<String>,
}

impl Listener {
    /// A listener that connects when first asked for messages.
    pub(super) fn new(key: String, pusher: Arc<Pusher>, ready: mpsc::UnboundedSender<()>) -> Self {
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
                    self.pusher.forget().await;
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
            let _ = ready.send(());
        }
        popper.pop(&self.key, Duration::from_secs_f64(LISTEN_SECONDS), count).await
    }
}
