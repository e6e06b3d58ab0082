//! Who is connected: the clients of a core, a bounded number of slots at a time, as `/connections` and `evergate clients` show them.

use super::client::{Class, Client, Stage};
use super::output::SlotIndex;
use super::table::Clients;
use crate::websocket::net::{Address, Net};

/// Slots that are looked at in one go: a turn of the core is spent on no more.
pub const SLOTS_MAX: u32 = if cfg!(feature = "simulator") { 4 } else { 256 };

/// Where a connection stands. The names are those of `/status`, where it counts the open ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its handshake has not ended.
    Handshaking,
    /// It has reply bytes that it has not acknowledged.
    Sending,
    /// Something of its is pending.
    WaitingForReplies,
    /// What it sent waits until there is room.
    WaitingForRoom,
    /// It has a session, and nothing pending.
    InStatefulSession,
    /// None of these.
    Idle,
    /// Our Close is on its way, or it is being given up.
    Closing,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Handshaking,
        Self::Sending,
        Self::WaitingForReplies,
        Self::WaitingForRoom,
        Self::InStatefulSession,
        Self::Idle,
        Self::Closing,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Handshaking => "handshaking",
            Self::Sending => "sending",
            Self::WaitingForReplies => "waiting_for_replies",
            Self::WaitingForRoom => "waiting_for_room",
            Self::InStatefulSession => "in_stateful_session",
            Self::Idle => "idle",
            Self::Closing => "closing",
        }
    }

    fn of(client: &Client) -> Self {
        match (&client.stage, client.class()) {
            (Stage::ProxyHeader(_) | Stage::Handshake(_), _) => Self::Handshaking,
            (_, Some(Class::Sending)) => Self::Sending,
            (_, Some(Class::Waiting)) => Self::WaitingForReplies,
            (_, Some(Class::WaitingForRoom)) => Self::WaitingForRoom,
            (_, Some(Class::Session)) => Self::InStatefulSession,
            (_, Some(Class::Idle)) => Self::Idle,
            (_, None) => Self::Closing,
        }
    }
}

/// Some of the states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum States {
    /// All of them.
    Any,
    /// Those of open connections: handshake done, not closing.
    Open,
    /// This one.
    One(State),
}

impl States {
    /// The words for them, for errors.
    pub fn names() -> String {
        let names: Vec<&str> = State::ALL.iter().map(|state| state.name()).collect();
        format!("open, {}", names.join(", "))
    }

    /// What a word stands for: `open`, or the name of a state.
    pub fn named(name: &str) -> Option<Self> {
        let one = || State::ALL.into_iter().find(|state| state.name() == name).map(Self::One);
        if name == "open" { Some(Self::Open) } else { one() }
    }

    fn hold(self, state: State) -> bool {
        match self {
            Self::Any => true,
            Self::Open => !matches!(state, State::Handshaking | State::Closing),
            Self::One(one) => one == state,
        }
    }
}

/// Which connections are asked for: those for which all of this holds.
#[derive(Clone, Debug)]
pub struct Filter {
    /// Its address lies in this network.
    pub address: Option<Net>,
    /// Its state is one of these.
    pub states: States,
    /// It was accepted so long ago at least, ms.
    pub age_ms_min: u64,
    /// It has so many requests in flight at least.
    pub in_flight_min: usize,
}

impl Filter {
    /// Lets all of them through.
    pub const ALL: Self = Self { address: None, states: States::Any, age_ms_min: 0, in_flight_min: 0 };

    fn admits(&self, connection: &Connected) -> bool {
        self.address.is_none_or(|net| matches!(connection.address, Address::Ip(address) if net.contains(address)))
            && self.states.hold(connection.state)
            && connection.age_ms >= self.age_ms_min
            && connection.in_flight >= self.in_flight_min
    }
}

/// What is known of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Where it stands in the core's table.
    pub slot: SlotIndex,
    /// Which of those that have had the slot.
    pub generation: u32,
    /// Whence it comes, as far as is known.
    pub address: Address,
    /// Where it stands.
    pub state: State,
    /// Since it was accepted, ms.
    pub age_ms: u64,
    /// REQUESTs relayed so far.
    pub requests: u32,
    /// Requests and connects that wait for their replies.
    pub in_flight: usize,
    /// Sessions.
    pub sessions: usize,
    /// Envelopes of its that wait for their turn.
    pub backlog: usize,
    /// Reply bytes that are known to be on their way to it; 0 unless its state says so, too.
    pub undelivered_bytes: u64,
    /// Bytes held for it in the gateway's own buffers.
    pub held_bytes: usize,
    /// An operator has asked for its end, which comes at its next gap.
    pub is_dismissed: bool,
}

/// What was found in some slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// By their slots.
    pub connections: Vec<Connected>,
    /// The slot to go on at; none: those were all.
    pub next: Option<SlotIndex>,
}

impl Clients {
    /// Looks at [`SLOTS_MAX`] slots from `from` on, as far as `most` are not found before.
    pub fn find(&self, filter: &Filter, from: SlotIndex, most: usize) -> Found {
        let end = from.saturating_add(SLOTS_MAX).min(self.slots.len() as SlotIndex);
        let mut found = Found::default();
        for slot in from..end {
            if found.connections.len() >= most {
                found.next = Some(slot);
                return found;
            }
            let connected = self.client(slot).map(|client| client.connected(self.context.now_ms));
            found.connections.extend(connected.filter(|connected| filter.admits(connected)));
        }
        found.next = (end < self.slots.len() as SlotIndex).then_some(end);
        found
    }
}

impl Client {
    fn connected(&self, now_ms: u64) -> Connected {
        Connected {
            slot: self.slot(),
            generation: self.generation(),
            address: self.address(),
            state: State::of(self),
            age_ms: now_ms.saturating_sub(self.times.accepted.ms()),
            requests: self.requests(),
            in_flight: self.book.pending(),
            sessions: self.book.sessions(),
            backlog: self.book.backlog(),
            undelivered_bytes: self.outbound.sending_bytes(),
            held_bytes: self.bytes(),
            is_dismissed: self.is_dismissed(),
        }
    }
}
