//! README.md, ARCHITECTURE.md, SECURITY.md and their like are held to the code that they speak of.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::{TABLE, find, markdown};
use crate::admin::metrics;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The file that a document names; in ARCHITECTURE.md and docs/ `proto/` stands for the pure half's source.
fn file_of(name: &str) -> PathBuf {
    name.strip_prefix("proto/")
        .map_or_else(|| root().join(name), |rest| root().join("crates/evergate-proto/src").join(rest))
}

/// The documents that may name files and each other: those at the top, and all of docs/ and tuning/.
fn documents() -> Vec<String> {
    let of = |folder: &str| {
        let entries = fs::read_dir(root().join(folder)).expect("a folder of the repository").flatten();
        let names = entries.map(|entry| PathBuf::from(entry.file_name()));
        let texts = names.filter(|name| name.extension().is_some_and(|extension| extension == "md"));
        texts.map(|name| format!("{folder}{}", name.display())).collect::<Vec<_>>()
    };
    let found = ["", "docs/", "tuning/", "tuning/browser/", "tuning/load/"].map(of).concat();
    assert!(found.len() > 12, "{found:?}");
    found
}

/// What a document links to: files, and chapters behind a `#`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|link| !link.contains("://"))
}

/// What follows the `#` in a link to a chapter of that title, as GitHub makes it.
fn anchor(title: &str) -> String {
    let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// What stands in backticks, line by line.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// The names behind `fn ` in a file.
fn functions(text: &str) -> BTreeSet<&str> {
    text.split("fn ")
        .skip(1)
        .map(|rest| &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())])
        .collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the repository").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// What stands between a document's markers of that name.
fn between<'a>(document: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = document.split_once(&format!("<!-- {name}: begin"))?;
    let (_, rest) = rest.split_once("-->")?;
    rest.split_once(&format!("<!-- {name}: end")).map(|(table, _)| table.trim())
}

#[test]
fn the_document_of_options_holds_the_table() {
    assert_eq!(between(&read("docs/options.md"), "options"), Some(markdown().trim()), "run tests/update-docs");
}

#[test]
fn the_page_of_metrics_holds_the_table_of_metrics() {
    let table = metrics::markdown();
    assert_eq!(between(&read("docs/metrics.md"), "metrics"), Some(table.trim()), "run tests/update-docs");
}

#[test]
fn the_readme_names_options_that_exist_with_their_defaults() {
    let readme = read("README.md");
    let (_, table) = readme.split_once("| option | default | when to set it |").expect("the short table");
    let rows = table.lines().skip(2).take_while(|row| row.starts_with('|'));
    let rows: Vec<Vec<&str>> =
        rows.map(|row| row.split('|').map(|cell| cell.trim().trim_matches('`')).collect()).collect();
    assert!(rows.len() > 8, "{rows:?}");
    for row in rows {
        let option = find(row[1]).unwrap_or_else(|| panic!("there is no option {}", row[1]));
        assert_eq!(row[2], option.default, "{}", option.name);
    }
}

#[test]
fn the_migration_guide_says_of_each_variable_of_eg_websockets_what_it_is_read_as() {
    let guide = read("docs/migration.md");
    for option in TABLE {
        for variable in option.eg_websockets {
            let row = guide.lines().find(|line| line.starts_with(&format!("| `{variable}` |")));
            let row = row.unwrap_or_else(|| panic!("the guide does not know {variable}"));
            assert!(row.contains(&format!("| `{}`", option.name)), "{row} does not name {}", option.name);
        }
    }
}

#[test]
fn every_block_of_the_migration_guide_is_tried_and_judged() {
    let (guide, trial) = (read("docs/migration.md"), read("tests/migration/trial.py"));
    let blocks: Vec<&str> = guide.lines().filter_map(|line| line.strip_prefix("```sh")).map(str::trim).collect();
    assert!(blocks.len() > 8, "{blocks:?}");
    for block in blocks {
        assert!(!block.is_empty() && trial.contains(&format!("    def {block}(self, ")), "{block:?} is not judged");
    }
}

#[test]
fn architecture_names_functions_that_exist() {
    // A step may take several lines; the others are indented.
    let walk = read("docs/walk.md").replace("\n  ", " ");
    let mut checked = 0;
    for step in walk.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())) {
        let mut words = code(step);
        let file = words.next().expect("a file");
        let source = fs::read_to_string(file_of(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let known = functions(&source);
        for name in words.filter_map(|word| word.strip_suffix("()")) {
            assert!(known.contains(name), "{file} has no function {name}");
            checked += 1;
        }
    }
    assert!(checked > 60, "{checked} functions found: has the page changed its form?");
}

/// Fails unless every test that the chapter of that title names exists; says how many those are.
fn names_tests_that_exist(document: &str, chapter: &str) -> usize {
    let text = read(document);
    let (_, table) = text.split_once(chapter).expect("the chapter");
    let (table, _) = table.split_once("\n## ").expect("what follows it");
    let mut files = Vec::new();
    for folder in ["src", "tests", "crates"] {
        sources(&root().join(folder), &mut files);
    }
    let texts: Vec<String> = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    let known: BTreeSet<&str> = texts.iter().flat_map(|text| functions(text)).collect();
    let mut checked = 0;
    for name in code(table).filter(|word| word.matches('_').count() > 3) {
        assert!(known.contains(name), "{document}: there is no test {name}");
        checked += 1;
    }
    checked
}

#[test]
fn every_invariant_names_tests_that_exist() {
    assert!(names_tests_that_exist("ARCHITECTURE.md", "## Invariants") > 15);
}

#[test]
fn every_threat_names_tests_that_exist() {
    assert!(names_tests_that_exist("SECURITY.md", "## Threats and defences") > 60);
}

#[test]
fn the_documents_name_files_that_exist() {
    for document in documents() {
        let text = read(&document);
        let linked = links(&text).filter_map(|link| link.split('#').next());
        let named = code(&text).filter(|word| {
            [
                "src/",
                "proto/",
                "crates/",
                "examples/",
                "tests/",
                "tuning/",
                "fuzz/",
                "docs/",
                "benches/",
                ".cargo/",
                ".ci/",
                ".config/",
            ]
            .iter()
            .any(|folder| word.starts_with(folder))
                && !word.contains([' ', '*'])
        });
        for path in linked.filter(|path| !path.is_empty()).chain(named) {
            let beside = root().join(&document).with_file_name(path);
            assert!(file_of(path).exists() || beside.exists(), "{document} names {path}, which does not exist");
        }
    }
}

#[test]
fn the_documents_link_to_chapters_that_exist() {
    for document in documents() {
        let text = read(&document);
        for (path, chapter) in links(&text).filter_map(|link| link.split_once('#')) {
            let file =
                if path.is_empty() { root().join(&document) } else { root().join(&document).with_file_name(path) };
            let there = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            let titles = there.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#'));
            assert!(titles.map(anchor).any(|title| title == chapter), "{document}: {path} has no chapter #{chapter}");
        }
    }
}
