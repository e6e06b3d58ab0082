//! The real binary, configured as an operator would: a TOML file, the password from the environment, the rest as flags.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::process::{Process, binary, binary_of_service_manager, binary_with_descriptors};
use super::redis::Redis;
use super::{Folder, eventually, free_port, until};

/// The gateway's own domain in every test.
pub const DOMAIN: &str = "public.localhost";

/// A name that no machine resolves: the worker's domain of the two-domain tests, always redirected to a Redis of the test's own.
pub const OTHER_DOMAIN: &str = "private.localhost";

/// What a gateway is started with.
pub struct Setup {
    command: &'static str,
    flags: Vec<String>,
    lines: String,
    domains: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    /// The most descriptors that it may open, where that is not what these tests may.
    descriptors: Option<u32>,
    /// Its control socket, where that is another gateway's.
    control: Option<PathBuf>,
    folder: Folder,
}

impl Setup {
    /// `evergate serve` on this Redis.
    pub fn serve(redis: &Redis) -> Self {
        Self::serve_at(&redis.address())
    }

    /// `evergate serve` on an address where a Redis may come later.
    pub fn serve_at(redis: &str) -> Self {
        let mut setup = Self::new("serve");
        setup.lines.push_str("domain = \"public.localhost\"\nusername = \"gateway\"\n");
        setup.domains.push((DOMAIN.into(), redis.into()));
        setup.environment.push(("EVERGATE_PASSWD".into(), "gateway-test".into()));
        setup
    }

    /// `evergate demo`.
    pub fn demo() -> Self {
        Self::new("demo")
    }

    fn new(command: &'static str) -> Self {
        let folder = Folder::new();
        let (lines, descriptors) = (String::new(), None);
        Self { command, flags: vec![], lines, domains: vec![], environment: vec![], descriptors, control: None, folder }
    }

    /// The same configuration as that of a gateway which runs.
    pub fn beside(gateway: &Gateway) -> Self {
        let of = &gateway.setup;
        Self {
            command: of.command,
            flags: of.flags.iter().filter(|flag| *flag != "--replace").cloned().collect(),
            lines: of.lines.clone(),
            domains: of.domains.clone(),
            environment: of.environment.clone(),
            descriptors: of.descriptors,
            control: Some(gateway.control()),
            folder: Folder::new(),
        }
    }

    /// The same, of one that is to take over from it.
    pub fn after(gateway: &Gateway) -> Self {
        Self::beside(gateway).flags(&["--replace"])
    }

    /// Its control socket: in a folder of its own, whatever the umask of whoever runs the tests.
    pub fn control(&self) -> PathBuf {
        self.control.clone().unwrap_or_else(|| self.folder.path().join("run/control"))
    }

    /// Under a limit of open descriptors.
    pub fn descriptors(mut self, most: u32) -> Self {
        self.descriptors = Some(most);
        self
    }

    /// One more line of the TOML file.
    pub fn line(mut self, line: &str) -> Self {
        writeln!(self.lines, "{line}").expect("a String takes all");
        self
    }

    /// More flags.
    pub fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    /// Without the flags of that name and their values.
    pub fn without_flags(mut self, name: &str) -> Self {
        while let Some(at) = self.flags.iter().position(|flag| flag == name) {
            self.flags.drain(at..at + 2);
        }
        self
    }

    /// The Redis of another domain.
    pub fn domain(mut self, name: &str, redis: &str) -> Self {
        self.domains.push((name.into(), redis.into()));
        self
    }

    /// One variable of its environment.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Writes a file beside the configuration and says where.
    pub fn file(&self, name: &str, text: &str) -> String {
        self.folder.write(name, text).display().to_string()
    }

    /// Starts it and waits until it is ready; other ports where someone was faster.
    pub fn start(self) -> Gateway {
        let mut gateway = self.start_unready();
        for _ in 0..3 {
            let ready =
                eventually("the gateway is ready", Duration::from_secs(20), || match gateway.process.exited() {
                    Some(code) => Some(Err(code)),
                    None => gateway.try_http("GET", "/readyz").filter(|answer| answer.status == 200).map(Ok),
                });
            match ready {
                Ok(_) => return gateway,
                Err(1) if gateway.log().contains("listen") => gateway.again(),
                Err(code) => panic!("the gateway ended with {code} instead of serving:\n{}", gateway.log()),
            }
        }
        panic!("the gateway does not serve:\n{}", gateway.log())
    }

    /// Starts it on a port that another gateway shares, without waiting for anything.
    pub fn start_sharing(self, with: &Gateway) -> Gateway {
        self.start_on(with.listen)
    }

    /// Starts it on the ports of one that runs, without waiting for anything.
    pub fn start_after(self, gateway: &Gateway) -> Gateway {
        let process = spawn(&self, gateway.listen, gateway.admin, None);
        Gateway { setup: self, listen: gateway.listen, admin: gateway.admin, process }
    }

    /// Starts it as a service manager does that listens for it (`LISTEN_FDS`), without waiting for anything.
    pub fn start_with(self, listener: &TcpListener) -> Gateway {
        let (listen, admin) = (listener.local_addr().expect("an address").port(), free_port());
        let process = spawn(&self, listen, admin, Some(listener));
        Gateway { setup: self, listen, admin, process }
    }

    /// The same on the admin port of one that runs, and from which it takes over.
    pub fn start_with_after(self, listener: &TcpListener, gateway: &Gateway) -> Gateway {
        let process = spawn(&self, gateway.listen, gateway.admin, Some(listener));
        Gateway { setup: self, listen: gateway.listen, admin: gateway.admin, process }
    }

    /// Starts it without waiting for anything.
    pub fn start_unready(self) -> Gateway {
        self.start_on(free_port())
    }

    fn start_on(self, listen: u16) -> Gateway {
        let admin = free_port();
        let process = spawn(&self, listen, admin, None);
        Gateway { setup: self, listen, admin, process }
    }
}

/// One running gateway.
pub struct Gateway {
    /// Declared first: the process is killed before its folder goes.
    process: Process,
    listen: u16,
    admin: u16,
    setup: Setup,
}

/// An answer of the admin endpoints.
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

impl Gateway {
    /// `evergate serve` with more flags, ready.
    pub fn serve(redis: &Redis, flags: &[&str]) -> Self {
        Setup::serve(redis).flags(flags).start()
    }

    /// `evergate demo` with more flags, ready.
    pub fn demo(flags: &[&str]) -> Self {
        Setup::demo().flags(flags).start()
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.listen))
    }

    /// Where the admin endpoints are.
    pub fn admin(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.admin))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Sends a signal to its process group.
    pub fn signal_group(&self, signal: Signal) {
        self.process.signal_group(signal);
    }

    /// Waits for its end and gives the exit code.
    pub fn wait_exit(&mut self, bound: Duration) -> i32 {
        self.process.wait_exit(bound)
    }

    /// Its exit code, where it has ended.
    pub fn exited(&mut self) -> Option<i32> {
        self.process.exited()
    }

    /// How many descriptors it has open.
    pub fn open_descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the process").count()
    }

    /// Lowers the most descriptors that it may open (`RLIMIT_NOFILE`), though it has looked.
    pub fn limit_descriptors(&self, most: u32) {
        let (pid, most) = (format!("--pid={}", self.pid()), format!("--nofile={most}"));
        let lowered = std::process::Command::new("prlimit").args([pid, most]).status().expect("prlimit of util-linux");
        assert!(lowered.success(), "prlimit");
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts the same configuration once more on the same ports. The kernel takes a killed process's ring, and the listeners in it, down after
    /// the process is gone: whoever comes meanwhile is refused the port and tries again.
    pub fn restart(&mut self) {
        self.kill();
        eventually("the gateway is ready again", Duration::from_secs(20), || {
            if self.process.exited().is_some() {
                self.process = spawn(&self.setup, self.listen, self.admin, None);
            }
            self.try_http("GET", "/readyz").filter(|answer| answer.status == 200)
        });
    }

    fn again(&mut self) {
        (self.listen, self.admin) = (free_port(), free_port());
        self.process = spawn(&self.setup, self.listen, self.admin, None);
    }

    /// Waits for readiness.
    pub fn until_ready(&mut self) {
        let end = Duration::from_secs(20);
        until("the gateway is ready", end, || {
            self.try_http("GET", "/readyz").is_some_and(|answer| answer.status == 200)
        });
    }

    /// Waits until the port refuses connections.
    pub fn until_refused(&self) {
        until("connects are refused", super::PATIENCE, || TcpStream::connect(self.address()).is_err());
    }

    /// Takes a drain back (SIGUSR2); again where that is refused, as it is while the port is just being closed. The log gathers refusals that
    /// are alike, so that not each has a line.
    pub fn cancel_drain(&self) {
        let cancelled = || self.log().matches("drain: cancelled by SIGUSR2").count();
        let before = cancelled();
        until("the drain is cancelled", super::PATIENCE, || {
            self.signal(Signal::SIGUSR2);
            std::thread::sleep(Duration::from_millis(60));
            cancelled() > before
        });
    }

    /// Rewrites a line of the TOML file, for SIGHUP.
    pub fn rewrite(&self, from: &str, to: &str) {
        let path = self.setup.folder.path().join("evergate.toml");
        let text = std::fs::read_to_string(&path).expect("the configuration");
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(path, text.replace(from, to)).expect("the configuration");
    }

    /// The folder of its address files.
    pub fn state_dir(&self) -> std::path::PathBuf {
        self.setup.folder.path().join("state")
    }

    /// Its control socket.
    pub fn control(&self) -> PathBuf {
        self.setup.control()
    }

    /// One answer of the admin endpoints, where there is one.
    pub fn try_http(&self, method: &str, path: &str) -> Option<Answer> {
        let mut stream = TcpStream::connect_timeout(&self.admin(), Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut bytes = vec![];
        stream.read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (header, body) = text.split_once("\r\n\r\n")?;
        let status = header.split(' ').nth(1)?.parse().ok()?;
        Some(Answer { status, body: body.to_owned() })
    }

    /// One answer of the admin endpoints.
    pub fn http(&self, method: &str, path: &str) -> Answer {
        self.try_http(method, path).unwrap_or_else(|| panic!("no answer to {method} {path}"))
    }

    /// `/status`.
    pub fn status(&self) -> Value {
        let answer = self.http("GET", "/status");
        serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("/status: {error}: {}", answer.body))
    }

    /// A counter of `/status`, summed over the cores.
    pub fn count(&self, counter: &str) -> u64 {
        let status = self.status();
        status["cores"].as_array().into_iter().flatten().filter_map(|core| core[counter].as_u64()).sum()
    }

    /// A line of `/metrics`, summed over the cores.
    pub fn metric(&self, name: &str) -> f64 {
        let body = self.http("GET", "/metrics").body;
        let of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        body.lines().filter(of).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// How often a limit was hit.
    pub fn limit(&self, name: &str) -> u64 {
        self.status()["limits"][name].as_u64().unwrap_or(0)
    }

    /// Waits until a counter has a value.
    pub fn until_count(&self, counter: &str, value: u64) {
        let bound = super::PATIENCE;
        until(&format!("{counter} is {value}"), bound, || self.count(counter) == value);
    }

    /// Everything it logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until its log holds a text, and gives the first such line.
    pub fn until_logged(&self, text: &str) -> String {
        eventually(&format!("{text:?} in the log"), super::PATIENCE, || {
            self.log().lines().find(|line| line.contains(text)).map(str::to_owned)
        })
    }

    /// Everything it printed to stdout.
    pub fn output(&self) -> String {
        self.process.output()
    }
}

fn spawn(setup: &Setup, listen: u16, admin: u16, given: Option<&TcpListener>) -> Process {
    let mut toml = setup.lines.clone();
    let state = setup.folder.path().join("state");
    // Whatever the umask of whoever runs the tests: one that others may write to is not used.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&state).expect("a folder for address files");
    writeln!(toml, "state_dir = \"{}\"", state.display()).expect("a String takes all");
    // The demo has none unless it is asked for.
    if setup.command == "serve" {
        writeln!(toml, "control = \"{}\"", setup.control().display()).expect("a String takes all");
    }
    if !setup.domains.is_empty() {
        let pairs: Vec<String> =
            setup.domains.iter().map(|(name, address)| format!("\"{name}\" = \"{address}\"")).collect();
        writeln!(toml, "bus_domain_address = {{ {} }}", pairs.join(", ")).expect("a String takes all");
    }
    let path = setup.folder.write("evergate.toml", &toml);
    let mut command = match given {
        Some(_) => binary_of_service_manager(),
        None => setup.descriptors.map_or_else(binary, binary_with_descriptors),
    };
    command.arg(setup.command).arg("--config").arg(path);
    command.args(["--listen", &format!("127.0.0.1:{listen}"), "--admin", &format!("127.0.0.1:{admin}")]);
    command.args(&setup.flags).current_dir(setup.folder.path());
    command.envs(setup.environment.iter().map(|(name, value)| (name, value)));
    let name = format!("evergate-{}", setup.command);
    match given {
        Some(listener) => {
            let copy = listener.try_clone().expect("a copy");
            Process::start_with(&name, &mut command, setup.folder.path(), OwnedFd::from(copy).into())
        }
        None => Process::start(&name, &mut command, setup.folder.path()),
    }
}
