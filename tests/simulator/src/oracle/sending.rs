//! What a client is sent: replies and errors, slow consumers, the Close that ends all.

use super::client::{Client, Conversation, Stage};
use super::expect::Expect;
use super::{ADDRESS, Oracle, Push};
use crate::browser::{Frame, INGRESS};
use crate::tally::What;

impl Oracle {
    pub(super) fn put(&mut self, c: &mut Client, expect: Expect) {
        let (bytes, may_be) = (c.next_told(), expect.bytes());
        if !bytes.is_some_and(|bytes| may_be.contains(&bytes)) {
            self.wrong(format!("slot {}: to be queued is {expect:?}, in {may_be:?} bytes: {bytes:?}", c.slot));
        }
        c.expect.push_back((expect, bytes.unwrap_or(0)));
    }

    /// Whether the client is a slow consumer; if so it is closed.
    pub(super) fn is_slow(&mut self, c: &mut Client) -> bool {
        let slow = c.unsent() > self.rules.outbound;
        if slow {
            self.tally.one(What::slow_consumer);
            self.drop_queued(c);
            self.close(c, 1008);
        }
        slow
    }

    /// The answer to the handshake stands, or the Close would be taken for it.
    pub(super) fn drop_queued(&mut self, c: &mut Client) {
        c.expect.retain(|(expect, _)| matches!(expect, Expect::Exactly(Frame::Http(_))));
        c.reply_end = c.reply_end.min(c.end());
        c.late &= !c.is_delivered();
    }

    pub(super) fn text(&mut self, c: &mut Client, expect: Expect) {
        if c.stage == Stage::Open && !self.is_slow(c) {
            self.tally.one(What::text_queued);
            self.put(c, expect);
            c.reply_end = c.end();
        }
    }

    /// One envelope for each trace; one with 0 where none could be read.
    pub(super) fn errors(
        &mut self,
        c: &mut Client,
        (spelled, xid): (&str, &Option<String>),
        traces: &[String],
        (status, transport): (u16, bool),
    ) {
        let none = ["0".to_owned()];
        for trace in if traces.is_empty() { &none } else { traces } {
            self.tally.one(What::error_made);
            self.text(c, Expect::Error(spelled.to_owned(), xid.clone(), trace.clone(), status, transport));
        }
    }

    pub(super) fn close(&mut self, c: &mut Client, code: u16) {
        if c.stage == Stage::Open {
            self.put(c, Expect::Close(code));
            self.tally.add(What::restart_closed, usize::from(code == 1012));
            c.begin_closing(self.now, true, false);
            self.leave(c);
        }
    }

    pub(super) fn refuse(&mut self, c: &mut Client, status: u16) {
        self.tally.one(What::handshake_bad);
        self.put(c, Expect::Exactly(Frame::Http(status)));
        c.begin_closing(self.now, false, false);
    }

    /// Its conversations are over: workers with a session are told.
    pub(super) fn leave(&mut self, c: &mut Client) {
        self.tally.one(What::client_left);
        for Conversation { n, thread, xid, worker, connected, unanswered, .. } in std::mem::take(&mut c.conversations) {
            self.orphan(c, n, unanswered);
            if let Some((worker, domain)) = worker.filter(|_| connected) {
                self.tally.one(What::disconnect_for_client_gone);
                let thread = format!("{}.{}.{n}:{thread}", c.slot, c.generation);
                self.push_disconnect(domain, &worker, &thread, xid);
            }
        }
        self.tally.add(What::backlog_left, c.backlog.len());
        c.backlog.clear();
        c.message_since = None;
    }

    pub(super) fn push_disconnect(&mut self, domain: usize, worker: &str, thread: &str, xid: Option<String>) {
        self.pushes.push_back(Push {
            domain,
            key: worker.to_owned(),
            before: format!("{{\"to\":\"{worker}\",\"from\":\"{ADDRESS}\",\"thread\":\"{thread}\",\"osrf_xid\":"),
            xid,
            after: format!(
                ",\"body\":[{{\"__c\":\"osrfMessage\",\"__p\":{{\"threadTrace\":\"0\",\"locale\":\"en-US\",\
                 \"ingress\":{INGRESS},\"api_level\":1,\"type\":\"DISCONNECT\"}}}}]}}"
            ),
            ticket: None,
        });
    }

    /// The connection is over: nothing more is sent or read.
    pub(super) fn gone(&mut self, c: &mut Client) {
        if c.stage == Stage::Open {
            self.leave(c);
        }
        c.stage = Stage::Gone;
        c.clean = true;
    }

    pub fn broke(&mut self, slot: u32) {
        self.with(slot, |o, c| o.gone(c));
    }

    /// The peer has ended its side; what it is owed by then is still sent.
    pub fn ended(&mut self, slot: u32) {
        let now = self.now;
        self.with(slot, |o, c| match &mut c.stage {
            Stage::Handshake | Stage::Gone => o.gone(c),
            Stage::Closing { ended: true, .. } => {}
            stage => {
                if *stage == Stage::Open {
                    o.tally.one(What::ended_while_open);
                    o.leave(c);
                }
                c.begin_closing(now, false, true);
                c.clean = true;
            }
        });
    }

    /// Our side was shut down: its end is waited for from now on.
    pub fn half_closed(&mut self, slot: u32) {
        let now = self.now;
        self.with(slot, |_, c| {
            c.half_closed = true;
            if let Stage::Closing { since, .. } = &mut c.stage {
                *since = now;
            }
        });
    }

    /// A chunk of whole frames is taken by the shell: each must be the next that this client is to be sent.
    pub fn taken(&mut self, slot: u32, chunk: usize, frames: &[Frame]) -> Result<(), String> {
        let Some(Some(c)) = self.clients.get_mut(slot as usize) else { return Err("bytes for nobody".to_owned()) };
        if c.in_flight > 0 {
            return Err("two sends at a time".to_owned());
        }
        for frame in frames {
            let Some((expect, bytes)) = c.expect.pop_front() else {
                return Err(format!("nothing more was to be sent, but {frame:?}"));
            };
            if !expect.is(frame) {
                let is = match frame {
                    Frame::Text(text) => String::from_utf8_lossy(text).into_owned(),
                    other => format!("{other:?}"),
                };
                return Err(format!("must be sent {expect:?}, is sent {is}"));
            }
            c.in_flight += bytes;
        }
        if c.in_flight == chunk { Ok(()) } else { Err(format!("a chunk is {chunk} bytes, must be {}", c.in_flight)) }
    }

    /// The kernel has taken the chunk.
    pub fn sent(&mut self, slot: u32) {
        let now = self.now;
        self.with(slot, |_, c| {
            let was_unsent = c.taken < c.reply_end;
            c.taken += (c.in_flight - c.in_flight_taken) as u64;
            (c.in_flight, c.in_flight_taken) = (0, 0);
            if was_unsent && c.taken >= c.reply_end {
                c.activity = now;
            }
        });
    }

    /// The kernel has taken some of the chunk.
    pub fn progressed(&mut self, slot: u32, bytes: usize) {
        self.with(slot, |_, c| {
            c.taken += bytes as u64;
            c.in_flight_taken += bytes;
        });
    }
}
