//! What an option accepts: how its text is read, and how its value is written as TOML.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::listen;
use super::values::Value;

/// Checks and normalises one piece of text; the error says what is accepted.
pub type Check = fn(&str) -> Result<String, &'static str>;

/// What an option accepts.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A whole number.
    Integer {
        /// Lowest.
        min: u64,
        /// Highest.
        max: u64,
    },
    /// A whole number, or `auto`, which depends on the host.
    IntegerOrAuto {
        /// Lowest.
        min: u64,
        /// Highest.
        max: u64,
    },
    /// A size: bytes, or a number with `KiB`, `MiB` or `GiB`.
    Bytes {
        /// Fewest bytes.
        min: u64,
        /// Most bytes.
        max: u64,
    },
    /// A size, or `auto`, which depends on the host.
    BytesOrAuto {
        /// Fewest bytes.
        min: u64,
        /// Most bytes.
        max: u64,
    },
    /// `true` or `false`.
    Bool,
    /// Text that passes a check.
    Text(Check),
    /// A list of which each element passes a check; in text, separated by commas.
    List(Check),
    /// Listeners; in text, separated by commas.
    Listeners,
    /// CPU numbers and ranges, or `all`.
    Cpus,
    /// `any`, `opensrf_core`, or a list of origins.
    Origins,
    /// Keys and values that pass a check each; in text, `key=value` separated by commas.
    Map(Check, Check),
    /// A password: masked, and never a flag.
    Secret,
}

/// Highest CPU number that a list may name: what the kernel can be built for.
const CPU_MAX: usize = 8_191;

impl Kind {
    /// Reads the text of the environment, a flag, or a string of a file. The error says what is accepted.
    pub fn parse(self, text: &str) -> Result<Value, String> {
        let trimmed = text.trim();
        match self {
            Self::Integer { min, max } => number(trimmed, min, max).map(Value::Integer),
            Self::IntegerOrAuto { .. } | Self::BytesOrAuto { .. } if trimmed == "auto" => {
                Ok(Value::Text("auto".to_owned()))
            }
            Self::IntegerOrAuto { min, max } => {
                number(trimmed, min, max).map(Value::Integer).map_err(|expected| format!("auto or {expected}"))
            }
            Self::Bytes { min, max } => bytes(trimmed)
                .filter(|n| (min..=max).contains(n))
                .map(Value::Integer)
                .ok_or_else(|| format!("a size from {} to {}, such as 1536, 64 KiB or 10 MiB", size(min), size(max))),
            Self::BytesOrAuto { min, max } => {
                Self::Bytes { min, max }.parse(text).map_err(|expected| format!("auto or {expected}"))
            }
            Self::Bool => match trimmed {
                "true" | "yes" | "on" | "1" => Ok(Value::Bool(true)),
                "false" | "no" | "off" | "0" => Ok(Value::Bool(false)),
                _ => Err("true or false".to_owned()),
            },
            Self::Text(check) => check(trimmed).map(Value::Text).map_err(str::to_owned),
            Self::Secret => Ok(Value::Text(text.to_owned())),
            Self::Cpus if trimmed == "all" => Ok(Value::Text("all".to_owned())),
            Self::Origins if matches!(trimmed, "any" | "opensrf_core") => Ok(Value::Text(trimmed.to_owned())),
            Self::Map(key_check, value_check) => {
                let mut map = BTreeMap::new();
                for pair in trimmed.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
                    let (key, value) = pair.split_once('=').ok_or(PAIRS)?;
                    map.insert(key_check(key.trim())?, value_check(value.trim())?);
                }
                Ok(Value::Map(map))
            }
            Self::List(_) | Self::Listeners | Self::Cpus | Self::Origins => self.parse_list(trimmed.split(',')),
        }
    }

    /// Reads a list: an array of a file, or repeated flags. Empty elements are dropped.
    pub fn parse_list<'a>(self, elements: impl IntoIterator<Item = &'a str>) -> Result<Value, String> {
        let elements = elements.into_iter().map(str::trim).filter(|element| !element.is_empty());
        match self {
            Self::List(check) => Ok(Value::List(unique(elements.map(check))?)),
            Self::Listeners => listen::parse_list(elements).map(Value::List),
            Self::Origins => Ok(Value::List(unique(elements.map(text::origin))?)),
            Self::Cpus => {
                let mut cpus = Vec::new();
                for element in elements {
                    let (first, last) = element.split_once('-').unwrap_or((element, element));
                    let cpu = |text: &str| text.trim().parse::<usize>().ok().filter(|cpu| *cpu <= CPU_MAX);
                    let (Some(first), Some(last)) = (cpu(first), cpu(last)) else { return Err(CPUS.to_owned()) };
                    if first > last {
                        return Err(CPUS.to_owned());
                    }
                    cpus.extend(first..=last);
                }
                cpus.sort_unstable();
                cpus.dedup();
                if cpus.is_empty() {
                    return Err(CPUS.to_owned());
                }
                Ok(Value::List(cpus.iter().map(usize::to_string).collect()))
            }
            _ => Err("one value, not a list".to_owned()),
        }
    }

    /// Whether a flag may be repeated, each occurrence adding to the list.
    pub fn repeats(self) -> bool {
        matches!(self, Self::List(_) | Self::Listeners | Self::Map(..) | Self::Origins | Self::Cpus)
    }

    /// The placeholder of the value in the help.
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Integer { .. } | Self::IntegerOrAuto { .. } => "N",
            Self::Bytes { .. } | Self::BytesOrAuto { .. } => "SIZE",
            Self::Bool => "BOOL",
            Self::Text(_) | Self::Secret => "TEXT",
            Self::List(_) | Self::Listeners => "LIST",
            Self::Cpus => "CPUS",
            Self::Origins => "ORIGINS",
            Self::Map(..) => "KEY=VALUE",
        }
    }

    /// The value as TOML, as the sample file and `evergate config` write it. Passwords are masked.
    pub fn show(self, value: &Value) -> String {
        match (self, value) {
            (Self::Secret, Value::Text(text)) if !text.is_empty() => "\"********\"".to_owned(),
            (Self::Bytes { .. } | Self::BytesOrAuto { .. }, Value::Integer(n)) if n % 1_024 == 0 => quote(&size(*n)),
            (_, Value::Integer(n)) => n.to_string(),
            (_, Value::Bool(set)) => set.to_string(),
            (_, Value::Text(text)) => quote(text),
            (Self::Listeners, Value::List(list)) if list.len() == 1 => quote(&list[0]),
            (Self::Cpus, Value::List(list)) => format!("[{}]", list.join(", ")),
            (_, Value::List(list)) => {
                format!("[{}]", list.iter().map(|text| quote(text)).collect::<Vec<_>>().join(", "))
            }
            (_, Value::Map(map)) if map.is_empty() => "{}".to_owned(),
            (_, Value::Map(map)) => {
                let pairs = map.iter().map(|(key, value)| format!("{} = {}", quote(key), quote(value)));
                format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// What the one option that is a map accepts.
const PAIRS: &str =
    "DOMAIN=PLACE, separated by commas; in a TOML file a table: { \"private.localhost\" = \"127.0.0.2:6380\" }";

const CPUS: &str = "all, or CPU numbers and ranges such as 0, 0-3 or 0,2,4-5";

fn number(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let in_range = text.parse().ok().filter(|n| (min..=max).contains(n));
    in_range.ok_or_else(|| format!("a whole number from {min} to {max}"))
}

fn unique(elements: impl Iterator<Item = Result<String, &'static str>>) -> Result<Vec<String>, String> {
    let mut list = Vec::new();
    for element in elements {
        let element = element?;
        if !list.contains(&element) {
            list.push(element);
        }
    }
    Ok(list)
}

fn bytes(text: &str) -> Option<u64> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(digits_end);
    let unit: u64 = match suffix.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// Bytes with the largest suffix that divides them.
pub(super) fn size(n: u64) -> String {
    for (shift, suffix) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if n > 0 && n.trailing_zeros() >= shift {
            return format!("{} {suffix}", n >> shift);
        }
    }
    n.to_string()
}

/// A TOML basic string.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The checks of textual options. Each returns the normalised text, or says what is accepted.
pub mod text {
    use std::net::{IpAddr, SocketAddr};
    use std::path::PathBuf;

    use evergate_proto::websocket::handshake::OriginEntry;

    use super::super::redis_place::RedisPlace;
    use super::super::typed::{Facility, LogFormat, LogLevel};

    type Checked = Result<String, &'static str>;

    fn accept(good: bool, text: &str, expected: &'static str) -> Checked {
        if good { Ok(text.to_owned()) } else { Err(expected) }
    }

    /// Anything but emptiness and control characters.
    pub fn any(text: &str) -> Checked {
        accept(!text.is_empty() && !text.chars().any(char::is_control), text, "text without control characters")
    }

    /// An address and a port.
    pub fn address(text: &str) -> Checked {
        let parsed: Result<SocketAddr, _> = text.parse();
        parsed
            .map(|address| address.to_string())
            .map_err(|_| "an IP address and a port, such as 127.0.0.1:7682 or [::1]:7682")
    }

    /// An address and a port, or `off`.
    pub fn address_or_off(text: &str) -> Checked {
        if text == "off" {
            return Ok(text.to_owned());
        }
        address(text).map_err(|_| "off, or an IP address and a port, such as 127.0.0.1:7683")
    }

    /// Bytes of a Unix socket's path: `sun_path` has 108, and ends with a zero.
    const SOCKET_PATH_BYTES_MAX: usize = 107;

    /// The same of one to which each process adds `.PID`.
    const SOCKET_BYTES_MAX: usize = SOCKET_PATH_BYTES_MAX - ".4194304".len();

    /// The path of a Unix socket, as it stands behind `unix:`. It is written in one way, for two spellings of one path would be two
    /// listeners. The error says what is wrong with it.
    pub(crate) fn socket_path(text: &str) -> Result<PathBuf, String> {
        if !text.starts_with('/') || text.ends_with('/') {
            return Err(format!("{text:?} is no absolute path of a file"));
        }
        if text.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) {
            return Err(format!("{text:?} has \"..\", \".\" or \"//\" in it: write the path without"));
        }
        if text.len() > SOCKET_PATH_BYTES_MAX {
            return Err(format!(
                "{text:?} is longer than {SOCKET_PATH_BYTES_MAX} bytes, which is all that a socket's path may have"
            ));
        }
        if text.chars().any(char::is_control) {
            return Err(format!("{text:?} has a control character in it"));
        }
        Ok(PathBuf::from(text))
    }

    /// `auto`, `off` (or nothing), or the path of a Unix socket.
    pub fn socket(text: &str) -> Checked {
        if text.is_empty() {
            return Ok("off".to_owned());
        }
        let good = any(text).is_ok() && text.len() <= SOCKET_BYTES_MAX && !text.ends_with('/');
        accept(good, text, "auto, off, or the path of a Unix socket, at most 99 bytes long")
    }

    /// A request path.
    pub fn path(text: &str) -> Checked {
        let good = text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#'));
        accept(good, text, "a path that begins with / and has no spaces, ? or #")
    }

    /// An address or a network in prefix notation.
    pub fn network(text: &str) -> Checked {
        let (address, prefix) = text.split_once('/').unwrap_or((text, "0"));
        let good = address.parse::<IpAddr>().is_ok_and(|address| {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            prefix.bytes().all(|b| b.is_ascii_digit()) && prefix.parse::<u8>().is_ok_and(|n| n <= bits)
        });
        accept(good, text, "addresses and networks such as 127.0.0.1, 10.0.0.0/8 or fd00::/8")
    }

    /// `*`, or what [`OriginEntry`] reads, as it shows it.
    pub fn origin(text: &str) -> Checked {
        if text == "*" {
            return Ok(text.to_owned());
        }
        let entry = text.parse::<OriginEntry>().map_err(|_| {
            "any, opensrf_core, or origins such as catalog.example.org, catalog.example.org:8443, \
             https://catalog.example.org or *"
        })?;
        Ok(entry.to_string())
    }

    /// A host name or an address, without a port; in lower case, an IPv6 address without its brackets.
    pub fn host(text: &str) -> Checked {
        let lower = text.to_ascii_lowercase();
        let bare = lower.strip_prefix('[').and_then(|lower| lower.strip_suffix(']')).unwrap_or(&lower);
        let good = is_name(bare) || bare.parse::<IpAddr>().is_ok();
        accept(good, bare, "host names and addresses without a port, such as admin.example.org or 10.0.0.5")
    }

    /// A domain of the bus, which is also a host name.
    pub fn domain(text: &str) -> Checked {
        accept(is_name(text), text, "a host name such as private.localhost")
    }

    /// A host name or address with a port.
    pub fn host_port(text: &str) -> Checked {
        let good = matches!(RedisPlace::parse(text), Some(RedisPlace::Tcp { .. })) && !text.contains('/');
        accept(good, text, "a host and a port, such as 127.0.0.2:6380")
    }

    /// Where a Redis is.
    pub fn redis_place(text: &str) -> Checked {
        RedisPlace::parse(text).map(|place| place.to_string()).ok_or(
            "a host and a port, TLS or a Unix socket, such as private.localhost=127.0.0.2:6380, \
             private.localhost=rediss://redis.example.org:6380 or private.localhost=unix:/run/redis/redis.sock (a path \
             without .., . and //)",
        )
    }

    /// A part of a bus address: the colon separates them, and quotes would need escaping in every message.
    pub fn name(text: &str) -> Checked {
        let good = (1..=256).contains(&text.len())
            && text.chars().all(|c| !c.is_control() && !c.is_whitespace() && !matches!(c, ':' | '"' | '\\'));
        accept(good, text, "a name without spaces, colons, quotes or backslashes")
    }

    /// What goes into every message as it stands.
    pub fn ingress(text: &str) -> Checked {
        let good =
            (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'));
        accept(good, text, "1 to 64 printable ASCII characters without spaces, quotes or backslashes")
    }

    /// A level of the log, by its name.
    pub fn level(text: &str) -> Checked {
        let level = LogLevel::parse(text).ok_or("off, error, warn, info, debug, trace, or 0 to 5")?;
        Ok(level.name().to_owned())
    }

    /// How lines are written.
    pub fn log_format(text: &str) -> Checked {
        let format = LogFormat::parse(text).ok_or("text or json")?;
        Ok(format.name().to_owned())
    }

    /// `stderr`, `syslog` or a path.
    pub fn logfile(text: &str) -> Checked {
        any(text).map_err(|_| "stderr, syslog or the path of a file")
    }

    /// A syslog facility, by its usual name.
    pub fn facility(text: &str) -> Checked {
        let facility = Facility::parse(text).ok_or("a syslog facility such as local0, daemon or user")?;
        Ok(facility.name.to_owned())
    }

    /// A tag of log lines.
    pub fn tag(text: &str) -> Checked {
        accept((1..=64).contains(&text.len()) && any(text).is_ok(), text, "1 to 64 bytes without control characters")
    }

    /// Splits `host:port` and `[v6]:port`; a bare IPv6 address has no port.
    pub(crate) fn split_port(text: &str) -> (&str, Option<&str>) {
        match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || (host.starts_with('[') && host.ends_with(']')) => {
                (host, Some(port))
            }
            _ => (text, None),
        }
    }

    pub(crate) fn is_host(text: &str) -> bool {
        let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        bracketed.map_or_else(|| is_name(text), |text| text.parse::<std::net::Ipv6Addr>().is_ok())
    }

    fn is_name(text: &str) -> bool {
        (1..=253).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    }
}
