//! The activity log, and whose address stands in it.

use crate::support::activity::said;
use crate::support::bus::Responder;
use crate::support::client::{Client, envelope, quoted, request};
use crate::support::gateway::{Gateway, Setup};
use crate::support::redis::Redis;
use crate::support::{PATIENCE, trio};

/// The line with `find` in it, without what stands behind its params.
fn entry(gateway: &Gateway, find: &str) -> String {
    let line = gateway.until_logged(find);
    said(&line).unwrap_or_else(|| panic!("no end in {line}")).0.to_owned()
}

/// Sends one request and gives the line that it left.
fn logged(
    gateway: &Gateway,
    client: &mut Client,
    bus: &mut Responder,
    method: &str,
    params: &str,
    find: &str,
) -> String {
    client.request("open-ils.actor", "t", 0, method, params);
    let arrived = bus.next();
    bus.complete(&arrived, "1");
    client.until_status(205);
    gateway.until_logged(find)
}

#[test]
fn a_request_is_one_line_with_address_service_method_and_params_as_their_text() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    let line = logged(
        &gateway,
        &mut client,
        &mut bus,
        "first.method",
        r#"[ 1.0 , "a  b" ,{ "x" : [1, 2] } , 100000000000000000000001 ]"#,
        "first.method",
    );
    assert!(
        line.contains(
            r#"[127.0.0.1] [] open-ils.actor first.method 1.0, "a  b", {"x":[1,2]}, 100000000000000000000001"#
        ),
        "{line}"
    );
    assert!(line.contains("activity"), "under its own target: {line}");
    let none = logged(&gateway, &mut client, &mut bus, "second.method", "[]", "second.method");
    assert!(none.contains("[127.0.0.1] [] open-ils.actor second.method"), "{none}");
}

#[test]
fn each_request_of_an_envelope_has_its_own_line_and_connects_have_none() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    client.send(&envelope("s", "t", &[request(0, "one.method", "[]"), request(1, "two.method", "[]")]));
    bus.next();
    gateway.until_logged("one.method");
    gateway.until_logged("two.method");
}

#[test]
fn nothing_that_a_client_writes_can_forge_a_line() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    let params = "[\"a\u{2028}b\u{2029}c\u{7f}d\u{85}e\", \"x\\n[1.2.3.4] [] forged\"]";
    let line = logged(&gateway, &mut client, &mut bus, "sly.method", params, "sly.method");
    assert!(
        !line.contains(['\u{2028}', '\u{2029}', '\u{7f}', '\u{85}', '\u{1b}']) && line.contains("forged"),
        "{line:?}"
    );
    client.request("open-ils\u{2028}x", "t", 1, "colour\u{1b}[31m\nnext.method", "[]");
    bus.next();
    let line = gateway.until_logged("next.method");
    assert!(
        line.contains("[127.0.0.1] []") && line.contains("colour") && !line.contains(['\u{1b}', '\u{2028}']),
        "{line:?}"
    );
}

/// What turns text around, or is there without being seen.
const SLY: &str = "\u{202e}\u{2066}\u{200b}\u{ad}\u{feff}\u{e0041}\u{3164}\u{9b}\u{2028}\n\u{1b}[2K";

fn has_sly(text: &str) -> bool {
    text.contains(|c| c != '\n' && c != '[' && c != '2' && c != 'K' && SLY.contains(c))
}

#[test]
fn a_name_that_is_not_plain_is_quoted_and_looks_like_no_other_call() {
    let (_redis, gateway, mut client, mut bus) = trio(&[]);
    client.request("opensrf.math add 1, 2 opensrf.demo", "t", 0, "first.method", "[]");
    bus.next();
    let line = entry(&gateway, "first.method");
    assert!(line.ends_with("[] \"opensrf.math add 1, 2 opensrf.demo\" first.method"), "{line}");
    client.request("opensrf.math\u{202e}", "t", 1, "second.method 1, \"2\\", "[3]");
    bus.next();
    let line = entry(&gateway, "second.method");
    assert!(line.ends_with(r#"[] "opensrf.math\u202e" "second.method 1, \"2\\" 3"#), "{line}");
    client.request("open_ils.a-b", "t", 2, "third.method.É", "[\"Émile 日本 e\u{301}\"]");
    bus.next();
    let line = entry(&gateway, "third.method");
    assert!(line.ends_with("[] open_ils.a-b \"third.method.É\" \"Émile 日本 e\u{301}\""), "{line}");
}

#[test]
fn nothing_unseen_that_a_client_wrote_gets_into_the_log_the_status_or_the_page() {
    let redis = Redis::start();
    let mut gateway = Gateway::serve(&redis, &["--drain-max-seconds", "3", "--cores", "0"]);
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    let (service, method) = (format!("s{}", SLY.replace(|c: char| c.is_control(), "")), format!("a.method{SLY}z"));
    client.request(&service, "t\u{202e}", 0, "a.placeholder", &format!("[{}]", quoted(SLY)));
    bus.next();
    client.send(&envelope(&service, "t\u{202e}", &[request(1, &method, "[]")]));
    bus.next();
    gateway.signal(nix::sys::signal::Signal::SIGUSR1);
    gateway.until_logged("; oldest: \"s");
    let (status, page) = (gateway.http("GET", "/status").body, gateway.http("GET", "/").body);
    assert!(status.contains("\\u202e") && !has_sly(&status), "{status:?}");
    let status: serde_json::Value = serde_json::from_str(&status).expect("it is JSON still");
    assert_eq!(status["drain"]["oldest"]["service"], *service, "and means the same");
    // The page itself has nothing of it: its script takes the figures from /events, as text.
    assert!(!page.contains("a.method") && !has_sly(&page), "what a client wrote is in the page");
    assert_eq!(gateway.wait_exit(PATIENCE), 3);
    let log = gateway.log();
    assert!(log.contains("was cut off at the deadline: \"s\\u202e"), "{log:?}");
    assert!(!has_sly(&log), "{log:?}");
}

#[test]
fn a_long_line_is_cut_with_an_ellipsis() {
    for (flags, bytes) in [(&[][..], 1_536), (&["--activity-bytes-max", "200"][..], 200)] {
        let (_redis, gateway, mut client, mut bus) = trio(flags);
        let line = logged(
            &gateway,
            &mut client,
            &mut bus,
            "long.method",
            &format!("[\"{}\"]", "é".repeat(2_000)),
            "long.method",
        );
        let from = line.find("[127.0.0.1]").expect("the entry");
        let (entry, tail) = said(&line[from..]).expect("number and log_xid");
        assert!(tail.split_once(' ').is_some_and(|(number, xid)| !number.is_empty() && !xid.is_empty()), "{tail}");
        assert!(
            entry.trim_end().ends_with('…') && entry.len() <= bytes + 4 && entry.len() > bytes - 20,
            "{} bytes: {entry:.80}",
            entry.len()
        );
    }
}

#[test]
fn protected_methods_are_logged_without_their_params_however_they_are_spelled() {
    let redis = Redis::start();
    let setup = Setup::serve(&redis);
    let core = include_str!("../opensrf_core.xml")
        .replace("</log_protect>", "<match_string></match_string></log_protect>")
        .replace("<match_string>open-ils.auth", "<match_string><!-- logins -->open-ils.<![CDATA[auth]]>");
    assert!(core.contains("logins"));
    let xml = setup.file("opensrf_core.xml", &core);
    let gateway = setup.flags(&["--opensrf-core", &xml, "--logfile", "stderr"]).start();
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    for (spelled, find) in [("open-ils.auth.login", "auth.login"), (r"open-ils.\u0061uth.other", "uth.other")] {
        client.send(&envelope(
            "open-ils.auth",
            "t",
            &[request(0, "METHOD", "[\"tell-nobody\"]").replace("METHOD", spelled)],
        ));
        bus.next();
        let line = gateway.until_logged(find);
        assert!(line.contains("**PARAMS REDACTED**"), "{line}");
    }
    let open = logged(&gateway, &mut client, &mut bus, "open-ils.actor.retrieve", "[\"say-it\"]", "actor.retrieve");
    assert!(open.contains("say-it"), "an empty match_string protects nothing: {open}");
    let log = gateway.log();
    assert!(log.contains("an empty <match_string> is ignored"), "{log}");
    assert!(!log.contains("tell-nobody"));
}

#[test]
fn connect_and_disconnect_have_a_line_each() {
    let gateway = Setup::demo().start();
    let before = gateway.log().lines().filter(|line| line.contains("127.0.0.1") && line.contains("activity")).count();
    let mut client = Client::connect(&gateway);
    client.call("opensrf.math", "t", 0, "add", "[1,2]");
    client.close();
    gateway.until_logged("disconnect");
    let log = gateway.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("127.0.0.1") && line.contains("activity")).collect();
    assert!(lines.len() >= before + 3, "connect, the request and disconnect: {lines:?}");
}

/// The address that a handshake with these fields is logged under.
fn address(gateway: &Gateway, fields: &[(&'static str, &str)]) -> String {
    let mut client = Client::connect_with(gateway.address(), fields).expect("a client");
    let method = format!("method.{}", crate::support::unique());
    client.request("opensrf.math", "t", 0, &method, "[]");
    let line = gateway.until_logged(&format!("opensrf.math {method}"));
    let from =
        line.rfind("] [] ").and_then(|end| line[..end].rfind('[').map(|start| (start, end))).expect("an address");
    line[from.0 + 1..from.1].to_owned()
}

#[test]
fn the_address_is_the_rightmost_forwarded_one_that_is_not_trusted() {
    let gateway = Setup::demo().line("trusted_proxies = [\"127.0.0.0/8\", \"::1\", \"10.0.0.0/8\"]").start();
    let forwarded = "X-Forwarded-For";
    assert_eq!(
        address(&gateway, &[(forwarded, "6.6.6.6, 192.0.2.7")]),
        "192.0.2.7",
        "what stands further left is anybody's word"
    );
    assert_eq!(address(&gateway, &[(forwarded, "192.0.2.7, 10.1.2.3,127.0.0.1")]), "192.0.2.7");
    assert_eq!(address(&gateway, &[(forwarded, "2001:db8::7")]), "2001:db8::7");
    assert_eq!(address(&gateway, &[("X-Real-IP", "192.0.2.9")]), "192.0.2.9");
    assert_eq!(address(&gateway, &[(forwarded, "192.0.2.7"), ("X-Real-IP", "192.0.2.9")]), "192.0.2.7");
    for malformed in ["nonsense", "192.0.2.7 x", "192.0.2.7; x", "999.1.1.1"] {
        assert_eq!(address(&gateway, &[(forwarded, malformed)]), "127.0.0.1", "{malformed:?}");
    }
    assert_eq!(
        address(&gateway, &[(forwarded, "nonsense"), ("X-Real-IP", "192.0.2.9")]),
        "127.0.0.1",
        "X-Real-IP counts only where the other is absent"
    );
    assert_eq!(address(&gateway, &[("X-Real-IP", "nonsense")]), "127.0.0.1");
}

#[test]
fn an_untrusted_peer_is_itself_whatever_it_forwards() {
    let gateway = Setup::demo().line("trusted_proxies = [\"10.0.0.0/8\"]").start();
    assert_eq!(address(&gateway, &[("X-Forwarded-For", "192.0.2.7")]), "127.0.0.1");
    assert_eq!(address(&gateway, &[("X-Real-IP", "192.0.2.7")]), "127.0.0.1");
}
