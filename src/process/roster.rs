//! Who is connected, over all cores, a page at a time; and the end of one connection by its number. For the admin page, the control
//! socket, and whatever else may act.
//!
//! Each core is asked by its queue ([`inquiries`](super::inquiries)) and answers from its own thread. A connection keeps its slot as
//! long as it lives, and pages follow the slots: so whoever stays is on exactly one page, however others come and go.

use std::fmt;
use std::str::FromStr;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use evergate_proto::clients::census::{Connected, Filter, Found, States};
use evergate_proto::clients::dismissing::Dismissal;
use evergate_proto::clients::number::ConnectionNumber;
use evergate_proto::clients::output::SlotIndex;
use evergate_proto::counters;
use evergate_proto::event_loop::{Answer, Inquiry};
use serde::{Deserialize, Serialize};

use super::shared::Shared;

/// Connections of a page, where nothing else is asked for.
const PAGE: usize = 100;

/// Connections of a page at most.
pub const PAGE_MAX: usize = 1_000;

/// How long a core may take to answer: its longest turns take milliseconds.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// How long a page may take, a core that does not answer apart; with what was found by then it ends.
const SEARCH_MAX: Duration = Duration::from_secs(2);

/// Who is asked for, in words: what a URL and the control socket say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// An address, or a network: `10.0.0.0/8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// `open`, or one of the states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Connected for so long at least, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<u64>,
    /// With so many requests in flight at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<usize>,
    /// Connections of a page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

impl Query {
    /// The keys, for errors.
    const KEYS: &str = "address, state, age_seconds, in_flight, limit, cursor";

    /// Reads what stands behind the `?` of a URL. The error is for whoever asks.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut query = Self::default();
        for (key, value) in form_urlencoded::parse(text.as_bytes()) {
            let number = || value.parse().map_err(|_| format!("{key} is no number: {value:?}"));
            match &*key {
                "address" => query.address = Some(value.into_owned()),
                "state" => query.state = Some(value.into_owned()),
                "age_seconds" => query.age_seconds = Some(number()?),
                "in_flight" => query.in_flight = Some(number()? as usize),
                "limit" => query.limit = Some(number()? as usize),
                "cursor" => query.cursor = Some(value.into_owned()),
                _ => return Err(format!("{key:?} is not known here; there are {}", Self::KEYS)),
            }
        }
        Ok(query)
    }

    fn filter(&self) -> Result<Filter, String> {
        let address = self.address.as_deref().map(str::parse).transpose()?;
        let states = match self.state.as_deref() {
            None => States::Any,
            Some(name) => {
                States::named(name).ok_or_else(|| format!("{name:?} is no state; there are {}", States::names()))?
            }
        };
        let age_ms_min = self.age_seconds.unwrap_or(0).saturating_mul(1_000);
        Ok(Filter { address, states, age_ms_min, in_flight_min: self.in_flight.unwrap_or(0) })
    }
}

/// Where a page begins: the index of a core and a slot there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cursor {
    core: usize,
    slot: SlotIndex,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.core, self.slot)
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = || {
            let (core, slot) = text.split_once('.')?;
            Some(Self { core: core.parse().ok()?, slot: slot.parse().ok()? })
        };
        parts().ok_or_else(|| format!("the cursor {text:?} is none of ours: take `next` of the page before, or none"))
    }
}

/// Some of the connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// By core and slot.
    pub connections: Vec<Row>,
    /// The cursor of the next page, which may have fewer connections than were asked for, or none; null: this was the last.
    pub next: Option<String>,
    /// Cores, by their CPUs, that have not answered in time: their connections are missing here.
    pub silent_cores: Vec<usize>,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its number, as in the activity log.
    pub connection: String,
    /// The CPU of its core.
    pub core: usize,
    /// Whence it comes.
    pub address: String,
    /// Where it stands.
    pub state: String,
    /// Since it was accepted, to the millisecond.
    pub age_ms: u64,
    /// REQUESTs relayed so far.
    pub requests: u32,
    /// Requests and connects that wait for their replies.
    pub in_flight: usize,
    /// Sessions.
    pub sessions: usize,
    /// Envelopes that wait for their turn in the gateway.
    pub waiting: usize,
    /// Reply bytes that are known to be on their way to it.
    pub undelivered_bytes: u64,
    /// Bytes held for it in the gateway's buffers.
    pub held_bytes: usize,
    /// An operator has asked for its end, which comes at its next gap.
    pub closing_at_gap: bool,
}

impl Row {
    fn of(found: &Connected, cpu: usize) -> Self {
        let number = ConnectionNumber { cpu: cpu as u32, slot: found.slot, generation: found.generation };
        Self {
            connection: number.to_string(),
            core: cpu,
            address: found.address.to_string(),
            state: found.state.name().to_owned(),
            age_ms: found.age_ms,
            requests: found.requests,
            in_flight: found.in_flight,
            sessions: found.sessions,
            waiting: found.backlog,
            undelivered_bytes: found.undelivered_bytes,
            held_bytes: found.held_bytes,
            closing_at_gap: found.is_dismissed,
        }
    }
}

/// Why a core has not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    /// It has ended, and has no connections.
    Ended,
    /// It takes too long, or has too many to answer.
    Busy,
}

/// Asks one core, by its index.
fn ask(shared: &Shared, core: usize, inquiry: Inquiry) -> Result<Answer, Silence> {
    if shared.cores[core].ended.load(std::sync::atomic::Ordering::SeqCst) {
        return Err(Silence::Ended);
    }
    let answer = shared.ask(core, inquiry).ok_or(Silence::Busy)?;
    answer.recv_timeout(ANSWER_MAX).map_err(|why| match why {
        RecvTimeoutError::Timeout => Silence::Busy,
        RecvTimeoutError::Disconnected => Silence::Ended,
    })
}

/// The page that is asked for. It waits for the cores, a second for each at most. The error is for whoever asks.
pub fn page(shared: &Shared, query: &Query) -> Result<Page, String> {
    let filter = query.filter()?;
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(format!("limit is {limit}: a page has 1 to {PAGE_MAX} connections"));
    }
    let mut at: Cursor = query.cursor.as_deref().map_or(Ok(Cursor::default()), str::parse)?;
    let mut page = Page::default();
    let until = Instant::now() + SEARCH_MAX;
    while let Some(counters::Core { cpu, .. }) = shared.cores.get(at.core) {
        if page.connections.len() >= limit || Instant::now() >= until {
            page.next = Some(at.to_string());
            break;
        }
        let most = limit - page.connections.len();
        let found = match ask(shared, at.core, Inquiry::Find { filter: filter.clone(), from: at.slot, most }) {
            Ok(Answer::Found(found)) => found,
            Ok(Answer::Dismissed(_)) | Err(Silence::Ended) => Found::default(),
            Err(Silence::Busy) => {
                page.silent_cores.push(*cpu);
                Found::default()
            }
        };
        page.connections.extend(found.connections.iter().map(|found| Row::of(found, *cpu)));
        at = match found.next {
            Some(slot) => Cursor { slot, ..at },
            None => Cursor { core: at.core + 1, slot: 0 },
        };
    }
    Ok(page)
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Closes {
    /// At its next gap, with 1012.
    AtGap,
    /// It is being closed.
    Now,
}

/// Has a connection closed: at its gap, or `now`, whatever is under way. The error says why not.
pub fn close(shared: &Shared, number: ConnectionNumber, now: bool) -> Result<Closes, String> {
    let unknown = || format!("there is no connection {number}: `evergate clients` lists those that are there");
    let core = shared.cores.iter().position(|core| core.cpu == number.cpu as usize).ok_or_else(unknown)?;
    let inquiry = Inquiry::Dismiss { slot: number.slot, generation: number.generation, now };
    match ask(shared, core, inquiry) {
        Ok(Answer::Dismissed(Dismissal::AtGap)) => Ok(Closes::AtGap),
        Ok(Answer::Dismissed(Dismissal::Closing)) => Ok(Closes::Now),
        Ok(Answer::Dismissed(Dismissal::Ended)) | Err(Silence::Ended) => {
            Err(format!("connection {number} has ended already"))
        }
        Ok(_) => Err(unknown()),
        Err(Silence::Busy) => Err(format!(
            "core {} has not answered for {} s: it closes connection {number} when it comes to it",
            number.cpu,
            ANSWER_MAX.as_secs()
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
    use std::thread;

    use evergate_proto::clients::census::State;

    use super::*;

    #[test]
    fn a_url_says_who_is_asked_for_and_what_it_says_wrong_is_named() {
        let query = Query::parse("address=10.0.0.0%2F8&state=idle&age_seconds=5&in_flight=2&limit=7&cursor=1.2");
        let query = query.expect("a query");
        let filter = query.filter().expect("a filter");
        assert_eq!((filter.states, filter.age_ms_min, filter.in_flight_min), (States::One(State::Idle), 5_000, 2));
        assert!(filter.address.is_some_and(|net| net.contains([10, 1, 2, 3].into())));
        assert_eq!(Query::parse(""), Ok(Query::default()));
        for (text, part) in
            [("stat=idle", "there are address"), ("limit=x", "no number"), ("age_seconds=-1", "no number")]
        {
            assert!(Query::parse(text).expect_err(text).contains(part), "{text}");
        }
        for (text, part) in [("state=tired", "handshaking"), ("address=10.0.0.0/99", "CIDR")] {
            assert!(Query::parse(text).expect("a query").filter().expect_err(text).contains(part), "{text}");
        }
        let shared = Shared::new(&[0]);
        for (text, part) in [("limit=0", "1 to 1000"), ("limit=1001", "1 to 1000"), ("cursor=x", "none of ours")] {
            assert!(page(&shared, &Query::parse(text).expect("a query")).expect_err(text).contains(part), "{text}");
        }
    }

    #[test]
    fn a_core_that_has_ended_has_no_connections_and_one_that_is_silent_is_named() {
        let shared = Arc::new(Shared::new(&[4, 7]));
        shared.cores[0].ended.store(true, SeqCst);
        let found = page(&shared, &Query::default()).expect("a page");
        assert_eq!(found, Page { silent_cores: vec![7], ..Page::default() });
        let number = |text: &str| text.parse().expect("a number");
        assert!(close(&shared, number("4.0.0"), true).expect_err("it has ended").contains("has ended already"));
        assert!(close(&shared, number("5.0.0"), true).expect_err("no such core").contains("no connection 5.0.0"));
    }

    #[test]
    fn a_page_goes_on_from_core_to_core_until_it_is_full() {
        let shared = Arc::new(Shared::new(&[4, 7]));
        let own = Arc::clone(&shared);
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        // Each core has five slots, and looks at three in one go.
        let core = thread::spawn(move || {
            while !is_over.load(SeqCst) {
                for core in 0..2 {
                    let Some((Inquiry::Find { from, most, .. }, sender)) = own.take_inquiry(core) else { continue };
                    let end = (from + 3.min(most as u32)).min(5);
                    let connections = (from..end).map(connected).collect();
                    let next = (end < 5).then_some(end);
                    sender.send(Answer::Found(Found { connections, next })).expect("somebody asks");
                }
                thread::yield_now();
            }
        });
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let query = Query { limit: Some(4), cursor, ..Query::default() };
            let found = page(&shared, &query).expect("a page");
            assert!(found.connections.len() <= 4 && found.silent_cores.is_empty(), "{found:?}");
            seen.extend(found.connections.into_iter().map(|row| row.connection));
            cursor = found.next;
            if cursor.is_none() {
                break;
            }
        }
        let expected = [4, 7].into_iter().flat_map(|cpu| (0..5).map(move |slot| format!("{cpu}.{slot}.9")));
        over.store(true, SeqCst);
        assert_eq!(seen, expected.collect::<Vec<_>>());
        core.join().expect("the cores");
    }

    fn connected(slot: SlotIndex) -> Connected {
        Connected {
            slot,
            generation: 9,
            address: std::net::IpAddr::from([192, 0, 2, 1]).into(),
            state: State::Idle,
            age_ms: 1,
            requests: 0,
            in_flight: 0,
            sessions: 0,
            backlog: 0,
            undelivered_bytes: 0,
            held_bytes: 0,
            is_dismissed: false,
        }
    }
}
