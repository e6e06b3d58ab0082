//! The main thread of a process whose cores have been started: it follows signals, the control socket and the cores until all have
//! ended. It never waits for anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use evergate_proto::lifecycle::Phase;
use evergate_proto::websocket::CloseCode;

use super::address_file::AddressFile;
use super::control::{self, Claim, DrainBegun, Lent, Listening, Request, Succession, Successor};
use super::listeners::{ListenError, Listeners};
use super::reload::Reloader;
use super::shared::Shared;
use super::signals::Signals;
use super::takeover::{Predecessor, Progress};
use super::watchdog::Watchdog;
use super::{Exit, drain_log, systemd};
use crate::admin::Admin;
use crate::bounded;
use crate::check;
use crate::config::{self, Config};

/// How often the main thread looks around when no signal comes.
const LOOK: Duration = Duration::from_millis(50);
/// How long the other cores may take to close their clients after one has failed.
const FAILED_MAX: Duration = Duration::from_secs(3);
/// How long the first links to the bus are waited for.
const LINKS_MAX: Duration = Duration::from_secs(1);
/// How long the removal of the address file may take at the end.
const REMOVE_MAX: Duration = Duration::from_secs(1);
/// How often a process without its control socket's name looks whether that is free.
const CLAIM_EVERY: Duration = Duration::from_secs(2);
/// Nearer than this to the closing of the port, or to its deadline, a drain is not cancelled: a core may be at it already.
const CANCEL_MARGIN_MS: u64 = 1_000;

fn cannot_listen(why: &ListenError) -> String {
    check::cannot_listen(&why.listen.at, &why.error)
}

/// Says what the cores are to take connections from.
pub fn deal(listeners: &Listeners, shared: &Shared) -> Result<(), String> {
    let dealt = listeners.shares().map_err(|error| format!("the listening sockets cannot be copied: {error}"))?;
    shared.give_listeners(dealt);
    Ok(())
}

/// What the main thread has.
#[derive(Debug)]
pub struct Running {
    /// The configuration.
    pub config: Config,
    /// What all threads see.
    pub shared: Arc<Shared>,
    /// Where clients connect.
    pub listeners: Listeners,
    /// The admin page.
    pub admin: Option<Admin>,
    /// The control socket.
    pub control: Option<control::Server>,
    /// Who takes over from this process.
    pub succession: Succession,
    /// From whom this one takes over.
    pub predecessor: Option<Predecessor>,
    /// Reads the configuration again.
    pub reloader: Reloader,
    /// The cores.
    pub threads: Vec<thread::JoinHandle<()>>,
    /// Set by a core that fails.
    pub failed: Arc<AtomicBool>,
    /// Where the addresses on the bus are written down.
    pub address_file: Option<AddressFile>,
}

impl Running {
    /// Connections are taken from now on.
    fn serve(&mut self, signals: &Signals) {
        let listened = self.listeners.listen().map_err(|error| cannot_listen(&error));
        // The cores have taken none of theirs: nobody has been served.
        let dealt = listened.and_then(|is_new| if is_new { deal(&self.listeners, &self.shared) } else { Ok(()) });
        if let Err(why) = dealt {
            return self.fail(signals, &format!("host: {why}"), "it cannot listen");
        }
        let claim = if self.predecessor.take().is_some() { Claim::AsSuccessor } else { Claim::IfFree };
        self.shared.leave(self.listeners.left(&[]));
        self.shared.enter(Phase::Serving);
        if let Some(admin) = &self.admin {
            admin.begin();
        }
        if let Some(control) = &self.control {
            control.claim_name(claim);
        }
        systemd::ready();
        tracing::info!(
            "evergate {} serves {} on {} cores, domain {}{}",
            config::cli::VERSION,
            self.listeners,
            self.config.cores.len(),
            self.config.domain,
            if self.shared.has_links() { "" } else { ", not ready: no bus yet" }
        );
    }

    /// Follows the signals, whoever asks, and the cores until all cores have ended.
    pub fn watch(mut self, signals: &Signals) -> Exit {
        let mut next_drain_line = Instant::now();
        let mut failed_at: Option<Instant> = None;
        let mut watchdog = Watchdog::new(&self.shared);
        let mut reporter = systemd::Reporter::start();
        let mut next_claim = Instant::now() + CLAIM_EVERY;
        while !self.threads.iter().all(thread::JoinHandle::is_finished) {
            signals.wait(LOOK);
            self.heed(signals);
            self.go_on_starting(signals);
            self.answer();
            self.follow_drain();
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
            // Whoever has the name may be gone by now.
            if self.shared.phase() == Phase::Serving && Instant::now() >= next_claim {
                next_claim = Instant::now() + CLAIM_EVERY;
                self.control.iter().filter(|control| !control.has_name()).for_each(|it| it.claim_name(Claim::IfFree));
            }
            reporter.report(&self.shared);
        }
        self.end(signals)
    }

    /// Does what signals have asked for.
    fn heed(&mut self, signals: &Signals) {
        if signals.take_reload() {
            systemd::reloading();
            self.reloader.ask();
        }
        // One that has not come to serve has nobody to drain. A successor leaves everything as it is.
        if self.shared.phase() == Phase::Starting && self.predecessor.is_some() && signals.take_drain() {
            self.stop("SIGUSR1 comes before it serves", CloseCode::GOING_AWAY);
        }
        if self.shared.phase() > Phase::Starting {
            if signals.take_drain() && self.drain("SIGUSR1", self.config.drain_grace_seconds).is_err() {
                tracing::info!("drain: SIGUSR1 comes when the process is stopping already");
            }
            if signals.take_cancel()
                && let Err(why) = self.cancel("SIGUSR2")
            {
                tracing::warn!("drain: SIGUSR2 changes nothing: {why}");
            }
        }
        if signals.take_stop() {
            self.stop("a signal asks to stop", CloseCode::GOING_AWAY);
        }
        if let Some(why) = signals.failure()
            && self.shared.phase() < Phase::Stopping
        {
            self.stop(why, CloseCode::GOING_AWAY);
        }
    }

    /// Goes on with the start. Who comes before the links to the bus are there waits for them: he would be refused, and another
    /// process on the port, or the old one, would have served him.
    fn go_on_starting(&mut self, signals: &Signals) {
        if self.shared.phase() != Phase::Starting {
            return;
        }
        if self.predecessor.is_none() && (self.shared.has_links() || self.shared.now() >= LINKS_MAX) {
            return self.serve(signals);
        }
        match self.predecessor.as_mut().map(|predecessor| predecessor.look(&self.shared)) {
            Some(Progress::Over) => self.serve(signals),
            Some(Progress::Failed(why)) => self.fail(signals, &why, "it does not take over"),
            Some(Progress::Waiting) | None => {}
        }
    }

    /// Answers what the control socket and the admin page brought.
    fn answer(&mut self) {
        let mut requests = self.control.as_ref().map(control::Server::take_requests).unwrap_or_default();
        requests.extend(self.admin.as_ref().map(Admin::take_requests).unwrap_or_default());
        for request in requests {
            match request {
                Request::Drain { by, reply } => {
                    reply.answer(self.drain(&by.to_string(), self.config.drain_grace_seconds));
                }
                Request::Cancel { by, reply } => reply.answer(self.cancel(&by.to_string())),
                // Dropped, the reply says that this process ends.
                Request::Replace { reply, .. } if self.shared.phase() == Phase::Stopping => drop(reply),
                Request::Replace { successor, reply, .. } => reply.answer(self.lend_sockets(&successor)),
                Request::Ready { successor, reply } => reply.answer(self.hand_over(&successor)),
                Request::Gone { successor, why } => {
                    if self.succession.is_gone(&successor) {
                        self.shared.leave(self.listeners.left(&[]));
                        let phase = self.shared.phase().name();
                        tracing::warn!(
                            "hand-over: process {} comes to nothing: {why}; this one is {phase} as before",
                            successor.pid
                        );
                    }
                }
            }
        }
    }

    /// The listening sockets, for a successor. This process goes on with them until that is ready.
    fn lend_sockets(&mut self, successor: &Successor) -> Result<Lent, String> {
        self.succession.asks(self.shared.phase(), successor)?;
        let sockets = self.copies().map_err(|error| {
            self.succession.is_gone(successor);
            format!("the sockets cannot be copied: {error}")
        })?;
        let all = self.listeners.are_all_in(&successor.listen);
        let some = self.listeners.iter().any(|listen| successor.listen.contains(&listen.at));
        let what = match (all, some) {
            (true, _) => "takes over the port",
            (false, true) => "takes over some of the addresses, and this process goes on at the others until it drains",
            (false, false) => "takes over at another address",
        };
        tracing::info!("hand-over: process {} (evergate {}) {what}", successor.pid, successor.version);
        self.shared.leave(self.listeners.left(&successor.listen));
        Ok(Lent { sockets, files: self.listeners.files(), is_kept: self.listeners.is_kept() })
    }

    fn copies(&self) -> std::io::Result<Vec<Listening>> {
        let mut copies = self.listeners.copies()?;
        if let Some(listener) = self.admin.as_ref().and_then(Admin::listener).transpose()? {
            let address = listener.local_addr()?;
            copies.push((listener.into(), address.into()));
        }
        Ok(copies)
    }

    /// The successor serves: this process drains. Who has all that it listens on needs no grace.
    fn hand_over(&mut self, successor: &Successor) -> Result<(), String> {
        // Who stops leaves it the port.
        if self.shared.phase() == Phase::Stopping {
            return Ok(());
        }
        self.succession.is_ready(self.shared.phase(), successor)?;
        let has_all = self.listeners.are_all_in(&successor.listen);
        let grace_seconds = if has_all { 0 } else { self.config.drain_grace_seconds };
        if let Some(admin) = &self.admin {
            admin.retire();
        }
        let why = format!("process {} serves in the place of this one", successor.pid);
        self.drain(&why, grace_seconds).map(drop)
    }

    /// Whether others go on with all that this process listens on.
    fn are_all_left(&self) -> bool {
        let left = self.shared.orders().left;
        (0_u8..).zip(self.listeners.iter()).all(|(number, _)| left.contains(number))
    }

    /// Begins to drain, unless that is under way.
    fn drain(&mut self, why: &str, grace_seconds: u64) -> Result<DrainBegun, String> {
        match self.shared.phase() {
            Phase::Starting => return Err("it is starting, and has no clients yet".to_owned()),
            Phase::Stopping => return Err("it is stopping".to_owned()),
            Phase::Serving | Phase::Draining => {}
        }
        // Nobody serves these sockets if the successor that has them comes to nothing. If it does not, it has them listen again.
        if self.succession.at_work().is_some() && self.shared.phase() == Phase::Serving {
            self.shared.leave(self.listeners.left(&[]));
        }
        let start_ms = self.shared.now_ms() + grace_seconds * 1_000;
        let begun = self.shared.drain(start_ms, start_ms + self.config.drain_max_seconds * 1_000);
        if begun {
            tracing::info!(
                "drain: {why}; the port {} in {grace_seconds} s, everybody is gone in {} s at most",
                if self.are_all_left() { "is left to others" } else { "closes" },
                grace_seconds + self.config.drain_max_seconds
            );
        }
        let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
        Ok(DrainBegun {
            already: !begun,
            port_closes_in_seconds: seconds(self.shared.drain_start_ms().saturating_sub(self.shared.now_ms())),
            seconds_left: seconds(self.shared.drain_left_ms().unwrap_or_default()),
            closed_before: self.shared.closed_before(),
        })
    }

    /// Serves on. The error says why it cannot.
    fn cancel(&mut self, who: &str) -> Result<(), String> {
        let now_ms = self.shared.now_ms();
        if self.shared.phase() != Phase::Draining {
            return Err("no drain is under way".to_owned());
        }
        if self.shared.drain_left_ms().unwrap_or_default() < CANCEL_MARGIN_MS {
            return Err("its time is over, and whoever is left is being closed".to_owned());
        }
        if now_ms + CANCEL_MARGIN_MS >= self.shared.drain_start_ms() {
            self.listen_again()?;
        } else if let Some(by) = self.succession.served_by() {
            return Err(format!("process {} serves in the place of this one", by.pid));
        }
        self.shared.cancel_drain();
        tracing::info!("drain: cancelled by {who}; serving on");
        if self.succession.forget_served() {
            self.take_place_again();
        }
        Ok(())
    }

    fn listen_again(&mut self) -> Result<(), String> {
        if !self.shared.has_closed_port() {
            let why =
                "the port is being closed, or more is established there than there are descriptors for: try again";
            return Err(why.to_owned());
        }
        let successor =
            self.succession.served_by().map_or_else(String::new, |by| format!(" (process {} took it over)", by.pid));
        if self.listeners.is_kept() && !successor.is_empty() {
            return Err(format!("another process serves{successor}"));
        }
        let cannot = |why: String| format!("the port cannot be opened again{successor}: {why}");
        self.listeners.listen_again().map_err(|error| cannot(cannot_listen(&error)))?;
        deal(&self.listeners, &self.shared).map_err(cannot)?;
        tracing::info!("listening at {} again", self.listeners);
        self.shared.leave(self.listeners.left(&[]));
        Ok(())
    }

    /// Who had taken over is gone: the name, the admin page and the service manager are this process' again.
    fn take_place_again(&mut self) {
        if let Some(control) = &self.control {
            control.claim_name(Claim::IfFree);
        }
        if let (Some(admin), Some(address)) = (&self.admin, self.config.admin) {
            match crate::admin::bind(address).and_then(|listener| admin.resume(listener)) {
                Ok(()) => tracing::info!("admin on http://{address}/ again"),
                Err(error) => tracing::warn!("the admin page is not served: {error}"),
            }
        }
        systemd::ready();
    }

    /// Gives the port up when the cores have closed their shares, and ends when nobody is left.
    fn follow_drain(&mut self) {
        if self.shared.phase() != Phase::Draining {
            return;
        }
        if self.shared.has_closed_port() {
            self.listeners.give_up(self.shared.orders().left);
        }
        if self.shared.is_drained() && self.shared.enter(Phase::Stopping) {
            systemd::tell("STOPPING=1");
        }
    }

    /// It does not come to serve.
    fn fail(&self, signals: &Signals, error: &str, why: &'static str) {
        tracing::error!("{error}");
        signals.stopper().fail(why);
        self.stop(why, CloseCode::GOING_AWAY);
    }

    fn stop(&self, why: &str, code: u16) {
        self.shared.stop_code.store(u64::from(code), SeqCst);
        if self.shared.enter(Phase::Stopping) {
            tracing::info!("stop: {why}; clients are closed with {code}");
            systemd::tell("STOPPING=1");
        }
    }

    fn end(mut self, signals: &Signals) -> Exit {
        let exit = self.judge(signals);
        self.listeners.give_up(self.shared.orders().left);
        if let Some(admin) = self.admin.take() {
            admin.end(exit as u8);
        }
        if let Some(control) = self.control.take() {
            control.end(exit as u8);
        }
        exit
    }

    /// How the process ends.
    fn judge(&mut self, signals: &Signals) -> Exit {
        if self.failed.load(SeqCst) {
            return Exit::CoreFailed;
        }
        let cut: u64 = self.shared.cores.iter().map(|core| core.counts.cut.load(SeqCst)).sum();
        if self.shared.has_drain() {
            self.say_drained(cut);
        }
        // A list that a late reply makes again is deleted by the next start: it finds it in the file.
        // What clients left behind is answered late, too.
        let is_answered = |core: &evergate_proto::counters::Core| {
            core.counts.pending.load(SeqCst) == 0 && core.counts.bus_unanswered.load(SeqCst) == 0
        };
        let quiet = cut == 0 && self.shared.cores.iter().all(is_answered);
        if let Some(file) = self.address_file.take()
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

    fn say_drained(&self, cut: u64) {
        drain_log::write(&self.shared);
        let sum = |of: fn(&evergate_proto::counters::Counts) -> u64| {
            self.shared.cores.iter().map(|core| of(&core.counts)).sum::<u64>()
        };
        let at_gap = sum(|counts| counts.closed_at_gap.load(SeqCst));
        let clients = if at_gap == 1 { "client" } else { "clients" };
        // Half a message, say, is no gap, and its client loses nothing by being closed.
        let unhurt = sum(|counts| counts.closed_at_deadline.load(SeqCst)) - cut;
        let unhurt = if unhurt > 0 { format!(", {unhurt} at the deadline unhurt") } else { String::new() };
        tracing::info!("drain: over; {at_gap} {clients} closed at a gap{unhurt}, {cut} cut off");
    }
}
