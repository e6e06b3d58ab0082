//! `/`: the status for a human. One document, no script, nothing fetched; it reloads itself.

use std::fmt::Write;

use evergate_proto::opensrf::printable::{Name, escape, shows};

use super::View;
use super::health;
use super::status::{CoreStatus, Status};

/// The page's only style.
const STYLE: &str = "body{font:15px/1.4 system-ui,sans-serif;margin:2em;color:#222;background:#fff}\
table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .8em;border-bottom:1px solid #ddd;text-align:right}\
td:last-child,th:last-child{text-align:left}.good{color:#06662b}.bad{color:#a40000}\
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}td,th{border-color:#444}\
.good{color:#6c6}.bad{color:#f77}a{color:#9bf}}";

/// A number's column: its heading and where it is.
type Column = (&'static str, fn(&CoreStatus) -> u64);

/// The numbers of a core, in the order of the table.
const COLUMNS: [Column; 9] = [
    ("open", |core| core.open),
    ("idle", |core| core.idle),
    ("waiting for replies", |core| core.waiting_for_replies),
    ("waiting for room", |core| core.waiting_for_room),
    ("in stateful session", |core| core.in_stateful_session),
    ("sending", |core| core.sending),
    ("closed at gap", |core| core.closed_at_gap),
    ("closed at deadline", |core| core.closed_at_deadline),
    ("crossed close", |core| core.crossed_close),
];

/// The whole page.
pub(super) fn render(view: &View, now_ms: u64) -> String {
    let status = Status::of(view.source(), now_ms);
    let ready = health::readiness(&view.shared, now_ms, view.options.ready_bus_grace_seconds);
    let health = health::health(&view.shared);
    let mut out = String::with_capacity(4 * 1024);
    out.push_str(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"2\">\
         <meta name=\"viewport\" content=\"width=device-width\">",
    );
    // "serving" alone would contradict the line below it.
    let but = if status.phase == "serving" && !ready.good { ", not ready" } else { "" };
    let _ = write!(out, "<title>evergate: {}{but}</title><style>{STYLE}</style></head><body>", status.phase);
    let _ = write!(
        out,
        "<h1>evergate: {}{but}</h1><p>{} {}, process {}, up for {}.</p>",
        status.phase,
        Escaped(status.version),
        Escaped(status.commit),
        status.pid,
        Duration(now_ms / 1000),
    );
    for (name, verdict) in [("Ready", ready), ("Healthy", health)] {
        let (class, word) = if verdict.good { ("good", "yes") } else { ("bad", "no") };
        let _ =
            write!(out, "<p>{name}: <b class=\"{class}\">{word}</b> ({})</p>", Escaped(&verdict.told(&view.shared)));
    }
    drain(&mut out, &status);
    cores(&mut out, &status);
    limits(&mut out, &status);
    out.push_str(
        "<p><a href=\"/healthz\">healthz</a> <a href=\"/readyz\">readyz</a> <a href=\"/status\">status</a> \
         <a href=\"/metrics\">metrics</a></p></body></html>\n",
    );
    out
}

fn drain(out: &mut String, status: &Status) {
    let Some(seconds_left) = status.drain.seconds_left else { return };
    let _ = write!(out, "<h2>Drain</h2><p>{seconds_left:.0} s left");
    match &status.drain.oldest {
        None => out.push_str("; nothing is under way, clients wait for their turn.</p>"),
        Some(oldest) => {
            let _ = write!(
                out,
                "; waiting longest for {} {} of {}, {:.1} s.</p>",
                Escaped(&Name(&oldest.service).to_string()),
                Escaped(&Name(&oldest.method).to_string()),
                Escaped(&oldest.client),
                super::status::seconds(oldest.age_ms),
            );
        }
    }
}

fn cores(out: &mut String, status: &Status) {
    out.push_str("<table><thead><tr><th>core</th>");
    for (heading, _) in COLUMNS {
        let _ = write!(out, "<th>{heading}</th>");
    }
    out.push_str("<th>bus</th></tr></thead><tbody>");
    for core in &status.cores {
        let _ = write!(out, "<tr><th>{}</th>", core.core);
        for (_, number) in COLUMNS {
            let _ = write!(out, "<td>{}</td>", number(core));
        }
        out.push_str("<td>");
        for bus in &core.bus {
            let class = if bus.state == "up" { "good" } else { "bad" };
            let _ = write!(out, "{} <span class=\"{class}\">{}</span> ", Escaped(&bus.domain), bus.state);
        }
        out.push_str("</td></tr>");
    }
    out.push_str("</tbody><tfoot><tr><th>all</th>");
    for (_, number) in COLUMNS {
        let _ = write!(out, "<th>{}</th>", status.cores.iter().map(number).sum::<u64>());
    }
    out.push_str("<th></th></tr></tfoot></table>");
}

fn limits(out: &mut String, status: &Status) {
    let mut hit = status.limits.iter().filter(|&(_, &times)| times > 0).peekable();
    if hit.peek().is_none() {
        out.push_str("<p>No limit was hit.</p>");
        return;
    }
    out.push_str("<table><thead><tr><th>limit</th><th>times hit</th></tr></thead><tbody>");
    for (name, times) in hit {
        let _ = write!(out, "<tr><th>{name}</th><td>{times}</td></tr>");
    }
    out.push_str("</tbody></table>");
}

/// Text for HTML, between tags or inside a quoted attribute.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

/// Seconds as days, hours, minutes and seconds.
struct Duration(u64);

impl std::fmt::Display for Duration {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(seconds) = *self;
        let (days, clock) = (seconds / 86_400, seconds % 86_400);
        if days > 0 {
            write!(out, "{days} d ")?;
        }
        write!(out, "{}:{:02}:{:02}", clock / 3600, clock / 60 % 60, clock % 60)
    }
}
