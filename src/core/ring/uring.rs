//! The ring of one core: operations in, completions out.
#![expect(unsafe_code, reason = "the kernel reads and writes where an entry says")]

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::net::Shutdown;
use std::ops::Range;
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use evergate_proto::redis::dial::Place;
use evergate_proto::ring::{Completion, Emptied, Errno, Kind, Lent, Op, Pool, Ring, Socket, Wait};
use evergate_proto::websocket::net::Address;
use io_uring::types::{CancelBuilder, Fd};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::descriptor::{Descriptor, Until};
use super::in_flight::InFlight;
use super::pool::PoolSize;
use super::pools::Pools;
use super::probe::{Features, Refused};
use super::quiet::{self, Quiet};
use super::sockets;
use super::waker::{COUNT_BYTES, Waker};

/// `user_data` of an operation of which nothing is told. No [`Op`] has it.
const QUIET: u64 = 0;
/// `user_data` of a close, whose failure is counted. No [`Op`] has it.
const CLOSE: u64 = 1;
/// The wake-up's operation.
const WAKE: Op = Op { kind: Kind::Wake, place: 0, generation: 0 };
/// What the end of a connection looks like to poll(2).
const END: u32 = (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) as u32;
/// The most bytes of one operation: the kernel cuts them there anyway (`MAX_RW_COUNT`).
const BYTES_MAX: usize = 0x7fff_f000;
/// How long a drop waits for what it has cancelled.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// How large a ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UringSize {
    /// Entries of the submission queue; a full one is submitted early.
    pub submissions: u32,
    /// Entries of the completion queue. An overflow loses nothing but ends operations that go on.
    pub completions: u32,
    /// [`Pool::Light`].
    pub light: PoolSize,
    /// [`Pool::Heavy`].
    pub heavy: PoolSize,
}

impl Default for UringSize {
    /// For a core that serves. An entry brings 96 completions at most, but for a listener's: an accept that goes on may bring a whole
    /// backlog. Of the light buffers more would be touched in a storm of connections, and stay with the process.
    fn default() -> Self {
        Self {
            submissions: 1_024,
            completions: 8_192,
            light: PoolSize { buffers: 128, bytes: 2 * 1_024 },
            heavy: PoolSize { buffers: 16, bytes: 64 * 1_024 },
        }
    }
}

/// The ring. It stays on the thread that made it (`SINGLE_ISSUER`).
pub struct Uring {
    ring: IoUring,
    descriptor: Descriptor,
    pub(super) features: Features,
    pools: Pools,
    in_flight: InFlight,
    /// Entries that found the submission queue full and the kernel unwilling.
    backlog: VecDeque<squeue::Entry>,
    /// Completions of the last entries into the kernel.
    completed: Vec<cqueue::Entry>,
    /// How many of those were asked for.
    taken: usize,
    /// How many may be before the next [`Self::enter`](Ring::enter): what an early submission has brought is of the
    /// next turn, or operations that fail at once, and are started again, would have a turn never end.
    due: usize,
    /// Sends that end no wait.
    quiet: Quiet,
    /// Operations that will complete once more at least: those that may touch memory or bring a descriptor.
    under_way: usize,
    /// What other threads wake the core with.
    waker: Waker,
    /// Entries into the kernel after which completions stood behind a full queue.
    overflows: u64,
    /// Descriptors that could not be closed.
    unclosed: u64,
    /// Not `Send`: a raw pointer is not.
    one_thread: PhantomData<*const ()>,
}

impl Uring {
    /// A ring for the calling thread.
    pub fn new(size: &UringSize) -> Result<Self, Refused> {
        let mut builder = IoUring::builder();
        builder.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun();
        // An entry that the kernel rejects completes with an error, and those behind it go on.
        builder.setup_submit_all().setup_cqsize(size.completions);
        let ring = builder.build(size.submissions).map_err(Refused::at("io_uring_setup"))?;
        let features = Features::of(ring.params());
        let descriptor = Descriptor::new(&ring, features.no_iowait);
        let pools = Pools::new(&ring.submitter(), size.light, size.heavy);
        let pools = pools.map_err(Refused::at("io_uring_register, buffers"))?;
        let mut uring = Self {
            ring,
            descriptor,
            features,
            pools,
            in_flight: InFlight::default(),
            backlog: VecDeque::new(),
            completed: Vec::new(),
            taken: 0,
            due: 0,
            quiet: Quiet::default(),
            under_way: 0,
            waker: Waker::new().map_err(Refused::at("eventfd"))?,
            overflows: 0,
            unclosed: 0,
            one_thread: PhantomData,
        };
        uring.await_wake(Vec::with_capacity(COUNT_BYTES));
        Ok(uring)
    }

    /// One line for the log.
    pub fn describe(&self) -> String {
        let parameters = self.ring.params();
        let (submissions, completions) = (parameters.sq_entries(), parameters.cq_entries());
        let registered = if self.descriptor.is_registered() { "registered" } else { "not registered" };
        format!("io_uring, {submissions} submissions, {completions} completions, {registered}, {}", self.features)
    }

    /// What wakes this core, for other threads. Each wake, or several as one, is a completion of [`Kind::Wake`].
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Reads the next wake.
    fn await_wake(&mut self, count: Vec<u8>) {
        let (start, bytes) = self.in_flight.fill(WAKE, count);
        let entry = opcode::Read::new(Fd(self.waker.descriptor()), start, bytes as u32);
        self.start(WAKE, entry.build());
    }

    /// Queues an operation that completes.
    fn start(&mut self, op: Op, entry: squeue::Entry) {
        self.under_way += 1;
        self.push(entry.user_data(op.to_bits()));
    }

    /// Queues an operation of which only a failure is told, to [`Self::next`].
    fn start_quietly(&mut self, entry: squeue::Entry, user_data: u64) {
        self.push(entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(user_data));
    }

    fn push(&mut self, entry: squeue::Entry) {
        if self.backlog.is_empty() && self.queue(&entry) {
            return;
        }
        self.backlog.push_back(entry);
        // A refusal is told by the next `enter`.
        let _ = self.turn(Until::default());
        self.requeue();
    }

    /// Whether the queue had room.
    fn queue(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: what an entry points at is in `in_flight` until its completion; a buffer that the kernel picks is of
        // a pool, which lives until nothing is under way.
        unsafe { self.ring.submission().push(entry) }.is_ok()
    }

    /// Queues what there is room for by now.
    fn requeue(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.queue(&entry) {
                self.backlog.push_front(entry);
                break;
            }
        }
    }

    /// Enters the kernel once: submits, waits, reaps.
    fn turn(&mut self, until: Until) -> Result<(), Errno> {
        // Linux 6.18 makes no more completions of what is ready than it is asked for, or 20.
        self.pools.provide(until.completions);
        let queued = self.ring.submission().len() as u32;
        // SAFETY: as in `queue`.
        let entered = unsafe { self.descriptor.enter(queued, until) };
        if self.ring.submission().cq_overflow() {
            self.overflows += 1;
        }
        self.completed.drain(..self.taken);
        self.due = self.due.saturating_sub(self.taken);
        self.taken = 0;
        let before = self.completed.len();
        self.completed.extend(self.ring.completion());
        self.quiet.told(&self.completed[before..]);
        let submission = self.ring.submission();
        // What stands behind a full queue of completions has not been told, though it may have failed.
        let is_all_told = submission.is_empty() && !submission.cq_overflow() && self.backlog.is_empty();
        drop(submission);
        if is_all_told {
            self.quiet.submitted();
        }
        match entered {
            // The time is over; a signal; the kernel wants completions taken, or memory: what is not submitted stays
            // queued.
            Ok(_) | Err(Errno(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Whether all of the kernel's completions were asked for.
    fn is_taken(&self) -> bool {
        self.taken == self.completed.len()
    }

    fn take(&mut self) -> Option<cqueue::Entry> {
        let entry = self.completed.get(self.taken)?.clone();
        self.taken += 1;
        Some(entry)
    }

    /// Enters the kernel, and waits: once, but for a kernel that cannot gather.
    fn wait(&mut self, wait: Wait) -> Result<(), Errno> {
        match wait {
            Wait::No => self.turn(Until::default()),
            Wait::Something(most) => self.turn(Until { completions: 1, least_us: 0, most }),
            Wait::Gather { least, completions, most } => {
                let least_us = u32::try_from(least.as_micros()).unwrap_or(u32::MAX);
                let completions = if least_us == 0 { 1 } else { completions.max(1) };
                if self.features.min_wait || completions == 1 {
                    return self.turn(Until { completions, least_us, most: most.max(least) });
                }
                self.turn(Until { completions, least_us: 0, most: least })?;
                if !self.is_taken() || most <= least {
                    return Ok(());
                }
                self.turn(Until { completions: 1, least_us: 0, most: most.saturating_sub(least) })
            }
        }
    }

    /// What the loop is told of `entry`, which is of `op`.
    fn complete(&mut self, op: Op, entry: &cqueue::Entry) -> Completion {
        let (flags, result) = (entry.flags(), entry.result());
        let more = cqueue::more(flags);
        let result = u32::try_from(result).map_err(|_| Errno(-result));
        let len = result.unwrap_or(0);
        let lent = cqueue::buffer_select(flags).map(|name| self.pools.lend(name, len));
        let mut completion = Completion { op, result, more, lent, buffer: None };
        if !more {
            self.under_way -= 1;
            // SAFETY: without `more` no completion of this operation will come, and this was its result.
            completion.buffer = unsafe { self.in_flight.take(op, len) };
        }
        // Some kernels bring a buffer with the peer's end as well.
        if let Some(empty) = completion.lent.take_if(|lent| lent.len == 0) {
            self.give_back(empty);
        }
        match op.kind {
            // Events of poll(2).
            Kind::WatchEnd => completion.result = completion.result.map(|_| 0),
            // Only a quiet send does not wait.
            Kind::Send | Kind::LinkSend if result == Err(Errno::AGAIN) => completion.result = Ok(0),
            Kind::Wake => self.woken(&mut completion),
            _ => {}
        }
        completion
    }

    /// Goes on waiting for wakes.
    fn woken(&mut self, completion: &mut Completion) {
        let Some(mut count) = completion.buffer.take() else { return };
        // A read that failed would fail again at once.
        completion.more = completion.result.is_ok();
        if completion.more {
            count.clear();
            self.await_wake(count);
        }
    }

    /// Has everything end that is under way; whether it has.
    fn quiesce(&mut self) -> bool {
        let end = Instant::now() + LAST_WAIT;
        self.push(opcode::AsyncCancel2::new(CancelBuilder::any().all()).build().user_data(QUIET));
        loop {
            while let Some((op, _)) = self.quiet.take() {
                self.under_way -= 1;
                // SAFETY: the kernel has sent it.
                drop(unsafe { self.in_flight.take(op, 0) });
            }
            while let Some(entry) = self.take() {
                let Some(op) = Op::from_bits(entry.user_data()) else { continue };
                if !cqueue::more(entry.flags()) {
                    self.under_way -= 1;
                    // SAFETY: as in `complete`; nobody will ask for the bytes.
                    drop(unsafe { self.in_flight.take(op, 0) });
                }
                if op.kind == Kind::Accept && entry.result() >= 0 {
                    sockets::close(Socket(entry.result()));
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            if self.under_way == 0 || left.is_zero() {
                return self.under_way == 0;
            }
            self.requeue();
            if self.turn(Until { completions: 1, least_us: 0, most: left }).is_err() {
                return false;
            }
        }
    }
}

impl Drop for Uring {
    /// What the kernel may still touch is not freed: all is cancelled, and if something does not end in time, or on a
    /// panic, what it has is leaked.
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        if self.quiesce() {
            // SAFETY: nothing is under way, and nothing can be started any more.
            unsafe { self.pools.free(&self.ring.submitter()) };
        }
        self.descriptor.unregister();
    }
}

impl Ring for Uring {
    fn accept(&mut self, op: Op, listener: Socket, multishot: bool) {
        self.in_flight.nothing(op);
        let listener = Fd(listener.0);
        let entry = if multishot {
            opcode::AcceptMulti::new(listener).flags(libc::SOCK_CLOEXEC).build()
        } else {
            opcode::Accept::new(listener, ptr::null_mut(), ptr::null_mut()).flags(libc::SOCK_CLOEXEC).build()
        };
        self.start(op, entry);
    }

    fn receive(&mut self, op: Op, socket: Socket, pool: Pool, multishot: bool) {
        self.in_flight.nothing(op);
        let (socket, group) = (Fd(socket.0), self.pools.group(pool));
        let entry = if multishot {
            opcode::RecvMulti::new(socket, group).build()
        } else {
            let entry = opcode::Recv::new(socket, ptr::null_mut(), 0).buf_group(group).build();
            entry.flags(squeue::Flags::BUFFER_SELECT)
        };
        self.start(op, entry);
    }

    fn receive_into(&mut self, op: Op, socket: Socket, buffer: Vec<u8>, whole: usize) {
        let (start, bytes) = self.in_flight.fill(op, buffer);
        let (bytes, flags) = if whole > 0 { (bytes.min(whole), libc::MSG_WAITALL) } else { (bytes, 0) };
        self.start(op, opcode::Recv::new(Fd(socket.0), start, bytes.min(BYTES_MAX) as u32).flags(flags).build());
    }

    fn send(&mut self, op: Op, socket: Socket, buffer: Vec<u8>, range: Range<usize>, quiet: bool) {
        assert!(range.start <= range.end && range.end <= buffer.len(), "a send is of what is in its buffer");
        let bytes = range.len().min(BYTES_MAX) as u32;
        // SAFETY: within the buffer, or at its end.
        let start = unsafe { self.in_flight.send(op, buffer).add(range.start) };
        let entry = opcode::Send::new(Fd(socket.0), start, bytes);
        if quiet {
            self.quiet.push(op, bytes);
            self.start(op, entry.flags(quiet::MESSAGE_FLAGS).build().flags(quiet::ENTRY_FLAGS));
        } else {
            self.start(op, entry.flags(libc::MSG_NOSIGNAL).build());
        }
    }

    fn watch_end(&mut self, op: Op, socket: Socket) {
        self.in_flight.nothing(op);
        self.start(op, opcode::PollAdd::new(Fd(socket.0), END).build());
    }

    fn connect(&mut self, op: Op, socket: Socket, place: &Place) {
        let address = self.in_flight.address(op, sockets::address(place).expect("a socket was opened for it"));
        // SAFETY: the address stays there until the completion.
        let (start, bytes) = unsafe { ((*address).as_ptr(), (*address).len()) };
        self.start(op, opcode::Connect::new(Fd(socket.0), start.cast(), bytes).build());
    }

    fn cancel(&mut self, op: Op) {
        self.start_quietly(opcode::AsyncCancel::new(op.to_bits()).build(), QUIET);
    }

    fn shutdown(&mut self, socket: Socket, how: Shutdown) {
        sockets::shutdown(socket, how);
    }

    fn close(&mut self, socket: Socket) {
        self.start_quietly(opcode::Close::new(Fd(socket.0)).build(), CLOSE);
    }

    fn enter(&mut self, wait: Wait) -> Result<(), Errno> {
        self.requeue();
        // What has come has not been taken, or what was asked has not been submitted: there is nothing to wait for.
        let is_idle = self.is_taken() && !self.quiet.has_gone() && self.backlog.is_empty();
        let wait = if is_idle { wait } else { Wait::No };
        let entered = self.wait(wait);
        self.due = self.completed.len();
        self.quiet.begin();
        entered
    }

    fn next(&mut self) -> Option<Completion> {
        // First, for what was sent comes before its answer.
        if let Some((op, bytes)) = self.quiet.next() {
            self.under_way -= 1;
            // SAFETY: the kernel has sent it, and tells nothing of it.
            let buffer = unsafe { self.in_flight.take(op, 0) };
            return Some(Completion { op, result: Ok(bytes), more: false, lent: None, buffer });
        }
        while self.taken < self.due {
            let entry = self.take()?;
            match Op::from_bits(entry.user_data()) {
                Some(op) => return Some(self.complete(op, &entry)),
                None if entry.user_data() == CLOSE => self.unclosed += 1,
                // A cancel that found nothing.
                None => {}
            }
        }
        None
    }

    fn is_told(&self, op: Op) -> bool {
        self.completed[self.taken..].iter().all(|entry| entry.user_data() != op.to_bits())
    }

    fn bytes(&mut self, lent: &Lent) -> &mut [u8] {
        self.pools.bytes(lent)
    }

    fn give_back(&mut self, lent: Lent) {
        self.pools.give_back(&lent);
    }

    fn open(&mut self, place: &Place, dead: Duration) -> Result<Socket, Errno> {
        sockets::open(place, dead)
    }

    fn peer(&mut self, socket: Socket) -> Result<Address, Errno> {
        sockets::peer(socket)
    }

    fn unacknowledged(&mut self, socket: Socket) -> u64 {
        sockets::unacknowledged(socket)
    }

    fn overflows(&self) -> u64 {
        self.overflows
    }

    fn unclosed(&self) -> u64 {
        self.unclosed
    }

    fn unread(&mut self, socket: Socket) -> u64 {
        sockets::unread(socket)
    }

    fn empty(&mut self, listener: Socket, most: u64, anyway: bool) -> Emptied {
        sockets::empty(listener, most, anyway)
    }

    fn refuse_new(&mut self, listener: Socket) -> Result<(), Errno> {
        sockets::refuse_new(listener)
    }
}
