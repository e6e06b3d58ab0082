//! Where the listening sockets of a process come from, and its predecessor, if it has one.
//!
//! They are bound here, or come from the service manager, or from the process that this one succeeds: that serves on until this one
//! is ready, and if it never is, as if nothing had been.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use super::control::client::{self, AskError, Connection, Taken};
use super::listeners::Port;
use super::shared::Shared;
use crate::admin;
use crate::bounded;
use crate::check;
use crate::config::{self, Config, Loaded};

/// How long a process that ends is waited for, and how often that is looked at.
const ENDING_MAX: Duration = Duration::from_secs(10);
const ENDING_LOOK: Duration = Duration::from_millis(100);

/// What a process listens on.
#[derive(Debug)]
pub struct Sockets {
    /// For clients.
    pub port: Port,
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
        let passed = Port::of_service_manager(config.cores.len())
            .map_err(|error| format!("host: the sockets of LISTEN_FDS cannot be used: {error}"))?;
        if let Some(port) = &passed {
            tracing::info!("listening at {}, which the service manager keeps", port.address());
        }
        let listen = passed.as_ref().map_or(config.listen, Port::address);
        let taken = if loaded.replaces { ask(config, listen)? } else { None };
        match taken {
            Some(taken) => Self::of_predecessor(config, taken, listen, passed),
            None => Ok(Self {
                port: passed.map_or_else(|| bind(config, config.share_port), Ok)?,
                admin: config.admin.map(bind_admin).transpose()?,
                predecessor: None,
            }),
        }
    }

    /// Those of a process that serves, as far as the configuration names them; where the service manager has `passed` some, those.
    fn of_predecessor(config: &Config, taken: Taken, listen: SocketAddr, passed: Option<Port>) -> Result<Self, String> {
        let Taken { sockets, is_kept, version, pid, connection } = taken;
        tracing::info!("taking over from process {pid} (evergate {version})");
        let (mut ours, mut admin, mut others) = (Vec::new(), None, Vec::new());
        for (socket, _) in sockets {
            let socket = TcpListener::from(socket);
            // What it is, not what is said of it.
            let Ok(address) = socket.local_addr() else { continue };
            if address == listen {
                ours.push(socket);
            } else if Some(address) == config.admin {
                admin = Some(socket);
            } else {
                others.push(address);
            }
        }
        if !others.is_empty() {
            others.dedup();
            let others = others.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            tracing::warn!(
                "process {pid} listens at {others}, which this configuration does not name: it goes on there until it drains"
            );
        }
        // What the old process has at another address of the same port would else be in the way.
        let has_port = |address: &SocketAddr| address.port() == config.listen.port();
        let is_beside = config.share_port || others.iter().any(has_port);
        let port = match passed {
            // Where that is not the same, who comes to the old one's socket is served as well.
            Some(port) => port.beside(if is_kept { Vec::new() } else { ours }),
            None if ours.is_empty() => bind(config, is_beside)?,
            None => Port::of(ours, config.cores.len(), is_kept)
                .map(|port| port.sharing(config.share_port))
                .map_err(|error| format!("host: the sockets of process {pid} cannot be used: {error}"))?,
        };
        let admin = match (admin, config.admin) {
            (None, Some(address)) => Some(bind_admin(address)?),
            (admin, _) => admin,
        };
        let within = Duration::from_secs(config.handover_max_seconds);
        Ok(Self { port, admin, predecessor: Some(Predecessor::new(pid, connection, within)) })
    }
}

/// Asks the process that serves, if one does, for its sockets.
fn ask(config: &Config, listen: SocketAddr) -> Result<Option<Taken>, String> {
    let Some(control) = &config.control else {
        return Err("--replace needs the control socket by which the running process is asked: set control".to_owned());
    };
    let began = Instant::now();
    let mut asked = client::replace(control, listen);
    // One that ends is asked once more, until nobody is there.
    while asked.as_ref().is_err_and(|error| !matches!(error, AskError::Nobody) && error.is_end())
        && began.elapsed() < ENDING_MAX
    {
        std::thread::sleep(ENDING_LOOK);
        asked = client::replace(control, listen);
    }
    match asked {
        Ok(taken) if taken.connection.is_of_own_account() => Ok(Some(taken)),
        Ok(taken) => Err(format!(
            "process {} at {} belongs to another account: its sockets are not taken; start this one as that account",
            taken.pid,
            control.display()
        )),
        Err(AskError::Nobody) => {
            tracing::info!("nobody is at {} to be replaced: starting as the first", control.display());
            Ok(None)
        }
        Err(error) => Err(format!("the process at {} is not replaced: {error}", control.display())),
    }
}

fn bind(config: &Config, is_shared: bool) -> Result<Port, String> {
    Port::bind(config.listen, config.cores.len(), is_shared).map_err(|error| {
        format!("host: {}{}", check::cannot_bind("listen", config.listen, false, &error), found(config))
    })
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
