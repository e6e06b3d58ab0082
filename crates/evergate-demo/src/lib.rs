//! The bus for the demo: a Redis server in this process, OpenSRF's router, and services to call.
//!
//! `server` speaks the Redis protocol (`resp`, `commands`, `keyspace`) under OpenSRF's stock ACL (`account`).
//! `router` and `services` are ordinary clients of a Redis (`link`), be it that server or a real one, and speak
//! OpenSRF's messages (`messages`) as the C and Perl originals do.
//!
//! It runs on monoio, on a ring and in a thread of its own (`ring`, `task`), where nothing blocks, and may use the
//! `redis` crate to spell commands and to read answers (`redis_client`). It never runs on a core, never shares memory
//! with the gateway (they meet on a TCP socket, as in production), and nothing of the gateway depends on it.
#![forbid(unsafe_code)]

pub mod account;
mod commands;
mod keyspace;
mod link;
mod messages;
mod redis_client;
mod resp;
pub mod ring;
mod router;
pub mod server;
mod services;
mod task;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_channel::mpsc;
use futures_util::future::select_all;
use futures_util::stream::StreamExt as _;
use monoio::time::{sleep, timeout};

use account::User;
use link::{Account, Domains, Listener, Pusher};
use router::Router;
use services::{Pool, PoolOptions, Service};
use task::Task;

/// Workers of each service, unless [`ServiceOptions`] say otherwise.
pub const WORKERS: usize = 512;
/// Longest time in which the demo's own router and services must have connected to the demo's own server.
const DEMO_START_MAX: Duration = Duration::from_secs(10);

/// Where the demo services attach themselves: the options of `evergate demo-services`.
#[derive(Clone)]
pub struct ServiceOptions {
    /// `HOST:PORT` of the Redis of `domain`.
    pub redis: String,
    /// The router's domain, on which services are called.
    pub domain: String,
    /// `HOST:PORT` of the Redis of `service_domain`; `None`: `redis`.
    pub service_redis: Option<String>,
    /// The domain of the workers' own addresses; `None`: `domain`.
    pub service_domain: Option<String>,
    /// The router's name: it listens on `opensrf:router:{router_name}:{domain}`.
    pub router_name: String,
    /// The router's Redis account.
    pub router_user: String,
    /// Its password.
    pub router_password: String,
    /// The services' Redis account, on both domains.
    pub service_user: String,
    /// Its password.
    pub service_password: String,
    /// How long a session's worker waits for the next message, in seconds; at least 1.
    pub keepalive_seconds: u64,
    /// Workers of each service; at least 1.
    pub workers: usize,
}

impl ServiceOptions {
    /// The domain of the workers' own addresses.
    fn service_domain(&self) -> &str {
        self.service_domain.as_deref().unwrap_or(&self.domain)
    }
}

impl std::fmt::Debug for ServiceOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ServiceOptions")
            .field("redis", &self.redis)
            .field("domain", &self.domain)
            .field("service_redis", &self.service_redis)
            .field("service_domain", &self.service_domain)
            .field("router_name", &self.router_name)
            .finish_non_exhaustive()
    }
}

/// Reads a password from the first line of a file.
pub fn password_from_file(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("{}: {error}; give a readable file that holds the password", path.display()))?;
    match text.lines().next().filter(|line| !line.is_empty()) {
        Some(line) => Ok(line.to_owned()),
        None => Err(format!("{}: empty; write the password on its first line", path.display())),
    }
}

/// Serves `opensrf.math`, `opensrf.demo` and its kind, and routes calls to them, until the process ends. Has one line
/// printed when everything is connected; reconnects for as long as it takes when a Redis goes away.
pub fn serve_services(options: ServiceOptions, print: impl FnOnce(&str) -> Result<(), String>) -> Result<(), String> {
    let mut runtime = ring::build().map_err(|error| format!("the services cannot be started: {error}"))?;
    runtime.block_on(async {
        let (running, ready) = attach(&options)?;
        ready.take(running.len()).for_each(async |()| {}).await;
        let ServiceOptions { domain, redis, .. } = options;
        print(&format!("demo services ready on {domain} ({redis})\n"))?;
        // The tasks run for ever; one that ended would be a defect worth an exit code.
        select_all(running).await;
        Err("a demo service ended by itself".to_owned())
    })
}

/// Starts the router and the services as tasks. Each task says on the channel when it is connected.
fn attach(options: &ServiceOptions) -> Result<(Vec<Task>, mpsc::UnboundedReceiver<()>), String> {
    let domain = options.domain.as_str();
    let buses = Buses::new(options)?;
    let (host, pid) = (host_name(), std::process::id());
    let (told, ready) = mpsc::unbounded();
    let (registered, mut running) = start_services(options, &buses, &host, &told)?;
    let random = random_hex(4).map_err(|error| error.to_string())?;
    let router = Router {
        // The literal "router", whatever the account is called: gateways know the router's answers by it.
        address: format!("opensrf:client:router:{domain}:{host}:{pid}:{random}"),
        domain: domain.to_owned(),
        services: registered,
        domains: buses.router_domains,
    };
    let key = format!("opensrf:router:{}:{domain}", options.router_name);
    running.push(Task::spawn(router.run(Listener::new(key, buses.routing, told))));
    Ok((running, ready))
}

/// Starts a pool for each service, which listens on every domain. Where the router finds each service on its own domain, and the
/// tasks.
fn start_services(
    options: &ServiceOptions,
    buses: &Buses<'_>,
    host: &str,
    told: &mpsc::UnboundedSender<()>,
) -> Result<(BTreeMap<String, String>, Vec<Task>), String> {
    let service_domain = options.service_domain();
    let mut running = Vec::new();
    let mut registered = BTreeMap::new();
    let workers = options.workers.max(1);
    for (index, service) in Service::ALL.into_iter().enumerate() {
        let pool = Pool::new(PoolOptions {
            service,
            workers,
            first_number: std::process::id() as usize + 1 + index * workers,
            address_prefix: &format!("opensrf:client:{}:{service_domain}:{host}", options.service_user),
            keepalive: Duration::from_secs(options.keepalive_seconds.max(1)),
            domains: buses.service_domains.clone(),
            own: buses.own.clone(),
        })
        .map_err(|error| error.to_string())?;
        let queue = |domain: &str| format!("opensrf:service:{}:{domain}:{}", options.service_user, service.name());
        registered.insert(service.name().to_owned(), queue(&options.domain));
        for (domain, pusher) in &buses.queues {
            let listener = Listener::new(queue(domain), pusher.clone(), told.clone());
            running.push(Task::spawn(pool.clone().run(listener)));
        }
    }
    Ok((registered, running))
}

/// The Redis of each domain, for either account.
struct Buses<'a> {
    /// The router's own.
    routing: Rc<Pusher>,
    /// That of the workers' own addresses.
    own: Rc<Pusher>,
    /// What the router can reach.
    router_domains: Domains,
    /// What the services can reach.
    service_domains: Domains,
    /// Where services take calls.
    queues: Vec<(&'a str, Rc<Pusher>)>,
}

impl<'a> Buses<'a> {
    fn new(options: &'a ServiceOptions) -> Result<Self, String> {
        let (domain, service_domain) = (options.domain.as_str(), options.service_domain());
        let service_redis = options.service_redis.as_deref();
        if service_domain == domain && service_redis.is_some_and(|redis| redis != options.redis) {
            return Err(format!("{domain} would be on two Redis servers; with --service-redis give --service-domain"));
        }
        let pusher = |redis: &str, user: &str, password: &str| -> Result<_, String> {
            let (host, port) = host_and_port(redis)?;
            Ok(Pusher::new(Account { host, port, user: user.to_owned(), password: password.to_owned() }))
        };
        let routing = pusher(&options.redis, &options.router_user, &options.router_password)?;
        let serving = pusher(&options.redis, &options.service_user, &options.service_password)?;
        let (mut router_domains, mut service_domains) = (Domains::default(), Domains::default());
        router_domains.insert(domain, routing.clone());
        service_domains.insert(domain, serving.clone());
        let mut queues = vec![(domain, serving.clone())];
        let mut own = serving;
        if service_domain != domain {
            let redis = service_redis.unwrap_or(&options.redis);
            own = pusher(redis, &options.service_user, &options.service_password)?;
            router_domains.insert(service_domain, pusher(redis, &options.router_user, &options.router_password)?);
            service_domains.insert(service_domain, own.clone());
            queues.push((service_domain, own.clone()));
        }
        Ok(Self { routing, own, router_domains, service_domains, queues })
    }
}

fn host_and_port(redis: &str) -> Result<(String, u16), String> {
    let parts = redis.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    match parts {
        Some((host, port)) if !host.is_empty() => {
            Ok((host.trim_start_matches('[').trim_end_matches(']').to_owned(), port))
        }
        _ => Err(format!("{redis:?} is no HOST:PORT; give for example 127.0.0.1:6379")),
    }
}

/// The host's name as it stands in a bus address, which colons divide.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim().replace(|letter: char| letter == ':' || letter.is_whitespace(), "-");
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// Random bytes in hexadecimal.
fn random_hex(bytes: usize) -> Result<String, getrandom::Error> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random)?;
    Ok(random.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// A whole bus in a thread of its own: server, router and services. Dropping it ends them.
#[derive(Debug)]
pub struct Demo {
    address: SocketAddr,
    password: String,
    /// The thread ends when this end of a socket pair is closed: a ring hears of nothing else that another thread does.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Demo {
    /// The gateway's account.
    pub const GATEWAY_USER: &'static str = "gateway";
    /// The router's name.
    pub const ROUTER_NAME: &'static str = "router";

    /// Starts the bus of `domain` on a free loopback port and returns when a call would be answered.
    pub fn start(domain: &str, keepalive_seconds: u64) -> io::Result<Self> {
        let random = || random_hex(16).map_err(io::Error::other);
        let (password, router_password, service_password) = (random()?, random()?, random()?);
        let users = User::stock(&password, &router_password, &service_password);
        let options = ServiceOptions {
            redis: String::new(),
            domain: domain.to_owned(),
            service_redis: None,
            service_domain: None,
            router_name: Self::ROUTER_NAME.to_owned(),
            router_user: "router".to_owned(),
            router_password,
            service_user: "opensrf".to_owned(),
            service_password,
            keepalive_seconds,
            workers: WORKERS,
        };
        let (started, starting) = std::sync::mpsc::channel();
        let (stop, stopped) = UnixStream::pair()?;
        let bus = move || {
            let run = async {
                let stopped = monoio::net::UnixStream::from_std(stopped)?;
                let (server, running) = start_demo(options, users).await?;
                // Nobody waits any more: `stopped` says so too.
                let _ = started.send(Ok(server.addr()));
                let closed = stopped.readable(false).await;
                end(server, running).await;
                closed
            };
            if let Err(error) = ring::build().and_then(|mut runtime| runtime.block_on(run)) {
                // Nobody hears it once the start has been told.
                let _ = started.send(Err(error));
            }
        };
        let thread = std::thread::Builder::new().name("demo-bus".to_owned()).spawn(bus)?;
        let address = starting.recv().map_err(|_| io::Error::other("the demo bus did not start"))??;
        Ok(Self { address, password, stop: Some(stop), thread: Some(thread) })
    }

    /// Where its Redis listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The password of the account `gateway`, made for this run.
    pub fn gateway_password(&self) -> &str {
        &self.password
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the demo bus had failed");
        }
    }
}

async fn start_demo(mut options: ServiceOptions, users: Vec<User>) -> io::Result<(server::Server, Vec<Task>)> {
    let server = server::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), users)?;
    options.redis = server.addr().to_string();
    let (running, ready) = attach(&options).map_err(io::Error::other)?;
    timeout(DEMO_START_MAX, ready.take(running.len()).for_each(async |()| {})).await?;
    Ok((server, running))
}

/// Ends all that [`start_demo`] started. A task that waits for its ring when the runtime is dropped is never freed.
async fn end(server: server::Server, running: Vec<Task>) {
    for task in running {
        task.end().await;
    }
    server.end().await;
    // What the tasks had in flight is cancelled in the ring's next turn, and its descriptors are closed. A runtime that
    // is dropped before frees buffers into which the kernel may still write.
    sleep(Duration::from_millis(1)).await;
}
