//! What SIGHUP asks for, on a thread of its own: files are opened and read here, while the main thread hears signals.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::logs::LogControl;
use super::settings::Settings;
use super::systemd;
use crate::bounded;
use crate::config::{self, Loaded};

/// The way to the thread.
#[derive(Debug)]
pub struct Reloader {
    asked: SyncSender<()>,
}

impl Reloader {
    /// Starts the thread, which waits to be asked.
    pub fn start(loaded: Loaded, logs: LogControl, settings: Arc<Settings>) -> io::Result<Self> {
        let (asked, asks) = sync_channel(1);
        bounded::spawn("reload", move || run(&asks, &loaded, &logs, &settings))?;
        Ok(Self { asked })
    }

    /// Asks for a reload, without waiting for it. Who asks while one waits its turn has asked for that one.
    pub fn ask(&self) {
        let _ = self.asked.try_send(());
    }
}

fn run(asks: &Receiver<()>, loaded: &Loaded, logs: &LogControl, settings: &Settings) {
    while asks.recv().is_ok() {
        if let Err(error) = logs.reopen() {
            tracing::error!("log: {error}");
        }
        read_again(loaded, logs, settings);
        systemd::tell_surely("READY=1");
    }
}

/// Reads the configuration again, and takes what may change.
fn read_again(loaded: &Loaded, logs: &LogControl, settings: &Settings) {
    let reloaded = match config::reload(loaded) {
        Ok(reloaded) => reloaded,
        Err(errors) => return errors.iter().for_each(|error| tracing::error!("config: nothing was changed: {error}")),
    };
    logs.set_level(reloaded.loglevel);
    for warning in &reloaded.warnings {
        tracing::warn!("{warning}");
    }
    for name in &reloaded.needs_restart {
        tracing::warn!("config: {name} has changed; that needs a restart");
    }
    match settings.reload(&reloaded.origins, &reloaded.log_protect, &reloaded.trusted_proxies) {
        Ok(()) => tracing::info!("config: log level, origins, log_protect and trusted_proxies were read again"),
        Err(error) => tracing::error!("config: nothing was changed: {error}"),
    }
}
