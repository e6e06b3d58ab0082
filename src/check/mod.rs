//! `evergate check`: can this host and this bus serve? A line for each thing looked at, and a remedy for each that
//! fails.
//!
//! May use: blocking calls, each with a time limit; files that it deletes again; one random key of its own on the bus. May never: touch the router's
//! key or a client's, listen on the port that it tests (with `share_port` it would be given clients), or print a
//! password. `serve` uses [`host_usable`] and [`out_of_reach`] at its start.
#![forbid(unsafe_code)]

mod bus;
mod files;
mod host;
mod reach;
mod sysctls;

#[cfg(test)]
mod tests;

use std::io::Write;

use evergate_proto::opensrf::printable::Shown;
use evergate_proto::websocket::handshake::Origins;

use crate::config::Config;
use crate::stdio;

pub use host::{cannot_bind, cannot_listen, host_usable};
pub use reach::out_of_reach;

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// As it should be.
    Ok,
    /// It serves, but worse than it could.
    Warn {
        /// What to do.
        remedy: String,
    },
    /// It cannot serve so.
    Fail {
        /// What to do.
        remedy: String,
    },
    /// Nothing that can be tested from here.
    Note,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    outcome: Outcome,
    /// What was looked at, and what was found.
    text: String,
}

impl Finding {
    fn ok(text: impl Into<String>) -> Self {
        Self { outcome: Outcome::Ok, text: text.into() }
    }

    fn warn(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { outcome: Outcome::Warn { remedy: remedy.into() }, text: text.into() }
    }

    fn fail(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { outcome: Outcome::Fail { remedy: remedy.into() }, text: text.into() }
    }

    fn note(text: impl Into<String>) -> Self {
        Self { outcome: Outcome::Note, text: text.into() }
    }
}

/// Looks at everything and writes a line for each, also for each of the `warnings` that the configuration came with; true if
/// nothing failed. The last line counts. A reader that has seen enough changes nothing about the answer; a report that cannot be written is an error.
pub fn run(config: &Config, warnings: &[String], out: &mut impl Write) -> Result<bool, String> {
    let (mut warned, mut failed, mut written) = (0, 0, Ok(()));
    let mut report = |findings: Vec<Finding>| {
        for finding in findings {
            warned += u32::from(matches!(finding.outcome, Outcome::Warn { .. }));
            failed += u32::from(matches!(finding.outcome, Outcome::Fail { .. }));
            let outcome = stdio::judge(write_finding(out, &finding).and_then(|()| out.flush()));
            written = written.clone().and(outcome);
        }
    };
    report(warnings.iter().map(|warning| Finding::note(format!("configuration: {warning}"))).collect());
    report(host::kernel_and_ring());
    report(vec![host::descriptors(config), host::locked_memory(config), host::cores(config)]);
    report(reach::clients(config));
    report(host::ports(config));
    report(sysctls::advised(config.share_port));
    report(vec![host::io_wait()]);
    report([files::logfile(config), files::state_dir(config), files::control(config)].into_iter().flatten().collect());
    for domain in &config.domains {
        report(bus::domain(config, domain));
    }
    report(vec![proxy(config)]);
    written.and(stdio::judge(writeln!(out, "{}", total(warned, failed))))?;
    Ok(failed == 0)
}

/// The last line: how much there is to look at above.
fn total(warned: u32, failed: u32) -> String {
    let warnings = match warned {
        0 => "no warnings".to_owned(),
        1 => "1 warning".to_owned(),
        _ => format!("{warned} warnings"),
    };
    let failed = if failed == 0 { "nothing".to_owned() } else { failed.to_string() };
    format!("{warnings}, {failed} failed")
}

fn write_finding(out: &mut impl Write, finding: &Finding) -> std::io::Result<()> {
    let (word, remedy) = match &finding.outcome {
        Outcome::Ok => ("ok  ", None),
        Outcome::Warn { remedy } => ("warn", Some(remedy)),
        Outcome::Fail { remedy } => ("FAIL", Some(remedy)),
        Outcome::Note => ("note", None),
    };
    writeln!(out, "{word}  {}", Shown(&finding.text))?;
    remedy.map_or(Ok(()), |remedy| writeln!(out, "      {remedy}"))
}

/// What a proxy must pass on for the origin and the client's address to be judged rightly.
fn proxy(config: &Config) -> Finding {
    let trusted = config.trusted_proxies.join(", ");
    let origin = match (&config.origins, config.same_origin) {
        (Origins::Any | Origins::AnyHost, false) => String::new(),
        (Origins::List(_), false) => {
            " Origins are compared with the list in `origins`, so the site's own host must be \
             in it."
                .to_owned()
        }
        (_, true) => " same_origin compares the Origin's host with X-Forwarded-Host from a trusted proxy, else with \
             Host; nginx's stock example sets neither: add `proxy_set_header X-Forwarded-Host $http_host;`."
            .to_owned(),
    };
    Finding::note(format!(
        "behind a proxy: clients' addresses come from X-Forwarded-For of trusted_proxies ({trusted}); in nginx: \
         `proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"upgrade\"; \
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;`.{origin}"
    ))
}
