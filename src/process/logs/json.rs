//! Lines as JSON objects: `{"time":"…","level":"INFO","pid":7,"target":"core","message":"…",…}`.
//!
//! What does not show is escaped, as in lines of text, and means the same to whoever reads the object. A line that is too long is cut
//! within a value, and says so: it stays an object.

use std::fmt::{self, Debug, Display, Write};

use evergate_proto::opensrf::printable::{escape, split};
use tracing::field::{Field, Visit};

use super::line::LINE_BYTES_MAX;

/// Bytes of a line behind which no value goes on.
const VALUES_END: usize = LINE_BYTES_MAX - 64;

/// The members that each line has. A field of such a name, of which there is none, would be another's.
const OWN: [&str; 6] = ["time", "level", "pid", "target", "cut", "repeated"];

/// Appends what stands behind the time: level, process and target.
pub(super) fn begin(line: &mut String, level: &str, process: u32, target: &str) {
    // Writing to a String cannot fail. Targets are ours: paths of modules.
    let _ = write!(line, ",\"level\":\"{}\",\"pid\":{process},\"target\":\"{target}\"", level.trim_ascii_end());
}

/// The members that an event has: the message, then its fields.
pub(super) struct Members<'a> {
    line: &'a mut String,
    /// Something did not fit.
    cut: bool,
    /// Where the first ends, once it is printed: as a rule the message.
    said: Option<usize>,
}

impl<'a> Members<'a> {
    pub(super) fn new(line: &'a mut String) -> Self {
        Self { line, cut: false, said: None }
    }

    /// The end of the object; where the message ended.
    pub(super) fn end(self) -> usize {
        let said = self.said.unwrap_or(self.line.len());
        self.line.push_str(if self.cut { ",\"cut\":true}" } else { "}" });
        said
    }

    fn member(&mut self, field: &Field, value: impl FnOnce(&mut Self)) {
        self.cut |= self.line.len() >= VALUES_END;
        if self.cut {
            return;
        }
        let own = if OWN.contains(&field.name()) { "_" } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(self.line, ",\"{}{own}\":", field.name());
        value(self);
        self.said.get_or_insert(self.line.len());
    }

    /// A number, say, which shows as JSON has it.
    fn plain(&mut self, field: &Field, value: impl Display) {
        self.member(field, |members| {
            let _ = write!(members.line, "{value}");
        });
    }

    fn text(&mut self, field: &Field, text: fmt::Arguments<'_>) {
        self.member(field, |members| {
            members.line.push('"');
            let _ = members.write_fmt(text);
            members.line.push_str(if members.cut { "…\"" } else { "\"" });
        });
    }
}

impl Write for Members<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while !self.cut {
            let (shown, hidden) = split(rest);
            for c in shown.chars() {
                self.cut = self.line.len() >= VALUES_END;
                if self.cut {
                    break;
                }
                if matches!(c, '"' | '\\') {
                    self.line.push('\\');
                }
                self.line.push(c);
            }
            let Some((c, after)) = hidden.filter(|_| !self.cut) else { break };
            self.cut = self.line.len() >= VALUES_END;
            if !self.cut {
                escape(self.line, c)?;
            }
            rest = after;
        }
        // Never an error: some `Display` would panic on one.
        Ok(())
    }
}

impl Visit for Members<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.text(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }
}
