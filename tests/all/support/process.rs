//! A child process whose output is kept in files and that never outlives its guard.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

/// The binary under test: `EVERGATE_BIN`, else the one that cargo built with these tests.
pub fn binary() -> Command {
    let path = std::env::var_os("EVERGATE_BIN").map_or_else(|| env!("CARGO_BIN_EXE_evergate").into(), PathBuf::from);
    unconfigured(Command::new(path))
}

/// The same, under a limit of open descriptors (`RLIMIT_NOFILE`, soft and hard).
pub fn binary_with_descriptors(most: u32) -> Command {
    // It becomes the binary, so that the process is the same.
    let mut command = Command::new("prlimit");
    command.arg(format!("--nofile={most}:{most}")).arg(binary().get_program());
    unconfigured(command)
}

/// The same as a service manager starts it that listens for it: it is given one socket (`sd_listen_fds(3)`), which is the standard
/// input of this command.
pub fn binary_of_service_manager() -> Command {
    let mut command = Command::new("sh");
    let become_it = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"";
    command.args(["-c", become_it]).arg(binary().get_program());
    unconfigured(command)
}

/// A command that inherits none of the variables that would configure a gateway, these tests' own among them.
fn unconfigured(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"EVERGATE_")) {
        command.env_remove(name);
    }
    command
}

/// One running child.
pub struct Process {
    /// What is shown above its output when a test fails.
    name: String,
    /// The child itself.
    child: Child,
    /// Where its stdout goes.
    stdout: PathBuf,
    /// Where its stderr goes.
    stderr: PathBuf,
    /// Set once it has been waited for.
    exit: Option<i32>,
}

impl Process {
    /// Starts it in a process group of its own, so that a signal to the group reaches it and nothing else.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> Self {
        Self::start_with(name, command, folder, Stdio::null())
    }

    /// The same, with a standard input.
    pub fn start_with(name: &str, command: &mut Command, folder: &Path, stdin: Stdio) -> Self {
        Self::spawn(name, command.stdin(stdin), folder, None)
    }

    /// The same, with what is to be its standard input and output; what it prints is not seen.
    pub fn start_with_both(name: &str, command: &mut Command, folder: &Path, [stdin, stdout]: [Stdio; 2]) -> Self {
        Self::spawn(name, command.stdin(stdin), folder, Some(stdout))
    }

    fn spawn(name: &str, command: &mut Command, folder: &Path, given: Option<Stdio>) -> Self {
        let stdout = folder.join(format!("{name}.{}.out", super::unique()));
        let stderr = stdout.with_extension("err");
        let file = |path: &Path| std::fs::File::create(path).expect("a file for the child's output");
        let own = file(&stdout);
        let child = command
            .stdout(given.unwrap_or(own.into()))
            .stderr(file(&stderr))
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error} ({command:?})"));
        Self { name: name.to_owned(), child, stdout, stderr, exit: None }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn nix_pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().expect("a pid is an i32"))
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        kill(self.nix_pid(), signal).expect("signal a child that has not been waited for");
    }

    /// Sends a signal to its whole group, as `kill -USR1 -PGID` does.
    pub fn signal_group(&self, signal: Signal) {
        killpg(self.nix_pid(), signal).expect("signal a group whose leader has not been waited for");
    }

    /// Its exit code, where it has ended (a signal's death counts as 128 + its number).
    pub fn exited(&mut self) -> Option<i32> {
        use std::os::unix::process::ExitStatusExt;
        if self.exit.is_none() {
            let status = self.child.try_wait().expect("wait for a child");
            self.exit = status.map(|status| status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
        }
        self.exit
    }

    /// Waits for its end.
    pub fn wait_exit(&mut self, bound: Duration) -> i32 {
        let end = Instant::now() + bound;
        loop {
            if let Some(code) = self.exited() {
                return code;
            }
            assert!(Instant::now() < end, "{} did not end within {bound:?}", self.name);
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// Waits for the end of a command that ends by itself.
    pub fn ended(mut self) -> Ended {
        let code = self.wait_exit(Duration::from_secs(20));
        Ended { code, stdout: self.output(), stderr: self.log() }
    }

    /// Everything it wrote to stderr so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// Everything it wrote to stdout so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    /// Ends it at once, and waits.
    pub fn kill(&mut self) {
        if self.exited().is_none() {
            self.child.kill().ok();
            self.child.wait().ok();
            self.exit.get_or_insert(137);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            for (stream, text) in [("stdout", self.output()), ("stderr", self.log())] {
                let from = text.len().saturating_sub(16_000);
                let tail = text.get(text.ceil_char_boundary(from)..).unwrap_or_default();
                eprintln!("---- {} ({}) {stream} ----\n{tail}", self.name, self.child.id());
            }
        }
    }
}

/// What a command that ends by itself did.
pub struct Ended {
    /// Its exit code.
    pub code: i32,
    /// All of its stdout.
    pub stdout: String,
    /// All of its stderr.
    pub stderr: String,
}

impl Ended {
    /// Both outputs, for assertions that do not care which.
    pub fn text(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }
}

/// Runs `evergate` with these arguments until it ends by itself, with nothing of its configuration inherited from the environment.
pub fn evergate(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    let folder = super::Folder::new();
    let mut command = binary();
    command.args(arguments).current_dir(folder.path());
    command.envs(["STATE_DIRECTORY", "RUNTIME_DIRECTORY"].map(|name| (name, folder.path())));
    command.envs(environment.iter().copied());
    Process::start("evergate", &mut command, folder.path()).ended()
}

/// User and system time of a process, in seconds.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().map(|at| fields[*at].parse::<f64>().expect("ticks")).sum();
    ticks / 100.0
}
