//! The usual site: two domains, each with a Redis of its own; the router and the gateway on the public one, the workers on the private one.

use super::client::Client;
use super::gateway::{Gateway, OTHER_DOMAIN, Setup};
use super::redis::Redis;
use super::services::Services;

/// All of it, ready. Dropped in this order: gateway, services, Redis.
pub struct Site {
    /// The gateway, on the public domain.
    pub gateway: Gateway,
    /// The workers of the private domain, with the router of the public one.
    _services: Services,
    /// The public domain's Redis.
    pub public: Redis,
    /// The private domain's Redis.
    pub private: Redis,
}

impl Site {
    /// Starts it with more flags for the gateway.
    pub fn start(flags: &[&str]) -> Self {
        Self::with(flags, &[])
    }

    /// The same with more flags for the services.
    pub fn with(flags: &[&str], service_flags: &[&str]) -> Self {
        let (public, private) = (Redis::start(), Redis::start());
        let private_address = private.address();
        let mut all = vec!["--service-domain", OTHER_DOMAIN, "--service-redis", &private_address];
        all.extend_from_slice(service_flags);
        let services = Services::start(&public, &all);
        let setup = Setup::serve(&public).domain(OTHER_DOMAIN, &private_address);
        let gateway = setup.line("bus_domains = [\"private.localhost\"]").flags(flags).start();
        Self { gateway, _services: services, public, private }
    }

    /// One more client.
    pub fn client(&self) -> Client {
        Client::connect(&self.gateway)
    }
}
