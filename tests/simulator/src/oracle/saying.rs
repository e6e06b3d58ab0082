//! What a client says: its handshake, its frames, its envelopes; which wait, which are refused, what is relayed.

use std::rc::Rc;

use super::client::{Client, Conversation, Pending, Stage};
use super::expect::Expect;
use super::{ADDRESS, Oracle, Push, ROUTER_KEY};
use crate::browser::{Env, Ev, Frame, Kind, Said, escaped};
use crate::tally::What;

/// Whether its bytes mean anything.
fn is_heard(c: &Client) -> bool {
    matches!(c.stage, Stage::Handshake | Stage::Open | Stage::Closing { awaits: true, .. })
}

impl Oracle {
    /// Bytes came. `grew`: what is unfinished holds other bytes than before, as the product gathers them.
    pub fn input(&mut self, slot: u32, events: &[Ev], clean: bool, grew: bool) {
        let now = self.now;
        self.with(slot, |o, c| {
            c.received = now;
            c.ping_since = None;
            if c.desynced || !is_heard(c) {
                return;
            }
            for event in events {
                if is_heard(c) {
                    o.heard(c, event);
                }
            }
            let was_clean = c.clean;
            c.clean = clean || !is_heard(c) || c.stage == Stage::Handshake;
            if c.clean && !was_clean {
                c.clean_since = now;
            }
            // What a client begins of which nothing more is read is not waited for.
            if c.clean {
                c.message_since = None;
            } else if c.message_since.is_none() && !o.is_silenced(c) {
                (c.message_since, c.message_heard) = (Some(now), now);
            }
            let is_new = was_clean || events.iter().any(|event| matches!(event, Ev::Message(_)));
            if !c.clean && is_new {
                (c.unclean_since, c.had_session) = (now, c.sessions() + c.connecting() > 0);
            }
            // A whole ping or pong between the fragments is no byte of the message.
            if grew {
                c.message_heard = now;
            }
        });
    }

    fn heard(&mut self, c: &mut Client, event: &Ev) {
        let open = c.stage == Stage::Open;
        match event {
            Ev::BadHandshake(status) => self.refuse(c, *status),
            Ev::Handshake if !self.ever_up => self.refuse(c, 503),
            Ev::Handshake if !self.may_connect(c) => {
                self.tally.one(What::connects_refused);
                self.tally.one(What::told_429);
                self.refuse(c, 429);
            }
            Ev::Handshake => {
                self.tally.one(What::handshake_done);
                self.put(c, Expect::Exactly(Frame::Http(101)));
                c.stage = Stage::Open;
                c.activity = self.now;
            }
            Ev::Message(said) => {
                self.tally.one(What::message_heard);
                c.message_since = None;
                c.activity = self.now;
                c.idle_at_drain = false;
                if open {
                    self.said(c, said);
                } else if let Said::Good(env) = &**said
                    && !env.is_too_large(&self.rules.bounds)
                {
                    self.tally.add(What::crossed_close, env.requests());
                }
            }
            Ev::Ping(payload) if open => {
                self.put(c, Expect::Exactly(Frame::Pong(payload.clone())));
                self.is_slow(c);
            }
            Ev::Ping(_) | Ev::Pong => {}
            Ev::Close(code) if open => {
                self.tally.one(What::close_by_client);
                c.begin_closing(self.now, false, false);
                self.leave(c);
                self.put(c, Expect::Exactly(Frame::Close(*code)));
            }
            Ev::Close(_) | Ev::Violation(_) => {
                if let Ev::Violation(code) = event {
                    self.tally.one(What::violation);
                    self.close(c, *code);
                }
                if let Stage::Closing { awaits, since, .. } = &mut c.stage {
                    (*awaits, *since) = (false, self.now);
                }
            }
        }
    }

    fn garbage(&mut self, c: &mut Client) {
        c.garbage += 1;
        if c.garbage >= self.rules.garbage {
            self.tally.one(What::garbage_close);
            self.close(c, 1008);
        }
    }

    fn said(&mut self, c: &mut Client, said: &Said) {
        match said {
            Said::Bad { spelled, xid, traces, silent } => {
                self.tally.one(What::refused_400);
                if !silent {
                    self.errors(c, (spelled, xid), traces, (400, false));
                }
                self.garbage(c);
            }
            Said::Good(env) if env.is_too_large(&self.rules.bounds) => self.refuse_envelope(c, env, (413, false)),
            Said::Good(env) if self.is_too_fast(c, env) => {}
            Said::Good(env) if self.must_wait(c, env, c.backlog.len()) => {
                self.tally.one(What::backlog_wait);
                self.tally.add(What::router_wait, usize::from(self.is_kept_by_router(c, env)));
                c.garbage = 0;
                let in_session = c.session(&env.thread).is_some();
                self.tally.add(What::session_wait, usize::from(in_session));
                self.tally.add(What::disconnect_wait, usize::from(in_session && env.counted() == 0));
                c.backlog.push_back(Rc::clone(env));
            }
            Said::Good(env) => self.relay(c, env),
        }
    }

    /// Whether an envelope must wait behind the first `ahead` of the backlog: its own thread's come first; while its
    /// CONNECT is pending, or its session has something under way, a thread waits; requests wait for room, and for those
    /// that wait for room already.
    fn must_wait(&self, c: &Client, env: &Env, ahead: usize) -> bool {
        let mut ahead = c.backlog.iter().take(ahead);
        let waits_for_room = |other: &Rc<Env>| other.counted() > 0 && !c.is_occupied(&other.thread);
        c.is_occupied(&env.thread)
            || ahead.clone().any(|other| other.thread == env.thread)
            || (env.counted() > 0
                && (!self.may_give(c, true)
                    || self.waits_behind_large(env.text_len)
                    || (c.pending() > 0 && c.pending() + env.counted() > self.rules.parallel)
                    || ahead.any(waits_for_room)))
    }

    /// Whether the router's list is the reason that an envelope waits which has just come.
    fn is_kept_by_router(&self, c: &Client, env: &Env) -> bool {
        let is_held_by_thread = c.is_occupied(&env.thread) || c.backlog.iter().any(|other| other.thread == env.thread);
        let is_kept = !self.may_give(c, true) || self.waits_behind_large(env.text_len);
        env.counted() > 0 && !is_held_by_thread && is_kept && !self.is_bus_full(c, true)
    }

    pub(super) fn relay_backlog(&mut self, c: &mut Client) {
        let mut at = 0;
        while at < c.backlog.len() && c.stage == Stage::Open {
            let env = Rc::clone(&c.backlog[at]);
            if self.must_wait(c, &env, at) {
                at += 1;
            } else {
                c.backlog.remove(at);
                self.relay(c, &env);
            }
        }
    }

    fn relay(&mut self, c: &mut Client, env: &Env) {
        if env.counted() == 0 && c.session(&env.thread).is_none() {
            self.tally.add(What::disconnect_ignored, env.msgs.len());
            c.garbage = 0;
            return;
        }
        if let Err(refused) = self.dispatch(c, env) {
            self.refuse_envelope(c, env, refused);
        }
    }

    fn refuse_envelope(&mut self, c: &mut Client, env: &Env, (status, transport): (u16, bool)) {
        let what = match status {
            400 => What::refused_400,
            403 => What::refused_403,
            413 => What::refused_413,
            // Which limit it was, is told already.
            429 => What::told_429,
            _ => What::refused_503_away,
        };
        self.tally.one(what);
        if env.counted() > 0 {
            self.errors(c, (&env.spelled, &env.xid), &env.asks(), (status, transport));
        }
        if status == 400 || status == 413 {
            self.garbage(c);
        }
        // A DISCONNECT is not answered: whoever sent it takes its session for ended.
        if transport && env.msgs.iter().any(|m| m.kind == Kind::Disconnect) {
            if let Some(session) = c.session(&env.thread) {
                (session.connected, session.left) = (false, true);
            }
            c.forget();
        }
    }

    fn dispatch(&mut self, c: &mut Client, env: &Env) -> Result<(), (u16, bool)> {
        if env.counted() > 0 && self.has_too_many_orphans(c) {
            self.tally.one(What::refused_for_orphans);
            return Err((429, false));
        }
        let session = c.session(&env.thread).map(|v| (v.n, v.worker.clone()));
        let connects = env.msgs.iter().filter(|m| m.kind == Kind::Connect).count();
        if connects > 0 && session.is_none() && c.sessions() + c.connecting() + connects > self.rules.sessions {
            self.tally.one(What::refused_429);
            return Err((429, false));
        }
        let (key, to, domain) = match (&session, env.service.as_deref()) {
            (Some((_, Some((worker, domain)))), _) => (worker.clone(), worker.clone(), *domain),
            (_, None) => return Err((400, false)),
            (_, Some("router")) => return Err((403, false)),
            (_, Some(service)) => (ROUTER_KEY.to_owned(), format!("opensrf:service:_:_:{service}"), 0),
        };
        if !self.accepting[domain] {
            return Err((503, true));
        }
        let n = session.as_ref().map_or(c.next_n, |(n, _)| *n);
        c.next_n += u64::from(session.is_none());
        let thread = format!("{}.{}.{n}:{}", c.slot, c.generation, env.thread);
        let before = format!("{{\"to\":\"{to}\",\"from\":\"{ADDRESS}\",\"thread\":\"{thread}\",\"osrf_xid\":");
        let after = format!(",\"body\":{}}}", env.body());
        // How long a made-up xid is, is the gateway's own: what is fat, and near the limit, has one.
        let xid_len = env.xid.as_ref().map_or(12, |xid| escaped(xid));
        if escaped(&before) + xid_len + escaped(&after) > self.rules.bounds.bus_bytes {
            return Err((413, false));
        }
        if session.is_none() {
            let (thread, spelled) = (env.thread.clone(), env.spelled.clone());
            c.conversations.push(Conversation { n, thread, spelled, ..Conversation::default() });
        }
        let (slot, generation) = (c.slot, c.generation);
        let conversation = c.find(n).expect("it is there or was just opened");
        let push = conversation.pushes;
        conversation.pushes += 1;
        conversation.unanswered += u32::from(env.counted() > 0);
        conversation.xid.clone_from(&env.xid);
        for message in &env.msgs {
            let connect = message.kind == Kind::Connect;
            if message.kind == Kind::Disconnect {
                (conversation.connected, conversation.left) = (false, true);
                continue;
            }
            conversation.left &= !connect;
            let (trace, spelled) = (message.trace, message.spelled.clone());
            let (since, heard) = (self.now, self.now);
            conversation.pending.push(Pending { trace, spelled, connect, since, heard, push, lost_at: None });
        }
        self.tally.one(What::relayed);
        self.tally.add(What::request_relayed, env.requests());
        let ticket = Some((slot, generation, n, push));
        if key == ROUTER_KEY {
            self.gave_to_router(c, env.text_len);
        }
        self.pushes.push_back(Push { domain, key, before, xid: env.xid.clone(), after, ticket });
        c.garbage = 0;
        c.forget();
        Ok(())
    }
}
