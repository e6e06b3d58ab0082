//! A thread that ends with its guard.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};

/// A thread at work.
pub struct Background {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts `work`, which returns soon after what it is given has become true.
    pub fn start(name: &str, work: impl FnOnce(&AtomicBool) + Send + 'static) -> io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&over);
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || work(&shared))?;
        Ok(Self { over, thread: Some(thread) })
    }

    /// Ends it.
    pub fn stop(&mut self) {
        self.over.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop();
    }
}
