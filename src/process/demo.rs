//! `demo`: the gateway with a bus, a router and services of its own, to which it connects as to any other.

use evergate_demo::{Demo, ServiceOptions};

use super::Exit;
use super::logs::{self, Activity, Destination, LogOptions};
use super::serve;
use super::signals::{self, Signals, Stopper};
use crate::bounded;
use crate::check;
use crate::config::calling::{CALL_URL, URL_PATH};
use crate::config::cli::DemoServices;
use crate::config::{Listen, ListenAt, Loaded, LogFormat, LogLevel, Secret};
use crate::random;
use crate::stdio;

/// Serves until a signal ends it.
pub fn run(mut loaded: Loaded, keepalive_seconds: u64, signals: &Signals) -> Exit {
    // Its bus needs a ring as the cores do: say what is amiss before the first that misses it.
    if let Err(error) = check::host_usable() {
        stdio::say(&format!("host: {error}"));
        return Exit::Host;
    }
    let config = &mut loaded.config;
    let demo = match signals::blocked(|| Demo::start(&config.domain, keepalive_seconds)) {
        Ok(demo) => demo,
        Err(error) => {
            stdio::say(&format!("host: the demo's own bus cannot be started: {error}"));
            return Exit::Host;
        }
    };
    Demo::GATEWAY_USER.clone_into(&mut config.username);
    Demo::ROUTER_NAME.clone_into(&mut config.router_name);
    config.passwd = Secret::new(demo.gateway_password());
    config.bus_domain_address.insert(config.domain.clone(), demo.address().to_string());
    // Its bus ends with the process, and the lists with it.
    config.state_dir = None;
    if config.admin.is_some() && config.admin_actions && loaded.admin_token.is_none() {
        // Whoever started the demo reads it.
        loaded.admin_token = match random::hex() {
            Ok(token) => Some(Secret::new(token)),
            Err(error) => {
                stdio::say(&format!("host: {error}"));
                return Exit::Host;
            }
        };
    }
    let exit = serve::run(&loaded, signals, |listen| greet(greeting(&loaded, listen), signals.stopper()));
    drop(demo);
    exit
}

/// Prints the greeting, on a thread of its own since stdout may be a pipe that nobody reads. A demo that cannot tell where it
/// is ends.
fn greet(greeting: String, stopper: Stopper) {
    let greet = move || {
        if let Err(error) = stdio::print(&greeting) {
            tracing::error!("host: {error}");
            stopper.fail("the greeting cannot be printed");
        }
    };
    if let Err(error) = bounded::spawn("greeting", greet) {
        tracing::error!("host: no thread can be started: {error}");
    }
}

/// A call as any WebSocket client can make it.
const ENVELOPE: &str = r#"{"service":"opensrf.math","thread":"1","osrf_msg":[{"__c":"osrfMessage","__p":{"threadTrace":1,"type":"REQUEST","payload":{"__c":"osrfMethod","__p":{"method":"add","params":[1,2]}}}}]}"#;

fn greeting(loaded: &Loaded, listening: &[Listen]) -> String {
    let places = listening.iter().map(|listen| match &listen.at {
        ListenAt::Tcp(address) => format!("ws://{address}{URL_PATH}"),
        ListenAt::Unix(_) => listen.at.to_string(),
    });
    let places: Vec<String> = places.collect();
    let url = listening.iter().position(|listen| listen.at.tcp().is_some()).map_or(CALL_URL, |at| places[at].as_str());
    // What stands behind the # stays in the browser.
    let token = loaded.admin_token.as_ref().filter(|_| loaded.config.admin_token_file.is_none());
    let token = token.map_or_else(String::new, |token| format!("#token={}", token.expose()));
    let admin = loaded.config.admin.map_or_else(String::new, |admin| format!("\nStatus: http://{admin}/{token}"));
    // Whoever tries it has not installed it.
    let program = std::env::current_exe().map_or_else(|_| "evergate".to_owned(), |path| path.display().to_string());
    let at = if url == CALL_URL { String::new() } else { format!(" --url {url}") };
    format!(
        "evergate demo: a gateway with a bus and services of its own.\n\
         WebSocket: {}{admin}\n\
         Try\n  {program} call{at} opensrf.math add 1 2\n\
         or enter this in any WebSocket client\n  {ENVELOPE}\n\
         To see a drain wait for a reply, call this, which takes 4 s\n  \
         {program} call{at} opensrf.demo opensrf.demo.sleep 4\n\
         and drain it with: kill -USR1 {}\n",
        places.join(", "),
        std::process::id()
    )
}

/// `demo-services`: router and services on a real bus, until the process is ended. What goes wrong there is said on
/// stderr, also before the bus has been reached: nobody else could tell why a call gets no answer.
pub fn run_services(options: DemoServices) -> Result<(), String> {
    let _logs = logs::start(&LogOptions {
        level: LogLevel::Info,
        destination: Destination::Stderr,
        activity: Activity::SameAsDestination,
        tag: String::new(),
        queue_bytes_max: logs::QUEUE_BYTES_MAX,
        format: LogFormat::Text,
    })
    .map_err(|error| error.to_string())?;
    check::host_usable().map_err(|error| format!("host: {error}"))?;
    options.warnings.iter().for_each(|warning| tracing::warn!("config: {warning}"));
    evergate_demo::serve_services(services(options), stdio::print)
}

/// The options of `demo-services` as the services take them.
fn services(options: DemoServices) -> ServiceOptions {
    ServiceOptions {
        redis: options.redis,
        domain: options.domain,
        service_redis: Some(options.service_redis),
        service_domain: Some(options.service_domain),
        router_name: options.router_name,
        router_user: options.router_user,
        router_password: options.router_passwd.expose().to_owned(),
        service_user: options.service_user,
        service_password: options.service_passwd.expose().to_owned(),
        keepalive_seconds: options.keepalive_seconds,
        workers: options.workers,
    }
}
