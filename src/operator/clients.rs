//! `evergate clients`: who is connected, as a table or as JSON, and the end of one connection.

use std::path::Path;
use std::process::ExitCode;

use super::{explain, fail, open, print_answer};
use crate::config::asking::{ClientsOptions, Target};
use crate::process::Exit;
use crate::process::control::client::Connection;
use crate::process::control::protocol::Command;
use crate::process::roster::{Closes, PAGE_MAX, Page, Query, Row};
use crate::stdio;

/// The headings of the table. An IPv6 address is longer than its column, and pushes what follows it to the right.
const HEADING: &str =
    "connection      address          state                    age  requests  in flight  sessions  waiting";

/// `evergate clients`.
pub fn clients(target: &Target, options: &ClientsOptions) -> ExitCode {
    let done = open(target).and_then(|(mut connection, path)| match options.close {
        Some(_) => close(&mut connection, &path, options),
        None => list(&mut connection, &path, options),
    });
    done.unwrap_or_else(|why| fail(&why))
}

fn list(connection: &mut Connection, path: &Path, options: &ClientsOptions) -> Result<ExitCode, String> {
    let (mut cursor, mut count, mut silent) = (None, 0, Vec::new());
    if !options.json {
        stdio::print(&format!("{HEADING}\n"))?;
    }
    loop {
        let query = Query {
            address: options.address.clone(),
            state: options.state.clone(),
            age_seconds: options.older_than_seconds,
            in_flight: options.in_flight,
            // They are printed before more are asked for.
            limit: Some(PAGE_MAX),
            cursor,
        };
        let answer = connection.ask(Command::Connections { query }).map_err(|error| explain(&error, path))?;
        let Page { connections, next, silent_cores } = answer.page.unwrap_or_default();
        let lines: Result<Vec<String>, String> = connections
            .iter()
            .map(|row| {
                if options.json { serde_json::to_string(row).map_err(|error| error.to_string()) } else { Ok(line(row)) }
            })
            .map(|line| line.map(|line| line + "\n"))
            .collect();
        stdio::print(&lines?.concat())?;
        count += connections.len();
        silent.extend(silent_cores);
        if next.is_none() {
            break;
        }
        cursor = next;
    }
    if !options.json {
        let noun = if count == 1 { "connection" } else { "connections" };
        stdio::print(&format!("{count} {noun}\n"))?;
    }
    for core in &silent {
        stdio::say(&format!("core {core} has not answered: its connections are missing here"));
    }
    Ok(if silent.is_empty() { ExitCode::SUCCESS } else { Exit::Host.into() })
}

fn close(connection: &mut Connection, path: &Path, options: &ClientsOptions) -> Result<ExitCode, String> {
    let number = options.close.map(|number| number.to_string()).unwrap_or_default();
    let command = Command::Close { connection: number.clone(), now: options.now };
    let answer = connection.ask(command).map_err(|error| explain(&error, path))?;
    let said = match answer.closes {
        Some(Closes::AtGap) => format!(
            "connection {number} is closed at its next gap: when it waits for nothing and has been quiet; `evergate clients \
             --close {number} --now` does not wait for that"
        ),
        Some(Closes::Now) | None => format!("connection {number} is being closed"),
    };
    print_answer(&answer, &said, options.json)
}

/// A line of the table.
fn line(row: &Row) -> String {
    let Row { connection, address, state, age_ms, requests, in_flight, sessions, waiting, .. } = row;
    let leaves = if row.closing_at_gap { "  closed at its gap" } else { "" };
    format!(
        "{connection:<15} {address:<16} {state:<20} {:>7}  {requests:>8}  {in_flight:>9}  {sessions:>8}  {waiting:>7}{leaves}",
        age(age_ms / 1_000),
    )
}

/// An age in two units.
fn age(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3_600);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m{:02}s", seconds % 60),
        3_600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{}d{:02}h", hours / 24, hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_read_at_a_glance() {
        let ages = [(0, "0s"), (59, "59s"), (60, "1m00s"), (3_599, "59m59s"), (3_600, "1h00m"), (90_000, "1d01h")];
        for (seconds, said) in ages {
            assert_eq!(age(seconds), said);
        }
    }

    #[test]
    fn a_line_stands_under_its_headings() {
        let row = Row {
            connection: "0.17.3".to_owned(),
            core: 0,
            address: "192.0.2.1".to_owned(),
            state: "waiting_for_replies".to_owned(),
            age_ms: 61_500,
            requests: 12,
            in_flight: 2,
            sessions: 1,
            waiting: 0,
            undelivered_bytes: 0,
            held_bytes: 0,
            closing_at_gap: true,
        };
        let (said, heading) = (line(&row), HEADING);
        for (name, value) in [("connection", "0.17.3"), ("address", "192.0.2.1"), ("state", "waiting_for_replies")] {
            assert_eq!(heading.find(name), said.find(value), "{said}");
        }
        for (name, value) in [("age", "1m01s"), ("requests", " 12"), ("in flight", " 2"), ("waiting", " 0")] {
            let end = |text: &str, part: &str| text.find(part).map(|at| at + part.len());
            assert_eq!(end(heading, name), end(&said, value), "{said}");
        }
        assert!(said.ends_with("  closed at its gap"));
    }
}
