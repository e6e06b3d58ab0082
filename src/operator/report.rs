//! What a process says of itself (`/status`), as far as it is shown.

use evergate_proto::opensrf::printable::Name;
use serde::Deserialize;

/// Cores that are listed: a terminal has so many lines.
const CORES_MAX: usize = 16;

/// A status. What it holds besides is left out.
#[derive(Debug, Deserialize)]
pub(super) struct Report {
    version: String,
    pid: u32,
    phase: String,
    uptime_seconds: f64,
    drain: Drain,
    cores: Vec<Core>,
}

/// How far a drain is.
#[derive(Debug, Deserialize)]
struct Drain {
    seconds_left: Option<f64>,
    oldest: Option<Oldest>,
}

/// What has been waited for longest.
#[derive(Debug, Deserialize)]
struct Oldest {
    service: String,
    method: String,
    age_ms: u64,
    client: String,
}

/// One core, or the sum of several.
#[derive(Clone, Debug, Default, Deserialize)]
struct Core {
    /// Its CPU.
    #[serde(rename = "core")]
    cpu: u64,
    open: u64,
    sending: u64,
    waiting_for_replies: u64,
    waiting_for_room: u64,
    in_stateful_session: u64,
    idle: u64,
    closed_at_gap: u64,
    closed_at_deadline: u64,
}

/// The narrowest column: clients of a core, in digits.
const DIGITS: usize = 6;

/// A column: its heading and its number.
type Column = (&'static str, fn(&Core) -> u64);

/// The numbers of a core. Who waits for room waits, too.
const COLUMNS: [Column; 7] = [
    ("open", |core| core.open),
    ("sending", |core| core.sending),
    ("waiting", |core| core.waiting_for_replies + core.waiting_for_room),
    ("in session", |core| core.in_stateful_session),
    ("idle", |core| core.idle),
    ("closed at gap", |core| core.closed_at_gap),
    ("at deadline", |core| core.closed_at_deadline),
];

impl Report {
    /// Whether it does what it is there for.
    pub(super) fn is_serving(&self) -> bool {
        self.phase == "serving"
    }

    /// Clients that are connected.
    pub(super) fn open(&self) -> u64 {
        self.total().open
    }

    /// Clients that the drain has closed.
    pub(super) fn closed(&self) -> u64 {
        let total = self.total();
        total.closed_at_gap + total.closed_at_deadline
    }

    fn total(&self) -> Core {
        self.cores.iter().fold(Core::default(), |sum, core| Core {
            cpu: 0,
            open: sum.open + core.open,
            sending: sum.sending + core.sending,
            waiting_for_replies: sum.waiting_for_replies + core.waiting_for_replies,
            waiting_for_room: sum.waiting_for_room + core.waiting_for_room,
            in_stateful_session: sum.in_stateful_session + core.in_stateful_session,
            idle: sum.idle + core.idle,
            closed_at_gap: sum.closed_at_gap + core.closed_at_gap,
            closed_at_deadline: sum.closed_at_deadline + core.closed_at_deadline,
        })
    }

    /// Who and how it is.
    pub(super) fn heading(&self) -> String {
        let left = self.drain.seconds_left.map_or_else(String::new, |left| format!(", {left:.0} s left"));
        let (phase, version) = (Name(&self.phase), Name(&self.version));
        format!("evergate {version}, process {}, up for {:.0} s: {phase}{left}", self.pid, self.uptime_seconds)
    }

    /// A line for each core, those with most clients where they are many, and what is waited for.
    pub(super) fn details(&self) -> Vec<String> {
        // It fits into 80 columns.
        let cells = |name: &str, cell: &dyn Fn(&Column) -> String| {
            let cells = COLUMNS.map(|column| format!("{:>width$}", cell(&column), width = column.0.len().max(DIGITS)));
            format!("{name:>5}  {}", cells.join("  "))
        };
        let row = |name: &str, core: &Core| cells(name, &|(_, number)| number(core).to_string());
        let mut lines = vec![cells("core", &|(heading, _)| (*heading).to_owned())];
        let mut cores: Vec<&Core> = self.cores.iter().collect();
        if cores.len() > CORES_MAX {
            cores.sort_by_key(|core| std::cmp::Reverse(core.open));
            cores.truncate(CORES_MAX);
        }
        lines.extend(cores.iter().map(|core| row(&core.cpu.to_string(), core)));
        if self.cores.len() > 1 {
            lines.push(row("all", &self.total()));
        }
        lines.extend(self.oldest().map(|oldest| format!("oldest: {oldest}")));
        lines
    }

    /// Everything.
    pub(super) fn lines(&self) -> Vec<String> {
        std::iter::once(self.heading()).chain(self.details()).collect()
    }

    /// Everything in one line, for a log.
    pub(super) fn line(&self) -> String {
        let total = self.total();
        let numbers = COLUMNS.map(|(heading, number)| format!("{heading} {}", number(&total)));
        let oldest = self.oldest().map_or_else(String::new, |oldest| format!("; oldest: {oldest}"));
        format!("{}: {}{oldest}", self.heading(), numbers.join(", "))
    }

    /// What has been waited for longest. A client may have named service and method.
    fn oldest(&self) -> Option<String> {
        let Oldest { service, method, age_ms, client } = self.drain.oldest.as_ref()?;
        let seconds = *age_ms as f64 / 1_000.0;
        Some(format!("{} {} for {seconds:.1} s from {}", Name(service), Name(method), Name(client)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The status of a process with so many cores that drains.
    pub(crate) fn status(cores: usize) -> String {
        let core = |n| {
            format!(
                "{{\"core\":{n},\"open\":{},\"idle\":1,\"waiting_for_replies\":2,\"waiting_for_room\":1,\
                 \"in_stateful_session\":1,\"sending\":1,\
                 \"closed_at_gap\":10,\"closed_at_deadline\":1,\"crossed_close\":0,\"bus\":[]}}",
                6 + n
            )
        };
        format!(
            "{{\"version\":\"0.1.0\",\"commit\":\"c\",\"pid\":7,\"phase\":\"draining\",\"uptime_seconds\":61.2,\
             \"drain\":{{\"seconds_left\":59.7,\"oldest\":{{\"service\":\"open-ils.circ\",\"method\":\"a\\u001b[2Jb\",\
             \"age_ms\":1234,\"client\":\"10.0.0.5\"}}}},\"cores\":[{}],\"limits\":{{}}}}",
            (0..cores).map(core).collect::<Vec<_>>().join(",")
        )
    }

    #[test]
    fn every_core_has_a_line_and_the_oldest_thing_is_named_without_its_escapes() {
        let report: Report = serde_json::from_str(&status(2)).expect("a status");
        assert_eq!((report.open(), report.closed(), report.is_serving()), (13, 22, false));
        assert_eq!(
            report.lines(),
            [
                "evergate 0.1.0, process 7, up for 61 s: draining, 60 s left",
                " core    open  sending  waiting  in session    idle  closed at gap  at deadline",
                "    0       6        1        3           1       1             10            1",
                "    1       7        1        3           1       1             10            1",
                "  all      13        2        6           2       2             20            2",
                "oldest: open-ils.circ \"a\\u001b[2Jb\" for 1.2 s from 10.0.0.5",
            ]
        );
        assert!(
            report.line().contains("open 13, sending 2") && report.line().ends_with("from 10.0.0.5"),
            "{}",
            report.line()
        );
    }

    #[test]
    fn of_many_cores_those_with_most_clients_are_listed() {
        let report: Report = serde_json::from_str(&status(64)).expect("a status");
        let lines = report.details();
        assert_eq!(lines.len(), 1 + CORES_MAX + 2);
        assert!(lines[1].starts_with("   63"), "{}", lines[1]);
    }
}
