//! `evergate-load` through TLS, as clients of a site come.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::authority::{Authority, Signed};
use crate::support::gateway::Gateway;
use crate::support::load::{Run, finish, run, start};
use crate::support::other_gateway::url;
use crate::support::tls_front::{Front, Named};
use crate::support::{Folder, PATIENCE, until};

/// Two clients for a moment.
const SHORT: [&str; 6] = ["--clients", "2", "--duration", "0.2", "--warmup", "0"];

#[test]
fn a_load_of_every_kind_through_tls_is_answered_and_every_client_names_the_server() {
    let (gateway, authority, folder) = (Gateway::demo(&[]), Authority::new("a consortium's own"), Folder::new());
    let front = Front::new(&authority.sign("eg.example"), gateway.address());
    let (ca, url) = (folder.write("ca.pem", &authority.certificate()), format!("wss://{}/", front.address));
    let mut options = vec!["--ca", ca.to_str().expect("a path"), "--server-name", "eg.example", "--clients", "6"];
    options.extend([
        "--in-flight",
        "2",
        "--mix",
        "stateless=3,stateful=1,streamed=1,large=1",
        "--large-bytes",
        "300000",
    ]);
    options.extend(["--count", "100", "--warmup", "0", "--idle", "3", "--churn", "100"]);
    let run = run(&url, &options);
    assert_eq!((run.code, run.errors().len()), (0, 0), "{}", run.output);
    assert_eq!((&run.json["idle"], &run.json["requests"]), (&3.into(), &100.into()), "{}", run.json);
    assert!(run.json["churned"].as_u64() > Some(0), "{}", run.json);
    let connections = 9 + run.json["churned"].as_u64().expect("a count") as usize;
    until("all have gone", PATIENCE, || front.named().len() >= connections);
    for named in front.named() {
        assert_eq!(named, Named { server: Some("eg.example".to_owned()), protocol: Some(b"http/1.1".to_vec()) });
    }
}

#[test]
fn a_certificate_is_judged_by_who_signed_it_and_by_its_name_unless_any_will_do() {
    let (gateway, folder) = (Gateway::demo(&[]), Folder::new());
    let write = |name: &str, signed: &Signed| folder.write(name, &signed.certificate).display().to_string();
    let wrong = write("wrong.pem", &Signed::by_itself("localhost"));
    for right in [Signed::by_itself("localhost"), Signed::by_openssl("localhost")] {
        let front = Front::new(&right, gateway.address());
        let right = write("right.pem", &right);
        let url = format!("wss://localhost:{}/", front.address.port());
        let with = |trust: &[&str]| run(&url, &[&SHORT[..], trust].concat());
        for trust in [&["--ca", right.as_str()][..], &["--insecure"]] {
            let run = with(trust);
            assert_eq!((run.code, run.errors().len()), (0, 0), "{trust:?}: {}", run.output);
        }
        for (trust, why) in [
            (&["--ca", wrong.as_str()][..], "invalid peer certificate"),
            (&["--ca", &right, "--server-name", "other.example"], "other.example"),
        ] {
            let Run { code, json, output } = with(trust);
            assert_eq!((code, &json["errors"]), (3, &serde_json::json!({ "certificate": 2 })), "{trust:?}: {output}");
            assert!(output.contains(why) && output.contains("--server-name"), "{output}");
        }
    }
}

#[test]
fn who_speaks_tls_to_one_who_does_not_is_told_and_the_other_way_round() {
    let (gateway, folder) = (Gateway::demo(&[]), Folder::new());
    let insecure = [&SHORT[..], &["--insecure"]].concat();
    let to_plain = run(&url(gateway.address()).replace("ws://", "wss://"), &insecure);
    assert_eq!((to_plain.code, to_plain.errors().get("tls")), (3, Some(&2)), "{}", to_plain.output);
    assert!(to_plain.output.contains("the URL begins with ws://"), "{}", to_plain.output);

    let front = Front::new(&Signed::by_itself("localhost"), gateway.address());
    let to_tls = finish(&folder, start(&folder, &url(front.address), &SHORT));
    assert_eq!((to_tls.code, to_tls.errors().get("bad_handshake")), (3, Some(&2)), "{}", to_tls.output);
    assert!(to_tls.output.contains("try wss://"), "{}", to_tls.output);
}

#[test]
fn a_drain_reaches_clients_behind_tls_and_costs_them_nothing() {
    let mut gateway = Gateway::demo(&["--drain-quiet-ms", "1"]);
    let front = Front::new(&Signed::by_itself("localhost"), gateway.address());
    let folder = Folder::new();
    let options = ["--insecure", "--clients", "5", "--rate", "30", "--warmup", "0", "--duration", "60"];
    let load = start(&folder, &format!("wss://{}/", front.address), &options);
    until("it serves some", PATIENCE, || gateway.metric("evergate_requests_total") > 10.0);
    gateway.signal(Signal::SIGUSR1);
    assert_eq!(gateway.wait_exit(PATIENCE), 0, "{}", gateway.log());
    let run = finish(&folder, load);
    assert_eq!((run.code, &run.json["drained"]), (4, &Value::from(5)), "{}", run.output);
}
