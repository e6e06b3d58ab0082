//! Links whose bytes are sealed: the two ends agree first, and only then is the link connected, as far as [`Links`] knows.
//!
//! [`Links`]: crate::redis::links::Links

use super::super::{EventLoop, Host};
use super::{cleared, host_trouble};
use crate::redis::dial::Cipher;
use crate::redis::trouble::Trouble;
use crate::ring::{Errno, Kind, Ring};

/// Bytes that one receive may bring: four records of TLS.
const RECEIVE_BYTES: usize = if cfg!(feature = "simulator") { 48 } else { 64 * 1024 + 1024 };

/// A connection's cipher, and where it stands.
#[derive(Debug)]
pub(super) struct Sealed {
    cipher: Box<dyn Cipher>,
    /// Memory to receive into.
    room: Vec<u8>,
    /// Both ends have agreed, and the link knows that it is connected.
    is_open: bool,
}

impl Sealed {
    pub fn new(cipher: Box<dyn Cipher>) -> Self {
        Self { cipher, room: Vec::new(), is_open: false }
    }

    /// Room to receive into.
    pub fn take_room(&mut self) -> Vec<u8> {
        let mut room = std::mem::take(&mut self.room);
        room.reserve(RECEIVE_BYTES);
        room
    }

    /// Whether what is sent is the cipher's own: both ends have yet to agree.
    pub fn agrees(&self) -> bool {
        !self.is_open
    }
}

impl<R: Ring, H: Host> EventLoop<R, H> {
    /// Goes on with what both ends must agree on, and tells the link when they have.
    pub(super) fn agree(&mut self, at: usize) {
        let wire = &mut self.wires.all[at];
        let is_sending = wire.under_way.contains(Kind::LinkSend);
        let Some(sealed) = &mut wire.sealed else { return };
        if !is_sending {
            let mut own = self.wires.spare.take();
            sealed.cipher.greet(&mut own);
            if own.is_empty() {
                self.wires.spare.give_back(own);
            } else {
                self.send_batch(at, own);
            }
        }
        let Some(sealed) = &mut self.wires.all[at].sealed else { return };
        if !sealed.is_open && sealed.cipher.is_ready() {
            sealed.is_open = true;
            self.tell_connected(at, Ok(()));
        } else if !sealed.is_open {
            self.start_receiving(at);
        }
    }

    /// What the cipher had to send for itself is with the kernel, or never will be.
    pub(super) fn has_agreed_so_far(&mut self, at: usize, result: Result<(), Trouble>) {
        let wire = &self.wires.all[at];
        match result {
            _ if wire.is_over => {}
            Ok(()) => self.agree(at),
            Err(trouble) => self.sealed_broke(at, trouble),
        }
    }

    /// Sends a batch, sealed.
    pub(super) fn write_sealed(&mut self, at: usize, batch: Vec<u8>) {
        let Some(sealed) = &mut self.wires.all[at].sealed else { return };
        let mut out = self.wires.spare.take();
        let result = sealed.cipher.seal(&batch, &mut out);
        self.wires.spare.give_back(batch);
        match result {
            Ok(()) => self.send_batch(at, out),
            Err(why) => self.sealed_broke(at, Trouble::Tls(why)),
        }
    }

    /// Something has come: what can be opened of it is for the link.
    pub(super) fn sealed_received(&mut self, at: usize, mut received: Vec<u8>, result: Result<u32, Errno>) {
        let wire = &mut self.wires.all[at];
        let (link, generation, is_over) = (wire.link, wire.generation, wire.is_over);
        let Some(sealed) = &mut wire.sealed else { return };
        if is_over {
            return;
        }
        let mut plain = std::mem::take(&mut self.wires.opened);
        let outcome = match result {
            Ok(0) => Err(Trouble::Closed),
            Ok(_) => match sealed.cipher.open(&received, &mut plain) {
                Ok(false) => Ok(()),
                Ok(true) => Err(Trouble::Closed),
                Err(why) => Err(Trouble::Tls(why)),
            },
            Err(errno) => Err(host_trouble(errno)),
        };
        received.clear();
        sealed.room = received;
        if !sealed.is_open && outcome.is_ok() {
            self.agree(at);
        }
        // Before what broke the link: it came before.
        if !plain.is_empty()
            && let Some(mut room) = self.links.room(link)
        {
            room.extend_from_slice(&plain);
            self.links.received(&mut self.clients, link, generation, room, Ok(Some(plain.len())));
        }
        self.wires.opened = cleared(plain);
        if let Err(trouble) = outcome {
            self.sealed_broke(at, trouble);
        }
    }

    fn sealed_broke(&mut self, at: usize, trouble: Trouble) {
        let wire = &self.wires.all[at];
        if wire.sealed.as_ref().is_some_and(|sealed| sealed.is_open) {
            let (link, generation) = (wire.link, wire.generation);
            self.links.broke(&mut self.clients, link, generation, &trouble);
            self.carry_out();
        } else {
            self.tell_connected(at, Err(trouble));
        }
    }
}
