//! nginx and `HAProxy` in front of two gateways, configured as `tuning/` says: its very files, with addresses that are the test's.

use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::process::Process;
use super::{Folder, eventually, free_port};

const NGINX_MAIN: &str = include_str!("../../../tuning/nginx-main.conf");
const NGINX_HTTP: &str = include_str!("../../../tuning/nginx-http.conf");
const NGINX_LOCATION: &str = include_str!("../../../tuning/nginx-location.conf");
const HAPROXY: &str = include_str!("../../../tuning/haproxy.cfg");

/// The gateways in those files.
const GATEWAYS: [&str; 2] = ["127.0.0.1:7682", "127.0.0.1:7692"];

/// Which balancer.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// nginx, which connects from four addresses.
    Nginx,
    /// `HAProxy`, which asks for `health_path`.
    Haproxy,
    /// `HAProxy`, whose check plays a WebSocket client.
    HaproxyByHandshake,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy | Self::HaproxyByHandshake => "haproxy",
        }
    }

    /// Where its program is; none where `tests/run` found that it cannot be installed. Who runs the tests otherwise, and has none, is
    /// told.
    fn program(self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Debian has them where only root looks.
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
        let found = folders.map(|folder| folder.join(self.name())).find(|path| path.is_file());
        let may_be_without = std::env::var_os("EVERGATE_TESTS_WITHOUT_BALANCERS").is_some();
        assert!(found.is_some() || may_be_without, "no {0}: apt install {0}", self.name());
        found
    }

    fn configuration(self, folder: &Folder, listen: SocketAddr, gateways: [SocketAddr; 2]) -> String {
        let to_gateways = |text: &str| {
            let pairs = GATEWAYS.iter().zip(gateways);
            pairs.fold(text.to_owned(), |text, (from, to)| replaced(&text, from, &to.to_string()))
        };
        match self {
            Self::Nginx => {
                let location = replaced(NGINX_LOCATION, "http://127.0.0.1:7682;", "http://evergate;");
                let location = replaced(&location, "#proxy_bind", "proxy_bind");
                let location = replaced(&location, "#limit_conn", "limit_conn");
                let at = folder.path().display();
                let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
                    .concat();
                // One process: a master that is killed would leave its workers.
                format!(
                    "daemon off; master_process off; pid {at}/pid; error_log stderr warn;\n{NGINX_MAIN}\n\
                     events {{ worker_connections 1024; }}\nhttp {{ access_log off;\n{temporary}{}\n\
                     server {{ listen {listen};\n{location} }} }}\n",
                    to_gateways(NGINX_HTTP)
                )
            }
            Self::Haproxy | Self::HaproxyByHandshake => {
                let text = replaced(&to_gateways(HAPROXY), "bind :80", &format!("bind {listen}"));
                let text = replaced(&text, "log /dev/log local0", "log stdout format raw local0");
                let text = replaced(&text, "maxconn 100000", "maxconn 1000");
                if matches!(self, Self::Haproxy) {
                    return text;
                }
                let text = replaced(&text, "http-check send meth GET uri /health", "#");
                let text = replaced(&text, "http-check expect status 200", "#");
                replaced(&text, "#http-check", "http-check")
            }
        }
    }
}

/// The text with all of `from` replaced, which it must hold.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "tuning/ does not say {from:?} any more");
    text.replace(from, to)
}

/// One that runs.
pub struct Balancer {
    /// Declared first: the process is killed before its folder goes.
    process: Process,
    _folder: Folder,
    /// Where its clients connect.
    pub address: SocketAddr,
}

impl Balancer {
    /// Starts one in front of two gateways; none where there is no such program here.
    pub fn start(kind: Kind, gateways: [SocketAddr; 2]) -> Option<Self> {
        let program = kind.program()?;
        for _ in 0..5 {
            let folder = Folder::new();
            let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
            let file = folder.write("conf", &kind.configuration(&folder, address, gateways));
            let mut command = Command::new(&program);
            match kind {
                Kind::Nginx => command.arg("-p").arg(folder.path()).args(["-e", "stderr", "-c"]).arg(&file),
                Kind::Haproxy | Kind::HaproxyByHandshake => command.arg("-db").arg("-f").arg(&file),
            };
            let mut process = Process::start(kind.name(), &mut command, folder.path());
            let listens = eventually("the balancer listens", Duration::from_secs(20), || {
                process.exited().map(Err).or_else(|| TcpStream::connect(address).is_ok().then_some(Ok(())))
            });
            match listens {
                Ok(()) => return Some(Self { process, _folder: folder, address }),
                // Somebody was faster at the port.
                Err(_) if process.log().contains("in use") => {}
                Err(code) => panic!("{} ended with {code}:\n{}", kind.name(), process.log()),
            }
        }
        panic!("{} finds no port", kind.name());
    }

    /// What it says of itself and of the gateways.
    pub fn log(&self) -> String {
        self.process.log() + &self.process.output()
    }
}
