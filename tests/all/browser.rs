//! `tuning/browser/evergate-websocket.js` in a headless Chromium: a window and a shared worker whose gateway is drained.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::activity::relayed_adds;
use crate::support::chromium::{Chromium, program};
use crate::support::gateway::{Gateway, Setup};
use crate::support::other_gateway::{closing_with, url};
use crate::support::redis::Redis;
use crate::support::services::Services;
use crate::support::{PATIENCE, eventually, serve, until};

const SCRIPT: &str = include_str!("../../tuning/browser/evergate-websocket.js");
const DRIVER: &str = include_str!("../browser/driver.js");

/// What the pages report, by name, and whether they are to stop.
#[derive(Default)]
struct Site {
    reports: HashMap<String, Value>,
    stops: bool,
}

/// A browser with a page, and the server of that page.
struct Browser {
    _chromium: Chromium,
    site: Arc<Mutex<Site>>,
}

impl Browser {
    /// Opens a page that runs `script` behind the driver; its workers find that under `/worker.js`, too.
    fn open(script: &str, worker: &str) -> Self {
        let page = format!(
            "<!doctype html><script src=/evergate-websocket.js></script><script src=/driver.js></script><script>{script}</script>"
        );
        let worker =
            format!("const native = WebSocket; importScripts('/evergate-websocket.js', '/driver.js');\n{worker}");
        let site = Arc::new(Mutex::new(Site::default()));
        let shared = Arc::clone(&site);
        let address = serve(move |stream| answer(&stream, &shared, &page, &worker));
        Self { _chromium: Chromium::open(&format!("http://{address}/")), site }
    }

    /// What `name` has reported last.
    fn report(&self, name: &str) -> Value {
        self.site.lock().expect("nobody panicked").reports.get(name).cloned().unwrap_or_default()
    }

    /// Waits until `name` reports what is wanted.
    fn until(&self, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        // A browser takes its time to start.
        eventually(&format!("{name}: {what}"), PATIENCE * 3, || Some(self.report(name)).filter(|report| is_so(report)))
    }

    fn stop(&self) {
        self.site.lock().expect("nobody panicked").stops = true;
    }
}

/// Answers requests of the browser on one connection.
fn answer(stream: &TcpStream, site: &Mutex<Site>, page: &str, worker: &str) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let path = line.split(' ').nth(1).unwrap_or("/").to_owned();
        loop {
            let mut header = String::new();
            if reader.read_line(&mut header).unwrap_or(0) == 0 {
                return;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(0);
            }
            if header.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let stops = {
            let mut site = site.lock().expect("nobody panicked");
            if let Some(name) = path.strip_prefix("/report/") {
                site.reports.insert(name.to_owned(), serde_json::from_slice(&body).unwrap_or_default());
            }
            site.stops
        };
        let (kind, text) = match path.as_str() {
            "/" => ("text/html", page),
            "/evergate-websocket.js" => ("text/javascript", SCRIPT),
            "/driver.js" => ("text/javascript", DRIVER),
            "/worker.js" => ("text/javascript", worker),
            _ => ("text/plain", if stops { "stop" } else { "go" }),
        };
        let header = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", text.len());
        let mut stream = stream;
        if stream.write_all(header.as_bytes()).and_then(|()| stream.write_all(text.as_bytes())).is_err() {
            return;
        }
    }
}

/// How often each kind of restart is gone through: two drains beside a second gateway, and a hand-over.
fn rounds() -> usize {
    std::env::var("EVERGATE_BROWSER_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2)
}

/// 50 requests a second leave no pause in which a client is at a gap: it is given one.
#[test]
fn a_window_and_a_shared_worker_that_never_pause_do_not_notice_drains_and_hand_overs() {
    if program().is_none() {
        return;
    }
    let redis = Redis::start();
    let _services = Services::start(&redis, &[]);
    let flags = ["--share-port", "--drain-max-seconds", "2", "--loglevel", "info"];
    let mut serves = Setup::serve(&redis).flags(&flags).start();
    let url = url(serves.address());
    let page = format!("drive(WebSocket, 'window', '{url}', 50); new SharedWorker('/worker.js');");
    let browser = Browser::open(&page, &format!("drive(WebSocket, 'worker', '{url}', 50);"));
    let places = ["window", "worker"];
    let answered = |place: &str| browser.report(place)["answered"].as_u64().unwrap_or(0);
    let goes_on = |place: &str| {
        let before = answered(place);
        until(&format!("{place} goes on"), PATIENCE * 3, || answered(place) > before + 5);
    };
    let (mut logs, mut gone) = (String::new(), vec![]);
    for hands_over in [false, false, true].into_iter().cycle().take(3 * rounds()) {
        for place in places {
            goes_on(place);
        }
        let next = if hands_over {
            Setup::after(&serves).start_after(&serves)
        } else {
            let mut next = Setup::serve(&redis).flags(&flags).start_sharing(&serves);
            next.until_ready();
            serves.signal(Signal::SIGUSR1);
            next
        };
        assert_eq!(serves.wait_exit(PATIENCE), 0, "{}", serves.log());
        logs += &serves.log();
        // The control socket of one is that of its successor.
        gone.push(std::mem::replace(&mut serves, next));
    }
    for place in places {
        goes_on(place);
    }
    browser.stop();
    for place in places {
        let report =
            browser.until(place, "all is answered", |report| report["stopped"] == true && report["waiting"] == 0);
        assert_eq!(report["sent"], report["answered"], "{report}");
        let told = [&report["opens"], &report["errors"], &report["wrong"], &report["closes"]].map(ToString::to_string);
        assert_eq!(told, ["1", "0", "0", "[]"], "{place}: {report}");
    }
    let sent = places.map(|place| browser.report(place)["sent"].as_u64().expect("a count")).iter().sum::<u64>();
    // Each number is asked for once, so that each line of the log is there once.
    until("each was carried out once", PATIENCE, || relayed_adds(&(logs.clone() + &serves.log())).len() as u64 == sent);
    let logs = logs + &serves.log();
    let distinct: HashSet<&str> = relayed_adds(&logs).into_iter().collect();
    assert_eq!(distinct.len() as u64, sent);
}

#[test]
fn what_a_1012_left_unanswered_is_sent_again_and_what_another_close_did_is_not() {
    if program().is_none() {
        return;
    }
    let (url, asked) = closing_with(&[1012, 1012, 1012, 1001], 3);
    let page = format!("drive(WebSocket, 'window', '{url}', 50);");
    let browser = Browser::open(&page, "");
    let report = browser.until("window", "it has ended", |report| report["closes"][0][0] == 1001);
    // Of three connections three requests each were answered and one was not, of the last it was the fourth that it had.
    let asked = asked.lock().expect("nobody panicked");
    let distinct: HashSet<&String> = asked.iter().collect();
    assert_eq!((asked.len(), distinct.len()), (16, 13), "{asked:?}");
    for connection in 1..4 {
        assert_eq!(asked[connection * 4], asked[connection * 4 - 1], "it is the first on the next connection");
    }
    assert_eq!(
        (&report["answered"], &report["wrong"], &report["opens"]),
        (&12.into(), &0.into(), &1.into()),
        "{report}"
    );
}

/// What the browser's own WebSocket and ours report of the same end of a gateway.
fn ends_alike(end: impl Fn(&mut Gateway)) -> [Value; 2] {
    let mut gateway = Gateway::demo(&[]);
    let url = url(gateway.address());
    let page = "new SharedWorker('/worker.js');";
    let browser =
        Browser::open(page, &format!("drive(native, 'own', '{url}', 50); drive(WebSocket, 'ours', '{url}', 50);"));
    for place in ["own", "ours"] {
        browser.until(place, "it is served", |report| report["answered"].as_u64() > Some(5));
    }
    end(&mut gateway);
    let ended =
        |place| browser.until(place, "it is told", |report| !report["closes"].as_array().is_none_or(Vec::is_empty));
    let reports = ["own", "ours"].map(ended);
    // No connection of ours comes back.
    std::thread::sleep(Duration::from_millis(500));
    let reports =
        reports.map(|report| serde_json::json!([report["opens"], report["errors"], report["closes"], report["state"]]));
    assert_eq!(reports[0], reports[1]);
    reports
}

#[test]
fn a_fast_stop_and_a_broken_connection_are_shown_as_the_browser_shows_them() {
    if program().is_none() {
        return;
    }
    let [stopped, _] = ends_alike(|gateway| gateway.signal(Signal::SIGTERM));
    assert_eq!(stopped[2][0][0], 1001, "{stopped}");
    let [broken, _] = ends_alike(Gateway::kill);
    assert_eq!(broken[2][0][0], 1006, "{broken}");
}
