//! How a link comes up: attempts, pauses between them, the greeting's outcome.

use super::connection::{Half, Known, Stage};
use super::greeting::{Greeted, Greeting};
use super::inbox::Inbox;
use super::links::{BACKOFF_MS, LinkId, Links, Want};
use super::pushing::hear_of_router;
use super::served::Served;
use super::trouble::Trouble;
use crate::clients::output::{BusNews, Severity};
use crate::clients::router_list::RouterNews;
use crate::counters::{self, LinkState};

impl Links {
    /// The links to a domain are wanted: opens them, unless they are.
    pub(super) fn start(&mut self, domain: usize, now_ms: u64) {
        if self.domains[domain].is_started() || self.ending {
            return;
        }
        for half in [Half::Push, Half::Pop] {
            let link = LinkId { domain, half };
            if let Some(connection) = self.domains[domain].connection_mut(half) {
                connection.backoff_ms = BACKOFF_MS;
                self.connect(link, now_ms);
            }
        }
    }

    /// Begins an attempt.
    pub(super) fn connect(&mut self, link: LinkId, now_ms: u64) {
        let until_ms = now_ms + self.options.connect_max_ms;
        let domain = &mut self.domains[link.domain];
        let known = domain.known;
        let Some(connection) = domain.connection_mut(link.half) else { return };
        connection.stage = Stage::Connecting { until_ms, known };
        let (generation, attempt) = (connection.generation, connection.failures);
        self.wants.push_back(Want::Connect { link, generation, attempt });
    }

    /// Somebody is there, and both ends are to agree on TLS before the link is [connected](Self::connected).
    pub fn reached(&mut self, link: LinkId, generation: u32) {
        if !self.is_current(link, generation) {
            return;
        }
        if let Some(connection) = self.domains[link.domain].connection_mut(link.half)
            && let Stage::Connecting { until_ms, known } = connection.stage
        {
            connection.stage = Stage::Agreeing { until_ms, known };
        }
    }

    /// A connection is open, to that port (none: a Unix socket), or cannot be opened.
    pub fn connected(
        &mut self,
        clients: &mut impl Served,
        link: LinkId,
        generation: u32,
        result: Result<Option<u16>, Trouble>,
    ) {
        if !self.is_current(link, generation) {
            return;
        }
        let port = match result {
            Ok(port) => port,
            Err(trouble) => return self.failed(clients, link, &trouble),
        };
        let account = (self.options.username.as_str(), self.options.passwd.as_str());
        let own = [self.names.address.as_bytes(), b"0"];
        let probe: (&str, &[&[u8]]) = match link.half {
            Half::Push => ("DEL", &[self.probe_key.as_bytes()]),
            // Takes nothing, but needs what a pop needs.
            Half::Pop => ("LPOP", &own),
        };
        let Some(connection) = self.domains[link.domain].connection_mut(link.half) else { return };
        let is_sealed = matches!(connection.stage, Stage::Agreeing { .. });
        if let Stage::Connecting { until_ms, known } | Stage::Agreeing { until_ms, known } = connection.stage {
            connection.greets.clear();
            let greeting = Greeting::begin(&mut connection.greets, account, port, probe);
            connection.stage = Stage::Greeting { until_ms, known, is_sealed, greeting: Box::new(greeting) };
        }
    }

    /// The account is accepted.
    pub(super) fn opened(&mut self, clients: &mut impl Served, link: LinkId, known: Known, greeted: &Greeted) {
        let (index, now_ms) = (link.domain, clients.context().now_ms());
        let domain = &mut self.domains[index];
        // An account that may log in and not pop is refused again at once: it is of use when it was not for a while.
        if link.half == Half::Push || domain.pops_refused_ms.is_none() {
            clients.context().tell(BusNews::Opened { domain: index, half: link.half });
        }
        let emptied = greeted.id < known.id && domain.known.restarts == known.restarts;
        domain.known.id = if emptied { greeted.id } else { domain.known.id.max(greeted.id) };
        let Some(connection) = domain.connection_mut(link.half) else { return };
        connection.stage = Stage::Up { since_ms: now_ms };
        (connection.failures, connection.backoff_ms) = (0, BACKOFF_MS);
        if std::mem::replace(&mut connection.has_been_up, true) {
            counters::add(&clients.context().counts().bus_reconnects, 1);
        }
        if emptied {
            domain.known.restarts = known.restarts.wrapping_add(1);
            let text = format!("bus: {} was restarted; what was pending is over", self.names.domains[index]);
            clients.context().log(Severity::Warn, text);
            clients.bus_emptied(index);
        }
        let domain = &mut self.domains[index];
        match link.half {
            Half::Push => {
                domain.wrote_ms = now_ms;
                domain.listens = false;
                // Redis has answered a greeting.
                domain.silence.answered(now_ms, true);
                self.set_state(clients, link, LinkState::Up);
            }
            Half::Pop => {
                let own = &self.names.address;
                domain.inbox = if greeted.lacks_probe { Inbox::without_counts(own) } else { Inbox::new(own) };
                if greeted.lacks_probe {
                    clients.context().tell(BusNews::LacksCounts { domain: index });
                }
                match &mut domain.pops_refused_ms {
                    Some(since_ms) => *since_ms = now_ms,
                    None => self.set_state(clients, link, LinkState::Up),
                }
                if self.domains[index].pops_lost {
                    clients.pops_back();
                }
            }
        }
    }

    /// An attempt failed: the bus counts as away, and another follows.
    pub(super) fn failed(&mut self, clients: &mut impl Served, link: LinkId, trouble: &Trouble) {
        let (index, now_ms) = (link.domain, clients.context().now_ms());
        let Some(connection) = self.domains[index].connection_mut(link.half) else { return };
        let text = trouble.after(&connection.stage).unwrap_or_else(|| trouble.to_string());
        self.close(link);
        let random = self.jitter();
        let domain = &mut self.domains[index];
        let Some(connection) = domain.connection_mut(link.half) else { return };
        if connection.failures == 0 {
            counters::add(&clients.context().counts().bus_links_lost, 1);
        }
        connection.failures = connection.failures.saturating_add(1);
        let backoff_ms = connection.backoff_ms;
        connection.backoff_ms = (backoff_ms * 2).min(self.options.backoff_max_ms.max(1));
        let until_ms = now_ms + backoff_ms / 2 + random % (backoff_ms / 2 + 1);
        connection.stage = if self.ending { Stage::Off } else { Stage::Waiting { until_ms } };
        let text = text.trim_end_matches('.');
        text.clone_into(&mut domain.trouble);
        let (half, refused) = (link.half, trouble.is_refusal());
        clients.context().tell(BusNews::Failed { domain: index, half, text: text.to_owned(), refused });
        self.set_state(clients, link, LinkState::Away);
        if link.half == Half::Push {
            let unsent = self.domains[index].outbox.take_unsent();
            hear_of_router(clients, index, &[RouterNews::Lost]);
            let text = self.names.away(index);
            for ticket in unsent {
                clients.push_failed(ticket, &text);
            }
        }
    }

    /// The next attempt is due then, which may be now.
    pub(super) fn wait(&mut self, link: LinkId, now_ms: u64, until_ms: u64) {
        let Some(connection) = self.domains[link.domain].connection_mut(link.half) else { return };
        (connection.failures, connection.backoff_ms) = (0, BACKOFF_MS);
        connection.stage = Stage::Waiting { until_ms };
        if until_ms <= now_ms {
            self.connect(link, now_ms);
        }
    }

    /// A number, for jitter (xorshift64).
    fn jitter(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
