//! Whose clients were turned away, why, and how often, for the log: an operator must see whom to ask, and nobody can fill the log.

use std::fmt;
use std::net::IpAddr;

use crate::counters::Limit;
use crate::websocket::net::Address;
use crate::websocket::proxy_header::Wrong;

/// How long an address is counted before it is said how often, ms.
const WINDOW_MS: u64 = 10_000;
/// Addresses and reasons that are named in that time; the others are counted together.
const NAMED_MAX: usize = 16;

/// Why a client was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It was told 429.
    Limit(Limit),
    /// It did not begin as its listener demands.
    ProxyHeader(Wrong),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(limit) => write!(f, "refused with 429 ({})", Limit::ALL[*limit as usize].1),
            Self::ProxyHeader(wrong) => write!(f, "closed: {wrong}"),
        }
    }
}

/// Whose clients were turned away in this window.
#[derive(Debug, Default)]
pub(super) struct TurnedAway {
    named: Vec<Named>,
    /// How often others were.
    others: u64,
    /// When the window ends, ms since the process began.
    until_ms: u64,
}

/// One that was named.
#[derive(Debug)]
struct Named {
    site: Address,
    why: Why,
    /// How often it was since.
    more: u64,
}

impl TurnedAway {
    /// A client of `address` was turned away: what is to be said about it now.
    pub(super) fn count(&mut self, address: Address, why: Why, now_ms: u64) -> Option<String> {
        let site = address.site();
        if let Some(named) = self.named.iter_mut().find(|named| named.site == site && named.why == why) {
            named.more += 1;
            return None;
        }
        if self.named.len() == NAMED_MAX {
            self.others += 1;
            return None;
        }
        if self.named.is_empty() {
            self.until_ms = now_ms + WINDOW_MS;
        }
        let named = Named { site, why, more: 0 };
        let line = format!("{}: {why}", named.address());
        self.named.push(named);
        Some(line)
    }

    /// What is to be said when the window is over, or at the `end`.
    pub(super) fn take(&mut self, now_ms: u64, end: bool) -> Vec<String> {
        if self.named.is_empty() || (now_ms < self.until_ms && !end) {
            return Vec::new();
        }
        let seconds = WINDOW_MS / 1_000;
        let mut lines: Vec<String> = self
            .named
            .drain(..)
            .filter(|named| named.more > 0)
            .map(|named| {
                let (address, why, more) = (named.address(), named.why, named.more);
                format!("{address}: {why}, {more} times more within {seconds} s")
            })
            .collect();
        let others = std::mem::take(&mut self.others);
        if others > 0 {
            lines.push(format!("other addresses: turned away {others} times within {seconds} s"));
        }
        lines
    }
}

impl Named {
    fn address(&self) -> String {
        match self.site {
            Address::Ip(IpAddr::V6(network)) => format!("address {network}/64"),
            address => format!("address {address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Why = Why::Limit(Limit::client_messages_per_second_max);

    #[test]
    fn an_address_is_named_at_once_then_counted_until_its_window_ends() {
        let mut turned_away = TurnedAway::default();
        let address = |text: &str| Address::Ip(text.parse().expect("an address"));
        let mut count = |text: &str, limit| turned_away.count(address(text), limit, 1_000);
        assert_eq!(
            count("192.0.2.1", RATE).as_deref(),
            Some("address 192.0.2.1: refused with 429 (client_messages_per_second_max)")
        );
        assert_eq!(count("::ffff:192.0.2.1", RATE), None, "the same, mapped");
        assert!(
            count("192.0.2.1", Why::Limit(Limit::sessions_max)).is_some_and(|line| line.ends_with("(sessions_max)"))
        );
        assert!(count("2001:db8::1", RATE).is_some_and(|line| line.starts_with("address 2001:db8::/64: ")));
        assert_eq!([count("2001:db8::2", RATE), count("2001:db8::3", RATE)], [None, None]);
        assert_eq!(turned_away.take(10_999, false), Vec::<String>::new());
        let more = |who, times| {
            format!(
                "address {who}: refused with 429 ({}), {times} times more within 10 s",
                Limit::ALL[Limit::client_messages_per_second_max as usize].1
            )
        };
        assert_eq!(turned_away.take(11_000, false), [more("192.0.2.1", 1), more("2001:db8::/64", 2)]);
        assert_eq!(turned_away.take(60_000, true), Vec::<String>::new());
        assert!(turned_away.count(address("192.0.2.1"), RATE, 60_000).is_some(), "a new window");
    }

    #[test]
    fn however_many_addresses_there_are_few_are_named_and_the_others_counted() {
        let mut turned_away = TurnedAway::default();
        let lines = (0..1_000_u32)
            .filter_map(|n| turned_away.count(Address::Ip(IpAddr::from(n.to_be_bytes())), RATE, 0))
            .count();
        assert_eq!(lines, NAMED_MAX);
        let others = "other addresses: turned away 984 times within 10 s".to_owned();
        assert_eq!(turned_away.take(0, true), [others]);
        assert_eq!(turned_away.take(0, true), Vec::<String>::new());
    }
}
