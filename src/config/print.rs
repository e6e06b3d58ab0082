//! The table's faces for people: the effective configuration, the sample file, the table of docs/options.md.

use std::fmt::Write as _;

use evergate_proto::opensrf::printable::Shown;

use super::kind::Kind;
use super::load::{Loaded, RELOADED};
use super::table::{Opt, TABLE, find};
use super::values::Source;

/// Every effective value with its source, as TOML. Passwords are masked.
pub fn effective(loaded: &Loaded) -> String {
    let lines: Vec<(String, String)> = loaded
        .values
        .iter()
        .map(|setting| {
            let shown = find(setting.name).map_or_else(String::new, |option| option.kind.show(&setting.value));
            (format!("{} = {shown}", setting.name), setting.source.to_string())
        })
        .collect();
    // A long list must not push every source off the screen.
    let width = lines.iter().map(|(line, _)| line.len()).filter(|len| *len <= 60).max().unwrap_or(0);
    let mut text = String::new();
    for (line, source) in lines {
        let _ = writeln!(text, "{line:width$}  # {source}");
    }
    let _ = writeln!(text, "# bus domains that may be dialled: {}", loaded.config.domains.join(", "));
    for warning in &loaded.warnings {
        let _ = writeln!(text, "# warning: {}", Shown(warning));
    }
    text
}

/// A line for each default that a limit of the cgroup makes less: who has never heard of it looks for the reason.
pub fn by_cgroup(loaded: &Loaded) -> Vec<String> {
    let less = loaded.values.iter().filter(|setting| matches!(setting.source, Source::Cgroup(_)));
    let line = |setting: &super::Setting| {
        let shown = find(setting.name)?.kind.show(&setting.value);
        Some(format!("{} = {shown} ({})", setting.name, setting.source))
    };
    less.filter_map(line).collect()
}

/// A commented TOML file in which every option stands with its default.
pub fn sample() -> String {
    let mut text = String::from(
        "# evergate.toml: every option with its default. Take away the # before those that you change.\n\
         # opensrf_core.xml < this file < environment (EVERGATE_NAME) < flags (--name).\n\
         # `evergate config` prints what is in force, and where each value comes from.\n",
    );
    let mut section = "";
    for option in TABLE {
        if option.section != section {
            section = option.section;
            let _ = write!(text, "\n# ==== {section} ====\n");
        }
        text.push('\n');
        for line in wrap(&description(option), 96) {
            let _ = writeln!(text, "# {line}");
        }
        if let Some(element) = option.xml {
            let _ = writeln!(text, "# opensrf_core.xml: {element}");
        }
        let _ = writeln!(text, "#{} = {}", option.name, default_toml(option));
    }
    text
}

/// The table of options for docs/options.md, as Markdown.
pub fn markdown() -> String {
    let mut text = String::new();
    let mut section = "";
    for option in TABLE {
        if option.section != section {
            section = option.section;
            let head = "| option in TOML | elsewhere | default | unit | what it does |\n|---|---|---|---|---|";
            let _ = write!(text, "\n## {section}\n\n{head}\n");
        }
        let default = match (option.default, option.demo) {
            ("", None) => String::new(),
            ("", Some(demo)) => format!("(`demo`: `{demo}`)"),
            (default, None) => format!("`{default}`"),
            (default, Some(demo)) => format!("`{default}` (`demo`: `{demo}`)"),
        };
        let mut doc = description(option).replace('|', "\\|");
        if RELOADED.contains(&option.name) {
            doc.push_str(" **SIGHUP reads it again.**");
        }
        let (name, names) = (option.name, names(option).join("<br>"));
        let _ = writeln!(text, "| `{name}` | {names} | {default} | {} | {doc} |", option.unit);
    }
    text.trim_start().to_owned()
}

/// How the option is named elsewhere than in the TOML file: flag, variable, element of `opensrf_core.xml`, variables of
/// `eg-websockets`.
fn names(option: &Opt) -> Vec<String> {
    let flag = option.flag().map(|flag| format!("`--{flag}`"));
    let xml = option.xml.map(|element| format!("XML `{element}`"));
    let eg = option.eg_websockets.iter().map(|variable| format!("`{variable}`"));
    flag.into_iter().chain([format!("`{}`", option.env())]).chain(xml).chain(eg).collect()
}

/// The documentation, with what the kind adds to it.
pub(super) fn description(option: &Opt) -> String {
    let doc: Vec<&str> = option.doc.split_ascii_whitespace().collect();
    let mut text = doc.join(" ");
    if let Kind::Secret = option.kind {
        text.push_str(" Keep a file that holds it unreadable to others.");
    }
    text
}

/// The default as TOML.
fn default_toml(option: &Opt) -> String {
    // The table's defaults parse: a test of the table holds them to it.
    option.parse(option.default).map_or_else(|_| String::new(), |value| option.kind.show(&value))
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("it begins with a line, and none is taken away");
        if !last.is_empty() && last.len() + 1 + word.len() > width {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}
