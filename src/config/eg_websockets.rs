//! The environment of `eg-websockets`, as sites that come from it still set it: read as the options that mean the same.

use std::collections::BTreeMap;

use super::error::Errors;
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
        let (source, text) = (Source::Env(given.join(" and ")), text(option, env));
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
/// `eg-websockets`, too.
fn text(option: &Opt, env: &BTreeMap<String, String>) -> String {
    let said = |name: &str| env.get(name).map(|text| text.trim());
    match *option.eg_websockets {
        [address, port] => {
            let (default_address, default_port) = option.default.rsplit_once(':').unwrap_or_default();
            let (address, port) = (said(address).unwrap_or(default_address), said(port).unwrap_or(default_port));
            // It writes IPv6 without brackets.
            if address.contains(':') && !address.starts_with('[') {
                format!("[{address}]:{port}")
            } else {
                format!("{address}:{port}")
            }
        }
        [one] => said(one).unwrap_or_default().to_owned(),
        _ => String::new(),
    }
}
