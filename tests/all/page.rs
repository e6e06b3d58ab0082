//! The live page in a headless Chromium: what whoever is on call sees and does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::bus::Responder;
use crate::support::chromium::program;
use crate::support::client::Client;
use crate::support::devtools::Tab;
use crate::support::gateway::{Gateway, Setup};
use crate::support::redis::Redis;
use crate::support::{PATIENCE, until};

const TOKEN: &str = "a-token-that-is-long-enough";

/// The page of a gateway.
fn open(gateway: &Gateway, behind: &str, width: u32) -> Tab {
    let mut tab = Tab::open(&format!("http://{}/{behind}", gateway.admin()), width, "light");
    tab.until("document.getElementById('phase')?.innerText === 'serving'");
    tab.until("document.getElementById('stream').dataset.live === 'yes'");
    tab
}

/// All that was asked for is of this page's own address, or of `besides`.
fn must_stay_at_home(tab: &mut Tab, gateway: &Gateway, besides: &str) {
    let home = format!("http://{}/", gateway.admin());
    for url in tab.requests() {
        assert!(
            url.starts_with(&home) || url.starts_with("data:,") || (!besides.is_empty() && url.starts_with(besides)),
            "{url}"
        );
    }
}

fn must_not_complain(tab: &mut Tab) {
    assert_eq!(tab.complaints(), Vec::<String>::new());
}

/// Goes to a button and to the one that says yes, by the keyboard alone.
fn press(tab: &mut Tab, button: &str) {
    tab.tab_to(button);
    tab.press("Enter");
    tab.until("document.getElementById('ask').open");
}

fn confirm(tab: &mut Tab) {
    tab.tab_to("ask-yes");
    tab.press("Enter");
    tab.until("!document.getElementById('ask').open");
}

#[test]
fn the_button_begins_a_drain_another_cancels_it_and_the_next_is_followed_to_its_end() {
    if program().is_none() {
        return;
    }
    let redis = Redis::start();
    let setup = Setup::serve(&redis).flags(&["--cores", "0", "--admin-actions"]);
    let file = setup.file("token", &format!("{TOKEN}\n"));
    let mut gateway = setup.flags(&["--admin-token-file", &file]).start();
    let (mut client, mut bus) = (Client::connect(&gateway), Responder::new(&redis));
    client.request("opensrf.slow", "t", 1, "opensrf.slow.<b>method", "[]");
    let asked = bus.next();
    let mut tab = open(&gateway, "", 1_280);
    tab.until("document.querySelector('.tile .value').innerText.startsWith('1')");
    // Somebody else is connected, and is closed by his number.
    let mut other = Client::connect(&gateway);
    tab.eval("document.querySelector('#clients summary').focus()");
    tab.press("Enter");
    tab.until("document.querySelectorAll('#clients-rows tr').length === 2");
    assert!(tab.text("#clients-rows").contains("wait for a reply"), "{}", tab.text("#clients-rows"));
    tab.eval("[...document.querySelectorAll('#clients-rows tr')].find((row) => row.innerText.includes('idle')).querySelector('button').focus()");
    tab.press("Enter");
    tab.until("document.getElementById('ask').open");
    tab.type_in(TOKEN);
    confirm(&mut tab);
    assert_eq!(other.close_code(PATIENCE).0, Some(1012));
    tab.until("document.querySelectorAll('#clients-rows tr').length === 1");
    gateway.until_logged("page: 127.0.0.1 closes connection");
    tab.eval("sessionStorage.clear()");
    must_not_complain(&mut tab);

    // Whoever has not got the token is told so, and nothing happens.
    press(&mut tab, "drain-open");
    assert_eq!(tab.eval("document.activeElement.id"), "ask-token");
    tab.type_in("something else that is long");
    tab.press("Enter");
    tab.until("document.getElementById('ask-error').innerText.includes('not the one')");
    assert_eq!(gateway.status()["phase"], "serving");
    tab.press("Escape");
    tab.until("!document.getElementById('ask').open");
    must_stay_at_home(&mut tab, &gateway, "");
    // The browser's own word for the answer of 403.
    tab.forget();

    tab.eval("sessionStorage.clear()");
    press(&mut tab, "drain-open");
    tab.type_in(TOKEN);
    confirm(&mut tab);
    tab.until("document.getElementById('phase').innerText === 'draining'");
    tab.until("document.getElementById('waits').innerText.includes('opensrf.slow.<b>method')");
    assert!(tab.text("#drain").contains("127.0.0.1"), "{}", tab.text("#drain"));
    assert_eq!(gateway.status()["phase"], "draining");
    gateway.until_logged("127.0.0.1 asks to drain");
    gateway.until_logged("drain: 127.0.0.1 by the admin page; the port closes");
    gateway.until_refused();

    // It may be too soon: a core is just closing its port.
    press(&mut tab, "cancel-open");
    tab.tab_to("ask-yes");
    tab.press("Enter");
    tab.until("!document.getElementById('ask').open || document.getElementById('ask-error').innerText !== ''");
    if tab.eval("document.getElementById('ask').open") == true {
        assert!(tab.text("#ask-error").contains("try again"), "{}", tab.text("#ask-error"));
        tab.forget();
        confirm(&mut tab);
    }
    tab.until("document.getElementById('phase').innerText === 'serving' && document.getElementById('drain').hidden");
    gateway.until_logged("drain: cancelled by 127.0.0.1 by the admin page");
    client.must_be_connected();
    let newcomer = Client::connect(&gateway);

    press(&mut tab, "drain-open");
    confirm(&mut tab);
    tab.until("document.getElementById('phase').innerText === 'draining'");
    drop(newcomer);
    must_not_complain(&mut tab);
    must_stay_at_home(&mut tab, &gateway, "");
    bus.complete(&asked, "\"in time\"");
    let (code, replies) = client.close_code(PATIENCE);
    assert_eq!((code, replies.len()), (Some(1012), 1), "its reply, and its end");
    tab.until("document.getElementById('phase').innerText === 'ended'");
    assert_eq!(gateway.wait_exit(PATIENCE), 0);
    let notice = tab.text("#notice");
    assert!(notice.contains("exit code 0") && notice.contains(", 0 cut off"), "{notice}");
    assert_eq!(tab.eval("document.getElementById('drain-open').hidden"), true);
}

/// The demo prints a link that holds the token of its page.
fn token(gateway: &Gateway) -> String {
    until("the demo says where its page is", PATIENCE, || gateway.output().contains("#token="));
    let output = gateway.output();
    let token = output.split("#token=").nth(1).and_then(|rest| rest.lines().next()).expect("a token");
    format!("#token={token}")
}

/// The least contrast (WCAG) of the page's texts to what is behind them, in each theme.
const CONTRASTS: &str = r"(() => {
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const color = (text) => text.match(/[\d.]+/g).map(Number);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = color(getComputedStyle(at).backgroundColor);
      if (found.length < 4 || found[3] === 1) return found;
    }
    throw new Error('nothing is behind it');
  };
  return Object.fromEntries(['light', 'dark'].map((theme) => {
    document.documentElement.dataset.theme = theme;
    const all = [...document.querySelectorAll('body *')]
      .filter((element) => element.checkVisibility() && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
      .map((element) => {
        const [a, b] = [light(color(getComputedStyle(element).color)), light(behind(element))];
        return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.outerHTML.slice(0, 120)];
      });
    delete document.documentElement.dataset.theme;
    return [theme, all.sort(([a], [b]) => a - b)[0]];
  }));
})()";

#[test]
fn the_page_is_read_at_400_pixels_by_keyboard_in_both_themes_and_its_console_calls_and_says_when_it_is_stale() {
    if program().is_none() {
        return;
    }
    let gateway = Gateway::demo(&["--cores", "0"]);
    let mut tab = open(&gateway, &token(&gateway), 400);
    assert_eq!(tab.eval("location.hash"), "", "who looks over a shoulder does not read it");
    let _client = Client::connect(&gateway);

    // A call as a browser makes it, over the port of the clients.
    tab.tab_to("console-example");
    tab.tab_to("console-service");
    tab.press("Enter");
    tab.until("document.getElementById('console-out').innerText.includes('result')");
    let out = tab.text("#console-out");
    assert!(out.contains("opensrf.math add [1,2]") && out.contains('3') && out.contains(" ms"), "{out}");
    must_stay_at_home(&mut tab, &gateway, &format!("ws://{}/", gateway.address()));
    let asked = tab.requests();
    assert!(asked.iter().any(|url| url.starts_with("ws://")), "{asked:?}");

    // The past by the arrow keys, and back.
    tab.until("document.querySelectorAll('.tile').length > 4 && past.last >= 3");
    tab.eval("document.getElementById('tiles').focus()");
    tab.press("ArrowLeft");
    tab.press("ArrowLeft");
    tab.until("/^0:0\\d ago$/.test(document.getElementById('at').innerText)");
    tab.press("Escape");
    assert_eq!(tab.text("#at"), "now");

    // Nothing is beyond the right edge, whatever is shown; a drain shows most.
    press(&mut tab, "drain-open");
    assert_eq!(tab.eval("document.activeElement.id"), "ask-no", "it has the token");
    let width = "document.documentElement.scrollWidth";
    assert!(tab.eval(width).as_u64() <= Some(400), "{}", tab.eval(width));
    tab.press("Escape");
    tab.eval("byId('drain').hidden = false; writeDrain({...latest, drain: {closed_at_gap: 1000, closed_at_deadline: 10, cut: 1, \
              crossed_close: 5, port_closes_in_seconds: 0, seconds_left: 100, waits: [{core: 0, service: 'open-ils.'.repeat(9), method: \
              'm'.repeat(99), client: '2001:db8:1111:2222:3333:4444:5555:6666', age_ms: 1500}]}})");
    assert!(tab.eval(width).as_u64() <= Some(400), "{}", tab.eval(width));

    let contrasts = tab.eval(CONTRASTS);
    for theme in ["light", "dark"] {
        assert!(contrasts[theme][0].as_f64() >= Some(4.5), "{theme}: {contrasts}");
    }
    let background = |tab: &mut Tab| tab.eval("getComputedStyle(document.body).backgroundColor");
    let light = background(&mut tab);
    tab.prefer("dark");
    let dark = background(&mut tab);
    assert_ne!(light, dark, "it follows the system");
    tab.tab_to("theme");
    tab.press("Enter");
    assert_eq!(
        (background(&mut tab), tab.text("#theme")),
        (light, "Theme: light".to_owned()),
        "unless it is told otherwise"
    );

    must_not_complain(&mut tab);
    gateway.signal(Signal::SIGSTOP);
    tab.until("document.getElementById('stream').innerText.includes('no news for')");
    gateway.signal(Signal::SIGCONT);
    tab.until("document.getElementById('stream').innerText === 'live'");
}

/// Of all of a page that would be long, its beginning.
const PICTURE_HEIGHT_MAX: [(u32, u32); 2] = [(1_280, 1_300), (400, 1_700)];

/// Writes pictures of the page, of each width in each theme.
fn pictures(tab: &mut Tab, folder: &Path, name: &str) {
    for (width, height_max) in PICTURE_HEIGHT_MAX {
        for theme in ["light", "dark"] {
            tab.resize(width, 400);
            tab.prefer(theme);
            // The next event draws it in its new size.
            tab.eval("new Promise((done) => setTimeout(done, 1200))");
            let height = tab.eval("document.documentElement.scrollHeight").as_u64().expect("a height");
            tab.resize(width, u32::try_from(height).expect("a height").min(height_max));
            tab.eval("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))");
            tab.picture(&folder.join(format!("{name}-{width}-{theme}.png")));
        }
    }
}

/// Clients of the demo, each of which calls again and again, until they are told to stop.
fn load(gateway: &Gateway, clients: usize, work: impl FnOnce()) {
    use crate::support::StopsAtEnd;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    let stops = AtomicBool::new(false);
    let calls = [
        ("opensrf.math", "add", "[1,2]"),
        ("opensrf.demo", "opensrf.demo.echo", "[\"a text\"]"),
        ("opensrf.demo", "opensrf.demo.sleep", "[0.2]"),
        ("opensrf.demo", "opensrf.demo.big", "[20000]"),
        ("opensrf.demo", "opensrf.demo.count", "[5,0.1]"),
        ("opensrf.demo", "opensrf.demo.fail", "[500,\"as asked\"]"),
    ];
    std::thread::scope(|scope| {
        let _stops = StopsAtEnd(&stops);
        for n in 0..clients {
            let stops = &stops;
            scope.spawn(move || {
                let Ok(mut client) = Client::connect_with(gateway.address(), &[]) else { return };
                let (service, method, params) = calls[n % calls.len()];
                let mut trace = 0;
                while !stops.load(SeqCst) {
                    trace += 1;
                    let text = crate::support::client::request(trace, method, params);
                    let thread = format!("t{trace}");
                    if client.try_send(&crate::support::client::envelope(service, &thread, &[text])).is_err() {
                        return;
                    }
                    // Whatever comes, until nothing has for a while.
                    let pause = Duration::from_millis(40 + 10 * (n as u64 % 30));
                    while let crate::support::client::Event::Envelope(_) = client.event(pause) {}
                }
            });
        }
        work();
    });
}

/// Writes what docs/page/ is made from: `EVERGATE_PICTURES=FOLDER cargo nextest run --run-ignored only pictures_of_the_page`, then
/// `pngquant --nofs --speed 1 48` and `optipng -o5` of those that docs/page.md shows.
#[test]
#[ignore = "it writes the pictures of docs/page.md, of a node under load, in two minutes"]
fn pictures_of_the_page_idle_loaded_draining_and_drained() {
    let folder = PathBuf::from(std::env::var_os("EVERGATE_PICTURES").expect("EVERGATE_PICTURES names a folder"));
    let mut gateway = Gateway::demo(&["--drain-max-seconds", "60"]);
    let mut tab = open(&gateway, &token(&gateway), 1_280);
    pictures(&mut tab, &folder, "idle");
    let _idle: Vec<Client> = (0..25).map(|_| Client::connect(&gateway)).collect();
    load(&gateway, 20, || std::thread::sleep(Duration::from_secs(25)));
    let mut slow = Client::connect(&gateway);
    slow.request("opensrf.demo", "slow", 1, "opensrf.demo.sleep", "[45]");
    load(&gateway, 60, || {
        std::thread::sleep(Duration::from_secs(25));
        pictures(&mut tab, &folder, "loaded");
        press(&mut tab, "drain-open");
        confirm(&mut tab);
        tab.until("document.getElementById('phase').innerText === 'draining'");
        tab.until("!document.getElementById('waits').hidden");
        pictures(&mut tab, &folder, "draining");
    });
    assert_eq!(gateway.wait_exit(Duration::from_secs(70)), 0);
    pictures(&mut tab, &folder, "drained");
    let said: Value = tab.eval("document.getElementById('notice').innerText");
    assert!(said.as_str().is_some_and(|said| said.contains("exit code 0")), "{said}");
}
