//! `/`: the page. One document with its style and its script in it, of which nothing is fetched from elsewhere.
//!
//! Its numbers come over `/events`. What stands in the document is what does not need a script: whether the node serves.

use evergate_proto::lifecycle::Phase;
use evergate_proto::opensrf::printable::{escape, shows};

use super::View;
use super::health;
use crate::random;

/// The document, with a place for each of what follows.
const DOCUMENT: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
/// One script, in files of one noun each.
const SCRIPT: &str = concat!(
    "'use strict';\n",
    include_str!("page/format.js"),
    include_str!("page/charts.js"),
    include_str!("page/sections.js"),
    include_str!("page/actions.js"),
    include_str!("page/clients.js"),
    include_str!("page/console.js"),
    include_str!("page/stream.js"),
);

/// A page for one reader.
pub(super) struct Page {
    /// HTML.
    pub text: String,
    /// What it may do in a browser (Content-Security-Policy).
    pub policy: String,
}

impl Page {
    /// The page as of now; it may connect to `console`, if there is one. The error is the host's.
    pub(super) fn render(view: &View, console: Option<&str>) -> Result<Self, String> {
        let now_ms = view.shared.now_ms();
        let ready = health::readiness(&view.shared, now_ms, view.options.ready_bus_grace_seconds);
        let health = health::health(&view.shared);
        let phase = view.shared.phase();
        // "serving" alone would contradict what stands beside it.
        let but = if phase == Phase::Serving && !ready.good { ", not ready" } else { "" };
        // What marks the page's own style and script, which nobody can know before.
        let nonce = random::hex()?;
        let said = |verdict: &health::Verdict| Escaped(&verdict.told(&view.shared)).to_string();
        let text = fill(&[
            ("nonce", &nonce),
            ("phase", &format!("{}{but}", phase.name())),
            ("ready", &said(&ready)),
            ("healthy", &said(&health)),
            ("version", &Escaped(&view.options.version).to_string()),
            ("commit", &Escaped(&view.options.commit).to_string()),
            ("style", STYLE),
            ("script", SCRIPT),
        ]);
        let console = console.map_or_else(String::new, |url| format!(" {url}"));
        let policy = format!(
            "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'{console}; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
        );
        Ok(Self { text, policy })
    }
}

/// The document with these in the place of `{{name}}`.
fn fill(values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(DOCUMENT.len() + STYLE.len() + SCRIPT.len());
    for (at, piece) in DOCUMENT.split("{{").enumerate() {
        let Some((name, rest)) = piece.split_once("}}").filter(|_| at > 0) else {
            out.push_str(piece);
            continue;
        };
        out.push_str(values.iter().find(|(of, _)| *of == name).map_or("", |(_, value)| value));
        out.push_str(rest);
    }
    out
}

/// Text for HTML, between tags or inside a quoted attribute.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write as _;
        for c in self.0.chars() {
            match c {
                '&' => out.write_str("&amp;")?,
                '<' => out.write_str("&lt;")?,
                '>' => out.write_str("&gt;")?,
                '"' => out.write_str("&quot;")?,
                '\'' => out.write_str("&#39;")?,
                c if shows(c) => out.write_char(c)?,
                c => escape(out, c)?,
            }
        }
        Ok(())
    }
}
