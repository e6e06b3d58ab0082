//! The files that TLS to Redis needs, read.

use std::path::Path;

use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::file;
use super::redis_place::RedisPlace;
use super::table::Config;

/// Bytes of a file; the certificates that a host trusts have 220,000. A larger one is something else.
const PEM_BYTES_MAX: u64 = 4 << 20;

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
                let text = read("bus_tls_key_file", key)?;
                let explain = |why| explain(key, &why, "private key (PKCS #8, PKCS #1 or SEC 1)");
                let key = PrivateKeyDer::from_pem_slice(&text).map_err(|why| ("bus_tls_key_file", explain(why)))?;
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
    let text = read(option, path)?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.and_then(|found| if found.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(found) });
    found.map_err(|why| (option, explain(path, &why, "certificate")))
}

fn read(option: &'static str, path: &Path) -> Result<Vec<u8>, Mistake> {
    let bytes = file::read(path, PEM_BYTES_MAX + 1).map_err(|why| (option, file::unreadable(path, &why)))?;
    if bytes.len() as u64 > PEM_BYTES_MAX {
        return Err((option, format!("{} is larger than {PEM_BYTES_MAX} bytes; correct the path", path.display())));
    }
    Ok(bytes)
}

fn explain(path: &Path, why: &pem::Error, wanted: &str) -> String {
    let path = path.display();
    match why {
        pem::Error::NoItemsFound => format!("{path} holds no {wanted} in PEM"),
        why => format!("{path} is no good PEM: {why:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_is_no_certificate() {
        let (option, why) = certificates("bus_tls_ca_file", Path::new("/dev/zero")).expect_err("it has no end");
        assert_eq!(option, "bus_tls_ca_file");
        assert!(why.starts_with("/dev/zero is larger than"), "{why}");
    }
}
