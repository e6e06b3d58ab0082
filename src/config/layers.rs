//! The sources above `opensrf_core.xml`: the TOML file, the environment, the flags.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::{About, Error, Errors};
use super::table::{Opt, TABLE, find};
use super::values::{Layer, Setting, Source, Value};

/// Variables that begin with `EVERGATE_` and are no option.
const ENV_OTHERS: [&str; 2] = ["EVERGATE_CONFIG", "EVERGATE_COMMIT"];

/// Variables that the tests use.
const ENV_TESTS: &str = "EVERGATE_TEST_";

/// The options that the environment sets. A misspelled variable is an error: it would otherwise be ignored in silence.
pub(super) fn environment(env: &BTreeMap<String, String>, errors: &mut Errors, warnings: &mut Vec<String>) -> Layer {
    let mut layer = Layer::new();
    let mut of_kubernetes = Vec::new();
    for (name, text) in env.range("EVERGATE_".to_owned()..).take_while(|(name, _)| name.starts_with("EVERGATE_")) {
        if ENV_OTHERS.contains(&name.as_str()) || name.starts_with(ENV_TESTS) {
            continue;
        }
        if is_of_kubernetes(name, text) {
            of_kubernetes.push(name.as_str());
            continue;
        }
        let source = Source::Env(name.clone());
        let Some(option) = TABLE.iter().find(|option| option.env() == *name) else {
            let wanted = name.trim_start_matches("EVERGATE_").to_lowercase();
            let remedy = match nearest(&wanted) {
                Some(option) => format!("did you mean {}?", option.env()),
                None => "unset it; `evergate serve --help` lists the options".to_owned(),
            };
            errors.push(Error::new(source, "no option has this name", remedy));
            continue;
        };
        let value = option.parse(text).map_err(|expected| option.error(&source, text, &expected));
        layer.extend(errors.keep(value).map(|value| Setting { name: option.name, value, source }));
    }
    if !of_kubernetes.is_empty() {
        warnings.push(format!(
            "environment: {} ignored, as Kubernetes sets such variables for a service of this name; to be rid of them: \
             `enableServiceLinks: false` in the pod",
            of_kubernetes.join(", ")
        ));
    }
    layer
}

/// Whether Kubernetes made a variable for a service named `evergate` or `evergate-SOMETHING`: the addresses of a service in
/// its own form and in that of Docker's links. The port of Redis is an option whose variable has such a name, but no such
/// value.
fn is_of_kubernetes(name: &str, text: &str) -> bool {
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme));
    if name.ends_with("_SERVICE_HOST") {
        return text.parse::<IpAddr>().is_ok();
    }
    if name.contains("_SERVICE_PORT") {
        return is_port(text);
    }
    if name.ends_with("_PORT") && is_url {
        return true;
    }
    // …_PORT_7682_TCP, and behind it _PROTO, _PORT, _ADDR.
    let link = name.split("_PORT_").skip(1).any(|rest| {
        let (port, rest) = rest.split_once('_').unwrap_or((rest, ""));
        is_port(port) && ["TCP", "UDP", "SCTP"].iter().any(|protocol| rest.starts_with(protocol))
    });
    link && (is_url || ["_PROTO", "_PORT", "_ADDR"].iter().any(|end| name.ends_with(end)))
}

/// The options that flags set: name and the text of each occurrence.
pub(super) fn flags(given: &[(&'static str, Vec<String>)], errors: &mut Errors) -> Layer {
    let mut layer = Layer::new();
    for (name, texts) in given {
        let Some(option) = find(name) else { continue };
        let Some(flag) = option.flag() else { continue };
        let (source, text) = (Source::Flag(flag), texts.join(","));
        let value = option.parse(&text).map_err(|expected| option.error(&source, &text, &expected));
        layer.extend(errors.keep(value).map(|value| Setting { name: option.name, value, source }));
    }
    layer
}

/// The options that the TOML file at `path` sets; `path` is only named in errors and sources.
pub(super) fn toml(path: &Path, text: &str, errors: &mut Errors) -> Layer {
    let line_of = |offset: usize| text.get(..offset).unwrap_or(text).matches('\n').count() + 1;
    let at = |line: usize| Source::Toml { path: path.to_owned(), line };
    let (table, broken) = DeTable::parse_recoverable(text);
    let mut found = Vec::new();
    for why in broken {
        let line = line_of(why.span().map_or(0, |span| span.start));
        let problem = format!("not valid TOML: {}", why.message());
        let remedy = "`evergate config --sample` shows the form";
        found.push((line, Error::new(at(line), problem, remedy).about(About::Source)));
    }
    let broken: Vec<usize> = found.iter().map(|(line, _)| *line).collect();
    let mut layer = Layer::new();
    for (key, value) in table.get_ref() {
        let line = line_of(key.span().start);
        // What the parser made of it is a guess.
        if broken.contains(&line) {
            continue;
        }
        let source = at(line);
        let Some(option) = find(key.get_ref()) else {
            let problem = format!("no option is named {:?}", key.get_ref());
            let remedy = match nearest(key.get_ref()) {
                Some(option) => format!("did you mean {}?", option.name),
                None => "remove it; `evergate config --sample` lists the options".to_owned(),
            };
            found.push((line, Error::new(source, problem, remedy)));
            continue;
        };
        let given = || match value.get_ref() {
            // The error quotes it: its own quotes would come on top.
            DeValue::String(text) => text,
            _ => text.get(value.span()).unwrap_or_default(),
        };
        match toml_value(option, value.get_ref()) {
            Ok(value) => layer.push(Setting { name: option.name, value, source }),
            Err(expected) => found.push((line, option.error(&source, given(), &expected))),
        }
    }
    // From the top of the file, as they are looked for.
    found.sort_by_key(|(line, _)| *line);
    for (_, error) in found {
        errors.push(error);
    }
    layer
}

fn toml_value(option: &Opt, value: &DeValue<'_>) -> Result<Value, String> {
    let scalar = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Boolean(set) => Some(set.to_string()),
        DeValue::Integer(n) => i128::from_str_radix(n.as_str(), n.radix()).ok().map(|n| n.to_string()),
        _ => None,
    };
    match value {
        DeValue::Array(array) => {
            let elements: Option<Vec<String>> = array.iter().map(|element| scalar(element.get_ref())).collect();
            let elements = elements.ok_or("a list of strings")?;
            option.kind.parse_list(elements.iter().map(String::as_str))
        }
        DeValue::Table(table) => {
            let super::kind::Kind::Map(key_check, value_check) = option.kind else {
                return Err("one value, not a table".to_owned());
            };
            let pair = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
                let key: &std::borrow::Cow<'_, str> = key.get_ref();
                let text = scalar(value.get_ref()).ok_or("a table of strings")?;
                Ok((key_check(key)?, value_check(&text)?))
            };
            table.iter().map(pair).collect::<Result<_, String>>().map(Value::Map)
        }
        scalar_value => match scalar(scalar_value) {
            Some(text) => option.parse(&text),
            None => Err("a string, a whole number, true, false, or a list of them".to_owned()),
        },
    }
}

/// The option whose name is at most three edits away, and closer than half its length: what was probably meant.
fn nearest(name: &str) -> Option<&'static Opt> {
    if name.len() > 64 {
        return None;
    }
    let best = TABLE.iter().map(|option| (edits(name, option.name), option)).min_by_key(|(edits, _)| *edits)?;
    (best.0 <= 3 && best.0 * 2 < name.len()).then_some(best.1)
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
