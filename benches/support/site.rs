//! The parties of a measurement: the bus with its responder, gateways, and the bare echoes that they are compared with.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::{OTHER_CPU, Process, SERVER_CPU, eventually, free_port, http, in_role};

/// `OpenSRF`'s accounts and passwords, as its own installation sets them.
const ACL: &str = include_str!("../../tests/redis-acl.txt");
/// The domain of the bus.
pub const DOMAIN: &str = "public.localhost";
/// Where gateways push their calls.
pub const ROUTER: &str = "opensrf:router:router:public.localhost";
/// How long a party may take to be ready.
const START: Duration = Duration::from_secs(20);

/// What gateways find at the address of Redis.
pub struct Bus {
    /// Where that is.
    pub address: SocketAddr,
    /// Redis, or the stub.
    pub server: Process,
    /// Answers requests; none beside the stub, which does so by itself.
    pub responder: Option<Process>,
}

impl Bus {
    /// A Redis under the stock ACL and a responder, or the stub.
    pub fn start(is_stub: bool, folder: &Path) -> io::Result<Self> {
        if is_stub { Self::stub(folder) } else { Self::redis(folder) }
    }

    fn redis(folder: &Path) -> io::Result<Self> {
        Self::with("responder", |address| in_role(&["responder", &address.to_string(), ROUTER]), folder)
    }

    /// A Redis under the stock ACL, and who answers on it: given its address, `command` says how to start that.
    pub fn with(
        name: &str,
        command: impl FnOnce(SocketAddr) -> io::Result<Command>,
        folder: &Path,
    ) -> io::Result<Self> {
        let (address, server) = Self::server(folder)?;
        let responder = Process::start(name, OTHER_CPU, &command(address)?, folder)?;
        Ok(Self { address, server, responder: Some(responder) })
    }

    fn server(folder: &Path) -> io::Result<(SocketAddr, Process)> {
        let address = free_address()?;
        let mut command = Command::new("redis-server");
        command.args([
            "--port",
            &address.port().to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]);
        command.args(["--maxclients", "4000", "--dir"]).arg(folder);
        let mut server = Process::start("redis-server", OTHER_CPU, &command, folder)?;
        let mut stream = connect(address, &mut server)?;
        stream.set_read_timeout(Some(START))?;
        stream.write_all(ACL.as_bytes())?;
        stream.write_all(b"\n")?;
        let wanted = ACL.lines().filter(|line| !line.trim().is_empty()).count();
        let mut answers = Vec::new();
        while memchr::memchr_iter(b'\n', &answers).count() < wanted {
            let mut buffer = [0; 1024];
            let count = stream.read(&mut buffer)?;
            answers.extend_from_slice(&buffer[..count]);
            if count == 0 || answers.contains(&b'-') {
                return Err(io::Error::other(format!("Redis and its ACL: {}", String::from_utf8_lossy(&answers))));
            }
        }
        Ok((address, server))
    }

    fn stub(folder: &Path) -> io::Result<Self> {
        let (address, server) = serve("stub", OTHER_CPU, &[], folder)?;
        Ok(Self { address, server, responder: None })
    }
}

/// How a gateway is started.
#[derive(Clone, Copy)]
pub struct GatewayOptions<'a> {
    /// Where it listens; on a port of its own where there is none.
    pub listen: Option<SocketAddr>,
    /// Whether others may listen there beside it.
    pub shares_port: bool,
    /// The CPU that it runs on.
    pub cpu: u32,
    /// Whether it logs (a line for each request), to a file in the folder.
    pub log: bool,
    /// More flags.
    pub flags: &'a [&'a str],
}

impl Default for GatewayOptions<'_> {
    fn default() -> Self {
        Self { listen: None, shares_port: false, cpu: SERVER_CPU, log: true, flags: &[] }
    }
}

/// One gateway.
pub struct Gateway {
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where its counters are.
    pub admin: SocketAddr,
    /// Its process.
    pub process: Process,
}

impl Gateway {
    /// Starts one on `bus` and waits until it is ready.
    pub fn start(bus: &Bus, options: GatewayOptions<'_>, folder: &Path) -> io::Result<Self> {
        let address = options.listen.map_or_else(free_address, Ok)?;
        let admin = free_address()?;
        let binary = std::env::var_os("EVERGATE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_evergate").into());
        let mut command = Command::new(binary);
        command.args(["serve", "--listen", &address.to_string(), "--admin", &admin.to_string()]);
        command.args(["--cores", &options.cpu.to_string(), "--domain", DOMAIN, "--username", "gateway"]);
        command.args(["--bus-domain-address", &format!("{DOMAIN}={}", bus.address), "--state-dir", "off"]);
        command.arg("--logfile").arg(log(folder, admin));
        command.args(["--loglevel", if options.log { "info" } else { "off" }]);
        if options.shares_port {
            command.arg("--share-port");
        }
        // Its control socket is beside its log, not where that of the host's own gateway is.
        command.args(options.flags).env("EVERGATE_PASSWD", "gateway-test").env("RUNTIME_DIRECTORY", folder);
        let mut process = Process::start("evergate", options.cpu, &command, folder)?;
        eventually("the gateway's readiness", START, || match process.exited()? {
            Some(code) => Err(process.error(&format!("ended with {code} instead of serving"))),
            None => Ok(http(admin, "/readyz").map(drop)),
        })?;
        Ok(Self { address, admin, process })
    }

    /// A gauge or count, over all cores.
    pub fn count(&self, name: &str) -> io::Result<u64> {
        let metrics = http(self.admin, "/metrics").ok_or_else(|| self.process.error("no /metrics"))?;
        let names = [format!("evergate_{name}{{"), format!("evergate_{name}_total{{")];
        let lines = metrics.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// What a generator is told.
    pub fn url(&self) -> String {
        format!("ws://{}/osrf-websocket-translator", self.address)
    }
}

/// A free port of loopback, as [`free_port`] finds it.
pub fn free_address() -> io::Result<SocketAddr> {
    free_port().map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
}

/// Where the gateway with that admin page logs.
pub fn log(folder: &Path, admin: SocketAddr) -> PathBuf {
    folder.join(format!("evergate.{}.log", admin.port()))
}

/// A part of the benchmark's own that listens, on a CPU; returns where.
pub fn serve(part: &str, cpu: u32, arguments: &[&str], folder: &Path) -> io::Result<(SocketAddr, Process)> {
    let address = free_address()?;
    let text = address.to_string();
    let words: Vec<&str> = [part, &text].into_iter().chain(arguments.iter().copied()).collect();
    let mut process = Process::start(part, cpu, &in_role(&words)?, folder)?;
    connect(address, &mut process)?;
    Ok((address, process))
}

/// Waits until somebody listens.
fn connect(address: SocketAddr, process: &mut Process) -> io::Result<TcpStream> {
    eventually("a listener", START, || match process.exited()? {
        Some(code) => Err(process.error(&format!("ended with {code} instead of serving"))),
        None => Ok(TcpStream::connect(address).ok()),
    })
}
