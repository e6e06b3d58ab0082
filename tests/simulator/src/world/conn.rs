//! A client's connection: bytes either way, its end.

use std::collections::VecDeque;

use super::World;
use crate::browser::{Browser, Frame, unframe_all};
use crate::oracle::Stage;
use crate::tally::What;

/// A client's connection, as the shell and the two kernels know it.
pub(super) struct Conn {
    pub(super) browser: Browser,
    /// Bytes in the gateway's kernel.
    pub(super) arrived: Vec<u8>,
    /// The client has ended its side.
    pub(super) fin: bool,
    /// The client is gone: reads and writes fail.
    pub(super) broken: bool,
    /// The shell has shut the socket down.
    pub(super) shut: bool,
    /// The reader has ended.
    pub(super) read_ended: bool,
    pub(super) waits_for_resume: bool,
    pub(super) sending: bool,
    pub(super) chunk: Option<(Vec<u8>, usize)>,
    /// What the gateway's kernel has taken and the client's TCP has not acknowledged, and how much it takes at most.
    kernel: VecDeque<u8>,
    kernel_max: usize,
    /// How many bytes a slow reader's TCP acknowledges at once; 0: no slow reader.
    pub(super) drip: usize,
    /// When the client's TCP acknowledged something last.
    acknowledged_at: u64,
    /// Our side was shut down.
    pub(super) half_closed: bool,
    /// The client's TCP has acknowledged that.
    fin_acknowledged: bool,
}

impl Conn {
    pub(super) fn new(browser: Browser, kernel_max: usize, now: u64) -> Self {
        Self {
            browser,
            arrived: Vec::new(),
            fin: false,
            broken: false,
            shut: false,
            read_ended: false,
            waits_for_resume: false,
            sending: false,
            chunk: None,
            kernel: VecDeque::new(),
            kernel_max,
            drip: 0,
            acknowledged_at: now,
            half_closed: false,
            fin_acknowledged: false,
        }
    }

    /// What the kernel says when it is asked: our FIN counts as a byte.
    fn unacknowledged(&self) -> u64 {
        self.kernel.len() as u64 + u64::from(self.half_closed && !self.fin_acknowledged)
    }

    /// Whether its client says something now and then.
    pub(super) fn may_say(&self) -> bool {
        let browser = &self.browser;
        browser.shaken && !browser.silent && !browser.close_sent && !self.fin && !self.broken
    }

    /// Our side is shut down, or the other has ended.
    pub(super) fn is_half_closed_or_over(&self) -> bool {
        self.half_closed || self.read_ended || self.fin || self.broken
    }
}

impl World {
    /// Bytes travel from the client to the gateway's kernel.
    pub(super) fn arrive(&mut self, slot: u32) {
        let n =
            self.some_bytes(|world| world.conns[slot as usize].as_ref().map_or(0, |conn| conn.browser.unsent.len()));
        let Some(conn) = self.conn(slot) else { return };
        if !conn.broken {
            let bytes: Vec<u8> = conn.browser.unsent.drain(..n).collect();
            conn.arrived.extend(bytes);
        }
    }

    /// The reader of a client has its turn.
    pub(super) fn read(&mut self, slot: u32) {
        let Some(conn) = self.conn(slot) else { return };
        if conn.waits_for_resume {
            return;
        }
        if conn.read_ended || conn.shut {
            return;
        }
        if conn.broken {
            return self.break_off(slot);
        }
        if !self.read_allowed(slot) {
            return self.settle();
        }
        let all = self.random.percent(50);
        let n = self.some_bytes(|world| world.conns[slot as usize].as_ref().map_or(0, |conn| conn.arrived.len()));
        self.take_in(slot, n, all);
        self.settle();
    }

    /// Reads `n` bytes of what has arrived, or all; or the end.
    fn take_in(&mut self, slot: u32, n: usize, all: bool) {
        let Some(conn) = self.conn(slot) else { return };
        let n = if all { conn.arrived.len() } else { n };
        if n == 0 {
            if conn.fin {
                self.end_reading(slot);
            }
            return;
        }
        let mut bytes: Vec<u8> = conn.arrived.drain(..n).collect();
        let events = conn.browser.complete(n);
        let clean = conn.browser.is_clean;
        if !clean {
            self.tally.one(What::frame_cut);
        }
        note!(self, "slot {slot}: {n} bytes read, which complete {events:?}");
        let gathered = |world: &Self| world.audit(slot).map_or(0, |audit| audit.gathered);
        let before = gathered(self);
        self.call(|clients| clients.input(slot, &mut bytes));
        let grew = gathered(self) != before;
        self.oracle.input(slot, &events, clean, grew);
    }

    /// The client's side has ended, and all that it sent was read.
    pub(super) fn end_reading(&mut self, slot: u32) {
        note!(self, "slot {slot}: the client has ended its side");
        if let Some(conn) = self.conn(slot) {
            conn.read_ended = true;
        }
        self.call(|clients| clients.ended(slot, "ended"));
        self.oracle.ended(slot);
    }

    /// A read or a send failed.
    pub(super) fn break_off(&mut self, slot: u32) {
        note!(self, "slot {slot}: the connection broke");
        if let Some(conn) = self.conn(slot) {
            (conn.read_ended, conn.chunk, conn.sending) = (true, None, false);
        }
        self.call(|clients| clients.broke(slot, "broke"));
        self.oracle.broke(slot);
        self.settle();
    }

    /// The product wants to look at a client before it judges it: what has arrived is read, then it hears what the kernel
    /// says.
    pub(super) fn look(&mut self, slot: u32) {
        let Some(conn) = self.conn(slot) else { return };
        let reads = !conn.waits_for_resume && !conn.read_ended && !conn.shut && !conn.broken;
        let unread = conn.arrived.len();
        self.tally.one(What::looked);
        if reads && self.read_allowed(slot) {
            self.tally.add(What::look_found_unread, usize::from(unread > 0));
            self.take_in(slot, 0, true);
        }
        let Some(conn) = self.conn(slot) else { return };
        let unacknowledged = conn.unacknowledged();
        note!(self, "slot {slot} is looked at: {unacknowledged} bytes not acknowledged");
        let was_closing = matches!(self.oracle.client(slot).map(|c| c.stage), Some(Stage::Closing { .. }));
        let too_slow = |world: &Self| world.oracle.tally.of(What::reader_too_slow);
        let before = too_slow(self);
        self.call(|clients| clients.looked(slot, unacknowledged));
        self.oracle.looked(slot, unacknowledged);
        let given_up =
            was_closing && too_slow(self) == before && self.audit(slot).is_some_and(|audit| audit.stage == 3);
        let (now, close_ms) = (self.now, self.life.close_timeout_ms);
        if let Some(conn) = self.conn(slot)
            && given_up
            && !conn.kernel.is_empty()
            && !conn.broken
            && now < conn.acknowledged_at + close_ms
        {
            violated!("slot {slot}: the socket is closed while {} bytes are on their way", conn.kernel.len());
        }
    }

    /// Whether the product reads from this client, as it must.
    fn read_allowed(&mut self, slot: u32) -> bool {
        let core_full = self.clients.context.is_core_full();
        let expected = self.oracle.may_read(slot, core_full);
        let may = self.call(|clients| clients.may_read(slot));
        if may != expected {
            violated!("slot {slot} may be read from: {may}, must be {expected}");
        }
        if !may {
            self.oracle.pause(slot, core_full);
            if let Some(conn) = self.conn(slot) {
                conn.waits_for_resume = true;
            }
        }
        may
    }

    /// The client's TCP acknowledges bytes, and the client reads them.
    pub(super) fn acknowledge(&mut self, slot: u32) {
        let n = self.some_bytes(|world| world.conns[slot as usize].as_ref().map_or(0, |conn| conn.kernel.len()));
        let now = self.now;
        let Some(conn) = self.conn(slot) else { return };
        if conn.broken {
            return;
        }
        let n = if conn.browser.reading { n } else { n.min(conn.browser.window) };
        let n = if conn.drip > 0 { n.min(conn.drip) } else { n };
        if n == 0 {
            conn.fin_acknowledged |= conn.half_closed && conn.kernel.is_empty();
            return;
        }
        if !conn.browser.reading {
            conn.browser.window -= n;
        }
        conn.acknowledged_at = now;
        let bytes: Vec<u8> = conn.kernel.drain(..n).collect();
        let frames = conn.browser.receive(&bytes);
        self.react(slot, frames);
    }

    pub(super) fn try_release(&mut self, slot: u32) {
        let Some(conn) = self.conn(slot) else { return };
        if conn.sending || conn.chunk.is_some() {
            return;
        }
        note!(self, "slot {slot}: released");
        self.conns[slot as usize] = None;
        self.call(|clients| clients.release(slot));
        self.oracle.release(slot);
        self.settle();
        if self.audit(slot).is_some() {
            violated!("slot {slot} is released and not free");
        }
    }

    /// The sender of a client has its turn.
    pub(super) fn send(&mut self, slot: u32) {
        let Some(conn) = self.conn(slot) else { return };
        if !conn.sending {
            return;
        }
        if conn.chunk.is_none() {
            let Some(chunk) = self.call(|clients| clients.take_outbound(slot)) else {
                if let Some(conn) = self.conn(slot) {
                    conn.sending = false;
                }
                return;
            };
            let bytes = chunk.bytes();
            let (frames, at) = unframe_all(bytes);
            note!(self, "slot {slot}: a chunk of {} bytes: {}", bytes.len(), String::from_utf8_lossy(bytes));
            if at != bytes.len() {
                violated!("slot {slot}: a chunk that ends within a frame");
            }
            let id = self.conns[slot as usize].as_ref().map_or(0, |conn| conn.browser.id);
            for frame in &frames {
                if let Frame::Text(text) = frame {
                    self.is_for(id, text);
                }
            }
            if let Err(wrong) = self.oracle.taken(slot, bytes.len(), &frames) {
                violated!("slot {slot}: {wrong}");
            }
            if let Some(conn) = self.conn(slot) {
                conn.chunk = Some((chunk.buffer, chunk.from as usize));
            }
        }
        let n = self.some_bytes(|world| {
            let Some(Some(conn)) = world.conns.get(slot as usize) else { return 0 };
            conn.chunk.as_ref().map_or(0, |(chunk, at)| chunk.len() - at)
        });
        let Some(conn) = self.conn(slot) else { return };
        if conn.shut {
            (conn.chunk, conn.sending) = (None, false);
            return self.try_release(slot);
        }
        if conn.broken {
            return self.break_off(slot);
        }
        let n = n.min(conn.kernel_max.saturating_sub(conn.kernel.len()));
        if n == 0 {
            return;
        }
        let Some((chunk, at)) = conn.chunk.as_mut() else { return };
        conn.kernel.extend(&chunk[*at..*at + n]);
        *at += n;
        let whole = *at == chunk.len();
        if whole {
            let chunk = conn.chunk.take().map(|(chunk, _)| chunk).unwrap_or_default();
            self.clients.recycle(chunk);
            self.call(|clients| clients.sent(slot));
            self.oracle.sent(slot);
        } else {
            self.call(|clients| clients.progressed(slot, n));
            self.oracle.progressed(slot, n);
        }
        self.settle();
    }

    /// Nobody may see a byte that is meant for another: every payload names its client.
    pub(super) fn is_for(&self, id: usize, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        let own = format!("<c{id}>");
        for (at, _) in text.match_indices("<c") {
            if !text[at..].starts_with(&own) {
                violated!("client {id} is sent what is another's: {text}");
            }
        }
    }

    /// What a client does about what it is sent.
    pub(super) fn react(&mut self, slot: u32, frames: Vec<Frame>) {
        let random = &mut self.random;
        let Some(Some(conn)) = self.conns.get_mut(slot as usize) else { return };
        for frame in frames {
            match frame {
                Frame::Ping if !conn.browser.silent && !conn.browser.close_sent => conn.browser.pong(random),
                Frame::Close(code) => {
                    conn.browser.close_got = true;
                    if code == Some(1012) {
                        conn.browser.may_say_again(slot);
                    }
                    if !conn.browser.close_sent && !conn.browser.silent && random.percent(85) {
                        conn.browser.close(random);
                    }
                    conn.fin |= random.percent(30);
                }
                Frame::Http(status) if status != 101 => conn.fin |= random.percent(70),
                Frame::Nonsense(byte) => violated!("slot {slot} is sent a frame that no server sends: {byte:#x}"),
                _ => {}
            }
        }
    }

    /// Clients that are not read from are looked at now and then; those that half closed end.
    pub(super) fn hang_up_broken(&mut self, slot: u32) {
        let paused = self.clients.paused().contains(&slot);
        let Some(conn) = self.conn(slot) else { return };
        if conn.half_closed && conn.kernel.is_empty() && conn.browser.unsent.is_empty() {
            (conn.fin, conn.fin_acknowledged) = (true, true);
        }
        if paused && (conn.broken || conn.fin) {
            self.call(|clients| clients.ended(slot, "ended while not read from"));
            self.oracle.ended(slot);
            self.settle();
        }
    }
}
