//! The bus: does the name resolve, does Redis answer, may the account do what the gateway does?

use std::io::{self, Read, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::process;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evergate_proto::redis::{refusals, stranger};
use redis::{Cmd, Parser, Value, cmd};

use super::{Finding, Outcome};
use crate::bounded::{self, Failed};
use crate::config::Config;

/// `getaddrinfo` has no time limit of its own; resolv.conf's usual one is 5 seconds for each server.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for each answer of Redis.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// What Redis can since 6.2.
const WITH_COUNT: &str = "LPOP with a count";

/// What the gateway pushes and pops in the test.
const PROBE: &str = "evergate check";

/// Looks at one domain; stops at the first thing that fails, since the rest depends on it.
pub(super) fn domain(config: &Config, domain: &str) -> Vec<Finding> {
    let target = config.redis_of(domain);
    let mut findings = Vec::new();
    let addresses = match resolve(&target) {
        Ok(addresses) => addresses,
        Err(why) => {
            findings.push(Finding::fail(
                format!("bus {domain}: {target} does not resolve: {why}"),
                format!(
                    "add the name to DNS or /etc/hosts, or bus_domain_address = {{ \"{domain}\" = \"ADDRESS:PORT\" }}"
                ),
            ));
            return findings;
        }
    };
    // A numeric address is what it is.
    if target.parse::<SocketAddr>().is_err() {
        findings.push(Finding::ok(format!("bus {domain}: {target} is {}", list(&addresses))));
    }
    let mut link = match connect(&addresses, Duration::from_secs(config.bus_connect_timeout_seconds)) {
        Ok(link) => link,
        Err(why) => {
            findings.push(Finding::fail(
                format!("bus {domain}: {target} cannot be reached: {why}"),
                "start Redis there, let it listen on that address (`bind` in redis.conf), open the firewall, or correct \
                 port or bus_domain_address",
            ));
            return findings;
        }
    };
    findings.push(Finding::ok(format!("bus {domain}: reachable")));
    let sent = link.send(cmd("AUTH").arg(&config.username).arg(config.passwd.expose()));
    if let Some(what) = link.stranger() {
        findings.push(Finding::fail(
            format!("bus {domain}: {target}: {what}"),
            "let port (in opensrf_core.xml: `port` of the gateway's part), or bus_domain_address, name Redis",
        ));
        return findings;
    }
    if let Err(why) = sent.and_then(|()| link.answer()) {
        // Before 6.0 AUTH takes a password alone.
        if why.contains("wrong number of arguments") {
            findings.push(Finding::fail(
                format!("bus {domain}: Redis is older than 6.0 and knows no accounts ({why})"),
                "upgrade to 6.2 or later",
            ));
            return findings;
        }
        findings.push(Finding::fail(
            format!("bus {domain}: the account {:?} is refused: {why}", config.username),
            "compare username and passwd with Redis' ACL (`ACL LIST` as an administrator; opensrf's \
             redis-accounts.txt sets them up)",
        ));
        return findings;
    }
    findings.push(Finding::ok(format!("bus {domain}: the account {:?} is accepted", config.username)));
    findings.extend(commands(&mut link, &config.username, domain));
    findings
}

/// Pushes to and pops from a key of the check's own, and deletes it whatever happened.
fn commands(link: &mut Link, user: &str, domain: &str) -> Vec<Finding> {
    let key = format!("opensrf:client:{user}:{domain}:check:{}:{:016x}", process::id(), random());
    let steps: [(&str, Cmd, Expect); 5] = [
        ("RPUSH", cmd("RPUSH").arg(&key).arg(PROBE).arg(PROBE).arg(PROBE).take(), Expect::Int(3)),
        ("BLPOP", cmd("BLPOP").arg(&key).arg(1).take(), Expect::Popped),
        ("LPOP", cmd("LPOP").arg(&key).take(), Expect::Popped),
        (WITH_COUNT, cmd("LPOP").arg(&key).arg(128).take(), Expect::Popped),
        ("DEL", cmd("DEL").arg(&key).take(), Expect::Int(0)),
    ];
    let mut done = Vec::new();
    let mut findings = Vec::new();
    for (name, command, expect) in steps {
        match link.ask(&command) {
            Ok(value) if expect.is_met(&value) => done.push(name),
            Ok(value) => {
                findings.push(Finding::fail(
                    format!("bus {domain}: {name} on {key} answered {value:?}"),
                    "this is no plain Redis 6.2 or later: point the domain at one (LPOP takes a count since 6.2)",
                ));
                break;
            }
            Err(why) if name == WITH_COUNT && why.contains("wrong number of arguments") => {
                findings.push(Finding::warn(
                    format!("bus {domain}: Redis is older than 6.2: it has no LPOP with a count ({why})"),
                    "the gateway serves, with several BLPOPs queued in its place, which costs Redis more; upgrade to 6.2 or \
                     later when you can",
                ));
                let _ = link.ask(cmd("LPOP").arg(&key));
            }
            Err(why) => {
                findings.push(Finding::fail(
                    format!("bus {domain}: {name} on {key} is refused: {why}"),
                    remedy_for(&why, user),
                ));
                break;
            }
        }
    }
    if !findings.iter().any(|finding| matches!(finding.outcome, Outcome::Fail { .. })) {
        findings.push(Finding::ok(format!("bus {domain}: {} on a key of its own", done.join(", "))));
    } else if let Err(why) = link.ask(cmd("DEL").arg(&key)) {
        findings.push(Finding::warn(
            format!("bus {domain}: {key} could not be deleted: {why}"),
            format!("delete it as an administrator: DEL {key}"),
        ));
    }
    findings
}

/// What to do about a command that Redis refuses, in its own words `why`.
fn remedy_for(why: &str, user: &str) -> String {
    let mut codes = why.split(|c: char| !c.is_ascii_uppercase()).filter(|code| *code != "NOPERM");
    codes.find_map(refusals::known_remedy).map_or_else(|| remedy(user), str::to_owned)
}

fn remedy(user: &str) -> String {
    format!(
        "as an administrator: ACL SETUSER {user} +lpop +blpop +rpush +del ~opensrf:router:* ~opensrf:client:*, and in \
         the ACL file to keep it"
    )
}

/// What a command must answer.
enum Expect {
    Int(i64),
    /// The probe, alone or in an array.
    Popped,
}

impl Expect {
    fn is_met(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Int(wanted), Value::Int(found)) => wanted == found,
            (Self::Popped, Value::BulkString(bytes)) => bytes == PROBE.as_bytes(),
            (Self::Popped, Value::Array(items)) => items.last().is_some_and(|last| self.is_met(last)),
            _ => false,
        }
    }
}

/// One connection, on which each answer has a time limit. Only the encoder and the parser of the crate are used: its
/// connection sends `CLIENT SETINFO`, which the stock ACL refuses and Redis would log.
struct Link {
    stream: TcpStream,
    parser: Parser,
}

/// Reads again where a read was interrupted, as the end of the check's own ring does to a read soon after it.
struct Uninterrupted<'a>(&'a mut TcpStream);

impl Read for Uninterrupted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

impl Link {
    fn ask(&mut self, command: &Cmd) -> Result<Value, String> {
        self.send(command)?;
        self.answer()
    }

    fn send(&mut self, command: &Cmd) -> Result<(), String> {
        self.stream.write_all(&command.get_packed_command()).map_err(|why| why.to_string())
    }

    /// What answers, where that is no Redis.
    fn stranger(&self) -> Option<String> {
        let mut first = [0; 256];
        let count = loop {
            match self.stream.peek(&mut first) {
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                peeked => break peeked.ok()?,
            }
        };
        let received = &first[..count];
        // It may have broken the connection off behind what it said.
        let port = self.stream.peer_addr().map_or(0, |peer| peer.port());
        (!stranger::may_be_redis(received)).then(|| stranger::describe(received, port))
    }

    fn answer(&mut self) -> Result<Value, String> {
        match self.parser.parse_value(Uninterrupted(&mut self.stream)) {
            Ok(Value::ServerError(why)) => {
                Err(why.details().map_or_else(|| why.code().to_owned(), |details| format!("{} {details}", why.code())))
            }
            Ok(value) => Ok(value),
            Err(why) => Err(why.to_string()),
        }
    }
}

fn connect(addresses: &[SocketAddr], timeout: Duration) -> Result<Link, String> {
    let mut last = "no address".to_owned();
    for address in addresses {
        let stream = TcpStream::connect_timeout(address, timeout).and_then(|stream| {
            stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
            stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        match stream {
            Ok(stream) => return Ok(Link { stream, parser: Parser::new() }),
            Err(why) => last = format!("{address}: {why}"),
        }
    }
    Err(last)
}

/// The resolver may take minutes: who is late is left behind, and ends with the process.
fn resolve(target: &str) -> Result<Vec<SocketAddr>, String> {
    let name = target.to_owned();
    let found = bounded::within(RESOLVE_TIMEOUT, move || name.to_socket_addrs().map(Iterator::collect::<Vec<_>>));
    match found {
        Ok(Ok(addresses)) if addresses.is_empty() => Err("the name has no address".to_owned()),
        Ok(found) => found.map_err(|why| why.to_string()),
        Err(Failed::Late(limit)) => Err(format!("no answer within {} seconds", limit.as_secs())),
        Err(failed) => Err(failed.to_string()),
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    let mut texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.dedup();
    texts.join(", ")
}

/// 64 bits that two checks at once do not share.
fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
