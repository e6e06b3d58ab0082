//! The options as the cores need them, and the few that SIGHUP changes.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use evergate_proto::clients::limits::Limits;
use evergate_proto::clients::rate::Rate;
use evergate_proto::opensrf::address;
use evergate_proto::opensrf::envelope::EnvelopeLimits;
use evergate_proto::redis::links::LinkOptions;
use evergate_proto::websocket::handshake::{Net, Origins, Policy};

use crate::config::{Config, refusals_max};

/// What SIGHUP reads again.
#[derive(Clone, Debug)]
struct Changing {
    origins: Origins,
    log_protect: Vec<String>,
    trusted_proxies: Vec<Net>,
}

/// The options that the cores go by.
#[derive(Debug)]
pub struct Settings {
    config: Config,
    changing: Mutex<Changing>,
    version: AtomicU64,
    /// The router's list.
    pub router: String,
    /// The bus domains that may be dialled; the first is the primary.
    pub domains: Vec<String>,
    /// What a made-up `log_xid` of this process begins with.
    pub xid_prefix: String,
    /// What the links to the bus must know.
    pub link: LinkOptions,
    /// `TCP_USER_TIMEOUT` of those links.
    pub bus_dead: Duration,
    /// Sockets of clients of the process.
    pub clients_max: u64,
    /// Sockets beyond those, of clients that are told so.
    pub refusals_max: u64,
    /// How long a core's links may be away, or refuse every push, before the process is not ready, seconds.
    pub ready_bus_grace_seconds: u64,
    /// Handshakes under way on a core.
    pub handshakes_max: u64,
    /// How long a core looks for the next message before it sleeps.
    pub busy_poll: Duration,
    /// The pace of a drain, for the process; 0 = no limit.
    pub drain_closes_per_second: f64,
    /// From our Close frame to the end, ms.
    pub close_timeout_ms: u64,
    /// How long a fast stop may take, ms.
    pub stop_max_ms: u64,
    /// Every message is sent back as it came, and none is relayed.
    pub echo: bool,
}

impl Settings {
    /// The settings that `config` means. `started_unix_seconds` makes the `log_xid`s of this process its own.
    pub fn new(config: &Config, started_unix_seconds: u64) -> Result<Self, String> {
        let changing = Changing::new(&config.origins, &config.log_protect, &config.trusted_proxies)?;
        Ok(Self {
            changing: Mutex::new(changing),
            version: AtomicU64::new(0),
            router: address::router_address(&config.router_name, &config.domain),
            domains: config.domains.clone(),
            xid_prefix: format!("{started_unix_seconds}{}", std::process::id()),
            link: LinkOptions {
                username: config.username.clone(),
                passwd: config.passwd.expose().to_owned(),
                connect_max_ms: config.bus_connect_timeout_seconds * 1_000,
                backoff_max_ms: config.bus_backoff_max_ms,
                probe_ms: config.bus_probe_seconds * 1_000,
            },
            bus_dead: Duration::from_secs(config.bus_dead_seconds),
            clients_max: config.clients_max as u64,
            refusals_max: refusals_max(config.clients_max as u64),
            ready_bus_grace_seconds: config.ready_bus_grace_seconds,
            handshakes_max: config.handshakes_max as u64,
            busy_poll: Duration::from_micros(config.busy_poll_us),
            drain_closes_per_second: config.drain_closes_per_second as f64,
            close_timeout_ms: config.close_timeout_seconds * 1_000,
            stop_max_ms: config.stop_max_seconds * 1_000,
            echo: false,
            config: config.clone(),
        })
    }

    /// Takes what SIGHUP has read again.
    pub fn reload(&self, origins: &Origins, log_protect: &[String], proxies: &[String]) -> Result<(), String> {
        let changing = Changing::new(origins, log_protect, proxies)?;
        *self.changing.lock().unwrap_or_else(PoisonError::into_inner) = changing;
        self.version.fetch_add(1, SeqCst);
        Ok(())
    }

    /// Counts the reloads: a core that sees another number takes the limits again.
    pub fn version(&self) -> u64 {
        self.version.load(SeqCst)
    }

    /// The limits of a core, as they are now.
    pub fn limits(&self) -> Limits {
        let config = &self.config;
        let changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Limits {
            handshake_timeout_ms: config.handshake_timeout_seconds * 1_000,
            message_timeout_ms: config.message_timeout_seconds * 1_000,
            message_max_ms: config.message_max_seconds * 1_000,
            ping_ms: config.ping_seconds * 1_000,
            pong_timeout_ms: config.pong_timeout_seconds * 1_000,
            slow_bytes_per_second_min: config.slow_bytes_per_second_min,
            idle_timeout_ms: config.idle_timeout_seconds * 1_000,
            request_max_ms: config.request_max_seconds * 1_000,
            connect_max_ms: config.connect_max_seconds * 1_000,
            drain_quiet_ms: config.drain_quiet_ms,
            close_timeout_ms: self.close_timeout_ms,
            bus_lost_reply_ms: config.bus_lost_reply_seconds * 1_000,
            message_bytes_max: config.message_bytes_max,
            envelope: EnvelopeLimits {
                json_depth_max: config.json_depth_max,
                keys_per_object_max: config.keys_per_object_max,
                messages_per_envelope_max: config.messages_per_envelope_max,
                bus_message_bytes_max: config.bus_message_bytes_max,
            },
            parallel_max: config.parallel_max,
            backlog_max: config.backlog_max,
            backlog_bytes_max: config.backlog_bytes_max,
            sessions_max: config.sessions_max,
            outbound_bytes_max: config.outbound_bytes_max,
            core_bytes_max: config.core_bytes_max as u64,
            garbage_max: config.garbage_max as u32,
            client_messages: Rate::per_second(config.client_messages_per_second_max),
            address_messages: Rate::per_second(config.address_messages_per_second_max),
            address_connects: Rate::per_second(config.address_connects_per_second_max),
            addresses_max: config.addresses_max,
            address_orphans_max: config.address_orphans_max,
            bus_unanswered_max: config.bus_unanswered_max,
            router_queue_max: config.router_queue_max,
            bus_unanswered_bytes_max: config.bus_unanswered_bytes_max as u64,
            ingress: serde_json::to_vec(&config.ingress).unwrap_or_default(),
            allow_router_calls: config.allow_router_calls,
            log_protect: changing.log_protect,
            activity_format: config.log_format,
            activity_bytes_max: config.activity_bytes_max,
            policy: Policy {
                header_bytes_max: config.header_bytes_max,
                health_path: config.health_path.clone(),
                path: config.path.clone(),
                origins: changing.origins,
                require_origin: config.require_origin,
                same_origin: config.same_origin,
                trusted_proxies: changing.trusted_proxies,
            },
            echo: self.echo,
        }
    }
}

impl Changing {
    fn new(origins: &Origins, log_protect: &[String], trusted_proxies: &[String]) -> Result<Self, String> {
        Ok(Self {
            origins: origins.clone(),
            log_protect: log_protect.to_vec(),
            trusted_proxies: trusted_proxies.iter().map(|net| net.parse()).collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Inputs, Purpose, load};

    #[test]
    fn the_defaults_of_the_table_are_those_of_the_limits() {
        let loaded = load(Inputs::none(Purpose::Demo)).expect("the defaults are valid");
        let limits = Settings::new(&loaded.config, 1).expect("the defaults are valid").limits();
        assert_eq!(format!("{limits:#?}"), format!("{:#?}", Limits::default()));
    }
}
