//! What the threads of the process share: counters that one core writes and others read.
//!
//! May use: atomics. May never: sit behind a lock on the message path, or be written by a thread
//! that does not own them. `admin` and the drain log read them; nothing decides by another core's
//! counters except `clients_max`, which is a sum over the cores' `connections`, and readiness.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::codes::{CLOSE_CODES, Codes, STATUSES};
use crate::histograms::Histograms;
use crate::services::{Names, Services};

/// Declares the gauges and counts of a core once: the field, its name for `/metrics`, its help line.
macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident : $kind:ident,)+) => {
        /// The gauges and counts of one core. Written by that core only.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct Counts {
            $($(#[doc = $doc])+ pub $name: AtomicU64,)+
        }

        impl Counts {
            /// Every counter as `(name, is it a gauge, help line, value)`, in the order of the table.
            pub fn table(&self) -> Vec<(&'static str, bool, &'static str, u64)> {
                vec![$((
                    stringify!($name),
                    matches!(stringify!($kind).as_bytes(), b"gauge"),
                    concat!($($doc),+).trim_ascii(),
                    self.$name.load(Relaxed),
                )),+]
            }
        }
    };
}

counters! {
    /// Milliseconds since the process began at which the core's loop last turned.
    heartbeat_ms: gauge,
    /// WebSocket clients that are open (handshake done).
    open: gauge,
    /// Open clients with nothing pending, no session and nothing to send.
    idle: gauge,
    /// Open clients that wait for a reply (and have nothing to send).
    waiting_for_replies: gauge,
    /// Open clients with nothing pending that are not read from, or whose backlog is kept back, until the bus or the core has room or a
    /// drain closes them.
    waiting_for_room: gauge,
    /// Open clients with a stateful session and nothing pending.
    in_stateful_session: gauge,
    /// Open clients with reply bytes that their TCP has not acknowledged.
    sending: gauge,
    /// Clients closed by the drain at a gap.
    closed_at_gap: count,
    /// Clients closed by the drain deadline, or a stop during a drain, when they were at no gap.
    closed_at_deadline: count,
    /// Those of them that had something pending, a session, reply bytes not delivered, or waited for room.
    cut: count,
    /// Clients closed because an operator asked for it.
    closed_by_operator: count,
    /// Requests that arrived after our Close frame and were not relayed.
    crossed_close: count,
    /// Clients given up while closing with reply bytes that they had not acknowledged.
    given_up_undelivered: count,
    /// DISCONNECTs without a session, which are not relayed.
    disconnects_ignored: count,
    /// Connections of any stage, those that are being closed among them: what `clients_max` counts.
    connections: gauge,
    /// Connections whose handshake has not ended.
    handshaking: gauge,
    /// Connections accepted.
    accepted: count,
    /// Handshakes refused.
    handshakes_refused: count,
    /// Connections closed for want of a PROXY header that could be believed, on listeners that demand one.
    proxy_headers_refused: count,
    /// Messages received from clients.
    messages_in: count,
    /// Messages sent to clients.
    messages_out: count,
    /// REQUESTs relayed.
    requests: count,
    /// Requests and connects pending, over all clients.
    pending: gauge,
    /// Sessions connected, over all clients.
    sessions: gauge,
    /// Messages that the bus was given and about which nothing has come.
    bus_unanswered: gauge,
    /// Their bytes.
    bus_unanswered_bytes: gauge,
    /// Those of them that no client waits for any more: it left, or was told that they were given up.
    bus_orphans: gauge,
    /// Addresses of clients that are remembered.
    addresses: gauge,
    /// Error replies that the gateway made.
    errors_made: count,
    /// Requests that ended with a 503 because their reply may have been lost with a bus link.
    maybe_lost: count,
    /// Bus messages for a client or conversation that is gone.
    undeliverable: count,
    /// Bus messages that could not be read.
    bus_garbage: count,
    /// Sessions refused because the worker's domain is not listed.
    foreign_sessions_refused: count,
    /// Bytes held for all clients of the core: unsent frames, backlogs, half-received messages, bus pushes.
    core_bytes: gauge,
    /// Microseconds for which the core has looked for messages instead of sleeping.
    looked_us: count,
    /// Entries into the kernel (`io_uring_enter`): the only system call that serving takes.
    entries: count,
    /// Times that completions came faster than their queue could hold, which loses none.
    ring_overflows: count,
    /// Descriptors that could not be closed: a defect of the gateway's.
    descriptors_unclosed: count,
    /// Commands written to Redis.
    bus_commands: count,
    /// Messages pushed to Redis.
    bus_pushes: count,
    /// Pushes that Redis refused.
    bus_pushes_refused: count,
    /// Messages popped from Redis.
    bus_pops: count,
    /// Bus links that broke or could not be opened.
    bus_links_lost: count,
    /// Bus links that were opened again.
    bus_reconnects: count,
    /// Bytes received from clients, as TCP delivers them.
    received_bytes: count,
    /// Bytes for clients that the kernel has taken.
    sent_bytes: count,
    /// Bytes received from Redis.
    bus_received_bytes: count,
    /// Bytes for Redis that the kernel has taken.
    bus_sent_bytes: count,
}

/// Declares the limits whose hits are counted.
macro_rules! limits {
    ($($name:ident),+ $(,)?) => {
        /// A limit of the options table; [`Core::limit_hit`] counts how often it was reached.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(non_camel_case_types, missing_docs, reason = "the names are the options' own")]
        #[repr(usize)]
        pub enum Limit { $($name),+ }

        impl Limit {
            /// Every limit, with the option's name.
            pub const ALL: &[(Limit, &'static str)] = &[$((Limit::$name, stringify!($name))),+];
        }
    };
}

limits! {
    clients_max, handshakes_max, handshake_timeout_seconds, header_bytes_max, message_timeout_seconds, message_max_seconds,
    pong_timeout_seconds, slow_bytes_per_second_min,
    idle_timeout_seconds, request_max_seconds, connect_max_seconds, close_timeout_seconds,
    message_bytes_max, bus_message_bytes_max, json_depth_max, keys_per_object_max, messages_per_envelope_max, parallel_max,
    backlog_max, backlog_bytes_max, sessions_max, outbound_bytes_max, core_bytes_max, garbage_max, bus_lost_reply_seconds,
    client_messages_per_second_max, address_messages_per_second_max, address_connects_per_second_max, addresses_max,
    address_orphans_max, bus_unanswered_max, bus_unanswered_bytes_max, router_queue_max,
}

/// The state of one bus link pair, as `/status` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LinkState {
    /// Never up yet.
    Connecting = 0,
    /// Both directions work.
    Up = 1,
    /// It was up, or was tried, and is being tried again.
    Away = 2,
    /// Both directions work, and Redis refuses every push.
    Refusing = 3,
}

impl LinkState {
    /// Whether there are connections, whatever Redis says on them.
    pub fn is_linked(self) -> bool {
        matches!(self, Self::Up | Self::Refusing)
    }

    /// The word for `/status`.
    pub fn name(self) -> &'static str {
        ["connecting", "up", "away", "refusing"][self as usize]
    }
}

/// What a drain waits for longest on one core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oldest {
    /// The OpenSRF service.
    pub service: String,
    /// The method; `CONNECT` for one that is pending, `session` for a session between two requests.
    pub method: String,
    /// How long it has been waited for, milliseconds.
    pub age_ms: u64,
    /// The client's address.
    pub client: String,
}

/// All that one core publishes.
#[derive(Debug, Default)]
pub struct Core {
    /// The CPU the thread is pinned to.
    pub cpu: usize,
    /// Gauges and counts.
    pub counts: Counts,
    /// The primary domain's link pair, a [`LinkState`].
    pub bus: AtomicU8,
    /// True once the primary links were up for the first time.
    pub bus_ever_up: AtomicBool,
    /// Milliseconds since the process began at which the primary links went away; 0 while they are up.
    pub bus_away_since_ms: AtomicU64,
    /// Milliseconds since the process began from which on the primary domain's Redis has refused every push; 0 while it takes them.
    pub bus_refused_since_ms: AtomicU64,
    /// How long the primary domain's Redis had confirmed nothing of what it was given, as of the last tick, ms; 0 where nothing
    /// waits. A duration, so that a standstill of our own is not taken for one of Redis'.
    pub bus_silent_ms: AtomicU64,
    /// Why the primary domain's links are of no use, in the words of Redis or the host, and the remedy; empty while they are of use.
    pub bus_trouble: Mutex<String>,
    /// The kernel's number of the core's thread; 0 until it runs.
    pub thread: AtomicI32,
    /// How much time the core was given since its loop last turned, milliseconds. Written by the watchdog.
    pub given_ms: AtomicU64,
    /// The longest time between two turns of the core's loop, milliseconds.
    pub standstill_ms: AtomicU64,
    /// The longest time for which the core's loop has worked before it asked the ring again, microseconds.
    pub turn_longest_us: AtomicU64,
    /// What the core was then for the most part, as the watchdog numbers it. Written by the
    /// watchdog.
    pub standstill_was: AtomicU8,
    /// True while the core has no share of the port that it takes connections from, or may yet.
    pub listener_closed: AtomicBool,
    /// The drain in which nobody is left on this core, by its number; 0 while somebody is.
    pub drained: AtomicU32,
    /// True when the core's thread has ended as it should.
    pub ended: AtomicBool,
    /// Links to other domains; written when one changes state.
    pub other_domains: Mutex<Vec<(String, LinkState)>>,
    /// Written once a second during a drain.
    pub oldest: Mutex<Option<Oldest>>,
    /// How often each limit was hit.
    limits: Hits,
    /// How long things take and how large they are.
    pub histograms: Histograms,
    /// What each service costs its callers.
    pub services: Services,
    /// Error replies that the gateway made, and what became of connections, by code.
    pub codes: CodeCounts,
}

/// What is counted by a code.
#[derive(Debug)]
pub struct CodeCounts {
    /// Error replies that the gateway made, by status.
    pub errors: Codes<{ STATUSES.len() }>,
    /// Handshakes refused, by status.
    pub refusals: Codes<{ STATUSES.len() }>,
    /// Connections that the gateway began to close, by the code of its Close.
    pub closed: Codes<{ CLOSE_CODES.len() }>,
    /// Connections that their client began to close, by the code of its Close: 1005 without a code, 1006 without a Close.
    pub left: Codes<{ CLOSE_CODES.len() }>,
}

impl Default for CodeCounts {
    fn default() -> Self {
        Self {
            errors: Codes::new(&STATUSES),
            refusals: Codes::new(&STATUSES),
            closed: Codes::new(&CLOSE_CODES),
            left: Codes::new(&CLOSE_CODES),
        }
    }
}

/// A count for each [`Limit`], in the order of [`Limit::ALL`].
#[derive(Debug)]
struct Hits([AtomicU64; Limit::ALL.len()]);

impl Default for Hits {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Core {
    /// Counters for the core on `cpu`.
    pub fn new(cpu: usize) -> Self {
        Self { cpu, ..Self::default() }
    }

    /// The core's loop turns.
    pub fn turns(&self, now_ms: u64) {
        let still_ms = now_ms.saturating_sub(self.counts.heartbeat_ms.load(Relaxed));
        if still_ms > self.standstill_ms.load(Relaxed) {
            set(&self.standstill_ms, still_ms);
        }
        set(&self.counts.heartbeat_ms, now_ms);
    }

    /// One set for each of `cpus`; services have the same places in all of them.
    pub fn for_each(cpus: &[usize]) -> Arc<[Self]> {
        let names = Arc::<Names>::default();
        let core = |cpu: &usize| Self { services: Services::sharing(&names), ..Self::new(*cpu) };
        cpus.iter().map(core).collect()
    }

    /// The core's loop has worked for so long without asking its ring.
    pub fn worked(&self, worked: Duration) {
        let us = worked.as_micros() as u64;
        self.histograms.turn.count(us);
        if us > self.turn_longest_us.load(Relaxed) {
            set(&self.turn_longest_us, us);
        }
    }

    /// Counts a hit of `limit`.
    pub fn limit_hit(&self, limit: Limit) {
        add(&self.limits.0[limit as usize], 1);
    }

    /// How often `limit` was hit.
    pub fn limit_hits(&self, limit: Limit) -> u64 {
        self.limits.0[limit as usize].load(Relaxed)
    }

    /// The state of the primary domain's links.
    pub fn bus_state(&self) -> LinkState {
        match self.bus.load(Relaxed) {
            0 => LinkState::Connecting,
            1 => LinkState::Up,
            3 => LinkState::Refusing,
            _ => LinkState::Away,
        }
    }
}

/// Adds to a counter that only the calling thread writes: no locked instruction.
pub fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
}

/// Sets a gauge that only the calling thread writes.
pub fn set(gauge: &AtomicU64, value: u64) {
    gauge.store(value, Relaxed);
}
