//! Where the listening sockets of a process come from, and its predecessor, if it has one.
//!
//! They are bound here, or come from the service manager, or from the process that this one succeeds: that serves on until this one
//! is ready, and if it never is, as if nothing had been.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use super::control::client::{self, AskError, Connection, Taken};
use super::listeners::{Given, ListenError, Listeners, Sources, place_of};
use super::shared::Shared;
use crate::admin;
use crate::bounded;
use crate::check;
use crate::config::{self, Config, Listen, ListenAt, Loaded};

/// How long a process that ends is waited for, and how often that is looked at.
const ENDING_MAX: Duration = Duration::from_secs(10);
const ENDING_LOOK: Duration = Duration::from_millis(100);

/// What a process listens on.
#[derive(Debug)]
pub struct Sockets {
    /// For clients.
    pub listeners: Listeners,
    /// For the admin page, if there is one.
    pub admin: Option<TcpListener>,
    /// Whom this process succeeds.
    pub predecessor: Option<Predecessor>,
}

impl Sockets {
    /// Opens them, on a host that can serve.
    pub fn open(loaded: &Loaded) -> Result<Self, String> {
        let config = &loaded.config;
        check::host_usable().map_err(|error| format!("host: {error}"))?;
        let besides = config::Descriptors::of(config).besides_clients(config::Host::ask().nofile);
        config::widen_descriptors(config.clients_max as u64 + besides);
        let kept = Listeners::of_service_manager()
            .map_err(|error| format!("host: the sockets of LISTEN_FDS cannot be used: {error}"))?;
        let wanted = wanted(config, &kept);
        if !kept.is_empty() {
            tracing::info!("listening at {}, which the service manager keeps", config::in_a_line(&wanted));
        }
        let taken = if loaded.replaces { ask(config, &wanted)? } else { None };
        match taken {
            Some(taken) => Self::of_predecessor(config, taken, &wanted, kept),
            None => Ok(Self {
                listeners: open(config, &wanted, Sources { kept, ..Sources::default() })
                    .map_err(|why| why + &found(config))?,
                admin: config.admin.map(bind_admin).transpose()?,
                predecessor: None,
            }),
        }
    }

    /// Those of a process that serves, as far as the configuration names them; where the service manager has passed some (`kept`), those.
    fn of_predecessor(config: &Config, taken: Taken, wanted: &[Listen], mut kept: Given) -> Result<Self, String> {
        let Taken { sockets, files, is_kept, version, pid, connection } = taken;
        tracing::info!("taking over from process {pid} (evergate {version})");
        let (mut ours, mut admin, mut others) = (Given::new(), None, Vec::new());
        for (socket, _) in sockets {
            // What it is, not what is said of it.
            let Ok(at) = place_of(&socket) else { continue };
            if wanted.iter().any(|listen| listen.at == at) {
                ours.push((socket, at));
            } else if at.tcp().is_some_and(|address| Some(address) == config.admin) {
                admin = Some(TcpListener::from(socket));
            } else {
                others.push(at);
            }
        }
        if !others.is_empty() {
            others.dedup();
            let others = config::in_a_line(&others);
            tracing::warn!(
                "process {pid} listens at {others}, which this configuration does not name: it goes on there until it drains"
            );
        }
        let sources = match (kept.is_empty(), is_kept) {
            // The same sockets twice would be accepted from twice.
            (false, true) => Sources { kept, ..Sources::default() },
            // The old process has them from the service manager, which this one has not: they are the manager's all the same.
            (true, true) => {
                kept = ours;
                Sources { kept, ..Sources::default() }
            }
            // What the old process has at another address of the same port would else be in the way.
            (_, false) => {
                let beside = others.iter().filter_map(ListenAt::tcp).map(|address| address.port()).collect();
                Sources { kept, taken: ours, files, beside }
            }
        };
        let listeners = open(config, wanted, sources)?;
        let admin = match (admin, config.admin) {
            (None, Some(address)) => Some(bind_admin(address)?),
            (admin, _) => admin,
        };
        let within = Duration::from_secs(config.handover_max_seconds);
        Ok(Self { listeners, admin, predecessor: Some(Predecessor::new(pid, connection, within)) })
    }
}

/// Asks the process that serves, if one does, for its sockets.
fn ask(config: &Config, wanted: &[Listen]) -> Result<Option<Taken>, String> {
    let Some(control) = &config.control else {
        return Err("--replace needs the control socket by which the running process is asked: set control".to_owned());
    };
    let places: Vec<ListenAt> = wanted.iter().map(|listen| listen.at.clone()).collect();
    let began = Instant::now();
    let mut asked = client::replace(control, &places);
    // One that ends is asked once more, until nobody is there.
    while asked.as_ref().is_err_and(|error| !matches!(error, AskError::Nobody) && error.is_end())
        && began.elapsed() < ENDING_MAX
    {
        std::thread::sleep(ENDING_LOOK);
        asked = client::replace(control, &places);
    }
    match asked {
        Ok(taken) => Ok(Some(taken)),
        Err(AskError::Nobody) => {
            tracing::info!("nobody is at {} to be replaced: starting as the first", control.display());
            Ok(None)
        }
        Err(error) => Err(format!("the process at {} is not replaced: {error}", control.display())),
    }
}

/// What is to be listened on: what the service manager has passed, if anything, as the configuration wants it where that names it.
fn wanted(config: &Config, kept: &Given) -> Vec<Listen> {
    if kept.is_empty() {
        return config.listen.clone();
    }
    let mut wanted: Vec<Listen> = Vec::new();
    for (_, at) in kept {
        if wanted.iter().all(|listen| listen.at != *at) {
            let named = config.listen.iter().find(|listen| listen.at == *at);
            wanted.push(named.cloned().unwrap_or_else(|| Listen::plain(at.clone())));
        }
    }
    wanted
}

fn open(config: &Config, wanted: &[Listen], sources: Sources) -> Result<Listeners, String> {
    Listeners::open(wanted, config.cores.len(), config.share_port, sources)
        .map_err(|ListenError { listen, error }| format!("host: {}", check::cannot_listen(&listen.at, &error)))
}

fn bind_admin(address: SocketAddr) -> Result<TcpListener, String> {
    admin::bind(address).map_err(|error| format!("host: {}", check::cannot_bind("admin", address, false, &error)))
}

/// Who serves there, where one of ours does, and how it is replaced.
fn found(config: &Config) -> String {
    let pid = config.control.as_deref().and_then(|control| Connection::open(control).ok()).map(|found| found.pid());
    pid.map_or_else(String::new, |pid| {
        format!("; evergate serves as process {pid}: `evergate serve --replace` takes over from it, and nobody is refused meanwhile")
    })
}

/// The process that this one succeeds. It serves until this one is ready.
#[derive(Debug)]
pub struct Predecessor {
    /// Its number.
    pid: u32,
    connection: Option<Connection>,
    /// When this process gives up.
    until: Instant,
    within: Duration,
    answer: Option<Receiver<Result<(), AskError>>>,
}

/// How far a take-over is.
#[derive(Debug)]
pub enum Progress {
    /// Not there yet.
    Waiting,
    /// The predecessor drains, or is gone: it is this one's turn.
    Over,
    /// It comes to nothing.
    Failed(String),
}

impl Predecessor {
    fn new(pid: u32, connection: Connection, within: Duration) -> Self {
        Self { pid, connection: Some(connection), until: Instant::now() + within, within, answer: None }
    }

    /// Goes on with the take-over: once every core has its links to the bus, the predecessor is told. Waits for nobody; the main
    /// thread is woken when there is something to look at.
    pub fn look(&mut self, shared: &Arc<Shared>) -> Progress {
        if let Some(answer) = &self.answer {
            return match answer.try_recv() {
                Err(TryRecvError::Empty) => Progress::Waiting,
                Ok(Ok(())) => {
                    tracing::info!("process {} drains", self.pid);
                    Progress::Over
                }
                Ok(Err(error)) if error.is_end() => self.is_gone(),
                Ok(Err(error)) => Progress::Failed(format!("process {} serves on: {error}", self.pid)),
                Err(TryRecvError::Disconnected) => Progress::Failed(format!("process {} could not be told", self.pid)),
            };
        }
        if self.connection.as_ref().is_some_and(Connection::is_over) {
            return self.is_gone();
        }
        if shared.has_links() {
            return self.tell(shared);
        }
        if Instant::now() >= self.until {
            return Progress::Failed(format!(
                "the bus was not reached within {} s (handover_max_seconds): process {} serves on",
                self.within.as_secs(),
                self.pid
            ));
        }
        Progress::Waiting
    }

    /// Tells it that this process serves, on a thread that waits for the answer.
    fn tell(&mut self, shared: &Arc<Shared>) -> Progress {
        let Some(connection) = self.connection.take() else { return Progress::Waiting };
        let (sender, answer) = sync_channel(1);
        self.answer = Some(answer);
        let shared = Arc::clone(shared);
        let ask = move || {
            // There is room for the only answer.
            let _ = sender.send(connection.ready());
            shared.wake_main();
        };
        match bounded::spawn("ready", ask) {
            Ok(()) => Progress::Waiting,
            Err(error) => Progress::Failed(format!("host: no thread can be started: {error}")),
        }
    }

    fn is_gone(&self) -> Progress {
        tracing::warn!("process {} is gone: serving in its place", self.pid);
        Progress::Over
    }
}
