//! A recount of what a core holds, taken from the clients themselves and not from what was counted. For the simulator only.

use super::client::Stage;
use super::table::Clients;

/// What one client holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// 0 handshake, 1 open, 2 closing, 3 gone.
    pub stage: u8,
    /// A closing one's Close frame is awaited.
    pub awaits_close: bool,
    /// The slot's.
    pub generation: u32,
    /// Of frames that are not sent.
    pub outbound_bytes: usize,
    /// Envelopes that wait.
    pub backlog: usize,
    /// Their bytes.
    pub backlog_bytes: usize,
    /// Held of a message that is not whole.
    pub decoder_bytes: usize,
    /// Held of a header that is not whole.
    pub header_bytes: usize,
    /// Bytes gathered of what is unfinished.
    pub gathered: usize,
    /// Come, and not heard.
    pub unheard_bytes: usize,
    /// Requests and connects.
    pub pending: usize,
    /// Connected.
    pub sessions: usize,
    /// All that are remembered.
    pub conversations: usize,
    /// The counts that the book keeps agree with the book.
    pub book_agrees: bool,
    /// The book or the queue of frames owns memory.
    pub owns_heap: bool,
}

impl Audit {
    /// All bytes; those of one that is over are given back.
    pub fn bytes(&self) -> usize {
        if self.stage == 3 {
            return 0;
        }
        self.outbound_bytes + self.backlog_bytes + self.decoder_bytes + self.header_bytes + self.unheard_bytes
    }
}

/// Counts what is held for the client in `slot`.
pub fn audit(clients: &Clients, slot: u32) -> Option<Audit> {
    if slot >= clients.slots_len() {
        return None;
    }
    let client = clients.client(slot)?;
    let conversations = || client.book.conversations();
    let pending = conversations().map(|c| c.pending.iter().count()).sum();
    let sessions = conversations().filter(|c| c.connected).count();
    let backlog = client.book.waiting().count();
    let backlog_bytes = client.book.waiting().map(|w| w.text().len()).sum();
    Some(Audit {
        stage: match &client.stage {
            Stage::ProxyHeader(_) | Stage::Handshake(_) => 0,
            Stage::Open => 1,
            Stage::Closing(_) => 2,
            Stage::Gone => 3,
        },
        awaits_close: matches!(&client.stage, Stage::Closing(closing) if closing.awaits_close()),
        generation: client.generation(),
        outbound_bytes: client.outbound.bytes(),
        backlog,
        backlog_bytes,
        decoder_bytes: client.unfinished_bytes(),
        header_bytes: client.header_bytes(),
        gathered: client.gathered(),
        unheard_bytes: client.unheard_bytes() as usize,
        pending,
        sessions,
        conversations: conversations().count(),
        book_agrees: client.book.pending() == pending
            && client.book.sessions() == sessions
            && client.book.backlog() == backlog
            && client.book.backlog_bytes() == backlog_bytes,
        owns_heap: client.book.owns_heap() || client.outbound.owns_heap(),
    })
}

/// The bytes of each frame that was ever queued for the client in `slot`.
pub fn queued(clients: &Clients, slot: u32) -> &[usize] {
    if slot >= clients.slots_len() {
        return &[];
    }
    clients.client(slot).map_or(&[], |client| client.outbound.frames_queued())
}

/// Whether the next tick looks who may give more to the bus.
pub fn looks_again(clients: &Clients) -> bool {
    clients.context.outstanding.is_freed()
}
