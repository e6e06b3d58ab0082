//! Signals: handlers that stand before anything else, one thread that receives, and what was asked for. What the process
//! itself finds that it cannot go on for is asked for here, too.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::{flag, low_level::pipe};

/// What signals have asked for. A signal that comes before anybody waits is kept.
#[derive(Debug)]
pub struct Signals {
    drain: Arc<AtomicBool>,
    cancel: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    /// Why the process cannot go on, though its cores can.
    failure: Arc<OnceLock<&'static str>>,
    wake: UnixStream,
    waker: Arc<UnixStream>,
}

/// Ends a wait of the main thread, from any thread, this one or the next.
pub type Wake = dyn Fn() + Send + Sync;

/// Asks for a stop where the process cannot do what it was started for, from any thread.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<OnceLock<&'static str>>);

impl Stopper {
    /// The process is to stop, and to end with [`Exit::Host`](super::Exit::Host). Of several reasons the first counts.
    pub fn fail(&self, why: &'static str) {
        let _ = self.0.set(why);
    }
}

impl Signals {
    /// Installs the handlers. To be called before any thread is started.
    pub fn install() -> io::Result<Self> {
        let (wake, woken) = UnixStream::pair()?;
        let signals = Self {
            drain: Arc::default(),
            cancel: Arc::default(),
            stop: Arc::default(),
            reload: Arc::default(),
            failure: Arc::default(),
            waker: Arc::new(woken.try_clone()?),
            wake,
        };
        // Whoever writes there waits for nobody: a full pipe wakes as well as a byte more.
        woken.set_nonblocking(true)?;
        let all = [
            (SIGUSR1, &signals.drain),
            (SIGUSR2, &signals.cancel),
            (SIGTERM, &signals.stop),
            (SIGINT, &signals.stop),
            (SIGHUP, &signals.reload),
        ];
        for (signal, asked) in all {
            flag::register(signal, Arc::clone(asked))?;
            pipe::register(signal, woken.try_clone()?)?;
        }
        Ok(signals)
    }

    /// Waits for a signal, but not longer than `longest`.
    pub fn wait(&self, longest: Duration) {
        let _ = self.wake.set_read_timeout(Some(longest.max(Duration::from_millis(1))));
        let mut bytes = [0; 64];
        let _ = (&self.wake).read(&mut bytes);
    }

    /// For whoever has something for the main thread.
    pub fn waker(&self) -> Arc<Wake> {
        let waker = Arc::clone(&self.waker);
        // A full pipe wakes as well.
        Arc::new(move || drop((&*waker).write(&[0])))
    }

    /// For whoever may have to ask for a stop.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.failure))
    }

    /// Why the process cannot go on, if it cannot.
    pub fn failure(&self) -> Option<&'static str> {
        self.failure.get().copied()
    }

    /// SIGUSR1 came since the last call.
    pub fn take_drain(&self) -> bool {
        self.drain.swap(false, SeqCst)
    }

    /// SIGUSR2 came since the last call.
    pub fn take_cancel(&self) -> bool {
        self.cancel.swap(false, SeqCst)
    }

    /// SIGTERM or SIGINT came since the last call.
    pub fn take_stop(&self) -> bool {
        self.stop.swap(false, SeqCst)
    }

    /// SIGHUP came since the last call.
    pub fn take_reload(&self) -> bool {
        self.reload.swap(false, SeqCst)
    }
}

/// Runs `start`, which starts threads, with the signals blocked: the threads inherit that, and only the caller receives.
pub fn blocked<T>(start: impl FnOnce() -> T) -> T {
    let ours: SigSet =
        [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
    let before = ours.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK);
    let started = start();
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
    started
}
