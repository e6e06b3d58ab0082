//! Whom a `wss` URL trusts, and by which name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

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
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let builder = if self.insecure {
            let any = Lenient { listed: None, algorithms };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(any))
        } else if let Some(file) = &self.ca {
            let named = |error: String| format!("--ca {}: {error}", file.display());
            let listed = certificates(file).map_err(named)?;
            let verifier = verifier(&listed, &provider).map_err(named)?;
            let listed = Lenient { listed: Some((verifier, listed)), algorithms };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(listed))
        } else {
            builder.with_root_certificates(roots_of_system()?)
        };
        let mut config = builder.with_no_client_auth();
        // Each client is another browser, which has no session to resume.
        config.resumption = Resumption::disabled();
        // A WebSocket begins as HTTP/1.1: a proxy that has HTTP/2 as well must not choose that.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn roots_of_system() -> Result<RootCertStore, String> {
    let (mut roots, found) = (RootCertStore::empty(), rustls_native_certs::load_native_certs());
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let why = found.errors.first().map_or_else(|| "there are none".to_owned(), ToString::to_string);
        return Err(format!("the system's certificates: {why}; install ca-certificates, or name a file with --ca"));
    }
    Ok(roots)
}

/// At least one, of a file of PEM.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err("there is no certificate in it (PEM is needed)".to_owned()),
        read => read.map_err(|error| error.to_string()),
    }
}

fn verifier(
    roots: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, String> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(|error| error.to_string())?;
    }
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider));
    builder.build().map_err(|error| error.to_string())
}

/// Takes more than the book allows, and holds a certificate's owner to it as usual.
#[derive(Debug)]
struct Lenient {
    /// Besides what these roots vouch for, the roots themselves; `None`: any certificate.
    listed: Option<(Arc<WebPkiServerVerifier>, Vec<CertificateDer<'static>>)>,
    /// By which signatures are verified, as usual.
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some((verifier, listed)) = &self.listed else { return Ok(ServerCertVerified::assertion()) };
        let judged = verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match judged {
            // A certificate that signed itself is as a rule one of a CA (`openssl req -x509`), and by the book no server's.
            Err(Error::InvalidCertificate(CertificateError::Other(_))) if listed.contains(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
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
