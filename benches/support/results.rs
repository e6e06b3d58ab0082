//! Tables, and the file that keeps the raw results.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use serde_json::{Value, json};

use super::provenance;

/// Prints a table: the first column to the left, the others to the right.
pub fn print_table(title: &str, head: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(String::as_str).chain([head[column]]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    println!("\n{title}\n");
    let print = |cells: &[&str]| {
        let padded = cells.iter().enumerate().map(|(column, cell)| match column {
            0 => format!("{cell:<0$}", width(0)),
            _ => format!("{cell:>0$}", width(column)),
        });
        println!("| {} |", padded.collect::<Vec<_>>().join(" | "));
    };
    print(head);
    let rule: Vec<String> = (0..head.len()).map(|column| "-".repeat(width(column))).collect();
    print(&rule.iter().map(String::as_str).collect::<Vec<_>>());
    for row in rows {
        print(&row.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

/// Keeps raw results under `benches/results/`, a line for each part, with where and when they were taken.
pub fn save(bench: &str, options: &Value, parts: &[Value]) -> io::Result<()> {
    let date = provenance::date();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{bench}-{}.json", date.replace(' ', "-").replace(':', "")));
    let mut file = fs::File::create(&path)?;
    let head = json!({ "bench": bench, "date": date, "commit": provenance::commit(), "machine": provenance::cpu(), "options": options });
    let head = head.to_string();
    writeln!(file, "{},\"parts\":[", head.strip_suffix('}').unwrap_or(&head))?;
    let lines: Vec<String> = parts.iter().map(|part| rounded(part).to_string()).collect();
    writeln!(file, "{}\n]}}", lines.join(",\n"))?;
    println!("\nraw results: {}", path.display());
    Ok(())
}

/// The same with three digits behind each point: no more of them mean anything.
fn rounded(value: &Value) -> Value {
    match value {
        Value::Array(values) => values.iter().map(rounded).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), rounded(value))).collect(),
        Value::Number(number) => number.as_f64().map_or(Value::Null, |number| json!((number * 1e3).round() / 1e3)),
        other => other.clone(),
    }
}
