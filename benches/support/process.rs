//! Child processes of a benchmark, pinned to a CPU and ended with their guard, and what the kernel says of them.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};

/// The CPU of what is measured.
pub const SERVER_CPU: u32 = 0;
/// The CPU of generator, responder and Redis.
pub const OTHER_CPU: u32 = 1;

/// Where folders are, if there is such a place.
const SHARED_MEMORY: &str = "/dev/shm";
/// What their names begin with; the process id follows.
const FOLDER: &str = "evergate-bench-";

/// One running child.
pub struct Process {
    /// What it is called in messages.
    name: String,
    /// The child itself.
    child: Child,
    /// Where its stdout and stderr go.
    output: PathBuf,
}

impl Process {
    /// Starts `command` on one CPU, its output in a file of `folder`, and nothing that would configure a gateway in its
    /// environment but what `command` sets.
    pub fn start(name: &str, cpu: u32, command: &Command, folder: &Path) -> io::Result<Self> {
        let number = fs::read_dir(folder)?.count();
        let output = folder.join(format!("{name}.{number}.out"));
        let file = fs::File::create(&output)?;
        let mut pinned = Command::new("taskset");
        // Also where this process is killed, nothing that it has started lives on.
        pinned.args(["-c", &cpu.to_string(), "setpriv", "--pdeathsig", "KILL"]);
        pinned.arg(command.get_program()).args(command.get_args());
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.as_encoded_bytes().starts_with(b"EVERGATE_")) {
            pinned.env_remove(key);
        }
        pinned.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
        // On a tmpfs that is its current folder, too, so that nothing is left elsewhere.
        let pinned = pinned.current_dir(folder).stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = pinned.spawn().map_err(|error| io::Error::other(format!("{name} does not start: {error}")))?;
        Ok(Self { name: name.to_owned(), child, output })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = i32::try_from(self.pid()).map_err(io::Error::other)?;
        Ok(kill(Pid::from_raw(pid), signal)?)
    }

    /// Its exit code where it has ended; a signal's death counts as 128 + its number.
    pub fn exited(&mut self) -> io::Result<Option<i32>> {
        let status = self.child.try_wait()?;
        Ok(status.map(|status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))))
    }

    /// Waits for its end and gives the exit code.
    pub fn wait(&mut self, bound: Duration) -> io::Result<i32> {
        let what = format!("the end of {}", self.name);
        eventually(&what, bound, || self.exited())
    }

    /// Everything it wrote.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// An error that shows the end of what it wrote.
    pub fn error(&self, what: &str) -> io::Error {
        let output = self.output();
        let tail = output.get(output.ceil_char_boundary(output.len().saturating_sub(2_000))..).unwrap_or_default();
        io::Error::other(format!("{}: {what}\n{tail}", self.name))
    }

    /// CPU time so far, user and system.
    pub fn cpu(&self) -> io::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // The name in parentheses may hold anything; utime and stime are fields 14 and 15, the first after it is 3.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        let per_second = sysconf(SysconfVar::CLK_TCK)?.unwrap_or(100).unsigned_abs();
        Ok(Duration::from_micros(ticks * 1_000_000 / per_second))
    }

    /// Resident and proportional memory, bytes.
    pub fn memory(&self) -> io::Result<Memory> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid()))?;
        let bytes = |name: &str| kilobytes(&rollup, name) * 1024;
        Ok(Memory { rss: bytes("Rss:"), pss: bytes("Pss:") })
    }

    /// Ends it, if it has not ended by itself.
    pub fn end(&mut self) {
        if matches!(self.exited(), Ok(None)) {
            // It may have ended by itself meanwhile.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Memory of a process, bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident.
    pub rss: u64,
    /// Resident, shared pages divided among their users.
    pub pss: u64,
}

/// The number behind a name, as `/proc` writes it: `Name:   123 kB`.
pub fn kilobytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.split_ascii_whitespace().next() == Some(name));
    line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}

/// The benchmark's own program in another role: `--role NAME ARGUMENT…`.
pub fn in_role(words: &[&str]) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--role").args(words);
    Ok(command)
}

/// Asks again and again until there is an answer.
pub fn eventually<T>(what: &str, bound: Duration, mut ask: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
    let end = Instant::now() + bound;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() > end {
            return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{what}: not within {bound:?}")));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A loopback port that nobody listens on, outside the kernel's ephemeral range, from which a generator's clients take theirs.
pub fn free_port() -> io::Result<u16> {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(7919);
    for _ in 0..20_000 {
        let step = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let port = 11_000 + u16::try_from(start.wrapping_add(step) % 20_000).unwrap_or(0);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::other("no free port on 127.0.0.1"))
}

/// The body of an HTTP answer of 200; none for any other, or where nobody listens.
pub fn http(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (header, body) = text.split_once("\r\n\r\n")?;
    (header.split(' ').nth(1)? == "200").then(|| body.to_owned())
}

/// A folder of this run's own on a tmpfs, so that logs cost no disk; removed with its guard.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes it, and removes those of runs that were killed.
    pub fn new() -> io::Result<Self> {
        let parent = if Path::new(SHARED_MEMORY).is_dir() { SHARED_MEMORY.into() } else { std::env::temp_dir() };
        for entry in fs::read_dir(&parent)?.flatten() {
            let owner = entry.file_name().to_str().and_then(|name| name.strip_prefix(FOLDER)?.parse::<u32>().ok());
            if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        let path = parent.join(format!("{FOLDER}{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing can be done about what stays.
        let _ = fs::remove_dir_all(&self.0);
    }
}
