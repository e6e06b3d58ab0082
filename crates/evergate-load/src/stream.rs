//! A connection: TCP, and TLS over it where the URL says `wss`. rustls does no I/O: it gets the bytes that the ring has
//! read, and gives those that the ring is to write.

use std::cell::RefCell;
use std::io::{self, BufRead as _, Write as _};
use std::net::Shutdown;

use rustls::ClientConnection;
use tokio_uring::buf::{BoundedBuf as _, Slice};
use tokio_uring::net::TcpStream;
use tokio_uring::{InFlightOneshot, WriteData, WriteTransform};

use super::tls::Secure;

/// What TLS adds to a short message, with room to spare, in bytes.
const RECORD_ROOM_BYTES: usize = 256;

/// The most that is read of TLS at once: some records.
const SEALED_BYTES_MAX: usize = 64 * 1024;

/// A write under way.
pub type Write = InFlightOneshot<WriteData<Slice<Vec<u8>>>, WriteTransform<Slice<Vec<u8>>>>;

/// A connection.
pub struct Stream {
    tcp: TcpStream,
    /// None of `ws`.
    tls: Option<Box<RefCell<Tls>>>,
}

/// The TLS of a connection.
struct Tls {
    session: ClientConnection,
    /// What the next read takes what came into, empty.
    sealed: Vec<u8>,
    /// What the next bytes are encrypted into, empty.
    spare: Vec<u8>,
    /// The server has said that nothing more comes.
    has_ended: bool,
}

impl Stream {
    /// A connection without TLS.
    pub fn plain(tcp: TcpStream) -> Self {
        Self { tcp, tls: None }
    }

    /// A connection whose TLS handshake is still to be made.
    pub fn secure(tcp: TcpStream, secure: &Secure) -> io::Result<Self> {
        let session = secure.session().map_err(failed)?;
        let tls = Tls { session, sealed: Vec::new(), spare: Vec::new(), has_ended: false };
        Ok(Self { tcp, tls: Some(Box::new(RefCell::new(tls))) })
    }

    /// The handshake of TLS. Its last bytes leave with the first of [`Self::write_all`].
    pub async fn shake(&self) -> io::Result<()> {
        let Some(tls) = &self.tls else { return Ok(()) };
        let mut buffer = Vec::with_capacity(4 * 1024);
        while tls.borrow().session.is_handshaking() {
            if self.has_unsent() {
                self.write_all(Vec::new()).await?;
                continue;
            }
            let (read, filled) = self.read(buffer).await;
            buffer = filled;
            match read {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) => {
                    // The server is told why. Whether it hears that changes nothing.
                    if self.has_unsent() {
                        let _ = self.write_all(Vec::new()).await;
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Reads once, into what is free of `buffer`: how many bytes came over TCP, in which there may be none for the reader where
    /// there is TLS; 0 is the end.
    pub async fn read(&self, mut buffer: Vec<u8>) -> (io::Result<usize>, Vec<u8>) {
        let Some(tls) = &self.tls else {
            let filled = buffer.len();
            let (read, slice) = self.tcp.read(buffer.slice(filled..)).await;
            return (read, slice.into_inner());
        };
        if tls.borrow().has_ended {
            return (Ok(0), buffer);
        }
        let mut sealed = std::mem::take(&mut tls.borrow_mut().sealed);
        sealed.reserve((buffer.capacity() - buffer.len() + RECORD_ROOM_BYTES).min(SEALED_BYTES_MAX));
        let (read, mut sealed) = self.tcp.read(sealed).await;
        let mut tls = tls.borrow_mut();
        let read = read.and_then(|bytes| tls.open(&sealed, &mut buffer).map(|()| bytes));
        sealed.clear();
        tls.sealed = sealed;
        (read, buffer)
    }

    /// Writes all of it.
    pub async fn write_all(&self, bytes: Vec<u8>) -> io::Result<()> {
        self.tcp.write_all(self.sealed(bytes)?).await.0
    }

    /// These bytes as they go over TCP.
    pub fn sealed(&self, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        match &self.tls {
            Some(tls) => tls.borrow_mut().seal(bytes),
            None => Ok(bytes),
        }
    }

    /// Begins a write of what [`Self::sealed`] gave.
    pub fn write(&self, sealed: Slice<Vec<u8>>) -> Write {
        self.tcp.write(sealed).submit()
    }

    /// Whether TLS has something to say besides what it is given.
    pub fn has_unsent(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.borrow().session.wants_write())
    }

    /// Nothing more will be written: TLS says so, with the next bytes that are sealed.
    pub fn finish(&self) {
        if let Some(tls) = &self.tls {
            tls.borrow_mut().session.send_close_notify();
        }
    }

    /// Gives up the buffers that are not in use.
    pub fn release(&self) {
        if let Some(tls) = &self.tls {
            let mut tls = tls.borrow_mut();
            (tls.sealed, tls.spare) = (Vec::new(), Vec::new());
        }
    }

    /// Ends every read and write.
    pub fn shutdown(&self) -> io::Result<()> {
        self.tcp.shutdown(Shutdown::Both)
    }
}

impl Tls {
    /// Appends what is in these bytes, and in those before them.
    fn open(&mut self, mut sealed: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        while !sealed.is_empty() && !self.has_ended {
            self.session.read_tls(&mut sealed)?;
            self.has_ended = self.session.process_new_packets().map_err(failed)?.peer_has_closed();
            let mut reader = self.session.reader();
            loop {
                match reader.fill_buf() {
                    Ok([]) => break,
                    Ok(bytes) => {
                        out.extend_from_slice(bytes);
                        let taken = bytes.len();
                        reader.consume(taken);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// The two buffers take turns.
    fn seal(&mut self, mut plain: Vec<u8>) -> io::Result<Vec<u8>> {
        self.session.writer().write_all(&plain)?;
        plain.clear();
        let mut sealed = std::mem::replace(&mut self.spare, plain);
        while self.session.wants_write() {
            self.session.write_tls(&mut sealed)?;
        }
        Ok(sealed)
    }
}

/// An error of TLS, by which a [`super::fault::Fault`] is told from those of TCP.
fn failed(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
