//! Clients that come and go: connect, shake hands, close.

use std::rc::Rc;
use std::time::Duration;

use super::conduct::Load;
use super::connect::{Connected, connect};
use super::deadline::within;
use super::fault::Fault;
use super::frame::{self, Event, Reader, Step};
use super::round::{Phase, Round};
use super::schedule::{Arrival, Schedule};
use super::stream::Stream;
use super::target::{Target, source};

/// Such clients at once; when there are so many, the next wait.
pub const AT_ONCE_MAX: usize = 256;

/// Time for the closing handshake.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Connects and closes at a fixed rate until the measured part ends.
pub async fn run(round: Rc<Round>, target: Target, load: Load) {
    let target = Rc::new(target);
    let mut schedule = Schedule::new(Arrival::Fixed, load.churn, round.now_ns(), load.seed);
    let mut number = 0;
    while round.phase.get() == Phase::Running {
        while schedule.peek() <= round.now_ns() && round.churning.get() < AT_ONCE_MAX {
            schedule.advance();
            number += 1;
            let churning = round.counted(|round| &round.churning);
            let (round, target) = (Rc::clone(&round), Rc::clone(&target));
            let source = source(number, load.sources);
            Rc::clone(&round).spawn(async move {
                let _churning = churning;
                one(&round, &target, source).await;
            });
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn one(round: &Round, target: &Target, source: Option<std::net::IpAddr>) {
    let began_ns = round.now_ns();
    let Some(Connected { stream, rest }) = connect(round, target, source).await else { return };
    round.tally.borrow_mut().came(began_ns, round.now_ns());
    // A server that takes longer is not waited for.
    if let Some(Err(fault)) = within(CLOSE_TIMEOUT, &stream, close(&stream, rest, round)).await {
        round.fault(fault);
    }
}

/// Closes, and awaits the server's Close. The server ends the connection first, so that its address is free again at once.
async fn close(stream: &Stream, mut buffer: Vec<u8>, round: &Round) -> Result<(), Fault> {
    let mut close = Vec::new();
    frame::write(&mut close, frame::opcode::CLOSE, round.plan.mask, &1000_u16.to_be_bytes());
    stream.write_all(close).await?;
    let (mut reader, mut at, mut is_closed) = (Reader::new(round.plan.reply_bytes_max), 0, false);
    loop {
        while !is_closed {
            match reader.next(&buffer, &mut at).map_err(|violation| round.violated(violation))? {
                Step::Incomplete(_) => break,
                Step::Event(event) => is_closed = matches!(event, Event::Close(..)),
            }
        }
        buffer.drain(..std::mem::take(&mut at));
        buffer.reserve(64);
        let (read, filled) = stream.read(buffer).await;
        buffer = filled;
        match read {
            // Behind its Close, the server may end the connection as it likes.
            _ if is_closed => return Ok(()),
            Ok(0) => return Err(Fault::Eof),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
