//! Whom a `wss` URL trusts, and by which name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// Of a server behind TLS, what a connection to it needs.
#[derive(Debug, Clone)]
pub struct Secure {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Secure {
    /// The TLS of one more connection.
    pub fn session(&self) -> Result<ClientConnection, Error> {
        let mut session = ClientConnection::new(Arc::clone(&self.config), self.name.clone())?;
        // What waits is bounded before it comes here.
        session.set_buffer_limit(None);
        Ok(session)
    }
}

/// What the command line says of TLS.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The certificates that are trusted; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// Any certificate is.
    pub insecure: bool,
    /// In the place of the URL's host: in the TLS handshake, in the certificate, and in the `Host` header.
    pub server_name: Option<String>,
}

impl Trust {
    /// Whether anything is asked for that TLS alone can give.
    pub fn is_given(&self) -> bool {
        self.ca.is_some() || self.insecure || self.server_name.is_some()
    }

    /// For a server of this name, an address without brackets. The error names the remedy.
    pub fn secure(&self, name: &str) -> Result<Secure, String> {
        let name = ServerName::try_from(name.to_owned()).map_err(|_| format!("{name:?} is no name of a host"))?;
        Ok(Secure { config: Arc::new(self.config()?), name })
    }

    fn config(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let builder = if self.insecure {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Any(provider)))
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        let mut config = builder.with_no_client_auth();
        // Each client is another browser, which has no session to resume.
        config.resumption = Resumption::disabled();
        // A WebSocket begins as HTTP/1.1: a proxy that has HTTP/2 as well must not choose that.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        let Some(file) = &self.ca else {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            let why = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
            let needed = "install ca-certificates, or name a file with --ca";
            return if roots.is_empty() {
                Err(format!("the system's certificates: {why}; {needed}"))
            } else {
                Ok(roots)
            };
        };
        let wrong = |why: &dyn std::fmt::Display| format!("--ca {}: {why}", file.display());
        for certificate in certificates(file).map_err(|error| wrong(&error))? {
            roots.add(certificate).map_err(|error| wrong(&error))?;
        }
        if roots.is_empty() { Err(wrong(&"there is no certificate in it (PEM is needed)")) } else { Ok(roots) }
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    CertificateDer::pem_file_iter(file)?.collect()
}

/// Takes any certificate, and holds its owner to it as usual.
#[derive(Debug)]
struct Any(Arc<CryptoProvider>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_named_with_its_option() {
        let none = Trust { ca: Some(PathBuf::from("/nowhere/ca.pem")), ..Trust::default() };
        let empty = Trust { ca: Some(PathBuf::from("/dev/null")), ..Trust::default() };
        for (trust, why) in [(none, "--ca /nowhere/ca.pem: "), (empty, "--ca /dev/null: there is no certificate")] {
            let error = trust.secure("localhost").expect_err(why);
            assert!(error.starts_with(why), "{error}");
        }
    }
}
