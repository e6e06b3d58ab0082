//! The environment of `eg-websockets`, as sites that come from it still set it: read as the options that mean the same.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::error::{About, Error, Errors};
use super::table::{Opt, TABLE};
use super::values::{Layer, Setting, Source};

/// What its variables begin with.
pub(super) const PREFIX: &str = "EG_WEBSOCKETS_";

/// Its variables that have no counterpart, and why none is needed.
const WITHOUT_COUNTERPART: [(&str, &str); 2] = [
    ("EG_WEBSOCKETS_MIN_WORKERS", "no workers are kept ready, for a core serves all of its clients itself"),
    ("EG_WEBSOCKETS_MAX_REQUESTS", "no worker is replaced after so many clients, for there is none"),
];

/// The options that the variables set, a warning for each option and one for each variable that sets none.
pub(super) fn environment(env: &BTreeMap<String, String>, errors: &mut Errors, warnings: &mut Vec<String>) -> Layer {
    let mut layer = Layer::new();
    for option in TABLE {
        let given: Vec<&str> = option.eg_websockets.iter().copied().filter(|name| env.contains_key(*name)).collect();
        if given.is_empty() {
            continue;
        }
        let source = Source::Env(given.join(" and "));
        let text = match text(option, env) {
            Ok(text) => text,
            Err(wrong) => {
                for error in wrong {
                    errors.push(error);
                }
                continue;
            }
        };
        let value = option.parse(&text).map_err(|expected| option.error(&source, &text, &expected));
        if let Some(value) = errors.keep(value) {
            warnings.push(format!(
                "{source}, of eg-websockets, read as {} = {}; write that in the TOML file, or as {}, which come first",
                option.name,
                option.kind.show(&value),
                option.env()
            ));
            layer.push(Setting { name: option.name, value, source });
        }
    }
    let known = |name: &String| TABLE.iter().any(|option| option.eg_websockets.contains(&name.as_str()));
    for name in env.keys().filter(|name| name.starts_with(PREFIX) && !known(name)) {
        let why = WITHOUT_COUNTERPART.iter().find(|(variable, _)| variable == name).map(|(_, why)| *why);
        let why = why.unwrap_or("eg-websockets has no such variable, either");
        warnings.push(format!("environment {name}, of eg-websockets, ignored: {why}; unset it"));
    }
    layer
}

/// What the variables say, as one would write the option. Half an address is made whole by the default, which is that of
/// `eg-websockets`, too. No variable may say more than its own part: what evergate takes at the same place, a list or what follows a
/// semicolon, is a mistake there.
fn text(option: &Opt, env: &BTreeMap<String, String>) -> Result<String, Vec<Error>> {
    let said = |name: &str| env.get(name).map(|text| text.trim());
    let wrong = |name: &str, remedy: &str| {
        let problem = format!("it cannot be {:?}", said(name).unwrap_or_default());
        let place = Source::Env(name.to_owned());
        Error::new(place, problem, format!("write {remedy}, and nothing else")).about(About::Option(option.name))
    };
    match *option.eg_websockets {
        [address_name, port_name] => {
            let (default_address, default_port) = option.default.rsplit_once(':').unwrap_or_default();
            let address = said(address_name).unwrap_or(default_address);
            // It writes IPv6 without brackets.
            let is_bare = address.contains(':') && !address.starts_with('[');
            let with_port = |port| if is_bare { format!("[{address}]:{port}") } else { format!("{address}:{port}") };
            let port = said(port_name).unwrap_or(default_port);
            let mut mistakes = Vec::new();
            if with_port(default_port).parse::<SocketAddr>().is_err() {
                mistakes.push(wrong(address_name, "an IP address, such as 127.0.0.1 or ::1"));
            }
            if !(is_number(port) && port.parse::<u16>().is_ok_and(|port| port > 0)) {
                mistakes.push(wrong(port_name, "a port number from 1 to 65535"));
            }
            if mistakes.is_empty() { Ok(with_port(port)) } else { Err(mistakes) }
        }
        [one] => match said(one).unwrap_or_default() {
            number if is_number(number) => Ok(number.to_owned()),
            _ => Err(vec![wrong(one, "a whole number")]),
        },
        _ => Ok(String::new()),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
