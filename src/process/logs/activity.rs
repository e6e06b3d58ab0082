//! The activity log of one thread: lines are gathered, and queued together.
//!
//! A request writes a line. Through tracing, one by one, that costs too much (docs/performance.md, "What helped"):
//! here a line is copied behind a time that is printed anew when the core's clock has moved, and the writer is woken a
//! few times a second, or once a bufferful.

use evergate_proto::opensrf::activity::Format;

use super::line::Marks;
use super::queue::Queue;

/// Lines that are gathered before they are queued, bytes. Each queueing wakes the writer, which costs more than it writes.
const GATHERED_BYTES_MAX: usize = 32 * 1024;

/// Where a core's activity goes. Its drop queues what is left.
#[derive(Debug)]
pub struct ActivityLog {
    queue: Queue,
    gathered: String,
    /// How many lines.
    count: u64,
    /// What a line begins with: `2026-01-31T23:59:59.999Z INFO  activity: `, or the beginning of an object.
    head: String,
    /// When `head` was printed, ms by the caller's clock.
    head_ms: Option<u64>,
    marks: Marks,
}

impl ActivityLog {
    pub(super) fn new(queue: Queue, marks: Marks) -> Self {
        Self { queue, gathered: String::new(), count: 0, head: String::new(), head_ms: None, marks }
    }

    /// Logs lines, each with its end and without characters in it that do not show; as JSON each is the rest of an object. No line is
    /// longer than [`LINE_BYTES_MAX`](evergate_proto::opensrf::activity::LINE_BYTES_MAX) by much. `now_ms` is any clock that goes on.
    pub fn log(&mut self, now_ms: u64, lines: &str) {
        if self.head_ms != Some(now_ms) {
            self.head_ms = Some(now_ms);
            self.head.clear();
            self.marks.begin_at(&mut self.head);
            self.marks.begin(&mut self.head, "INFO ", "\x1b[32m", "activity");
            self.head.push_str(if self.marks.format == Format::Json { "," } else { "" });
        }
        let mut begin = 0;
        for end in memchr::memchr_iter(b'\n', lines.as_bytes()) {
            let line = &lines[begin..end];
            begin = end + 1;
            if self.gathered.len() + self.head.len() + line.len() > GATHERED_BYTES_MAX {
                self.flush();
            }
            self.gathered.push_str(&self.head);
            self.gathered.push_str(line);
            self.gathered.push('\n');
            self.count += 1;
        }
    }

    /// Queues what has been gathered. Its owner calls it a few times a second.
    pub fn flush(&mut self) {
        if self.count > 0 {
            self.queue.activity(&self.gathered, self.count);
            self.gathered.clear();
            self.count = 0;
        }
    }
}

impl Drop for ActivityLog {
    fn drop(&mut self) {
        self.flush();
    }
}
