//! The echo on a ring without a runtime, in two ways: with the operations of the echo on monoio, so that the difference is
//! what monoio costs; and with the fewest that the kernel needs, so that the difference to the first is what they save.
//!
//! The second is **the floor**: the cheapest echo known here. Every figure "x floor" is a ratio to it, driven by the same
//! generator in the same run. It does what no gateway can leave out (receive, unmask, write a header, send) and nothing
//! else: no limits, no timers, no books, and a text frame is not even looked at for UTF-8. Up to 2026-11-29 the floor was
//! the echo on monoio, `echo.rs`. The gateway's ring costs as much with the same echo (`--bench runtimes`), but a floor must
//! not move with what it is to judge.
//!
//! It is a yardstick for generators whose frames are short and come in one piece; whoever sends others is cut off.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::echo::{echo_frames, shake_hands};

/// Entries of the submission queue, as on the gateway's ring.
const ENTRIES: u32 = 4096;
/// Buffers of all connections: an idle one has none. A power of two.
const BUFFERS: u16 = 1024;
/// Those that the kernel picks from. It takes them in turn, so that each is touched again only when all others were: more
/// would fall out of the caches. Linux 6.18 brings no more than 20 at a time.
const PROVIDED: u16 = 256;
/// Bytes of each.
const BUFFER_BYTES: usize = 2048;
/// The group of provided buffers.
const GROUP: u16 = 0;
/// The event that an idle connection waits for, with the operations of monoio.
const READABLE: u32 = libc::POLLIN as u32;

/// As monoio: wait until it is readable, receive, send.
pub fn serve_single(listener: TcpListener) -> io::Result<()> {
    Echo::new(listener, false)?.serve()
}

/// One operation receives for as long as the connection lives, into buffers that the kernel picks; one more sends.
pub fn serve_multishot(listener: TcpListener) -> io::Result<()> {
    Echo::new(listener, true)?.serve()
}

/// What a completion is of.
#[derive(Clone, Copy)]
enum Step {
    Accept,
    Readable,
    Receive,
    Send,
}

/// What comes back with a completion.
#[derive(Clone, Copy)]
struct Tag {
    step: Step,
    socket: RawFd,
    buffer: u16,
}

impl Tag {
    fn pack(self) -> u64 {
        (self.step as u64) << 48 | u64::from(self.buffer) << 32 | u64::from(self.socket.cast_unsigned())
    }

    fn unpack(tag: u64) -> Self {
        let step = match tag >> 48 {
            0 => Step::Accept,
            1 => Step::Readable,
            2 => Step::Receive,
            _ => Step::Send,
        };
        Self { step, socket: (tag as u32).cast_signed(), buffer: (tag >> 32) as u16 }
    }
}

/// An entry of the ring of provided buffers, `struct io_uring_buf`.
#[repr(C)]
struct Provided {
    address: u64,
    bytes: u32,
    buffer: u16,
    /// The ring's tail, in the first entry; unused in the others.
    tail: AtomicU16,
}

/// That ring, which begins on a page.
#[repr(C, align(4096))]
struct ProvidedRing([Provided; BUFFERS as usize]);

/// A connection.
struct Connection {
    socket: OwnedFd,
    is_open: bool,
}

/// The server.
struct Echo {
    ring: IoUring,
    listener: TcpListener,
    is_multishot: bool,
    /// All buffers, one behind the other.
    memory: Vec<u8>,
    /// Those that nobody uses; where the kernel picks them, they are in `provided`.
    free: Vec<u16>,
    provided: Box<ProvidedRing>,
    /// By the socket's number.
    connections: Vec<Option<Connection>>,
}

impl Echo {
    fn new(listener: TcpListener, is_multishot: bool) -> io::Result<Self> {
        // Every socket that is accepted inherits it.
        socket2::SockRef::from(&listener).set_tcp_nodelay(true)?;
        let mut builder = IoUring::builder();
        let ring = builder.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun().build(ENTRIES)?;
        let entry = |_| Provided { address: 0, bytes: 0, buffer: 0, tail: AtomicU16::new(0) };
        let provided = Box::new(ProvidedRing(std::array::from_fn(entry)));
        // Not zeros: they would cost no memory before their first use, and that would count as the connections'.
        let memory = vec![1; usize::from(BUFFERS) * BUFFER_BYTES];
        let mut echo =
            Self { ring, listener, is_multishot, memory, free: Vec::new(), provided, connections: Vec::new() };
        if is_multishot {
            #[expect(unsafe_code, reason = "the kernel reads the ring of buffers where it lies")]
            // SAFETY: the box is never moved out of or dropped before the ring, for the process ends first.
            unsafe {
                echo.ring.submitter().register_buf_ring_with_flags(
                    &raw const *echo.provided as u64,
                    BUFFERS,
                    GROUP,
                    0,
                )?;
            }
        }
        (0..if is_multishot { PROVIDED } else { BUFFERS }).for_each(|buffer| echo.give(buffer));
        Ok(echo)
    }

    /// Serves for ever.
    fn serve(mut self) -> io::Result<()> {
        self.accept()?;
        let mut completions = Vec::new();
        loop {
            self.ring.submit_and_wait(1)?;
            completions.extend(self.ring.completion());
            for completion in completions.drain(..) {
                self.complete(&completion)?;
            }
        }
    }

    /// Goes on where an operation has ended.
    fn complete(&mut self, completion: &cqueue::Entry) -> io::Result<()> {
        let Tag { step, socket, buffer } = Tag::unpack(completion.user_data());
        let (result, flags) = (completion.result(), completion.flags());
        match step {
            Step::Accept => {
                if result >= 0 {
                    self.open(result)?;
                }
                if cqueue::more(flags) { Ok(()) } else { self.accept() }
            }
            Step::Readable => self.receive(socket),
            Step::Receive => {
                let buffer = if self.is_multishot { cqueue::buffer_select(flags) } else { Some(buffer) };
                let answer = match (usize::try_from(result), buffer) {
                    (Ok(received @ 1..), Some(buffer)) => self.answer(socket, buffer, received),
                    // All buffers are in use: another try.
                    _ if result == -libc::ENOBUFS => return self.wait(socket),
                    _ => None,
                };
                match (answer, buffer) {
                    (Some(bytes), Some(buffer)) => {
                        self.send(socket, buffer, bytes)?;
                        if self.is_multishot && !cqueue::more(flags) { self.wait(socket) } else { Ok(()) }
                    }
                    (_, buffer) => {
                        if let Some(buffer) = buffer {
                            self.give(buffer);
                        }
                        // A receive that goes on ends with the connection, and nobody else has its number until then.
                        if self.is_multishot && cqueue::more(flags) { self.cut(socket) } else { self.close(socket) }
                    }
                }
            }
            Step::Send => {
                self.give(buffer);
                if self.is_multishot { Ok(()) } else { self.wait(socket) }
            }
        }
    }

    /// Replaces what was received by its answer; nothing where it is none of ours.
    fn answer(&mut self, socket: RawFd, buffer: u16, received: usize) -> Option<usize> {
        let connection = self.connections.get_mut(usize::try_from(socket).ok()?)?.as_mut()?;
        let memory = &mut self.memory[usize::from(buffer) * BUFFER_BYTES..][..BUFFER_BYTES];
        if connection.is_open {
            let turn = echo_frames(&mut memory[..received]);
            // Who says goodbye is answered, and ends the connection.
            return (turn.consumed == received).then_some(turn.answer);
        }
        let mut handshake = memory[..received].to_vec();
        let turn = shake_hands(&mut handshake).ok().filter(|turn| turn.answer > 0)?;
        memory[..turn.answer].copy_from_slice(&handshake[..turn.answer]);
        connection.is_open = true;
        Some(turn.answer)
    }

    fn open(&mut self, socket: RawFd) -> io::Result<()> {
        #[expect(unsafe_code, reason = "the ring gives no more than the number of an accepted socket")]
        // SAFETY: the kernel has just opened it for us; nobody else knows it.
        let owned = unsafe { OwnedFd::from_raw_fd(socket) };
        let index = usize::try_from(socket).map_err(io::Error::other)?;
        if self.connections.len() <= index {
            self.connections.resize_with(index + 1, || None);
        }
        self.connections[index] = Some(Connection { socket: owned, is_open: false });
        self.wait(socket)
    }

    /// Has what is under way on a connection end.
    fn cut(&self, socket: RawFd) -> io::Result<()> {
        let index = usize::try_from(socket).map_err(io::Error::other)?;
        if let Some(Some(Connection { socket, .. })) = self.connections.get(index) {
            // An error means that the peer has done so already.
            socket2::SockRef::from(socket).shutdown(std::net::Shutdown::Both).ok();
        }
        Ok(())
    }

    /// Ends a connection whose last operation has completed, but for a send that fails without it.
    fn close(&mut self, socket: RawFd) -> io::Result<()> {
        let index = usize::try_from(socket).map_err(io::Error::other)?;
        self.connections.get_mut(index).and_then(Option::take);
        Ok(())
    }

    /// A buffer is free.
    fn give(&mut self, buffer: u16) {
        if !self.is_multishot {
            return self.free.push(buffer);
        }
        let tail = self.provided.0[0].tail.load(Ordering::Relaxed);
        let address = self.buffer(buffer) as u64;
        let entry = &mut self.provided.0[usize::from(tail % BUFFERS)];
        (entry.address, entry.bytes, entry.buffer) = (address, BUFFER_BYTES as u32, buffer);
        self.provided.0[0].tail.store(tail.wrapping_add(1), Ordering::Release);
    }

    /// Where a buffer begins.
    fn buffer(&mut self, buffer: u16) -> *mut u8 {
        self.memory[usize::from(buffer) * BUFFER_BYTES..].as_mut_ptr()
    }

    fn accept(&mut self) -> io::Result<()> {
        let listener = self.listener.as_raw_fd();
        let entry = opcode::AcceptMulti::new(types::Fd(listener)).flags(libc::SOCK_CLOEXEC).build();
        self.push(entry, Tag { step: Step::Accept, socket: listener, buffer: 0 })
    }

    /// Waits for what comes next.
    fn wait(&mut self, socket: RawFd) -> io::Result<()> {
        let fd = types::Fd(socket);
        let (step, entry) = if self.is_multishot {
            (Step::Receive, opcode::RecvMulti::new(fd, GROUP).build())
        } else {
            (Step::Readable, opcode::PollAdd::new(fd, READABLE).build())
        };
        self.push(entry, Tag { step, socket, buffer: 0 })
    }

    fn receive(&mut self, socket: RawFd) -> io::Result<()> {
        // One for each client at most, and the driver has fewer clients at work than there are buffers.
        let buffer = self.free.pop().ok_or(io::ErrorKind::OutOfMemory)?;
        let entry = opcode::Recv::new(types::Fd(socket), self.buffer(buffer), BUFFER_BYTES as u32).build();
        self.push(entry, Tag { step: Step::Receive, socket, buffer })
    }

    fn send(&mut self, socket: RawFd, buffer: u16, bytes: usize) -> io::Result<()> {
        let entry = opcode::Send::new(types::Fd(socket), self.buffer(buffer), bytes as u32);
        self.push(entry.flags(libc::MSG_WAITALL).build(), Tag { step: Step::Send, socket, buffer })
    }

    fn push(&mut self, entry: squeue::Entry, tag: Tag) -> io::Result<()> {
        let entry = entry.user_data(tag.pack());
        #[expect(unsafe_code, reason = "the kernel reads and writes where an entry says")]
        // SAFETY: entries point into `memory`, which lives as long as the process and never moves, at a buffer that is in
        // nobody else's hands until the completion.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            self.ring.submit()?;
        }
        Ok(())
    }
}
