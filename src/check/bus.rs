//! The bus: does the name resolve, does Redis answer, may the account do what the gateway does?

use std::net::IpAddr;
use std::process;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evergate_proto::redis::dial::Place;
use evergate_proto::redis::refusals;
use redis::{Cmd, Value, cmd};

use super::{Finding, Outcome};
use crate::bounded::{self, Failed};
use crate::bus::blocking::{Failure, Link, Patience};
use crate::bus::tls::Tls;
use crate::config::{Config, RedisPlace};
use crate::process::resolver;

/// `getaddrinfo` has no time limit of its own; resolv.conf's usual one is 5 seconds for each server.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for each answer of Redis.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Time for all of them together, beside that for the connection.
const ANSWERS_MAX: Duration = Duration::from_secs(5);

/// What Redis can since 6.2.
const WITH_COUNT: &str = "LPOP with a count";

/// What the gateway pushes and pops in the test.
const PROBE: &str = "evergate check";

/// Looks at one domain; stops at the first thing that fails, since the rest depends on it.
pub(super) fn domain(config: &Config, domain: &str) -> Vec<Finding> {
    let target = config.redis_of(domain);
    let mut findings = Vec::new();
    let places = match resolve(&target) {
        Ok(places) => places,
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
    if target.host_port().is_some_and(|(host, _)| host.parse::<IpAddr>().is_err()) {
        findings.push(Finding::ok(format!("bus {domain}: {target} is {}", list(&places))));
    }
    let connect_max = Duration::from_secs(config.bus_connect_timeout_seconds);
    let patience = Patience { connect_max, answer_max: ANSWER_MAX, whole_max: connect_max + ANSWERS_MAX };
    let connected = Tls::of(config).and_then(|tls| Link::connect(&target, &places, tls.as_ref(), patience));
    let mut link = match connected {
        Ok(link) => link,
        Err(why) => {
            findings.push(unreachable(domain, &target, &why));
            return findings;
        }
    };
    let answered = link.ask(cmd("AUTH").arg(&config.username).arg(config.passwd.expose()));
    if link.stranger().is_none()
        && let Err(Failure::Broken(why)) = &answered
    {
        findings.push(unreachable(domain, &target, why));
        return findings;
    }
    findings.push(Finding::ok(format!("bus {domain}: reachable")));
    if let Some(what) = link.stranger() {
        findings.push(Finding::fail(
            format!("bus {domain}: {target}: {what}"),
            "let port (in opensrf_core.xml: `port` of the gateway's part), or bus_domain_address, name Redis",
        ));
        return findings;
    }
    if let Err(why) = answered.map_err(|why| why.to_string()) {
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

/// Why no Redis answers there. What is known of TLS brings its remedy along.
fn unreachable(domain: &str, target: &RedisPlace, why: &str) -> Finding {
    let (why, known) = why.split_once("; ").unwrap_or((why, ""));
    let remedy = match target {
        _ if !known.is_empty() => known,
        RedisPlace::Unix(_) => {
            "start Redis there, let redis.conf name that path (`unixsocket`) and let this account use it (`unixsocketperm 770`, \
             and its group), or correct bus_domain_address"
        }
        _ => {
            "start Redis there, let it listen on that address (`bind` in redis.conf), open the firewall, or correct port or \
             bus_domain_address"
        }
    };
    Finding::fail(format!("bus {domain}: {target} cannot be reached: {why}"), remedy)
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
        match link.ask(&command).map_err(|why| why.to_string()) {
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

/// The resolver may take minutes: who is late is left behind, and ends with the process.
fn resolve(named: &RedisPlace) -> Result<Vec<Place>, String> {
    let name = named.clone();
    match bounded::within(RESOLVE_TIMEOUT, move || resolver::resolve(&name)) {
        Ok(Ok(places)) if places.is_empty() => Err("the name has no address".to_owned()),
        Ok(found) => found.map_err(|why| why.to_string()),
        Err(Failed::Late(limit)) => Err(format!("no answer within {} seconds", limit.as_secs())),
        Err(failed) => Err(failed.to_string()),
    }
}

fn list(places: &[Place]) -> String {
    let texts: Vec<String> = places.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

/// 64 bits that two checks at once do not share.
fn random() -> u64 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
