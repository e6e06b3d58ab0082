use std::net::TcpListener;

use socket2::{Domain, Socket, Type};

use super::*;
use crate::config::{Inputs, Purpose, load};

fn config() -> Config {
    load(Inputs::none(Purpose::Demo)).expect("the defaults").config
}

fn failed(finding: &Finding) -> bool {
    matches!(finding.outcome, Outcome::Fail { .. })
}

fn clues(release: &str, disabled: Option<u32>, seccomp: bool) -> Clues {
    Clues { release: release.to_owned(), disabled, seccomp }
}

#[test]
fn kernels_before_6_1_fail_and_later_ones_pass() {
    for old in ["5.15.0-100-generic", "6.0.19", "", "x", "4.18.0-553.el8"] {
        assert!(failed(&kernel(old)), "{old}");
    }
    for new in ["6.1.0-18-amd64", "6.18.44", "7.0"] {
        assert!(!failed(&kernel(new)), "{new}");
    }
}

#[test]
fn each_cause_of_a_refused_ring_is_told_apart() {
    let cases = [
        (Errno::EPERM, clues("6.8.0", Some(2), false), "kernel.io_uring_disabled=2"),
        (Errno::EPERM, clues("6.8.0", Some(1), true), "kernel.io_uring_disabled=1"),
        (Errno::EPERM, clues("6.8.0", Some(0), true), "seccomp"),
        (Errno::ENOSYS, clues("6.8.0", Some(0), true), "seccomp"),
        (Errno::ENOSYS, clues("6.8.0", None, false), "CONFIG_IO_URING"),
        (Errno::EINVAL, clues("5.15.0", None, false), "6.1 or later"),
        (Errno::ENOSYS, clues("4.18.0", None, false), "6.1 or later"),
        (Errno::EINVAL, clues("6.8.0", Some(0), false), "sandbox"),
        (Errno::EACCES, clues("6.8.0", Some(0), false), "SELinux"),
        (Errno::ENOMEM, clues("6.8.0", Some(0), false), "LimitMEMLOCK"),
    ];
    for (errno, clues, expected) in cases {
        let found = ring(Err(errno), &clues);
        let Outcome::Fail { remedy } = &found.outcome else { panic!("{errno} passes") };
        assert!(format!("{} {remedy}", found.text).contains(expected), "{errno} {clues:?}: {} {remedy}", found.text);
    }
    assert_eq!(ring(Ok(()), &Clues::default()).outcome, Outcome::Ok);
}

#[test]
fn descriptors_are_counted_with_cores_links_the_admin_page_and_a_reserve() {
    let two = vec!["a".into(), "b".into()];
    let config = Config { clients_max: 1_000, cores: vec![0, 1], domains: two, admin: None, ..config() };
    // 1,000 clients, 2 cores of 6 with a further link each, 13 of the process, 32 for refusals, 32 to spare.
    assert!(!failed(&descriptors_suffice(&config, 100, 1_091)));
    assert!(failed(&descriptors_suffice(&config, 100, 1_090)));
    // 5 of the admin page, and 64 connections to it.
    let config = Config { admin: Some(([127, 0, 0, 1], 1).into()), ..config };
    assert!(!failed(&descriptors_suffice(&config, 100, 1_160)));
    assert!(failed(&descriptors_suffice(&config, 100, 1_159)));
}

#[test]
fn rings_beyond_the_limit_of_locked_memory_are_a_warning() {
    let warned = |cores, limit| locked_memory_suffices(cores, limit).outcome != Outcome::Ok;
    // 212 KiB each, and as much for a successor.
    assert!(!warned(2, 4 * 212 * 1_024) && warned(2, 4 * 212 * 1_024 - 1));
    assert!(!warned(19, 8 << 20) && warned(20, 8 << 20) && !warned(1_000, u64::MAX));
}

#[test]
fn a_cpu_that_is_not_allowed_fails() {
    let config = Config { cores: vec![0, 5], ..config() };
    assert!(failed(&cores_allowed(&config, &[0, 1])));
    assert!(!failed(&cores_allowed(&config, &[0, 1, 5])));
}

#[test]
fn a_port_that_somebody_listens_on_fails_with_or_without_sharing() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    assert!(failed(&port("listen", address, false)));
    assert!(failed(&port("listen", address, true)), "the listener does not share");
    drop(listener);
    assert!(!failed(&port("listen", address, false)));
}

#[test]
fn a_shared_port_is_no_failure_where_sharing_is_asked_for() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_port(true).expect("SO_REUSEPORT");
    socket.set_reuse_address(true).expect("SO_REUSEADDR");
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().expect("an address").into()).expect("a port");
    socket.listen(8).expect("a listener");
    let address = socket.local_addr().expect("its address").as_socket().expect("an IP address");
    assert!(!failed(&port("listen", address, true)));
    assert!(failed(&port("listen", address, false)));
}

#[test]
fn an_address_of_another_host_fails() {
    assert!(failed(&port("listen", "192.0.2.1:7682".parse().expect("an address"), false)));
}
