//! A TLS proxy of the test's own in front of a gateway: what a site's nginx does for `wss`.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Mutex};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

use super::authority::Signed;
use super::serve;

/// How a server with this certificate speaks TLS.
fn config(signed: &Signed) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions of TLS").with_no_client_auth();
    let chain = vec![CertificateDer::from_pem_slice(signed.certificate.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(signed.key.as_bytes()).expect("a key");
    let mut config = builder.with_single_cert(chain, key).expect("a certificate and its key");
    config.alpn_protocols = [&b"h2"[..], b"http/1.1"].map(<[u8]>::to_vec).to_vec();
    config
}

/// What a client named in its handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The server (SNI).
    pub server: Option<String>,
    /// The protocol that was agreed on (ALPN).
    pub protocol: Option<Vec<u8>>,
}

/// One running proxy.
pub struct Front {
    /// Where it listens.
    pub address: SocketAddr,
    /// What those named that are gone.
    named: Arc<Mutex<Vec<Named>>>,
}

impl Front {
    /// In front of this gateway.
    pub fn new(signed: &Signed, gateway: SocketAddr) -> Self {
        let (config, named) = (Arc::new(config(signed)), Arc::new(Mutex::new(Vec::new())));
        let seen = Arc::clone(&named);
        let address = serve(move |client| {
            let mut session = ServerConnection::new(Arc::clone(&config)).expect("a session");
            // How either side ends is the client's and the gateway's affair.
            let _ = relay(&client, gateway, &mut session);
            let (server, protocol) = (session.server_name(), session.alpn_protocol());
            let named = Named { server: server.map(str::to_owned), protocol: protocol.map(<[u8]>::to_vec) };
            seen.lock().expect("nobody panicked").push(named);
        });
        Self { address, named }
    }

    /// What the clients named that are gone.
    pub fn named(&self) -> Vec<Named> {
        self.named.lock().expect("nobody panicked").clone()
    }
}

/// Relays until either side is at its end.
fn relay(mut client: &TcpStream, gateway: SocketAddr, session: &mut ServerConnection) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut upstream = TcpStream::connect(gateway)?;
    upstream.set_nodelay(true)?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        while session.wants_write() {
            session.write_tls(&mut client)?;
        }
        let mut both = [client.as_fd(), upstream.as_fd()].map(|side| PollFd::new(side, PollFlags::POLLIN));
        poll(&mut both, PollTimeout::NONE)?;
        let [from_client, from_gateway] = both.map(|side| side.any().unwrap_or(false));
        if from_client {
            if session.read_tls(&mut client)? == 0 {
                return upstream.shutdown(Shutdown::Both);
            }
            let processed = session.process_new_packets();
            while session.wants_write() {
                session.write_tls(&mut client)?;
            }
            processed.map_err(io::Error::other)?;
            let mut reader = session.reader();
            while let Ok(bytes @ [_, ..]) = reader.fill_buf() {
                upstream.write_all(bytes)?;
                let taken = bytes.len();
                reader.consume(taken);
            }
        }
        if from_gateway {
            match upstream.read(&mut buffer)? {
                0 => {
                    session.send_close_notify();
                    while session.wants_write() {
                        session.write_tls(&mut client)?;
                    }
                    return client.shutdown(Shutdown::Both);
                }
                bytes => session.writer().write_all(&buffer[..bytes])?,
            }
        }
    }
}
