//! Decisions carried out: the one place that knows in which order.

use crate::clients::output::{BusNews, Output, Severity, SlotIndex};
use crate::clients::table::Clients;
use crate::redis::outbox::Push;

/// Who does what clients have decided: a core, the simulator, a test, a benchmark. What is not of interest to it it need not do.
pub trait Effector {
    /// Whose decisions they are.
    fn clients(&mut self) -> &mut Clients;

    /// All that was decided, before any of it is done.
    fn begin(&mut self, _decided: &Output) {}

    /// Lines for the activity log, each with its end of line.
    fn activity(&mut self, _lines: &str) {}

    /// Something has become of a link to the bus.
    fn bus(&mut self, _news: BusNews) {}

    /// A line for the log.
    fn log(&mut self, _level: Severity, _line: String) {}

    /// A message for a bus domain.
    fn push(&mut self, domain: usize, push: Push);

    /// Those were all.
    fn pushed(&mut self) {}

    /// A connection asks whether the process is ready (by HEAD: `head`), and is to be answered.
    fn probe(&mut self, _slot: SlotIndex, _head: bool) {}

    /// A client has bytes to send, and no send in flight.
    fn send(&mut self, slot: SlotIndex);

    /// All is sent to a client, and its end is awaited: our side is to be shut down.
    fn half_close(&mut self, _slot: SlotIndex) {}

    /// A client is to be judged: what has come of it is to be read, then [`Clients::looked`] told how much it has yet to acknowledge.
    fn look(&mut self, _slot: SlotIndex) {}

    /// A client may be read from again.
    fn resume(&mut self, _slot: SlotIndex) {}

    /// A client's connection is over: the socket is to be given back.
    fn hang_up(&mut self, _slot: SlotIndex) {}
}

/// Does what was decided, and what is decided on the way: what was sent may be the last that its client waited for. `spare` is
/// memory for the next decisions, and comes back.
pub fn carry_out(effector: &mut impl Effector, mut spare: Output) -> Output {
    while !effector.clients().context.output().is_empty() {
        let mut output = effector.clients().take_output(spare);
        effector.begin(&output);
        if !output.activity.is_empty() {
            effector.activity(&output.activity);
        }
        for news in output.bus.drain(..) {
            effector.bus(news);
        }
        for (level, line) in output.events.drain(..) {
            effector.log(level, line);
        }
        if !output.pushes.is_empty() {
            for (domain, push) in output.pushes.drain(..) {
                effector.push(domain, push);
            }
            effector.pushed();
        }
        for (slot, head) in output.probes.drain(..) {
            effector.probe(slot, head);
        }
        for &slot in &output.send {
            effector.send(slot);
        }
        for &slot in &output.half_close {
            effector.half_close(slot);
        }
        for &slot in &output.look {
            effector.look(slot);
        }
        for &slot in &output.resume {
            effector.resume(slot);
        }
        for &slot in &output.hang_up {
            effector.hang_up(slot);
        }
        output.clear();
        spare = output;
    }
    spare
}
