//! From the sources to one checked configuration, and again on SIGHUP.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use evergate_proto::websocket::handshake::Origins;

use super::eg_websockets;
use super::error::{About, Error, Errors};
use super::file;
use super::host::{self, Descriptors, Host};
use super::kind::{Kind, text};
use super::layers;
use super::listen::Listen;
use super::opensrf_core::{self, OpensrfCore};
use super::permissions;
use super::table::Config;
use super::token;
use super::typed::{LogLevel, Secret, Typed};
use super::values::{Layer, Source, Value, Values};

/// Bytes of a configuration file; the stock `opensrf_core.xml` has 7,000. A larger one is something else.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// C's router takes no message of this size or more: its buffers end there.
const ROUTER_BYTES_MAX: usize = 10_485_760;

/// What the configuration is for: it decides what must be set, and some defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `evergate serve`: the account on the bus must be set, and `cores` must be allowed.
    Serve,
    /// `evergate demo`: brings its own bus; its address and password are filled in by the demo.
    Demo,
    /// `evergate check`: as for serving, but CPUs that are not allowed are left for the check to report.
    Check,
    /// `evergate config`: nothing must be set.
    Config,
}

/// Everything that a configuration is made from. Kept, so that SIGHUP reads the same again.
#[derive(Clone)]
pub struct Inputs {
    /// What it is for.
    pub purpose: Purpose,
    /// The TOML file and who named it (`flag --config` or `environment EVERGATE_CONFIG`), if any.
    pub toml: Option<(PathBuf, String)>,
    /// The flags of the table that were given: the option's name and the text of each occurrence.
    pub flags: Vec<(&'static str, Vec<String>)>,
    /// The environment: `EVERGATE_…`, `EG_WEBSOCKETS_…`, `STATE_DIRECTORY` and `RUNTIME_DIRECTORY`; others are ignored.
    pub env: BTreeMap<String, String>,
    /// What the host allows.
    pub host: Host,
}

/// Names the variables without their values: one is a password.
impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inputs")
            .field("purpose", &self.purpose)
            .field("toml", &self.toml)
            .field("flags", &self.flags)
            .field("env", &self.env.keys())
            .field("host", &self.host)
            .finish()
    }
}

impl Inputs {
    /// Nothing given: the defaults, on a host of one CPU and 1,024 descriptors.
    pub fn none(purpose: Purpose) -> Self {
        let host = Host::of([0], 1_024);
        Self { purpose, toml: None, flags: Vec::new(), env: BTreeMap::new(), host }
    }
}

/// A configuration with its origin.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The effective configuration.
    pub config: Config,
    /// Every effective value with its source, in the order of the table, resolved.
    pub values: Values,
    /// What is probably not meant, though it can be used: a line each, for the log.
    pub warnings: Vec<String>,
    /// What it was made from.
    pub inputs: Inputs,
    /// Every message is sent back as it came, and none is relayed: `demo --echo`, which no file can set.
    pub echo: bool,
    /// Takes over from the process that serves: `serve --replace`, which no file can set.
    pub replaces: bool,
    /// What the admin page's actions ask for; none where they are off.
    pub admin_token: Option<Secret>,
}

/// What SIGHUP changes in a running process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// How much is logged.
    pub loglevel: LogLevel,
    /// Which origins new handshakes may carry.
    pub origins: Origins,
    /// Beginnings of methods whose parameters the activity log hides.
    pub log_protect: Vec<String>,
    /// Peers whose forwarding headers are believed.
    pub trusted_proxies: Vec<String>,
    /// Other options that differ from those in force: they wait for a restart.
    pub needs_restart: Vec<&'static str>,
    /// As in [`Loaded`].
    pub warnings: Vec<String>,
}

/// The options that a running process takes over on SIGHUP.
pub(super) const RELOADED: [&str; 4] = ["loglevel", "origins", "log_protect", "trusted_proxies"];

/// Reads every source: `opensrf_core.xml`, over it the environment of `eg-websockets`, the TOML file, the environment and the
/// flags.
pub fn load(inputs: Inputs) -> Result<Loaded, Errors> {
    let (mut errors, mut warnings) = (Errors::default(), Vec::new());
    let over = layers(&inputs, &mut errors, &mut warnings);

    let named_in = over.iter().flatten().rfind(|setting| setting.name == "opensrf_core");
    let core = match named_in.map(|setting| (&setting.value, &setting.source)) {
        Some((Value::Text(path), source)) if !path.is_empty() => {
            let path = Path::new(path);
            let text = errors.keep(read(path, &source.to_string()));
            warnings.extend(text.as_ref().and_then(|_| permissions::warning(path, Some(permissions::PASSWORD))));
            text.map(|text| opensrf_core::parse(path, &text, &mut errors, &mut warnings))
        }
        _ => None,
    };

    let mut values = Values::defaults(inputs.purpose == Purpose::Demo)?;
    let mut domains = Vec::new();
    let mut cross_origin = None;
    if let Some(OpensrfCore { layer, cross_origin: list, domains: named }) = core {
        values.overlay(layer);
        domains = named;
        cross_origin = Some(list);
    }
    for layer in over {
        values.overlay(layer);
    }

    let domains = allowed_domains(&values, domains);
    resolve_host(&mut values, &inputs, domains.len(), &mut errors, &mut warnings);
    resolve_origins(&mut values, cross_origin.as_deref(), &mut errors, &mut warnings);
    if matches!(inputs.purpose, Purpose::Serve | Purpose::Check) {
        require_account(&values, &mut errors);
    }
    let Some(config) = errors.keep(Config::from_values(&values, domains)) else { return Err(errors) };
    check_addresses(&values, &config, &mut errors);
    check_paths(&values, &config, &mut errors);
    check_tls(&values, &config, &mut errors, &mut warnings);
    let admin_token = token::of(&values, &config, inputs.purpose, &mut errors, &mut warnings);
    if !errors.is_empty() {
        return Err(errors);
    }
    warn(&config, &mut warnings);
    warn_of_cgroup(&values, &config, &inputs.host, &mut warnings);
    Ok(Loaded { config, values, warnings, inputs, echo: false, replaces: false, admin_token })
}

/// Where the control socket is, by the same sources: all that those need who speak to a running process. The mistakes of other
/// options are told nevertheless. `opensrf_core.xml` is not read, which cannot say it, and may be closed to an operator.
pub fn control(inputs: &Inputs) -> Result<Option<PathBuf>, Errors> {
    let mut errors = Errors::default();
    let mut values = Values::defaults(false)?;
    for layer in layers(inputs, &mut errors, &mut Vec::new()) {
        values.overlay(layer);
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    resolve_control(&mut values, &inputs.env);
    let control = values.get("control");
    Typed::typed(&control.value).map_err(|why| values.problem("control", why).into())
}

/// The sources above `opensrf_core.xml`, weakest first.
fn layers(inputs: &Inputs, errors: &mut Errors, warnings: &mut Vec<String>) -> Vec<Layer> {
    // Whatever was written for evergate comes before what was written for its predecessor.
    let mut over = vec![eg_websockets::environment(&inputs.env, errors, warnings)];
    if let Some((path, named_by)) = &inputs.toml
        && let Some(text) = errors.keep(read(path, named_by))
    {
        let layer = layers::toml(path, &text, errors);
        let holds_one = layer.iter().any(|setting| setting.name == "passwd");
        warnings.extend(permissions::warning(path, holds_one.then_some(permissions::PASSWORD)));
        over.push(layer);
    }
    over.push(layers::environment(&inputs.env, errors, warnings));
    over.push(layers::flags(&inputs.flags, errors));
    over
}

/// Reads the same sources again. On an error what is in force stays.
pub fn reload(loaded: &Loaded) -> Result<Reloaded, Errors> {
    let again = load(loaded.inputs.clone())?;
    let differs =
        |name: &&'static str| !RELOADED.contains(name) && again.values.get(name).value != loaded.values.get(name).value;
    let needs_restart = again.values.iter().map(|setting| setting.name).filter(differs).collect();
    let Config { loglevel, origins, log_protect, trusted_proxies, .. } = again.config;
    Ok(Reloaded { loglevel, origins, log_protect, trusted_proxies, needs_restart, warnings: again.warnings })
}

fn read(path: &Path, named_by: &str) -> Result<String, Error> {
    let bytes = file::read(path, FILE_BYTES_MAX + 1).map_err(|why| Error::unreadable(path, named_by, &why))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let problem = format!("it is larger than {FILE_BYTES_MAX} bytes");
        let remedy = format!("it is named by {named_by}: correct the path");
        return Err(Error::new(path.display(), problem, remedy).about(About::Source));
    }
    String::from_utf8(bytes).map_err(|why| {
        let valid = &why.as_bytes()[..why.utf8_error().valid_up_to()];
        let line = valid.split(|b| *b == b'\n').count();
        Error::new(format_args!("{}:{line}", path.display()), "it is not UTF-8", "save it as UTF-8")
            .about(About::Source)
    })
}

/// What depends on the host: `cores`, `core_bytes_max`, `clients_max`, `state_dir`, `control`.
fn resolve_host(values: &mut Values, inputs: &Inputs, domains: usize, errors: &mut Errors, warnings: &mut Vec<String>) {
    let host = &inputs.host;
    let mut refuse = |values: &Values, name, why: String| match inputs.purpose {
        Purpose::Serve | Purpose::Demo => errors.push(values.problem(name, why)),
        Purpose::Config => warnings.push(format!("{name}: {why}")),
        // It looks itself, and fails.
        Purpose::Check => {}
    };
    let allowed: Vec<String> = host.cpus.iter().map(usize::to_string).collect();
    match &values.get("cores").value {
        Value::List(wanted) => {
            let refused: Vec<&str> = wanted.iter().filter(|cpu| !allowed.contains(cpu)).map(String::as_str).collect();
            if !refused.is_empty() {
                let why = format!(
                    "this process may not run on CPU {} (allowed: {})",
                    refused.join(", "),
                    Kind::Cpus.show(&Value::List(allowed))
                );
                refuse(values, "cores", why + &many_cpus(wanted, &host.cpus));
            }
        }
        _ => match &host.quota {
            Some(quota) => {
                let quota = quota.iter().map(usize::to_string).collect();
                values.default_of_cgroup("cores", Value::List(quota), "CPU quota");
            }
            None => values.get_mut("cores").value = Value::List(allowed),
        },
    }
    let demo = inputs.purpose == Purpose::Demo;
    let cores = if let Value::List(cores) = &values.get("cores").value { cores.len() } else { 1 };
    if values.text("core_bytes_max") == "auto" {
        let bytes = |memory| Value::Integer(host::core_bytes_max(memory, cores));
        let (bytes, unlimited) = (bytes(host.memory_bytes_max), bytes(None));
        if bytes == unlimited {
            values.get_mut("core_bytes_max").value = bytes;
        } else {
            values.default_of_cgroup("core_bytes_max", bytes, "memory limit");
        }
    }
    let [admin, control] = ["admin", "control"].map(|option| values.text(option) != "off");
    let listeners = if let Value::List(listen) = &values.get("listen").value { listen.len() } else { 1 };
    let besides = Descriptors { cores, listeners, domains, admin, control, demo }.besides_clients(host.nofile);
    let left = host.nofile.saturating_sub(besides);
    match values.get("clients_max").value {
        Value::Integer(wanted) if wanted > left => {
            let why = format!(
                "{wanted} clients need {} descriptors with the {besides} for all else, and this process may open {}; \
                 raise RLIMIT_NOFILE (LimitNOFILE= in the unit, --ulimit nofile= of the container), or write a lower \
                 number, or auto, which is {} here",
                wanted.saturating_add(besides),
                host.nofile,
                host::clients_max(host.nofile, left)
            );
            refuse(values, "clients_max", why);
        }
        Value::Integer(_) => {}
        _ if left == 0 => {
            let why = format!(
                "{besides} descriptors are needed besides the clients', and this process may open {}; raise \
                 RLIMIT_NOFILE (LimitNOFILE= in the unit, --ulimit nofile= of the container)",
                host.nofile
            );
            refuse(values, "clients_max", why);
            values.get_mut("clients_max").value = Value::Integer(1);
        }
        _ => values.get_mut("clients_max").value = Value::Integer(host::clients_max(host.nofile, left)),
    }
    if values.text("state_dir") == "auto" {
        let path = first_directory(&inputs.env, "STATE_DIRECTORY").to_string_lossy().into_owned();
        values.get_mut("state_dir").value = Value::Text(path);
    }
    resolve_control(values, &inputs.env);
}

/// What to write where a single number is meant as how many CPUs.
fn many_cpus(wanted: &[String], allowed: &[usize]) -> String {
    let [number] = wanted else { return String::new() };
    let meant = match number.parse().ok().and_then(|count: usize| allowed.get(..count)) {
        Some(cpus @ [first, .., last]) if last - first + 1 == cpus.len() => {
            format!("the first {number} are {first}-{last}")
        }
        _ => "`all` are those that it may have".to_owned(),
    };
    format!("; `cores` names CPUs, not how many: {meant}")
}

/// The same for `control`, which is all that those need who speak to a running process.
fn resolve_control(values: &mut Values, env: &BTreeMap<String, String>) {
    if values.text("control") == "auto" {
        let path = first_directory(env, "RUNTIME_DIRECTORY").join("control");
        values.get_mut("control").value = Value::Text(path.to_string_lossy().into_owned());
    }
}

/// What systemd made for this process; it separates several directories by colons, and ours is the first.
fn first_directory<'a>(env: &'a BTreeMap<String, String>, variable: &str) -> &'a Path {
    let given = env.get(variable).and_then(|list| list.split(':').next());
    Path::new(given.filter(|path| !path.is_empty()).unwrap_or("/run/evergate"))
}

fn resolve_origins(
    values: &mut Values,
    cross_origin: Option<&[(String, Source)]>,
    errors: &mut Errors,
    warnings: &mut Vec<String>,
) {
    if values.text("origins") != "opensrf_core" {
        return;
    }
    let Some(cross_origin) = cross_origin else {
        if !errors.hide("opensrf_core") {
            let why = "it is \"opensrf_core\", and no opensrf_core.xml is read; set opensrf_core to its path";
            errors.push(values.problem("origins", why));
        }
        return;
    };
    let mut list = Vec::new();
    for (written, source) in cross_origin {
        let origin = text::origin(written).map_err(|_| {
            let problem = format!("<origin> cannot be {written:?}");
            Error::new(source, problem, "write a host such as catalog.example.org, with a port if it matters, or *")
        });
        list.extend(errors.keep(origin));
    }
    if cross_origin.is_empty() {
        warnings
            .push("origins: the cross_origin list of opensrf_core.xml is empty, so no browser may connect".to_owned());
    }
    values.get_mut("origins").value = Value::List(list);
}

/// What is missing may stand where it could not be read: that is said then, and nothing that may follow from it.
fn require_account(values: &Values, errors: &mut Errors) {
    for missing in ["domain", "username", "passwd"] {
        if !values.text(missing).is_empty() || errors.hide(missing) {
            continue;
        }
        let flag = if missing == "passwd" { String::new() } else { format!(", --{missing}") };
        let remedy = format!(
            "name Evergreen's file with --opensrf-core /openils/conf/opensrf_core.xml, or set {missing} in the TOML \
             file or as EVERGATE_{}{flag}",
            missing.to_uppercase()
        );
        let place = match &values.get(missing).source {
            Source::Default => "configuration".to_owned(),
            source => source.to_string(),
        };
        errors.push(Error::new(place, format!("{missing} is not set"), remedy));
    }
}

/// The primary domain first, then the others that may be dialled.
fn allowed_domains(values: &Values, of_core: Vec<String>) -> Vec<String> {
    let primary = values.text("domain").to_owned();
    let listed = if let Value::List(list) = &values.get("bus_domains").value { list.clone() } else { Vec::new() };
    let mut domains: Vec<String> = Vec::new();
    for domain in std::iter::once(primary).chain(of_core).chain(listed) {
        if !domain.is_empty() && !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    domains
}

fn check_addresses(values: &Values, config: &Config, errors: &mut Errors) {
    if ["admin", "admin_allow_remote", "listen"].iter().any(|option| errors.hide(option)) {
        return;
    }
    let remote = |address: SocketAddr| !address.ip().to_canonical().is_loopback();
    if config.admin.is_some_and(remote) && !config.admin_allow_remote {
        let why = "the address is not loopback, and the admin page has no password; use 127.0.0.1, or allow it with \
                   --admin-allow-remote (admin_allow_remote = true)";
        errors.push(values.problem("admin", why));
    }
    let is_admins = |listen: &Listen| listen.at.tcp().is_some_and(|at| at.port() > 0 && Some(at) == config.admin);
    if config.listen.iter().any(is_admins) {
        errors.push(values.problem("admin", "it is the same address as listen; give it a port of its own"));
    }
}

/// The path that Evergreen's clients ask for.
const CLIENTS_PATH: &str = "/osrf-websocket-translator";

fn check_paths(values: &Values, config: &Config, errors: &mut Errors) {
    let clients_path = config.path.as_deref().unwrap_or(CLIENTS_PATH);
    if config.health_path.as_deref() == Some(clients_path) {
        let why = "it is the path of the clients, so that none could connect; give it a path of its own";
        errors.push(values.problem("health_path", why));
    }
}

/// What TLS to Redis needs is read again when it is needed: here it is judged.
fn check_tls(values: &Values, config: &Config, errors: &mut Errors, warnings: &mut Vec<String>) {
    if config.needs_tls()
        && let Err((option, why)) = config.tls_files()
    {
        errors.push(values.problem(option, why));
    }
    let is_sealed = |place: &String| place.starts_with("rediss://");
    if !errors.hide("bus_domain_address") && !config.bus_domain_address.values().any(is_sealed) {
        let unused = ["bus_tls_ca_file", "bus_tls_certificate_file", "bus_tls_key_file"]
            .into_iter()
            .filter(|option| !values.text(option).is_empty());
        warnings
            .extend(unused.map(|option| format!("{option} is not used: no bus_domain_address begins with rediss://")));
    }
    let key = config.bus_tls_key_file.as_deref();
    warnings.extend(key.and_then(|key| permissions::warning(key, Some("a private key"))));
}

fn warn(config: &Config, warnings: &mut Vec<String>) {
    for domain in config.bus_domain_address.keys().filter(|domain| !config.domains.contains(domain)) {
        warnings.push(format!(
            "bus_domain_address: {domain} is never dialled, since neither opensrf_core.xml nor bus_domains lists it"
        ));
    }
    if config.bus_message_bytes_max >= ROUTER_BYTES_MAX {
        warnings.push("bus_message_bytes_max: a message of 10 MiB ends OpenSRF's C router".to_owned());
    }
    if config.message_bytes_max > config.core_bytes_max {
        warnings.push("message_bytes_max exceeds core_bytes_max: a message of that size never fits; lower the first or raise the second".to_owned());
    }
    if config.drain_grace_seconds >= config.drain_max_seconds {
        warnings.push(
            "drain_grace_seconds is not shorter than drain_max_seconds: a drain ends before it closes".to_owned(),
        );
    }
    if !matches!(config.ingress.as_str(), "ws-translator-v1" | "ws-translator-v2") {
        warnings.push(format!(
            "ingress: Evergreen's seed data does not know {:?}, so logins go unrecorded",
            config.ingress
        ));
    }
}

/// What was written is kept, though the cgroup allows less.
fn warn_of_cgroup(values: &Values, config: &Config, host: &Host, warnings: &mut Vec<String>) {
    let cores = config.cores.len();
    if let Some(quota) = host.quota.as_ref().map(Vec::len).filter(|quota| *quota < cores) {
        warnings.push(format!(
            "cores: {cores} of them share the time of {quota} CPUs, which is all that the cgroup's CPU quota allows: the kernel stops \
             all of them for a while whenever it is used up; write fewer, or leave it at all"
        ));
    }
    let together = (config.core_bytes_max as u64).saturating_mul(cores as u64);
    if let Some(memory) = host.memory_bytes_max.filter(|memory| together > *memory)
        && !matches!(values.get("core_bytes_max").source, Source::Cgroup(_))
    {
        warnings.push(format!(
            "core_bytes_max: {cores} cores may take {together} bytes for clients, and the cgroup's memory limit is {memory}: the kernel \
             ends the process before its own limit helps; write less, or auto"
        ));
    }
}
