//! Whether `clients_max` clients can be there at all. Descriptors apart, without which `serve` does not start: it says the rest
//! at its start, too, since a limit that is never met protects nothing.

use std::fs;

use super::{Finding, sysctls};
use crate::config::{Config, Host, Listen};

/// What an idle client takes, bytes: half a kilobyte of the process', the rest of the kernel's (docs/performance.md, "Many idle
/// clients").
const CLIENT_BYTES: u64 = 4_900;

/// What the host has that clients need.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// The memory of the host, or what the cgroup of this process allows of it, bytes.
    memory_bytes: Option<u64>,
    /// How many ports a process has to connect from.
    ports: Option<u64>,
}

impl Room {
    fn ask() -> Self {
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
        let range = sysctls::read("net.ipv4.ip_local_port_range").and_then(|range| sysctls::numbers(&range));
        let ports = if let Some([from, to]) = range.as_deref() { Some((to + 1).saturating_sub(*from)) } else { None };
        let total = total.and_then(|kilobytes| kilobytes.parse::<u64>().ok()).map(|kb| kb * 1_024);
        Self { memory_bytes: total.into_iter().chain(Host::ask().memory_bytes_max).min(), ports }
    }
}

/// A line for each.
pub(super) fn clients(config: &Config) -> Vec<Finding> {
    within(config, Room::ask())
}

/// Why so many clients cannot be there; for the log.
pub fn out_of_reach(config: &Config) -> Vec<String> {
    clients(config).into_iter().map(|finding| finding.text).collect()
}

fn within(config: &Config, room: Room) -> Vec<Finding> {
    let clients_max = config.clients_max as u64;
    let bytes = clients_max.saturating_mul(CLIENT_BYTES);
    let mut findings = Vec::new();
    if let Some(memory) = room.memory_bytes.filter(|memory| bytes > *memory) {
        findings.push(Finding::warn(
            format!(
                "clients_max {clients_max} cannot be reached: idle, they take {} MB, and there are {} MB (the host's, or this process' cgroup's)",
                bytes / 1_000_000,
                memory / 1_000_000
            ),
            format!(
                "clients_max = {} or less, so that evergate refuses (503) before the kernel ends it; or more memory",
                { memory / 2 / CLIENT_BYTES }
            ),
        ));
    }
    // A proxy on this host; what another host has is not seen from here, and a Unix socket has no ports.
    let is_local = |listen: &Listen| listen.at.tcp().is_some_and(|address| address.ip().is_loopback());
    let all_local = config.listen.iter().all(is_local);
    let ports = room.ports.filter(|_| all_local).map(|ports| ports * config.listen.len() as u64);
    if let Some(ports) = ports.filter(|ports| clients_max > *ports) {
        findings.push(Finding::note(format!(
            "clients_max {clients_max}: a proxy on this host has {ports} ports (net.ipv4.ip_local_port_range) from each of its addresses to ours, and \
             so no more clients; with more addresses, here or there, or a Unix socket it has more (listen, proxy_bind in tuning/nginx-http.conf, source in tuning/haproxy.cfg)"
        )));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;
    use crate::config::{Inputs, Purpose, load};

    fn config(clients_max: usize, listen: &str) -> Config {
        let config = load(Inputs::none(Purpose::Demo)).expect("the defaults").config;
        Config {
            clients_max,
            listen: listen.split(' ').map(|one| one.parse().expect("a listener")).collect(),
            ..config
        }
    }

    #[test]
    fn more_clients_than_memory_are_a_warning_with_a_number_that_fits() {
        let room = Room { memory_bytes: Some(4_000_000_000), ports: None };
        assert_eq!(within(&config(800_000, "127.0.0.1:1"), room), []);
        let findings = within(&config(943_718, "127.0.0.1:1"), room);
        let [Finding { outcome: Outcome::Warn { remedy }, text }] = &findings[..] else { panic!("{findings:?}") };
        assert_eq!(
            text,
            "clients_max 943718 cannot be reached: idle, they take 4624 MB, and there are 4000 MB (the host's, or \
                          this process' cgroup's)"
        );
        assert!(remedy.starts_with("clients_max = 408163 or less"), "{remedy}");
    }

    #[test]
    fn more_clients_than_a_proxy_on_this_host_has_ports_are_noted() {
        let room = Room { memory_bytes: None, ports: Some(28_232) };
        assert_eq!(within(&config(28_232, "127.0.0.1:1"), room), []);
        let findings = within(&config(28_233, "[::1]:1"), room);
        assert!(findings.len() == 1 && findings[0].outcome == Outcome::Note, "{findings:?}");
        assert!(findings[0].text.contains("28232 ports") && findings[0].text.contains("proxy_bind"), "{findings:?}");
        assert_eq!(within(&config(28_233, "192.0.2.1:1"), room), [], "the proxy may be anywhere");
        assert_eq!(within(&config(56_464, "127.0.0.1:1 127.0.0.2:1"), room), [], "each address has as many again");
        assert_eq!(within(&config(56_465, "127.0.0.1:1 127.0.0.2:1"), room).len(), 1);
        assert_eq!(within(&config(1_000_000, "127.0.0.1:1 unix:/run/ws.sock"), room), [], "a Unix socket has no ports");
    }

    #[test]
    fn a_host_says_what_it_has() {
        let Room { memory_bytes, ports } = Room::ask();
        assert!(memory_bytes > Some(100_000_000) && ports > Some(100), "{memory_bytes:?} {ports:?}");
    }
}
