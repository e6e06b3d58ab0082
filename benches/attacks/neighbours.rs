//! The neighbours: clients that ask for a sum now and then, on a schedule that does not wait for answers.
//!
//! A call takes from its write to the moment at which the kernel has its answer (`SO_TIMESTAMPNS`): that this thread had to wait for its CPU,
//! which it shares with the attackers' system calls, is no fault of the gateway's.

use std::io::{self, IoSliceMut, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use memchr::memmem;
use nix::cmsg_space;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::sockopt::ReceiveTimestampns;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;

use super::attack::handshake;
use super::background::Background;
use super::latency::{Sample, Samples};
use super::messages::frame;

/// How many they are.
const NEIGHBOURS: usize = 8;
/// Between two requests of any of them: 50 a second of each, so that a 99th percentile is of hundreds.
const PERIOD: Duration = Duration::from_micros(2_500);
/// The longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// All of them, at work.
pub struct Neighbours {
    samples: Samples,
    thread: Background,
}

impl Neighbours {
    /// Lets them connect and begin.
    pub fn start(gateway: SocketAddr) -> io::Result<Self> {
        let clients = (0..NEIGHBOURS).map(|number| Neighbour::new(gateway, number)).collect::<io::Result<Vec<_>>>()?;
        let samples = Samples::default();
        let seen = samples.clone();
        let thread = Background::start("neighbours", move |over| work(clients, &seen, over))?;
        Ok(Self { samples, thread })
    }

    /// Calls that are over, in the order of their ends.
    pub fn samples(&self) -> Vec<Sample> {
        self.samples.all()
    }

    /// Ends them; what is pending then counts as failed.
    pub fn finish(mut self) -> Vec<Sample> {
        self.thread.stop();
        self.samples()
    }
}

/// One of them.
struct Neighbour {
    gateway: SocketAddr,
    number: usize,
    stream: Option<TcpStream>,
    /// Makes a new connection where the gateway has ended the last one.
    connecting: Option<JoinHandle<io::Result<TcpStream>>>,
    input: Vec<u8>,
    pending: Vec<Pending>,
}

/// A call under way: its number, when it was due, when it was written by the kernel's clock.
type Pending = (u64, Instant, SystemTime);

/// Asks and listens until it is over.
fn work(mut clients: Vec<Neighbour>, seen: &Samples, over: &AtomicBool) {
    let mut ended = Vec::new();
    let mut due = Instant::now();
    let mut number = 0_u64;
    while !over.load(Relaxed) {
        if due <= Instant::now() {
            clients[number as usize % NEIGHBOURS].ask(number, due, &mut ended);
            (number, due) = (number + 1, due + PERIOD);
            continue;
        }
        for client in wait(&clients, due) {
            clients[client].listen(&mut ended);
        }
        if !ended.is_empty() {
            seen.append(&mut ended);
        }
    }
    for client in &mut clients {
        client.lose(&mut ended);
    }
    seen.append(&mut ended);
}

/// Those who have something to read, at `due` at the latest.
fn wait(clients: &[Neighbour], due: Instant) -> Vec<usize> {
    let open = clients.iter().enumerate().filter_map(|(number, client)| Some((number, client.stream.as_ref()?)));
    let open: Vec<(usize, &TcpStream)> = open.collect();
    let mut descriptors: Vec<PollFd> =
        open.iter().map(|(_, stream)| PollFd::new(stream.as_fd(), PollFlags::POLLIN)).collect();
    let timeout = TimeSpec::from(due.saturating_duration_since(Instant::now()));
    if ppoll(&mut descriptors, Some(timeout), None).is_err() {
        return vec![];
    }
    let readable = |descriptor: &PollFd| descriptor.revents().is_none_or(|events| !events.is_empty());
    open.iter().zip(&descriptors).filter(|(_, ready)| readable(ready)).map(|((number, _), _)| *number).collect()
}

impl Neighbour {
    fn new(gateway: SocketAddr, number: usize) -> io::Result<Self> {
        let stream = Some(connect(gateway, number)?);
        Ok(Self { gateway, number, stream, connecting: None, input: Vec::new(), pending: Vec::new() })
    }

    /// Sends the request with that number. Without a connection it fails at once, and a new one is made meanwhile.
    fn ask(&mut self, number: u64, due: Instant, ended: &mut Vec<Sample>) {
        self.reconnect();
        let text = format!(
            r#"{{"service":"opensrf.math","thread":"n{number}.","osrf_msg":[{{"__c":"osrfMessage","__p":{{"threadTrace":1,"locale":"en-US","type":"REQUEST","payload":{{"__c":"osrfMethod","__p":{{"method":"add","params":[1,2]}}}}}}}}]}}"#
        );
        let frame = frame(text.as_bytes());
        self.pending.push((number, due, SystemTime::now()));
        // Its few requests find room in the kernel, as long as the gateway reads at all.
        if self.stream.as_mut().is_none_or(|stream| !stream.write(&frame).is_ok_and(|count| count == frame.len())) {
            self.lose(ended);
        }
    }

    fn reconnect(&mut self) {
        if self.stream.is_some() {
            return;
        }
        let (gateway, number) = (self.gateway, self.number);
        match self.connecting.take() {
            None => self.connecting = Some(thread::spawn(move || connect(gateway, number))),
            Some(thread) if thread.is_finished() => self.stream = thread.join().ok().and_then(Result::ok),
            running => self.connecting = running,
        }
    }

    /// Gives the connection up, and what is pending on it.
    fn lose(&mut self, ended: &mut Vec<Sample>) {
        self.stream = None;
        self.input.clear();
        let now = Instant::now();
        let failed = |(_, due, _)| Sample { due, took: now.saturating_duration_since(due), is_good: false };
        ended.extend(self.pending.drain(..).map(failed));
    }

    fn listen(&mut self, ended: &mut Vec<Sample>) {
        let mut buffer = [0; 16 * 1_024];
        let came = match self.stream.as_ref().map(|stream| receive(stream, &mut buffer)) {
            Some(Ok((count, came))) if count > 0 => {
                self.input.extend_from_slice(&buffer[..count]);
                came
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => return,
            _ => return self.lose(ended),
        };
        while let Some((opcode, payload, length)) = next_frame(&self.input) {
            match opcode {
                1 => answer(&mut self.pending, &self.input[payload], came, ended),
                8 => return self.lose(ended),
                // A ping: the next request is sign of life enough.
                _ => {}
            }
            self.input.drain(..length);
        }
    }
}

/// Reads what has come, and when the kernel had the last of it.
fn receive(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<(usize, SystemTime)> {
    let mut parts = [IoSliceMut::new(buffer)];
    let mut control = cmsg_space!(TimeSpec);
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
    let came = message.cmsgs()?.find_map(|part| match part {
        ControlMessageOwned::ScmTimestampns(time) => Some(SystemTime::UNIX_EPOCH + Duration::from(time)),
        _ => None,
    });
    Ok((message.bytes, came.unwrap_or_else(SystemTime::now)))
}

/// Finds whose answer it is. The status that follows a result has nobody left who waits for it.
fn answer(pending: &mut Vec<Pending>, text: &[u8], came: SystemTime, ended: &mut Vec<Sample>) {
    let thread = memmem::find(text, br#""thread":"n"#).and_then(|at| {
        let digits = text[at + 11..].split(|&byte| byte == b'.').next()?;
        str::from_utf8(digits).ok()?.parse::<u64>().ok()
    });
    if let Some(at) = pending.iter().position(|(number, ..)| Some(*number) == thread) {
        let (_, due, written) = pending.swap_remove(at);
        let is_good = memmem::find(text, br#""content":3"#).is_some();
        ended.push(Sample { due, took: came.duration_since(written).unwrap_or_default(), is_good });
    }
}

/// The first whole frame: its opcode, where its payload is, its length.
fn next_frame(input: &[u8]) -> Option<(u8, std::ops::Range<usize>, usize)> {
    let (head, length) = match *input.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes(input.get(2..4)?.try_into().ok()?))),
        127 => (10, usize::try_from(u64::from_be_bytes(input.get(2..10)?.try_into().ok()?)).ok()?),
        short => (2, usize::from(short)),
    };
    (input.len() >= head + length).then(|| (input[0] & 15, head..head + length, head + length))
}

fn connect(gateway: SocketAddr, number: usize) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&gateway, CONNECT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(CONNECT))?;
    stream.write_all(&handshake(&format!("10.0.0.{}", number + 1), ""))?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    setsockopt(&stream, ReceiveTimestampns, &true)?;
    stream.set_nonblocking(true)?;
    if head.starts_with(b"HTTP/1.1 101") { Ok(stream) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
}
