//! A core that fails ends the process; a core that is not given the time to turn does not; an idle one is not taken for one that
//! waits for a disk.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::support::client::Client;
use crate::support::gateway::Gateway;
use crate::support::{PATIENCE, eventually, until};

/// What the watchdog waits for, and a little.
const STANDSTILL: Duration = Duration::from_secs(11);

/// The CPU that a gateway's only core is pinned to: the last that this test may use.
fn last_cpu() -> usize {
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("the affinity of this process");
    (0..CpuSet::count()).rev().find(|&cpu| allowed.is_set(cpu) == Ok(true)).expect("a CPU")
}

/// The thread of the first core.
fn core_thread(gateway: &Gateway) -> Pid {
    let tasks = format!("/proc/{}/task", gateway.pid());
    let named =
        |path: &std::path::Path| std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name == "core-0\n");
    let mut tasks = std::fs::read_dir(tasks).expect("its threads").map(|task| task.expect("a thread").path());
    let path = tasks.find(|path| named(path)).expect("the core's thread");
    let thread = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    Pid::from_raw(thread.expect("a number"))
}

/// How long the core has not turned, and its longest standstill with what it was: from `/metrics`.
fn standstill(gateway: &Gateway) -> (f64, f64, String) {
    let body = gateway.http("GET", "/metrics").body;
    let line = |name: &str| body.lines().find(|line| line.starts_with(name)).expect("the metric").to_owned();
    let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number");
    let longest = line("evergate_standstill_longest_seconds{");
    let was = longest.split("was=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a label").to_owned();
    (value(&line("evergate_heartbeat_age_seconds{")), value(&longest), was)
}

/// Waits until the longest standstill is one that the watchdog would not have had patience with, and was that.
fn until_told(gateway: &Gateway, was: &str) {
    until(&format!("the standstill is told: {was}"), PATIENCE, || {
        let (_, longest, what) = standstill(gateway);
        longest > STANDSTILL.as_secs_f64() && what == was
    });
}

/// Busy processes on one CPU, for as long as the guard lives.
struct Hogs(Vec<Child>);

impl Hogs {
    fn on(cpu: usize, count: usize) -> Self {
        let mut set = CpuSet::new();
        set.set(cpu).expect("a CPU");
        let hogs = (0..count).map(|_| {
            let hog = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("a busy shell");
            sched_setaffinity(Pid::from_raw(hog.id().cast_signed()), &set).expect("a hog has its CPU");
            hog
        });
        Self(hogs.collect())
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            hog.kill().ok();
            hog.wait().ok();
        }
    }
}

/// `IORING_ENTER_NO_IOWAIT`.
const NO_IOWAIT: u64 = 1 << 7;

#[test]
fn an_idle_core_does_not_count_as_io_wait() {
    let gateway = Gateway::demo(&[]);
    let _clients: Vec<Client> = (0..20).map(|_| Client::connect(&gateway)).collect();
    let call = format!("/proc/{}/task/{}/syscall", gateway.pid(), core_thread(&gateway));
    let (mut blocked, mut asleep) = (0, 0);
    // Who sleeps in io_uring_enter counts in procs_blocked and in /proc/pressure/io, unless it says that it does not
    // (Linux 6.15).
    let may_block = gateway.log().contains("waits as I/O wait");
    until("the core was seen asleep often enough", PATIENCE, || {
        let call = std::fs::read_to_string(&call).expect("what the core waits in");
        // `running`, or the number of the call and its arguments.
        let mut words = call.split(' ');
        if let Some(Ok(number)) = words.next().map(str::parse::<i64>) {
            let flags = words.nth(3).and_then(|flags| u64::from_str_radix(flags.trim_start_matches("0x"), 16).ok());
            asleep += 1;
            let is_idle = flags.is_some_and(|flags| flags & NO_IOWAIT > 0);
            blocked += u32::from(number == nix::libc::SYS_io_uring_enter && !is_idle);
        }
        asleep == 200
    });
    assert!(may_block || blocked < 20, "{blocked} of {asleep} times");
}

#[test]
fn a_core_that_gets_no_cpu_for_longer_than_the_watchdog_waits_goes_on_when_it_gets_some() {
    let cpu = last_cpu();
    let mut gateway = Gateway::demo(&["--cores", &cpu.to_string()]);
    let mut client = Client::connect(&gateway);
    // For nothing but idle time, of which there is none.
    let thread = core_thread(&gateway).to_string();
    let lowered = Command::new("chrt").args(["--idle", "--pid", "0", &thread]).status();
    assert!(lowered.expect("chrt (util-linux)").success());
    let hogs = Hogs::on(cpu, 40);
    // What it uses up of its CPU's time it waits for in proportion: with nothing to do it would hardly wait.
    for n in 0..300 {
        client.request("opensrf.math", &format!("t{n}"), 1, "add", "[1,2]");
    }
    let begun = Instant::now();
    let starved = eventually("the core stands still", Duration::from_mins(2), || {
        (standstill(&gateway).0 > STANDSTILL.as_secs_f64() || gateway.exited().is_some()).then_some(begun.elapsed())
    });
    println!("starved after {starved:?}");
    drop(hogs);
    assert_eq!(gateway.exited(), None, "{}", gateway.log());
    client.request("opensrf.math", "t", 1, "add", "[1,2]");
    client.until_status(205);
    until_told(&gateway, "runnable");
    gateway.until_logged("it waited for its CPU");
}

#[test]
fn a_process_that_was_stopped_for_longer_than_the_watchdog_waits_goes_on() {
    let mut gateway = Gateway::demo(&[]);
    let mut client = Client::connect(&gateway);
    gateway.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_secs(12));
    gateway.signal(Signal::SIGCONT);
    client.request("opensrf.math", "t", 1, "add", "[1,2]");
    client.until_status(205);
    until_told(&gateway, "paused");
    assert_eq!(gateway.exited(), None, "{}", gateway.log());
}

/// A core that hangs in earnest: a debugger has its thread go on somewhere else.
#[cfg(target_arch = "x86_64")]
mod hangs {
    use nix::sys::ptrace::{self, AddressType, Options};
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

    use super::*;

    /// `syscall`, little-endian.
    const SYSCALL: i64 = 0x050f;
    /// A jump to itself, likewise.
    const SPIN: i64 = 0xfeeb;
    /// pause(2): sleeps until a signal comes, and a core's thread receives none.
    const PAUSE: u64 = 34;

    /// Where the program began, which is never run again: the auxiliary vector's `AT_ENTRY`.
    fn entry(gateway: &Gateway) -> u64 {
        let auxv = std::fs::read(format!("/proc/{}/auxv", gateway.pid())).expect("its auxiliary vector");
        let mut words = auxv.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("8 bytes")));
        std::iter::from_fn(|| Some((words.next()?, words.next()?))).find(|pair| pair.0 == 9).expect("AT_ENTRY").1
    }

    /// Stops the core's thread in a system call that waits, changes where it goes on, and lets it go.
    fn redirect(gateway: &Gateway, change: impl FnOnce(Pid, &mut nix::libc::user_regs_struct)) {
        let thread = core_thread(gateway);
        ptrace::seize(thread, Options::empty()).expect("trace the core");
        eventually("it is in a system call", PATIENCE, || {
            ptrace::interrupt(thread).expect("stop the core");
            let stopped = waitpid(thread, Some(WaitPidFlag::__WALL)).expect("wait for the core");
            assert!(matches!(stopped, WaitStatus::PtraceEvent(..) | WaitStatus::Stopped(..)), "{stopped:?}");
            let regs = ptrace::getregs(thread).expect("its registers");
            let before = ptrace::read(thread, (regs.rip - 2) as AddressType).expect("its code");
            let is_call = before & 0xffff == SYSCALL;
            if !is_call {
                ptrace::cont(thread, None).expect("let it go on");
            }
            is_call.then_some(())
        });
        let mut regs = ptrace::getregs(thread).expect("its registers");
        change(thread, &mut regs);
        // Nothing is to be begun anew.
        regs.orig_rax = u64::MAX;
        ptrace::setregs(thread, regs).expect("set its registers");
        ptrace::detach(thread, None).expect("let it go");
    }

    fn ends_with_70(gateway: &mut Gateway, word: &str) {
        let begun = Instant::now();
        assert_eq!(gateway.wait_exit(Duration::from_mins(1)), 70);
        assert!(begun.elapsed() > Duration::from_secs(10), "{:?}", begun.elapsed());
        let line = gateway.until_logged("has stood still for 10 s");
        assert!(line.contains(word), "{line}");
    }

    #[test]
    fn a_core_that_runs_in_a_circle_ends_the_process_with_70() {
        let mut gateway = Gateway::demo(&[]);
        let entry = entry(&gateway);
        redirect(&gateway, |thread, regs| {
            let code = ptrace::read(thread, entry as AddressType).expect("its code");
            ptrace::write(thread, entry as AddressType, (code & !0xffff) | SPIN).expect("change its code");
            regs.rip = entry;
        });
        ends_with_70(&mut gateway, "running");
    }

    #[test]
    fn a_core_that_sleeps_and_is_never_woken_ends_the_process_with_70() {
        let mut gateway = Gateway::demo(&[]);
        redirect(&gateway, |_, regs| {
            regs.rip -= 2;
            regs.rax = PAUSE;
        });
        ends_with_70(&mut gateway, "asleep");
    }
}
