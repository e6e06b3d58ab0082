//! The command line: its subcommands, and what each asks the process to do. The flags come from the table.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::asking::{self, ClientsOptions, DrainOptions, Target};
use super::calling::{self, Call};
use super::eg_websockets;
use super::error::{Error, Errors};
use super::file;
use super::host::Host;
use super::kind::{Kind, text};
use super::load::{Inputs, Loaded, Purpose, load};
use super::manual;
use super::permissions;
use super::print::description;
use super::table::{Opt, TABLE};
use super::typed::Secret;

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit of the build, or `unknown`.
pub const COMMIT: &str = match option_env!("EVERGATE_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Bytes of a password file; anything larger is something else.
const PASSWORD_FILE_BYTES_MAX: u64 = 4_096;

/// What `evergate config` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Every effective value with its source.
    Effective,
    /// A commented file of the defaults.
    Sample,
    /// The table of docs/options.md.
    Markdown,
    /// The table of docs/metrics.md.
    Metrics,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Action {
    /// Serve clients.
    Serve(Box<Loaded>),
    /// Serve clients on a bus and services of its own.
    Demo {
        /// The configuration of the gateway.
        loaded: Box<Loaded>,
        /// Seconds for which a worker waits for the next request of a session before it says 408.
        keepalive_seconds: u64,
    },
    /// Run the demo's router and services on a real bus.
    DemoServices(Box<DemoServices>),
    /// Test the host and the bus.
    Check(Box<Loaded>),
    /// Ask the running process for a drain, or to take one back.
    Drain {
        /// Whom to ask.
        target: Target,
        /// What for.
        options: DrainOptions,
    },
    /// Ask the running process how it is.
    Status {
        /// Whom to ask.
        target: Target,
        /// Print JSON.
        json: bool,
    },
    /// Ask the running process who is connected, or that one of them goes.
    Clients {
        /// Whom to ask.
        target: Target,
        /// What for.
        options: Box<ClientsOptions>,
    },
    /// Call a method through a gateway.
    Call(Call),
    /// Write the man pages into this directory.
    Man(PathBuf),
    /// Print the completions of a shell, for the program of that name.
    Completions(clap_complete::Shell, String),
    /// Print the configuration. `None` where the sample or the table is asked for, which read nothing.
    Config(Show, Option<Box<Loaded>>),
}

/// The options of `evergate demo-services`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoServices {
    /// `host:port` of the Redis of the router's domain.
    pub redis: String,
    /// `host:port` of the Redis of the services' domain.
    pub service_redis: String,
    /// Domain of the router, which is the gateway's.
    pub domain: String,
    /// Domain of the services.
    pub service_domain: String,
    /// Name of the router.
    pub router_name: String,
    /// Account of the router.
    pub router_user: String,
    /// Its password.
    pub router_passwd: Secret,
    /// Account of the services.
    pub service_user: String,
    /// Its password.
    pub service_passwd: Secret,
    /// Seconds for which a worker waits for the next request of a session before it says 408.
    pub keepalive_seconds: u64,
    /// Workers of each service.
    pub workers: usize,
    /// What is probably not meant, though it can be used: a line each, for the log.
    pub warnings: Vec<String>,
}

/// What can be called on the demo's services.
const METHODS: &str = "Services to call:\n  \
    opensrf.math: add, sub, mult, div [a, b]\n  \
    opensrf.demo: opensrf.demo.echo [any], .sleep [seconds], .count [n, pause_seconds], .bundled [n],\n    \
    .big [bytes], .chunked [bytes], .fail [code, text], .never [], .pid [], .counter [] (per session)\n  \
    opensrf.demo.perl: the same methods; its workers drop what is queued in a session when they read a DISCONNECT\n    \
    while they serve, as Perl's do\n  \
    opensrf.demo.c: the same; its workers answer what is queued in a session in reversed order, as C's may";

/// The command with its subcommands. A usage error ends the process with 2.
pub fn command() -> Command {
    let serve = with_table(
        Command::new("serve")
            .about("Serve browsers: relay between WebSocket and the OpenSRF bus")
            .arg(switch(
                "replace",
                "Take over from the process that serves (option control): its listening sockets at once, its clients as they come \
                 back; it drains when this one is ready, and serves on if that never is. Where nobody serves, start as the first",
            ))
            .after_help(
            "Examples:\n  evergate serve --opensrf-core /openils/conf/opensrf_core.xml\n  \
                 EVERGATE_PASSWD=… evergate serve --domain public.localhost --username gateway\n\n\
                 Signals: USR1 drains (within its time nobody loses a reply), USR2 cancels that, TERM and INT stop fast, HUP reopens the logs and reads \
                 log level, origins, log_protect and trusted_proxies again.\n\n\
                 Exit codes: 0 drained or stopped; 1 host unusable; 2 configuration; 3 a drain's deadline cut somebody \
                 off; 70 a core failed.",
        ),
    );
    let demo = with_table(
        Command::new("demo")
            .about("Serve browsers on a bus and services of its own, for a first look; no Redis needed")
            .arg(keepalive())
            // Not for operators: tests/conformance and measurements of the WebSocket side alone.
            .arg(switch("echo", "Send every message back as it came, and relay none").hide(true))
            .after_help(format!(
                "Example:\n  evergate demo --listen 127.0.0.1:7682\n\nThe admin page is at 127.0.0.1:7683.\n\n{METHODS}"
            )),
    );
    let check = with_table(Command::new("check").about("Test the host and the bus, line by line").after_help(
        "Example:\n  evergate check --opensrf-core /openils/conf/opensrf_core.xml\n\nExit code 1 if anything failed. \
             It pushes to and pops from a random key of its own, never the router's.",
    ));
    let config = with_table(
        Command::new("config")
            .about("Print every effective value with its source")
            .arg(switch("sample", "Print a commented file with every default instead"))
            .arg(switch("markdown", "Print docs/options.md's table instead").hide(true).conflicts_with("sample"))
            .arg(switch("metrics", "Print the table of docs/metrics.md instead").hide(true).conflicts_with("sample"))
            .after_help("Example:\n  evergate config --sample > /etc/evergate/evergate.toml"),
    );
    Command::new("evergate")
        .about("WebSocket gateway for Evergreen ILS: between browsers and the OpenSRF bus")
        .version(format!("{VERSION} (commit {COMMIT})"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .arg(
            Arg::new("config_file")
                .long("config")
                .value_name("FILE")
                .global(true)
                .value_parser(value_parser!(PathBuf))
                .help("TOML file of options; also EVERGATE_CONFIG. `evergate config --sample` prints one"),
        )
        .arg(
            Arg::new("opensrf_core")
                .long("opensrf-core")
                .value_name("FILE")
                .global(true)
                .help("Evergreen's opensrf_core.xml, usually /openils/conf/opensrf_core.xml"),
        )
        .subcommands([
            serve,
            demo,
            asking::drain(),
            asking::status(),
            asking::clients(),
            without_configuration(demo_services()),
            check,
            config,
        ])
        .subcommands([calling::command(), manual::man(), manual::completions()].map(without_configuration))
}

/// The global flags, by their name here and on the command line.
const OF_CONFIGURATION: [(&str, &str); 2] = [("config_file", "config"), ("opensrf_core", "opensrf-core")];

/// The global flags mean nothing to such a subcommand: they are neither listed nor taken in silence.
fn without_configuration(command: Command) -> Command {
    command.args(OF_CONFIGURATION.map(|(id, flag)| Arg::new(id).long(flag).value_name("FILE").hide(true)))
}

/// An error for each that is given all the same.
fn reads_none(name: &str, given: &ArgMatches, errors: &mut Errors) {
    for (_, flag) in OF_CONFIGURATION.iter().filter(|(id, _)| given.value_source(id).is_some()) {
        let remedy = format!("leave it out; `evergate {name} --help` lists its flags");
        errors.push(Error::new(format_args!("flag --{flag}"), format!("{name} reads no configuration"), remedy));
    }
}

fn demo_services() -> Command {
    let text = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    Command::new("demo-services")
        .about("Run the demo's router and services on a real Redis")
        .arg(text("redis", "HOST:PORT", "Redis of the router's domain").required(true))
        .arg(text("service-redis", "HOST:PORT", "Redis of the services' domain [default: that of --redis]"))
        .arg(text("domain", "DOMAIN", "Domain of the router, which is the gateway's").required(true))
        .arg(text("service-domain", "DOMAIN", "Domain of the services [default: that of --domain]"))
        .arg(text("router-name", "NAME", "Name of the router").default_value("router"))
        .arg(text("router-user", "USER", "Account of the router").required(true))
        .arg(text("router-password-file", "FILE", "File with its password, on the first line").required(true))
        .arg(text("service-user", "USER", "Account of the services; the gateway's may not touch them").required(true))
        .arg(text("service-password-file", "FILE", "File with its password, on the first line").required(true))
        .arg(keepalive())
        .arg(
            Arg::new("workers")
                .long("workers")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..=1_024))
                .default_value("512")
                .help("Workers of each service"),
        )
        .after_help(format!(
            "Example:\n  evergate demo-services --redis 127.0.0.1:6379 --domain public.localhost \
             --router-user router \\\n    --router-password-file router.pw --service-user opensrf \
             --service-password-file opensrf.pw\n\n{METHODS}",
        ))
}

fn keepalive() -> Arg {
    Arg::new("keepalive-seconds")
        .long("keepalive-seconds")
        .value_name("N")
        .value_parser(value_parser!(u64).range(1..=86_400))
        .default_value("3")
        .help("Time for which a worker waits for the next request of a session before it says 408")
}

pub(super) fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// Adds a flag for every option of the table that may be one.
fn with_table(command: Command) -> Command {
    let demo = command.get_name() == "demo";
    let options = TABLE.iter().filter(|option| option.name != "opensrf_core");
    let flags: Vec<Arg> = options.filter_map(|option| Some(flag(option, demo)?.help_heading(option.section))).collect();
    let more = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    command.args(flags).after_help(format!(
        "Each option can also be set as EVERGATE_NAME (--drain-quiet-ms: EVERGATE_DRAIN_QUIET_MS), the password as \
         EVERGATE_PASSWD, or in the TOML file.\n\n{more}"
    ))
}

/// The flag of an option, if it may be one.
pub(super) fn flag(option: &Opt, demo: bool) -> Option<Arg> {
    let default = option.demo.filter(|_| demo).unwrap_or(option.default);
    let mut help = description(option);
    if !default.is_empty() {
        let _ = write!(help, " [default: {default}]");
    }
    let arg = Arg::new(option.name).long(option.flag()?).value_name(option.kind.placeholder()).help(help);
    Some(match option.kind {
        // `--same-origin` alone means true; a value needs the sign, lest it swallow the next word.
        Kind::Bool => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        kind if kind.repeats() => arg.action(ArgAction::Append),
        _ => arg,
    })
}

/// What the process's arguments ask for, with the environment and the host as they are. `Err(Failure::Usage)` prints
/// itself (help and version too) and knows its exit code.
pub fn from_process() -> Result<Action, Failure> {
    let env = environment(std::env::vars_os())?;
    action(std::env::args_os(), env, Host::ask())
}

/// Why there is nothing to do.
#[derive(Debug)]
pub enum Failure {
    /// Wrong usage, or help or version asked for: `clap::Error::exit` prints it and ends with 2 or 0.
    Usage(clap::Error),
    /// The configuration cannot be used: exit code 2.
    Config(Errors),
}

impl<E: Into<Errors>> From<E> for Failure {
    fn from(errors: E) -> Self {
        Self::Config(errors.into())
    }
}

/// The directories that systemd makes for a service (`systemd.exec(5)`), as far as they are used.
const DIRECTORIES: [&str; 2] = ["RUNTIME_DIRECTORY", "STATE_DIRECTORY"];

/// The part of the environment that the configuration reads. A variable of ours that is not UTF-8 is an error.
pub fn environment(vars: impl Iterator<Item = (OsString, OsString)>) -> Result<BTreeMap<String, String>, Errors> {
    let mut env = BTreeMap::new();
    let mut errors = Errors::default();
    for (name, value) in vars {
        let is_read = |name: &&str| {
            ["EVERGATE_", eg_websockets::PREFIX].iter().any(|prefix| name.starts_with(prefix))
                || DIRECTORIES.contains(name)
        };
        let Some(name) = name.to_str().filter(is_read) else {
            continue;
        };
        let value = value.into_string().map_err(|_| {
            Error::new(format_args!("environment {name}"), "its value is not UTF-8", "set it anew, or unset it")
        });
        env.extend(errors.keep(value).map(|value| (name.to_owned(), value)));
    }
    if errors.is_empty() { Ok(env) } else { Err(errors) }
}

/// What `arguments` (the program's name first) ask for.
pub fn action(
    arguments: impl IntoIterator<Item = OsString>,
    env: BTreeMap<String, String>,
    host: Host,
) -> Result<Action, Failure> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let matches = command().try_get_matches_from(&arguments).map_err(|error| refused(error, &arguments))?;
    let Some((name, given)) = matches.subcommand() else {
        return Err(Failure::Usage(command().error(clap::error::ErrorKind::MissingSubcommand, "name a subcommand")));
    };
    if matches!(name, "drain" | "status" | "clients") {
        return asking::action(name, given, &inputs(Purpose::Config, given, env, host));
    }
    if let "call" | "man" | "completions" = name {
        let mut errors = Errors::default();
        reads_none(name, given, &mut errors);
        let call = if name == "call" { Some(calling::asked(given, &mut errors)) } else { None };
        if !errors.is_empty() {
            return Err(errors.into());
        }
        return Ok(match (name, call) {
            (_, Some(call)) => Action::Call(call),
            ("man", None) => Action::Man(manual::directory(given)),
            _ => {
                let (shell, program) = manual::completed(given);
                Action::Completions(shell, program)
            }
        });
    }
    let loaded = |purpose| load(inputs(purpose, given, env, host)).map(Box::new);
    Ok(match name {
        "serve" => {
            let mut loaded = loaded(Purpose::Serve)?;
            loaded.replaces = given.get_flag("replace");
            Action::Serve(loaded)
        }
        "demo" => {
            let keepalive_seconds = given.get_one("keepalive-seconds").copied().unwrap_or(3);
            let mut loaded = loaded(Purpose::Demo)?;
            loaded.echo = given.get_flag("echo");
            Action::Demo { loaded, keepalive_seconds }
        }
        "check" => Action::Check(loaded(Purpose::Check)?),
        "demo-services" => Action::DemoServices(Box::new(services(given)?)),
        _ if given.get_flag("sample") => Action::Config(Show::Sample, None),
        _ if given.get_flag("markdown") => Action::Config(Show::Markdown, None),
        _ if given.get_flag("metrics") => Action::Config(Show::Metrics, None),
        _ => Action::Config(Show::Effective, Some(loaded(Purpose::Config)?)),
    })
}

/// A password as a flag is what many will try first: it is told where to go.
fn refused(error: clap::Error, arguments: &[OsString]) -> Failure {
    let is_password = |word: &OsString| word == "--passwd" || word.as_encoded_bytes().starts_with(b"--passwd=");
    let of_services = arguments.iter().any(|word| word == "demo-services");
    if error.kind() == clap::error::ErrorKind::UnknownArgument && arguments.iter().any(is_password) && !of_services {
        return Failure::from(Error::new(
            "flag --passwd",
            "a password is no flag, since every user of a host can read its command lines",
            "set EVERGATE_PASSWD, or passwd in the TOML file (--config) or in opensrf_core.xml",
        ));
    }
    Failure::Usage(error)
}

fn inputs(purpose: Purpose, given: &ArgMatches, env: BTreeMap<String, String>, host: Host) -> Inputs {
    let by_flag = given.get_one::<PathBuf>("config_file").map(|path| (path.clone(), "flag --config".to_owned()));
    let by_env = || env.get("EVERGATE_CONFIG").filter(|path| !path.is_empty());
    let toml = by_flag.or_else(|| by_env().map(|path| (path.into(), "environment EVERGATE_CONFIG".to_owned())));
    let texts = |option: &Opt| {
        let values = given.try_get_many::<String>(option.name).ok().flatten()?;
        Some((option.name, values.cloned().collect()))
    };
    let flags = TABLE.iter().filter(|option| option.flag().is_some()).filter_map(texts).collect();
    Inputs { purpose, toml, flags, env, host }
}

fn services(given: &ArgMatches) -> Result<DemoServices, Errors> {
    let mut errors = Errors::default();
    reads_none("demo-services", given, &mut errors);
    let mut text = |name: &str, check: super::kind::Check| {
        let text = given.get_one::<String>(name)?;
        errors.keep(check(text).map_err(|expected| {
            Error::new(format_args!("flag --{name}"), format!("it cannot be {text:?}"), format!("write {expected}"))
        }))
    };
    let (redis, service_redis) = (text("redis", text::host_port), text("service-redis", text::host_port));
    let (domain, service_domain) = (text("domain", text::domain), text("service-domain", text::domain));
    let router_name = text("router-name", text::name);
    let (router_user, service_user) = (text("router-user", text::name), text("service-user", text::name));
    let mut passwd = |name: &str| {
        let path = given.get_one::<String>(name).map_or("", String::as_str);
        errors.keep(password(name, path)).unwrap_or_default()
    };
    let files = ["router-password-file", "service-password-file"];
    let [router_passwd, service_passwd] = files.map(&mut passwd);
    let path = |name: &str| given.get_one::<String>(name).map(Path::new);
    let mut warnings: Vec<String> = files
        .iter()
        .filter_map(|name| path(name).and_then(|path| permissions::warning(path, Some(permissions::PASSWORD))))
        .collect();
    warnings.dedup();
    if !errors.is_empty() {
        return Err(errors);
    }
    let (redis, domain) = (redis.unwrap_or_default(), domain.unwrap_or_default());
    Ok(DemoServices {
        service_redis: service_redis.unwrap_or_else(|| redis.clone()),
        redis,
        service_domain: service_domain.unwrap_or_else(|| domain.clone()),
        domain,
        router_name: router_name.unwrap_or_default(),
        router_user: router_user.unwrap_or_default(),
        router_passwd,
        service_user: service_user.unwrap_or_default(),
        service_passwd,
        keepalive_seconds: given.get_one("keepalive-seconds").copied().unwrap_or(3),
        workers: given.get_one::<u64>("workers").map_or(512, |n| *n as usize),
        warnings,
    })
}

/// The first line of the file.
fn password(flag: &str, path: &str) -> Result<Secret, Error> {
    let path = Path::new(path);
    let read = file::read(path, PASSWORD_FILE_BYTES_MAX)
        .and_then(|bytes| String::from_utf8(bytes).map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why)));
    let text = read.map_err(|why| Error::unreadable(path, &format!("flag --{flag}"), &why))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Secret::new(line)),
        _ => Err(Error::new(path.display(), "its first line is empty", "write the password there")),
    }
}
