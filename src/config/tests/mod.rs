//! The table's faces agree, and what each option resolves to. `sources`: what files, variables and flags may say; `mistakes`: all of
//! them at once; `asking`: who speaks to a running process; `cgroup`: a container's limits; `readme`: the documents say the same.

mod asking;
mod cgroup;
mod mistakes;
mod readme;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use evergate_proto::websocket::handshake::Origins;

use super::cli::{Action, Failure, Show, action, command};
use super::*;

/// A directory of the test's own, removed on drop.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("evergate-config-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a temporary file");
        // Whatever the umask: what others may read is warned of.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
        path.to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn host() -> Host {
    Host::of(0..4, 20_000)
}

fn run_with(arguments: &[&str], env: &[(&str, &str)]) -> Result<Action, Failure> {
    let arguments = std::iter::once("evergate").chain(arguments.iter().copied()).map(OsString::from);
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    action(arguments, env, host())
}

fn loaded(arguments: &[&str], env: &[(&str, &str)]) -> Loaded {
    match run_with(arguments, env) {
        Ok(
            Action::Serve(loaded)
            | Action::Demo { loaded, .. }
            | Action::Check(loaded)
            | Action::Config(_, Some(loaded)),
        ) => *loaded,
        other => panic!("{other:?}"),
    }
}

fn error(arguments: &[&str], env: &[(&str, &str)]) -> String {
    match run_with(arguments, env) {
        Err(Failure::Config(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// The origins of a list.
fn listed(entries: &[&str]) -> Origins {
    Origins::parse(entries.iter().copied()).expect("origins")
}

/// A value other than the default for each option: as text, and as TOML.
fn other_value(option: &Opt) -> (&'static str, &'static str) {
    match option.name {
        "listen" => ("127.0.0.9:1234", "\"127.0.0.9:1234\""),
        "admin" => ("127.0.0.9:1235", "\"127.0.0.9:1235\""),
        "path" | "health_path" => ("/ws", "\"/ws\""),
        "cores" => ("0,2-3", "[0, \"2-3\"]"),
        "origins" => {
            ("Catalog.example.org,https://b.example:8443", "[\"catalog.example.org\", \"https://b.example:8443\"]")
        }
        "trusted_proxies" => ("10.0.0.0/8,fd00::/8", "[\"10.0.0.0/8\", \"fd00::/8\"]"),
        "ingress" => ("ws-translator-v1", "\"ws-translator-v1\""),
        "domain" => ("private.localhost", "\"private.localhost\""),
        "bus_domains" => ("a.localhost,b.localhost", "[\"a.localhost\", \"b.localhost\"]"),
        "bus_domain_address" => (
            "private.localhost=127.0.0.2:6380,x=[::1]:1",
            "{ \"private.localhost\" = \"127.0.0.2:6380\", x = \"[::1]:1\" }",
        ),
        "loglevel" => ("4", "\"debug\""),
        "log_format" => ("json", "\"json\""),
        "logfile" => ("/var/log/evergate.log", "\"/var/log/evergate.log\""),
        "syslog" | "actlog" => ("LOG_LOCAL7", "\"local7\""),
        "log_protect" => ("open-ils.auth,x.y", "[\"open-ils.auth\", \"x.y\"]"),
        _ => match option.kind {
            Kind::Integer { .. } | Kind::IntegerOrAuto { .. } => ("57", "57"),
            Kind::Bytes { .. } | Kind::BytesOrAuto { .. } => ("64 KiB", "65536"),
            Kind::Bool => ("true", "true"),
            _ => ("word", "\"word\""),
        },
    }
}

#[test]
fn every_default_parses_and_differs_from_nothing() {
    for option in TABLE {
        for text in std::iter::once(option.default).chain(option.demo) {
            assert!(option.parse(text).is_ok(), "{}: {text}", option.name);
        }
        assert!(option.doc.ends_with('.'), "{}: {}", option.name, option.doc);
    }
}

#[test]
fn names_are_unique_and_snake_case() {
    let names: BTreeSet<_> = TABLE.iter().map(|option| option.name).collect();
    assert_eq!(names.len(), TABLE.len());
    assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
}

#[test]
fn every_option_says_the_same_as_flag_as_variable_and_as_toml() {
    let dir = Dir::new();
    let xml = dir.file("core.xml", "<config><gateway><domain>public.localhost</domain></gateway></config>");
    let xml_quoted = format!("\"{xml}\"");
    for option in TABLE {
        let (mut text, mut toml) = other_value(option);
        if option.name == "opensrf_core" {
            (text, toml) = (&xml, &xml_quoted);
        }
        let file = dir.file(&format!("{}.toml", option.name), &format!("{} = {toml}\n", option.name));
        let by_toml = loaded(&["config", "--config", &file], &[]);
        let by_env = loaded(&["config"], &[(&option.env(), text)]);
        let default = loaded(&["config"], &[]);
        assert_ne!(by_toml.values.get(option.name).value, default.values.get(option.name).value, "{}", option.name);
        assert_eq!(by_toml.config, by_env.config, "{}", option.name);
        assert_eq!(by_env.values.get(option.name).source, Source::Env(option.env()));
        let Some(flag) = option.flag() else { continue };
        let by_flag = loaded(&["config", &format!("--{flag}={text}")], &[]);
        assert_eq!(by_flag.config, by_env.config, "{}", option.name);
        assert_eq!(by_flag.values.get(option.name).source, Source::Flag(flag));
    }
}

#[test]
fn every_flag_stands_in_the_help_and_a_password_has_none() {
    for subcommand in ["serve", "demo", "check", "config"] {
        let Err(Failure::Usage(help)) = run_with(&[subcommand, "--help"], &[]) else { panic!("no help") };
        let help = help.to_string();
        for option in TABLE {
            assert_eq!(
                help.contains(&format!("--{} ", option.name.replace('_', "-")))
                    || help.contains(&format!("--{}[", option.name.replace('_', "-"))),
                option.flag().is_some(),
                "{subcommand} {}",
                option.name
            );
        }
    }
    for passwd in [&["--passwd", "hush"][..], &["--passwd=hush"]] {
        let refused = error(&[&["serve"][..], passwd].concat(), &[]);
        assert!(refused.contains("EVERGATE_PASSWD") && !refused.contains("hush"), "{refused}");
    }
}

#[test]
fn the_command_is_sound_and_usage_errors_end_with_2() {
    command().debug_assert();
    for wrong in [&[][..], &["nosuch"], &["serve", "--nosuch"], &["serve", "--listen"], &["demo-services"]] {
        let Err(Failure::Usage(error)) = run_with(wrong, &[]) else { panic!("{wrong:?}") };
        assert_eq!(error.exit_code(), 2, "{wrong:?}");
    }
    let Err(Failure::Usage(version)) = run_with(&["--version"], &[]) else { panic!("no version") };
    assert_eq!(version.exit_code(), 0);
    assert!(version.to_string().contains("commit"));
}

#[test]
fn the_global_flags_may_stand_before_or_after_the_subcommand() {
    let dir = Dir::new();
    let file = dir.file("e.toml", "port = 2\n");
    for arguments in [["--config", &file, "config"], ["config", "--config", &file]] {
        assert_eq!(loaded(&arguments, &[]).config.port, 2);
    }
    for arguments in [["--opensrf-core", "/nosuch/x", "config"], ["config", "--opensrf-core", "/nosuch/x"]] {
        assert!(error(&arguments, &[]).contains("flag --opensrf-core"));
    }
}

#[test]
fn the_sample_parses_back_to_the_defaults_commented_or_not() {
    let dir = Dir::new();
    let commented = dir.file("c.toml", &sample());
    let live: String = sample()
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .flat_map(|line| [line, "\n"])
        .collect();
    let live_file = dir.file("l.toml", &live);
    let default = loaded(&["config"], &[]);
    assert_eq!(loaded(&["config", "--config", &commented], &[]).config, default.config);
    let from_live = loaded(&["config", "--config", &live_file], &[]);
    assert_eq!(from_live.config, default.config);
    let set = from_live.values.iter().filter(|setting| matches!(setting.source, Source::Toml { .. })).count();
    assert_eq!(set, TABLE.len(), "every option stands in the sample");
}

#[test]
fn the_table_of_the_documents_lists_every_option_with_all_of_its_names() {
    let table = markdown();
    for option in TABLE {
        let rows: Vec<&str> = table.lines().filter(|row| row.starts_with(&format!("| `{}` |", option.name))).collect();
        let [row] = rows[..] else { panic!("{}: {rows:?}", option.name) };
        let flag = option.flag().map(|flag| format!("--{flag}"));
        let others = option.xml.iter().chain(option.eg_websockets).map(|name| (*name).to_owned());
        for name in [option.env()].into_iter().chain(flag).chain(others) {
            assert!(row.contains(&format!("{name}`")), "{row} has no {name}");
        }
    }
    assert!(matches!(run_with(&["config", "--markdown"], &[]), Ok(Action::Config(Show::Markdown, None))));
    assert!(matches!(run_with(&["config", "--sample"], &[]), Ok(Action::Config(Show::Sample, None))));
}

#[test]
fn the_effective_configuration_is_toml_that_gives_the_same_again() {
    let arguments = ["config", "--cores", "1-2", "--origins", "a.example,*", "--message-bytes-max", "1500"];
    let found = loaded(&[&arguments[..], &["--bus-domain-address", "a.b=127.0.0.2:6380"]].concat(), &[]);
    let dir = Dir::new();
    let file = dir.file("again.toml", &effective(&found));
    assert_eq!(loaded(&["config", "--config", &file], &[]).config, found.config);
}

#[test]
fn passwords_are_masked_wherever_they_come_from() {
    let dir = Dir::new();
    let toml = dir.file("e.toml", "passwd = \"hush-toml\"\n");
    let xml = dir.file("c.xml", "<config><gateway><passwd>hush-xml</passwd></gateway></config>");
    for (arguments, env) in [
        (&["config", "--config", &toml][..], &[][..]),
        (&["config", "--opensrf-core", &xml], &[]),
        (&["config"], &[("EVERGATE_PASSWD", "hush-env")]),
    ] {
        let found = loaded(arguments, env);
        let printed = format!("{} {found:?}", effective(&found));
        assert!(!printed.contains("hush"), "{printed}");
        assert!(printed.contains("passwd = \"********\""), "{printed}");
        assert!(found.config.passwd.expose().starts_with("hush"));
    }
    let wrong = dir.file("w.toml", "passwd = [\"hush\"]\n");
    assert!(!error(&["config", "--config", &wrong], &[]).contains("hush"));
}

#[test]
fn cores_and_clients_max_are_resolved_against_the_host() {
    let config = loaded(&["config"], &[]).config;
    assert_eq!((config.cores, config.clients_max), (vec![0, 1, 2, 3], 18_000));
    assert_eq!(loaded(&["demo", "--cores", "3,1-2,1"], &[]).config.cores, [1, 2, 3]);
    let several = error(&["demo", "--cores", "0,7"], &[]);
    assert!(several.contains("may not run on CPU 7") && !several.contains("not how many"), "{several}");
    for (number, meant) in [("4", "the first 4 are 0-3"), ("8", "`all` are those that it may have")] {
        let single = error(&["demo", "--cores", number], &[]);
        assert!(single.contains(&format!("; `cores` names CPUs, not how many: {meant}")), "{single}");
    }
    assert_eq!(loaded(&["config", "--cores", "0,7"], &[]).config.cores, [0, 7], "left for `check` to report");
    let on = |nofile| Inputs { host: Host::of([0, 1], nofile), ..Inputs::none(Purpose::Config) };
    let few = load(on(256)).expect("a low limit").config;
    let besides = Descriptors::of(&few).besides_clients(256);
    assert_eq!((few.clients_max as u64, few.admin), (256 - besides, None), "what `check` asks for is kept free");
    assert_eq!(load(on(u64::MAX)).expect("no limit of descriptors").config.clients_max, 16_777_216);
}

#[test]
fn more_clients_than_descriptors_are_no_start_but_left_for_check_and_config_to_show() {
    let given = ["--clients-max", "10000000", "--domain", "d", "--username", "u"];
    let env = [("EVERGATE_PASSWD", "p")];
    let found = error(&[&["serve"][..], &given].concat(), &env);
    for part in ["flag --clients-max", "10000000", "20000", "LimitNOFILE", "auto, which is 18000 here"] {
        assert!(found.contains(part), "{part}: {found}");
    }
    assert!(error(&["demo", "--clients-max", "19999"], &[]).contains("clients_max"), "all else needs some, too");
    assert_eq!(loaded(&["demo", "--clients-max", "18500"], &[]).config.clients_max, 18_500);
    for (looks, warns) in [("check", false), ("config", true)] {
        let loaded = loaded(&[&[looks][..], &given].concat(), &env);
        assert_eq!(loaded.config.clients_max, 10_000_000);
        assert_eq!(loaded.warnings.iter().any(|line| line.contains("clients_max")), warns, "{:?}", loaded.warnings);
    }
    let host = Host::of([0], 40);
    let none_left = load(Inputs { host, ..Inputs::none(Purpose::Demo) }).expect_err("no client has a place");
    assert!(none_left.to_string().contains("LimitNOFILE"), "{none_left}");
}

#[test]
fn state_dir_follows_systemd_then_run_then_off() {
    let dir = |arguments: &[&str], env: &[(&str, &str)]| loaded(arguments, env).config.state_dir;
    assert_eq!(dir(&["config"], &[]), Some("/run/evergate".into()));
    assert_eq!(dir(&["config"], &[("STATE_DIRECTORY", "/var/lib/e:/x")]), Some("/var/lib/e".into()));
    assert_eq!(dir(&["config", "--state-dir", "/s"], &[("STATE_DIRECTORY", "/v")]), Some("/s".into()));
    assert_eq!(dir(&["config", "--state-dir", "off"], &[]), None);
}

#[test]
fn a_remote_admin_page_must_be_allowed() {
    for address in ["0.0.0.0:7683", "10.0.0.1:7683", "[::]:7683"] {
        let found = error(&["config", "--admin", address], &[]);
        assert!(found.contains("--admin-allow-remote") && found.contains("flag --admin"), "{found}");
        loaded(&["config", "--admin", address, "--admin-allow-remote"], &[]);
    }
    loaded(&["config", "--admin", "[::1]:7683"], &[]);
}

/// The same, with a file for the token.
fn with<'a>(arguments: &[&'a str], token: &'a str) -> Vec<&'a str> {
    [arguments, &["--admin-token-file", token]].concat()
}

#[test]
fn actions_of_the_admin_page_need_a_token_that_can_be_read_and_cannot_be_guessed() {
    let dir = Dir::new();
    let serve =
        ["serve", "--domain", "a.localhost", "--username", "gateway", "--admin", "127.0.0.1:7683", "--admin-actions"];
    let env = [("EVERGATE_PASSWD", "secret")];
    let found = error(&serve, &env);
    assert!(found.contains("admin_token_file") && found.contains("openssl rand"), "{found}");
    assert!(!found.contains("correct it"), "it holds its remedy: {found}");
    let missing = dir.0.join("nothing").display().to_string();
    let found = error(&with(&serve, &missing), &env);
    assert!(found.contains(&format!("admin_token_file: {missing} cannot be read: No such file")), "{found}");
    let short = dir.file("short", "secret\n");
    let found = error(&with(&serve, &short), &env);
    assert!(found.contains("16 to 256") && !found.contains("secret"), "{found}");
    let good = dir.file("token", "0123456789abcdef\n");
    let given = loaded(&with(&serve, &good), &env);
    assert_eq!(given.admin_token.as_ref().map(Secret::expose), Some("0123456789abcdef"));
    assert!(!format!("{given:?}").contains("0123456789abcdef") && given.warnings.is_empty(), "{:?}", given.warnings);
    fs::set_permissions(&good, fs::Permissions::from_mode(0o644)).expect("its mode");
    let warned = loaded(&with(&serve, &good), &env).warnings;
    assert!(warned.iter().any(|warning| warning.contains("chmod o-r") && warning.contains("a token")), "{warned:?}");
    let off = &serve[..serve.len() - 1];
    assert_eq!(loaded(off, &env).admin_token, None, "off, it needs none");
    assert_eq!(loaded(&with(off, &good), &env).warnings[..1], ["admin_token_file is not used: admin_actions is off"]);
    assert_eq!(loaded(&["demo"], &[]).admin_token, None, "the demo makes one");
}

#[test]
fn actions_without_an_admin_page_are_a_mistake_unless_they_are_the_demos_own() {
    let serve = ["serve", "--domain", "a.localhost", "--username", "gateway", "--admin-actions"];
    let found = error(&serve, &[("EVERGATE_PASSWD", "secret")]);
    assert_eq!(found, "flag --admin-actions: admin_actions: there is no admin page; set admin = \"127.0.0.1:7683\"");
    assert_eq!(loaded(&["demo", "--admin", "off"], &[]).admin_token, None);
}

#[test]
fn files_for_tls_that_no_redis_needs_are_warned_of() {
    let given = ["config", "--bus-tls-ca-file", "/ca.pem", "--bus-tls-key-file", "/own.key"];
    let says = |option: &str| format!("{option} is not used: no bus_domain_address begins with rediss://");
    let warned = |place: &str| loaded(&[&given[..], &["--bus-domain-address", place]].concat(), &[]).warnings;
    let plain = warned("a.localhost=127.0.0.1:1");
    for option in ["bus_tls_ca_file", "bus_tls_key_file"] {
        assert!(plain.contains(&says(option)), "{plain:?}");
    }
    assert!(!plain.contains(&says("bus_tls_certificate_file")), "{plain:?}");
    let sealed = warned("a.localhost=rediss://127.0.0.1:1");
    assert!(!sealed.iter().any(|line| line.contains("is not used")), "{sealed:?}");
}

#[test]
fn switches_stand_alone_or_with_a_value() {
    assert!(loaded(&["config", "--same-origin"], &[]).config.same_origin);
    assert!(!loaded(&["config", "--same-origin=false"], &[("EVERGATE_SAME_ORIGIN", "true")]).config.same_origin);
}

#[test]
fn a_domains_redis_is_at_its_own_name_unless_the_table_says_otherwise() {
    let config = loaded(&["config", "--port", "6380", "--bus-domain-address", "b=[::1]:1"], &[]).config;
    let tcp = |host: &str, port| RedisPlace::Tcp { host: host.to_owned(), port };
    assert_eq!((config.redis_of("a"), config.redis_of("b")), (tcp("a", 6380), tcp("::1", 1)));
}

#[test]
fn lists_may_be_repeated_or_separated_by_commas() {
    let config = loaded(&["config", "--origins", "a.example", "--origins", "b.example, A.example"], &[]).config;
    assert_eq!(config.origins, listed(&["a.example", "b.example"]));
    assert_eq!(loaded(&["config", "--origins="], &[]).config.origins, Origins::List(Vec::new()));
    assert_eq!(loaded(&["config", "--trusted-proxies="], &[]).config.trusted_proxies, [""; 0]);
}

#[test]
fn demo_services_reads_its_passwords_from_files() {
    let dir = Dir::new();
    let (router, service) = (dir.file("r", "router-pw\n"), dir.file("s", "service-pw\nrest"));
    let arguments = [
        "demo-services",
        "--redis",
        "127.0.0.1:6379",
        "--domain",
        "d",
        "--router-user",
        "router",
        "--router-password-file",
        &router,
        "--service-user",
        "opensrf",
        "--service-password-file",
        &service,
    ];
    let Ok(Action::DemoServices(found)) = run_with(&arguments, &[]) else { panic!("refused") };
    assert_eq!((found.router_passwd.expose(), found.service_passwd.expose()), ("router-pw", "service-pw"));
    assert_eq!((found.service_domain.as_str(), found.service_redis.as_str()), ("d", "127.0.0.1:6379"));
    assert_eq!((found.router_name.as_str(), found.keepalive_seconds), ("router", 3));
    let more = [&arguments[..], &["--service-domain", "d2", "--service-redis", "127.0.0.2:1", "--workers", "3"]];
    let Ok(Action::DemoServices(found)) = run_with(&more.concat(), &[]) else { panic!("refused") };
    assert_eq!((found.service_domain.as_str(), found.service_redis.as_str()), ("d2", "127.0.0.2:1"));
    assert_eq!(found.workers, 3);
    fs::write(&router, "").expect("the file");
    assert!(matches!(run_with(&arguments, &[]), Err(Failure::Config(_))));
}

#[test]
fn files_that_every_user_may_read_or_write_are_warned_of_with_the_remedy() {
    let dir = Dir::new();
    let with = dir.file("with.toml", "domain = \"d\"\nusername = \"u\"\npasswd = \"p\"\n");
    let without = dir.file("without.toml", "domain = \"d\"\n");
    let xml = dir.file("core.xml", "<config><gateway><passwd>p</passwd></gateway></config>");
    let warned = |arguments: &[&str], path: &str, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
        let warnings = loaded(&[&["config"][..], arguments].concat(), &[]).warnings;
        let about = warnings.into_iter().find(|warning| warning.contains(path));
        about.and_then(|warning| Some(warning.split_once("chmod ")?.1.split_once(' ')?.0.to_owned()))
    };
    for (mode, remedy) in
        [(0o600, None), (0o640, None), (0o644, Some("o-r")), (0o602, Some("o-w")), (0o666, Some("o-rw"))]
    {
        assert_eq!(warned(&["--config", &with], &with, mode).as_deref(), remedy, "{mode:o}");
        assert_eq!(warned(&["--opensrf-core", &xml], &xml, mode).as_deref(), remedy, "{mode:o}");
    }
    assert_eq!(warned(&["--config", &without], &without, 0o644), None, "it holds no password");
    assert_eq!(warned(&["--config", &without], &without, 0o646).as_deref(), Some("o-w"));
    let given =
        ["demo-services", "--redis", "127.0.0.1:1", "--domain", "d", "--router-user", "r", "--service-user", "s"];
    let files = ["--router-password-file", &with, "--service-password-file", &without];
    let Ok(Action::DemoServices(found)) = run_with(&[&given[..], &files].concat(), &[]) else { panic!("refused") };
    assert_eq!(found.warnings.len(), 2, "{:?}", found.warnings);
}

#[test]
fn sizes_take_bytes_and_binary_suffixes() {
    let bytes = |text: &str| Kind::Bytes { min: 0, max: 1 << 40 }.parse(text);
    for (text, n) in [("1536", 1536), ("64 KiB", 65_536), ("10mib", 10 << 20), ("1 GiB", 1 << 30), ("5 B", 5)] {
        assert_eq!(bytes(text), Ok(Value::Integer(n)), "{text}");
    }
    for text in ["", "KiB", "1 KB", "1.5 MiB", "-1", "99999999999999999999", "999999999999 GiB", "é"] {
        assert!(bytes(text).is_err(), "{text}");
    }
}

#[test]
fn the_contracts_defaults_hold() {
    let c = loaded(&["config"], &[]).config;
    assert_eq!(c.listen.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1:7682"]);
    assert_eq!(
        [c.handshake_timeout_seconds, c.message_timeout_seconds, c.ping_seconds, c.pong_timeout_seconds],
        [10, 30, 30, 20]
    );
    assert_eq!(
        [c.idle_timeout_seconds, c.request_max_seconds, c.connect_max_seconds, c.close_timeout_seconds],
        [180, 600, 30, 2]
    );
    assert_eq!(
        [c.stop_max_seconds, c.drain_max_seconds, c.drain_quiet_ms, c.drain_grace_seconds, c.drain_closes_per_second],
        [5, 120, 250, 0, 2_000]
    );
    assert_eq!([c.bus_lost_reply_seconds, c.bus_dead_seconds, c.ready_bus_grace_seconds], [30, 20, 10]);
    assert_eq!([c.handshakes_max, c.json_depth_max, c.messages_per_envelope_max], [4_096, 1_000, 256]);
    assert_eq!([c.parallel_max, c.backlog_max, c.sessions_max, c.garbage_max], [100, 1_000, 64, 10]);
    assert_eq!(
        [c.message_bytes_max, c.bus_message_bytes_max, c.backlog_bytes_max, c.outbound_bytes_max, c.core_bytes_max],
        [10 << 20, 8 << 20, 16 << 20, 16 << 20, 1 << 30]
    );
    assert_eq!((c.activity_bytes_max, c.ingress.as_str(), c.origins), (1_536, "ws-translator-v2", Origins::Any));
    assert_eq!((c.trusted_proxies, c.logfile), (vec!["127.0.0.0/8".into(), "::1".into()], Logfile::Stderr));
    assert_eq!(c.bus_domain_address, BTreeMap::new());
}
