//! What a drain still waits for, once a second, in the log.

use std::sync::atomic::Ordering::Relaxed;

use evergate_proto::opensrf::printable::Name;

use super::shared::Shared;

/// One line for each core that is not done.
pub fn write(shared: &Shared) {
    let left_ms = shared.drain_left_ms().unwrap_or_default();
    for (index, core) in shared.cores.iter().enumerate() {
        if core.ended.load(Relaxed) {
            continue;
        }
        let counts = &core.counts;
        let oldest = core.oldest.try_lock().ok().and_then(|oldest| oldest.clone());
        let oldest = oldest.map_or_else(String::new, |oldest| {
            format!(
                "; oldest: {} {} for {} ms from {}",
                Name(&oldest.service),
                Name(&oldest.method),
                oldest.age_ms,
                oldest.client
            )
        });
        tracing::info!(
            "drain: core {index}: open={} sending={} waiting_for_replies={} waiting_for_room={} in_stateful_session={} idle={} \
             closed_at_gap={} closed_at_deadline={} crossed_close={}; {}.{} s left{oldest}",
            counts.open.load(Relaxed),
            counts.sending.load(Relaxed),
            counts.waiting_for_replies.load(Relaxed),
            counts.waiting_for_room.load(Relaxed),
            counts.in_stateful_session.load(Relaxed),
            counts.idle.load(Relaxed),
            counts.closed_at_gap.load(Relaxed),
            counts.closed_at_deadline.load(Relaxed),
            counts.crossed_close.load(Relaxed),
            left_ms / 1_000,
            left_ms % 1_000 / 100,
        );
    }
}
