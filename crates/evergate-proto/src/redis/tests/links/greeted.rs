//! Who answers where Redis ought to: what it says at the greeting, and what it is called.

use super::*;

#[test]
fn what_answers_and_is_no_redis_is_called_so() {
    for (answer, what) in [
        ("HTTP/1.1 400 Bad Request\r\n", "it is an HTTP server"),
        ("<?xml version='1.0'?>", "it looks like ejabberd"),
        ("+OK\r\n", "what answers there is no Redis"),
        ("$x\r\n", "what answers there is no Redis"),
    ] {
        let mut world = World::new();
        world.connects(PUSH);
        world.greets(PUSH, answer);
        assert!(world.failures()[0].contains(what), "{answer}: {:?}", world.news);
    }
}

#[test]
fn before_the_account_is_accepted_nobody_is_listened_to_for_more_than_a_short_answer() {
    let long = "x".repeat(70_000);
    for (said, what) in [
        ("$536870912\r\nx".to_owned(), "claims a long string"),
        ("*6\r\n$6\r\nserver\r\n$536870912\r\nx".to_owned(), "claims one inside what begins well"),
        ("*1048576\r\n".to_owned(), "claims a long array"),
        ("*22000\r\n".to_owned(), "claims one that cannot be short enough"),
        ("*2\r\n".repeat(14_000), "goes on for ever, array in array"),
        (format!("*20000\r\n{}", ":1\r\n".repeat(15_000)), "says a lot, bit by bit"),
        (format!("{HELLO}$536870912\r\nx"), "claims it behind the account"),
        (format!("+{long}"), "says one long line"),
    ] {
        let mut world = World::new();
        world.connects(POP);
        world.written(POP);
        let generation = world.links.generation(POP);
        for piece in said.as_bytes().chunks(4_096) {
            if world.links.generation(POP) == generation {
                world.hears(POP, std::str::from_utf8(piece).expect("ASCII"));
                assert!(world.links.missing(POP) <= 64 * 1024, "{what}");
            }
        }
        assert_ne!(world.links.generation(POP), generation, "{what}");
        let failure = world.failures().concat();
        assert!(failure.contains("is no Redis") && failure.contains("bus_domain_address"), "{what}: {failure}");
    }
}

#[test]
fn a_port_that_is_greeted_by_tls_and_hangs_up_or_is_silent_is_said_to_speak_none() {
    for trouble in [Some(Trouble::Closed), Some(Trouble::Host(io::ErrorKind::ConnectionReset.into())), None] {
        for reached in [true, false] {
            let mut world = World::new();
            let generation = world.attempt(PUSH);
            if reached {
                world.links.reached(PUSH, generation);
            }
            match &trouble {
                Some(trouble) => world.links.broke(&mut world.clients, PUSH, generation, trouble),
                None => world.passes(5_000),
            }
            world.settle();
            let failures = world.failures();
            let is_told = |text: &&str| text.starts_with("TLS: ") && text.contains("tls-port");
            assert_eq!(failures.iter().any(is_told), reached, "{failures:?}");
        }
    }
}

#[test]
fn a_port_that_hangs_up_on_a_plain_greeting_is_said_to_want_tls_unless_something_tells_otherwise() {
    let ended = |reached, port, heard, trouble| {
        let mut world = World::new();
        let generation = world.attempt(PUSH);
        if reached {
            world.links.reached(PUSH, generation);
        }
        world.links.connected(&mut world.clients, PUSH, generation, Ok(port));
        world.written(PUSH);
        if heard {
            world.hears(PUSH, "*4\r\n");
        }
        world.links.broke(&mut world.clients, PUSH, generation, &trouble);
        world.settle();
        world.failures().concat()
    };
    let reset = || Trouble::Host(io::ErrorKind::ConnectionReset.into());
    for trouble in [Trouble::Closed, reset()] {
        let failure = ended(false, Some(6380), false, trouble);
        assert!(failure.contains("bus_domain_address as rediss://"), "{failure}");
    }
    assert_eq!(ended(true, Some(6380), false, Trouble::Closed), "Redis closed the connection", "it does speak TLS");
    assert_eq!(ended(false, None, false, Trouble::Closed), "Redis closed the connection", "no Unix socket wants TLS");
    assert_eq!(ended(false, Some(6380), true, Trouble::Closed), "Redis closed the connection", "it has said something");
    assert_eq!(ended(false, Some(6380), false, Trouble::TimedOut), "timed out", "it may be busy");
}

#[test]
fn a_redis_with_many_modules_is_a_redis_and_of_a_long_error_a_line_is_shown() {
    let module = "*4\r\n$4\r\nname\r\n$6\r\nsearch\r\n$4\r\npath\r\n$9\r\n/modules/\r\n".repeat(500);
    let hello = format!("*4\r\n$2\r\nid\r\n:7\r\n$7\r\nmodules\r\n*500\r\n{module}");
    let mut world = World::new();
    world.connects(POP);
    world.written(POP);
    format!("{hello}*-1\r\n").as_bytes().chunks(997).for_each(|piece| {
        world.hears(POP, std::str::from_utf8(piece).expect("ASCII"));
    });
    assert_eq!(world.news, [BusNews::Opened { domain: 0, half: Half::Pop }]);
    world.connects(PUSH);
    world.greets(PUSH, &format!("-NOAUTH {}\r\n", "x".repeat(50_000)));
    let failure = world.failures().concat();
    assert!(failure.contains("NOAUTH xxx") && failure.len() < 1_000, "{failure}");
}

#[test]
fn a_redis_that_is_too_old_for_accounts_and_one_that_is_too_old_for_counts_are_told_apart() {
    let mut world = World::new();
    world.connects(PUSH);
    world.greets(PUSH, "-ERR unknown command `HELLO`\r\n");
    assert!(world.failures()[0].contains("older than 6.0"), "{:?}", world.news);
    let mut world = World::new();
    world.connects(POP);
    world.greets(POP, &format!("{HELLO}-ERR wrong number of arguments for 'lpop' command\r\n"));
    assert_eq!(world.news, [BusNews::Opened { domain: 0, half: Half::Pop }, BusNews::LacksCounts { domain: 0 }]);
    let pops = world.written(POP);
    assert!(pops.contains("BLPOP") && !pops.contains("$4\r\nLPOP"), "{pops}");
}
