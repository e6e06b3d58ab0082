//! Every mistake of every source is named at once, and nothing that only follows from another.

use super::*;

const ACCOUNT: &str = "domain = \"d\"\nusername = \"u\"\npasswd = \"p\"\n";

/// Its lines, each of which is one mistake.
fn errors(arguments: &[&str], env: &[(&str, &str)]) -> Vec<String> {
    error(arguments, env).lines().map(str::to_owned).collect()
}

/// Fails unless there is one line for each of `parts`, in this order, and no other.
fn assert_are(lines: &[String], parts: &[&str]) {
    let all = lines.len() == parts.len() && lines.iter().zip(parts).all(|(line, part)| line.contains(part));
    assert!(all, "{parts:?} are not {lines:#?}");
    assert!(lines.iter().all(|line| line.contains("; ")), "each has a remedy: {lines:#?}");
}

#[test]
fn every_mistake_of_every_source_is_named_at_once() {
    let dir = Dir::new();
    let xml = dir.file(
        "core.xml",
        "<config><gateway>\n<port>x</port>\n<loglevel>9</loglevel></gateway>\n<shared><log_protect>\
         <match_string>a</match_string></log_protect></shared></config>",
    );
    let toml = dir.file(
        "e.toml",
        &format!("{ACCOUNT}parallel_max = \"many\"\nno_such = 1\nlisten = \"nowhere\"\nbacklog_mx = 2\n"),
    );
    let found = errors(
        &[
            "serve",
            "--config",
            &toml,
            "--opensrf-core",
            &xml,
            "--garbage-max",
            "none",
            "--cores",
            "9",
            "--origins",
            "?",
        ],
        &[("EVERGATE_SESSIONS_MAX", "few"), ("EVERGATE_SESION_MAX", "1")],
    );
    let at = |file: &str, line: u32, what: &str| format!("{file}:{line}: {what}");
    let expected = [
        &at(&toml, 4, "parallel_max cannot be \"many\""),
        &at(&toml, 5, "no option is named \"no_such\""),
        &at(&toml, 6, "listen cannot be \"nowhere\""),
        &at(&toml, 7, "no option is named \"backlog_mx\"; did you mean backlog_max"),
        "environment EVERGATE_SESION_MAX: no option has this name; did you mean EVERGATE_SESSIONS_MAX",
        "environment EVERGATE_SESSIONS_MAX: sessions_max cannot be \"few\"",
        "flag --origins: origins cannot be",
        "flag --garbage-max: garbage_max cannot be",
        &at(&xml, 2, "port cannot be \"x\""),
        &at(&xml, 3, "loglevel cannot be \"9\""),
        "flag --cores: cores: this process may not run on CPU 9",
    ];
    assert_are(&found, &expected);
}

#[test]
fn all_that_is_missing_is_named_at_once_but_not_what_may_stand_where_nothing_could_be_read() {
    assert_are(&errors(&["serve"], &[]), &["domain is not set", "username is not set", "passwd is not set"]);
    assert_are(&errors(&["serve"], &[("EVERGATE_USERNAME", "u")]), &["domain is not set", "passwd is not set"]);
    let bad = errors(&["serve"], &[("EVERGATE_DOMAIN", "a b")]);
    assert_are(&bad, &["domain cannot be \"a b\"", "username is not set", "passwd is not set"]);
    let dir = Dir::new();
    let toml = dir.file("e.toml", "this is no toml\n");
    let found = errors(&["serve", "--config", &toml, "--opensrf-core", "/nowhere/core.xml", "--garbage-max", "x"], &[]);
    assert_are(&found, &["e.toml:1", "flag --garbage-max", "/nowhere/core.xml"]);
    let both = errors(&["serve", "--config", "/nowhere/e.toml", "--opensrf-core", "/nowhere/core.xml"], &[]);
    assert_are(&both, &["/nowhere/e.toml", "/nowhere/core.xml"]);
}

#[test]
fn what_is_no_toml_hides_no_other_mistake_of_its_file() {
    let dir = Dir::new();
    let toml = dir.file("e.toml", "nosuch = 1\nport = 1\nport = 2\ngarbage_max = true\nname\nlisten = [\n");
    let found = errors(&["config", "--config", &toml], &[]);
    let expected = [
        "e.toml:1: no option",
        "e.toml:3: not valid TOML: duplicate key",
        "e.toml:4: garbage_max",
        "e.toml:5: not valid TOML",
        "e.toml:6: not valid TOML",
    ];
    assert_are(&found, &expected);
}

#[test]
fn every_origin_of_opensrf_core_that_is_none_is_named() {
    let dir = Dir::new();
    let xml = dir.file(
        "core.xml",
        "<config><gateway><cross_origin>\n<origin>a b</origin>\n<origin>good.example</origin>\n<origin>null</origin>\
         </cross_origin></gateway></config>",
    );
    let found = errors(&["config", "--opensrf-core", &xml, "--origins", "opensrf_core"], &[]);
    assert_are(&found, &["core.xml:2", "core.xml:4"]);
}

#[test]
fn health_path_must_leave_clients_a_path() {
    let refused = error(&["config", "--path", "/ws", "--health-path", "/ws"], &[]);
    assert!(refused.contains("health_path") && refused.contains("path of its own"), "{refused}");
    let config = loaded(&["config", "--health-path", "/"], &[]).config;
    assert_eq!((config.path, config.health_path.as_deref()), (None, Some("/")));
}

/// What Kubernetes sets for a service `evergate` with ports named `ws` and `admin`, and one named `evergate-admin`.
const OF_KUBERNETES: &[(&str, &str)] = &[
    ("EVERGATE_SERVICE_HOST", "10.0.0.1"),
    ("EVERGATE_SERVICE_PORT", "7682"),
    ("EVERGATE_SERVICE_PORT_WS", "7682"),
    ("EVERGATE_SERVICE_PORT_ADMIN", "7683"),
    ("EVERGATE_PORT", "tcp://10.0.0.1:7682"),
    ("EVERGATE_PORT_7682_TCP", "tcp://10.0.0.1:7682"),
    ("EVERGATE_PORT_7682_TCP_PROTO", "tcp"),
    ("EVERGATE_PORT_7682_TCP_PORT", "7682"),
    ("EVERGATE_PORT_7682_TCP_ADDR", "10.0.0.1"),
    ("EVERGATE_ADMIN_SERVICE_HOST", "fd00::1"),
    ("EVERGATE_ADMIN_SERVICE_PORT", "7683"),
    ("EVERGATE_ADMIN_PORT", "tcp://[fd00::1]:7683"),
    ("EVERGATE_ADMIN_PORT_7683_TCP", "tcp://[fd00::1]:7683"),
    ("EVERGATE_ADMIN_PORT_7683_TCP_PROTO", "tcp"),
];

#[test]
fn what_kubernetes_sets_for_a_service_of_our_name_is_ignored_with_one_warning_that_names_it() {
    let found = loaded(&["config"], OF_KUBERNETES);
    assert_eq!(found.config, loaded(&["config"], &[]).config);
    let warned: Vec<&String> = found.warnings.iter().filter(|line| line.contains("Kubernetes")).collect();
    assert_eq!(warned.len(), 1, "{:?}", found.warnings);
    assert!(OF_KUBERNETES.iter().all(|(name, _)| warned[0].contains(name)), "{warned:?}");
    assert_eq!(loaded(&["config"], &[("EVERGATE_PORT", "6380")]).config.port, 6_380, "the option is still one");
}

#[test]
fn what_only_looks_like_a_variable_of_kubernetes_is_still_a_mistake() {
    for (name, text) in [
        ("EVERGATE_PORT", "http://10.0.0.1:7682"),
        ("EVERGATE_PORT", "10.0.0.1:7682"),
        ("EVERGATE_LISTEN", "tcp://10.0.0.1:7682"),
        ("EVERGATE_PORT_X", "6379"),
        ("EVERGATE_PORT_7682_TCP", "7682"),
        ("EVERGATE_SERVICE_HOST", "redis.example"),
        ("EVERGATE_SERVICE_PORT", "x"),
        ("EVERGATE_SERVICE_NAME", "x"),
    ] {
        assert!(error(&["config"], &[(name, text)]).contains(name), "{name}={text}");
    }
}

#[test]
fn a_value_of_opensrf_core_is_its_whole_text_whatever_stands_in_it() {
    let dir = Dir::new();
    let text = "<config><gateway>\
         <domain>public<!-- x -->.localhost</domain>\
         <port><?evergate x?>63<![CDATA[8]]>0</port>\
         <username><![CDATA[gate]]>way</username>\
         <passwd>a<!-- b -->&amp;<![CDATA[<c>&]]><?d e?>f</passwd>\
         <router_name> <!-- the name --> router </router_name>\
         <cross_origin><origin><!-- o -->a.<![CDATA[example]]></origin></cross_origin>\
         <routers><router><domain>pri<!-- x -->vate.localhost</domain></router></routers></gateway>\
         <shared><log_protect>\
         <match_string><!-- logins -->open-ils.auth</match_string>\
         <match_string>open-ils.<!-- cards -->actor</match_string>\
         <match_string><![CDATA[x.]]>y</match_string>\
         </log_protect></shared></config>";
    let file = dir.file("core.xml", text);
    let found = loaded(&["config", "--opensrf-core", &file, "--origins", "opensrf_core"], &[]);
    let config = found.config;
    assert_eq!((config.domain.as_str(), config.port, config.username.as_str()), ("public.localhost", 6_380, "gateway"));
    assert_eq!((config.passwd.expose(), config.router_name.as_str()), ("a&<c>&f", "router"));
    assert_eq!(config.origins, listed(&["a.example"]));
    assert_eq!(config.domains, ["public.localhost", "private.localhost"]);
    assert_eq!(config.log_protect, ["open-ils.auth", "open-ils.actor", "x.y"]);
    assert_eq!(found.warnings, [""; 0]);
}

#[test]
fn an_empty_match_string_is_ignored_with_a_warning_and_one_that_holds_elements_is_a_mistake() {
    let dir = Dir::new();
    let file = |inside: &str| {
        dir.file(
            "core.xml",
            &format!(
                "<config><gateway/>\n<shared><log_protect>\n<match_string>a.b</match_string>\n\
                 <match_string>{inside}</match_string></log_protect></shared></config>"
            ),
        )
    };
    for empty in ["", " ", "<!-- open-ils.auth -->", "<![CDATA[]]>"] {
        let found = loaded(&["config", "--opensrf-core", &file(empty)], &[]);
        assert_eq!(found.config.log_protect, ["a.b"], "{empty}");
        assert!(found.warnings.iter().any(|line| line.contains("core.xml:4: an empty <match_string>")), "{empty}");
    }
    let found = errors(&["config", "--opensrf-core", &file("<b>open-ils.auth</b>")], &[]);
    assert_are(&found, &["core.xml:4: log_protect: <match_string> holds elements"]);
}

#[test]
fn demo_services_name_every_mistake_at_once_too() {
    let arguments = [
        "demo-services",
        "--redis",
        "nowhere",
        "--domain",
        "a b",
        "--router-user",
        "r",
        "--router-password-file",
        "/nowhere/r",
        "--service-user",
        "s:t",
        "--service-password-file",
        "/nowhere/s",
        "--config",
        "x",
    ];
    let expected =
        ["flag --config", "flag --redis", "flag --domain", "flag --service-user", "/nowhere/r", "/nowhere/s"];
    assert_are(&errors(&arguments, &[]), &expected);
}
