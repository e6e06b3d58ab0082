//! Workers whose address names another domain: dialled where the configuration lists it, refused where it does not.

use crate::support::bus::Responder;
use crate::support::client::{Client, connect, contents, envelope};
use crate::support::gateway::{Gateway, OTHER_DOMAIN, Setup};
use crate::support::redis::Redis;
use crate::support::site::Site;
use crate::support::{PATIENCE, until};

/// Answers a CONNECT that came by the public Redis as a worker of the private domain does.
fn accept_from(public: &mut Responder, private: &Responder) {
    let arrived = public.next();
    let xid = format!("\"{}\"", arrived.xid());
    let body = format!("[{}]", crate::support::bus::status(&arrived.trace(0), 200));
    public.answer_from(&private.address, &arrived, &xid, &body);
}

#[test]
fn a_session_with_a_worker_of_a_listed_domain_is_pushed_on_that_domains_redis_over_one_link_per_core() {
    let site = Site::start(&[]);
    let mut clients: Vec<Client> = (0..30).map(|_| site.client()).collect();
    for client in &mut clients {
        client.open_session("opensrf.demo", "t");
        assert_eq!(client.call("opensrf.demo", "t", 1, "opensrf.demo.pid", "[]").len(), 1);
        client.send(&envelope("opensrf.demo", "t", &[crate::support::client::disconnect(2)]));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let links = site.private.connections_of("gateway").len();
    assert!((1..=cores).contains(&links), "{links} links to the other domain");
    assert_eq!(site.public.connections_of("gateway").len(), 2 * cores);
}

#[test]
fn a_domain_that_nobody_uses_is_not_dialled() {
    let site = Site::start(&[]);
    assert_eq!(site.client().call("opensrf.math", "t", 0, "add", "[1,2]").len(), 1);
    assert_eq!(site.private.connections_of("gateway").len(), 0, "replies come by our own domain");
}

#[test]
fn a_session_with_a_worker_of_an_unlisted_domain_is_refused_and_its_plain_reply_delivered() {
    let (public, private) = (Redis::start(), Redis::start());
    let gateway = Setup::serve(&public).domain(OTHER_DOMAIN, &private.address()).start();
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&public));
    let foreign = Responder::in_domain(&private, OTHER_DOMAIN);
    client.request("s", "plain", 1, "m", "[]");
    let arrived = bus.next();
    let xid = format!("\"{}\"", arrived.xid());
    let body =
        format!("[{},{}]", crate::support::bus::result("1", "\"from afar\""), crate::support::bus::status("1", 205));
    bus.answer_from(&foreign.address, &arrived, &xid, &body);
    assert_eq!(contents(&client.until_status(205)), [serde_json::json!("from afar")]);
    client.send(&envelope("s", "t", &[connect(3)]));
    accept_from(&mut bus, &foreign);
    let told = client.until_status(503).pop().expect("an envelope");
    assert_eq!((told.thread(), told.parts()[0].trace.as_str()), ("t", "3"));
    gateway.until_logged(OTHER_DOMAIN);
    assert_eq!(private.connections_of("gateway").len(), 0);
    gateway.until_count("idle", 1);
}

#[test]
fn opensrf_core_xml_lists_domains_by_its_routers_and_their_trusted_domains() {
    let (public, private) = (Redis::start(), Redis::start());
    let setup = Setup::serve(&public).domain(OTHER_DOMAIN, &private.address());
    let routers = "<routers><router><trusted_domains><server>private.localhost</server></trusted_domains><transport><server>public.localhost</server></transport></router></routers></config>";
    let xml = setup.file("opensrf_core.xml", &include_str!("../opensrf_core.xml").replace("</config>", routers));
    let gateway = setup.flags(&["--opensrf-core", &xml, "--logfile", "stderr"]).start();
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&public));
    let mut worker = Responder::in_domain(&private, OTHER_DOMAIN);
    client.send(&envelope("s", "t", &[connect(0)]));
    accept_from(&mut bus, &worker);
    client.until_status(200);
    client.request("s", "t", 1, "m", "[]");
    assert_eq!(worker.next_own().trace(0), "1");
}

#[test]
fn when_the_other_domain_is_away_its_sessions_get_503_and_everything_else_goes_on() {
    let (public, mut private) = (Redis::start(), Redis::start());
    let setup = Setup::serve(&public).domain(OTHER_DOMAIN, &private.address());
    let gateway = setup.line("bus_domains = [\"private.localhost\"]").start();
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&public));
    let mut worker = Responder::in_domain(&private, OTHER_DOMAIN);
    client.send(&envelope("s", "t", &[connect(0)]));
    accept_from(&mut bus, &worker);
    client.until_status(200);
    client.request("s", "t", 1, "m", "[]");
    let own = worker.next_own();
    assert_eq!(own.trace(0), "1");
    // Whatever a worker's domain, it answers by the gateway's own.
    let body = format!("[{}]", crate::support::bus::status("1", 205));
    bus.answer_from(&worker.address, &own, "null", &body);
    client.until_status(205);
    drop(worker);
    private.kill();
    let mut trace = 2;
    until("requests to the lost domain are told", PATIENCE, || {
        client.request("s", "t", trace, "m", "[]");
        trace += 1;
        client.recv().transport_error()
    });
    client.request("s", "elsewhere", 50, "m", "[]");
    let arrived = bus.next();
    bus.complete(&arrived, "1");
    client.until_status(205);
    assert_eq!(gateway.http("GET", "/readyz").status, 200);
    assert_eq!(Gateway::status(&gateway)["phase"].as_str().map(str::to_lowercase).as_deref(), Some("serving"));
}
