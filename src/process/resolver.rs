//! The names of the bus domains, resolved on a thread of their own: a core never waits for DNS.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, Thread};
use std::time::Duration;

use evergate_proto::redis::dial::{Dial, Place};

use crate::bus::tls::Tls;
use crate::config::{Config, RedisPlace};

/// The shortest time between two rounds of resolving.
const PAUSE: Duration = Duration::from_millis(500);

/// How long the start waits for the first.
const FIRST_ROUND_MAX: Duration = Duration::from_secs(2);

/// Where the Redis of each bus domain is.
#[derive(Debug)]
pub struct Resolver {
    /// What the configuration names for each domain, and where that was when it was last resolved.
    domains: Vec<(RedisPlace, RwLock<Vec<Place>>)>,
    /// For those that are reached by TLS.
    tls: Option<Tls>,
    /// The last round's error of each domain: the same one is not said again.
    errors: Mutex<BTreeMap<String, String>>,
    asked: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

impl Resolver {
    /// Resolves once, then on request, on a thread of its own. A name that cannot be resolved yet is no error; for those
    /// that take long nobody waits.
    pub fn start(config: &Config, tls: Option<Tls>) -> io::Result<Arc<Self>> {
        let resolver = Arc::new(Self {
            domains: config.domains.iter().map(|domain| (config.redis_of(domain), RwLock::default())).collect(),
            errors: Mutex::default(),
            tls,
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

    /// How the Redis of the domain with that index is reached, at the `attempt`th attempt: each takes the next of several
    /// addresses. `None` while there is none, or it is being written this instant.
    pub fn dial(&self, domain: usize, attempt: usize) -> Option<Dial> {
        let (named, places) = self.domains.get(domain)?;
        let places = places.try_read().ok()?;
        let place = places.get(attempt.checked_rem(places.len())?)?.clone();
        let cipher = match (named, &self.tls) {
            (RedisPlace::Tls { host, .. }, Some(tls)) => Some(tls.cipher(host).ok()?),
            _ => None,
        };
        Some(Dial { place, cipher })
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
        for (named, known) in &self.domains {
            let name = named.to_string();
            match resolve(named) {
                Ok(places) => {
                    errors.remove(&name);
                    if *known.read().unwrap_or_else(PoisonError::into_inner) != places {
                        *known.write().unwrap_or_else(PoisonError::into_inner) = places;
                    }
                }
                Err(error) => {
                    let error = error.to_string();
                    if errors.get(&name) != Some(&error) {
                        tracing::warn!("bus: {name} cannot be resolved: {error}");
                        errors.insert(name, error);
                    }
                }
            }
        }
    }
}

/// Where that is now, best first. May take minutes.
pub fn resolve(named: &RedisPlace) -> io::Result<Vec<Place>> {
    match named {
        RedisPlace::Unix(path) => Ok(vec![Place::Unix(path.as_path().into())]),
        RedisPlace::Tcp { host, port } | RedisPlace::Tls { host, port } => {
            let mut addresses: Vec<SocketAddr> = (host.as_str(), *port).to_socket_addrs()?.collect();
            // Redis usually listens on IPv4 only; localhost names resolve to ::1 first.
            addresses.sort_by_key(|address| (address.is_ipv6(), *address));
            addresses.dedup();
            Ok(addresses.into_iter().map(Place::Tcp).collect())
        }
    }
}
