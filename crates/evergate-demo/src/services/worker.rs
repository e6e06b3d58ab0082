//! A worker: carries out one envelope, and holds on to its client for as long as there is a session.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use monoio::time::Instant;
use redis::RedisError;

use super::super::link::{Popper, SendError};
use super::super::messages::{Dialect, Envelope, Kind, Message, Repeated, Reply, wrap, write_message};
use super::methods;
use super::{Common, Reading};

/// Most messages that a worker takes from its list beside the one that it serves.
const TAKEN_MAX: usize = 1_024;

/// One of a service's workers.
#[derive(Debug)]
pub(super) struct Worker {
    /// Its number: what a process id is to a real worker.
    pub(super) number: usize,
    /// Its own address.
    address: String,
    /// The connection that reads its own address; opened by its first session.
    popper: Option<Popper>,
}

/// A session: the worker belongs to this client's thread.
#[derive(Debug)]
struct Session {
    /// The client's address.
    from: String,
    /// The thread, unescaped.
    thread: String,
    /// Calls of `opensrf.demo.counter`.
    counter: u64,
    /// The last threadTrace, which Perl repeats in its 408.
    trace: String,
}

impl Session {
    /// Whether an envelope is of this session, and not of one that the worker had before or from a stranger.
    fn owns(&self, envelope: &Envelope<'_>) -> bool {
        self.from == envelope.from && self.thread == envelope.thread_name()
    }

    /// Whether a message as it came ends this session.
    fn is_ended_by(&self, message: &[u8]) -> bool {
        let disconnects = |message: Message<'_>| matches!(message.kind, Kind::Disconnect);
        Envelope::parse(message)
            .is_ok_and(|envelope| self.owns(&envelope) && envelope.messages().into_iter().any(disconnects))
    }
}

/// What becomes of the session after a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on.
    Lives,
    /// The worker leaves it: DISCONNECT, or a status that says so.
    Ends,
}

impl Worker {
    /// A free worker.
    pub(super) fn new(number: usize, address: String) -> Self {
        Self { number, address, popper: None }
    }

    /// Closes its connection; the next session opens another.
    pub(super) fn close(&mut self) {
        self.popper = None;
    }

    /// Carries out what came through the service's queue, then serves the session that it began, if it did.
    pub(super) async fn work(&mut self, common: &Common, first: &[u8]) {
        let service = common.service.name();
        let mut session = None;
        match Envelope::parse(first) {
            Ok(envelope) => self.carry_out(common, &envelope, &mut session).await,
            Err(error) => tracing::warn!(service, %error, "message dropped"),
        }
        let Some(opened) = session else { return };
        if let Err(error) = self.hold(common, opened, first).await {
            tracing::warn!(service, worker = self.number, %error, "session lost");
            self.close();
        }
    }

    /// Serves a session until it ends. `last` is the envelope whose spelling a 408 repeats.
    async fn hold(&mut self, common: &Common, opened: Session, last: &[u8]) -> Result<(), RedisError> {
        let reading = common.service.reading();
        let mut session = Some(opened);
        let mut last = last.to_vec();
        let mut deadline = Instant::now() + common.keepalive;
        // Read from the list and not carried out yet.
        let mut read = VecDeque::new();
        while let Some(open) = &session {
            let Some(message) = self.next(reading, open, &mut read, deadline).await? else {
                if let Ok(envelope) = Envelope::parse(&last) {
                    let trace = if common.service.dialect() == Dialect::C { "0" } else { open.trace.as_str() };
                    let replies =
                        Replies { common, envelope: &envelope, own: &self.address, repeated: repeated(trace, None) };
                    report(replies.send(&[Reply::TimedOut]).await, common);
                }
                return Ok(());
            };
            match Envelope::parse(&message) {
                Ok(envelope) if open.owns(&envelope) => {
                    self.carry_out(common, &envelope, &mut session).await;
                    deadline = Instant::now() + common.keepalive;
                    drop(envelope);
                    last = message;
                    if reading == Reading::WhileServing {
                        read.extend(self.take().await?);
                        if session.as_ref().is_some_and(|open| read.iter().any(|message| open.is_ended_by(message))) {
                            let dropped = read.len() - 1;
                            tracing::debug!(worker = self.number, dropped, "DISCONNECT read while it served");
                            return Ok(());
                        }
                    }
                }
                // For a session that this worker had before, or from a stranger: neither is ever answered.
                Ok(_) => tracing::debug!(worker = self.number, "message of another thread ignored"),
                Err(error) => tracing::warn!(worker = self.number, %error, "message dropped"),
            }
        }
        Ok(())
    }

    /// The next message to carry out: of what was read already, else of what comes before the deadline.
    async fn next(
        &mut self,
        reading: Reading,
        open: &Session,
        read: &mut VecDeque<Vec<u8>>,
        deadline: Instant,
    ) -> Result<Option<Vec<u8>>, RedisError> {
        if read.is_empty()
            && let Some(popper) = &mut self.popper
        {
            let wait = deadline.saturating_duration_since(Instant::now());
            read.extend(popper.pop(&self.address, wait, 1).await?);
            if reading == Reading::Nested && !read.is_empty() {
                read.extend(self.take().await?);
            }
        }
        // The innermost request is the one that came last; a DISCONNECT waits for all that are under way.
        let innermost = || read.iter().rposition(|message| !open.is_ended_by(message));
        let next = if reading == Reading::Nested { innermost().unwrap_or(0) } else { 0 };
        Ok(read.remove(next))
    }

    /// What is in its list, without waiting.
    async fn take(&mut self) -> Result<Vec<Vec<u8>>, RedisError> {
        match &mut self.popper {
            Some(popper) => popper.take(&self.address, TAKEN_MAX).await,
            None => Ok(Vec::new()),
        }
    }

    async fn carry_out(&mut self, common: &Common, envelope: &Envelope<'_>, session: &mut Option<Session>) {
        for message in envelope.messages() {
            match &message.kind {
                Kind::Connect => {
                    if session.is_none() {
                        if let Err(error) = self.open(common).await {
                            tracing::warn!(worker = self.number, %error, "CONNECT lost");
                            self.close();
                            return;
                        }
                        *session = Some(Session {
                            from: envelope.from.clone().into_owned(),
                            thread: envelope.thread_name(),
                            counter: 0,
                            trace: message.trace.clone(),
                        });
                    }
                    report(self.replies(common, envelope, &message).send(&[Reply::Connected]).await, common);
                }
                Kind::Disconnect => *session = None,
                Kind::Request(call) => {
                    let mut stateless = 0;
                    let counter = match session {
                        Some(session) => {
                            session.trace.clone_from(&message.trace);
                            &mut session.counter
                        }
                        None => &mut stateless,
                    };
                    let called = methods::Called { call, counter, worker: self.number };
                    let replies = self.replies(common, envelope, &message);
                    match methods::run(common.service, called, &replies).await {
                        Ok(Verdict::Lives) => {}
                        Ok(Verdict::Ends) => *session = None,
                        Err(error) => report(Err(error), common),
                    }
                }
                Kind::Other => tracing::debug!(worker = self.number, "message of no type that a client sends ignored"),
            }
        }
    }

    /// Opens the connection that the session's messages come by, and clears what was meant for an earlier session.
    async fn open(&mut self, common: &Common) -> Result<(), RedisError> {
        if let Some(popper) = &mut self.popper {
            // It may have been closed for idleness since the last session: then a new one is due.
            if popper.delete(&self.address).await.is_ok() {
                return Ok(());
            }
        }
        let mut popper = Popper::connect(common.own.account()).await?;
        popper.delete(&self.address).await?;
        self.popper = Some(popper);
        Ok(())
    }

    fn replies<'a>(&'a self, common: &'a Common, envelope: &'a Envelope<'a>, message: &'a Message<'a>) -> Replies<'a> {
        Replies { common, envelope, own: &self.address, repeated: repeated(&message.trace, Some(message)) }
    }
}

fn repeated<'a>(trace: &'a str, message: Option<&'a Message<'a>>) -> Repeated<'a> {
    Repeated { trace, tz: message.and_then(|message| message.tz), ingress: message.and_then(|message| message.ingress) }
}

fn report(sent: Result<(), SendError>, common: &Common) {
    if let Err(error) = sent {
        tracing::warn!(service = common.service.name(), %error, "reply lost");
    }
}

/// The way back to the client of one message.
pub(super) struct Replies<'a> {
    common: &'a Common,
    envelope: &'a Envelope<'a>,
    own: &'a str,
    repeated: Repeated<'a>,
}

impl Replies<'_> {
    /// Sends one envelope with these messages.
    pub(super) async fn send(&self, replies: &[Reply<'_>]) -> Result<(), SendError> {
        // Perl's hash tables give every message another order of keys; a counter does it reproducibly.
        static TURN: AtomicUsize = AtomicUsize::new(0);
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        let dialect = self.common.service.dialect();
        let mut body = String::new();
        for (position, reply) in replies.iter().enumerate() {
            if position > 0 {
                body.push(',');
            }
            write_message(&mut body, dialect, turn + position, &self.repeated, reply);
        }
        let Envelope { from: client, thread, osrf_xid, .. } = self.envelope;
        let xid = osrf_xid.map(serde_json::value::RawValue::get);
        let text = wrap(dialect, turn, (client, self.own), (thread.get(), xid), &body);
        self.common.domains.send(client, text.as_bytes()).await
    }
}
