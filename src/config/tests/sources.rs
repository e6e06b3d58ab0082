//! What the files, the environment and the flags may say, which wins, and what the errors tell.

use super::*;

#[test]
fn xml_yields_to_toml_to_environment_to_flags() {
    let dir = Dir::new();
    let xml = dir.file("core.xml", "<config><gateway>\n<domain>xml.d</domain><port>1</port></gateway></config>");
    let toml = dir.file("e.toml", &format!("opensrf_core = \"{xml}\"\nport = 2\n"));
    let no_port = dir.file("n.toml", &format!("opensrf_core = \"{xml}\"\n"));
    let port = |file: &str, env: &[(&str, &str)], flags: &[&str]| {
        let found = loaded(&[&["config", "--config", file], flags].concat(), env);
        (found.config.port, found.values.get("port").source.to_string())
    };
    let env = [("EVERGATE_PORT", "3")];
    assert_eq!(port(&no_port, &[], &[]), (1, format!("{xml}:2")));
    assert_eq!(port(&toml, &[], &[]), (2, format!("{toml}:2")));
    assert_eq!(port(&toml, &env, &[]), (3, "environment EVERGATE_PORT".to_owned()));
    assert_eq!(port(&toml, &env, &["--port", "4"]), (4, "flag --port".to_owned()));
    let by_env = loaded(&["config"], &[("EVERGATE_CONFIG", &toml)]);
    assert_eq!((by_env.config.port, by_env.config.domain.as_str()), (2, "xml.d"));
    let default = loaded(&["config"], &[]);
    assert_eq!((default.config.port, &default.values.get("port").source), (6379, &Source::Default));
}

#[test]
fn errors_name_the_place_the_problem_and_the_remedy() {
    let dir = Dir::new();
    let cases: [(&str, &[&str]); 11] = [
        ("# a\nport = 1\ndrain_quite_ms = 5\n", &[":3:", "drain_quite_ms", "did you mean drain_quiet_ms?"]),
        ("\nnosuch_option_at_all = 5\n", &[":2:", "nosuch_option_at_all", "--sample"]),
        ("port = 1\nlisten = \"x\"\n", &[":2:", "listen cannot be \"x\"", "127.0.0.1:7682"]),
        ("garbage_max = -1\n", &[":1:", "a whole number from 1 to"]),
        ("cores = []\n", &[":1:", "CPU numbers and ranges"]),
        ("port = 1\nport = 2\n", &[":2:", "TOML"]),
        ("port = \n", &[":1:", "TOML"]),
        ("admin = [\"a\"]\n", &[":1:", "not a list"]),
        ("listen = [\"a\", \"127.0.0.1:1\", \"unix:b\"]\n", &[":1:", "\"a\" is neither", "\"b\" is no absolute"]),
        ("listen = 7700\n", &[":1: listen cannot be \"7700\": \"7700\" is neither", "; write addresses such as"]),
        ("bus_domain_address = \"127.0.0.2:6380\"\n", &["{ \"private.localhost\" = \"127.0.0.2:6380\" }"]),
    ];
    for (text, expected) in cases {
        let file = dir.file("e.toml", text);
        let found = error(&["config", "--config", &file], &[]);
        assert!(found.contains(&file), "{found}");
        assert!(expected.iter().all(|part| found.contains(part)), "{text:?}: {found}");
    }
    let found = error(&["config"], &[("EVERGATE_PING_SECOND", "5")]);
    assert!(found.contains("did you mean EVERGATE_PING_SECONDS?"), "{found}");
    let found = error(&["config"], &[("EVERGATE_JSON_DEPTH_MAX", "1025")]);
    assert!(found.contains("EVERGATE_JSON_DEPTH_MAX") && found.contains("to 1024"), "{found}");
    let found = error(&["config", "--json-depth-max", "1025"], &[]);
    assert!(found.contains("--json-depth-max") && found.contains("to 1024"), "{found}");
}

#[test]
fn a_missing_file_is_named_with_whoever_named_it() {
    let found = error(&["config", "--config", "/nosuch/e.toml"], &[]);
    assert!(found.contains("/nosuch/e.toml") && found.contains("--config"), "{found}");
    let found = error(&["config", "--opensrf-core", "/nosuch/core.xml"], &[]);
    assert!(found.contains("/nosuch/core.xml") && found.contains("--opensrf-core"), "{found}");
    let found = error(&["config"], &[("EVERGATE_OPENSRF_CORE", "/nosuch/core.xml")]);
    assert!(found.contains("EVERGATE_OPENSRF_CORE"), "{found}");
    let dir = Dir::new();
    let file = dir.file("e.toml", "\n\nopensrf_core = \"/nosuch/core.xml\"");
    assert!(error(&["config", "--config", &file], &[]).contains(&format!("{file}:3")));
}

#[test]
fn the_sample_opensrf_core_feeds_what_it_says() {
    let dir = Dir::new();
    let xml = dir.file(
        "core.xml",
        "<config>\n <opensrf><routers>\n  <router><name>router</name><domain>public.localhost</domain></router>\n  \
         <router><domain>private.localhost</domain></router></routers><domain>private.localhost</domain></opensrf>\n \
         <gateway><domain>public.localhost</domain><username>gateway</username><passwd> pw </passwd><port>6380</port>\
         <router_name>r2</router_name><logfile>syslog</logfile><syslog>local4</syslog><actlog>local5</actlog>\
         <logtag>one</logtag><loglevel>2</loglevel>\n <cross_origin><origin>Catalog.example.org</origin><origin/>\
         </cross_origin></gateway>\n <routers><router><trusted_domains><server>private.localhost</server>\
         <client>third.localhost</client></trusted_domains><transport><server>fourth.localhost</server></transport>\
         </router></routers>\n <shared><log_protect><match_string>open-ils.auth</match_string><match_string/>\
         <match_string>  </match_string></log_protect></shared>\n</config>",
    );
    let config = loaded(&["serve", "--opensrf-core", &xml, "--origins", "opensrf_core"], &[]).config;
    assert_eq!((config.domain.as_str(), config.username.as_str(), config.port), ("public.localhost", "gateway", 6380));
    assert_eq!((config.passwd.expose(), config.router_name.as_str()), ("pw", "r2"));
    assert_eq!(
        (config.logfile, config.loglevel, config.logtag.as_deref()),
        (Logfile::Syslog, LogLevel::Warn, Some("one"))
    );
    assert_eq!((config.syslog.name, config.actlog.name), ("local4", "local5"));
    assert_eq!(config.log_protect, ["open-ils.auth"], "an empty match_string would hide everything");
    assert_eq!(config.origins, listed(&["catalog.example.org"]));
    assert_eq!(config.domains, ["public.localhost", "private.localhost", "fourth.localhost", "third.localhost"]);
}

#[test]
fn without_an_account_serve_and_check_say_what_is_missing_and_demo_and_config_do_not_mind() {
    for subcommand in ["serve", "check"] {
        assert!(error(&[subcommand], &[]).contains("domain is not set"));
        let found = error(&[subcommand, "--domain", "a", "--username", "b"], &[]);
        assert!(found.contains("passwd is not set") && found.contains("EVERGATE_PASSWD"), "{found}");
        assert!(!found.contains("--passwd"), "{found}");
        loaded(&[subcommand, "--domain", "a", "--username", "b"], &[("EVERGATE_PASSWD", "c")]);
    }
    assert_eq!(loaded(&["config"], &[]).config.admin, None);
    assert_eq!(loaded(&["demo"], &[]).config.admin, "127.0.0.1:7683".parse().ok());
    assert_eq!(loaded(&["demo", "--admin", "off"], &[]).config.admin, None);
    assert!(matches!(
        run_with(&["demo", "--keepalive-seconds", "7"], &[]),
        Ok(Action::Demo { keepalive_seconds: 7, .. })
    ));
}

#[test]
fn dtds_and_entities_are_refused_with_their_line() {
    let dir = Dir::new();
    let body = "<config><gateway><domain>&d;</domain></gateway></config>";
    let cases = [
        format!("<?xml version=\"1.0\"?>\n<!DOCTYPE config [<!ENTITY d \"x\">]>\n{body}"),
        "<?xml version=\"1.0\"?>\n<!DOCTYPE config>\n<config><gateway/></config>".to_owned(),
        "<!-- <!DOCTYPE a> -->\n<!DOCTYPE config SYSTEM \"file:///etc/passwd\"><config><gateway/></config>".to_owned(),
    ];
    for text in cases {
        let file = dir.file("c.xml", &text);
        let found = error(&["config", "--opensrf-core", &file], &[]);
        assert!(found.contains(&format!("{file}:2")) && found.contains("DTD"), "{found}");
    }
    let file = dir.file("c.xml", &format!("\n{body}"));
    let found = error(&["config", "--opensrf-core", &file], &[]);
    assert!(found.contains(&format!("{file}:2")) && found.contains("entit"), "{found}");
    let commented = dir.file("c.xml", "<!-- <!DOCTYPE a> --><config><gateway/></config>");
    loaded(&["config", "--opensrf-core", &commented], &[]);
}

#[test]
fn a_broken_opensrf_core_is_named_with_its_line() {
    let dir = Dir::new();
    for (text, line, part) in [
        ("<config>\n<gateway>\n</config>", 3, "XML"),
        ("\n<config/>", 2, "<gateway>"),
        ("<config><gateway>\n\n<port>x</port></gateway></config>", 3, "port cannot be \"x\""),
        ("<config><gateway>\n<loglevel>9</loglevel></gateway></config>", 2, "loglevel"),
        ("", 1, "XML"),
    ] {
        let file = dir.file("c.xml", text);
        let found = error(&["config", "--opensrf-core", &file], &[]);
        assert!(found.contains(&format!("{file}:{line}")) && found.contains(part), "{text:?}: {found}");
    }
}

#[test]
fn origins_opensrf_core_needs_the_file() {
    assert!(error(&["config", "--origins", "opensrf_core"], &[]).contains("opensrf_core"));
    for bad in ["null", "https://a.example/x", "https://*", "a b", "a:0", "a:x"] {
        assert!(error(&["config", "--origins", bad], &[]).contains("origins"), "{bad}");
    }
}

#[test]
fn a_reload_takes_over_four_options_and_names_the_others() {
    let dir = Dir::new();
    let path = dir.file("e.toml", "loglevel = \"info\"\nport = 1\n");
    let first = loaded(&["config", "--config", &path, "--log-protect", "kept"], &[]);
    dir.file(
        "e.toml",
        "loglevel = 5\norigins = [\"a\"]\ntrusted_proxies = [\"::1\"]\nlog_protect = [\"x\"]\nport = 2\n",
    );
    let again = reload(&first).expect("a good file");
    assert_eq!((again.loglevel, again.origins), (LogLevel::Trace, listed(&["a"])));
    assert_eq!((again.trusted_proxies, again.log_protect), (vec!["::1".to_owned()], vec!["kept".to_owned()]));
    assert_eq!(again.needs_restart, ["port"]);
    dir.file("e.toml", "loglevel = \"loud\"\n");
    assert!(reload(&first).is_err_and(|error| error.to_string().contains(&format!("{path}:1"))));
}

#[test]
fn the_variables_of_eg_websockets_are_read_with_a_warning_that_names_the_option() {
    let env = [
        ("EG_WEBSOCKETS_ADDRESS", "::1"),
        ("EG_WEBSOCKETS_PORT", "7692"),
        ("EG_WEBSOCKETS_MAX_PARALLEL", "8"),
        ("EG_WEBSOCKETS_MAX_WORKERS", "700"),
        ("EG_WEBSOCKETS_MIN_WORKERS", "5"),
        ("EG_WEBSOCKETS_MAX_REQUESTS", "1000"),
    ];
    let found = loaded(&["config"], &env);
    assert!(effective(&found).contains("\"[::1]:7692\""), "{}", effective(&found));
    assert_eq!((found.config.parallel_max, found.config.clients_max), (8, 700));
    let source = found.values.get("listen").source.to_string();
    assert_eq!(source, "environment EG_WEBSOCKETS_ADDRESS and EG_WEBSOCKETS_PORT");
    let expected = [
        ["EG_WEBSOCKETS_PORT", "read as listen = ", "EVERGATE_LISTEN"],
        ["EG_WEBSOCKETS_MAX_WORKERS", "read as clients_max = 700", "EVERGATE_CLIENTS_MAX"],
        ["EG_WEBSOCKETS_MAX_PARALLEL", "read as parallel_max = 8", "EVERGATE_PARALLEL_MAX"],
        ["EG_WEBSOCKETS_MAX_REQUESTS", "ignored", "no worker is replaced"],
        ["EG_WEBSOCKETS_MIN_WORKERS", "ignored", "no workers are kept ready"],
    ];
    assert_eq!(found.warnings.len(), expected.len(), "{:?}", found.warnings);
    for (warning, parts) in found.warnings.iter().zip(expected) {
        assert!(parts.iter().all(|part| warning.contains(part)), "{warning}: {parts:?}");
    }
}

#[test]
fn half_an_address_of_eg_websockets_is_made_whole_by_the_default() {
    for (name, value, listen) in
        [("EG_WEBSOCKETS_PORT", "7692", "127.0.0.1:7692"), ("EG_WEBSOCKETS_ADDRESS", "0.0.0.0", "0.0.0.0:7682")]
    {
        let found = effective(&loaded(&["config"], &[(name, value)]));
        assert!(found.contains(&format!("\"{listen}\"")), "{found}");
    }
}

#[test]
fn whatever_is_written_for_evergate_comes_before_the_variables_of_eg_websockets() {
    let dir = Dir::new();
    let toml = dir.file("e.toml", "parallel_max = 20\n");
    let old = ("EG_WEBSOCKETS_MAX_PARALLEL", "8");
    let parallel = |arguments: &[&str], env: &[(&str, &str)]| loaded(arguments, env).config.parallel_max;
    assert_eq!(parallel(&["config"], &[old]), 8);
    assert_eq!(parallel(&["config", "--config", &toml], &[old]), 20);
    assert_eq!(parallel(&["config"], &[old, ("EVERGATE_PARALLEL_MAX", "30")]), 30);
    assert_eq!(parallel(&["config", "--parallel-max", "40"], &[old]), 40);
}

#[test]
fn a_variable_of_eg_websockets_that_cannot_be_used_is_named() {
    let found = error(&["config"], &[("EG_WEBSOCKETS_MAX_PARALLEL", "eight")]);
    assert!(found.contains("EG_WEBSOCKETS_MAX_PARALLEL") && found.contains("a whole number"), "{found}");
    // What its option would take in the same place.
    let more = [
        ("EG_WEBSOCKETS_PORT", "7682,unix:/run/ws.sock", "a port number from 1 to 65535"),
        ("EG_WEBSOCKETS_PORT", "7682;proxy", "a port number from 1 to 65535"),
        ("EG_WEBSOCKETS_PORT", "0", "a port number from 1 to 65535"),
        ("EG_WEBSOCKETS_PORT", "65536", "a port number from 1 to 65535"),
        ("EG_WEBSOCKETS_PORT", "+7682", "a port number from 1 to 65535"),
        ("EG_WEBSOCKETS_PORT", "", "a port number from 1 to 65535"),
        ("EG_WEBSOCKETS_ADDRESS", "127.0.0.1:1,10.0.0.1", "an IP address, such as 127.0.0.1 or ::1"),
        ("EG_WEBSOCKETS_ADDRESS", "unix:/run/ws.sock;mode=0666,127.0.0.1", "an IP address, such as 127.0.0.1 or ::1"),
        ("EG_WEBSOCKETS_ADDRESS", "::1]:1,[::2", "an IP address, such as 127.0.0.1 or ::1"),
        ("EG_WEBSOCKETS_MAX_WORKERS", "auto", "a whole number"),
        ("EG_WEBSOCKETS_MAX_PARALLEL", "8,9", "a whole number"),
    ];
    for (name, value, remedy) in more {
        let found = error(&["config"], &[(name, value)]);
        let expected = format!("environment {name}: it cannot be {value:?}; write {remedy}, and nothing else");
        assert_eq!(found, expected);
    }
    let both = error(&["config"], &[("EG_WEBSOCKETS_PORT", "7682;proxy"), ("EG_WEBSOCKETS_ADDRESS", "a,b")]);
    assert_eq!(both.lines().count(), 2, "{both}");
    assert!(effective(&loaded(&["config"], &[("EG_WEBSOCKETS_ADDRESS", "[::1]")])).contains("\"[::1]:7682\""));
    let found = loaded(&["config"], &[("EG_WEBSOCKETS_COLOUR", "blue")]).warnings.join("\n");
    assert!(found.contains("EG_WEBSOCKETS_COLOUR") && found.contains("no such variable"), "{found}");
    let read = super::super::cli::environment(
        ["EG_WEBSOCKETS_PORT", "EG_IDL_FILE"].map(|name| (OsString::from(name), OsString::from("1"))).into_iter(),
    );
    assert_eq!(read.expect("UTF-8").into_keys().collect::<Vec<_>>(), ["EG_WEBSOCKETS_PORT"]);
}
