//! What attackers have in common: a thread each, connections that are made again when they break, and an end that waits for nothing.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, SockRef, Socket, Type};

/// What an attacking process prints when its messages are made and it begins.
pub const READY: &str = "ready";
/// Stack of an attacker's thread.
const STACK_BYTES: usize = 256 * 1024;
/// Bytes that one read may bring; they are thrown away.
const SCRATCH_BYTES: usize = 256 * 1024;
/// The longest wait for the gateway to take or send anything.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest wait of an attacker for the others, after the first.
const TOGETHER: Duration = Duration::from_millis(1_500);
/// Connections from one address before the next is taken: below the number of its ports.
const ADDRESS_CONNECTIONS: u64 = 10_000;

/// All attackers of one process.
pub struct Party {
    /// How many they are.
    pub attackers: usize,
    addresses: [SocketAddr; 2],
    duration: Duration,
    common: Arc<Common>,
}

/// What the threads share.
#[derive(Default)]
struct Common {
    /// What was sent, in the attack's own unit.
    sent: AtomicU64,
    /// How often an attacker has come to where all wait for one another.
    arrived: AtomicU64,
    /// Connections on which a message lacks its end.
    armed: Mutex<Vec<TcpStream>>,
}

/// One of them.
pub struct Attacker {
    /// Its number, from 0.
    pub number: usize,
    /// Where clients connect.
    pub gateway: SocketAddr,
    /// Where the admin page is.
    pub admin: SocketAddr,
    attackers: usize,
    common: Arc<Common>,
    /// Connections that it has made.
    connections: u64,
    /// How often it has waited for the others.
    rounds: u64,
    /// The state of what looks like chance.
    random: u64,
    scratch: Vec<u8>,
}

impl Party {
    /// That many attackers, for that long.
    pub fn new(attackers: usize, addresses: [SocketAddr; 2], duration: Duration) -> Self {
        Self { attackers, addresses, duration, common: Arc::default() }
    }

    /// Lets each of them attack again and again until the time has passed, then ends the process with everything that is open:
    /// nobody waits for threads that wait for the gateway.
    pub fn attack(&self, once: impl Fn(&mut Attacker) -> io::Result<()> + Send + Sync + 'static) {
        println!("{READY}");
        let begun = Instant::now();
        self.begin(once);
        self.end(begun);
    }

    /// The same, and its time begins when all have come for the first time to where they wait for one another.
    pub fn attack_together(&self, once: impl Fn(&mut Attacker) -> io::Result<()> + Send + Sync + 'static) {
        let begun = Instant::now();
        self.begin(once);
        while self.common.arrived.load(Relaxed) < self.attackers as u64 && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_micros(500));
        }
        println!("{READY}");
        self.end(Instant::now());
    }

    fn begin(&self, once: impl Fn(&mut Attacker) -> io::Result<()> + Send + Sync + 'static) {
        let once = Arc::new(once);
        for number in 0..self.attackers {
            let mut attacker = Attacker {
                number,
                gateway: self.addresses[0],
                admin: self.addresses[1],
                attackers: self.attackers,
                common: Arc::clone(&self.common),
                connections: 0,
                rounds: 0,
                random: number as u64,
                scratch: vec![0; SCRATCH_BYTES],
            };
            let once = Arc::clone(&once);
            let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
                loop {
                    // It breaks where the gateway closes or is gone: that is what the next connection is for.
                    if once(&mut attacker).is_err() {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
            });
            thread.expect("a thread for an attacker");
        }
    }

    fn end(&self, begun: Instant) {
        thread::sleep(self.duration.saturating_sub(begun.elapsed()));
        println!("{}", self.common.sent.load(Relaxed));
        std::process::exit(0);
    }
}

impl Attacker {
    /// Whether there is no other.
    pub fn is_alone(&self) -> bool {
        self.attackers == 1
    }

    /// Counts what was sent.
    pub fn sent(&self, count: u64) {
        self.common.sent.fetch_add(count, Relaxed);
    }

    /// Ends a message when all have come so far. The first that wakes up does it for everybody, so that the gateway finds all ends in one turn
    /// even where the attackers have little CPU.
    pub fn end_together(&mut self, stream: &TcpStream, last: &[u8]) -> io::Result<()> {
        let common = Arc::clone(&self.common);
        let armed = || common.armed.lock().unwrap_or_else(PoisonError::into_inner);
        armed().push(stream.try_clone()?);
        self.together();
        let all = std::mem::take(&mut *armed());
        let is_late = |stream: &TcpStream| (&mut &*stream).write(last).is_err();
        let late: Vec<TcpStream> = all.into_iter().filter(is_late).collect();
        // Where the gateway has not read all yet. What is broken is its own attacker's affair.
        for stream in &late {
            let _ = self.write(stream, last);
        }
        Ok(())
    }

    /// Waits until all have come here as often as this one, though not for long: the gateway may hold one of them up.
    fn together(&mut self) {
        self.rounds += 1;
        self.common.arrived.fetch_add(1, Relaxed);
        let end = Instant::now() + if self.rounds == 1 { PATIENCE } else { TOGETHER };
        while self.common.arrived.load(Relaxed) < self.rounds * self.attackers as u64 && Instant::now() < end {
            thread::sleep(Duration::from_micros(500));
        }
    }

    /// The address that a proxy would name, an own one for each.
    fn forwarded_for(&self) -> String {
        format!("10.{}.{}.1", 1 + self.number / 250, self.number % 250)
    }

    /// The head of a handshake, with more lines.
    pub fn handshake(&self, more: &str) -> Vec<u8> {
        handshake(&self.forwarded_for(), more)
    }

    /// A TCP connection to the gateway from a loopback address of its own.
    pub fn dial(&mut self) -> io::Result<TcpStream> {
        let address = self.gateway;
        self.dial_with(address, None)
    }

    /// The same to any address, with a small receive buffer if need be.
    pub fn dial_with(&mut self, to: SocketAddr, receive_bytes: Option<usize>) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if let Some(bytes) = receive_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        if to == self.gateway {
            let series = (self.connections / ADDRESS_CONNECTIONS) as u8;
            let own = IpAddr::V4(Ipv4Addr::new(127, 1 + self.number as u8, series, 1));
            socket.bind(&SocketAddr::from((own, 0)).into())?;
        }
        self.connections += 1;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    /// A WebSocket connection; bytes that come with the answer are thrown away.
    pub fn connect(&mut self) -> io::Result<TcpStream> {
        let stream = self.dial()?;
        let head = self.handshake("");
        self.write(&stream, &head)?;
        self.read(&stream)?;
        if self.scratch.starts_with(b"HTTP/1.1 101") {
            Ok(stream)
        } else {
            Err(io::ErrorKind::ConnectionRefused.into())
        }
    }

    /// Writes all of it, and throws away what comes meanwhile.
    pub fn write(&mut self, stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let ready = wait(stream, PollFlags::POLLIN | PollFlags::POLLOUT)?;
            if ready.contains(PollFlags::POLLIN) {
                self.discard(stream)?;
            }
            if ready.contains(PollFlags::POLLOUT) {
                match (&mut &*stream).write(bytes) {
                    Ok(count) => bytes = &bytes[count..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Waits for something to come, and throws it away.
    pub fn read(&mut self, stream: &TcpStream) -> io::Result<()> {
        wait(stream, PollFlags::POLLIN)?;
        self.discard(stream)
    }

    /// Throws away so many bytes at least.
    pub fn take(&mut self, stream: &TcpStream, bytes: usize) -> io::Result<()> {
        let mut taken = 0;
        while taken < bytes {
            wait(stream, PollFlags::POLLIN)?;
            taken += match (&mut &*stream).read(&mut self.scratch)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => count,
            };
        }
        Ok(())
    }

    /// A number that looks like chance.
    pub fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }

    /// Throws away what has come; an error at the end of the stream.
    pub fn discard(&mut self, stream: &TcpStream) -> io::Result<()> {
        match (&mut &*stream).read(&mut self.scratch) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }
}

/// The head of a handshake as a proxy hands it on, with more lines.
pub fn handshake(forwarded_for: &str, more: &str) -> Vec<u8> {
    let head = format!(
        "GET /osrf-websocket-translator HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Forwarded-For: {forwarded_for}\r\n{more}\r\n"
    );
    head.into_bytes()
}

/// Ends a connection with a reset.
pub fn abort(stream: TcpStream) -> io::Result<()> {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    drop(stream);
    Ok(())
}

fn wait(stream: &TcpStream, events: PollFlags) -> io::Result<PollFlags> {
    let mut descriptors = [PollFd::new(stream.as_fd(), events)];
    let timeout = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
    if poll(&mut descriptors, timeout)? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let ready = descriptors[0].revents().unwrap_or(events);
    // A broken one says so when it is read.
    Ok(if ready.intersects(events) { ready } else { PollFlags::POLLIN })
}
