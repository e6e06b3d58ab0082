//! Whoever vouches for certificates: made for a test, and trusted by nobody else.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// One that signs.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub struct Signed {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    /// A new one, of that name.
    pub fn new(name: &str) -> Self {
        let mut parameters = CertificateParams::new([]).expect("no names");
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(parameters, key).expect("a certificate"))
    }

    /// Its own certificate, as PEM.
    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    /// Vouches for a new key of `name`, a host name or an address.
    pub fn sign(&self, name: &str) -> Signed {
        let mut parameters = CertificateParams::new([name.to_owned()]).expect("a name");
        parameters.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.signed_by(&key, &self.0).expect("a certificate");
        Signed { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// Nobody vouches for these but they themselves.
#[cfg(feature = "load")]
impl Signed {
    /// One for a server of this name.
    pub fn by_itself(name: &str) -> Self {
        Self::alone(name, IsCa::NoCa)
    }

    /// The same as `openssl req -x509` makes it, which has it be an authority's.
    pub fn by_openssl(name: &str) -> Self {
        Self::alone(name, IsCa::Ca(BasicConstraints::Unconstrained))
    }

    fn alone(name: &str, is_ca: IsCa) -> Self {
        let mut parameters = CertificateParams::new([name.to_owned()]).expect("a name");
        parameters.is_ca = is_ca;
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate");
        Self { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}
