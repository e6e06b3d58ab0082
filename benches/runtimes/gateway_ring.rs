//! The echo on the gateway's own ring: what [`Uring`] costs over a ring that knows nothing but this echo (`raw.rs`,
//! multishot).
//!
//! As a core does it: bytes are copied out of the ring's buffer at once, and sent from one that belongs to the send.

use std::io;
use std::net::TcpListener;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use evergate::core::ring::{Uring, UringSize};
use evergate_proto::ring::{Completion, Kind, Lent, Op, Pool, Ring, Socket, Wait};

use crate::echo::{echo_frames, shake_hands};

/// A wait that nobody here wants to end.
const LONG: Duration = Duration::from_hours(1);

/// One operation receives for as long as the connection lives, one more sends.
pub fn serve(listener: TcpListener) -> io::Result<()> {
    // Every socket that is accepted inherits it.
    socket2::SockRef::from(&listener).set_tcp_nodelay(true)?;
    let ring = Uring::new(&UringSize::default()).map_err(io::Error::other)?;
    Echo { ring, listener, spare: Vec::new(), connections: Vec::new() }.serve()
}

/// What a connection is at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Connection {
    Closed,
    /// It has not shaken hands.
    New,
    Open,
}

/// The server.
struct Echo<R> {
    ring: R,
    listener: TcpListener,
    /// Buffers of sends that are through.
    spare: Vec<Vec<u8>>,
    /// By the socket's number, which is the place of its operations as well.
    connections: Vec<Connection>,
}

impl<R: Ring> Echo<R> {
    /// Serves for ever.
    fn serve(mut self) -> io::Result<()> {
        self.accept();
        loop {
            self.ring.enter(Wait::Something(LONG)).map_err(|errno| io::Error::from_raw_os_error(errno.0))?;
            while let Some(completion) = self.ring.next() {
                self.complete(completion);
            }
        }
    }

    /// Goes on where an operation has ended, or goes on.
    fn complete(&mut self, completion: Completion) {
        let Completion { op, result, more, lent, buffer } = completion;
        match op.kind {
            Kind::Accept => {
                if let Ok(socket) = result {
                    self.open(socket);
                }
                if !more {
                    self.accept();
                }
            }
            Kind::Receive => {
                match lent {
                    Some(lent) => self.answer(op.place, lent),
                    // All buffers are in use: another try.
                    None if result.is_err_and(|errno| errno.is_exhausted()) => {}
                    None => return self.close(op.place),
                }
                if !more {
                    self.receive(op.place);
                }
            }
            Kind::Send => self.spare.extend(buffer),
            _ => {}
        }
    }

    fn accept(&mut self) {
        let listener = Socket(self.listener.as_raw_fd());
        self.ring.accept(Op::new(Kind::Accept, 0, 0), listener, true);
    }

    fn open(&mut self, place: u32) {
        let index = place as usize;
        if self.connections.len() <= index {
            self.connections.resize(index + 1, Connection::Closed);
        }
        self.connections[index] = Connection::New;
        self.receive(place);
    }

    fn receive(&mut self, place: u32) {
        let op = Op::new(Kind::Receive, place, 0);
        self.ring.receive(op, Socket(place.cast_signed()), Pool::Light, true);
    }

    /// Sends back what was received; whoever sends what is none of ours is cut off.
    fn answer(&mut self, place: u32, lent: Lent) {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(self.ring.bytes(&lent));
        self.ring.give_back(lent);
        let connection = &mut self.connections[place as usize];
        let answer = match *connection {
            Connection::Closed => None,
            Connection::Open => {
                let turn = echo_frames(&mut buffer);
                (turn.consumed == buffer.len() && !turn.ended).then_some(turn.answer)
            }
            Connection::New => {
                *connection = Connection::Open;
                shake_hands(&mut buffer).ok().map(|turn| turn.answer).filter(|answer| *answer > 0)
            }
        };
        let Some(bytes) = answer else {
            return self.ring.shutdown(Socket(place.cast_signed()), std::net::Shutdown::Both);
        };
        buffer.truncate(bytes);
        self.ring.send(Op::new(Kind::Send, place, 0), Socket(place.cast_signed()), buffer, 0..bytes, false);
    }

    /// The receive is over, and with it the connection; a send under way fails without it.
    fn close(&mut self, place: u32) {
        self.connections[place as usize] = Connection::Closed;
        self.ring.close(Socket(place.cast_signed()));
    }
}
