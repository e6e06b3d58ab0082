//! `serve`: from the options to the exit code.

use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use evergate_proto::websocket::CloseCode;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, gettid};

use super::logs::{self, Activity, Destination, LogOptions, Logs, StartError};
use super::reload::Reloader;
use super::resolver::Resolver;
use super::settings::Settings;
use super::shared::Shared;
use super::signals::{self, Signals};
use super::watchdog::Watchdog;
use super::{Exit, addresses, drain_log, listeners, systemd};
use crate::admin::{self, AdminOptions};
use crate::bounded;
use crate::check;
use crate::config::{self, Config, Loaded, Logfile};
use crate::core::{self, CoreOptions};
use crate::process::address_file::AddressFile;
use crate::stdio;
use evergate_proto::lifecycle::Phase;

/// How often the main thread looks around when no signal comes.
const LOOK: Duration = Duration::from_millis(50);
/// How long the other cores may take to close their clients after one has failed.
const FAILED_MAX: Duration = Duration::from_secs(3);

/// How long the removal of the address file may take at the end.
const REMOVE_MAX: Duration = Duration::from_secs(1);

/// Serves until a signal ends it; tells `listening` the address once clients can connect.
pub fn run(loaded: &Loaded, signals: &Signals, listening: impl FnOnce(SocketAddr)) -> Exit {
    let config = &loaded.config;
    let logs = match start_logs(config) {
        Ok(logs) => logs,
        Err(error) => {
            stdio::say(&format!("host: {error}"));
            return if matches!(error, StartError::Late(_)) { Exit::Usage } else { Exit::Host };
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let exit = match Running::start(loaded, &logs) {
        Ok(running) => {
            listening(running.listen);
            running.watch(config, signals)
        }
        Err(error) => {
            tracing::error!("{error}");
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
    logs::start(&LogOptions { level: config.loglevel, destination, activity, tag, queue_bytes_max })
}

/// A share of the port for each core, on a host that can serve.
fn bind(config: &Config) -> Result<Vec<TcpListener>, String> {
    check::host_usable().map_err(|error| format!("host: {error}"))?;
    let besides = config::Descriptors::of(config).besides_clients(config::Host::ask().nofile);
    config::widen_descriptors(config.clients_max as u64 + besides);
    listeners::bind(config.listen, config.cores.len(), config.share_port)
        .map_err(|error| format!("host: {}", check::cannot_bind("listen", config.listen, false, &error)))
}

fn start_admin(config: &Config, address: SocketAddr, shared: &Arc<Shared>, logs: &Logs) -> Result<(), String> {
    let options = AdminOptions {
        domain: config.domain.clone(),
        ready_bus_grace_seconds: config.ready_bus_grace_seconds,
        connections_max: config::admin_connections_max(config::Host::ask().nofile),
        hosts: config.admin_hosts.clone(),
        version: config::cli::VERSION.to_owned(),
        commit: config::cli::COMMIT.to_owned(),
        log: Some(Box::new(logs.figures())),
    };
    let admin = admin::start(address, Arc::clone(shared), options)
        .map_err(|error| format!("host: {}", check::cannot_bind("admin", address, false, &error)))?;
    tracing::info!("admin on http://{}/", admin.addr());
    Ok(())
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
    /// Starts a thread for each core, with its share of the port and its address on the bus.
    fn start(
        self,
        listeners: Vec<TcpListener>,
        addresses: Vec<String>,
        logs: &Logs,
    ) -> Result<Vec<thread::JoinHandle<()>>, String> {
        let mut threads = Vec::new();
        for (index, (listener, address)) in listeners.into_iter().zip(addresses).enumerate() {
            let options = CoreOptions {
                index,
                listener,
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

/// A process whose cores have been started.
struct Running {
    listen: SocketAddr,
    shared: Arc<Shared>,
    reloader: Reloader,
    threads: Vec<thread::JoinHandle<()>>,
    failed: Arc<AtomicBool>,
    address_file: Option<AddressFile>,
}

impl Running {
    fn start(loaded: &Loaded, logs: &Logs) -> Result<Self, String> {
        let config = &loaded.config;
        let listeners = bind(config)?;
        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut settings = Settings::new(config, started)?;
        settings.echo = loaded.echo;
        let settings = Arc::new(settings);
        let shared = Arc::new(Shared::new(&config.cores));
        let addresses = addresses::make(config, config.cores.len())?;
        let failed = Arc::new(AtomicBool::new(false));
        let listen = listeners[0].local_addr().map_or(config.listen, |address| address);
        let reloader = Reloader::start(loaded.clone(), logs.control(), Arc::clone(&settings))
            .map_err(|error| no_thread(&error))?;
        let (threads, address_file) = signals::blocked(|| -> Result<_, String> {
            let resolver = Resolver::start(config).map_err(|error| no_thread(&error))?;
            if let Some(address) = config.admin {
                start_admin(config, address, &shared, logs)?;
            }
            // Only now that every port is bound: a start that fails leaves no file. And before any core has an address
            // on the bus.
            let address_file = addresses::record(config, &addresses);
            if let Some(file) = &address_file {
                addresses::clean_up(config, file).map_err(|error| no_thread(&error))?;
            }
            let cores = Cores { config, settings, shared: Arc::clone(&shared), resolver, failed: Arc::clone(&failed) };
            Ok((cores.start(listeners, addresses, logs)?, address_file))
        })?;
        shared.enter(Phase::Serving);
        systemd::tell(&format!("READY=1\nMAINPID={}", std::process::id()));
        tracing::info!(
            "evergate {} serves ws://{listen} on {} cores, domain {}",
            config::cli::VERSION,
            config.cores.len(),
            config.domain
        );
        Ok(Self { listen, shared, reloader, threads, failed, address_file })
    }

    /// Follows the signals and the cores until all cores have ended.
    fn watch(self, config: &Config, signals: &Signals) -> Exit {
        let mut next_drain_line = Instant::now();
        let mut failed_at: Option<Instant> = None;
        let mut watchdog = Watchdog::new(&self.shared);
        let mut reporter = systemd::Reporter::start();
        while !self.threads.iter().all(thread::JoinHandle::is_finished) {
            signals.wait(LOOK);
            if signals.take_reload() {
                systemd::reloading();
                self.reloader.ask();
            }
            if signals.take_drain() {
                self.drain(config);
            }
            if signals.take_stop() {
                self.stop("a signal asks to stop", CloseCode::GOING_AWAY);
            }
            if let Some(why) = signals.failure()
                && self.shared.phase() < Phase::Stopping
            {
                self.stop(why, CloseCode::GOING_AWAY);
            }
            if self.shared.phase() == Phase::Draining && Instant::now() >= next_drain_line {
                next_drain_line = Instant::now() + Duration::from_secs(1);
                drain_log::write(&self.shared);
            }
            if failed_at.is_none() && (self.failed.load(SeqCst) || watchdog.look()) {
                self.failed.store(true, SeqCst);
                failed_at = Some(Instant::now());
                self.stop("a core failed", CloseCode::INTERNAL);
            }
            if failed_at.is_some_and(|at| at.elapsed() > FAILED_MAX) {
                break;
            }
            reporter.report(&self.shared);
        }
        self.end(signals)
    }

    fn drain(&self, config: &Config) {
        let now_ms = self.shared.now_ms();
        if self.shared.phase() >= Phase::Draining {
            return;
        }
        self.shared.drain_start_ms.store(now_ms + config.drain_grace_seconds * 1_000, SeqCst);
        let deadline_ms = now_ms + (config.drain_grace_seconds + config.drain_max_seconds) * 1_000;
        self.shared.drain_deadline_ms.store(deadline_ms, SeqCst);
        self.shared.enter(Phase::Draining);
        tracing::info!(
            "drain: SIGUSR1; the port closes in {} s, everybody is gone in {} s at most",
            config.drain_grace_seconds,
            config.drain_grace_seconds + config.drain_max_seconds
        );
    }

    fn stop(&self, why: &str, code: u16) {
        self.shared.stop_code.store(u64::from(code), SeqCst);
        if self.shared.enter(Phase::Stopping) {
            tracing::info!("stop: {why}; clients are closed with {code}");
            systemd::tell("STOPPING=1");
        }
    }

    fn end(self, signals: &Signals) -> Exit {
        if self.failed.load(SeqCst) {
            return Exit::CoreFailed;
        }
        let cut: u64 = self.shared.cores.iter().map(|core| core.counts.cut.load(SeqCst)).sum();
        if self.shared.drain_start_ms.load(SeqCst) > 0 {
            drain_log::write(&self.shared);
            let at_gap: u64 = self.shared.cores.iter().map(|core| core.counts.closed_at_gap.load(SeqCst)).sum();
            let clients = if at_gap == 1 { "client" } else { "clients" };
            let at_deadline: u64 =
                self.shared.cores.iter().map(|core| core.counts.closed_at_deadline.load(SeqCst)).sum();
            // Half a message, say, is no gap, and its client loses nothing by being closed.
            let unhurt = at_deadline - cut;
            let unhurt = if unhurt > 0 { format!(", {unhurt} at the deadline unhurt") } else { String::new() };
            tracing::info!("drain: over; {at_gap} {clients} closed at a gap{unhurt}, {cut} cut off");
        }
        // A list that a late reply makes again is deleted by the next start: it finds it in the file.
        // What clients left behind is answered late, too.
        let is_answered = |core: &evergate_proto::counters::Core| {
            core.counts.pending.load(SeqCst) == 0 && core.counts.bus_unanswered.load(SeqCst) == 0
        };
        let quiet = cut == 0 && self.shared.cores.iter().all(is_answered);
        if let Some(file) = self.address_file
            && quiet
        {
            let removed = bounded::within(REMOVE_MAX, || file.remove());
            if let Err(error) = removed.unwrap_or_else(|failed| Err(failed.into())) {
                tracing::warn!("the address file cannot be removed: {error}");
            }
        }
        match signals.failure() {
            Some(_) => Exit::Host,
            None if cut > 0 => Exit::Cut,
            None => Exit::Done,
        }
    }
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
