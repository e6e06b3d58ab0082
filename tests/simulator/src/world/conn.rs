//! A client's connection: bytes either way, its end.

use super::World;
use crate::browser::{Browser, Frame, unframe_all};
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
    /// Our side was shut down.
    pub(super) half_closed: bool,
}

impl Conn {
    pub(super) fn new(browser: Browser) -> Self {
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
            half_closed: false,
        }
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
        if conn.read_ended {
            return self.try_release(slot);
        }
        if conn.shut || conn.broken {
            return self.end_reading(slot);
        }
        let core_full = self.clients.context.is_core_full();
        let expected = self.oracle.may_read(slot, core_full);
        let may = self.call(|clients| clients.may_read(slot));
        if may != expected {
            violated!("slot {slot} may be read from: {may}, must be {expected}");
        }
        if !may {
            self.oracle.pause(slot, core_full);
            self.settle();
            if let Some(conn) = self.conn(slot) {
                conn.waits_for_resume = true;
            }
            return;
        }
        let n = self.some_bytes(|world| world.conns[slot as usize].as_ref().map_or(0, |conn| conn.arrived.len()));
        let Some(conn) = self.conn(slot) else { return };
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
        self.call(|clients| clients.input(slot, &mut bytes));
        self.oracle.input(slot, &events, clean);
        self.settle();
    }

    pub(super) fn end_reading(&mut self, slot: u32) {
        note!(self, "slot {slot}: the connection has ended");
        if let Some(conn) = self.conn(slot) {
            conn.read_ended = true;
        }
        self.call(|clients| clients.ended(slot, "ended"));
        self.oracle.ended(slot);
        self.settle();
        self.try_release(slot);
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
            let (frames, at) = unframe_all(&chunk);
            note!(self, "slot {slot}: a chunk of {} bytes: {}", chunk.len(), String::from_utf8_lossy(&chunk));
            if at != chunk.len() {
                violated!("slot {slot}: a chunk that ends within a frame");
            }
            let id = self.conns[slot as usize].as_ref().map_or(0, |conn| conn.browser.id);
            for frame in &frames {
                if let Frame::Text(text) = frame {
                    self.is_for(id, text);
                }
            }
            if let Err(wrong) = self.oracle.taken(slot, chunk.len(), &frames) {
                violated!("slot {slot}: {wrong}");
            }
            if let Some(conn) = self.conn(slot) {
                conn.chunk = Some((chunk, 0));
            }
        }
        let n = self.some_bytes(|world| {
            let Some(Some(conn)) = world.conns.get(slot as usize) else { return 0 };
            conn.chunk.as_ref().map_or(0, |(chunk, at)| chunk.len() - at)
        });
        let Some(conn) = self.conn(slot) else { return };
        if conn.broken || conn.shut {
            note!(self, "slot {slot}: a send fails");
            if let Some(conn) = self.conn(slot) {
                (conn.chunk, conn.sending, conn.broken) = (None, false, true);
            }
            self.call(|clients| clients.ended(slot, "broke"));
            self.oracle.ended(slot);
            self.settle();
            return;
        }
        let room = if conn.browser.reading { usize::MAX } else { conn.browser.window };
        let n = n.min(room);
        if n == 0 {
            return;
        }
        conn.browser.window = conn.browser.window.saturating_sub(n);
        let Some((chunk, at)) = conn.chunk.as_mut() else { return };
        let bytes = chunk[*at..*at + n].to_vec();
        *at += n;
        let whole = *at == chunk.len();
        let frames = conn.browser.receive(&bytes);
        if whole {
            let chunk = conn.chunk.take().map(|(chunk, _)| chunk).unwrap_or_default();
            self.clients.recycle(chunk);
            self.call(|clients| clients.sent(slot));
            self.oracle.sent(slot);
        } else {
            self.call(|clients| clients.progressed(slot));
            self.oracle.progressed(slot);
        }
        self.settle();
        self.react(slot, frames);
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
                Frame::Close(_) => {
                    conn.browser.close_got = true;
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
        if conn.half_closed && conn.browser.unsent.is_empty() {
            conn.fin = true;
        }
        if conn.read_ended {
            return self.try_release(slot);
        }
        if paused && (conn.broken || conn.fin) {
            self.call(|clients| clients.ended(slot, "ended while not read from"));
            self.oracle.ended(slot);
            self.settle();
        }
    }
}
