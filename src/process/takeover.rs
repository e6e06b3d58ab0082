//! Where the listening sockets of a process come from, and its predecessor, if it has one.
//!
//! They are bound here, or come from the service manager, or from the process that this one succeeds: that serves on until this one
//! is ready, and if it never is, as if nothing had been.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use super::control::client::{self, AskError, Connection};
use super::listeners::Port;
use super::shared::Shared;
use super::signals::Wake;
use crate::admin;
use crate::bounded;
use crate::check;
use crate::config::{self, Config, Loaded};

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
        if loaded.replaces
            && let Some(sockets) = Self::of_predecessor(config)?
        {
            return Ok(sockets);
        }
        let passed = Port::of_service_manager(config.cores.len());
        let port = match passed.map_err(|error| format!("host: the sockets of LISTEN_FDS cannot be used: {error}"))? {
            Some(port) => {
                tracing::info!("listening at {}, which the service manager keeps", port.address());
                port
            }
            None => bind(config, config.share_port)?,
        };
        let admin = config.admin.map(bind_admin).transpose()?;
        Ok(Self { port, admin, predecessor: None })
    }

    /// Those of the process that serves, if one does.
    fn of_predecessor(config: &Config) -> Result<Option<Self>, String> {
        let Some(control) = &config.control else {
            return Err(
                "--replace needs the control socket by which the running process is asked: set control".to_owned()
            );
        };
        let taken = match client::replace(control, config.listen) {
            Ok(taken) => taken,
            Err(AskError::Nobody) => {
                tracing::info!("nobody is at {} to be replaced: starting as the first", control.display());
                return Ok(None);
            }
            Err(error) => return Err(format!("the process at {} is not replaced: {error}", control.display())),
        };
        tracing::info!("taking over from process {} (evergate {})", taken.pid, taken.version);
        let (mut ours, mut admin, mut others) = (Vec::new(), None, Vec::new());
        for (socket, address) in taken.sockets {
            if address == config.listen {
                ours.push(TcpListener::from(socket));
            } else if Some(address) == config.admin {
                admin = Some(TcpListener::from(socket));
            } else {
                others.push(address);
            }
        }
        if !others.is_empty() {
            tracing::warn!(
                "process {} listens at {}, which this configuration does not name: that is closed when its drain begins",
                taken.pid,
                others.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            );
        }
        let port = if ours.is_empty() {
            // Another address: the old process may have the same port.
            bind(config, true)?
        } else {
            Port::of(ours, config.cores.len(), false)
                .map_err(|error| format!("host: the sockets of process {} cannot be used: {error}", taken.pid))?
        };
        let admin = match (admin, config.admin) {
            (None, Some(address)) => Some(bind_admin(address)?),
            (admin, _) => admin,
        };
        let within = Duration::from_secs(config.handover_max_seconds);
        Ok(Some(Self { port, admin, predecessor: Some(Predecessor::new(taken.pid, taken.connection, within)) }))
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
    pub pid: u32,
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

    /// Goes on with the take-over: once every core has its links to the bus, the predecessor is told. Waits for nobody; `wake` is
    /// called when there is something to look at.
    pub fn look(&mut self, shared: &Shared, wake: &Arc<Wake>) -> Progress {
        if let Some(answer) = &self.answer {
            return match answer.try_recv() {
                Err(TryRecvError::Empty) => Progress::Waiting,
                Ok(Ok(())) => {
                    tracing::info!("process {} drains", self.pid);
                    Progress::Over
                }
                Ok(Err(AskError::Refused(why) | AskError::OtherVersion(why))) => {
                    Progress::Failed(format!("process {} serves on: {why}", self.pid))
                }
                Ok(Err(AskError::Nobody | AskError::Failed(_))) | Err(TryRecvError::Disconnected) => {
                    tracing::warn!("process {} is gone: serving in its place", self.pid);
                    Progress::Over
                }
            };
        }
        if shared.cores.iter().all(|core| core.bus_state().is_linked()) {
            let (sender, answer) = sync_channel(1);
            self.answer = Some(answer);
            if let Some(connection) = self.connection.take() {
                let wake = Arc::clone(wake);
                let ask = move || {
                    // There is room for the only answer.
                    let _ = sender.send(connection.ready());
                    wake();
                };
                if let Err(error) = bounded::spawn("ready", ask) {
                    return Progress::Failed(format!("host: no thread can be started: {error}"));
                }
            }
        } else if Instant::now() >= self.until {
            return Progress::Failed(format!(
                "the bus was not reached within {} s (handover_max_seconds): process {} serves on",
                self.within.as_secs(),
                self.pid
            ));
        }
        Progress::Waiting
    }
}
