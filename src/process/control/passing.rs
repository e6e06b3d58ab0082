//! Descriptors that pass from process to process (`SCM_RIGHTS`, `unix(7)`): each batch with one byte, which nothing else reads.
//!
//! By rustix: nix gives what it received as numbers, and only `unsafe` code could own those.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

/// Descriptors in one message; the kernel takes 253 (`SCM_MAX_FD`).
const BATCH: usize = 64;

/// Room for the descriptors of a message.
const SPACE: usize = rustix::cmsg_space!(ScmRights(BATCH));

/// Sends the descriptors, in their order. The socket's own time limit holds for each batch.
pub(super) fn send(socket: impl AsFd, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    for batch in descriptors.chunks(BATCH) {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fits = control.push(SendAncillaryMessage::ScmRights(batch));
        assert!(fits, "there is room for a batch");
        while let Err(error) = sendmsg(&socket, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL) {
            if error != Errno::INTR {
                return Err(error.into());
            }
        }
    }
    Ok(())
}

/// Receives so many descriptors, none of which a program that is executed will have.
pub(super) fn receive(socket: impl AsFd, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut descriptors = Vec::new();
    while descriptors.len() < count {
        let mut space = [MaybeUninit::uninit(); SPACE];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let received = match recvmsg(&socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
        {
            Err(Errno::INTR) => continue,
            received => received?,
        };
        if received.bytes == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, missing(descriptors.len(), count)));
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::other("this process may open no more descriptors: raise RLIMIT_NOFILE"));
        }
        let before = descriptors.len();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(batch) = message {
                descriptors.extend(batch);
            }
        }
        if descriptors.len() == before {
            return Err(io::Error::new(io::ErrorKind::InvalidData, missing(before, count)));
        }
    }
    Ok(descriptors)
}

fn missing(received: usize, count: usize) -> String {
    format!("{received} of {count} descriptors came")
}
