//! What would stop a million clients under the limits that `tuning/` sets: computed from the figures of this run, not measured.

use std::fs;
use std::io;
use std::path::Path;

use evergate::config;

use crate::kernel::number;
use crate::load::Round;
use crate::results::print_table;

/// Clients.
const MILLION: f64 = 1e6;

/// Prints the table.
pub fn print(figures: &Round) -> io::Result<()> {
    let figure = |name: &str| figures.get(name).copied().unwrap_or(f64::NAN);
    let gigabytes = |bytes: f64| format!("{:.2} GB", bytes * MILLION / 1e9);
    let default = |name: &str| config::find(name).and_then(|option| option.default.parse::<f64>().ok());
    let files = setting("tuning/evergate.service", "LimitNOFILE")?;
    // systemd raises both at boot, as far as they go: what this host has.
    let (nr_open, file_max) = (number("/proc/sys/fs/nr_open")? as f64, number("/proc/sys/fs/file-max")? as f64);
    let ports = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let ports: Vec<f64> = ports.split_ascii_whitespace().filter_map(|port| port.parse().ok()).collect();
    let ports = ports.last().zip(ports.first()).map_or(f64::NAN, |(last, first)| last - first + 1.0);
    let closes = default("drain_closes_per_second").unwrap_or(f64::NAN);
    let drain = default("drain_max_seconds").unwrap_or(f64::NAN);
    let (ping_cpu, connects) = (figure("idle_cpu_us_per_client_second"), figure("connects_per_second"));
    let row = |what: &str, needs: String, has: String| vec![what.to_owned(), needs, has];
    let rows = [
        row(
            "descriptors of one process",
            "1,000,000".into(),
            format!("LimitNOFILE {files:.0}, nr_open {nr_open:.0}; clients_max auto: {:.0}", files.min(nr_open) * 0.9),
        ),
        row(
            "descriptors of the host",
            "1,000,000; with nginx before it 3,000,000".into(),
            format!("file-max {file_max:.0}"),
        ),
        row("user memory", gigabytes(figure("rss_per_client")), String::new()),
        row("kernel memory, the server's end, no data under way", gigabytes(figure("kernel_per_end")), String::new()),
        row(
            "ports, if one proxy address connects to one gateway address",
            "1,000,000".into(),
            format!("ip_local_port_range {ports:.0}: {:.0} pairs of addresses", (MILLION / ports).ceil()),
        ),
        row("pings", format!("{:.2} cores", ping_cpu * MILLION / 1e6), String::new()),
        row(
            "all connect again, with one request each",
            format!("{:.0} s on one core", MILLION / connects),
            String::new(),
        ),
        row(
            "the drain of one process",
            format!("{:.0} s at {closes:.0} closes per second", MILLION / closes),
            format!("drain_max_seconds {drain:.0}"),
        ),
    ];
    print_table("A million clients in one process: COMPUTED from the figures above", &["", "needs", "limit"], &rows);
    Ok(())
}

/// The number behind `NAME =` or `NAME=` in a file of this repository.
fn setting(file: &str, name: &str) -> io::Result<f64> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file))?;
    text.lines()
        .filter_map(|line| line.split_once('='))
        .find(|(left, _)| left.trim().trim_start_matches('-') == name)
        .and_then(|(_, right)| right.trim().parse().ok())
        .ok_or_else(|| io::Error::other(format!("no {name} in {file}")))
}
