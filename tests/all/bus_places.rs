//! A Redis that is no port: a Unix socket, and TLS.

use nix::sys::signal::Signal;

use crate::support::authority::Authority;
use crate::support::client::{Client, on_threads};
use crate::support::gateway::{Gateway, Setup};
use crate::support::process::{Ended, evergate};
use crate::support::redis::Redis;
use crate::support::services::Services;
use crate::support::{Folder, PATIENCE, free_port, until};

/// A Redis with a port for TLS, which asks for certificates, and the files of both sides.
struct Sealed {
    redis: Redis,
    place: String,
    /// Lines of TOML with which it can be reached.
    lines: [String; 3],
}

impl Sealed {
    fn start() -> Self {
        let (folder, authority) = (Folder::new(), Authority::new("the site"));
        let file = |name: &str, text: &str| folder.write(name, text).display().to_string();
        let (server, client) = (authority.sign("127.0.0.1"), authority.sign("gateway"));
        let ca = file("ca.pem", &authority.certificate());
        let (certificate, key) = (file("redis.pem", &server.certificate), file("redis.key", &server.key));
        let own = [file("own.pem", &client.certificate), file("own.key", &client.key)];
        let port = free_port();
        let options = ["--tls-port", &port.to_string(), "--tls-ca-cert-file", &ca];
        let options = [&options[..], &["--tls-cert-file", &certificate, "--tls-key-file", &key]].concat();
        let redis = Redis::start_with(folder, &options);
        let lines = [
            format!("bus_tls_ca_file = \"{ca}\""),
            format!("bus_tls_certificate_file = \"{}\"", own[0]),
            format!("bus_tls_key_file = \"{}\"", own[1]),
        ];
        Self { redis, place: format!("rediss://127.0.0.1:{port}"), lines }
    }

    fn setup(&self) -> Setup {
        self.lines.iter().fold(Setup::serve_at(&self.place), |setup, line| setup.line(line))
    }
}

fn check(setup: &[String], place: &str) -> Ended {
    let folder = Folder::new();
    let lines = format!(
        "{}\ndomain = \"public.localhost\"\nusername = \"gateway\"\nlisten = \"127.0.0.1:0\"\n\
         bus_domain_address = {{ \"public.localhost\" = \"{place}\" }}\n",
        setup.join("\n")
    );
    let file = folder.write("evergate.toml", &lines).display().to_string();
    evergate(&["check", "--config", &file], &[("EVERGATE_PASSWD", "gateway-test")])
}

/// Small calls of many, a session, and replies of megabytes by turns.
fn all_is_relayed(gateway: &Gateway) {
    let clients: Vec<Client> = (0..8).map(|_| Client::connect(gateway)).collect();
    on_threads(clients, |at, mut client| {
        for round in 0..20_u32 {
            let sum = client.call("opensrf.math", "t", round + 1, "add", &format!("[{at},{round}]"));
            assert_eq!(sum, [serde_json::json!(at as u64 + u64::from(round))]);
        }
        let bytes = 700_000 + at * 100_000;
        let big = client.call("opensrf.demo", "t", 100, "opensrf.demo.big", &format!("[{bytes}]"));
        assert_eq!(big[0].as_str().map(str::len), Some(bytes));
        client.open_session("opensrf.demo", "s");
        for count in 1..4_u32 {
            let counted = client.call("opensrf.demo", "s", count + 1, "opensrf.demo.counter", "[]");
            assert_eq!(counted, [serde_json::json!(count)]);
        }
        client.close();
    });
}

/// It serves, goes on when Redis was restarted, and leaves nothing behind.
fn serves_over(redis: &mut Redis, setup: Setup) {
    let mut gateway = setup.start();
    let services = Services::start(redis, &[]);
    all_is_relayed(&gateway);
    drop(services);
    redis.restart();
    let _services = Services::start(redis, &[]);
    let is_up = |link: &serde_json::Value| link["state"] == "up";
    until("the links are back", PATIENCE, || {
        let status = gateway.status();
        let cores = status["cores"].as_array().cloned().unwrap_or_default();
        cores.iter().all(|core| core["bus"].as_array().is_some_and(|links| links.iter().all(is_up)))
    });
    all_is_relayed(&gateway);
    gateway.signal(Signal::SIGUSR1);
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
    assert_eq!(redis.keys("opensrf:client:gateway:*"), Vec::<String>::new());
}

#[test]
fn a_redis_on_a_unix_socket_is_served_and_its_restart_survived() {
    let folder = Folder::new();
    let path = folder.path().join("redis.sock").display().to_string();
    let mut redis = Redis::start_with(folder, &["--unixsocket", &path, "--unixsocketperm", "700"]);
    let place = format!("unix:{path}");
    let checked = check(&[], &place);
    assert_eq!(checked.code, 0, "{}", checked.text());
    serves_over(&mut redis, Setup::serve_at(&place));
}

#[test]
fn a_redis_that_asks_for_certificates_is_served_by_tls_and_its_restart_survived() {
    let mut sealed = Sealed::start();
    let checked = check(&sealed.lines, &sealed.place);
    assert_eq!(checked.code, 0, "{}", checked.text());
    let setup = sealed.setup();
    serves_over(&mut sealed.redis, setup);
}

#[test]
fn a_redis_that_cannot_be_reached_so_is_told_with_its_remedy() {
    let sealed = Sealed::start();
    let [ca, certificate, key] = &sealed.lines;
    let folder = Folder::new();
    let other = folder.write("other.pem", &Authority::new("somebody else").certificate()).display().to_string();
    let other = format!("bus_tls_ca_file = \"{other}\"");
    let by_name = sealed.place.replace("127.0.0.1", "localhost");
    let plain = format!("rediss://{}", sealed.redis.address());
    let absent = format!("unix:{}/redis.sock", folder.path().display());
    let unsealed = sealed.place.replace("rediss://", "");
    let cases: [(&[&String], &str, &str, &str); 6] = [
        (&[&other, certificate, key], &sealed.place, "bus_tls_ca_file", "bus_tls_ca_file"),
        (&[ca], &sealed.place, "bus_tls_certificate_file", "bus_tls_certificate_file"),
        (&[ca, certificate, key], &by_name, "the name that its certificate has", "the name that its certificate has"),
        // A Redis that speaks no TLS waits for the end of the line.
        (&[ca, certificate, key], &plain, "tls-port", "tls-port"),
        (&[], &unsealed, "rediss://HOST:PORT", "rediss://HOST:PORT"),
        (&[], &absent, "No such file", "No such file"),
    ];
    for (lines, place, told, logged) in cases {
        let lines: Vec<String> = lines.iter().map(|&line| line.clone()).collect();
        let checked = check(&lines, place);
        assert!(checked.code == 1 && checked.text().contains(told), "{told}: {}", checked.text());
        let setup = lines.iter().fold(Setup::serve_at(place), |setup, line| setup.line(line));
        let gateway = setup.start_unready();
        gateway.until_logged(logged);
        assert_eq!(gateway.http("GET", "/readyz").status, 503);
    }
}

#[test]
fn what_the_files_of_tls_lack_is_told_before_anything_is_opened() {
    let folder = Folder::new();
    let signed = Authority::new("the site").sign("a");
    let file = |name: &str, text: &str| folder.write(name, text).display().to_string();
    let (certificate, key) = (file("own.pem", &signed.certificate), file("own.key", &signed.key));
    let (line, place) = (|option: &str, path: &str| format!("{option} = \"{path}\""), "rediss://127.0.0.1:1");
    let cases = [
        (vec![line("bus_tls_ca_file", "/nowhere.pem")], "/nowhere.pem cannot be read"),
        (vec![line("bus_tls_ca_file", &key)], "no certificate"),
        (vec![line("bus_tls_certificate_file", &certificate)], "bus_tls_key_file"),
        (
            vec![line("bus_tls_certificate_file", &certificate), line("bus_tls_key_file", &certificate)],
            "no private key",
        ),
    ];
    for (lines, told) in cases {
        let ended = check(&lines, place);
        let option = lines.last().and_then(|line| line.split(' ').next()).unwrap_or_default();
        assert!(
            ended.code == 2 && ended.stderr.contains(told) && ended.stderr.contains(option),
            "{told}: {}",
            ended.stderr
        );
    }
}
