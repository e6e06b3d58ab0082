//! The limits and habits of a core, from the options table; `*_ms` are milliseconds.

use std::rc::Rc;

use super::rate::Rate;
use crate::opensrf::activity::Format;
use crate::opensrf::envelope::EnvelopeLimits;
use crate::websocket::handshake::Policy;

/// What a core needs to know to judge its clients. One per core, replaced as a whole on SIGHUP.
#[derive(Debug)]
pub struct Limits {
    /// From accept to the end of the HTTP header.
    pub handshake_timeout_ms: u64,
    /// Silence inside an unfinished message.
    pub message_timeout_ms: u64,
    /// From the first to the last byte of a message.
    pub message_max_ms: u64,
    /// Silence after which a ping is sent.
    pub ping_ms: u64,
    /// From a ping to a sign of life.
    pub pong_timeout_ms: u64,
    /// What a client that owes a pong must take in that time to count as alive, bytes a second.
    pub slow_bytes_per_second_min: u64,
    /// An idle gap after which a client is closed; 0 = never.
    pub idle_timeout_ms: u64,
    /// Silence about a request after which it is given up.
    pub request_max_ms: u64,
    /// The age at which a CONNECT is given up.
    pub connect_max_ms: u64,
    /// From the last activity of a client to the Close of a drain, or of an operator.
    pub drain_quiet_ms: u64,
    /// How long a closing client may acknowledge nothing more and say nothing, twice.
    pub close_timeout_ms: u64,
    /// After a reconnection: until a request whose reply may be lost is given up.
    pub bus_lost_reply_ms: u64,
    /// Bytes of a WebSocket message, its frames together.
    pub message_bytes_max: usize,
    /// What an envelope may be.
    pub envelope: EnvelopeLimits,
    /// Requests in flight per client.
    pub parallel_max: usize,
    /// Envelopes that wait per client.
    pub backlog_max: usize,
    /// Bytes of the envelopes that wait per client.
    pub backlog_bytes_max: usize,
    /// Sessions, connecting ones included, per client.
    pub sessions_max: usize,
    /// Unsent bytes per client.
    pub outbound_bytes_max: usize,
    /// Bytes held for all clients of the core.
    pub core_bytes_max: u64,
    /// Bad messages in a row.
    pub garbage_max: u32,
    /// Messages of a client.
    pub client_messages: Rate,
    /// Messages of the clients of one address.
    pub address_messages: Rate,
    /// Handshakes of one address.
    pub address_connects: Rate,
    /// Addresses remembered that have neither clients nor orphans.
    pub addresses_max: usize,
    /// Messages on the bus from one address for whose answer no client waits.
    pub address_orphans_max: usize,
    /// Messages on the bus that nobody has answered, from which on only those may send who have none there.
    pub bus_unanswered_max: usize,
    /// Their bytes.
    pub bus_unanswered_bytes_max: u64,
    /// Messages in the router's list from which on only those may send who have none there; 0 = no limit.
    pub router_queue_max: u64,
    /// `ingress`, as quoted JSON.
    pub ingress: Vec<u8>,
    /// Whether the service `router` may be called.
    pub allow_router_calls: bool,
    /// Methods whose parameters are not logged, by prefix.
    pub log_protect: Vec<String>,
    /// How activity lines are written.
    pub activity_format: Format,
    /// Bytes of an activity line.
    pub activity_bytes_max: usize,
    /// Who may shake hands, and how a client's address is read.
    pub policy: Policy,
    /// Every message is sent back as it came, and none is relayed: `demo --echo`, for Autobahn's cases.
    pub echo: bool,
}

impl Limits {
    /// Whether so many bytes, taken in `pong_timeout_ms`, show that a slow reader is alive.
    pub fn is_enough(&self, bytes: u64) -> bool {
        bytes.saturating_mul(1_000) >= self.slow_bytes_per_second_min.saturating_mul(self.pong_timeout_ms)
    }

    /// When a gap that began at `gap_since_ms` will have been quiet for long enough, ms.
    pub fn quiet_at_ms(&self, gap_since_ms: u64) -> u64 {
        gap_since_ms + self.drain_quiet_ms
    }
}

impl Default for Limits {
    /// The defaults of the options table; a test of `process::settings` holds the two together.
    fn default() -> Self {
        Self {
            handshake_timeout_ms: 10_000,
            message_timeout_ms: 30_000,
            message_max_ms: 600_000,
            ping_ms: 30_000,
            pong_timeout_ms: 20_000,
            slow_bytes_per_second_min: 1_000,
            idle_timeout_ms: 180_000,
            request_max_ms: 600_000,
            connect_max_ms: 30_000,
            drain_quiet_ms: 250,
            close_timeout_ms: 2_000,
            bus_lost_reply_ms: 30_000,
            message_bytes_max: 10 << 20,
            envelope: EnvelopeLimits::DEFAULT,
            parallel_max: 100,
            backlog_max: 1_000,
            backlog_bytes_max: 16 << 20,
            sessions_max: 64,
            outbound_bytes_max: 16 << 20,
            core_bytes_max: 1 << 30,
            garbage_max: 10,
            client_messages: Rate::per_second(20_000),
            address_messages: Rate::per_second(50_000),
            address_connects: Rate::per_second(1_000),
            addresses_max: 65_536,
            address_orphans_max: 10_000,
            bus_unanswered_max: 50_000,
            bus_unanswered_bytes_max: 256 << 20,
            router_queue_max: 16,
            ingress: b"\"ws-translator-v2\"".to_vec(),
            allow_router_calls: false,
            log_protect: Vec::new(),
            activity_format: Format::Text,
            activity_bytes_max: 1_536,
            policy: Policy::default(),
            echo: false,
        }
    }
}

/// The names under which a core is known on the bus.
#[derive(Debug)]
pub struct BusNames {
    /// The core's own bus address.
    pub address: String,
    /// The router's list on the primary domain.
    pub router: Rc<str>,
    /// The bus domains that may be dialled; the first is the primary. Their index is the link's.
    pub domains: Vec<String>,
    /// What a made-up `log_xid` begins with: unique to the process and core.
    pub xid_prefix: String,
}

impl BusNames {
    /// What a client is told whose message was not sent because the bus of `domain` is away.
    pub fn away(&self, domain: usize) -> String {
        let name = &self.domains[domain];
        format!("the bus (Redis of {name}) is away; nothing was carried out; try again shortly")
    }
}
