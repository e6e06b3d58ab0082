//! The demo's router and services as a process of their own, on a real Redis.

use std::time::Duration;

use super::gateway::DOMAIN;
use super::process::{Process, binary};
use super::redis::Redis;
use super::{Folder, eventually};

/// `evergate demo-services` as a child, ready.
pub struct Services {
    /// Declared first: the process is killed before its folder goes.
    _process: Process,
    _folder: Folder,
}

impl Services {
    /// Router and services on one domain.
    pub fn start(redis: &Redis, flags: &[&str]) -> Self {
        let (mut process, folder) = Self::spawn(&redis.address(), "test", flags);
        eventually("demo-services print their line", Duration::from_secs(20), || {
            assert_eq!(process.exited(), None, "demo-services ended:\n{}{}", process.output(), process.log());
            process.output().contains('\n').then_some(())
        });
        Self { _process: process, _folder: folder }
    }

    /// The process alone, with passwords that end in `secret`; waits for nothing.
    pub fn spawn(redis: &str, secret: &str, flags: &[&str]) -> (Process, Folder) {
        let folder = Folder::new();
        let password = |account: &str| folder.write(account, &format!("{account}-{secret}\n"));
        let mut command = binary();
        command.args([
            "demo-services",
            "--redis",
            redis,
            "--domain",
            DOMAIN,
            "--router-user",
            "router",
            "--service-user",
            "opensrf",
        ]);
        command.arg("--router-password-file").arg(password("router"));
        command.arg("--service-password-file").arg(password("opensrf"));
        command.args(flags);
        (Process::start("evergate-demo-services", &mut command, folder.path()), folder)
    }
}
