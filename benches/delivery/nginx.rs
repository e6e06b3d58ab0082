//! nginx before a gateway: a process of this benchmark's own, on ports and in a folder of its own.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::process::{OTHER_CPU, Process, eventually, free_port};

/// As sites are told to configure it.
const LOCATION: &str = include_str!("../../tuning/nginx-location.conf");
/// The gateway's address in that file.
const GATEWAY: &str = "127.0.0.1:7682";
const START: Duration = Duration::from_secs(20);

/// Installs it where it is missing; the server that Debian's package starts is ended.
pub fn install() -> io::Result<()> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/install.sh");
    let status = Command::new("bash").args(["-c", ". \"$1\" && install_nginx", "delivery", script]).status()?;
    let remedy = "nginx is missing: install it (Debian: apt install nginx-light), or leave it out with --no-nginx";
    status.success().then_some(()).ok_or_else(|| io::Error::other(remedy))
}

/// One nginx, which dies with its guard.
pub struct Nginx {
    _process: Process,
    /// The port with the location as it stands.
    pub plain: SocketAddr,
    /// The same with `proxy_buffering on`.
    pub buffered: SocketAddr,
}

impl Nginx {
    /// Starts one before the gateway at that address.
    pub fn start(gateway: SocketAddr, name: &str, folder: &Path) -> io::Result<Self> {
        let home = folder.join(format!("nginx-{name}"));
        fs::create_dir_all(&home)?;
        let location = LOCATION.replace(GATEWAY, &gateway.to_string());
        let switched = location.replace("proxy_buffering off;", "proxy_buffering on;");
        if location == LOCATION || location == switched {
            return Err(io::Error::other("tuning/nginx-location.conf names no gateway or no proxy_buffering"));
        }
        let [plain, buffered] = [free_port()?, free_port()?].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let server = |address: SocketAddr, location: &str| format!("server {{ listen {address}; {location} }}\n");
        let at = home.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
            .concat();
        // One process: a master that is killed would leave its workers.
        let text = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log warn;\n\
             events {{ worker_connections 4096; }}\nhttp {{ access_log off;\n{temporary}{}{}}}\n",
            server(plain, &location),
            server(buffered, &switched)
        );
        let file = home.join("nginx.conf");
        fs::write(&file, text)?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&home).arg("-c").arg(&file).arg("-e").arg(home.join("error.log"));
        let mut process = Process::start(&format!("nginx-{name}"), OTHER_CPU, &command, folder)?;
        eventually("nginx", START, || match process.exited()? {
            Some(code) => Err(process.error(&format!("ended with {code} instead of serving"))),
            None => Ok([plain, buffered].iter().all(|port| TcpStream::connect(port).is_ok()).then_some(())),
        })?;
        Ok(Self { _process: process, plain, buffered })
    }
}
