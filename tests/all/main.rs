//! evergate as clients, services and operators see it: the real binary, a real Redis under `OpenSRF`'s own ACL, clients that are not ours, real
//! signals. Each module is one chapter of the contract; each test's name is a promise of it.

mod activity;
mod address_files;
mod admin;
mod backlog;
mod bad_input;
mod balancers;
mod browser;
mod bus_kinds;
mod bus_loss;
mod bus_places;
mod bytes;
mod call;
mod cancelling;
mod cgroups;
mod cli;
mod closing;
mod conformance;
mod connections;
mod container;
mod control;
mod cores;
mod deadline;
mod demo;
mod descriptors;
mod drain;
mod handover;
mod handshake;
mod heavy;
mod hosts;
mod isolation;
mod limits;
mod listening;
#[cfg(feature = "load")]
mod load;
#[cfg(feature = "load")]
mod load_drains;
#[cfg(feature = "load")]
mod load_tls;
mod logs;
mod metrics;
mod operator;
mod other_domains;
mod page;
mod purity;
mod rates;
mod reading;
mod relaying;
mod second_half;
mod session_order;
mod sessions;
mod signals;
mod slow_readers;
mod streams;
mod support;
mod tuning;
mod units;
mod unix_sockets;
mod websocket;
