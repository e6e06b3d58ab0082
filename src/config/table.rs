//! The one table of options. The fields of [`Config`], the flags, the environment names, the TOML keys, the sample
//! file and docs/options.md all come from it, so that they cannot disagree.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use evergate_proto::opensrf::envelope::EnvelopeLimits;
use evergate_proto::websocket::handshake::Origins;

use super::error::{About, Error};
use super::kind::{Kind, text};
use super::listen::{self, Listen};
use super::redis_place::RedisPlace;
use super::typed::{Facility, LogFormat, LogLevel, Logfile, Secret, Typed};
use super::values::{Value, Values};

/// One option: everything that is known of it, in one place.
#[derive(Debug)]
pub struct Opt {
    /// `snake_case`: the TOML key and the field of [`Config`]. The flag and the environment name derive from it.
    pub name: &'static str,
    /// Heading under which the sample file and docs/options.md list it.
    pub section: &'static str,
    /// What it accepts.
    pub kind: Kind,
    /// The default, as one would write it in the environment.
    pub default: &'static str,
    /// The default under `evergate demo`, where that differs.
    pub demo: Option<&'static str>,
    /// What a number counts: `seconds`, `bytes`, …; empty where the name or the kind says it.
    pub unit: &'static str,
    /// The element of `opensrf_core.xml` that feeds it, below `/config`.
    pub xml: Option<&'static str>,
    /// The variables of `eg-websockets` that mean the same; of two, the first is the address and the second the port.
    pub eg_websockets: &'static [&'static str],
    /// What it does, as running text.
    pub doc: &'static str,
}

impl Opt {
    /// The flag without its dashes: `drain-quiet-ms`. A secret has none: a command line can be read by every user.
    pub fn flag(&self) -> Option<String> {
        (!matches!(self.kind, Kind::Secret)).then(|| self.name.replace('_', "-"))
    }

    /// The environment variable: `EVERGATE_DRAIN_QUIET_MS`.
    pub fn env(&self) -> String {
        format!("EVERGATE_{}", self.name.to_uppercase())
    }

    /// Reads text for this option. Emptiness means "unset" where the default is empty.
    pub(super) fn parse(&self, text: &str) -> Result<Value, String> {
        if text.trim().is_empty() && self.default.is_empty() && !self.kind.repeats() {
            return Ok(Value::Text(String::new()));
        }
        self.kind.parse(text)
    }

    /// The error for a value that is not what the option accepts. A password is not repeated.
    pub(super) fn error(&self, place: impl fmt::Display, given: &str, expected: &str) -> Error {
        let name = self.name;
        let problem = match self.kind {
            Kind::Secret => format!("{name} cannot be used"),
            _ if given.chars().count() > 80 => format!("{name} cannot be used"),
            _ => format!("{name} cannot be {given:?}"),
        };
        let (problem, accepted) = match self.kind {
            // What is accepted is long, and would bury the reason.
            Kind::Listeners => (format!("{problem}: {expected}"), listen::FORM),
            _ => (problem, expected),
        };
        Error::new(place, problem, format!("write {accepted}")).about(About::Option(name))
    }
}

/// The option of that name.
pub fn find(name: &str) -> Option<&'static Opt> {
    TABLE.iter().find(|option| option.name == name)
}

/// Declares the options once: a field with its type and documentation, its kind, its default and, where they apply,
/// its unit, its element in `opensrf_core.xml`, its default for the demo and its variables of `eg-websockets`.
macro_rules! options {
    ($($section:literal {
        $($(#[doc = $doc:literal])+ $name:ident : $ty:ty = $kind:expr, $default:literal
            $(, unit $unit:literal)? $(, xml $xml:literal)? $(, demo $demo:literal)? $(, eg $($eg:literal)+)? ;)+
    })+) => {
        /// Every option, in the order in which it is printed.
        pub static TABLE: &[Opt] = &[$($(Opt {
            name: stringify!($name),
            section: $section,
            kind: $kind,
            default: $default,
            demo: options!(@last None $(, Some($demo))?),
            unit: options!(@last "" $(, $unit)?),
            xml: options!(@last None $(, Some($xml))?),
            eg_websockets: &[$($($eg),+)?],
            doc: concat!($($doc),+).trim_ascii(),
        }),+),+];

        /// The effective configuration: a field for each option, under the option's name, checked and resolved.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Config {
            $($($(#[doc = $doc])+ pub $name: $ty,)+)+
            /// The bus domains that may be dialled: the primary first, then those that `opensrf_core.xml` (routers,
            /// `trusted_domains`) and `bus_domains` name. No duplicates.
            pub domains: Vec<String>,
        }

        impl Config {
            /// The typed form of `values`, which hold an entry for each option, resolved.
            pub(super) fn from_values(values: &Values, domains: Vec<String>) -> Result<Self, Error> {
                Ok(Self {
                    $($($name: Typed::typed(&values.get(stringify!($name)).value)
                        .map_err(|why| values.problem(stringify!($name), why))?,)+)+
                    domains,
                })
            }

            /// Every option that is a number, with its value.
            pub fn numbers(&self) -> Vec<(&'static str, u64)> {
                let all = [$($((stringify!($name), self.$name.number()),)+)+];
                all.into_iter().filter_map(|(name, number)| Some((name, number?))).collect()
            }
        }
    };
    (@last $value:expr) => { $value };
    (@last $ignored:expr, $value:expr) => { $value };
}

const SECONDS: Kind = Kind::Integer { min: 1, max: 86_400 };
const SECONDS_OR_OFF: Kind = Kind::Integer { min: 0, max: 86_400 };
const BYTES: Kind = Kind::Bytes { min: 1_024, max: 1 << 40 };
/// Of one client.
const CLIENT_BYTES: Kind = Kind::Bytes { min: 1_024, max: 1 << 30 };
const RATE: Kind = Kind::Integer { min: 0, max: 1_000_000 };
const COUNT: Kind = Kind::Integer { min: 1, max: 16_777_216 };

options! {
    "Listening" {
        /// Where browsers, or the proxies before them, connect: one listener or a list of them. Each is an address and port (an IPv6
        /// address is not for IPv4: name both) or `unix:` and a path, as `unix:/run/evergate/ws.sock;mode=0660;group=www-data`
        /// with the mode (0660) and the group of the file. With `;proxy` at its end each connection must begin with a PROXY
        /// header (version 1 or 2), sent by one of `trusted_proxies`. Who connects to a Unix socket is trusted as a proxy.
        listen: Vec<Listen> = Kind::Listeners, "127.0.0.1:7682", eg "EG_WEBSOCKETS_ADDRESS" "EG_WEBSOCKETS_PORT";
        /// Address and port of the admin page (`/`, a page to look at, and `/healthz`, `/readyz`, `/status`, `/connections`,
        /// `/metrics`), or `off`.
        admin: Option<SocketAddr> = Kind::Text(text::address_or_off), "off", demo "127.0.0.1:7683";
        /// Let the admin page listen on an address that is not loopback. It has no password.
        admin_allow_remote: bool = Kind::Bool, "false";
        /// Names by which the admin page may be asked for (`Host`), besides `localhost`, loopback addresses and the address that it
        /// listens on: a name of somebody else's that resolves here (DNS rebinding) gets 421. A Prometheus that asks by the host's
        /// name needs that name here, without port.
        admin_hosts: Vec<String> = Kind::List(text::host), "";
        /// Let the admin page do what an operator may: begin a drain, cancel it, close a client. It asks for the token of
        /// `admin_token_file`.
        admin_actions: bool = Kind::Bool, "false", demo "true";
        /// File that holds the token for `admin_actions`: 16 to 256 printable ASCII characters, as of `openssl rand -hex 32`. The
        /// demo makes one of its own and prints it.
        admin_token_file: Option<PathBuf> = Kind::Text(text::any), "";
        /// Share the port with other processes that do the same (`SO_REUSEPORT`): several gateways side by side.
        share_port: bool = Kind::Bool, "false";
        /// The only path that is served (others get 404), such as `/osrf-websocket-translator`. Empty: any path.
        path: Option<String> = Kind::Text(text::path), "";
        /// The CPUs to run on, a pinned thread for each: `0`, `0-3`, `0,2,4-5`, or `all` that the process may use: no more than its
        /// cgroup has CPU time for (`cpu.max`), rounded down. Numbers name CPUs, not how many: `4` is the one CPU 4, and `0-3` are
        /// the first four.
        cores: Vec<usize> = Kind::Cpus, "all";
        /// The longest time for which a core looks for the next message before it sleeps, while few requests are in flight. How long it
        /// does is learned from the waits that it sees, and counted (`evergate_looked_seconds_total`): a client that asks again as soon as it has its answer
        /// is served in half the time, for CPU time that was idle; where waits are of any length, it sleeps. 0: never.
        busy_poll_us: u64 = Kind::Integer { min: 0, max: 1_000 }, "400", unit "microseconds";
        /// Clients of the whole process, those that are being closed among them; more are refused with 503. `auto`: 90 %
        /// of `RLIMIT_NOFILE`, less where cores, links, logs and the admin page need more than the rest.
        clients_max: usize = Kind::IntegerOrAuto { min: 1, max: CLIENTS_MAX_LIMIT }, "auto", unit "clients", eg "EG_WEBSOCKETS_MAX_WORKERS";
        /// Handshakes under way per core; when it is reached, accepting pauses.
        handshakes_max: usize = COUNT, "4096", unit "handshakes per core";
        /// Time from accepting a connection to the end of its request header; later: 408.
        handshake_timeout_seconds: u64 = SECONDS, "10", unit "seconds";
        /// Size of the request header of a handshake, which holds cookies; larger, or of more than 256 lines: 431.
        header_bytes_max: usize = Kind::Bytes { min: 1_024, max: 1 << 20 }, "32 KiB", unit "bytes";
        /// A path of which GET and HEAD are answered as `/readyz` is (200 or 503), for balancers that probe the port
        /// of the clients. No client can connect there. Empty: none.
        health_path: Option<String> = Kind::Text(text::path), "";
    }
    "Who may connect" {
        /// Origins that may connect: `any`, `opensrf_core` (the `cross_origin` list of that file, which does not name
        /// the site's own host), or a list of `host`, `host:port` or `https://host`, `*` meaning all. Port and scheme
        /// count only where they are named. Under a list, `null` is refused.
        origins: Origins = Kind::Origins, "any";
        /// Refuse handshakes that carry no `Origin` header. Scripts and some probes carry none.
        require_origin: bool = Kind::Bool, "false";
        /// Allow only the host that the page came from: `X-Forwarded-Host` from a trusted proxy, else `Host`.
        same_origin: bool = Kind::Bool, "false";
        /// Peers whose `X-Forwarded-For`, `X-Real-IP`, `X-Forwarded-Host` and PROXY headers are believed: addresses or networks.
        trusted_proxies: Vec<String> = Kind::List(text::network), "127.0.0.0/8, ::1";
        /// Relay envelopes whose service is `router`. They can register and deregister services.
        allow_router_calls: bool = Kind::Bool, "false";
    }
    "Limits of a client" {
        /// Size of a message from a client, its frames together; larger: Close 1009.
        message_bytes_max: usize = CLIENT_BYTES, "10 MiB", unit "bytes";
        /// Silence inside an unfinished message; longer: Close 1008.
        message_timeout_seconds: u64 = SECONDS, "30", unit "seconds";
        /// Time from the first to the last byte of a message; longer: Close 1008.
        message_max_seconds: u64 = SECONDS, "600", unit "seconds";
        /// Silence after which a ping is sent.
        ping_seconds: u64 = SECONDS, "30", unit "seconds";
        /// Time for a sign of life after a ping; longer: the client is gone. Any byte of it is one, and so is a reply that it
        /// takes, unless slower than `slow_bytes_per_second_min`.
        pong_timeout_seconds: u64 = SECONDS, "20", unit "seconds";
        /// A client that owes a pong must acknowledge at least this much of what it is sent, over `pong_timeout_seconds`, to count as
        /// alive.
        slow_bytes_per_second_min: u64 = Kind::Integer { min: 1, max: 1 << 30 }, "1000", unit "bytes a second";
        /// An idle gap that has lasted so long ends with Close 1000. 0: never.
        idle_timeout_seconds: u64 = SECONDS_OR_OFF, "180", unit "seconds";
        /// Time in which a closing client may neither send its Close nor acknowledge anything more of what it was sent; then
        /// our side is shut down, and after as long again the connection is given up.
        close_timeout_seconds: u64 = Kind::Integer { min: 1, max: 60 }, "2", unit "seconds";
        /// Bytes that wait to be sent to one client; more: Close 1008, a slow consumer.
        outbound_bytes_max: usize = CLIENT_BYTES, "16 MiB", unit "bytes per client";
        /// Bytes in all clients' buffers of one core; above it new messages are not read and the largest holders get
        /// Close 1008. The process holds this for each core. `auto`: 1 GiB, less where all cores together would take more than half
        /// of the cgroup's memory limit (`memory.max`).
        core_bytes_max: usize = Kind::BytesOrAuto { min: 1_024, max: 1 << 40 }, "auto", unit "bytes per core";
        /// Messages answered with 400 or 413 in a row before Close 1008.
        garbage_max: usize = Kind::Integer { min: 1, max: 65_535 }, "10", unit "messages in a row";
        /// WebSocket messages (envelopes) of one client, over time; it may send two seconds' worth at once. Beyond it: 429. 0: no
        /// limit.
        client_messages_per_second_max: u64 = RATE, "20000", unit "messages a second per client";
        /// The same for all clients of one address (IPv6: of one /64) on one core; a building behind NAT is one address. An address that is itself among `trusted_proxies` is no
        /// client's own, and is not limited: let the proxy send `X-Forwarded-For`.
        address_messages_per_second_max: u64 = RATE, "50000", unit "messages a second per address and core";
        /// Good handshakes of one address, likewise, two seconds' worth at once. Beyond it: 429 with `Retry-After`. 0: no limit. A
        /// load test from one host opens its clients slower, or takes the limit out.
        address_connects_per_second_max: u64 = RATE, "1000", unit "handshakes a second per address and core";
        /// Addresses remembered for a moment after their last client has left, so that they get no fresh allowance by coming
        /// again; of more the oldest are forgotten, and begin anew.
        addresses_max: usize = COUNT, "65536", unit "addresses per core";
    }
    "OpenSRF" {
        /// What every message says of where it came in. Evergreen records logins by it, and its seed data knows
        /// `ws-translator-v1` and `ws-translator-v2` only.
        ingress: String = Kind::Text(text::ingress), "ws-translator-v2";
        /// Size of a message to the bus after escaping; larger: 413. The C router dies of 10 MiB.
        bus_message_bytes_max: usize = Kind::Bytes { min: 1_024, max: 512 << 20 }, "8 MiB", unit "bytes";
        /// Nesting of a client's JSON; deeper: 400. The C router's parser recurses.
        json_depth_max: usize = Kind::Integer { min: 8, max: EnvelopeLimits::JSON_DEPTH_MOST as u64 }, "1000", unit "levels";
        /// Keys of an object in which repeated ones are looked for: the envelope, a message, its `__p`, its payload; not `params`
        /// (OpenSRF's router drops a message in which a key is repeated there). More, or ten times as many in one envelope: 400.
        keys_per_object_max: usize = Kind::Integer { min: 16, max: 1_000_000 }, "10000", unit "keys";
        /// Messages in one envelope; more: 400. A C worker reads 256.
        messages_per_envelope_max: usize = Kind::Integer { min: 1, max: 256 }, "256", unit "messages";
        /// Requests of one client in flight at once; more wait in its backlog.
        parallel_max: usize = COUNT, "100", unit "requests per client", eg "EG_WEBSOCKETS_MAX_PARALLEL";
        /// Envelopes in the backlog of one client; when it is full, nothing more is read from that client.
        backlog_max: usize = COUNT, "1000", unit "envelopes per client";
        /// Bytes in the backlog of one client; when it is full, nothing more is read from that client.
        backlog_bytes_max: usize = CLIENT_BYTES, "16 MiB", unit "bytes per client";
        /// Stateful sessions (CONNECT) of one client; more: 429.
        sessions_max: usize = COUNT, "64", unit "sessions per client";
        /// Silence about a request after which it is given up and its client told (504). Any message about it begins the time
        /// anew.
        request_max_seconds: u64 = SECONDS, "600", unit "seconds";
        /// Time for the answer to a CONNECT; then it is given up and its client told (504).
        connect_max_seconds: u64 = SECONDS, "30", unit "seconds";
        /// Messages on the bus from one address about which nothing has come and for which no client waits any more: it left, or
        /// was told 504. At that, further requests of this address get 429, until such are answered or, after
        /// `request_max_seconds`, not thought of any more. Addresses of proxies are not excepted.
        address_orphans_max: usize = COUNT, "10000", unit "messages per address and core";
        /// Messages on the bus about which nothing has come. From that on nothing more is read from clients whose address has one
        /// there (behind a proxy that names nobody: which have one themselves); from twice that on, from none. Who is not read gets
        /// no error and no pong. Size it as requests a second and core times the seconds that the slowest service takes.
        bus_unanswered_max: usize = COUNT, "50000", unit "messages per core";
        /// The same for their bytes.
        bus_unanswered_bytes_max: usize = BYTES, "256 MiB", unit "bytes per core";
        /// Messages in the router's list, as Redis tells at each push, others' included. From that on an address (behind a proxy
        /// that names nobody: a client) has one there at a time, and the rest of its messages wait until the router has taken that:
        /// a flood waits here, and others pass. A message of 64 KiB or more always waits until the router has taken the last such,
        /// and behind it eight times as many may be in the list.
        /// 0: no limit.
        router_queue_max: u64 = Kind::Integer { min: 0, max: 16_777_216 }, "16", unit "messages";
    }
    "Bus" {
        /// Path of Evergreen's own file, usually `/openils/conf/opensrf_core.xml`. Empty: none is read, and `domain`,
        /// `username` and `passwd` must be set otherwise.
        opensrf_core: Option<PathBuf> = Kind::Text(text::any), "";
        /// The primary domain of the bus, which is also the name of its Redis host.
        domain: String = Kind::Text(text::domain), "", xml "gateway/domain", demo "demo.localhost";
        /// Port of Redis, for every domain that `bus_domain_address` does not name.
        port: u16 = Kind::Integer { min: 1, max: 65_535 }, "6379", xml "gateway/port";
        /// Account on the bus.
        username: String = Kind::Text(text::name), "", xml "gateway/username", demo "gateway";
        /// Password of the account: from a file or the environment, never from a flag.
        passwd: Secret = Kind::Secret, "", xml "gateway/passwd";
        /// Name of the router in its address, `opensrf:router:{router_name}:{domain}`.
        router_name: String = Kind::Text(text::name), "router", xml "gateway/router_name";
        /// Domains that may be dialled besides the primary and those that `opensrf_core.xml` names (routers,
        /// `trusted_domains`).
        bus_domains: Vec<String> = Kind::List(text::domain), "";
        /// Where the Redis of a domain really is, in place of its name and `port`: domain to `host:port` (`redis://host:port` is the same), to
        /// `rediss://host:port` (TLS), or to `unix:/path` (a socket on this host).
        bus_domain_address: BTreeMap<String, String> = Kind::Map(text::domain, text::redis_place), "";
        /// Certificates, as PEM, of those who may vouch for a Redis that is reached by TLS. Empty: whom this host trusts.
        bus_tls_ca_file: Option<PathBuf> = Kind::Text(text::any), "";
        /// Our own certificate, as PEM, with those that lead to who vouches for it: Redis asks for one unless its `tls-auth-clients`
        /// says otherwise. Empty: none is shown.
        bus_tls_certificate_file: Option<PathBuf> = Kind::Text(text::any), "";
        /// The private key of that certificate, as PEM; nobody else should be able to read the file.
        bus_tls_key_file: Option<PathBuf> = Kind::Text(text::any), "";
        /// Time for a connection to Redis to stand.
        bus_connect_timeout_seconds: u64 = Kind::Integer { min: 1, max: 60 }, "2", unit "seconds";
        /// Longest pause between two attempts to reach Redis; the pause doubles up to it.
        bus_backoff_max_ms: u64 = Kind::Integer { min: 10, max: 60_000 }, "2000", unit "milliseconds";
        /// Silence on a sending link after which it is probed with a DEL of a key of our own.
        bus_probe_seconds: u64 = SECONDS, "10", unit "seconds";
        /// Time for which Redis' TCP may leave our bytes unacknowledged before the link is given up
        /// (`TCP_USER_TIMEOUT`).
        bus_dead_seconds: u64 = SECONDS, "20", unit "seconds";
        /// Time after a reconnection at which requests pending when the link broke end with 503.
        bus_lost_reply_seconds: u64 = SECONDS, "30", unit "seconds";
        /// Time without the bus after which `/readyz` says 503: it is away, refuses every push, or answers nothing of what it
        /// was given.
        ready_bus_grace_seconds: u64 = SECONDS_OR_OFF, "10", unit "seconds";
    }
    "Stopping" {
        /// Longest drain (SIGUSR1); whoever is left is cut off, and the exit code is 3 if that hurt anybody.
        drain_max_seconds: u64 = SECONDS, "120", unit "seconds";
        /// Quiet time since a client's last activity before a drain closes it.
        drain_quiet_ms: u64 = Kind::Integer { min: 0, max: 60_000 }, "250", unit "milliseconds";
        /// Time in which a draining process still accepts, so that a balancer sees `/readyz` fail first.
        drain_grace_seconds: u64 = SECONDS_OR_OFF, "0", unit "seconds";
        /// Pace of a drain's closes, so that clients do not all come back at once. 0: no limit.
        drain_closes_per_second: u64 = Kind::Integer { min: 0, max: 1_000_000 }, "2000", unit "closes per second";
        /// Longest fast stop (SIGTERM, SIGINT).
        stop_max_seconds: u64 = SECONDS, "5", unit "seconds";
        /// Directory for the bus addresses of running processes, which a later start cleans up. `auto`:
        /// `$STATE_DIRECTORY`, else `/run/evergate`; `off`: none, and a crash leaves queues in Redis. It and its files must be this
        /// user's own, writable by nobody else, and no links, or they are not used.
        state_dir: Option<PathBuf> = Kind::Text(text::any), "auto";
        /// Unix socket by which `evergate drain`, `status`, `clients` and a successor (`evergate serve --replace`) speak to the running
        /// process; its owner and group may. `auto`: `control` in `$RUNTIME_DIRECTORY`, else `/run/evergate/control`; `off` or empty:
        /// none, and signals are all there is. Its directory must be this user's own, and writable by nobody else.
        control: Option<PathBuf> = Kind::Text(text::socket), "auto", demo "off";
        /// Time for a successor that has the listening sockets to say that it serves; later, this process serves on as if
        /// nobody had asked.
        handover_max_seconds: u64 = Kind::Integer { min: 1, max: 600 }, "30", unit "seconds";
    }
    "Logs" {
        /// `off`, `error`, `warn`, `info`, `debug`, `trace`, or 0 to 5 as in `opensrf_core.xml`.
        loglevel: LogLevel = Kind::Text(text::level), "info", xml "gateway/loglevel";
        /// `stderr`, `syslog`, or the path of a file.
        logfile: Logfile = Kind::Text(text::logfile), "stderr", xml "gateway/logfile";
        /// `text`, or `json`: an object a line, activity too.
        log_format: LogFormat = Kind::Text(text::log_format), "text";
        /// Facility of the log when `logfile` is `syslog`.
        syslog: Facility = Kind::Text(text::facility), "local0", xml "gateway/syslog";
        /// Facility of the activity log when `logfile` is `syslog`; otherwise it goes where the log goes.
        actlog: Facility = Kind::Text(text::facility), "local1", xml "gateway/actlog";
        /// Name of the program in syslog, to tell several instances on one host apart.
        logtag: Option<String> = Kind::Text(text::tag), "", xml "gateway/logtag";
        /// Beginnings of methods whose parameters the activity log hides.
        log_protect: Vec<String> = Kind::List(text::any), "", xml "shared/log_protect/match_string";
        /// Length at which a line of the activity log is cut.
        activity_bytes_max: usize = Kind::Bytes { min: 128, max: 1 << 20 }, "1536", unit "bytes";
        /// Bytes of log lines that wait to be written; what comes beyond is dropped and counted.
        log_queue_bytes_max: usize = Kind::Bytes { min: 65_536, max: 1 << 30 }, "16 MiB", unit "bytes";
    }
}

impl Config {
    /// Where the Redis of a bus domain is.
    pub fn redis_of(&self, domain: &str) -> RedisPlace {
        let written = self.bus_domain_address.get(domain).and_then(|text| RedisPlace::parse(text));
        written.unwrap_or_else(|| RedisPlace::Tcp { host: domain.to_owned(), port: self.port })
    }
}

/// The highest `clients_max`: more than any host has memory for. It bounds what an unlimited `RLIMIT_NOFILE` gives.
pub const CLIENTS_MAX_LIMIT: u64 = 16_777_216;
