//! TLS to Redis, by rustls: nothing of it but the trust in certificates is chosen here.

use std::io::{self, Read, Write};
use std::sync::Arc;

use evergate_proto::redis::dial::Cipher;
use evergate_proto::redis::stranger;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::config::Config;

/// What every connection by TLS starts from.
#[derive(Clone, Debug)]
pub struct Tls(Arc<ClientConfig>);

impl Tls {
    /// By the files that the configuration names; `None` where no Redis is reached by TLS. `Err` names the option.
    pub fn of(config: &Config) -> Result<Option<Self>, String> {
        if !config.needs_tls() {
            return Ok(None);
        }
        let files = config.tls_files().map_err(|(option, why)| format!("{option}: {why}"))?;
        let mut roots = RootCertStore::empty();
        if let Some(given) = files.roots {
            for certificate in given {
                roots.add(certificate).map_err(|why| format!("bus_tls_ca_file: {why}"))?;
            }
        } else {
            // Of the host's hundred some may be odd: the others do.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err("bus_tls_ca_file: it is not set, and this host trusts nobody (Debian: apt install \
                            ca-certificates)"
                    .to_owned());
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|why| format!("TLS: {why}"))?
            .with_root_certificates(roots);
        let made = match files.own {
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|why| format!("bus_tls_certificate_file and bus_tls_key_file: {why}"))?,
            None => builder.with_no_client_auth(),
        };
        Ok(Some(Self(Arc::new(made))))
    }

    fn connection(&self, host: &str) -> Result<ClientConnection, String> {
        let name = ServerName::try_from(host.to_owned()).map_err(|why| format!("{host}: {why}"))?;
        let mut connection =
            ClientConnection::new(Arc::clone(&self.0), name).map_err(|why| format!("{host}: {why}"))?;
        // Batches are bounded where they are made.
        connection.set_buffer_limit(None);
        Ok(connection)
    }

    /// One that believes no certificate.
    #[cfg(test)]
    pub(super) fn trusting_nobody() -> Self {
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("versions");
        Self(Arc::new(builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth()))
    }

    /// For a link of a core to `host`, whose certificate must say so.
    pub fn cipher(&self, host: &str) -> Result<Box<dyn Cipher>, String> {
        Ok(Box::new(Client(self.connection(host)?)))
    }

    /// A blocking connection over `stream`, which is connected to `host`.
    pub fn over<S: Read + Write>(&self, host: &str, stream: S) -> Result<StreamOwned<ClientConnection, S>, String> {
        Ok(StreamOwned::new(self.connection(host)?, stream))
    }
}

/// One connection of a core's.
#[derive(Debug)]
struct Client(ClientConnection);

impl Client {
    fn take_sealed(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        while self.0.wants_write() {
            self.0.write_tls(out).map_err(|why| why.to_string())?;
        }
        Ok(())
    }
}

impl Cipher for Client {
    fn greet(&mut self, out: &mut Vec<u8>) {
        // A vector takes everything.
        let _ = self.take_sealed(out);
    }

    fn is_ready(&self) -> bool {
        !self.0.is_handshaking()
    }

    fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        self.0.writer().write_all(plain).map_err(|why| why.to_string())?;
        self.take_sealed(out)
    }

    fn open(&mut self, mut sealed: &[u8], plain: &mut Vec<u8>) -> Result<bool, String> {
        while !sealed.is_empty() {
            // Nothing is taken any more behind the other side's close_notify: TCP may go on, this connection does not.
            let taken = self.0.read_tls(&mut sealed).map_err(|why| why.to_string())?;
            let processed = self.0.process_new_packets();
            // What came before what is wrong was good.
            match self.0.reader().read_to_end(plain) {
                Ok(_) => {}
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                Err(why) => return Err(why.to_string()),
            }
            let state = processed.map_err(|why| explain(&why))?;
            if taken == 0 || state.peer_has_closed() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// In rustls' words, and what to do where one knows.
pub(super) fn explain(why: &rustls::Error) -> String {
    use rustls::{AlertDescription, CertificateError, Error};
    let remedy = match why {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "let bus_tls_ca_file name the certificate of whoever vouches for this Redis"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "write the name that its certificate has in bus_domain_address, or give Redis a certificate for this one",
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "give Redis a certificate that is valid today, or set this host's clock"
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "set bus_tls_certificate_file and bus_tls_key_file, or tls-auth-clients no in redis.conf"
        }
        Error::AlertReceived(AlertDescription::UnknownCA | AlertDescription::BadCertificate) => {
            "Redis does not trust our certificate: let its tls-ca-cert-file name whoever vouches for that"
        }
        Error::InvalidMessage(_) => stranger::SPEAKS_NO_TLS,
        _ => return why.to_string(),
    };
    format!("{why}; {remedy}")
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use rustls::ServerConnection;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    use super::*;

    /// A client and a server that have agreed.
    fn agreed() -> (Client, ServerConnection) {
        let key = KeyPair::generate().expect("a key");
        let certificate =
            CertificateParams::new(["localhost".to_owned()]).expect("a name").self_signed(&key).expect("signed");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(certificate.der().to_vec())).expect("a root");
        let of_client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let of_server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(certificate.der().to_vec())], key)
            .expect("a certificate and its key");
        let mut client = Client(Tls(Arc::new(of_client)).connection("localhost").expect("a connection"));
        let mut server = ServerConnection::new(Arc::new(of_server)).expect("a connection");
        let mut plain = Vec::new();
        while !client.is_ready() || server.is_handshaking() {
            let mut out = Vec::new();
            client.greet(&mut out);
            server.read_tls(&mut &out[..]).expect("read");
            server.process_new_packets().expect("good");
            client.open(&said(&mut server), &mut plain).expect("good");
        }
        client.open(&said(&mut server), &mut plain).expect("tickets");
        assert_eq!(plain, b"");
        (client, server)
    }

    fn said(server: &mut ServerConnection) -> Vec<u8> {
        let mut out = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut out).expect("a vector takes all");
        }
        out
    }

    #[test]
    fn what_comes_in_pieces_is_opened_and_what_is_sealed_arrives() {
        let (mut client, mut server) = agreed();
        let (mut out, mut plain) = (Vec::new(), Vec::new());
        client.seal(&vec![7; 100_000], &mut out).expect("sealed");
        let mut out = &out[..];
        let mut heard = Vec::new();
        while !out.is_empty() {
            server.read_tls(&mut out).expect("read");
            server.process_new_packets().expect("good");
            let _ = server.reader().read_to_end(&mut heard);
        }
        assert!(heard == vec![7; 100_000]);
        server.writer().write_all(&vec![8; 50_000]).expect("buffered");
        for piece in said(&mut server).chunks(997) {
            client.open(piece, &mut plain).expect("good");
        }
        assert!(plain == vec![8; 50_000]);
    }

    #[test]
    fn behind_a_close_notify_the_connection_is_over_whatever_follows() {
        for behind in [&b""[..], b"X", &[0; 10_000]] {
            let (mut client, mut server) = agreed();
            server.writer().write_all(b"last words").expect("buffered");
            server.send_close_notify();
            let mut plain = Vec::new();
            let mut said = said(&mut server);
            said.extend_from_slice(behind);
            assert_eq!(client.open(&said, &mut plain), Ok(true));
            assert_eq!(plain, b"last words");
            assert_eq!(client.open(b"X", &mut plain), Ok(true), "nor does it come back");
        }
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        let (mut client, _) = agreed();
        assert!(client.open(b"HTTP/1.1 400 Bad Request\r\n\r\n", &mut Vec::new()).is_err());
    }
}
