//! The files that TLS to Redis needs, read.

use std::path::Path;

use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::redis_place::RedisPlace;
use super::table::Config;

/// What `bus_tls_ca_file`, `bus_tls_certificate_file` and `bus_tls_key_file` hold.
#[derive(Debug)]
pub struct TlsFiles {
    /// Who may vouch for a Redis; none: whom the host trusts.
    pub roots: Option<Vec<CertificateDer<'static>>>,
    /// Our own certificate with those behind it, and its key.
    pub own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

/// The option that is wrong, and why.
pub type Mistake = (&'static str, String);

impl Config {
    /// Whether a Redis is reached by TLS.
    pub fn needs_tls(&self) -> bool {
        self.domains.iter().any(|domain| matches!(self.redis_of(domain), RedisPlace::Tls { .. }))
    }

    /// Reads the files that TLS to Redis needs.
    pub fn tls_files(&self) -> Result<TlsFiles, Mistake> {
        let roots = self.bus_tls_ca_file.as_deref().map(|path| certificates("bus_tls_ca_file", path)).transpose()?;
        let own = match (&self.bus_tls_certificate_file, &self.bus_tls_key_file) {
            (None, None) => None,
            (Some(certificate), Some(key)) => {
                let chain = certificates("bus_tls_certificate_file", certificate)?;
                let explain = |why| explain(key, &why, "private key (PKCS #8, PKCS #1 or SEC 1)");
                let key = PrivateKeyDer::from_pem_file(key).map_err(|why| ("bus_tls_key_file", explain(why)))?;
                Some((chain, key))
            }
            (Some(_), None) => return Err(alone("bus_tls_certificate_file", "bus_tls_key_file")),
            (None, Some(_)) => return Err(alone("bus_tls_key_file", "bus_tls_certificate_file")),
        };
        Ok(TlsFiles { roots, own })
    }
}

fn alone(given: &'static str, missing: &str) -> Mistake {
    (given, format!("it is of no use alone; set {missing}, too"))
}

fn certificates(option: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Mistake> {
    let read = || -> Result<Vec<_>, pem::Error> {
        let found = CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>()?;
        if found.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(found) }
    };
    read().map_err(|why| (option, explain(path, &why, "certificate")))
}

fn explain(path: &Path, why: &pem::Error, wanted: &str) -> String {
    let path = path.display();
    match why {
        pem::Error::Io(why) => {
            format!("{path} cannot be read: {why}; correct the path, or let this account read the file")
        }
        pem::Error::NoItemsFound => format!("{path} holds no {wanted} in PEM"),
        why => format!("{path} is no good PEM: {why:?}"),
    }
}
