//! The command line of a benchmark: options, each with its value behind it where it has one.

use std::fmt::Display;
use std::io;
use std::str::FromStr;

/// Whether it is to measure. `cargo test` runs benchmarks, too, without cargo bench's own word: there is nothing to test in them.
pub fn is_bench() -> bool {
    std::env::args().any(|word| word == "--bench")
}

/// The options, in turn.
pub struct Words {
    /// The benchmark's name.
    bench: &'static str,
    /// What has not been read.
    rest: std::vec::IntoIter<String>,
    /// The option that was read last.
    option: String,
}

impl Words {
    /// Those that this process was given; cargo bench's own word is none.
    pub fn of(bench: &'static str) -> Self {
        let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
        Self { bench, rest: words.into_iter(), option: String::new() }
    }

    /// The value of the option.
    pub fn text(&mut self) -> io::Result<String> {
        self.rest.next().ok_or_else(|| io::Error::other(format!("{} needs a value", self.option)))
    }

    /// The same as what it stands for.
    pub fn parsed<T: FromStr<Err: Display>>(&mut self) -> io::Result<T> {
        let text = self.text()?;
        text.parse().map_err(|error| io::Error::other(format!("{} {text}: {error}", self.option)))
    }

    /// Nobody knows what this word means.
    pub fn unknown(&self, word: &str) -> io::Error {
        io::Error::other(format!("{word}? See the head of benches/{}.rs", self.bench))
    }
}

impl Iterator for Words {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.option = self.rest.next()?;
        Some(self.option.clone())
    }
}
