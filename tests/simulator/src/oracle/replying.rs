//! The bus: what is pushed to it, what it delivers, what befalls it.

use evergate_proto::clients::router_list::RouterNews;

use super::client::{Client, Conversation, Pending, Stage};
use super::expect::{Expect, Reply, is_xid};
use super::{Oracle, Ticket, domain_of};
use crate::tally::What;

impl Oracle {
    /// A message is pushed: it must be the next that is to be.
    pub fn pushed(&mut self, domain: usize, key: &str, text: &str, ticket: Option<Ticket>) -> Result<(), String> {
        let Some(expected) = self.pushes.pop_front() else {
            return Err(format!("a push that nothing calls for: {text}"));
        };
        let xid = text
            .strip_prefix(&expected.before)
            .and_then(|rest| rest.strip_suffix(&expected.after))
            .filter(|xid| is_xid(expected.xid.as_ref(), xid));
        let Some(xid) = xid.filter(|_| domain == expected.domain && *key == expected.key && ticket == expected.ticket)
        else {
            return Err(format!("pushed is {ticket:?} to {key} of {domain}: {text}\n  must be {expected:?}"));
        };
        if let (Some((slot, _, n, push)), None) = (ticket, &expected.xid) {
            // A made-up xid is known from now on.
            self.with(slot, |_, c| {
                if let Some(conversation) = c.find(n).filter(|v| v.pushes == push + 1) {
                    conversation.xid = Some(xid.to_owned());
                }
            });
        }
        Ok(())
    }

    pub fn reply(&mut self, reply: &Reply) {
        self.tally.one(What::popped);
        if !reply.readable {
            self.tally.one(What::reply_bus_garbage);
            return;
        }
        let delivered = reply.to.is_some_and(|(slot, generation, n)| {
            let Some(client) = self.client(slot) else { return false };
            let (stale, open) = (client.generation != generation, client.stage == Stage::Open);
            self.tally.add(What::reply_stale_generation, usize::from(stale));
            open && !stale && self.with(slot, |o, c| o.reply_to(c, n, reply)) == Some(true)
        });
        if delivered {
            self.tally.one(What::reply_delivered);
            return;
        }
        self.tally.one(What::reply_undeliverable);
        if let Some(to) = reply.to {
            self.end_orphan(to);
        }
        if reply.msgs.iter().any(|m| m.status == Some(200))
            && let Some(domain) = domain_of(&reply.from)
        {
            self.tally.one(What::unwanted_200_disconnected);
            let xid = reply.xid.clone().unwrap_or_else(|| "null".to_owned());
            self.push_disconnect(domain, &reply.from, &reply.thread, Some(xid));
        }
    }

    fn reply_to(&mut self, c: &mut Client, n: u64, reply: &Reply) -> bool {
        let now = self.now;
        let request_ms = self.rules.request_ms;
        let Some(v) = c.find(n) else { return false };
        v.unanswered = 0;
        self.end_orphan((c.slot, c.generation, n));
        let Some(v) = c.find(n) else { return false };
        for pending in v.pending.iter_mut().filter(|p| !p.connect) {
            self.tally.add(What::long_stream, usize::from(now >= pending.since + request_ms));
            pending.heard = now;
        }
        let mut named = Vec::new();
        for pending in v.pending.iter_mut().filter(|p| reply.msgs.iter().any(|m| m.trace == Some(p.trace))) {
            pending.lost_at = None;
            named.push(pending.spelled.clone());
        }
        self.tally.add(What::reply_late, usize::from(named.is_empty()));
        let spelled = v.spelled.clone();
        let xid = reply.xid.clone().filter(|_| reply.utf8).or_else(|| v.xid.clone());
        let (mut not_found, mut foreign, mut unanswered, mut unwanted) = (None, Vec::new(), Vec::new(), false);
        for (at, message) in reply.msgs.iter().enumerate() {
            let Some(code) = message.status else { continue };
            let of_worker = v.worker.as_ref().is_some_and(|(worker, _)| *worker == reply.from);
            let end_one = |v: &mut Conversation, connect: bool| {
                let at = v.pending.iter().position(|p| Some(p.trace) == message.trace && (p.connect || !connect));
                at.map(|at| v.pending.remove(at))
            };
            match code {
                200 => match (end_one(v, true), domain_of(&reply.from)) {
                    (Some(_), _) if v.left => {}
                    (Some(_), Some(domain)) => {
                        self.tally.one(What::session_made);
                        v.worker = Some((reply.from.clone(), domain));
                        v.connected_since = if v.connected { v.connected_since } else { now };
                        v.connected = true;
                    }
                    (Some(pending), None) => foreign.push(pending.spelled),
                    (None, _) => unwanted |= !(v.connected && of_worker),
                },
                404 if message.exception && reply.is_router => {
                    if !v.pending.is_empty() {
                        self.tally.one(What::router_404);
                        not_found = Some((at, std::mem::take(&mut v.pending)));
                    }
                }
                408 if of_worker => {
                    self.tally.one(What::session_ended_by_408);
                    (v.connected, v.left) = (false, true);
                    unanswered.extend(std::mem::take(&mut v.pending).into_iter().map(|p| p.spelled));
                }
                408 => {}
                205 | 307 | 400.. => {
                    end_one(v, false);
                    if of_worker && (code == 307 || code == 417) {
                        (v.connected, v.left) = (false, true);
                    }
                    match code {
                        205 => {}
                        307 if of_worker => self.tally.one(What::session_redirected_307),
                        417 if of_worker => self.tally.one(What::session_broken_417),
                        _ => self.tally.one(What::method_error),
                    }
                }
                _ => {}
            }
        }
        let before = format!("{{\"thread\":{spelled},\"log_xid\":");
        let about = (&*spelled, &xid);
        if !reply.utf8 {
            self.tally.one(What::reply_not_utf8);
            self.errors(c, about, &named, (500, false));
        } else if let Some((at, ended)) = not_found {
            let (pre, post) = &reply.msgs[at].around_trace;
            for pending in ended {
                let after = format!(",\"osrf_msg\":[{pre}{}{post}],\"transport_error\":true}}", pending.spelled);
                self.text(c, Expect::Text(before.clone(), xid.clone(), after));
            }
        } else if foreign.is_empty() || reply.msgs.len() > 1 {
            let (open, close) = if reply.is_array { ("", "") } else { ("[", "]") };
            let after = format!(",\"osrf_msg\":{open}{}{close}}}", String::from_utf8_lossy(&reply.body));
            self.text(c, Expect::Text(before, xid.clone(), after));
        }
        self.tally.add(What::session_refused_foreign, usize::from(!foreign.is_empty()));
        for failed in [foreign, unanswered] {
            if !failed.is_empty() {
                self.errors(c, about, &failed, (503, true));
            }
        }
        if let Some(domain) = domain_of(&reply.from).filter(|_| unwanted) {
            self.tally.one(What::unwanted_200_disconnected);
            self.push_disconnect(domain, &reply.from, &reply.thread, xid);
        }
        c.forget();
        self.relay_backlog(c);
        true
    }

    /// Ends what `ends` picks and tells the client; how many.
    pub(super) fn fail(&mut self, c: &mut Client, status: u16, ends: impl Fn(u64, usize, &Pending) -> bool) -> usize {
        let mut failed = 0;
        // Telling a slow consumer ends all the rest.
        for n in c.conversations.iter().map(|v| v.n).collect::<Vec<u64>>() {
            let Some(v) = c.find(n) else { break };
            let domain = v.worker.as_ref().map_or(0, |(_, domain)| *domain);
            let traces: Vec<String> = v.pending.extract_if(.., |p| ends(n, domain, p)).map(|p| p.spelled).collect();
            let (spelled, xid) = (v.spelled.clone(), v.xid.clone());
            failed += traces.len();
            if !traces.is_empty() && status != 504 {
                v.unanswered = 0;
            }
            if !traces.is_empty() {
                self.errors(c, (&spelled, &xid), &traces, (status, true));
            }
        }
        self.gave_up(c);
        c.forget();
        if failed > 0 {
            self.relay_backlog(c);
        }
        failed
    }

    pub fn push_failed(&mut self, (slot, generation, n, push): Ticket) {
        self.end_orphan((slot, generation, n));
        if self.client(slot).is_some_and(|c| c.generation == generation) {
            self.with(slot, |_, c| c.find(n).map(|v| v.unanswered = 0));
            self.with(slot, |o, c| o.fail(c, 503, |of, _, p| of == n && p.push == push));
        }
    }

    fn each_doubt(&mut self, change: impl Fn(Option<u64>) -> Option<u64>) {
        let conversations = self.clients.iter_mut().flatten().flat_map(|c| &mut c.conversations);
        conversations.flat_map(|v| &mut v.pending).for_each(|p| p.lost_at = change(p.lost_at));
    }

    pub fn pops_lost(&mut self) {
        self.each_doubt(|_| Some(u64::MAX));
    }

    pub fn pops_back(&mut self) {
        let give_up = self.now + self.rules.bus_lost_ms;
        self.each_doubt(|at| at.map(|at| if at == u64::MAX { give_up } else { at }));
    }

    /// Redis came back empty: what is pending there ends.
    pub fn emptied(&mut self, domain: usize) {
        self.each(|o, c| {
            let of = |v: &Conversation| v.worker.as_ref().map_or(0, |(_, domain)| *domain);
            for v in c.conversations.iter_mut().filter(|v| domain == 0 || of(v) == domain) {
                v.unanswered = 0;
            }
            let failed = o.fail(c, 503, |_, of, _| domain == 0 || of == domain);
            o.tally.add(What::emptied_503, failed);
        });
        if domain == 0 {
            self.orphans.clear();
            self.heard_of_router(&[RouterNews::Lost], &[]);
        }
    }
}
