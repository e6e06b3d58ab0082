//! The limits of a run, and the core's context under them.

use std::rc::Rc;
use std::sync::Arc;

use evergate_proto::clients::context::Context;
use evergate_proto::clients::limits::{BusNames, Limits};
use evergate_proto::clients::rate::Rate;
use evergate_proto::counters;
use evergate_proto::opensrf::envelope::EnvelopeLimits;

use crate::browser::{Bounds, INGRESS};
use crate::oracle::{ADDRESS, DOMAINS, ROUTER_KEY, Rules};
use crate::random::Random;

/// Small limits, so that they are met.
pub fn rules(r: &mut Random) -> Rules {
    Rules {
        handshake_ms: r.between(300, 1200),
        message_ms: r.between(100, 500),
        message_max_ms: r.between(300, 1500),
        ping_ms: r.between(150, 600),
        pong_ms: r.between(100, 300),
        slow: r.between(100, 4000),
        idle_ms: if r.percent(50) { 0 } else { r.between(500, 2500) },
        request_ms: if r.percent(40) { r.between(150, 600) } else { r.between(1000, 4000) },
        connect_ms: r.between(300, 1200),
        close_ms: r.between(60, 200),
        bus_lost_ms: r.between(100, 500),
        parallel: r.between(2, 6) as usize,
        backlog: r.between(2, 5) as usize,
        backlog_bytes: r.between(800, 3000) as usize,
        sessions: r.between(1, 3) as usize,
        outbound: r.between(1200, 6000) as usize,
        // Little enough that a core may be out of them where nobody holds much (`LISTED_BYTES_MIN`).
        core_bytes: if r.percent(40) { r.between(2000, 12000) } else { 1 << 30 },
        garbage: r.between(2, 4) as u32,
        client_rate: 0,
        address_rate: 0,
        connect_rate: 0,
        orphans: 10_000,
        unanswered: 50_000,
        router: 0,
        bounds: Bounds { message_bytes: 2600, bus_bytes: r.between(1500, 2500) as usize, per_envelope: 4, depth: 14 },
        quiet_ms: 50,
    }
}

/// Limits on what goes to the bus, in some runs. From a source of their own, so that all else in a run is as it was without.
pub fn limit_the_bus(rules: &mut Rules, r: &mut Random) {
    if r.percent(20) {
        rules.client_rate = [2, 4, 5, 10][r.below(4)];
    }
    if r.percent(20) {
        rules.address_rate = [2, 5, 10, 20][r.below(4)];
    }
    if r.percent(15) {
        rules.connect_rate = [1, 2, 4][r.below(3)];
    }
    if r.percent(20) {
        rules.orphans = r.between(1, 6) as usize;
    }
    if r.percent(25) {
        rules.unanswered = r.between(1, 8) as usize;
    }
    if r.percent(35) {
        rules.router = r.between(1, 5) as usize;
    }
}

/// A core's context under these rules.
pub fn context(rules: &Rules, cores: &Arc<[counters::Core]>) -> Context {
    let limits = Limits {
        handshake_timeout_ms: rules.handshake_ms,
        message_timeout_ms: rules.message_ms,
        message_max_ms: rules.message_max_ms,
        ping_ms: rules.ping_ms,
        pong_timeout_ms: rules.pong_ms,
        slow_bytes_per_second_min: rules.slow,
        idle_timeout_ms: rules.idle_ms,
        request_max_ms: rules.request_ms,
        connect_max_ms: rules.connect_ms,
        drain_quiet_ms: rules.quiet_ms,
        close_timeout_ms: rules.close_ms,
        bus_lost_reply_ms: rules.bus_lost_ms,
        message_bytes_max: rules.bounds.message_bytes,
        envelope: EnvelopeLimits {
            json_depth_max: rules.bounds.depth,
            keys_per_object_max: EnvelopeLimits::DEFAULT.keys_per_object_max,
            messages_per_envelope_max: rules.bounds.per_envelope,
            bus_message_bytes_max: rules.bounds.bus_bytes,
        },
        parallel_max: rules.parallel,
        backlog_max: rules.backlog,
        backlog_bytes_max: rules.backlog_bytes,
        sessions_max: rules.sessions,
        outbound_bytes_max: rules.outbound,
        core_bytes_max: rules.core_bytes,
        garbage_max: rules.garbage,
        client_messages: Rate::per_second(rules.client_rate),
        address_messages: Rate::per_second(rules.address_rate),
        address_connects: Rate::per_second(rules.connect_rate),
        address_orphans_max: rules.orphans,
        bus_unanswered_max: rules.unanswered,
        router_queue_max: rules.router as u64,
        ingress: INGRESS.as_bytes().to_vec(),
        activity_bytes_max: 200,
        ..Limits::default()
    };
    let names = BusNames {
        address: ADDRESS.to_owned(),
        router: ROUTER_KEY.into(),
        domains: DOMAINS.iter().map(|domain| (*domain).to_owned()).collect(),
        xid_prefix: "sim.".to_owned(),
    };
    Context::new(Rc::new(limits), Rc::new(names), Arc::clone(cores), 0)
}
