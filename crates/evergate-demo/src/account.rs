//! Redis users and what they may do: OpenSRF's stock ACL.

/// A user of the embedded server.
#[derive(Clone)]
pub struct User {
    /// Name, as in `AUTH name password`.
    pub name: String,
    /// Password, in clear.
    pub password: String,
    /// What the user may do.
    pub access: Access,
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Every command on every key, like Redis' `default`.
    Full,
    /// `-@all +lpop +blpop +rpush +del` on keys that begin with one of these.
    Lists(&'static [&'static str]),
}

/// The prefixes of the stock ACL's `opensrf` and `router` users.
const OF_THE_BUS: &[&str] = &["opensrf:router:", "opensrf:service:", "opensrf:client:"];
/// The prefixes of the stock ACL's `gateway` user: no service queues.
const OF_THE_GATEWAY: &[&str] = &["opensrf:router:", "opensrf:client:"];

impl User {
    /// The three users of OpenSRF's stock ACL: `gateway`, `router` and `opensrf` (the services).
    pub fn stock(gateway_password: &str, router_password: &str, opensrf_password: &str) -> Vec<Self> {
        let user = |name: &str, password: &str, prefixes| Self {
            name: name.to_owned(),
            password: password.to_owned(),
            access: Access::Lists(prefixes),
        };
        vec![
            user("gateway", gateway_password, OF_THE_GATEWAY),
            user("router", router_password, OF_THE_BUS),
            user("opensrf", opensrf_password, OF_THE_BUS),
        ]
    }

    /// Whether the user may use this list.
    pub(super) fn may_use(&self, key: &[u8]) -> bool {
        match self.access {
            Access::Full => true,
            Access::Lists(prefixes) => prefixes.iter().any(|prefix| key.starts_with(prefix.as_bytes())),
        }
    }
}

impl std::fmt::Debug for User {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("User").field("name", &self.name).field("access", &self.access).finish_non_exhaustive()
    }
}
