//! The demo services: each a listener on the service's queues and a pool of workers. They reach clients only through
//! the bus, under the account of OpenSRF's services, and know nothing of the gateway.

mod methods;
mod worker;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_lock::{Semaphore, SemaphoreGuardArc};
use futures_channel::mpsc;
use futures_util::future::join;
use futures_util::stream::StreamExt as _;

use super::link::{Domains, Listener, Pusher};
use super::messages::Dialect;
use worker::Worker;

/// Free workers that keep their own connection open for the next session; the others close theirs, so that a burst of
/// sessions does not hold descriptors for ever.
const CONNECTIONS_KEPT: usize = 64;

/// A service that is served here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// `opensrf.math`, which speaks as a C service does.
    Math,
    /// `opensrf.demo`, which speaks as a Perl service does and reads as a patient one would.
    Demo,
    /// `opensrf.demo.perl`: the same methods, read as a Perl service reads.
    DemoPerl,
    /// `opensrf.demo.c`: the same methods, spoken and read as by a C service that calls others.
    DemoC,
}

/// How the worker of a session reads what is in its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// One message at a time, each carried out before the next is read: nothing is ever lost.
    OneByOne,
    /// As a Perl worker does: it reads its list also while it serves a request. A DISCONNECT found there ends the session
    /// behind that request's reply, and the requests read with it are never answered.
    WhileServing,
    /// As a C worker does that calls another service while it serves: whatever comes meanwhile is carried out inside the
    /// request, so that the replies come in reversed order.
    Nested,
}

impl Service {
    /// All of them.
    pub(super) const ALL: [Self; 4] = [Self::Math, Self::Demo, Self::DemoPerl, Self::DemoC];

    /// The name that clients call it by.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Math => "opensrf.math",
            Self::Demo => "opensrf.demo",
            Self::DemoPerl => "opensrf.demo.perl",
            Self::DemoC => "opensrf.demo.c",
        }
    }

    /// How its replies are spelled.
    fn dialect(self) -> Dialect {
        match self {
            Self::Math | Self::DemoC => Dialect::C,
            Self::Demo | Self::DemoPerl => Dialect::Perl,
        }
    }

    /// How its workers read a session's messages.
    fn reading(self) -> Reading {
        match self {
            Self::Math | Self::Demo => Reading::OneByOne,
            Self::DemoPerl => Reading::WhileServing,
            Self::DemoC => Reading::Nested,
        }
    }
}

/// What the workers of one service have in common.
#[derive(Debug)]
struct Common {
    service: Service,
    /// How long a session's worker waits for the next message.
    keepalive: Duration,
    /// Where replies are sent.
    domains: Domains,
    /// The Redis that holds the workers' own addresses.
    own: Rc<Pusher>,
}

/// The workers of one service.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    common: Rc<Common>,
    /// One permit for each free worker.
    permits: Arc<Semaphore>,
    /// Free workers by number: the lowest is taken first, so that few of them ever open a connection.
    free: Rc<RefCell<BTreeMap<usize, Worker>>>,
}

/// A worker at work; leaving scope puts it back into its pool.
struct Busy {
    pool: Pool,
    worker: Option<Worker>,
    /// Released after the worker is back, for fields are dropped after `drop` has run.
    _permit: SemaphoreGuardArc,
}

impl Busy {
    async fn work(mut self, message: Vec<u8>) {
        if let Some(worker) = &mut self.worker {
            worker.work(&self.pool.common, &message).await;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(mut worker) = self.worker.take() {
            let mut free = self.pool.free.borrow_mut();
            if free.len() >= CONNECTIONS_KEPT && free.keys().nth(CONNECTIONS_KEPT - 1) < Some(&worker.number) {
                worker.close();
            }
            free.insert(worker.number, worker);
        }
    }
}

/// How a pool is set up.
#[derive(Debug)]
pub(super) struct PoolOptions<'a> {
    /// The service.
    pub(super) service: Service,
    /// How many workers it has at most.
    pub(super) workers: usize,
    /// The number of its first worker.
    pub(super) first_number: usize,
    /// The workers' addresses up to their number: `opensrf:client:USER:DOMAIN:HOST`.
    pub(super) address_prefix: &'a str,
    /// How long a session's worker waits for the next message.
    pub(super) keepalive: Duration,
    /// Where replies are sent.
    pub(super) domains: Domains,
    /// The Redis of the workers' own addresses.
    pub(super) own: Rc<Pusher>,
}

impl Pool {
    /// A pool of workers that all are free.
    pub(super) fn new(options: PoolOptions<'_>) -> Result<Self, getrandom::Error> {
        let PoolOptions { service, workers, first_number, address_prefix, keepalive, domains, own } = options;
        let mut free = BTreeMap::new();
        for number in first_number..first_number + workers {
            let random = super::random_hex(4)?;
            free.insert(number, Worker::new(number, format!("{address_prefix}:{number}:{random}")));
        }
        Ok(Self {
            common: Rc::new(Common { service, keepalive, domains, own }),
            permits: Arc::new(Semaphore::new(workers)),
            free: Rc::new(RefCell::new(free)),
        })
    }

    /// Takes calls from one of the service's queues for ever, never more than there are free workers: the rest wait in
    /// the queue, where they outlive this process.
    pub(super) async fn run(self, listener: Listener) {
        let (call, calls) = mpsc::unbounded();
        let working = calls.for_each_concurrent(None, |(busy, message)| Busy::work(busy, message));
        join(self.take_calls(listener, call), working).await;
    }

    async fn take_calls(self, mut listener: Listener, call: mpsc::UnboundedSender<(Busy, Vec<u8>)>) {
        loop {
            // A second listener (of the other domain) may take the permit meanwhile: then its message waits below.
            drop(self.permits.acquire().await);
            let free = self.free.borrow().len();
            for message in listener.messages(free.max(1)).await {
                let permit = self.permits.acquire_arc().await;
                let worker = self.free.borrow_mut().pop_first();
                let busy = Busy { pool: self.clone(), worker: worker.map(|(_, worker)| worker), _permit: permit };
                // Nobody takes it: this is being dropped.
                let _ = call.unbounded_send((busy, message));
            }
        }
    }
}
