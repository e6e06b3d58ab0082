use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use std::{env, fs, thread};

use serde_json::{Value, json};

use super::line::LINE_BYTES_MAX;
use super::*;

/// A directory that goes when the test ends.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let path = env::temp_dir().join(format!("evergate-logs-{}-{}", std::process::id(), NEXT.fetch_add(1, SeqCst)));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn to_file(path: &Path, level: LogLevel) -> (Logs, Dispatch) {
    let options = LogOptions {
        level,
        destination: Destination::File(path.to_owned()),
        activity: Activity::SameAsDestination,
        tag: String::new(),
        queue_bytes_max: QUEUE_BYTES_MAX,
        format: Format::Text,
    };
    build(&options).unwrap()
}

/// What `log` prints to a file with `level`, without the process that each line names.
fn printed(level: LogLevel, log: impl FnOnce(&Logs)) -> String {
    let dir = Dir::new();
    let path = dir.0.join("log");
    let (logs, dispatch) = to_file(&path, level);
    tracing::dispatcher::with_default(&dispatch, || log(&logs));
    drop(logs);
    let (text, process) = (fs::read_to_string(&path).unwrap(), format!(" [{}] ", std::process::id()));
    assert!(text.lines().all(|line| line.contains(&process)), "{text}");
    text.replace(&process, " ")
}

#[test]
fn a_line_has_time_level_target_message_and_fields() {
    let text = printed(LogLevel::Info, |_| {
        tracing::warn!(target: "evergate::core", answer = 42, name = "x y", "something {}", "odd");
    });
    let (time, rest) = text.split_once(' ').unwrap();
    assert_eq!(rest, "WARN  core: something odd answer=42 name=\"x y\"\n");
    assert_eq!(time.len(), "2026-01-31T23:59:59.999Z".len(), "{time}");
    assert!(time.starts_with("20") && time.ends_with('Z') && &time[19..20] == ".", "{time}");
}

#[test]
fn what_a_client_wrote_cannot_begin_a_line_or_steer_a_terminal() {
    let text = printed(LogLevel::Info, |_| {
        let evil = "a\nb\r\t\u{1b}[31m\u{7f}\u{85}\u{2028}\u{2029}é\\n";
        tracing::info!(target: "t", field = %evil, "{evil}");
    });
    let safe = "a\\nb\\r\\t\\u001b[31m\\u007f\\u0085\\u2028\\u2029é\\n";
    assert!(text.ends_with(&format!(" INFO  t: {safe} field={safe}\n")), "{text}");
}

#[test]
fn a_long_line_is_cut_at_a_character() {
    let text = printed(LogLevel::Info, |_| {
        tracing::info!("x{}", "é".repeat(LINE_BYTES_MAX));
        tracing::info!("{}\n", "y".repeat(LINE_BYTES_MAX));
    });
    for line in text.lines() {
        assert!(line.ends_with('…') && line.len() <= LINE_BYTES_MAX + '…'.len_utf8(), "{}", line.len());
    }
    assert_eq!(text.lines().count(), 2);
}

#[test]
fn the_level_can_change_while_running_and_activity_ignores_it() {
    let text = printed(LogLevel::Warn, |logs| {
        // The same call sites each time: tracing caches its answer per site.
        let log = |round: u32| {
            tracing::debug!(target: "t", "debug {round}");
            tracing::info!(target: "t", "info {round}");
            tracing::error!(target: "t", "error {round}");
            logs.activity().log(1, &format!("activity {round}\n"));
        };
        log(1);
        logs.control.set_level(LogLevel::Debug);
        log(2);
        logs.control.set_level(LogLevel::Off);
        log(3);
    });
    let messages: Vec<&str> = text.lines().map(|line| line.split_once(": ").unwrap().1).collect();
    assert_eq!(messages, ["error 1", "activity 1", "debug 2", "info 2", "error 2", "activity 2", "activity 3"]);
    assert!(text.contains(" INFO  activity: activity 1\n"));
}

#[test]
fn reopening_follows_logrotate_and_loses_no_line() {
    let dir = Dir::new();
    let (path, moved) = (dir.0.join("log"), dir.0.join("log.1"));
    let (logs, dispatch) = to_file(&path, LogLevel::Info);
    tracing::dispatcher::with_default(&dispatch, || {
        for n in 0..3000 {
            tracing::info!("line {n}");
            if n == 1000 {
                fs::rename(&path, &moved).unwrap();
            }
            if n == 2000 {
                logs.control.reopen().unwrap();
            }
        }
    });
    assert_eq!(lost(&logs), 0);
    drop(logs);
    let (old, new) = (fs::read_to_string(&moved).unwrap(), fs::read_to_string(&path).unwrap());
    assert!(new.contains("line 2999"), "the last line is in the new file");
    let numbers: Vec<u32> = (old + &new).lines().map(|l| l.rsplit_once(' ').unwrap().1.parse().unwrap()).collect();
    assert!(numbers.iter().copied().eq(0..3000), "each line once, in order");
}

#[test]
fn a_file_that_cannot_be_reopened_leaves_the_old_one_in_use() {
    let dir = Dir::new();
    let (path, moved) = (dir.0.join("log"), dir.0.join("log.1"));
    let (logs, dispatch) = to_file(&path, LogLevel::Info);
    fs::rename(&path, &moved).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(logs.control.reopen().unwrap_err().contains(path.to_str().unwrap()));
    tracing::dispatcher::with_default(&dispatch, || tracing::info!("still here"));
    drop(logs);
    assert!(fs::read_to_string(&moved).unwrap().ends_with("still here\n"));
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let options = LogOptions {
        level: LogLevel::Info,
        destination: Destination::File("/nowhere/at/all".into()),
        activity: Activity::SameAsDestination,
        tag: String::new(),
        queue_bytes_max: QUEUE_BYTES_MAX,
        format: Format::Text,
    };
    let error = build(&options).unwrap_err().to_string();
    assert!(error.contains("/nowhere/at/all") && error.contains("; make its directory"), "{error}");
}

/// A log that writes to `main`, and activity to another place if there is one.
fn to(main: Output, activity: Option<Output>, queue_bytes_max: usize) -> (Logs, Dispatch) {
    assemble(LogLevel::Info, move || Ok((main, activity)), None, Marks::default(), queue_bytes_max).unwrap()
}

fn lost(logs: &Logs) -> u64 {
    logs.figures()().lines_lost
}

/// A place that takes a line only when told to.
struct Gate {
    reached: Sender<()>,
    open: Receiver<()>,
}

impl io::Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.reached.send(());
        let _ = self.open.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The gate, and what opens it: all at once when it is dropped.
fn gate() -> (Output, Receiver<()>, Sender<()>) {
    let ((reached, at_gate), (opener, open)) = (channel(), channel());
    (Output::stream(Box::new(Gate { reached, open })), at_gate, opener)
}

#[test]
fn a_full_queue_drops_and_counts_and_never_blocks() {
    let (main, at_gate, opener) = gate();
    let (logs, dispatch) = to(main, None, 64 * 1024);
    tracing::dispatcher::with_default(&dispatch, || {
        tracing::info!("held by the writer");
        at_gate.recv_timeout(Duration::from_secs(10)).unwrap();
        for n in 0..1_000 {
            tracing::info!("line {n} {}", "x".repeat(100));
        }
    });
    let Figures { queued_bytes, full, lines_lost, bytes_lost } = logs.figures()();
    assert!((60_000..=64 * 1024).contains(&queued_bytes), "{queued_bytes}");
    // With its time, its level and what an entry takes, a line is some 210 bytes.
    assert!(lines_lost == full && (650..750).contains(&lines_lost), "{lines_lost}");
    assert!((130..200).contains(&(bytes_lost / lines_lost)), "{bytes_lost}");
    drop(opener);
}

/// A place that keeps what is written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_is_repeated_is_written_once_and_counted_and_fields_make_no_difference() {
    let kept = Kept::default();
    let (logs, dispatch) = to(Output::stream(Box::new(kept.clone())), None, QUEUE_BYTES_MAX);
    tracing::dispatcher::with_default(&dispatch, || {
        for n in 0..168 {
            tracing::warn!(target: "t", n, "refused: {}", "no room");
            tracing::warn!(target: "t", "client {n}");
        }
    });
    drop(logs);
    let text = kept.text();
    assert_eq!(text.matches("refused").count(), 2, "{text}");
    assert!(text.contains(" WARN  t: refused: no room n=0\n"), "{text}");
    assert!(text.contains(" WARN  t: refused: no room [167 times more within 10 s]\n"), "{text}");
    assert_eq!(text.matches("client ").count(), 168);
}

/// A place that is full.
struct Full;

impl io::Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_that_cannot_be_written_are_counted() {
    let (logs, dispatch) = to(Output::stream(Box::new(Full)), None, QUEUE_BYTES_MAX);
    tracing::dispatcher::with_default(&dispatch, || {
        for n in 0..100 {
            tracing::info!("{n} {}", "x".repeat(4000));
        }
    });
    let figures = logs.figures();
    drop(logs);
    assert!(figures().lines_lost >= 80, "a buffer of 64 KiB may hold the first few: {:?}", figures());
}

#[test]
fn syslog_gets_each_line_under_its_facility_and_survives_a_restart_of_the_daemon() {
    let dir = Dir::new();
    let path = dir.0.join("dev-log");
    let listen = || {
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    };
    let receive = |socket: &UnixDatagram| {
        let mut buffer = [0; 8192];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let mut socket = listen();
    let output = |facility| Output::Syslog(Syslog::new(facility, "ever gate:", Some(path.clone()), &Arc::default()));
    let (main, activity) = (output(Facility::LOG_LOCAL0), output(Facility::LOG_LOCAL1));
    let (logs, dispatch) = to(main, Some(activity), QUEUE_BYTES_MAX);
    tracing::dispatcher::with_default(&dispatch, || {
        let tag = format!(" evergate[{}]: ", std::process::id());
        tracing::error!(target: "evergate::bus", "one\ntwo");
        let line = receive(&socket);
        // local0 is 16, local1 is 17 (RFC 3164, 4.1.1); error is 3, informational 6.
        assert!(line.starts_with("<131>") && line.ends_with(&format!("{tag}ERROR bus: one\\ntwo")), "{line}");
        logs.activity().log(1, "[192.0.2.1] [] opensrf.math add 1, 2\n");
        let line = receive(&socket);
        assert!(line.starts_with("<142>"), "{line}");
        assert!(line.ends_with(&format!("{tag}INFO  activity: [192.0.2.1] [] opensrf.math add 1, 2")), "{line}");

        fs::remove_file(&path).unwrap();
        socket = listen();
        tracing::warn!(target: "t", "after the restart");
        assert!(receive(&socket).starts_with("<132>"));
    });
    drop(logs);
}

#[test]
fn an_absent_syslog_counts_nothing_as_lost() {
    let dir = Dir::new();
    let main = Output::Syslog(Syslog::new(Facility::LOG_LOCAL0, "", Some(dir.0.join("absent")), &Arc::default()));
    let (logs, dispatch) = to(main, None, QUEUE_BYTES_MAX);
    tracing::dispatcher::with_default(&dispatch, || tracing::info!("to stderr instead"));
    let figures = logs.figures();
    drop(logs);
    assert_eq!(figures().lines_lost, 0);
}

#[test]
fn many_threads_log_whole_lines() {
    let text = printed(LogLevel::Info, |_| {
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        thread::scope(|scope| {
            for thread in 0..4 {
                let dispatch = &dispatch;
                scope.spawn(move || {
                    tracing::dispatcher::with_default(dispatch, || {
                        for n in 0..500 {
                            tracing::info!(target: "t", "thread {thread} line {n}");
                        }
                    });
                });
            }
        });
    });
    assert_eq!(text.lines().count(), 2000);
    assert!(text.lines().all(|line| line.contains(" INFO  t: thread ")));
}

#[test]
fn lines_of_activity_are_gathered_and_none_is_lost() {
    let text = printed(LogLevel::Off, |logs| {
        let mut log = logs.activity();
        for n in 0..1_000 {
            log.log(n / 10, &format!("line {n} {}\nand another\n", "x".repeat(100)));
        }
        log.flush();
        log.log(2_000, &format!("{}\n", "é".repeat(2_000)));
    });
    let lines: Vec<(&str, &str)> = text.lines().map(|line| line.split_once(" INFO  activity: ").unwrap()).collect();
    assert_eq!(lines.len(), 2_001);
    assert!(lines.iter().all(|(time, _)| time.len() == "2026-01-31T23:59:59.999Z".len()));
    assert!(
        (0..1_000).all(|n| lines[2 * n].1.starts_with(&format!("line {n} x")) && lines[2 * n + 1].1 == "and another")
    );
    let (_, last) = lines[2_000];
    assert_eq!(last, "é".repeat(2_000));
}

#[test]
fn lines_of_activity_that_find_the_queue_full_are_counted_one_by_one() {
    let (main, at_gate, opener) = gate();
    let (logs, dispatch) = to(main, None, 48 * 1024);
    tracing::dispatcher::with_default(&dispatch, || tracing::info!("held by the writer"));
    at_gate.recv_timeout(Duration::from_secs(10)).unwrap();
    let mut log = logs.activity();
    for n in 0..10_000 {
        log.log(n, &format!("line {n} {}\n", "x".repeat(100)));
    }
    log.flush();
    // One bufferful of some two hundred lines waits in the queue, and what the last one held.
    assert!((9_600..9_800).contains(&lost(&logs)), "{}", lost(&logs));
    drop(opener);
}

/// What `log` prints as JSON: an object a line.
fn printed_as_json(log: impl FnOnce(&Logs)) -> Vec<Value> {
    let kept = Kept::default();
    let output = Output::stream(Box::new(kept.clone()));
    let marks = Marks { process: Some(7), format: Format::Json, ..Marks::default() };
    let (logs, dispatch) = assemble(LogLevel::Info, move || Ok((output, None)), None, marks, QUEUE_BYTES_MAX).unwrap();
    tracing::dispatcher::with_default(&dispatch, || log(&logs));
    drop(logs);
    let text = kept.text();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn as_json_a_line_is_an_object_with_time_level_target_message_and_fields() {
    let evil = "a\nb\"\\\u{1b}[31m\u{202e}\u{2028}é";
    let lines = printed_as_json(|logs| {
        tracing::warn!(target: "evergate::core", answer = 42, is = true, name = evil, level = "x", "odd: {evil}");
        let mut activity = logs.activity();
        activity.log(1, "\"message\":\"connect\",\"connection\":\"0.1.2\"}\n");
        activity.flush();
    });
    let [line, activity] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(line["time"].as_str().map(str::len), Some("2026-01-31T23:59:59.999Z".len()));
    let mut line = line.clone();
    line.as_object_mut().unwrap().remove("time");
    let message = format!("odd: {evil}");
    let expected = json!({
        "level": "WARN", "pid": 7, "target": "core", "message": message,
        "answer": 42, "is": true, "name": evil, "level_": "x",
    });
    assert_eq!(line, expected);
    assert_eq!((&activity["target"], &activity["level"]), (&json!("activity"), &json!("INFO")));
    assert_eq!((&activity["message"], &activity["connection"]), (&json!("connect"), &json!("0.1.2")));
}

#[test]
fn as_json_a_line_that_is_too_long_is_cut_and_an_object_still() {
    for piece in ["x", "\"", "\u{202e}", "é"] {
        let long = piece.repeat(LINE_BYTES_MAX);
        let lines = printed_as_json(|_| tracing::info!(target: "t", field = 1, "{long}"));
        let message = lines[0]["message"].as_str().unwrap();
        assert!(message.ends_with('…') && lines[0]["cut"] == true && lines[0].get("field").is_none(), "{message}");
        assert!(lines[0].to_string().len() > LINE_BYTES_MAX / 3, "{message}");
    }
}

#[test]
fn as_json_what_is_repeated_is_counted_in_members() {
    let lines = printed_as_json(|_| {
        for n in 0..168 {
            tracing::warn!(target: "t", n, "refused: {}", "no room");
        }
    });
    let [first, more] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&first["message"], &first["n"]), (&json!("refused: no room"), &json!(0)));
    assert_eq!((&more["message"], &more["target"]), (&first["message"], &first["target"]));
    assert_eq!((&more["repeated"], &more["within_seconds"]), (&json!(167), &json!(10)));
}

#[test]
fn as_json_losses_are_said_in_members() {
    let (main, at_gate, opener) = gate();
    let kept = Kept::default();
    // What the gate holds back is lost to the queue; behind it the rest is kept.
    let both = Output::stream(Box::new(Both(main, kept.clone())));
    let marks = Marks { process: Some(7), format: Format::Json, ..Marks::default() };
    let (logs, dispatch) = assemble(LogLevel::Info, move || Ok((both, None)), None, marks, 64 * 1024).unwrap();
    tracing::dispatcher::with_default(&dispatch, || {
        tracing::info!("held by the writer");
        at_gate.recv_timeout(Duration::from_secs(10)).unwrap();
        for n in 0..1_000 {
            tracing::info!("line {n} {}", "x".repeat(100));
        }
    });
    let lost = lost(&logs);
    drop(opener);
    drop(logs);
    let text = kept.text();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("an object"));
    let said: u64 = lines.filter_map(|line| line["lines_lost"].as_u64()).sum();
    assert!(said == lost && lost > 100, "{said} of {lost}");
}

/// A place that passes on what another has let through.
struct Both(Output, Kept);

impl io::Write for Both {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Output::Stream(gate) = &mut self.0 {
            gate.get_mut().write(bytes)?;
        }
        io::Write::write(&mut self.1, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn syslog_gets_an_object_whole() {
    let dir = Dir::new();
    let path = dir.0.join("dev-log");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let main = Output::Syslog(Syslog::new(Facility::LOG_LOCAL0, "", Some(path), &Arc::default()));
    let marks = Marks { process: Some(7), format: Format::Json, ..Marks::default() };
    let (logs, dispatch) = assemble(LogLevel::Info, move || Ok((main, None)), None, marks, QUEUE_BYTES_MAX).unwrap();
    tracing::dispatcher::with_default(&dispatch, || tracing::error!(target: "t", "one two"));
    let mut buffer = [0; 8192];
    let length = socket.recv(&mut buffer).unwrap();
    let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
    let (_, object) = text.split_once("]: ").unwrap();
    assert_eq!(serde_json::from_str::<Value>(object).unwrap()["message"], "one two");
    drop(logs);
}
