//! The commands: which exist, who may call them, what they do. No I/O.

use std::fmt::Write as _;
use std::rc::Rc;

use super::account::{Access, User};
use super::keyspace::Keyspace;
use super::resp::{Replies, Version, integer};

/// Every command of Redis 7.0 as `name:arity`, arity as in its COMMAND reply (negative = at least): a client is told
/// "unknown command", "wrong number of arguments" or NOPERM exactly where Redis would tell it.
const COMMANDS: &str = "acl:-2 append:3 asking:1 auth:-2 bgrewriteaof:1 bgsave:-1 bitcount:-2 bitfield:-2 bitfield_ro:-2 bitop:-4 \
    bitpos:-3 blmove:6 blmpop:-5 blpop:-3 brpop:-3 brpoplpush:4 bzmpop:-5 bzpopmax:-3 bzpopmin:-3 client:-2 \
    cluster:-2 command:-1 config:-2 copy:-3 dbsize:1 debug:-2 decr:2 decrby:3 del:-2 discard:1 dump:2 echo:2 eval:-3 \
    eval_ro:-3 evalsha:-3 evalsha_ro:-3 exec:1 exists:-2 expire:-3 expireat:-3 expiretime:2 failover:-1 fcall:-3 \
    fcall_ro:-3 flushall:-1 flushdb:-1 function:-2 geoadd:-5 geodist:-4 geohash:-2 geopos:-2 georadius:-6 \
    georadius_ro:-6 georadiusbymember:-5 georadiusbymember_ro:-5 geosearch:-7 geosearchstore:-8 get:2 getbit:3 \
    getdel:2 getex:-2 getrange:4 getset:3 hdel:-3 hello:-1 hexists:3 hget:3 hgetall:2 hincrby:4 hincrbyfloat:4 \
    hkeys:2 hlen:2 hmget:-3 hmset:-4 hrandfield:-2 hscan:-3 hset:-4 hsetnx:4 hstrlen:3 hvals:2 incr:2 incrby:3 \
    incrbyfloat:3 info:-1 keys:2 lastsave:1 latency:-2 lcs:-3 lindex:3 linsert:5 llen:2 lmove:5 lmpop:-4 lolwut:-1 \
    lpop:-2 lpos:-3 lpush:-3 lpushx:-3 lrange:4 lrem:4 lset:4 ltrim:4 memory:-2 mget:-2 migrate:-6 module:-2 \
    monitor:1 move:3 mset:-3 msetnx:-3 multi:1 object:-2 persist:2 pexpire:-3 pexpireat:-3 pexpiretime:2 pfadd:-2 \
    pfcount:-2 pfdebug:3 pfmerge:-2 pfselftest:1 ping:-1 psetex:4 psubscribe:-2 psync:-3 pttl:2 publish:3 pubsub:-2 \
    punsubscribe:-1 quit:-1 randomkey:1 readonly:1 readwrite:1 rename:3 renamenx:3 replconf:-1 replicaof:3 reset:1 \
    restore:-4 restore-asking:-4 role:1 rpop:-2 rpoplpush:3 rpush:-3 rpushx:-3 sadd:-3 save:1 scan:-2 scard:2 \
    script:-2 sdiff:-2 sdiffstore:-3 select:2 set:-3 setbit:4 setex:4 setnx:3 setrange:4 shutdown:-1 sinter:-2 \
    sintercard:-3 sinterstore:-3 sismember:3 slaveof:3 slowlog:-2 smembers:2 smismember:-3 smove:4 sort:-2 \
    sort_ro:-2 spop:-2 spublish:3 srandmember:-2 srem:-3 sscan:-3 ssubscribe:-2 strlen:2 subscribe:-2 substr:4 \
    sunion:-2 sunionstore:-3 sunsubscribe:-1 swapdb:3 sync:1 time:1 touch:-2 ttl:2 type:2 unlink:-2 unsubscribe:-1 \
    unwatch:1 wait:3 watch:-2 xack:-4 xadd:-5 xautoclaim:-6 xclaim:-6 xdel:-3 xgroup:-2 xinfo:-2 xlen:2 xpending:-3 \
    xrange:-4 xread:-4 xreadgroup:-7 xrevrange:-4 xsetid:-3 xtrim:-4 zadd:-4 zcard:2 zcount:4 zdiff:-3 zdiffstore:-4 \
    zincrby:4 zinter:-3 zintercard:-3 zinterstore:-4 zlexcount:4 zmpop:-4 zmscore:-3 zpopmax:-2 zpopmin:-2 \
    zrandmember:-2 zrange:-4 zrangebylex:-4 zrangebyscore:-4 zrangestore:-5 zrank:3 zrem:-3 zremrangebylex:4 \
    zremrangebyrank:4 zremrangebyscore:4 zrevrange:-4 zrevrangebylex:-4 zrevrangebyscore:-4 zrevrank:3 zscan:-3 \
    zscore:3 zunion:-3 zunionstore:-4";
/// Commands whose second word is part of the name that NOPERM gives.
const CONTAINERS: [&str; 15] = [
    "acl", "client", "cluster", "config", "function", "latency", "memory", "module", "object", "pubsub", "script",
    "slowlog", "xgroup", "xinfo", "command",
];
/// The version that HELLO names: the one whose replies are copied here.
const REDIS_VERSION: &str = "7.0.15";
/// Bytes of the command's name and of its arguments that an "unknown command" error repeats, as in Redis.
const UNKNOWN_BYTES_MAX: usize = 128;
/// The longest BLPOP time-out, in seconds: about a century; longer ones are refused as in Redis.
const TIMEOUT_SECONDS_MAX: f64 = 3_000_000_000.0;

const NOAUTH: &str = "NOAUTH Authentication required.";
const NOAUTH_HELLO: &str = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH \
    <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time";
const WRONGPASS: &str = "WRONGPASS invalid username-password pair or user is disabled.";
const NOPERM_KEY: &str = "NOPERM this user has no permissions to access one of the keys used as arguments";

/// What the server knows of one connection between two commands.
#[derive(Debug)]
pub(super) struct Client {
    /// Redis' client id: rises with every connection of the server.
    pub(super) id: u64,
    /// Who authenticated on it.
    pub(super) user: Option<Rc<User>>,
}

/// What the connection does after a command.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    /// The reply stands in the buffer: go on.
    Continue,
    /// Write the reply and close.
    Close,
    /// BLPOP found nothing: wait.
    Block {
        /// Lists to wait for.
        keys: Vec<Vec<u8>>,
        /// Seconds until the wait is given up; zero waits for ever.
        timeout_seconds: f64,
    },
}

/// Carries out one command.
pub(super) fn execute(
    arguments: &[Vec<u8>],
    client: &mut Client,
    users: &[Rc<User>],
    keyspace: &mut Keyspace,
    replies: &mut Replies,
) -> Next {
    let Some(first) = arguments.first() else { return Next::Continue };
    let name = String::from_utf8_lossy(first).to_ascii_lowercase();
    if name == "quit" {
        replies.simple("OK");
        return Next::Close;
    }
    if let Err(refusal) = permitted(&name, arguments, client.user.as_deref()) {
        replies.error(&refusal);
        return Next::Continue;
    }
    match name.as_str() {
        "auth" => auth(&arguments[1..], client, users, replies),
        "hello" => hello(&arguments[1..], client, users, replies),
        "reset" => {
            client.user = None;
            replies.version = Version::Two;
            replies.simple("RESET");
        }
        "rpush" => replies.integer(keyspace.push(&arguments[1], arguments[2..].iter().cloned()) as u64),
        "lpop" => lpop(&arguments[1..], keyspace, replies),
        "blpop" => return blpop(&arguments[1..], keyspace, replies),
        "del" => {
            replies.integer(arguments[1..].iter().filter(|key| keyspace.delete(key)).count() as u64);
        }
        "llen" => replies.integer(keyspace.length(&arguments[1]) as u64),
        "ping" => match arguments {
            [_] => replies.simple("PONG"),
            [_, text] => replies.bulk(text),
            _ => replies.error(&wrong_number("ping")),
        },
        "client" if arguments[1].eq_ignore_ascii_case(b"id") => replies.integer(client.id),
        other => replies.error(&format!("ERR the embedded server does not serve '{other}'")),
    }
    Next::Continue
}

/// The checks that Redis makes before it carries out anything, in its order: existence, arity, login, command, keys.
fn permitted(name: &str, arguments: &[Vec<u8>], user: Option<&User>) -> Result<(), String> {
    let Some(arity) = arity(name) else { return Err(unknown(arguments)) };
    let container = CONTAINERS.contains(&name);
    let count = arguments.len();
    if (arity >= 0 && count != arity.unsigned_abs()) || count < arity.unsigned_abs() {
        return Err(wrong_number(name));
    }
    if matches!(name, "auth" | "hello" | "reset") {
        return Ok(());
    }
    let Some(user) = user else { return Err(NOAUTH.to_owned()) };
    let keys = match name {
        "rpush" | "lpop" | "llen" => &arguments[1..2],
        "blpop" => &arguments[1..count - 1],
        "del" => &arguments[1..],
        _ => &[],
    };
    if user.access != Access::Full && !matches!(name, "rpush" | "lpop" | "blpop" | "del") {
        let full_name = match arguments.get(1) {
            Some(second) if container => format!("{name}|{}", String::from_utf8_lossy(second).to_ascii_lowercase()),
            _ => name.to_owned(),
        };
        return Err(format!("NOPERM this user has no permissions to run the '{full_name}' command"));
    }
    if keys.iter().all(|key| user.may_use(key)) { Ok(()) } else { Err(NOPERM_KEY.to_owned()) }
}

fn arity(name: &str) -> Option<isize> {
    COMMANDS.split(' ').find_map(|entry| {
        let (known, arity) = entry.split_once(':')?;
        if known == name { arity.parse().ok() } else { None }
    })
}

fn unknown(arguments: &[Vec<u8>]) -> String {
    let text = |bytes: &[u8], room: usize| String::from_utf8_lossy(&bytes[..bytes.len().min(room)]).into_owned();
    let mut beginning = String::new();
    for argument in &arguments[1..] {
        let Some(room) = UNKNOWN_BYTES_MAX.checked_sub(beginning.len()).filter(|&room| room > 0) else { break };
        // Writing to a String cannot fail.
        let _ = write!(beginning, "'{}' ", text(argument, room));
    }
    format!("ERR unknown command '{}', with args beginning with: {beginning}", text(&arguments[0], UNKNOWN_BYTES_MAX))
}

fn wrong_number(name: &str) -> String {
    format!("ERR wrong number of arguments for '{name}' command")
}

fn login(name: &[u8], password: &[u8], users: &[Rc<User>]) -> Option<Rc<User>> {
    users.iter().find(|user| user.name.as_bytes() == name && user.password.as_bytes() == password).map(Rc::clone)
}

fn auth(arguments: &[Vec<u8>], client: &mut Client, users: &[Rc<User>], replies: &mut Replies) {
    let user = match arguments {
        [password] => login(b"default", password, users),
        [name, password] => login(name, password, users),
        _ => return replies.error("ERR syntax error"),
    };
    match user {
        Some(user) => {
            client.user = Some(user);
            replies.simple("OK");
        }
        None => replies.error(WRONGPASS),
    }
}

fn hello(arguments: &[Vec<u8>], client: &mut Client, users: &[Rc<User>], replies: &mut Replies) {
    let mut version = replies.version;
    let mut options = arguments;
    if let [number, rest @ ..] = arguments {
        version = match integer(number) {
            Some(2) => Version::Two,
            Some(3) => Version::Three,
            Some(_) => return replies.error("NOPROTO unsupported protocol version"),
            None => return replies.error("ERR Protocol version is not an integer or out of range"),
        };
        options = rest;
    }
    while let [option, rest @ ..] = options {
        options = match rest {
            [name, password, rest @ ..] if option.eq_ignore_ascii_case(b"auth") => {
                match login(name, password, users) {
                    Some(user) => client.user = Some(user),
                    None => return replies.error(WRONGPASS),
                }
                rest
            }
            [_name, rest @ ..] if option.eq_ignore_ascii_case(b"setname") => rest,
            _ => {
                let option = String::from_utf8_lossy(option);
                return replies.error(&format!("ERR Syntax error in HELLO option '{option}'"));
            }
        };
    }
    if client.user.is_none() {
        return replies.error(NOAUTH_HELLO);
    }
    replies.version = version;
    replies.map(7);
    for (name, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        replies.bulk(name.as_bytes());
        replies.bulk(value.as_bytes());
    }
    replies.bulk(b"proto");
    replies.integer(if version == Version::Two { 2 } else { 3 });
    replies.bulk(b"id");
    replies.integer(client.id);
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        replies.bulk(name.as_bytes());
        replies.bulk(value.as_bytes());
    }
    replies.bulk(b"modules");
    replies.array(0);
}

fn lpop(arguments: &[Vec<u8>], keyspace: &mut Keyspace, replies: &mut Replies) {
    match arguments {
        [key] => match keyspace.pop(key, 1).and_then(|mut elements| elements.pop()) {
            Some(element) => replies.bulk(&element),
            None => replies.null(),
        },
        [key, count] => match integer(count).and_then(|count| usize::try_from(count).ok()) {
            None => replies.error("ERR value is out of range, must be positive"),
            Some(count) => match keyspace.pop(key, count) {
                None => replies.null_array(),
                Some(elements) => {
                    replies.array(elements.len());
                    for element in &elements {
                        replies.bulk(element);
                    }
                }
            },
        },
        _ => replies.error(&wrong_number("lpop")),
    }
}

fn blpop(arguments: &[Vec<u8>], keyspace: &mut Keyspace, replies: &mut Replies) -> Next {
    let Some((timeout, keys)) = arguments.split_last() else { return Next::Continue };
    let seconds: Option<f64> = std::str::from_utf8(timeout).ok().and_then(|text| text.parse().ok());
    match seconds {
        Some(seconds) if seconds < 0.0 => replies.error("ERR timeout is negative"),
        Some(seconds) if seconds.is_finite() && seconds > TIMEOUT_SECONDS_MAX => {
            replies.error("ERR timeout is out of range");
        }
        Some(timeout_seconds) if timeout_seconds.is_finite() => match keyspace.pop_first(keys) {
            Some((key, element)) => popped(&key, &element, replies),
            None => return Next::Block { keys: keys.to_vec(), timeout_seconds },
        },
        _ => replies.error("ERR timeout is not a float or out of range"),
    }
    Next::Continue
}

/// BLPOP's reply: the list and its element.
pub(super) fn popped(key: &[u8], element: &[u8], replies: &mut Replies) {
    replies.array(2);
    replies.bulk(key);
    replies.bulk(element);
}
