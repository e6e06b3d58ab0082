//! What the service manager is told (`sd_notify(3)`): a datagram to the socket that `NOTIFY_SOCKET` names.
//!
//! The crate sd-notify takes a name that begins with `@`, which is one of the abstract namespace, for a path.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use evergate_proto::lifecycle::Phase;
use nix::time::{ClockId, clock_gettime};

use super::shared::Shared;
use crate::admin::health::health;

/// How often the status is told, where it has changed.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// How often, and how fast, it is tried to tell what must be told: less than a second in all.
const TRIES: u32 = 8;
const TRY_EVERY: Duration = Duration::from_millis(100);

/// The log has heard that the service manager cannot be told anything: a drain tells it something each second.
static SAID: AtomicBool = AtomicBool::new(false);

/// Tells the service manager what is the case, `READY=1` say, a line each. Where there is none, nothing is done; where it
/// does not listen, the log says so once. Whether it was told, or there is nobody to tell.
pub fn tell(state: &str) -> bool {
    let Some(socket) = env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else { return true };
    let Err(error) = send(&socket, state) else { return true };
    if !SAID.swap(true, Relaxed) {
        tracing::warn!(
            "host: the service manager at {} cannot be told {}: {error}; unset NOTIFY_SOCKET where there is none",
            socket.display(),
            state.replace('\n', ", ")
        );
    }
    false
}

/// This process serves, and is the service's main one.
pub fn ready() {
    tell(&format!("READY=1\nMAINPID={}", std::process::id()));
}

/// Tells what the service manager waits for: where its queue is full for a moment, again.
pub fn tell_surely(state: &str) {
    for _ in 0..TRIES {
        if tell(state) {
            return;
        }
        thread::sleep(TRY_EVERY);
    }
}

/// A reload begins (`sd_notify(3)`: with the time by the monotonic clock); `READY=1` tells that it is over.
pub fn reloading() {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
}

/// Tells the service manager again and again how the process is.
#[derive(Debug)]
pub struct Reporter {
    /// So often it is told that every core turns, where it watches for that (`WATCHDOG_USEC`).
    feed_every: Option<Duration>,
    fed: Option<Instant>,
    status: String,
    /// When and in which phase it was told.
    told: Option<(Instant, Phase)>,
}

impl Reporter {
    /// For the manager of this process.
    pub fn start() -> Self {
        let variable = |name| env::var(name).ok();
        let feed_every = watchdog(variable("WATCHDOG_USEC").as_deref(), variable("WATCHDOG_PID").as_deref());
        Self { feed_every, fed: None, status: String::new(), told: None }
    }

    /// Tells what it is time for.
    pub fn report(&mut self, shared: &Shared) {
        let now = Instant::now();
        if let Some(every) = self.feed_every
            && self.fed.is_none_or(|last| now.duration_since(last) >= every)
            && health(shared).good
            && tell("WATCHDOG=1")
        {
            // Untold, it is told at the next look: the next in its turn would be too late.
            self.fed = Some(now);
        }
        let phase = shared.phase();
        if self.told.is_none_or(|(at, was)| was != phase || now.duration_since(at) >= STATUS_EVERY) {
            self.told = Some((now, phase));
            let status = status(shared);
            if status != self.status && tell(&format!("STATUS={status}")) {
                self.status = status;
            }
        }
    }
}

/// How often a watchdog is fed, from its variables (`sd_watchdog_enabled(3)`): twice in its time. None is asked for, or of another
/// process.
fn watchdog(usec: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let usec: u64 = usec?.parse().ok().filter(|usec| *usec > 0)?;
    let is_ours = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    is_ours.then(|| Duration::from_micros(usec / 2))
}

/// What `systemctl status` shows.
fn status(shared: &Shared) -> String {
    let sum = |of: fn(&evergate_proto::counters::Counts) -> u64| {
        shared.cores.iter().map(|core| of(&core.counts)).sum::<u64>()
    };
    let open = sum(|counts| counts.open.load(Relaxed));
    let clients = if open == 1 { "client" } else { "clients" };
    match shared.phase() {
        Phase::Starting => "starting: waiting for the bus".to_owned(),
        Phase::Serving => {
            let pending = sum(|counts| counts.pending.load(Relaxed));
            let away = shared.cores.iter().any(|core| !core.bus_state().is_linked());
            let requests = if pending == 1 { "request" } else { "requests" };
            format!(
                "serving {open} {clients}, {pending} {requests} in flight{}",
                if away { "; the bus is away" } else { "" }
            )
        }
        Phase::Draining => {
            let left_ms = shared.drain_left_ms().unwrap_or_default();
            let [at_gap, sending, waiting, sessions] = [
                sum(|counts| counts.closed_at_gap.load(Relaxed)),
                sum(|counts| counts.sending.load(Relaxed)),
                sum(|counts| counts.waiting_for_replies.load(Relaxed)),
                sum(|counts| counts.in_stateful_session.load(Relaxed)),
            ];
            format!(
                "draining: {open} {clients} open ({sending} sending, {waiting} waiting for replies, {sessions} in a session), \
                 {at_gap} closed at a gap, {} s left",
                left_ms.div_ceil(1_000)
            )
        }
        Phase::Stopping => format!("stopping: {open} {clients} open"),
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    // A manager that does not read is not waited for: the main thread has the signals to answer.
    sender.set_nonblocking(true)?;
    sender.send_to_addr(state.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(listener: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = listener.recv(&mut buffer).expect("a datagram");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn a_watchdog_is_fed_twice_in_its_time_where_it_is_ours() {
        let own = std::process::id().to_string();
        let half = Some(Duration::from_millis(250));
        assert_eq!([watchdog(Some("500000"), None), watchdog(Some("500000"), Some(&own))], [half; 2]);
        let others =
            [(None, None), (Some("0"), None), (Some("x"), None), (Some("500000"), Some("1")), (Some("5"), Some(""))];
        assert!(others.iter().all(|(usec, pid)| watchdog(*usec, *pid).is_none()));
    }

    #[test]
    fn a_watchdog_is_not_fed_while_a_core_stands_still() {
        let shared = Shared::new(&[0]);
        let mut reporter = Reporter { feed_every: Some(Duration::ZERO), fed: None, status: String::new(), told: None };
        reporter.report(&shared);
        let fed = reporter.fed;
        assert!(fed.is_some());
        shared.cores[0].given_ms.store(60_000, Relaxed);
        reporter.report(&shared);
        assert_eq!(reporter.fed, fed);
    }

    #[test]
    fn the_status_says_what_the_process_does_and_what_a_drain_waits_for() {
        let shared = Shared::new(&[0, 1]);
        shared.enter(Phase::Serving);
        for core in shared.cores.iter() {
            core.counts.open.store(2, Relaxed);
            core.counts.pending.store(5, Relaxed);
            core.counts.waiting_for_replies.store(1, Relaxed);
        }
        assert!(status(&shared).starts_with("serving 4 clients, 10 requests in flight"), "{}", status(&shared));
        shared.drain(shared.now_ms(), shared.now_ms() + 60_000);
        let said = status(&shared);
        assert!(
            said.starts_with("draining: 4 clients open (0 sending, 2 waiting") && said.ends_with("60 s left"),
            "{said}"
        );
    }

    #[test]
    fn a_socket_with_a_path_and_an_abstract_one_hear_the_same() {
        let path = env::temp_dir().join(format!("evergate-notify-{}", std::process::id()));
        let named = UnixDatagram::bind(&path).expect("a socket");
        send(path.as_os_str(), "READY=1\nMAINPID=7").expect("it listens");
        assert_eq!(heard(&named), "READY=1\nMAINPID=7");
        std::fs::remove_file(&path).expect("its path");
        assert!(send(path.as_os_str(), "READY=1").is_err(), "nobody listens any more");

        let name = format!("evergate/notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let unnamed = UnixDatagram::bind_addr(&address).expect("a socket");
        send(OsStr::new(&format!("@{name}")), "STOPPING=1").expect("it listens");
        assert_eq!(heard(&unnamed), "STOPPING=1");
    }
}
