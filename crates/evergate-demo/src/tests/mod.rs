//! Helpers: a bare Redis client that sees every byte, a real Redis where there is one, and a caller of services.

mod server;
mod services;
mod unit;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use monoio::io::{AsyncBufReadExt as _, AsyncReadRentExt as _, AsyncWriteRentExt as _, BufReader};
use monoio::net::TcpStream;
use monoio::time::{Instant, sleep, timeout};
use serde_json::{Value, json};

use super::account::{Access, User};
use super::link::{Account, Popper, Pusher};
use super::{Demo, ServiceOptions};

/// Bound on every wait of a test.
const WAIT: Duration = Duration::from_secs(10);
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// OpenSRF's stock ACL, with test passwords.
const STOCK_ACL: [&str; 4] = [
    "ACL SETUSER opensrf reset on >opensrf-test -@all +lpop +blpop +rpush +del ~opensrf:router:* ~opensrf:service:* ~opensrf:client:*",
    "ACL SETUSER router reset on >router-test -@all +lpop +blpop +rpush +del ~opensrf:router:* ~opensrf:service:* ~opensrf:client:*",
    "ACL SETUSER gateway reset on >gateway-test -@all +lpop +blpop +rpush +del ~opensrf:router:* ~opensrf:client:*",
    "ACL SETUSER default resetpass on >default-test",
];

fn stock_users() -> Vec<User> {
    let mut users = User::stock("gateway-test", "router-test", "opensrf-test");
    users.push(User { name: "default".into(), password: "default-test".into(), access: Access::Full });
    users
}

/// A connection that shows replies as the bytes they are.
struct Bare(BufReader<TcpStream>);

impl Bare {
    async fn connect(addr: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(addr).await.unwrap()))
    }

    async fn gateway(addr: SocketAddr) -> Self {
        let mut bare = Self::connect(addr).await;
        assert_eq!(bare.call("AUTH gateway gateway-test").await, "+OK\r\n");
        bare
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref().to_vec()).await.0.unwrap();
    }

    /// Sends one inline command and reads one reply.
    async fn call(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n")).await;
        self.reply().await
    }

    /// One whole reply; empty at the connection's end.
    async fn reply(&mut self) -> String {
        let mut reply = Vec::new();
        let mut missing = 1;
        while missing > 0 {
            let start = reply.len();
            let read = timeout(WAIT, self.0.read_until(b'\n', &mut reply)).await.expect("a reply in time");
            if read.unwrap_or(0) == 0 {
                break;
            }
            missing -= 1;
            let number: i64 = String::from_utf8_lossy(&reply[start + 1..]).trim().parse().unwrap_or(-1);
            let number = usize::try_from(number);
            match (reply[start], number) {
                (b'$', Ok(length)) => {
                    let (read, text) = self.0.read_exact(vec![0; length + 2]).await;
                    read.unwrap();
                    reply.extend(text);
                }
                (b'*', Ok(length)) => missing += length,
                (b'%', Ok(length)) => missing += 2 * length,
                _ => {}
            }
        }
        String::from_utf8_lossy(&reply).into_owned()
    }
}

/// A real Redis under the stock ACL, killed when the test ends.
struct RealRedis {
    child: Child,
    addr: SocketAddr,
}

impl Drop for RealRedis {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl RealRedis {
    /// `None`, with a note, where there is no redis-server to run.
    async fn start() -> Option<Self> {
        let addr = TcpListener::bind(LOOPBACK).unwrap().local_addr().unwrap();
        Self::start_at(addr).await
    }

    async fn start_at(addr: SocketAddr) -> Option<Self> {
        let child = Command::new("redis-server")
            .args(["--port", &addr.port().to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--dir", "/tmp"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            eprintln!("skipped: no redis-server on PATH");
            return None;
        };
        let redis = Self { child, addr };
        let deadline = Instant::now() + WAIT;
        while TcpStream::connect(addr).await.is_err() {
            assert!(Instant::now() < deadline, "redis-server does not listen");
            sleep(Duration::from_millis(10)).await;
        }
        let mut bare = Bare::connect(addr).await;
        for line in STOCK_ACL {
            assert_eq!(bare.call(line).await, "+OK\r\n");
        }
        Some(redis)
    }
}

/// Options for services on one domain, under the stock ACL's test passwords.
fn service_options(redis: SocketAddr) -> ServiceOptions {
    ServiceOptions {
        redis: redis.to_string(),
        domain: "public.localhost".into(),
        service_redis: None,
        service_domain: None,
        router_name: "router".into(),
        router_user: "router".into(),
        router_password: "router-test".into(),
        service_user: "opensrf".into(),
        service_password: "opensrf-test".into(),
        keepalive_seconds: 1,
        workers: 4,
    }
}

/// What the gateway is to the services.
struct Caller {
    pusher: Rc<Pusher>,
    popper: Popper,
    address: String,
}

impl Caller {
    async fn new(redis: SocketAddr, password: &str) -> Self {
        let account = Account {
            host: redis.ip().to_string(),
            port: redis.port(),
            user: "gateway".into(),
            password: password.into(),
        };
        let random = super::random_hex(8).unwrap();
        let address = format!("opensrf:client:gateway:public.localhost:test:1:{random}");
        let popper = Popper::connect(&account).await.unwrap();
        Self { pusher: Pusher::new(account), popper, address }
    }

    async fn of(demo: &Demo) -> Self {
        Self::new(demo.address(), demo.gateway_password()).await
    }

    /// An envelope from this caller.
    fn envelope(&self, to: &str, thread: &str, messages: &str) -> String {
        let from = &self.address;
        format!(r#"{{"to":"{to}","from":"{from}","thread":"{thread}","osrf_xid":"x-{thread}","body":[{messages}]}}"#)
    }

    /// Sends messages of one thread: to the router for a service's name, or to a worker's address.
    async fn send(&self, to: &str, thread: &str, messages: &str) {
        let worker = to.starts_with("opensrf:client:");
        let key = if worker { to } else { "opensrf:router:router:public.localhost" };
        let to = if worker { to.to_owned() } else { format!("opensrf:service:_:_:{to}") };
        let text = self.envelope(&to, thread, messages);
        self.pusher.push(&[(key, text.as_bytes())]).await.unwrap();
    }

    async fn text(&mut self) -> String {
        let message = self.popper.pop(&self.address, WAIT, 1).await.unwrap().pop().expect("a reply in time");
        String::from_utf8(message).unwrap()
    }

    async fn reply(&mut self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    /// Every message up to and including the STATUS of `code`, as `(code, content)`.
    async fn until(&mut self, code: u64) -> Vec<(u64, Value)> {
        let mut seen = Vec::new();
        loop {
            for (status, message) in codes(&self.reply().await) {
                seen.push((status, message));
            }
            if seen.iter().any(|&(status, _)| status == code) {
                return seen;
            }
        }
    }
}

/// The messages of an envelope as `(code, content)`.
fn codes(envelope: &Value) -> Vec<(u64, Value)> {
    let of = |message: &Value| {
        let payload = &message["__p"]["payload"]["__p"];
        let code = &payload["statusCode"];
        let number = code.as_u64().or_else(|| code.as_str()?.parse().ok()).expect("a status code");
        (number, payload["content"].clone())
    };
    envelope["body"].as_array().expect("an array").iter().map(of).collect()
}

fn message(kind: &str, trace: u32) -> String {
    json!({"__c": "osrfMessage", "__p": {"threadTrace": trace, "type": kind, "locale": "en-US", "tz": "America/New_York",
        "ingress": "ws-translator-v2", "api_level": 1, "payload": "null"}})
    .to_string()
}

/// A REQUEST; `params` is the array's text.
fn request(method: &str, params: &str, trace: u32) -> String {
    format!(
        r#"{{"__c":"osrfMessage","__p":{{"threadTrace":"{trace}","locale":"en-US","tz":"America/New_York","ingress":"ws-translator-v2","api_level":1,"type":"REQUEST","payload":{{"__c":"osrfMethod","__p":{{"method":"{method}","params":{params}}}}}}}}}"#
    )
}
