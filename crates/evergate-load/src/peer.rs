//! One connection at work: a single task that reads, judges and writes, with two buffers that it uses again and again. It
//! ends when the kernel has given both back.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio_uring::buf::BoundedBuf as _;

use super::back::Back;
use super::client::{Client, Moment, Outcome};
use super::deadline::within;
use super::fault::Fault;
use super::frame::{Event, Reader, Step};
use super::round::{Phase, Round};
use super::stream::{Stream, Write};

/// Bytes of a read at first: a short reply fits.
const READ_BYTES: usize = 2 * 1024;

/// A buffer beyond this is given back once it is empty.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// Bytes of the read of an idle client: a Ping fits.
const IDLE_BYTES: usize = 64;

/// Time for the server to take our answer to its Close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What tasks share of a connection.
pub struct Peer {
    /// The protocol's state.
    pub client: RefCell<Client>,
    /// It was opened to be idle.
    pub is_idle: bool,
    /// The connection; of a client that comes back, the latest.
    stream: RefCell<Rc<Stream>>,
    /// A right reply has come.
    pub has_answer: Cell<bool>,
    /// Wakes the connection's task.
    waker: RefCell<Option<Waker>>,
}

impl Peer {
    /// A connection that has just been opened.
    pub fn new(number: u32, stream: Stream, is_idle: bool) -> Rc<Self> {
        let client = RefCell::new(Client::new(number));
        let stream = RefCell::new(Rc::new(stream));
        Rc::new(Self { client, is_idle, stream, has_answer: Cell::new(false), waker: RefCell::new(None) })
    }

    /// There is something to be sent.
    pub fn kick(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Begins the closing handshake.
    pub fn close(&self, round: &Round) {
        self.client.borrow_mut().close(&round.plan, 1000);
        self.kick();
    }

    /// Ends the connection without waiting for anything.
    pub fn cut(&self) {
        let _ = self.stream().shutdown();
    }

    fn stream(&self) -> Rc<Stream> {
        Rc::clone(&self.stream.borrow())
    }

    fn watch(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }
}

/// Serves a connection, of which `rest` came behind the handshake, until it ends; and the next ones, where there is a way `back`.
pub async fn run(round: Rc<Round>, peer: Rc<Peer>, mut rest: Vec<u8>, back: Option<Back>) {
    loop {
        let began_ns = round.now_ns();
        let fault = serve(&round, &peer, rest).await;
        let Some(back) = back.as_ref().filter(|_| round.phase.get() != Phase::Closing) else {
            return round.ended(&peer, Some(fault));
        };
        round.leaves(&peer, fault);
        let Some(connected) = back.take(&round, Duration::from_nanos(round.now_ns() - began_ns)).await else {
            return round.ended(&peer, None);
        };
        *peer.stream.borrow_mut() = Rc::new(connected.stream);
        rest = connected.rest;
        round.is_back(&peer);
    }
}

async fn serve(round: &Rc<Round>, peer: &Rc<Peer>, rest: Vec<u8>) -> Fault {
    let stream = peer.stream();
    let mut writer = Writer::new(Rc::clone(&stream));
    let Err(fault) = relay(round, peer, &stream, &mut writer, rest).await;
    // A write under way ends with the stream, and there is no other.
    peer.client.borrow_mut().shut();
    let _ = stream.shutdown();
    let _ = writer.finish(peer, round).await;
    peer.waker.borrow_mut().take();
    fault
}

/// What a turn over the received bytes ends with.
enum Turn {
    /// So many bytes are needed to go on.
    More(usize),
    /// The server closes.
    Closed(Fault),
}

/// Handles everything that is whole in `buffer`.
fn turn(
    round: &Round,
    peer: &Rc<Peer>,
    reader: &mut Reader,
    buffer: &mut Vec<u8>,
    outcomes: &mut Vec<Outcome>,
) -> Result<Turn, Fault> {
    let (mut at, now_ns) = (0, round.now_ns());
    let mut client = peer.client.borrow_mut();
    let turn = loop {
        match reader.next(buffer, &mut at).map_err(|violation| round.violated(violation))? {
            Step::Incomplete(needed) => break Turn::More(needed),
            Step::Event(Event::Message(text)) => {
                let moment = Moment { now_ns, is_ending: round.phase.get() > Phase::Running };
                client.message(&round.plan, text, moment, &mut |outcome| outcomes.push(outcome));
                round.outcomes(peer, &mut client, outcomes, now_ns);
            }
            Step::Event(Event::Ping(payload)) => client.pong(payload),
            Step::Event(Event::Close(code, reason)) => {
                let closed = Fault::Closed(code.unwrap_or(0));
                round.said(closed, &String::from_utf8_lossy(reason));
                client.close(&round.plan, code.unwrap_or(1000));
                break Turn::Closed(closed);
            }
        }
    };
    buffer.drain(..at);
    Ok(turn)
}

async fn relay(
    round: &Rc<Round>,
    peer: &Rc<Peer>,
    stream: &Stream,
    writer: &mut Writer,
    mut buffer: Vec<u8>,
) -> Result<Infallible, Fault> {
    let (mut reader, mut outcomes) = (Reader::new(round.plan.reply_bytes_max), Vec::new());
    // A write that failed says nothing of what the server sent before: that is read to its end first.
    let mut written = Ok(());
    buffer.reserve(READ_BYTES);
    loop {
        let needed = match turn(round, peer, &mut reader, &mut buffer, &mut outcomes)? {
            Turn::More(needed) => needed,
            Turn::Closed(closed) => {
                if written.is_ok() {
                    // With our answer.
                    stream.finish();
                    let _ = within(CLOSE_TIMEOUT, stream, writer.finish(peer, round)).await;
                }
                return Err(closed);
            }
        };
        if buffer.is_empty() {
            if peer.is_idle && peer.client.borrow().in_flight() == 0 {
                (buffer, outcomes) = (Vec::with_capacity(IDLE_BYTES), Vec::new());
                writer.release();
            } else if buffer.capacity() > KEPT_BYTES_MAX {
                buffer = Vec::with_capacity(READ_BYTES);
            }
        }
        // A long message is awaited in one piece; what is left of a short one, with what may follow it.
        let missing = needed - buffer.len();
        if buffer.capacity() - buffer.len() < missing {
            buffer.reserve_exact(missing);
        }
        let mut read = pin!(stream.read(buffer));
        let (result, filled) = poll_fn(|context| {
            peer.watch(context);
            if written.is_ok() {
                written = writer.drive(peer, round, context);
                if written.is_err() {
                    peer.client.borrow_mut().shut();
                    // Reading ends behind what has come already.
                    let _ = stream.shutdown();
                }
            }
            read.as_mut().poll(context)
        })
        .await;
        buffer = filled;
        match result {
            Ok(0) => return Err(written.err().unwrap_or(Fault::Eof)),
            Ok(bytes) => round.received(bytes),
            Err(error) => return Err(written.err().unwrap_or_else(|| round.broken(&error))),
        }
    }
}

/// Writes what a client has to send, one write at a time: what gathers meanwhile leaves with the next.
struct Writer {
    stream: Rc<Stream>,
    /// The write under way.
    write: Option<Write>,
    /// The buffer that is not in use.
    spare: Vec<u8>,
}

impl Writer {
    fn new(stream: Rc<Stream>) -> Self {
        Self { stream, write: None, spare: Vec::new() }
    }

    /// Takes note of a write's end and begins the next, as far as that goes without waiting.
    fn drive(&mut self, peer: &Peer, round: &Round, context: &mut Context<'_>) -> Result<(), Fault> {
        loop {
            if let Some(write) = &mut self.write {
                let Poll::Ready((result, slice)) = Pin::new(write).poll(context) else { return Ok(()) };
                self.write = None;
                let bytes = result?;
                round.sent(bytes);
                let sent = slice.begin() + bytes;
                let mut buffer = slice.into_inner();
                if sent < buffer.len() {
                    self.write = Some(self.stream.write(buffer.slice(sent..)));
                    continue;
                }
                buffer.clear();
                self.spare = buffer;
            }
            let mut client = peer.client.borrow_mut();
            if !client.has_unsent() && !self.stream.has_unsent() {
                return Ok(());
            }
            let unsent = client.take_unsent(&round.plan, std::mem::take(&mut self.spare));
            self.write = Some(self.stream.write(self.stream.sealed(unsent)?.slice(..)));
            round.resume(&mut client);
        }
    }

    /// Waits until everything is written, or cannot be.
    async fn finish(&mut self, peer: &Peer, round: &Round) -> Result<(), Fault> {
        poll_fn(|context| match self.drive(peer, round, context) {
            Ok(()) if self.write.is_some() => Poll::Pending,
            done => Poll::Ready(done),
        })
        .await
    }

    /// Gives up the buffer that is not in use.
    fn release(&mut self) {
        self.spare = Vec::new();
        self.stream.release();
    }
}

impl Round {
    /// Does what a message's outcomes ask for.
    fn outcomes(&self, peer: &Rc<Peer>, client: &mut Client, outcomes: &mut Vec<Outcome>, now_ns: u64) {
        if let Some((fault, text)) = client.said.take() {
            self.said(fault, &text);
        }
        for outcome in outcomes.drain(..) {
            match outcome {
                Outcome::Answered { script, due_ns } => {
                    peer.has_answer.set(true);
                    self.answered(script, due_ns, now_ns);
                }
                Outcome::Failed { script, fault } => self.failed(script, fault),
                Outcome::Free => self.free(peer, client, now_ns),
                Outcome::Fault(fault) => self.fault(fault),
            }
        }
    }
}

#[cfg(test)]
pub mod tests {
    use std::io;
    use std::net::{TcpListener, TcpStream as Socket};
    use std::os::fd::AsFd as _;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use socket2::SockRef;
    use tokio_uring::net::TcpStream;

    use super::*;
    use crate::client::tests::{coded, envelope, status, thread};
    use crate::frame::opcode;
    use crate::frame::tests::unmasked;
    use crate::plan::tests::options;
    use crate::plan::{Kind, Plan};
    use crate::round::Pace;

    /// Both ends of a connection.
    pub fn sockets() -> (Socket, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let ours = Socket::connect(listener.local_addr().expect("its address")).expect("a connection");
        (ours, listener.accept().expect("its other end").0)
    }

    /// A round with one client, number 0, on this connection.
    pub fn round_on(socket: Socket, pace: Pace) -> (Rc<Round>, Rc<Peer>) {
        let round = Round::new(Plan::new(&options(Kind::Stateless)), pace, None, 1);
        let peer = Peer::new(0, Stream::plain(TcpStream::from_std(socket)), false);
        round.add(&peer);
        (round, peer)
    }

    #[test]
    fn what_a_1012_leaves_unanswered_is_lost_where_its_reply_had_begun_and_not_relayed_where_it_had_not() {
        let (ours, _theirs) = sockets();
        tokio_uring::start(async {
            let (round, peer) = round_on(ours, Pace::Closed { in_flight: 3, think_ns: 0 });
            round.phase.set(Phase::Running);
            round.start(&peer);
            let begun = envelope(&thread(0, 1), &[coded(1, 200, "1001000001")]);
            let moment = Moment { now_ns: 1, is_ending: false };
            peer.client
                .borrow_mut()
                .message(&round.plan, begun.as_bytes(), moment, &mut |outcome| panic!("{outcome:?}"));
            round.ended(&peer, Some(Fault::Closed(1012)));
            let tally = round.tally.borrow();
            let faults = [(Fault::Closed(1012), 1), (Fault::Lost, 1), (Fault::Unanswered, 2)];
            assert_eq!((tally.faults.clone(), tally.drained), (faults.into(), 1));
        });
    }

    #[test]
    fn what_came_before_a_reset_counts_though_nothing_can_be_written_any_more() {
        let (ours, mut theirs) = sockets();
        let reply = envelope(&thread(0, 0), &[coded(0, 200, "1001000000"), status(0, 205)]);
        let all =
            [unmasked(0x80 | opcode::TEXT, reply.as_bytes()), unmasked(0x80 | opcode::CLOSE, &1012_u16.to_be_bytes())]
                .concat();
        io::Write::write_all(&mut theirs, &all).expect("a write");
        SockRef::from(&theirs).set_linger(Some(Duration::ZERO)).expect("a reset in place of an end");
        drop(theirs);
        let mut reset = [PollFd::new(ours.as_fd(), PollFlags::empty())];
        assert_eq!(poll(&mut reset, PollTimeout::from(30_000_u16)), Ok(1), "the reset has come");
        tokio_uring::start(async {
            let (round, peer) = round_on(ours, Pace::Closed { in_flight: 1, think_ns: 0 });
            round.tally.borrow_mut().begin(0, 1_000_000_000);
            round.phase.set(Phase::Running);
            round.begin(&mut peer.client.borrow_mut(), 0);
            run(Rc::clone(&round), Rc::clone(&peer), Vec::new(), None).await;
            let tally = round.tally.borrow();
            assert_eq!(tally.faults.iter().collect::<Vec<_>>(), [(&Fault::Closed(1012), &1)]);
            assert_eq!(tally.latency.len(), 1);
        });
    }
}
