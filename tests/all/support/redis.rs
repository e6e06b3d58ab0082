//! A real `redis-server` under `OpenSRF`'s own ACL, to be killed, restarted and stopped.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use redis::Connection;

use super::process::Process;
use super::{Folder, eventually, free_port};

/// `OpenSRF`'s accounts and passwords, applied through the default account as `OpenSRF`'s own installation does.
const ACL: &str = include_str!("../../redis-acl.txt");

/// One server, that of `BUS_SERVER` where it is set, on a port of its own, empty at every start.
pub struct Redis {
    port: u16,
    process: Process,
    /// Words of its command line beside those that all have.
    options: Vec<String>,
    folder: Folder,
}

impl Redis {
    /// Starts one and applies the ACL; another port where someone was faster.
    pub fn start() -> Self {
        Self::start_with(Folder::new(), &[])
    }

    /// Starts one in `folder` with more options: `--unixsocket`, say, and a path.
    pub fn start_with(folder: Folder, options: &[&str]) -> Self {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        for _ in 0..5 {
            let port = free_port();
            let mut process = spawn(port, &options, folder.path());
            if configure(port, &mut process) {
                return Self { port, process, options, folder };
            }
        }
        panic!("redis-server does not start on any of five ports");
    }

    /// Starts a server on a port chosen before.
    pub fn start_on(port: u16) -> Self {
        let folder = Folder::new();
        let mut process = spawn(port, &[], folder.path());
        assert!(configure(port, &mut process), "redis-server does not start on port {port}");
        Self { port, process, options: Vec::new(), folder }
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends the server as a crash would: what it held is lost.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts an empty one on the same port.
    pub fn restart(&mut self) {
        self.kill();
        eventually("redis-server back on its port", Duration::from_secs(10), || {
            self.process = spawn(self.port, &self.options, self.folder.path());
            configure(self.port, &mut self.process).then_some(())
        });
    }

    /// SIGSTOP: connections stay, nothing is answered.
    pub fn freeze(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// Takes its folder away: nothing can be saved any more.
    pub fn lose_disk(&self) {
        std::fs::remove_dir_all(self.folder.path()).expect("its folder");
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.process.signal(Signal::SIGCONT);
    }

    /// A connection of one of the accounts `default`, `gateway`, `router`, `opensrf`.
    pub fn client(&self, account: &str) -> Connection {
        connect(self.port, Some(account)).unwrap_or_else(|error| panic!("account {account} on Redis: {error}"))
    }

    /// One command through the default account.
    pub fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        query(&mut self.client("default"), words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// The lines of CLIENT LIST that belong to one account.
    pub fn connections_of(&self, account: &str) -> Vec<String> {
        let list: String = self.command(&["CLIENT", "LIST"]);
        let word = format!("user={account}");
        list.lines().filter(|line| line.split(' ').any(|field| field == word)).map(str::to_owned).collect()
    }

    /// The keys that match a pattern, sorted.
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        let mut keys: Vec<String> = self.command(&["KEYS", pattern]);
        keys.sort();
        keys
    }

    /// How many elements a list holds.
    pub fn length(&self, key: &str) -> usize {
        self.command(&["LLEN", key])
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // A stopped process does not die of anything but SIGKILL, which `Process` sends; it need not go on first.
        self.process.kill();
    }
}

fn spawn(port: u16, options: &[String], folder: &Path) -> Process {
    let mut command = Command::new(std::env::var_os("BUS_SERVER").unwrap_or_else(|| "redis-server".into()));
    command.args([
        "--port",
        &port.to_string(),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--daemonize",
        "no",
    ]);
    command.args(["--maxclients", "4000", "--dir"]).arg(folder).args(options);
    Process::start("redis-server", &mut command, folder)
}

/// Waits until it answers and applies the ACL; false where the process ended instead (its port was taken).
fn configure(port: u16, process: &mut Process) -> bool {
    let connection = eventually("redis-server answers", Duration::from_secs(10), || match process.exited() {
        Some(_) => Some(None),
        None => connect(port, None).ok().map(Some),
    });
    let Some(mut connection) = connection else { return false };
    for line in ACL.lines().filter(|line| !line.trim().is_empty()) {
        let words: Vec<&str> = line.split_whitespace().map(|word| if word == "\"\"" { "" } else { word }).collect();
        query::<()>(&mut connection, &words).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    process.exited().is_none()
}

fn connect(port: u16, account: Option<&str>) -> redis::RedisResult<Connection> {
    let who = account.map_or(String::new(), |name| format!("{name}:{name}-test@"));
    let client = redis::Client::open(format!("redis://{who}127.0.0.1:{port}/"))?;
    let connection = client.get_connection_with_timeout(Duration::from_secs(5))?;
    connection.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(connection)
}

fn query<T: redis::FromRedisValue>(connection: &mut Connection, words: &[&str]) -> redis::RedisResult<T> {
    let mut command = redis::cmd(words[0]);
    for word in &words[1..] {
        command.arg(*word);
    }
    command.query(connection)
}

/// The support code alone: what the other tests take for granted.
mod promises {
    use super::*;

    #[test]
    fn the_gateway_account_may_do_what_the_stock_acl_says_and_nothing_else() {
        let redis = Redis::start();
        let mut gateway = redis.client("gateway");
        assert_eq!(
            query::<i64>(&mut gateway, &["RPUSH", "opensrf:router:router:public.localhost", "x"]).expect("RPUSH"),
            1
        );
        assert_eq!(
            query::<Vec<String>>(&mut gateway, &["LPOP", "opensrf:router:router:public.localhost", "9"]).expect("LPOP"),
            ["x"]
        );
        for refused in
            [&["PING"][..], &["LLEN", "opensrf:client:a"], &["RPUSH", "opensrf:service:_:_:opensrf.math", "x"]]
        {
            let error = query::<redis::Value>(&mut gateway, refused).expect_err("refused by the ACL");
            assert!(error.to_string().contains("NOPERM") || error.code() == Some("NOPERM"), "{refused:?}: {error}");
        }
        assert_eq!(redis.connections_of("gateway").len(), 1);
    }

    #[test]
    fn a_killed_redis_comes_back_empty_on_its_port_and_a_frozen_one_goes_on() {
        let mut redis = Redis::start();
        let address = redis.address();
        redis.command::<i64>(&["RPUSH", "opensrf:client:x", "1"]);
        redis.restart();
        assert_eq!((redis.address(), redis.keys("*").len()), (address, 0));
        let mut connection = redis.client("opensrf");
        redis.freeze();
        connection.set_read_timeout(Some(Duration::from_millis(200))).expect("a time-out");
        query::<i64>(&mut connection, &["RPUSH", "opensrf:client:x", "1"]).expect_err("nobody answers");
        redis.thaw();
        assert_eq!(redis.length("opensrf:client:x"), 1);
    }
}
