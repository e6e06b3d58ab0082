//! What the reader must know of the figures, in a line each.

use super::fault::Fault;
use super::figures::{Figures, RATE_SECONDS_MIN};
use super::table::{count, thousands};
use super::versus::Ratios;

/// Less than this share of what was asked for is worth a word.
const SHORT: f64 = 0.9;

/// So many requests cost any server some ticks of 10 ms.
const BUSY_REQUESTS: u64 = 20_000;

/// Of one server's figures.
pub fn of(figures: &Figures) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(share) = figures.generator.cpu_share_max.filter(|_| figures.generator.is_bottleneck) {
        let share = percent(share);
        notes.push(format!(
            "warning: the generator used {share} of a core: it may be what was measured, not the server"
        ));
    }
    if figures.server.cpu_seconds == Some(0.0) && figures.requests >= BUSY_REQUESTS {
        let replies = thousands(figures.requests);
        notes.push(format!(
            "warning: --server-pid: no CPU time was used while {replies} right replies came: name the process that listens there"
        ));
    }
    notes.extend(overload(figures));
    notes.extend(churn_overload(figures));
    if let Some(unsent @ 1..) = figures.not_sent {
        let unsent = thousands(unsent);
        notes.push(format!("warning: of the requests due {unsent} were never sent; their latency is in no figure"));
    }
    if figures.drained > 0 {
        let closed = thousands(figures.drained);
        notes.push(if figures.failures > 0 {
            format!("note: the server was drained: {closed} connections were closed with 1012")
        } else {
            format!(
                "note: the server was drained, and nobody lost a request: {closed} connections were closed with 1012"
            )
        });
    }
    if figures.deserted {
        notes.push("warning: every connection ended before the time".to_owned());
    }
    if figures.seconds <= 0.0 {
        notes.push("note: nothing was measured".to_owned());
    }
    if figures.interrupted {
        notes.push("note: interrupted; the figures are those until then".to_owned());
    }
    if figures.requests > 0 && figures.throughput.is_none() {
        notes.push(format!("note: measured for less than {RATE_SECONDS_MIN} s, which is too short for rates and CPU"));
    }
    notes
}

/// Of the table, however many servers are in it.
pub fn of_table(servers: &[&Figures], ratios: Option<&Ratios>) -> Vec<String> {
    let mut notes = Vec::new();
    if servers.iter().any(|figures| figures.rate.is_some()) {
        notes.push(
            "note: right replies and CPU are those of the measured time; latency is that of the requests that were due in \
             it, from the due time, whenever their replies came"
                .to_owned(),
        );
    }
    if servers.iter().any(|figures| figures.idle > 0 && figures.server.pss_bytes.is_some()) {
        notes.push("note: memory per idle client needs a freshly started server and thousands of clients".to_owned());
    }
    if let Some(Ratios { cpu, p50, p99, throughput, rounds }) = ratios {
        let is_known = [cpu, p50, p99, throughput].into_iter().any(Option::is_some);
        notes.push(if is_known {
            format!(
                "note: A / B is the ratio of the medians of {rounds} rounds, in brackets the least and the greatest of a \
                 round; the columns are of all rounds together, but memory, which is of the last"
            )
        } else {
            "note: there is no A / B: in no round were both measured to its end".to_owned()
        });
    }
    notes
}

/// An open loop whose server did not keep up. Requests with a wrong reply were taken nevertheless.
fn overload(figures: &Figures) -> Option<String> {
    let (asked, throughput) = (figures.rate?, figures.throughput?);
    let unanswered = [Fault::Missing, Fault::Lost].map(|fault| figures.errors.get(&fault.to_string()));
    let unanswered: u64 = unanswered.into_iter().flatten().sum();
    let taken = figures.requests + figures.failed_requests - unanswered;
    is_short(taken as f64, asked * figures.seconds).then(|| {
        let (took, asked) = (count(throughput), count(asked));
        format!("warning: {took}/s of the {asked}/s asked for were answered; {}", limit(figures))
    })
}

/// Clients that came and went more slowly than was asked.
fn churn_overload(figures: &Figures) -> Option<String> {
    let (asked, churned, seconds) = (figures.churn?, figures.churned? as f64, figures.seconds);
    if seconds < RATE_SECONDS_MIN {
        return None;
    }
    is_short(churned, asked * seconds).then(|| {
        let (came, asked) = (count(churned / seconds), count(asked));
        format!("warning: {came}/s of the {asked}/s clients asked for came and went; {}", limit(figures))
    })
}

/// Whether so many are fewer than were asked for, beyond what chance does to the times at which they are due.
fn is_short(number: f64, asked: f64) -> bool {
    number + 4.0 * asked.sqrt() < asked * SHORT
}

/// Who held it up.
fn limit(figures: &Figures) -> String {
    match figures.generator.cpu_share {
        Some(_) if figures.generator.is_bottleneck => "the generator may be the limit".to_owned(),
        Some(share) => {
            format!("the generator had CPU to spare: it used {} of a core", percent(share))
        }
        None => "what the limit was is not known".to_owned(),
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::super::conduct::{Load, Measured};
    use super::super::figures::tests::{CLOSED, answered, load, measured, of as figures, server};
    use super::super::round::Pace;
    use super::super::versus::Ratio;
    use super::*;

    fn all(figures: &Figures) -> String {
        of(figures).join("\n")
    }

    #[test]
    fn requests_that_the_server_refuses_are_taken_all_the_same() {
        let mut tally = answered(0);
        tally.faults.insert(Fault::Status(404), 200);
        let notes = all(&figures(Pace::Open, &[&measured(tally)]));
        assert!(!notes.contains("asked for"), "{notes}");
    }

    #[test]
    fn an_open_loop_that_its_server_does_not_keep_up_with_says_so() {
        // A hundred a second for two seconds are asked for.
        let short = all(&figures(Pace::Open, &[&measured(answered(50))]));
        assert!(short.contains("25/s of the 100/s") && short.contains("to spare: it used 50 % of a core"), "{short}");
        let busy = Measured { own_cpu_seconds: 1.98, ..measured(answered(50)) };
        assert!(all(&figures(Pace::Open, &[&busy])).contains("the generator may be the limit"));
        assert!(!all(&figures(Pace::Open, &[&measured(answered(190))])).contains("asked for"));
    }

    #[test]
    fn fewer_clients_than_should_come_and_go_are_mentioned() {
        let notes = |churned| {
            let mut tally = answered(1);
            tally.churned = churned;
            all(&Figures::new(&Load { churn: 1_000.0, ..load(CLOSED) }, &server(), &[&measured(tally)]))
        };
        assert!(notes(500).contains("250/s of the 1,000/s clients"), "{}", notes(500));
        assert!(!notes(1_990).contains("came and went"));
    }

    #[test]
    fn a_bottleneck_needs_a_measured_time() {
        let short = Measured { seconds: 0.001, own_cpu_seconds: 0.001_15, ..measured(answered(1)) };
        let notes = all(&figures(CLOSED, &[&short]));
        assert!(!notes.contains("warning") && notes.contains("too short"), "{notes}");
    }

    #[test]
    fn a_server_that_answers_thousands_without_cpu_time_is_not_the_one_that_was_named() {
        let notes = |replies, cpu| {
            let round = Measured { server_cpu_seconds: cpu, ..measured(answered(replies)) };
            all(&figures(CLOSED, &[&round]))
        };
        assert!(
            notes(20_000, Some(0.0)).contains("--server-pid: no CPU time was used while 20,000 right replies came")
        );
        for (replies, cpu) in [(20_000, Some(0.01)), (20_000, None), (100, Some(0.0))] {
            assert!(!notes(replies, cpu).contains("--server-pid"), "{replies} {cpu:?}");
        }
    }

    #[test]
    fn a_ratio_says_of_how_many_rounds_it_is() {
        let none = Ratios { cpu: None, p50: None, p99: None, throughput: None, rounds: 5 };
        assert!(of_table(&[], Some(&none)).concat().contains("there is no A / B"));
        let p50 = Some(Ratio { median: 1.0, min: 1.0, max: 1.0, rounds: 5 });
        assert!(of_table(&[], Some(&Ratios { p50, ..none })).concat().contains("5 rounds"));
    }
}
