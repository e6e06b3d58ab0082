//! The kernel's settings against `tuning/sysctl.d/60-evergate.conf`, the file that sites install: each value and its reason
//! stand there and nowhere else.

use std::fs;

use super::Finding;

/// What sites install, with its reasons.
const ADVISED: &str = include_str!("../../tuning/sysctl.d/60-evergate.conf");

/// One line of that file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Setting<'a> {
    /// As sysctl(8) spells it.
    name: &'a str,
    /// A number is the least that will do, 0 is 0, two numbers are a range at least so wide.
    wanted: &'a str,
    /// The first sentence of the comment above it.
    why: String,
}

/// The settings of a file, in order. Lines that are no comment and no setting are passed over: a test says that there are none.
fn settings(text: &str) -> impl Iterator<Item = Setting<'_>> {
    let mut comment = Vec::new();
    text.lines().filter_map(move |line| {
        if let Some(words) = line.strip_prefix("# ") {
            comment.push(words);
            return None;
        }
        let comment = std::mem::take(&mut comment).join(" ");
        let (name, wanted) = line.split_once('=')?;
        let why = comment.split_once(". ").map_or(&*comment, |(first, _)| first).trim_end_matches('.').to_owned();
        Some(Setting { name: name.trim().trim_start_matches('-'), wanted: wanted.trim(), why })
    })
}

/// What the kernel has, with one space between several; none where it has no such setting, or shows it to nobody.
pub(super) fn read(name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok()?;
    Some(text.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
}

/// The numbers of a setting; none where it holds anything else.
pub(super) fn numbers(setting: &str) -> Option<Vec<u64>> {
    setting.split(' ').map(|number| number.parse().ok()).collect()
}

impl Setting<'_> {
    /// Whether that will do.
    fn suffices(&self, found: &str) -> bool {
        match (numbers(self.wanted).as_deref(), numbers(found).as_deref()) {
            (Some([0]), Some([found])) => *found == 0,
            (Some([wanted]), Some([found])) => found >= wanted,
            (Some([from, to]), Some([found_from, found_to])) => {
                found_to.saturating_sub(*found_from) >= to.saturating_sub(*from)
            }
            _ => false,
        }
    }
}

/// A line for each setting that will not do, or one for all. What only processes that share a port need is asked for only there.
pub(super) fn advised(share_port: bool) -> Vec<Finding> {
    let asked = settings(ADVISED).filter(|setting| share_port || setting.name != "net.ipv4.tcp_migrate_req");
    judge(asked.filter_map(|setting| read(setting.name).map(|found| (setting, found))))
}

fn judge<'a>(found: impl Iterator<Item = (Setting<'a>, String)>) -> Vec<Finding> {
    let mut well = Vec::new();
    let mut findings: Vec<Finding> = found
        .filter_map(|(setting, found)| {
            if setting.suffices(&found) {
                well.push(setting.name);
                return None;
            }
            let Setting { name, wanted, why } = setting;
            Some(Finding::warn(
                format!("{name} is {found}, {wanted} is advised: {why}"),
                format!(
                    "sysctl -w {name}=\"{wanted}\", and tuning/sysctl.d/60-evergate.conf in /etc/sysctl.d to keep it"
                ),
            ))
        })
        .collect();
    if !well.is_empty() {
        findings.push(Finding::ok(format!("sysctls as advised: {}", well.join(", "))));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::Outcome;
    use super::*;

    fn setting<'a>(name: &'a str, wanted: &'a str) -> Setting<'a> {
        Setting { name, wanted, why: String::new() }
    }

    #[test]
    fn every_line_of_the_file_that_sites_install_is_read_with_its_reason() {
        let lines = ADVISED.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
        let all: Vec<Setting> = settings(ADVISED).collect();
        assert!(all.len() == lines && lines > 6, "{all:?}");
        for setting in &all {
            assert!(
                setting.name.contains('.') && !setting.name.starts_with('-') && !setting.name.contains(' '),
                "{setting:?}"
            );
            assert!(setting.why.len() > 20, "{setting:?}");
            assert!(setting.suffices(setting.wanted), "{setting:?}");
        }
        let backlog = all.iter().find(|setting| setting.name == "net.core.somaxconn").expect("it is there");
        assert_eq!(backlog.wanted, crate::process::listeners::BACKLOG.to_string(), "what a core asks for");
    }

    #[test]
    fn a_number_is_the_least_zero_is_zero_and_a_pair_is_a_range_at_least_so_wide() {
        for (wanted, found, suffices) in [
            ("4096", "4096", true),
            ("4096", "9223372036854775807", true),
            ("4096", "4095", false),
            ("0", "0", true),
            ("0", "1", false),
            ("16384 65535", "16384 65535", true),
            ("16384 65535", "1024 65535", true),
            ("16384 65535", "10000 60000", true),
            ("16384 65535", "32768 60999", false),
            ("4096", "", false),
            ("4096", "many", false),
        ] {
            assert_eq!(setting("x.y", wanted).suffices(found), suffices, "{wanted} {found}");
        }
    }

    #[test]
    fn what_will_not_do_is_a_warning_with_the_command_that_sets_it_and_the_rest_is_one_line() {
        let backlog = Setting { why: "Who waits".to_owned(), ..setting("net.core.somaxconn", "4096") };
        let findings = judge(
            [(backlog, "128".to_owned()), (setting("net.ipv4.tcp_max_syn_backlog", "1"), "2".to_owned())].into_iter(),
        );
        let Outcome::Warn { remedy } = &findings[0].outcome else { panic!("{findings:?}") };
        assert_eq!(findings[0].text, "net.core.somaxconn is 128, 4096 is advised: Who waits");
        assert!(remedy.starts_with("sysctl -w net.core.somaxconn=\"4096\", and "), "{remedy}");
        assert_eq!(findings[1..], [Finding::ok("sysctls as advised: net.ipv4.tcp_max_syn_backlog")]);
        assert_eq!(judge(std::iter::empty()), [], "a kernel that shows nothing");
    }

    #[test]
    fn a_reason_is_the_first_sentence_of_the_comment_whole() {
        let text =
            "# Of another.\n\n# It begins here,\n# and ends here. More is\n# said.\na.b = 1\n\n# One line\nc.d = 2\n";
        let reasons: Vec<String> = settings(text).map(|setting| setting.why).collect();
        assert_eq!(reasons, ["It begins here, and ends here", "One line"]);
    }

    #[test]
    fn moving_handshakes_is_asked_for_only_where_processes_share_the_port() {
        let says = |share| advised(share).iter().any(|finding| finding.text.contains("tcp_migrate_req"));
        assert!(says(true) && !says(false));
    }
}
