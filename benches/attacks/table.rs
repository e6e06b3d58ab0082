//! How the outcomes are told.

use serde_json::{Value, json};

use super::latency::Summary;
use super::results::print_table;
use super::scenario::Outcome;

/// The longest turn that a core may take, seconds.
const TURN_MAX: f64 = 0.020;

/// How much slower the neighbours may be.
fn ratio_max(attackers: usize) -> f64 {
    if attackers == 1 { 2.0 } else { 4.0 }
}

fn ratio(of: &[Summary; 2]) -> f64 {
    of[1].p99 / of[0].p99
}

/// Whether the attacked neighbours are no more slower than that than they may be. NaN is not.
fn is_within(outcome: &Outcome, p99: f64) -> bool {
    outcome.neighbours[1].p99 <= ratio_max(outcome.attackers) * p99
}

/// Whether what the neighbours lost is the test bed's: the attack gives the bus nothing, and calls past the gateway, which share a
/// CPU with the attackers as the neighbours do, took as long.
fn is_of_the_bed(outcome: &Outcome) -> bool {
    !outcome.attack.is_on_bus() && is_within(outcome, outcome.bus[1].p99)
}

/// What was missed, in words; `good` where nothing was, `bed` where a call past the gateway is as slow.
fn verdict(outcome: &Outcome) -> String {
    let missed = [
        ("died", outcome.died.is_some()),
        (
            "exit",
            outcome.stopped.is_some_and(|code| code != 0) || (outcome.died.is_none() && outcome.stopped.is_none()),
        ),
        ("failed", outcome.neighbours.iter().any(|summary| summary.failed > 0)),
        ("p99", !is_within(outcome, outcome.neighbours[0].p99) && !is_of_the_bed(outcome)),
        ("turn", outcome.turn_seconds.is_some_and(|seconds| seconds > TURN_MAX)),
        ("recovery", outcome.recovery.is_none()),
    ];
    let missed: Vec<&str> = missed.into_iter().filter_map(|(name, is_missed)| is_missed.then_some(name)).collect();
    match missed.is_empty() {
        true if is_within(outcome, outcome.neighbours[0].p99) => "good".to_owned(),
        true => "bed".to_owned(),
        false => missed.join(", "),
    }
}

/// A line for who waits.
pub fn in_short(outcome: &Outcome) -> String {
    let [quiet, attacked] = &outcome.neighbours;
    format!(
        "p99 {:.2} -> {:.2} ms, {} of {} failed, {}",
        quiet.p99,
        attacked.p99,
        attacked.failed,
        attacked.calls,
        verdict(outcome)
    )
}

/// The table, and what has no place in it.
pub fn print(outcomes: &[Outcome]) {
    let head = [
        "attack",
        "n",
        "sent/s",
        "quiet p50",
        "p99",
        "max",
        "attacked p50",
        "p99",
        "max",
        "x p99",
        "failed",
        "bus quiet p99",
        "p99",
        "turn ms",
        "RSS MB",
        "peak",
        "after",
        "Redis MB",
        "recovery s",
        "exit",
        "verdict",
    ];
    let rows: Vec<Vec<String>> = outcomes.iter().map(row).collect();
    print_table("Neighbours beside attackers: 8 clients, 50 requests/s each; latencies in ms", &head, &rows);
    println!();
    for outcome in outcomes {
        let name = format!("{} x {}", outcome.attack.name, outcome.attackers);
        if let Some([quiet, attacked]) = &outcome.admin {
            let ms = |of: &Summary| {
                format!(
                    "p50 {:.2}, p99 {:.2}, max {:.2} ms, {} of {} failed",
                    of.p50, of.p99, of.max, of.failed, of.calls
                )
            };
            println!("{name}: GET /readyz quiet {}; attacked {}", ms(quiet), ms(attacked));
        }
        if outcome.attack.is_on_memory() {
            let [before, peak, after] = outcome.rss.map(megabytes);
            println!(
                "{name}: with {}, the core held {} MB at most (evergate_core_bytes); RSS {before} MB before, {peak} at most, {after} after the wait",
                outcome.attack.flags,
                megabytes(outcome.held)
            );
        }
        if let Some((code, log)) = &outcome.died {
            println!("{name}: the gateway ended with {code}\n{log}");
        }
    }
}

fn row(outcome: &Outcome) -> Vec<String> {
    let Outcome { attack, attackers, neighbours, bus, .. } = outcome;
    let [quiet, attacked] = neighbours;
    let ms = |value: f64| if value.is_finite() { format!("{value:.2}") } else { "-".to_owned() };
    let exit = outcome.died.as_ref().map(|(code, _)| *code).or(outcome.stopped);
    vec![
        attack.name.to_owned(),
        attackers.to_string(),
        number(outcome.sent_per_second),
        ms(quiet.p50),
        ms(quiet.p99),
        ms(quiet.max),
        ms(attacked.p50),
        ms(attacked.p99),
        ms(attacked.max),
        ms(ratio(neighbours)),
        format!("{}/{}", attacked.failed, attacked.calls),
        ms(bus[0].p99),
        ms(bus[1].p99),
        outcome.turn_seconds.map_or("-".to_owned(), |seconds| ms(seconds * 1e3)),
        megabytes(outcome.rss[0]),
        megabytes(outcome.rss[1]),
        megabytes(outcome.rss[2]),
        megabytes(outcome.redis),
        outcome.recovery.map_or("never".to_owned(), |time| format!("{:.1}", time.as_secs_f64())),
        exit.map_or("none".to_owned(), |code| code.to_string()),
        verdict(outcome),
    ]
}

fn megabytes(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / 1e6)
}

/// With k and M.
fn number(value: f64) -> String {
    match value {
        value if !value.is_finite() => "-".to_owned(),
        value if value >= 1e7 => format!("{:.0}M", value / 1e6),
        value if value >= 1e6 => format!("{:.1}M", value / 1e6),
        value if value >= 1e4 => format!("{:.0}k", value / 1e3),
        value if value >= 1e3 => format!("{:.1}k", value / 1e3),
        value => format!("{value:.0}"),
    }
}

/// For the file of results.
pub fn part(outcome: &Outcome) -> Value {
    let both = |of: &[Summary; 2]| json!({ "quiet": of[0].json(), "attacked": of[1].json() });
    json!({
        "attack": outcome.attack.name, "attackers": outcome.attackers, "gateway": outcome.version,
        "sent_per_second": outcome.sent_per_second, "neighbours": both(&outcome.neighbours), "bus": both(&outcome.bus),
        "admin": outcome.admin.as_ref().map(both), "turn_seconds": outcome.turn_seconds,
        "rss_before": outcome.rss[0], "rss_peak": outcome.rss[1], "rss_after": outcome.rss[2],
        "held_peak": outcome.held, "redis_peak": outcome.redis,
        "recovery_seconds": outcome.recovery.map(|time| time.as_secs_f64()),
        "died": outcome.died.as_ref().map(|(code, _)| *code), "exit_code": outcome.stopped, "verdict": verdict(outcome),
    })
}
