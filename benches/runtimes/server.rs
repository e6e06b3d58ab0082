//! A server under test: this program once more, as a child process pinned to a core.

use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use super::pin::pin;

/// The core of the servers; the driver has [`DRIVER_CPU`].
const SERVER_CPU: u32 = 0;
/// The core of the driver.
pub const DRIVER_CPU: u32 = 1;

/// Serves a listener, for ever.
pub type Serve = fn(TcpListener) -> io::Result<()>;

/// A running server; ends when dropped.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

/// The child's side: serves on a port of its own, which it prints.
pub fn serve(serve: Serve) -> io::Result<()> {
    pin(SERVER_CPU)?;
    set_pdeathsig(Signal::SIGKILL)?;
    rlimit::increase_nofile_limit(u64::MAX)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    serve(listener)
}

/// CPU nanoseconds that a process has used, the kernel's share included.
pub fn cpu_ns(pid: u32) -> io::Result<u64> {
    let mut ns = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let line = fs::read_to_string(task?.path().join("schedstat"))?;
        ns += line.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).ok_or(io::ErrorKind::InvalidData)?;
    }
    Ok(ns)
}

impl Server {
    /// Starts this program with `--serve name`.
    pub fn start(name: &str) -> io::Result<Self> {
        let mut child = Command::new(env::current_exe()?).args(["--serve", name]).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?).read_line(&mut line)?;
        let address = line.trim().parse().map_err(|_| io::Error::other(format!("{name} did not start")))?;
        Ok(Self { child, address })
    }

    /// CPU nanoseconds that it has used.
    pub fn cpu_ns(&self) -> io::Result<u64> {
        cpu_ns(self.child.id())
    }

    /// Resident bytes of user memory.
    pub fn rss_bytes(&self) -> io::Result<u64> {
        let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:"));
        let kb = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kb.ok_or(io::ErrorKind::InvalidData)? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
