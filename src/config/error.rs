//! What is wrong with the configuration, where, and how to mend it.

use std::fmt;

/// A configuration that cannot be used: exit code 2. Its text names the place (file and line, variable or flag), what
/// is wrong there, and the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    place: String,
    problem: String,
    remedy: String,
}

impl Error {
    pub(super) fn new(place: impl fmt::Display, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place: place.to_string(), problem: problem.into(), remedy: remedy.into() }
    }

    /// A file that cannot be read.
    pub(super) fn unreadable(path: &std::path::Path, named_by: &str, why: &std::io::Error) -> Self {
        let problem = format!("cannot be read: {why}");
        Self::new(path.display(), problem, format!("it is named by {named_by}: correct the path or its permissions"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What others have written often ends as a sentence does.
        write!(f, "{}: {}; {}", self.place, self.problem.trim_end_matches('.'), self.remedy)
    }
}

impl std::error::Error for Error {}
