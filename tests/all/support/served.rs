//! A process that serves, as far as it can be seen from its control socket: the real server of that socket, in this process, and a test that
//! plays its main thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use evergate::admin;
use evergate::process::control::{Claim, DrainBegun, Request, Server, ServerOptions};
use evergate::process::logs::Figures;
use evergate::process::shared::Shared;
use evergate_proto::lifecycle::Phase;

use super::process::{Process, binary};
use super::{Folder, PATIENCE, eventually};

/// What the tests answer a drain with.
pub const BEGUN: DrainBegun =
    DrainBegun { already: false, port_closes_in_seconds: 0.0, seconds_left: 120.0, closed_before: 0 };

/// All of it.
pub struct Served {
    /// The folder of its socket.
    pub folder: Folder,
    /// Its phase and its counts.
    pub shared: Arc<Shared>,
    /// None once it has ended.
    server: Option<Server>,
}

impl Served {
    /// One that gives a successor half a minute.
    pub fn start() -> Self {
        Self::with(Duration::from_secs(30))
    }

    /// One that gives a successor so much time.
    pub fn with(handover_max: Duration) -> Self {
        let folder = Folder::new();
        let shared = Arc::new(Shared::new(&[0, 1]));
        shared.enter(Phase::Serving);
        let status = status_line(&shared);
        let path = folder.path().join("control");
        let options = ServerOptions {
            path,
            handover_max,
            status: Box::new(status),
            shared: Arc::clone(&shared),
            wake: Arc::new(|| ()),
        };
        let it = Self { folder, shared, server: Some(Server::start(options).expect("a server")) };
        it.take_name();
        it
    }

    /// Claims the name that all processes use, unless another has it.
    pub fn take_name(&self) {
        self.server.as_ref().expect("it has not ended").take_name(Claim::IfFree);
    }

    /// Its socket, by the name that all processes use.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    /// All that its main thread is asked by now.
    pub fn requests(&self) -> Vec<Request> {
        self.server.as_ref().expect("it has not ended").take_requests()
    }

    /// The one thing that its main thread is asked next.
    pub fn request(&self) -> Request {
        let mut requests = eventually("a request", PATIENCE, || Some(self.requests()).filter(|some| !some.is_empty()));
        let request = requests.remove(0);
        assert!(requests.is_empty(), "it is asked more: {requests:?}");
        request
    }

    /// Begins to drain, with so many clients on each core, when it is asked to.
    pub fn drain_when_asked(&self, clients: u64) {
        match self.request() {
            Request::Drain { reply, .. } => {
                for core in self.shared.cores.iter() {
                    core.counts.idle.store(clients, SeqCst);
                }
                let now_ms = self.shared.now_ms();
                assert!(self.shared.drain(now_ms, now_ms + 120_000), "it is the first");
                reply.answer(Ok(BEGUN));
            }
            other => panic!("{other:?}"),
        }
    }

    /// Ends, and says so to whoever watches.
    pub fn end(&mut self, exit_code: u8) {
        self.server.take().expect("it has not ended yet").end(exit_code);
    }

    /// A command of ours that speaks to it.
    pub fn command(&self, arguments: &[&str]) -> Process {
        let mut command = binary();
        command.args(arguments).arg("--control").arg(self.path()).current_dir(self.folder.path());
        Process::start("evergate-control", &mut command, self.folder.path())
    }
}

/// What the control socket says of a process with these counts.
pub fn status_line(shared: &Arc<Shared>) -> impl Fn() -> String + Send + Sync + use<> {
    admin::status_line(Arc::clone(shared), "public.localhost".to_owned(), Box::new(Figures::default))
}
