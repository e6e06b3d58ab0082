//! What a core needs of the process: its clock, its orders, its logs, the addresses of the bus.

use std::os::fd::IntoRawFd as _;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use evergate_proto::clients::limits::Limits;
use evergate_proto::clients::output::{BusNews, Severity};
use evergate_proto::event_loop::{Answer, Host, Inquiry, ListeningSocket};
use evergate_proto::lifecycle::Orders;
use evergate_proto::redis::dial::Dial;
use evergate_proto::ring::{Errno, Socket};

use crate::admin::health;
use crate::process::listeners::Share;
use crate::process::logs::ActivityLog;
use crate::process::resolver::Resolver;
use crate::process::settings::Settings;
use crate::process::shared::Shared;

/// One log line of the process about descriptors in so long, ms.
const EXHAUSTED_LOG_MS: u64 = 60_000;

/// The process, as one core sees it.
#[derive(Debug)]
pub struct CoreHost {
    shared: Arc<Shared>,
    /// Which core it is.
    core: usize,
    settings: Arc<Settings>,
    /// Which version of the settings the core has.
    settings_seen: u64,
    resolver: Arc<Resolver>,
    activity: ActivityLog,
    /// Whoever asked what the core answers next.
    asker: Option<SyncSender<Answer>>,
}

impl CoreHost {
    /// The process at the start of that `core`.
    pub fn new(
        shared: Arc<Shared>,
        core: usize,
        settings: Arc<Settings>,
        resolver: Arc<Resolver>,
        activity: ActivityLog,
    ) -> Self {
        Self { settings_seen: settings.version(), shared, core, settings, resolver, activity, asker: None }
    }
}

impl Host for CoreHost {
    fn now(&mut self) -> Duration {
        self.shared.now()
    }

    fn orders(&mut self) -> Orders {
        self.shared.orders()
    }

    fn listeners(&mut self) -> Vec<ListeningSocket> {
        let own = |share: Share| {
            let Share { socket, number, opening, is_shared } = share;
            // The loop closes them: when what is listened on is given up, and not before.
            ListeningSocket { socket: Socket(socket.into_raw_fd()), number, opening, is_shared }
        };
        self.shared.take_listeners(self.core).into_iter().map(own).collect()
    }

    fn limits(&mut self) -> Option<Rc<Limits>> {
        let version = self.settings.version();
        (std::mem::replace(&mut self.settings_seen, version) != version).then(|| Rc::new(self.settings.limits()))
    }

    fn inquiry(&mut self) -> Option<Inquiry> {
        let (inquiry, asker) = self.shared.take_inquiry(self.core)?;
        self.asker = Some(asker);
        Some(inquiry)
    }

    fn answer(&mut self, answer: Answer) {
        if let Some(asker) = self.asker.take() {
            // There is room for the only one. Who has given up waiting does not hear it.
            let _ = asker.try_send(answer);
        }
    }

    fn dial(&mut self, domain: usize, attempt: u32) -> Option<Dial> {
        self.resolver.dial(domain, attempt as usize)
    }

    fn bus(&mut self, news: BusNews) {
        let name = |domain: usize| self.settings.domains[domain].as_str();
        match news {
            BusNews::Opened { domain, half } => {
                self.shared.link_is_up();
                if let Some(word) = self.shared.bus_said.opened(name(domain), half) {
                    tracing::info!("bus: {} is {word}", name(domain));
                }
            }
            BusNews::Failed { domain, half, text, refused } => {
                let name = name(domain);
                if self.shared.bus_said.failed(name, half, &text, self.shared.now_ms()) {
                    if refused {
                        let verb = half.verb();
                        tracing::warn!("bus: the link that {verb} {name} is of no use: {text}; trying again");
                    } else {
                        tracing::warn!("bus: {name} cannot be reached: {text}; trying again");
                    }
                }
                self.resolver.resolve_again();
            }
            BusNews::RefusesPushes { domain, text } => {
                let name = name(domain);
                if self.shared.bus_said.refuses(name, &text, self.shared.now_ms()) {
                    tracing::warn!("bus: {name} refused a push: {text}");
                }
            }
            BusNews::TakesPushes { domain } => {
                if self.shared.bus_said.takes(name(domain)) {
                    tracing::info!("bus: {} takes pushes again", name(domain));
                }
            }
            BusNews::LacksCounts { domain } => {
                if self.shared.bus_said.lacks_counts(name(domain)) {
                    tracing::warn!(
                        "bus: the Redis of {} is older than 6.2 and has no LPOP with a count: several BLPOPs are queued \
                         instead, which costs it more; upgrade it when you can",
                        name(domain)
                    );
                }
            }
        }
    }

    fn readiness(&mut self, now_ms: u64) -> Result<String, String> {
        let verdict = health::readiness(&self.shared, now_ms, self.settings.ready_bus_grace_seconds);
        if verdict.good { Ok(verdict.why) } else { Err(verdict.why) }
    }

    fn log(&mut self, level: Severity, line: String) {
        match level {
            Severity::Warn => tracing::warn!("{line}"),
            Severity::Info => tracing::info!("{line}"),
            Severity::Debug => tracing::debug!("{line}"),
        }
    }

    fn exhausted(&mut self, now_ms: u64, errno: Errno) {
        let said = self.shared.exhausted_said_ms.try_update(Relaxed, Relaxed, |said_ms| {
            (said_ms == 0 || said_ms + EXHAUSTED_LOG_MS <= now_ms).then_some(now_ms)
        });
        if said.is_ok() {
            let error = std::io::Error::from_raw_os_error(errno.0);
            tracing::error!(
                "host: out of file descriptors ({error}): accepting pauses until clients leave; raise LimitNOFILE"
            );
        }
    }

    fn activity(&mut self, now_ms: u64, lines: &str) {
        self.activity.log(now_ms, lines);
    }

    fn flush_activity(&mut self) {
        self.activity.flush();
    }
}
