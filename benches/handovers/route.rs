//! The route between visitors and gateway: loopback, or one that takes time. This kernel has no netem, so that time is spent in a
//! program: in a network namespace of its own, addresses of another network lead into a tun device behind which the mirror sends
//! each packet back, late, with the two networks exchanged. What a visitor at 10.0.0.2 sends to 10.1.0.1 comes back as from 10.1.0.2 to
//! 10.0.0.1, where the gateway listens, and the answer likewise.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

use super::mirror::Mirrored;
use super::process::{OTHER_CPU, Process, eventually, in_role};
use super::visits::SOURCES;

/// The tun device.
const DEVICE: &str = "mirror";
/// Packets that it keeps for the mirror: none is lost while that waits for its CPU.
const DEVICE_PACKETS: u32 = 10_000;
/// How long the mirror may take to begin, and to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// What decides about a connection whose listener is closed, and about ports. Nothing here sets any of them.
const SYSCTLS: [&str; 8] = [
    "net/core/somaxconn",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/tcp_abort_on_overflow",
    "net/ipv4/tcp_max_syn_backlog",
    "net/ipv4/tcp_max_tw_buckets",
    "net/ipv4/tcp_migrate_req",
    "net/ipv4/tcp_syncookies",
    "net/ipv4/tcp_tw_reuse",
];

/// A route.
pub struct Route {
    /// What it is called.
    pub name: String,
    /// Where the gateway listens.
    pub gateway: Ipv4Addr,
    /// Where visitors find it.
    pub target: Ipv4Addr,
    /// The first of their own addresses.
    pub source: Ipv4Addr,
    /// Who delays packets.
    mirror: Option<Process>,
}

impl Route {
    /// Loopback.
    pub fn loopback() -> Self {
        let gateway = Ipv4Addr::LOCALHOST;
        let source = Ipv4Addr::from_bits(gateway.to_bits() + 1);
        Self { name: "loopback".to_owned(), gateway, target: gateway, source, mirror: None }
    }

    /// One of so many milliseconds each way. For that, this process and all that it starts from now on are in a network
    /// namespace of their own.
    pub fn delayed(delay_ms: u64, folder: &Path) -> io::Result<Self> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let gateway = Ipv4Addr::new(10, 0, 0, 1);
        let source = Ipv4Addr::from_bits(gateway.to_bits() + 1);
        ip(&format!("link set lo up\ntuntap add dev {DEVICE} mode tun\n"))?;
        let part = in_role(&["mirror", DEVICE, &delay_ms.to_string()])?;
        // It is nobody's CPU that a delay costs: it waits for none behind those that are measured.
        let mut command = Command::new("nice");
        command.args(["-n", "-10"]).arg(part.get_program()).args(part.get_args());
        let mut mirror = Process::start("mirror", OTHER_CPU, &command, folder)?;
        let mut commands = vec![format!("link set {DEVICE} txqueuelen {DEVICE_PACKETS} up")];
        let addresses = (0..=SOURCES).map(|n| Ipv4Addr::from_bits(gateway.to_bits() + n));
        commands.extend(addresses.map(|address| format!("address add {address}/32 dev {DEVICE}")));
        commands.push(format!("route add 10.1.0.0/16 dev {DEVICE}"));
        ip(&commands.join("\n"))?;
        eventually("the mirror", PATIENCE, || match mirror.exited()? {
            Some(code) => Err(mirror.error(&format!("ended with {code}"))),
            None => Ok(has_carrier()?.then_some(())),
        })?;
        let name = format!("{delay_ms} ms each way");
        Ok(Self { name, gateway, target: Ipv4Addr::new(10, 1, 0, 1), source, mirror: Some(mirror) })
    }

    /// Ends it; what was mirrored, where anything was.
    pub fn finish(self) -> io::Result<Option<Mirrored>> {
        let Some(mut mirror) = self.mirror else { return Ok(None) };
        mirror.signal(Signal::SIGTERM)?;
        let code = mirror.wait(PATIENCE)?;
        serde_json::from_str(&mirror.output())
            .map(Some)
            .map_err(|error| mirror.error(&format!("ended with {code} and without figures: {error}")))
    }
}

/// The sysctls as they are in this network namespace; those that this kernel has.
pub fn sysctls() -> BTreeMap<String, String> {
    let value = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).ok();
    let named = |name: &str| Some((name.replace('/', "."), value(name)?.trim().replace('\t', " ")));
    SYSCTLS.into_iter().filter_map(named).collect()
}

/// Lets `ip` carry out commands.
fn ip(commands: &str) -> io::Result<()> {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(commands.as_bytes())?;
    }
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("ip ended with {status} for:\n{commands}"))) }
}

/// Whether anybody holds the other end of the device.
fn has_carrier() -> io::Result<bool> {
    let shown = Command::new("ip").args(["link", "show", "dev", DEVICE]).output()?;
    Ok(String::from_utf8_lossy(&shown.stdout).contains("LOWER_UP"))
}
