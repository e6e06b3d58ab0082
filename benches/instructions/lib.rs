//! The pure half of evergate, compiled alone.

// In a macro, where rustfmt does not follow them.
macro_rules! product {
    ($($path:literal $name:ident;)+) => { $(
        #[path = $path]
        pub mod $name;
    )+ };
}
pub mod bus;
product! {
    "../../src/counters.rs" counters;
    "../../src/drain.rs" drain;
    "../../src/near.rs" near;
    "../../src/opensrf/mod.rs" opensrf;
    "../../src/session/mod.rs" session;
    "../../src/websocket/mod.rs" websocket;
}
