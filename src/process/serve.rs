//! `serve`: from the options to the exit code.

use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, SystemTime};

use evergate_proto::websocket::proxy_header::Opening;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};

use super::control::{self, ServerOptions, Succession};
use super::listeners::Listeners;
use super::logs::{self, Activity, Destination, LogOptions, Logs, StartError};
use super::reload::Reloader;
use super::resolver::Resolver;
use super::running::{Running, deal};
use super::settings::Settings;
use super::shared::Shared;
use super::signals::{self, Signals};
use super::takeover::Sockets;
use super::{Exit, addresses};
use crate::admin::{self, Admin, AdminOptions};
use crate::bus::tls::Tls;
use crate::config::{self, Config, Listen, Loaded, Logfile, Purpose};
use crate::core::{self, CoreOptions};
use crate::stdio;

/// Serves until a signal ends it; tells `listening` where, once clients can connect.
pub fn run(loaded: &Loaded, signals: &Signals, listening: impl FnOnce(&[Listen])) -> Exit {
    let config = &loaded.config;
    let logs = match start_logs(config) {
        Ok(logs) => logs,
        Err(error) => {
            stdio::say(&format!("host: {error}"));
            return if matches!(error, StartError::Late(_)) { Exit::Usage } else { Exit::Host };
        }
    };
    for why in crate::check::out_of_reach(config) {
        tracing::info!("host: {why}");
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    for less in config::by_cgroup(loaded) {
        tracing::info!("host: {less}");
    }
    let exit = match start(loaded, &logs, signals) {
        Ok(running) => {
            listening(running.shared.listening());
            running.watch(signals)
        }
        Err(error) => {
            tracing::error!("{error}");
            // Whoever started it by hand looks at the terminal.
            if config.logfile != Logfile::Stderr {
                stdio::say(&error);
            }
            Exit::Host
        }
    };
    // What was gathered belongs before the last line. The order waits for nobody: the log takes it in its turn.
    logs.say_gathered();
    tracing::info!("evergate ends with {}", exit as u8);
    exit
}

fn start_logs(config: &Config) -> Result<Logs, StartError> {
    let facility = |facility: &config::Facility| {
        let unknown = |()| StartError::Failed(format!("syslog has no facility {}", facility.name));
        facility.name.parse::<logs::Facility>().map_err(unknown)
    };
    let (destination, activity) = match &config.logfile {
        Logfile::Stderr => (Destination::Stderr, Activity::SameAsDestination),
        Logfile::File(path) => (Destination::File(path.clone()), Activity::SameAsDestination),
        Logfile::Syslog => (
            Destination::Syslog { facility: facility(&config.syslog)? },
            Activity::Syslog { facility: facility(&config.actlog)? },
        ),
    };
    let tag = config.logtag.clone().unwrap_or_else(|| "evergate".to_owned());
    let queue_bytes_max = config.log_queue_bytes_max;
    logs::start(&LogOptions {
        level: config.loglevel,
        destination,
        activity,
        tag,
        queue_bytes_max,
        format: config.log_format,
    })
}

fn start_admin(
    loaded: &Loaded,
    listeners: &Listeners,
    listener: TcpListener,
    shared: &Arc<Shared>,
    logs: &Logs,
) -> Result<Admin, String> {
    let config = &loaded.config;
    let options = AdminOptions {
        domain: config.domain.clone(),
        ready_bus_grace_seconds: config.ready_bus_grace_seconds,
        connections_max: config::admin_connections_max(config::Host::ask().nofile),
        hosts: config.admin_hosts.clone(),
        numbers: config.numbers(),
        version: config::cli::VERSION.to_owned(),
        commit: config::cli::COMMIT.to_owned(),
        log: Some(Box::new(logs.figures())),
        token: loaded.admin_token.clone(),
        console: (loaded.inputs.purpose == Purpose::Demo).then(|| for_browsers(listeners)).flatten(),
    };
    let admin = admin::start(listener, Arc::clone(shared), options)
        .map_err(|error| format!("host: the admin page cannot be served: {error}"))?;
    tracing::info!("admin on http://{}/", admin.addr());
    Ok(admin)
}

/// Where a browser can connect.
fn for_browsers(listeners: &Listeners) -> Option<SocketAddr> {
    listeners.iter().filter(|listen| listen.opening == Opening::Request).find_map(|listen| listen.at.tcp())
}

fn start_control(config: &Config, shared: &Arc<Shared>, logs: &Logs, signals: &Signals) -> Option<control::Server> {
    let path = config.control.clone()?;
    control::start(ServerOptions {
        path,
        handover_max: Duration::from_secs(config.handover_max_seconds),
        status: Box::new(admin::status_line(Arc::clone(shared), config.domain.clone(), Box::new(logs.figures()))),
        shared: Arc::clone(shared),
        wake: signals.waker(),
    })
}

fn no_thread(error: &std::io::Error) -> String {
    format!("host: no thread can be started: {error}")
}

/// What all cores are given.
struct Cores<'a> {
    config: &'a Config,
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    resolver: Arc<Resolver>,
    /// Set by a core that fails.
    failed: Arc<AtomicBool>,
}

impl Cores<'_> {
    /// Starts a thread for each core, with its address on the bus.
    fn start(self, addresses: Vec<String>, logs: &Logs) -> Result<Vec<thread::JoinHandle<()>>, String> {
        let mut threads = Vec::new();
        for (index, address) in addresses.into_iter().enumerate() {
            let options = CoreOptions {
                index,
                settings: Arc::clone(&self.settings),
                address,
                shared: Arc::clone(&self.shared),
                resolver: Arc::clone(&self.resolver),
                activity: logs.activity(),
            };
            evergate_proto::counters::set(&self.shared.cores[index].counts.heartbeat_ms, self.shared.now_ms());
            let (failed, cpu) = (Arc::clone(&self.failed), self.config.cores[index]);
            let thread = thread::Builder::new()
                .name(format!("core-{index}"))
                .spawn(move || run_core(options, cpu, &failed))
                .map_err(|error| no_thread(&error))?;
            threads.push(thread);
        }
        Ok(threads)
    }
}

/// Starts everything. Nobody is taken yet.
fn start(loaded: &Loaded, logs: &Logs, signals: &Signals) -> Result<Running, String> {
    let config = &loaded.config;
    let Sockets { listeners, admin, predecessor } = Sockets::open(loaded)?;
    let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut settings = Settings::new(config, started)?;
    settings.echo = loaded.echo;
    let settings = Arc::new(settings);
    let shared = Arc::new(Shared::new(&config.cores).waking(signals.waker()));
    // A start that fails leaves to others what it has from them.
    shared.leave(listeners.left_to_predecessor());
    shared.listens_on(listeners.iter().cloned().collect());
    deal(&listeners, &shared).map_err(|why| format!("host: {why}"))?;
    let addresses = addresses::make(config, config.cores.len())?;
    let tls = Tls::of(config)?;
    let failed = Arc::new(AtomicBool::new(false));
    let reloader =
        Reloader::start(loaded.clone(), logs.control(), Arc::clone(&settings)).map_err(|error| no_thread(&error))?;
    signals::blocked(|| {
        let resolver = Resolver::start(config, tls.clone()).map_err(|error| no_thread(&error))?;
        let admin = admin.map(|listener| start_admin(loaded, &listeners, listener, &shared, logs)).transpose()?;
        // That of another process answers until this one takes its place.
        if predecessor.is_none() {
            admin.iter().for_each(Admin::begin);
        }
        let control = start_control(config, &shared, logs, signals);
        if predecessor.is_some() && control.is_none() {
            let why = "a successor without a control socket could not be spoken to: mend that, or see which account the \
                       running process has";
            return Err(why.to_owned());
        }
        // Only now that every port is bound: a start that fails leaves no file. And before any core has an address
        // on the bus.
        let address_file = addresses::record(config, &addresses);
        if let Some(file) = &address_file {
            addresses::clean_up(config, tls, file).map_err(|error| no_thread(&error))?;
        }
        let cores = Cores { config, settings, shared: Arc::clone(&shared), resolver, failed: Arc::clone(&failed) };
        let threads = cores.start(addresses, logs)?;
        Ok(Running {
            config: config.clone(),
            shared,
            listeners,
            admin,
            control,
            succession: Succession::default(),
            predecessor,
            reloader,
            threads,
            failed,
            address_file,
        })
    })
}

fn run_core(options: CoreOptions, cpu: usize, failed: &AtomicBool) {
    let index = options.index;
    options.shared.cores[index].thread.store(gettid().as_raw(), SeqCst);
    let mut set = CpuSet::new();
    if let Err(error) = set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)) {
        tracing::warn!("host: core {index} cannot be pinned to CPU {cpu}: {error}; it runs unpinned");
    }
    match catch_unwind(AssertUnwindSafe(|| core::run(options))) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => tracing::error!("core {index} failed: {error}"),
        Err(_) => tracing::error!("core {index} panicked"),
    }
    failed.store(true, SeqCst);
}
