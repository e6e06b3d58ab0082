//! Small spaces, whole: every order of what may happen to two threads of one client, up to a length; every way to cut
//! a stream of frames, or of RESP, in two or three.

mod small;
mod splits;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use crate::world::Violation;
use small::{Op, Small};

/// How many things happen in a history.
const LENGTH: usize = 5;

const OPS: [Op; 18] = [
    Op::Connect(0),
    Op::Request(0),
    Op::Disconnect(0),
    Op::Result(0),
    Op::Complete(0),
    Op::KeepAlive(0),
    Op::NotFound(0),
    Op::Connect(1),
    Op::Request(1),
    Op::Disconnect(1),
    Op::Result(1),
    Op::Complete(1),
    Op::KeepAlive(1),
    Op::NotFound(1),
    Op::Close,
    Op::BusLost,
    Op::Drain,
    Op::Tick,
];

/// What a violation, or a panic of the product's, says.
fn what_panicked(panic: &(dyn Any + Send)) -> String {
    if let Some(violation) = panic.downcast_ref::<Violation>() {
        return violation.0.clone();
    }
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_else(|| "panic".to_owned())
}

/// All histories that begin with `ops`.
fn extend(ops: &mut Vec<Op>, count: &mut u64) -> Result<(), String> {
    let ran = catch_unwind(AssertUnwindSafe(|| Small::history(ops)));
    match ran {
        Ok(true) => *count += 1,
        Ok(false) => return Ok(()),
        Err(panic) => return Err(format!("{} after {ops:?}", what_panicked(&*panic))),
    }
    if ops.len() < LENGTH {
        for op in OPS {
            // The threads are alike: the second is used only once the first has been.
            let second = op.thread() == Some(1);
            let first_used = ops.iter().any(|op| matches!(op, Op::Connect(0) | Op::Request(0) | Op::Disconnect(0)));
            if second && !first_used {
                continue;
            }
            ops.push(op);
            extend(ops, count)?;
            ops.pop();
        }
    }
    Ok(())
}

pub fn run() -> ExitCode {
    let mut histories = 0;
    let began = std::time::Instant::now();
    let result = splits::resp().and_then(|resp| {
        let frames = splits::frames()?;
        println!("{frames} cuts of frame streams, {resp} of RESP streams: all mean what the whole means");
        extend(&mut Vec::new(), &mut histories)
    });
    match result {
        Ok(()) => {
            println!(
                "{histories} histories of up to {LENGTH} of {} things that can happen to two threads: no violation, {:.1} s",
                OPS.len(),
                began.elapsed().as_secs_f64()
            );
            ExitCode::SUCCESS
        }
        Err(text) => {
            println!("VIOLATION {text}");
            ExitCode::FAILURE
        }
    }
}
