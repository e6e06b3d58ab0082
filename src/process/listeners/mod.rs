//! What the process listens on for clients: addresses, each with a share for each core, and Unix sockets, from which all take.
//!
//! The sockets are bound here, or come from the service manager (`LISTEN_FDS`, `sd_listen_fds(3)`), or from the process that this one
//! succeeds. What others have, too, goes on listening when this process closes it.
//!
//! - `tcp`: sockets of an address; [`unix`]: the one of a path, and its file; `path_lock`: one process at a time changes that

mod path_lock;
pub mod tcp;
#[cfg(test)]
mod tests;
pub mod unix;

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use evergate_proto::lifecycle::Left;
use evergate_proto::websocket::proxy_header::Opening;
use listenfd::ListenFd;
use socket2::SockRef;

use crate::config::{LISTENERS_MAX, Listen, ListenAt};
use crate::unix_socket::SocketFile;

/// Connections that the kernel keeps until they are accepted; `net.core.somaxconn` cuts it.
pub const BACKLOG: i32 = 4096;

/// How long the port of a killed predecessor may still be taken: the kernel takes its rings, and with them its
/// listeners, down some time after the process is gone.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// A socket from which a core takes connections.
#[derive(Debug)]
pub struct Share {
    /// A copy that is the core's own.
    pub socket: OwnedFd,
    /// The number of its listener.
    pub number: u8,
    /// What its connections begin with.
    pub opening: Opening,
    /// Other cores have it, too.
    pub is_shared: bool,
}

/// What each core takes connections from.
pub type Shares = Vec<Vec<Share>>;

/// Listening sockets that others have made, and where each is.
pub type Given = Vec<(OwnedFd, ListenAt)>;

/// Why there is no listening on something.
#[derive(Debug)]
pub struct ListenError {
    /// On what.
    pub listen: Listen,
    /// Why not.
    pub error: io::Error,
}

/// Where sockets come from that are not bound here.
#[derive(Debug, Default)]
pub struct Sources {
    /// The service manager has these as well, and keeps them when this process is gone.
    pub kept: Given,
    /// Those of a predecessor.
    pub taken: Given,
    /// Which files are those of its Unix sockets.
    pub files: Vec<SocketFile>,
    /// Ports on which a predecessor goes on listening at another address: what is bound here stands beside it.
    pub beside: Vec<u16>,
}

/// All that the process listens on.
#[derive(Debug)]
pub struct Listeners {
    cores: usize,
    /// Other processes may listen on the same addresses.
    is_shared: bool,
    all: Vec<Listener>,
}

/// One listener.
#[derive(Debug)]
struct Listener {
    /// Where, with the port that port 0 became, and how.
    listen: Listen,
    /// The service manager has it, too.
    is_kept: bool,
    /// A predecessor has it, too.
    is_taken: bool,
    /// Copies of what the cores take connections from.
    sockets: Vec<OwnedFd>,
    /// Of a Unix socket that is not kept.
    file: Option<SocketFile>,
}

impl Listeners {
    /// Listens on all of `wanted`, with the sockets that others have made as far as there are some. Unless addresses are to be shared
    /// with other processes (`SO_REUSEPORT`), one that another process listens on is an error. A shared one does not listen before
    /// [`Self::listen`]: the others serve meanwhile.
    pub fn open(wanted: &[Listen], cores: usize, is_shared: bool, mut sources: Sources) -> Result<Self, ListenError> {
        let failed = |listen: &Listen| {
            let listen = listen.clone();
            move |error| ListenError { listen, error }
        };
        // Nobody else may have it meanwhile: neither whoever made it, nor a process beside which it is bound.
        let is_alone = |listen: &Listen| {
            let is_made = has(&sources.kept, &listen.at) || has(&sources.taken, &listen.at);
            let is_beside = listen.at.tcp().is_some_and(|address| sources.beside.contains(&address.port()));
            !(is_made || is_shared || is_beside)
        };
        let alone: Vec<usize> = (0..wanted.len()).filter(|at| is_alone(&wanted[*at])).collect();
        // Before any is bound: ours would be in the way of one another.
        for listen in alone.iter().map(|at| &wanted[*at]) {
            let is_free = match &listen.at {
                ListenAt::Tcp(address) => tcp::wait_for(*address, LINGER_MAX),
                ListenAt::Unix(path) => unix::wait_for(path, LINGER_MAX),
            };
            is_free.map_err(failed(listen))?;
        }
        let mut all = Self { cores, is_shared, all: Vec::new() };
        for listen in wanted {
            let kept = take(&mut sources.kept, &listen.at);
            let taken = take(&mut sources.taken, &listen.at);
            let file = sources.files.iter().find(|file| Some(file.path()) == listen.at.path());
            all.all.push(Listener::make(listen, cores, kept, taken, file).map_err(failed(listen))?);
        }
        // All of them, or none: whoever came to the first would be lost with the second. Where a predecessor serves meanwhile, nobody is
        // to wait at what it has not.
        for at in alone {
            all.all[at].listen().map_err(failed(&wanted[at]))?;
        }
        Ok(all)
    }

    /// The sockets that the service manager has passed, if it has.
    pub fn of_service_manager() -> io::Result<Given> {
        let mut passed = ListenFd::from_env();
        let mut given = Given::new();
        for index in 0..passed.len() {
            let tcp = passed.take_tcp_listener(index).map(|socket| socket.map(OwnedFd::from));
            let socket = tcp.or_else(|_| passed.take_unix_listener(index).map(|socket| socket.map(OwnedFd::from)))?;
            let Some(socket) = socket else { continue };
            let at = place_of(&socket)?;
            if !SockRef::from(&socket).is_listener()? {
                let why = format!("{at} was passed, and does not listen");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            given.push((socket, at));
        }
        let mut places: Vec<&ListenAt> = given.iter().map(|(_, at)| at).collect();
        places.sort_unstable();
        places.dedup();
        if places.len() > LISTENERS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there are more than {LISTENERS_MAX}")));
        }
        Ok(given)
    }

    /// Has all of them listen, as far as they do not: new ones, and those that an old process has ended that had them, too. Says
    /// whether there are new [shares](Self::shares) for that.
    pub fn listen(&mut self) -> Result<bool, ListenError> {
        let mut is_new = false;
        for listener in &mut self.all {
            let listened = listener.revive().and_then(|is_revived| {
                is_new |= is_revived;
                listener.listen()
            });
            listened.map_err(|error| ListenError { listen: listener.listen.clone(), error })?;
        }
        Ok(is_new)
    }

    /// All that is listened on, in its order.
    pub fn iter(&self) -> impl Iterator<Item = &Listen> {
        self.all.iter().map(|listener| &listener.listen)
    }

    /// Whether the service manager keeps anything of it.
    pub fn is_kept(&self) -> bool {
        self.all.iter().any(|listener| listener.is_kept)
    }

    /// Listeners that others go on with when this process does not: the service manager, and a successor that names `by` it.
    pub fn left(&self, by: &[ListenAt]) -> Left {
        self.numbers(|listener| listener.is_kept || by.contains(&listener.listen.at))
    }

    /// The same before it serves: the predecessor.
    pub fn left_to_predecessor(&self) -> Left {
        self.numbers(|listener| listener.is_kept || listener.is_taken)
    }

    fn numbers(&self, which: impl Fn(&Listener) -> bool) -> Left {
        Left::of((0_u8..).zip(&self.all).filter(|(_, listener)| which(listener)).map(|(number, _)| number))
    }

    /// Whether a successor that listens on `places` goes on with everything.
    pub fn are_all_in(&self, places: &[ListenAt]) -> bool {
        self.iter().all(|listen| places.contains(&listen.at))
    }

    /// What each core takes connections from: of each listener, and several sockets where there are more than cores.
    pub fn shares(&self) -> io::Result<Shares> {
        let mut shares: Shares = (0..self.cores).map(|_| Vec::new()).collect();
        for (number, listener) in (0_u8..).zip(&self.all) {
            let (sockets, opening) = (&listener.sockets, listener.listen.opening);
            let is_shared = sockets.len() < self.cores;
            for place in 0..sockets.len().max(self.cores) {
                let socket = sockets[place % sockets.len()].try_clone()?;
                shares[place % self.cores].push(Share { socket, number, opening, is_shared });
            }
        }
        Ok(shares)
    }

    /// Copies of all sockets, for a successor.
    pub fn copies(&self) -> io::Result<Given> {
        let each = self.all.iter().flat_map(|listener| listener.sockets.iter().map(move |socket| (socket, listener)));
        each.map(|(socket, listener)| Ok((socket.try_clone()?, listener.listen.at.clone()))).collect()
    }

    /// The files of the Unix sockets that are not kept, for the same.
    pub fn files(&self) -> Vec<SocketFile> {
        self.all.iter().filter_map(|listener| listener.file.clone()).collect()
    }

    /// The cores have closed theirs: gives up what is not kept, and removes the files of sockets that are not `left` to others.
    pub fn give_up(&mut self, left: Left) {
        for (number, listener) in (0_u8..).zip(&mut self.all).filter(|(_, listener)| !listener.is_kept) {
            // Closed when the file is gone: until then no other file can have its number.
            let _sockets = mem::take(&mut listener.sockets);
            if let Some(file) = listener.file.take().filter(|_| !left.contains(number))
                && let Err(error) = unix::remove(file)
            {
                tracing::warn!("{} cannot be removed: {error}", listener.listen.at);
            }
        }
    }

    /// Listens again, if nobody else has any of it by now; waits for nobody.
    pub fn listen_again(&mut self) -> Result<(), ListenError> {
        let again = self.listen_anew();
        if again.is_err() {
            self.give_up(Left::NONE);
        }
        again
    }

    fn listen_anew(&mut self) -> Result<(), ListenError> {
        let Self { cores, is_shared, all } = self;
        let failed = |listen: &Listen, error| ListenError { listen: listen.clone(), error };
        for listener in all.iter_mut().filter(|listener| !listener.is_kept) {
            listener.sockets.clear();
            if let (Some(address), false) = (listener.listen.at.tcp(), *is_shared) {
                tcp::wait_for(address, Duration::ZERO).map_err(|error| failed(&listener.listen, error))?;
            }
        }
        for listener in all.iter_mut().filter(|listener| !listener.is_kept) {
            listener.bind(*cores).map_err(|error| failed(&listener.listen, error))?;
        }
        for listener in all {
            listener.listen().map_err(|error| failed(&listener.listen, error))?;
        }
        Ok(())
    }
}

impl Drop for Listeners {
    /// A start that fails leaves no file behind, and what it has from a predecessor as it is.
    fn drop(&mut self) {
        self.give_up(self.left_to_predecessor());
    }
}

impl fmt::Display for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, listen) in self.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            match listen.at {
                ListenAt::Tcp(address) => write!(f, "{comma}ws://{address}")?,
                ListenAt::Unix(_) => write!(f, "{comma}{}", listen.at)?,
            }
            if listen.opening == Opening::ProxyHeader {
                f.write_str(" (PROXY)")?;
            }
        }
        Ok(())
    }
}

impl Listener {
    /// Of what others have made, or bound here. Where it is kept, who comes to a predecessor's own socket is served as well, whose
    /// file that says.
    fn make(
        listen: &Listen,
        cores: usize,
        kept: Vec<OwnedFd>,
        taken: Vec<OwnedFd>,
        file: Option<&SocketFile>,
    ) -> io::Result<Self> {
        let (is_kept, is_taken) = (!kept.is_empty(), !taken.is_empty());
        let sockets = kept.into_iter().chain(taken).collect();
        let mut made = Self { listen: listen.clone(), is_kept, is_taken, sockets, file: None };
        if made.sockets.is_empty() {
            made.bind(cores)?;
        } else {
            made.adopt(cores, file)?;
        }
        Ok(made)
    }

    fn bind(&mut self, cores: usize) -> io::Result<()> {
        match &self.listen.at {
            ListenAt::Tcp(address) => {
                let (address, sockets) = tcp::bind(*address, cores)?;
                (self.listen.at, self.sockets) = (ListenAt::Tcp(address), sockets);
            }
            ListenAt::Unix(path) => {
                let (socket, file) = unix::bind(path, &self.listen)?;
                (self.sockets, self.file) = (vec![socket], Some(file));
            }
        }
        Ok(())
    }

    /// Makes the sockets of others its own. Where there are fewer than cores, more are bound beside them if they let that happen; else
    /// cores share them.
    fn adopt(&mut self, cores: usize, file: Option<&SocketFile>) -> io::Result<()> {
        match &self.listen.at {
            ListenAt::Tcp(address) => {
                self.sockets.iter().try_for_each(tcp::adopt)?;
                let missing = cores.saturating_sub(self.sockets.len());
                if missing > 0 && !self.is_kept && tcp::lets_others(&self.sockets[0])? {
                    // Under another account they cannot be, and nothing is lost by that.
                    self.sockets.extend(tcp::bind(*address, missing).map(|(_, more)| more).unwrap_or_default());
                }
            }
            ListenAt::Unix(_) if self.is_kept => {}
            ListenAt::Unix(path) => {
                self.file = unix::adopt(path, &self.listen, file)?;
                // Nobody can connect to it any more.
                if self.file.is_none() {
                    self.is_taken = false;
                    self.bind(cores)?;
                }
            }
        }
        Ok(())
    }

    /// Makes a Unix socket anew that a process has shut down which had it, too. Whether that was so.
    fn revive(&mut self) -> io::Result<bool> {
        let is_lost = !self.is_kept && self.listen.at.path().is_some() && self.sockets.iter().any(unix::is_shut_down);
        if is_lost {
            self.bind(1)?;
        }
        Ok(is_lost)
    }

    fn listen(&self) -> io::Result<()> {
        self.sockets.iter().try_for_each(|socket| match &self.file {
            None => tcp::listen(socket.as_fd()),
            Some(file) => unix::listen(socket.as_fd(), file),
        })
    }
}

fn has(given: &Given, at: &ListenAt) -> bool {
    given.iter().any(|(_, other)| other == at)
}

/// Tries again after `every` as long as somebody else listens there, but not for longer than `longest`.
fn retry_in_use(longest: Duration, every: Duration, mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    let began = Instant::now();
    while let Err(error) = attempt() {
        if error.kind() != io::ErrorKind::AddrInUse || began.elapsed() >= longest {
            return Err(error);
        }
        thread::sleep(every);
    }
    Ok(())
}

/// Those of one place.
fn take(given: &mut Given, at: &ListenAt) -> Vec<OwnedFd> {
    given.extract_if(.., |(_, other)| other == at).map(|(socket, _)| socket).collect()
}

/// Where a socket is bound to: what it is, not what is said of it.
pub fn place_of(socket: impl AsFd) -> io::Result<ListenAt> {
    let address = SockRef::from(&socket).local_addr()?;
    let path = || address.as_pathname().map(|path| ListenAt::Unix(PathBuf::from(path)));
    let unknown = || io::Error::new(io::ErrorKind::InvalidInput, "it has neither an IP address nor a path");
    address.as_socket().map(ListenAt::Tcp).or_else(path).ok_or_else(unknown)
}
