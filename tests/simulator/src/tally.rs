//! What happened, counted: so that one sees that what should be common was.

macro_rules! happenings {
    ($($name:ident),+ $(,)?) => {
        /// Something that happened in a run.
        #[derive(Clone, Copy, PartialEq, Eq)]
        #[allow(non_camel_case_types)]
        pub enum What { $($name),+ }
        /// Their names.
        pub const NAMES: &[&str] = &[$(stringify!($name)),+];
    };
}

happenings! {
    accepted, handshake_bad, handshake_done, slot_reused, envelope_said, envelope_with_several, envelope_bad, garbage_close,
    ping_said, frame_cut, violation, close_by_client, vanished, half_closed_by_client, silent_client,
    stopped_reading, slow_consumer, backlog_wait, backlog_left, read_paused, read_resumed, crossed_close, relayed,
    refused_400, refused_403, refused_413, refused_429, refused_503_away, router_404, session_made, session_refused_foreign,
    session_ended_by_408, session_redirected_307, session_broken_417, method_error, unwanted_200_disconnected,
    disconnect_for_client_gone, reply_streamed, reply_delivered, reply_late, reply_duplicate, reply_undeliverable,
    reply_stale_generation, reply_in_place, reply_not_utf8, reply_bus_garbage, reply_bare_body, reply_lost_between_pop_and_read,
    push_unconfirmed, push_unsent, push_refused, resp_cut, batch_of_several, push_link_lost, pop_link_lost,
    redis_restarted_empty, bus_away, connect_refused, connect_hangs, connect_timed_out, talker_met, link_told_late, maybe_lost_503, given_up_504, emptied_503, ping_sent, pong_timeout,
    message_timeout, handshake_timeout, idle_closed, close_timeout, core_bytes_hit, tick_late, drain, drain_with_requests,
    closed_at_gap, closed_at_deadline, drain_ended_early, drain_cancelled, left_to_successor, cut_in_drain, stop, stop_in_drain, ended_quietly,
    accepted_in_drain, restart_closed, ended_while_open, acknowledgement_late, slow_reader_alive, reader_too_slow,
    given_up_undelivered, message_too_long, long_stream, session_wait, disconnect_wait, disconnect_ignored, looked,
    look_found_unread, closing_cut, slow_reader, client_left, message_heard, popped, request_relayed, text_queued, error_made, desynced,
    too_fast_client, too_fast_address, connects_refused, refused_for_orphans, told_429, orphaned, orphan_answered, orphan_forgotten,
    bus_full, router_wait, router_turn, router_asked,
    turn, slept, sleep_cut, returned_early, gathered, woken, ring_submitted_early, left_for_the_next, entered_with_untaken,
    accept_one, accept_many, accept_ended, accept_aborted, accept_exhausted, emptied_some, emptying_exhausted, crowded,
    queue_reset_by_stop, peer_gone, closed_with_unread, no_light_buffer, no_heavy_buffer, receive_ended, receive_end,
    receive_failed, quiet_send_whole, quiet_send_short, quiet_send_took_nothing, quiet_send_failed, send_completed, send_failed,
    end_watched, end_seen, cancelled, cancelled_with_bytes, cancel_crossed, cancel_found_nothing, open_failed,
    client_reset, client_timed_out, link_reset, link_ended, client_came_in_drain, frames_cut_off, pushed_to_redis, reply_seen,
    proxy_welcome, proxy_unwelcome, client_stayed, told_1012, ended_late, ended_early, ended_by_stop, silenced, closed_at_forced_gap, restless_asked,
    dismissed, closed_by_operator, dismissed_in_drain, dismissed_stale, listed,
}

/// How often what happened.
#[derive(Clone)]
pub struct Tally(pub Vec<u64>);

impl Default for Tally {
    fn default() -> Self {
        Self(vec![0; NAMES.len()])
    }
}

impl Tally {
    pub fn add(&mut self, what: What, n: usize) {
        self.0[what as usize] += n as u64;
    }
    pub fn one(&mut self, what: What) {
        self.add(what, 1);
    }
    pub fn of(&self, what: What) -> u64 {
        self.0[what as usize]
    }
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }
}
