//! One pinned thread: the event loop of [`evergate_proto::event_loop`] on a ring that enters the kernel.
//!
//! May use: the ring, the clock, tracing (whose writer is another thread). Never: a lock on the message path, a
//! synchronous write, DNS, a decision that the pure half could make.
//!
//! - [`ring`]: its io_uring
//! - [`host`]: what else it needs of the process

pub mod host;
pub mod ring;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Release;

use evergate_proto::clients::context::Context;
use evergate_proto::clients::limits::BusNames;
use evergate_proto::event_loop::{EventLoop, Options};
use evergate_proto::lifecycle::LifecycleOptions;

use crate::process::listeners::BACKLOG;
use crate::process::logs::ActivityLog;
use crate::process::resolver::Resolver;
use crate::process::settings::Settings;
use crate::process::shared::Shared;
use host::CoreHost;
use ring::{Uring, UringSize};

/// What a core is started with.
#[derive(Debug)]
pub struct CoreOptions {
    /// Which core this is.
    pub index: usize,
    /// What the operator chose, as the cores need it.
    pub settings: Arc<Settings>,
    /// Its own name on the bus.
    pub address: String,
    /// What all threads can see.
    pub shared: Arc<Shared>,
    /// Where the names of the bus domains are resolved.
    pub resolver: Arc<Resolver>,
    /// Where activity goes.
    pub activity: ActivityLog,
}

/// Runs a core until the process stops or its drain is over.
pub fn run(options: CoreOptions) -> std::io::Result<()> {
    let CoreOptions { index, settings, address, shared, resolver, activity } = options;
    let size = UringSize::default();
    let ring = Uring::new(&size).map_err(|refused| std::io::Error::other(refused.to_string()))?;
    shared.woken_by(index, ring.waker());
    if index == 0 {
        tracing::info!("host: {}", ring.describe());
    }
    let names = BusNames {
        address,
        router: settings.router.as_str().into(),
        domains: settings.domains.clone(),
        xid_prefix: format!("{}{index}.", settings.xid_prefix),
    };
    let context = Context::new(Rc::new(settings.limits()), Rc::new(names), Arc::clone(&shared.cores), index);
    let options = Options {
        clients_max: settings.clients_max,
        refusals_max: settings.refusals_max,
        handshakes_max: settings.handshakes_max,
        backlog: BACKLOG as u64,
        look_max: settings.busy_poll,
        link: settings.link.clone(),
        bus_dead: settings.bus_dead,
        heavy_buffers: size.heavy.buffers.into(),
        life: LifecycleOptions {
            closes_per_second: settings.drain_closes_per_second / shared.cores.len() as f64,
            close_timeout_ms: settings.close_timeout_ms,
            stop_max_ms: settings.stop_max_ms,
        },
    };
    let host = CoreHost::new(Arc::clone(&shared), index, settings, resolver, activity);
    let served = EventLoop::new(options, context, ring, host).run();
    served.map_err(|errno| std::io::Error::from_raw_os_error(errno.0))?;
    shared.cores[index].ended.store(true, Release);
    Ok(())
}
