//! What the tests share: a real Redis, the real gateway, the demo's services, WebSocket clients that are not ours, and a worker on the bus.
//! Nothing here sleeps to synchronise: `eventually` waits for a condition, with a bound. Whatever was started is killed by its own pid when its
//! guard drops, also when a test panics.

pub mod activity;
pub mod authority;
pub mod balancer;
pub mod bus;
pub mod chromium;
pub mod client;
pub mod devtools;
pub mod fifo;
pub mod gateway;
#[cfg(feature = "load")]
pub mod load;
pub mod manager;
pub mod other_bus;
pub mod other_gateway;
pub mod place;
pub mod process;
pub mod raw;
pub mod redis;
pub mod rush;
pub mod served;
pub mod services;
pub mod site;
pub mod slow;
#[cfg(feature = "load")]
pub mod tls_front;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// How long an ordinary answer may take on two busy cores, before a test calls it lost.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Asks again and again until there is an answer; panics with `what` after `bound`.
pub fn eventually<T>(what: &str, bound: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + bound;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < end, "{what}: not within {bound:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The same for a condition.
pub fn until(what: &str, bound: Duration, mut holds: impl FnMut() -> bool) {
    eventually(what, bound, || holds().then_some(()));
}

/// Tells threads to stop at its end, also where that is a failed test's: a scope waits for its threads.
pub struct StopsAtEnd<'a>(pub &'a AtomicBool);

impl Drop for StopsAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A Redis, a gateway on it, a client of that, and a worker of the test's own.
pub fn trio(flags: &[&str]) -> (redis::Redis, gateway::Gateway, client::Client, bus::Responder) {
    let redis = redis::Redis::start();
    let gateway = gateway::Gateway::serve(&redis, flags);
    let (client, bus) = (client::Client::connect(&gateway), bus::Responder::new(&redis));
    (redis, gateway, client, bus)
}

/// Serves each connection in a thread of its own, as long as the test runs: where.
pub fn serve(each: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let each = each.clone();
            std::thread::spawn(move || each(stream));
        }
    });
    address
}

/// A number that no other call in this process returned, for names.
pub fn unique() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A loopback port that nobody listens on. Outside the kernel's ephemeral range, so that no outgoing connection takes it before its owner binds
/// it; another test may, and whoever binds it tries again with the next.
pub fn free_port() -> u16 {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
    let start = clock.wrapping_mul(31).wrapping_add(std::process::id().wrapping_mul(7919)).wrapping_add(unique() * 101);
    (0..20_000_u32)
        .map(|step| 11_000 + u16::try_from((start.wrapping_add(step)) % 20_000).unwrap_or(0))
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("no free port on 127.0.0.1")
}

/// A folder of one test's own, removed with its guard.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes it under the system's temporary folder.
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("evergate-test-{}-{}", std::process::id(), unique()));
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).expect("a temporary folder");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file in it and says where.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a file in the test's folder");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// A small random source with a printed seed (`EVERGATE_SEED` takes it back).
pub struct Random(u64);

impl Random {
    /// Seeds it from the environment or the clock, and prints the seed.
    pub fn new() -> Self {
        let seed = std::env::var("EVERGATE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(|| {
            SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(1, |since| since.as_secs() ^ u64::from(since.subsec_nanos()) << 20)
        });
        println!("EVERGATE_SEED={seed}");
        Self(seed | 1)
    }

    /// One stream of numbers for each thread of a test.
    pub fn fork(&mut self) -> Self {
        Self(self.below(u64::MAX) | 1)
    }

    /// A number below `bound` (splitmix64).
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}
