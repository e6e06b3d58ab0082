//! The names of the bus domains, resolved on a thread of their own: a core never waits for DNS.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::config::Config;

/// The shortest time between two rounds of resolving.
const PAUSE: Duration = Duration::from_millis(500);

/// How long the start waits for the first.
const FIRST_ROUND_MAX: Duration = Duration::from_secs(2);

/// Where the Redis of each bus domain is.
#[derive(Debug)]
pub struct Resolver {
    /// `host:port` of each domain, and its addresses when they were last resolved.
    domains: Vec<(String, RwLock<Vec<SocketAddr>>)>,
    /// The last round's error of each domain: the same one is not said again.
    errors: Mutex<BTreeMap<String, String>>,
    asked: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

impl Resolver {
    /// Resolves once, then on request, on a thread of its own. A name that cannot be resolved yet is no error; for those
    /// that take long nobody waits.
    pub fn start(config: &Config) -> io::Result<Arc<Self>> {
        let resolver = Arc::new(Self {
            domains: config.domains.iter().map(|domain| (config.redis_of(domain), RwLock::default())).collect(),
            errors: Mutex::default(),
            asked: AtomicBool::new(false),
            thread: Mutex::default(),
        });
        let own = Arc::clone(&resolver);
        let (done, first_round) = channel();
        let thread = thread::Builder::new().name("resolver".into()).spawn(move || {
            own.resolve();
            let _ = done.send(());
            loop {
                thread::park();
                if own.asked.swap(false, SeqCst) {
                    own.resolve();
                    thread::sleep(PAUSE);
                }
            }
        })?;
        *resolver.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread.thread().clone());
        if first_round.recv_timeout(FIRST_ROUND_MAX).is_err() {
            tracing::warn!(
                "bus: the names of the domains take longer to be resolved than {FIRST_ROUND_MAX:?}; the start goes on"
            );
        }
        Ok(resolver)
    }

    /// An address of the domain with that index, for the `attempt`th attempt: each takes the next of several. `None`
    /// while there is none, or it is being written this instant.
    pub fn address(&self, domain: usize, attempt: usize) -> Option<SocketAddr> {
        let addresses = self.domains.get(domain)?.1.try_read().ok()?;
        addresses.get(attempt.checked_rem(addresses.len())?).copied()
    }

    /// Asks for another round; does not wait for it.
    pub fn resolve_again(&self) {
        if !self.asked.swap(true, SeqCst)
            && let Ok(thread) = self.thread.try_lock()
            && let Some(thread) = &*thread
        {
            thread.unpark();
        }
    }

    fn resolve(&self) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        for (place, known) in &self.domains {
            match place.to_socket_addrs() {
                Ok(addresses) => {
                    errors.remove(place);
                    let mut addresses: Vec<SocketAddr> = addresses.collect();
                    // Redis usually listens on IPv4 only; localhost names resolve to ::1 first.
                    addresses.sort_by_key(|address| (address.is_ipv6(), *address));
                    if *known.read().unwrap_or_else(PoisonError::into_inner) != addresses {
                        *known.write().unwrap_or_else(PoisonError::into_inner) = addresses;
                    }
                }
                Err(error) => {
                    let error = error.to_string();
                    if errors.get(place) != Some(&error) {
                        tracing::warn!("bus: {place} cannot be resolved: {error}");
                        errors.insert(place.clone(), error);
                    }
                }
            }
        }
    }
}
