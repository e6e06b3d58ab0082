//! Untyped values with their sources, before they become the fields of `Config`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::error::{About, Error};
use super::table::{Opt, TABLE};

/// A checked value, in the form that its kind gives it.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// A count, a time or a size.
    Integer(u64),
    /// A switch.
    Bool(bool),
    /// Text, normalised; empty where the option is unset.
    Text(String),
    /// Elements, normalised, none of them empty.
    List(Vec<String>),
    /// Keys and values, normalised.
    Map(BTreeMap<String, String>),
}

/// Never shows what it holds: it may be a password.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Integer(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        })
    }
}

/// Where an effective value comes from, weakest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The table's default.
    Default,
    /// The table's default, less by a limit of the cgroup: its name.
    Cgroup(&'static str),
    /// `opensrf_core.xml`.
    OpensrfCore {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// The TOML file.
    Toml {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
    },
    /// An environment variable.
    Env(String),
    /// A flag, without its dashes.
    Flag(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Cgroup(limit) => write!(f, "default, less by the cgroup's {limit}"),
            Self::OpensrfCore { path, line } | Self::Toml { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag --{name}"),
        }
    }
}

/// An option's value and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The option.
    pub name: &'static str,
    /// Its value; resolved once the configuration is loaded.
    pub value: Value,
    /// Where the value was written.
    pub source: Source,
}

/// The settings of one source: only the options that it names.
pub(super) type Layer = Vec<Setting>;

/// A setting for each option of the table, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values(Vec<Setting>);

impl Values {
    /// The defaults; `demo`: those of `evergate demo`.
    pub(super) fn defaults(demo: bool) -> Result<Self, Error> {
        let setting = |option: &Opt| {
            let text = option.demo.filter(|_| demo).unwrap_or(option.default);
            let value = option.parse(text).map_err(|why| option.error(&Source::Default, text, &why))?;
            Ok(Setting { name: option.name, value, source: Source::Default })
        };
        TABLE.iter().map(setting).collect::<Result<_, _>>().map(Self)
    }

    /// Lays `layer` over what is there.
    pub(super) fn overlay(&mut self, layer: Layer) {
        for setting in layer {
            let place = self.get_mut(setting.name);
            *place = setting;
        }
    }

    /// The setting of an option of the table.
    pub fn get(&self, name: &str) -> &Setting {
        self.0.iter().find(|setting| setting.name == name).expect("the name of an option of the table")
    }

    pub(super) fn get_mut(&mut self, name: &str) -> &mut Setting {
        self.0.iter_mut().find(|setting| setting.name == name).expect("the name of an option of the table")
    }

    /// Gives an option what is left of its default by that limit of the cgroup. What somebody wrote as `all` or `auto`
    /// keeps its source.
    pub(super) fn default_of_cgroup(&mut self, name: &str, value: Value, limit: &'static str) {
        let setting = self.get_mut(name);
        setting.value = value;
        if setting.source == Source::Default {
            setting.source = Source::Cgroup(limit);
        }
    }

    /// The text of an option of a textual kind; empty for any other.
    pub(super) fn text(&self, name: &str) -> &str {
        if let Value::Text(text) = &self.get(name).value { text } else { "" }
    }

    /// Every setting, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = &Setting> {
        self.0.iter()
    }

    /// An error at the place where the option was set. What stands behind the first semicolon of `why` is its remedy.
    pub(super) fn problem(&self, name: &'static str, why: impl fmt::Display) -> Error {
        let why = why.to_string();
        let (problem, remedy) =
            why.split_once("; ").unwrap_or((&why, "correct it; `evergate config --sample` shows how"));
        Error::new(&self.get(name).source, format!("{name}: {problem}"), remedy).about(About::Option(name))
    }
}
