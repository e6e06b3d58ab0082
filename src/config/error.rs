//! What is wrong with the configuration, where, and how to mend it.

use std::fmt;

/// One mistake. Its text names the place (file and line, variable or flag), what is wrong there, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    place: String,
    problem: String,
    remedy: String,
    about: About,
}

/// What a mistake leaves unknown, so that nothing is said that only follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// Nothing.
    Itself,
    /// The value of an option.
    Option(&'static str),
    /// All that a source would have set.
    Source,
}

impl Error {
    pub(super) fn new(place: impl fmt::Display, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place: place.to_string(), problem: problem.into(), remedy: remedy.into(), about: About::Itself }
    }

    /// The same, with what it leaves unknown.
    pub(super) fn about(self, about: About) -> Self {
        Self { about, ..self }
    }

    /// A file that cannot be read.
    pub(super) fn unreadable(path: &std::path::Path, named_by: &str, why: &std::io::Error) -> Self {
        let problem = format!("cannot be read: {why}");
        Self::new(path.display(), problem, format!("it is named by {named_by}: correct the path or its permissions"))
            .about(About::Source)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What others have written often ends as a sentence does.
        write!(f, "{}: {}; {}", self.place, self.problem.trim_end_matches('.'), self.remedy)
    }
}

impl std::error::Error for Error {}

/// Why a configuration cannot be used: every mistake of every source, since whoever corrects one should not have to start
/// the process again to hear of the next. Exit code 2.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Errors(Vec<Error>);

impl Errors {
    /// Adds one.
    pub(super) fn push(&mut self, error: Error) {
        self.0.push(error);
    }

    /// What was made, or none and one error more.
    pub(super) fn keep<T>(&mut self, made: Result<T, Error>) -> Option<T> {
        made.map_err(|error| self.push(error)).ok()
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the value of an option is not what somebody tried to make it.
    pub(super) fn hide(&self, option: &str) -> bool {
        self.0.iter().any(|error| match error.about {
            About::Itself => false,
            About::Option(name) => name == option,
            About::Source => true,
        })
    }

    /// One after the other, in the order of the sources.
    pub fn iter(&self) -> impl Iterator<Item = &Error> {
        self.0.iter()
    }
}

impl From<Error> for Errors {
    fn from(error: Error) -> Self {
        Self(vec![error])
    }
}

/// A line each.
impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            let end = if n > 0 { "\n" } else { "" };
            write!(f, "{end}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}
