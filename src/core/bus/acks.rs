//! The link that pushes, while it is up: batches out, confirmations in.
//!
//! Nobody waits for a confirmation. What has come of them is read before every eighth batch is written, and once a tick, which spares
//! a busy link a wake-up for each batch. A link that has been quiet for [`QUIET_MS`] is listened to all the time, so that the end of
//! the connection is noticed.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::Shutdown;
use std::rc::Rc;

use evergate_proto::clients::router_list::RouterNews;
use evergate_proto::counters;
use evergate_proto::redis::outbox::Answer;
use evergate_proto::redis::refusals;
use smallvec::SmallVec;

use super::connection::{Greeted, Input};
use crate::core::Core;
use crate::core::notify::Notify;
use crate::core::stream::Stream;

/// How long after a batch the end of the connection is waited for, ms.
pub(super) const QUIET_MS: u64 = 40;
/// A pause after which a link may have been closed unnoticed, ms.
const PAUSE_MS: u64 = 2;
/// Fewer missing confirmations are not worth a system call: they are read with those of later batches.
const UNCONFIRMED_FEW: usize = 8;
/// A batch's buffer that has grown larger is given back.
const BATCH_BYTES_KEPT: usize = 256 * 1024;

/// The receiving side of a link that pushes.
#[derive(Debug, Default)]
pub(super) struct Acks {
    /// What was received; lent to the listener while that waits for more.
    input: RefCell<Option<Input>>,
    /// When the last batch was written, ms.
    wrote_ms: Cell<u64>,
    /// The listener waits for more, or is about to.
    listening: Cell<bool>,
    /// Wakes the listener.
    quiet: Notify,
    /// The connection, while there is one.
    stream: RefCell<Option<Rc<Stream>>>,
}

impl Acks {
    /// How long nothing has been written, ms.
    pub(super) fn quiet_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.wrote_ms.get())
    }

    /// The connection, where the listener waits for what Redis says next.
    pub(super) fn listens(&self) -> Option<Rc<Stream>> {
        self.stream.borrow().clone().filter(|_| self.listening.get())
    }

    /// Has the listener wait for what Redis says next.
    pub(super) fn listen(&self) {
        if !self.listening.replace(true) {
            self.quiet.notify();
        }
    }
}

/// Pushes until the connection breaks, which it returns the reason of.
pub(super) async fn push(core: &Rc<Core>, domain: usize, greeted: Greeted) -> io::Error {
    let link = &core.links[domain];
    let Greeted { stream, input, .. } = greeted;
    link.acks.input.replace(Some(input));
    link.acks.stream.replace(Some(Rc::clone(&stream)));
    link.acks.wrote_ms.set(core.now_ms());
    link.acks.listening.set(false);
    // Redis has answered a greeting.
    link.silence.borrow_mut().answered(core.now_ms(), true);
    let broken: Rc<RefCell<Option<io::Error>>> = Rc::default();
    let listener = monoio::spawn({
        let (core, stream, broken) = (Rc::clone(core), Rc::clone(&stream), Rc::clone(&broken));
        async move {
            let error = listen(&core, domain, &stream).await;
            broken.borrow_mut().get_or_insert(error);
            core.links[domain].wake.notify();
        }
    });
    let mut batch = Vec::new();
    while broken.borrow().is_none() {
        if link.outbox.borrow().is_empty() {
            link.wake.notified().await;
            continue;
        }
        if let Err(error) = catch_up(core, domain, &stream) {
            broken.borrow_mut().get_or_insert(error);
            break;
        }
        batch.clear();
        core.waits.works();
        let (messages, commands) = {
            let mut outbox = link.outbox.borrow_mut();
            let waited = outbox.len();
            let commands = outbox.write(&mut batch);
            (waited - outbox.len(), commands)
        };
        // Before the kernel has taken it: where Redis reads nothing any more, that may never be.
        link.silence.borrow_mut().wrote(core.now_ms());
        core.clients(|clients| link.outbox.borrow_mut().take_used().for_each(|buffer| clients.recycle(buffer)));
        counters::add(&core.counts().bus_pushes, messages as u64);
        counters::add(&core.counts().bus_commands, commands as u64);
        let (result, written) = stream.write(batch).await;
        if let Err(error) = result {
            broken.borrow_mut().get_or_insert(error);
        }
        batch = if written.capacity() > BATCH_BYTES_KEPT { Vec::new() } else { written };
        link.outbox.borrow_mut().written();
        link.acks.wrote_ms.set(core.now_ms());
        if link.outbox.borrow().is_asking() {
            link.acks.listen();
        }
    }
    stream.shutdown(Shutdown::Both);
    link.acks.listen();
    listener.await;
    link.acks.input.take();
    link.acks.stream.take();
    broken.take().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())
}

/// Reads the confirmations of a link that is quiet, and notices its end, which it returns the reason of.
async fn listen(core: &Rc<Core>, domain: usize, stream: &Stream) -> io::Error {
    let acks = &core.links[domain].acks;
    loop {
        acks.quiet.notified().await;
        let Some(mut input) = acks.input.take() else { return io::ErrorKind::BrokenPipe.into() };
        let filled = input.fill(stream).await;
        let read = filled.and_then(|()| confirm(core, domain, &mut input));
        acks.input.replace(Some(input));
        acks.listening.set(false);
        if let Err(error) = read {
            return error;
        }
        if core.links[domain].outbox.borrow().is_asking() {
            acks.listen();
        }
    }
}

/// Reads the confirmations that have come, unless few are missing or the listener does so. After a pause it reads to the
/// end, so that nothing is written to a link that Redis has closed meanwhile.
fn catch_up(core: &Rc<Core>, domain: usize, stream: &Stream) -> io::Result<()> {
    let link = &core.links[domain];
    let paused = link.acks.quiet_ms(core.now_ms()) >= PAUSE_MS;
    if link.outbox.borrow().unconfirmed() < UNCONFIRMED_FEW && !paused {
        return Ok(());
    }
    let Some(mut input) = link.acks.input.take() else {
        // The listener has it, and has not had its turn: it may be about to hear of the end.
        let ended = paused && stream.is_broken();
        return if ended { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) };
    };
    let read = loop {
        match input.try_fill(stream).and_then(|more| confirm(core, domain, &mut input).map(|()| more)) {
            Ok(more) if more && paused => {}
            Ok(_) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    link.acks.input.replace(Some(input));
    read
}

/// Takes the confirmations that are complete; tells the clients of refused pushes.
fn confirm(core: &Rc<Core>, domain: usize, input: &mut Input) -> io::Result<()> {
    let mut refused = Vec::new();
    let mut news = SmallVec::<[RouterNews; 8]>::new();
    let mut answered = false;
    while let Some(token) = input.next()? {
        answered = true;
        match core.links[domain].outbox.borrow_mut().answer(&token) {
            Some(Answer::Done { list, messages, length }) => {
                if core.is_router_list(&list) {
                    news.push(RouterNews::Took { messages, length });
                }
                if core.links[domain].refusals.borrow_mut().taken() {
                    tracing::info!("bus: {} takes pushes again", core.domain_name(domain));
                    core.publish_link(domain);
                }
            }
            Some(Answer::Deleted | Answer::Asked(false)) => {}
            Some(Answer::Asked(true)) => news.push(RouterNews::Empty),
            Some(Answer::NotDeleted(text)) => core.links[domain].refusals.borrow_mut().doubt(&text),
            Some(Answer::Refused { list, tickets, text }) => {
                if core.is_router_list(&list) {
                    news.push(RouterNews::Refused { messages: tickets.len() as u64 });
                }
                refused.push((tickets, text));
            }
            None => return Err(io::Error::new(io::ErrorKind::InvalidData, "Redis answered what was not asked")),
        }
    }
    if answered {
        let is_confirmed = core.links[domain].outbox.borrow().is_confirmed();
        core.links[domain].silence.borrow_mut().answered(core.now_ms(), is_confirmed);
    }
    core.links[domain].heard_of_router(core, &news);
    for (tickets, text) in refused {
        counters::add(&core.counts().bus_pushes_refused, 1);
        if core.links[domain].refusals.borrow_mut().refused(core.now_ms(), &text) {
            tracing::warn!("bus: {} refused a push: {}", core.domain_name(domain), refusals::explain(&text));
            core.publish_link(domain);
        } else {
            tracing::debug!("bus: {} refused a push: {text}", core.domain_name(domain));
        }
        let text = text.trim_end_matches('.');
        let text = format!("the bus (Redis) refused the message: {text}; it may or may not have been carried out");
        core.clients(|clients| tickets.into_iter().for_each(|ticket| clients.push_failed(ticket, &text)));
    }
    Ok(())
}
