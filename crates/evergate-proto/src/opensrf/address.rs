//! Bus addresses (docs/wire.md, "What the bus carries") and bus threads (ARCHITECTURE.md, "How one message travels").

const CLIENT: &str = "opensrf:client:";

/// Where a call to a service is sent: the router's queue.
pub fn router_address(router_name: &str, domain: &str) -> String {
    format!("opensrf:router:{router_name}:{domain}")
}

const SERVICE: &str = "opensrf:service:_:_:";

/// Whom a call to a service names as its receiver: any worker of it, of any domain.
pub fn service_address(service: &str) -> String {
    format!("{SERVICE}{service}")
}

/// The service of such an address.
pub fn service_of(service_address: &str) -> &str {
    service_address.strip_prefix(SERVICE).unwrap_or(service_address)
}

/// An address of our own. `random` makes it nobody else's (quirk 7); a colon in a part would shift the parts
/// behind it, so it becomes `_`.
pub fn client_address(user: &str, domain: &str, host: &str, pid: u32, random: [u8; 16]) -> String {
    let part = |text: &str| text.replace(':', "_");
    let random = u128::from_be_bytes(random);
    format!("{CLIENT}{}:{}:{}:{pid}:{random:032x}", part(user), part(domain), part(host))
}

/// The domain of a client's or a worker's address, `opensrf:client:{user}:{domain}:…`.
pub fn domain_of(client_address: &str) -> Option<&str> {
    let mut parts = client_address.strip_prefix(CLIENT)?.split(':');
    let domain = parts.nth(1)?;
    parts.next()?;
    (!domain.is_empty()).then_some(domain)
}

/// Whether a sender is a router: its account's name is its address's user.
pub fn is_router(from: &str) -> bool {
    from.strip_prefix(CLIENT).is_some_and(|parts| parts.starts_with("router:"))
}

/// What the gateway puts before the client's thread, `{slot}.{generation}.{n}:`, to know a reply's client and
/// conversation again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BusThread {
    /// The client's place among its core's clients.
    pub slot: u32,
    /// Counts the clients that had this slot: a late reply for one of them reaches no other.
    pub generation: u32,
    /// The conversation's number within its client.
    pub n: u64,
}

impl BusThread {
    /// Appends the bus thread of a client's thread.
    pub fn write(&self, client_thread: &str, out: &mut String) {
        let mut digits = itoa::Buffer::new();
        out.push_str(digits.format(self.slot));
        out.push('.');
        out.push_str(digits.format(self.generation));
        out.push('.');
        out.push_str(digits.format(self.n));
        out.push(':');
        out.push_str(client_thread);
    }

    /// Splits a bus thread at its first colon; none unless it is one that [`Self::write`] could have written.
    pub fn parse(bus_thread: &str) -> Option<(Self, &str)> {
        let mut rest = bus_thread;
        let slot = number(&mut rest, b'.')?.try_into().ok()?;
        let generation = number(&mut rest, b'.')?.try_into().ok()?;
        let n = number(&mut rest, b':')?;
        Some((Self { slot, generation, n }, rest))
    }
}

/// Takes a number as Rust writes it from the beginning of `text`, digits only and no zero in front, and `end` behind it.
fn number(text: &mut &str, end: u8) -> Option<u64> {
    let bytes = text.as_bytes();
    let (mut value, mut length) = (0_u64, 0);
    while let Some(digit) = bytes.get(length).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit <= 9) {
        value = value.checked_mul(10)?.checked_add(digit.into())?;
        length += 1;
    }
    let is_canonical = length == 1 || length > 0 && bytes[0] != b'0';
    *text = text.get(length..)?.strip_prefix(char::from(end))?;
    is_canonical.then_some(value)
}
