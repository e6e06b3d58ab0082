//! A page in Chromium as its debugger sees it (the `DevTools` protocol): what it shows, what it fetches, what goes wrong in it; and the keys
//! and the pointer of whoever reads it.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use super::chromium::Chromium;
use super::{PATIENCE, eventually};

/// A browser takes its time, and more on two busy cores.
const SLOW: Duration = PATIENCE.saturating_mul(3);

/// One tab.
pub struct Tab {
    socket: WebSocket<TcpStream>,
    session: String,
    next: u64,
    /// What the debugger has told besides answers.
    events: VecDeque<Value>,
    _chromium: Chromium,
}

impl Tab {
    /// Starts a browser, and watches its tab from before it goes to `url`.
    pub fn open(url: &str, width: u32, theme: &str) -> Self {
        let chromium = Chromium::open("about:blank");
        let (port, path) = eventually("the debugger listens", SLOW, || chromium.debugger());
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the debugger");
        stream.set_read_timeout(Some(SLOW)).expect("a time limit");
        let (socket, _) = tungstenite::client(format!("ws://127.0.0.1:{port}{path}"), stream).expect("a handshake");
        let mut tab = Self { socket, session: String::new(), next: 0, events: VecDeque::new(), _chromium: chromium };
        let targets = tab.call("Target.getTargets", &json!({}));
        let page = targets["targetInfos"].as_array().into_iter().flatten().find(|target| target["type"] == "page");
        let target = page.expect("a tab")["targetId"].clone();
        let attached = tab.call("Target.attachToTarget", &json!({"targetId": target, "flatten": true}));
        attached["sessionId"].as_str().expect("a session").clone_into(&mut tab.session);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            tab.call(&format!("{domain}.enable"), &json!({}));
        }
        tab.resize(width, 900);
        tab.prefer(theme);
        tab.call("Page.navigate", &json!({"url": url}));
        tab
    }

    /// Calls the debugger: its answer.
    pub fn call(&mut self, method: &str, params: &Value) -> Value {
        self.next += 1;
        let id = self.next;
        let mut asked = json!({"id": id, "method": method, "params": params});
        if !self.session.is_empty() {
            asked["sessionId"] = self.session.clone().into();
        }
        self.socket.send(Message::text(asked.to_string())).expect("the debugger reads");
        let end = Instant::now() + SLOW;
        loop {
            assert!(Instant::now() < end, "{method} is not answered");
            let Message::Text(text) = self.socket.read().expect("the debugger answers") else { continue };
            let mut told: Value = serde_json::from_str(&text).expect("JSON");
            if told["id"] == id {
                assert!(told.get("error").is_none(), "{method}: {told}");
                return told["result"].take();
            }
            self.events.push_back(told);
        }
    }

    /// What an expression is in the page; a promise is waited for.
    pub fn eval(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut answer = self.call("Runtime.evaluate", &params);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    /// Waits until an expression is true in the page.
    pub fn until(&mut self, expression: &str) {
        let end = Instant::now() + SLOW;
        while self.eval(expression) != true {
            if Instant::now() >= end {
                let text = self.eval("document.body.innerText");
                panic!("{expression}: not within {SLOW:?}; the page says: {}", text.as_str().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The text of an element, as it is shown.
    pub fn text(&mut self, selector: &str) -> String {
        let text = self.eval(&format!("document.querySelector({}).innerText", json!(selector)));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Presses a key and lets it go: its name, as in `KeyboardEvent.key`.
    pub fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            " " => 32,
            "End" => 35,
            "Home" => 36,
            "ArrowLeft" => 37,
            "ArrowRight" => 39,
            other => panic!("{other}: its code is not known here"),
        };
        let text = match key {
            "Enter" => "\r",
            " " => " ",
            _ => "",
        };
        for kind in [if text.is_empty() { "rawKeyDown" } else { "keyDown" }, "keyUp"] {
            let text = if kind == "keyUp" { "" } else { text };
            let event = json!({"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text});
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// Types a text.
    pub fn type_in(&mut self, text: &str) {
        self.call("Input.insertText", &json!({"text": text}));
    }

    /// Presses Tab until the element of that id has the focus; says how often.
    pub fn tab_to(&mut self, id: &str) -> usize {
        for times in 1..60 {
            self.press("Tab");
            if self.eval("document.activeElement?.id") == id {
                return times;
            }
        }
        panic!("{id} is not reached by Tab");
    }

    /// The size of the window, in CSS pixels.
    pub fn resize(&mut self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &size);
    }

    /// What the system is said to prefer: `light` or `dark`.
    pub fn prefer(&mut self, theme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": theme}]});
        self.call("Emulation.setEmulatedMedia", &features);
    }

    /// Writes all of the page as a picture.
    pub fn picture(&mut self, path: &Path) {
        let taken = self.call("Page.captureScreenshot", &json!({"format": "png", "captureBeyondViewport": true}));
        let picture = base64::engine::general_purpose::STANDARD.decode(taken["data"].as_str().expect("a picture"));
        std::fs::write(path, picture.expect("base64")).expect("a file");
    }

    /// Every address that was asked for since the tab was opened.
    pub fn requests(&mut self) -> Vec<String> {
        self.eval("1");
        let of = |event: &Value| match event["method"].as_str()? {
            "Network.requestWillBeSent" => event["params"]["request"]["url"].as_str().map(str::to_owned),
            "Network.webSocketCreated" => event["params"]["url"].as_str().map(str::to_owned),
            _ => None,
        };
        self.events.iter().filter_map(of).collect()
    }

    /// Whatever went wrong in the page: exceptions, and what stands in its console.
    pub fn complaints(&mut self) -> Vec<String> {
        self.eval("1");
        let is_one = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => event["params"]["type"] != "debug",
            Some("Log.entryAdded") => event["params"]["entry"]["level"] != "verbose",
            _ => false,
        };
        self.events.iter().filter(is_one).map(Value::to_string).collect()
    }

    /// Forgets what was told so far.
    pub fn forget(&mut self) {
        self.eval("1");
        self.events.clear();
    }
}
