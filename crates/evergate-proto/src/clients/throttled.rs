//! Whose clients were told 429, and how often, for the log: an operator must see whom to ask, and nobody can fill the log.

use std::net::IpAddr;

use crate::counters::Limit;
use crate::websocket::net::site;

/// How long an address is counted before it is said how often, ms.
const WINDOW_MS: u64 = 10_000;
/// Addresses and limits that are named in that time; the others are counted together.
const NAMED_MAX: usize = 16;

/// Whose clients were told 429 in this window.
#[derive(Debug, Default)]
pub(super) struct Throttled {
    named: Vec<Named>,
    /// How often others were.
    others: u64,
    /// When the window ends, ms since the process began.
    until_ms: u64,
}

/// One that was named.
#[derive(Debug)]
struct Named {
    site: IpAddr,
    limit: Limit,
    /// How often it was since.
    more: u64,
}

impl Throttled {
    /// A client of `address` was told 429 for `limit`: what is to be said about it now.
    pub(super) fn count(&mut self, address: IpAddr, limit: Limit, now_ms: u64) -> Option<String> {
        let site = site(address);
        if let Some(named) = self.named.iter_mut().find(|named| named.site == site && named.limit == limit) {
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
        let named = Named { site, limit, more: 0 };
        let line = format!("{}: refused with 429 ({})", named.address(), named.limit());
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
                let (address, limit, more) = (named.address(), named.limit(), named.more);
                format!("{address}: refused with 429 ({limit}), {more} times more within {seconds} s")
            })
            .collect();
        let others = std::mem::take(&mut self.others);
        if others > 0 {
            lines.push(format!("other addresses: refused with 429, {others} times within {seconds} s"));
        }
        lines
    }
}

impl Named {
    fn address(&self) -> String {
        match self.site {
            IpAddr::V4(address) => format!("address {address}"),
            IpAddr::V6(network) => format!("address {network}/64"),
        }
    }

    fn limit(&self) -> &'static str {
        Limit::ALL[self.limit as usize].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Limit = Limit::client_messages_per_second_max;

    #[test]
    fn an_address_is_named_at_once_then_counted_until_its_window_ends() {
        let mut throttled = Throttled::default();
        let address = |text: &str| text.parse().expect("an address");
        let mut count = |text: &str, limit| throttled.count(address(text), limit, 1_000);
        assert_eq!(
            count("192.0.2.1", RATE).as_deref(),
            Some("address 192.0.2.1: refused with 429 (client_messages_per_second_max)")
        );
        assert_eq!(count("::ffff:192.0.2.1", RATE), None, "the same, mapped");
        assert!(count("192.0.2.1", Limit::sessions_max).is_some_and(|line| line.ends_with("(sessions_max)")));
        assert!(count("2001:db8::1", RATE).is_some_and(|line| line.starts_with("address 2001:db8::/64: ")));
        assert_eq!([count("2001:db8::2", RATE), count("2001:db8::3", RATE)], [None, None]);
        assert_eq!(throttled.take(10_999, false), Vec::<String>::new());
        let more = |who, times| {
            format!("address {who}: refused with 429 ({}), {times} times more within 10 s", Limit::ALL[RATE as usize].1)
        };
        assert_eq!(throttled.take(11_000, false), [more("192.0.2.1", 1), more("2001:db8::/64", 2)]);
        assert_eq!(throttled.take(60_000, true), Vec::<String>::new());
        assert!(throttled.count(address("192.0.2.1"), RATE, 60_000).is_some(), "a new window");
    }

    #[test]
    fn however_many_addresses_there_are_few_are_named_and_the_others_counted() {
        let mut throttled = Throttled::default();
        let lines = (0..1_000_u32).filter_map(|n| throttled.count(IpAddr::from(n.to_be_bytes()), RATE, 0)).count();
        assert_eq!(lines, NAMED_MAX);
        let others = "other addresses: refused with 429, 984 times within 10 s".to_owned();
        assert_eq!(throttled.take(0, true), [others]);
        assert_eq!(throttled.take(0, true), Vec::<String>::new());
    }
}
