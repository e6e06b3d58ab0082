//! Time on a core: one coarse tick, the phases of the process, the end of the core.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use evergate_proto::clients::output::SlotIndex;
use evergate_proto::clients::table::Clients;
use evergate_proto::lifecycle::{Lifecycle, LifecycleOptions, Step};
use evergate_proto::redis::links::Links;
use monoio::time::{MissedTickBehavior, interval, sleep};

use super::Core;
use super::listener::Share;

/// The tick: the resolution of every timer of a core, ms.
const TICK_MS: u64 = 20;
/// How long an activity line waits for more, ms: each flush wakes the writer.
const ACTIVITY_MS: u64 = 100;
/// How long a tick works for the clients at a time, and how long the others have between.
const WORK: Duration = Duration::from_millis(2);
const REST: Duration = Duration::from_millis(1);
/// How often clients that are not read from are looked at, ms.
const PAUSED_LOOK_MS: u64 = 1_000;
/// How often the oldest thing waited for is published during a drain, ms.
const OLDEST_MS: u64 = 500;

/// Ticks until the core has ended.
pub async fn run(core: &Rc<Core>, share: Rc<Share>) {
    let mut life = Lifecycle::new(LifecycleOptions {
        quiet_ms: core.settings.drain_quiet_ms,
        closes_per_second: core.settings.drain_closes_per_second / core.shared.cores.len() as f64,
        close_timeout_ms: core.settings.close_timeout_ms,
        stop_max_ms: core.settings.stop_max_ms,
    });
    let mut links_max_ms = None;
    let mut ticks = interval(Duration::from_millis(TICK_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut settings_seen = core.settings.version();
    let mut unlooked = VecDeque::new();
    for tick in 0_u64.. {
        ticks.tick().await;
        let is_time = |every_ms| tick % (every_ms / TICK_MS) == 0;
        let now_ms = core.shared.now_ms();
        core.published().turns(now_ms);
        tick_clients(core).await;
        core.clients.borrow_mut().context.shell_bytes = core.shell_bytes();
        if is_time(ACTIVITY_MS)
            && let Some(log) = &mut *core.activity.borrow_mut()
        {
            log.flush();
        }
        core.links(Links::tick);
        if core.settings.version() != settings_seen {
            settings_seen = core.settings.version();
            let limits = Rc::new(core.settings.limits());
            core.clients(|clients| clients.set_limits(limits));
        }
        if is_time(PAUSED_LOOK_MS) && unlooked.is_empty() {
            unlooked.extend(core.clients.borrow().paused());
        }
        hang_up_broken(core, &mut unlooked);
        if is_time(OLDEST_MS)
            && life.is_draining()
            && let Ok(mut oldest) = core.published().oldest.try_lock()
        {
            *oldest = core.clients.borrow().oldest();
        }
        // As of the time at which the tick began: closing the share may take a moment.
        loop {
            let is_empty = core.clients.borrow().is_empty();
            match life.next(now_ms, &core.shared.orders(), share.state(), is_empty) {
                Step::Wait => break,
                Step::CloseListener => share.close().await,
                Step::BeginDrain(options) => core.clients(|clients| clients.begin_drain(options)),
                Step::DrainDeadline => core.clients(Clients::drain_deadline),
                Step::Stop { code, draining } => core.clients(|clients| clients.stop(code, draining)),
                Step::End { links_max_ms: max_ms } => links_max_ms = Some(max_ms),
            }
        }
        if links_max_ms.is_some() {
            break;
        }
        core.waits.ticked(Duration::from_millis(TICK_MS));
    }
    if let Ok(mut oldest) = core.published().oldest.try_lock() {
        *oldest = None;
    }
    core.clients(Clients::say_counted);
    let (clients, bytes) = core.clients.borrow().undelivered();
    if clients > 0 {
        let index = core.index;
        tracing::warn!("core {index} ends with {bytes} bytes not delivered to {clients} of its clients");
    }
    end_links(core, links_max_ms.unwrap_or_default()).await;
}

/// Does what is due for the clients, and lets others have their turns between where that takes long: thousands may have been due
/// together for ten minutes.
async fn tick_clients(core: &Rc<Core>) {
    loop {
        let began = Instant::now();
        if core.clients(|clients| clients.tick(|| began.elapsed() < WORK)) {
            return;
        }
        sleep(REST).await;
    }
}

/// A client that is not read from cannot tell that it is gone: asks the kernel, of as many of `unlooked` as there is time for.
fn hang_up_broken(core: &Rc<Core>, unlooked: &mut VecDeque<SlotIndex>) {
    let began = Instant::now();
    while began.elapsed() < WORK
        && let Some(slot) = unlooked.pop_front()
    {
        if core.connection(slot).is_some_and(|connection| connection.stream.is_broken()) {
            core.clients(|clients| clients.ended(slot, "the connection ended while it was not read from"));
        }
    }
}

/// Pushes what is left (DISCONNECTs), deletes the core's own list, waits for the confirmations as long as is decent.
async fn end_links(core: &Rc<Core>, max_ms: u64) {
    core.links(|links, _| links.end());
    let mut ticks = interval(Duration::from_millis(5));
    let until_ms = core.shared.now_ms() + max_ms;
    while !core.bus.links(|links| links.are_done()) && core.shared.now_ms() < until_ms {
        ticks.tick().await;
        core.links(Links::tick);
        core.published().turns(core.shared.now_ms());
    }
}
