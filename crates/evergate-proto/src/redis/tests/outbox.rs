//! Batches of RPUSHes, their confirmations, and what becomes of those that have none.

use super::super::outbox::{Answer, Outbox, Push, Ticket};
use super::*;

fn ticket(n: u64) -> Ticket {
    Ticket { slot: 1, generation: 2, n, push: 3 }
}

fn push(key: &str, message: &str, n: u64) -> Push {
    Push { key: key.into(), message: message.as_bytes().to_vec(), ticket: (n > 0).then(|| ticket(n)) }
}

/// Redis has `messages` more in a list.
fn done(list: &str, messages: u64, length: u64) -> Answer {
    Answer::Done { list: list.into(), messages, length }
}

/// The commands of a batch, each as its words.
fn commands(written: &[u8]) -> Vec<Vec<String>> {
    let mut commands: Vec<Vec<String>> = Vec::new();
    for token in tokens(&[written]).0 {
        match token {
            Owned::Array(_) => commands.push(Vec::new()),
            Owned::Bulk(word) => {
                commands.last_mut().expect("an array first").push(String::from_utf8(word).expect("text"));
            }
            other => panic!("{other:?}"),
        }
    }
    commands
}

fn write(outbox: &mut Outbox) -> Vec<Vec<String>> {
    let mut out = Vec::new();
    let announced = outbox.write(&mut out);
    let commands = commands(&out);
    assert_eq!(announced, commands.len());
    commands
}

#[test]
fn a_batch_has_one_rpush_for_each_list_with_its_messages_in_order() {
    let mut outbox = Outbox::default();
    for (key, message) in [("router", "1"), ("worker", "2"), ("router", "3"), ("router", ""), ("other", "5")] {
        outbox.push(push(key, message, 9));
    }
    outbox.delete("probe".into());
    assert_eq!((outbox.len(), outbox.bytes(), outbox.is_empty()), (5, 4, false));
    let batch = write(&mut outbox);
    assert_eq!(
        batch,
        [
            vec!["RPUSH", "router", "1", "3", ""],
            vec!["RPUSH", "worker", "2"],
            vec!["RPUSH", "other", "5"],
            vec!["DEL", "probe"]
        ]
    );
    assert_eq!((outbox.len(), outbox.bytes(), outbox.is_empty(), outbox.is_confirmed()), (0, 4, true, false));
    outbox.written();
    assert_eq!(outbox.bytes(), 0, "what the kernel has is not held here");
}

#[test]
fn nothing_is_ever_written_twice() {
    let mut outbox = Outbox::default();
    outbox.push(push("a", "1", 1));
    assert_eq!(write(&mut outbox).len(), 1);
    assert_eq!(write(&mut outbox).len(), 0);
    assert_eq!(outbox.take_unconfirmed(), [ticket(1)]);
    assert_eq!((write(&mut outbox).len(), outbox.take_unconfirmed().len(), outbox.take_unsent().len()), (0, 0, 0));
    assert!(outbox.is_confirmed());
}

#[test]
fn an_integer_confirms_and_an_error_refuses_the_oldest_command() {
    let mut outbox = Outbox::default();
    outbox.push(push("a", "1", 1));
    outbox.push(push("b", "2", 2));
    outbox.push(push("a", "3", 3));
    outbox.push(push("c", "4", 0));
    outbox.delete("d".into());
    write(&mut outbox);
    assert_eq!(outbox.answer(&Token::Integer(2)), Some(done("a", 2, 2)));
    let refused =
        |list: &str, tickets, text: &str| Answer::Refused { list: list.into(), tickets, text: text.to_owned() };
    assert_eq!(outbox.answer(&Token::Error(b"NOPERM \xff")), Some(refused("b", vec![ticket(2)], "NOPERM \u{fffd}")));
    assert_eq!(outbox.answer(&Token::Error(b"OOM")), Some(refused("c", vec![], "OOM")));
    assert_eq!(outbox.answer(&Token::Error(b"NOPERM")), Some(Answer::NotDeleted("NOPERM".to_owned())));
    assert!(outbox.is_confirmed());
}

#[test]
fn a_list_is_asked_about_once_at_a_time_behind_what_is_pushed() {
    let mut outbox = Outbox::default();
    outbox.push(push("a", "1", 1));
    outbox.ask("a".into());
    outbox.ask("a".into());
    assert!(!outbox.is_asking());
    let mut out = Vec::new();
    assert_eq!(outbox.write(&mut out), 2);
    assert!(out.ends_with(b"*3\r\n$4\r\nLPOP\r\n$1\r\na\r\n$1\r\n0\r\n"), "{}", String::from_utf8_lossy(&out));
    outbox.ask("a".into());
    assert!(outbox.is_empty() && outbox.is_asking() && !outbox.is_confirmed());
    assert_eq!(outbox.answer(&Token::Integer(1)), Some(done("a", 1, 1)));
    assert_eq!(outbox.answer(&Token::Array(0)), Some(Answer::Asked(false)));
    for (token, empty) in [(Token::Nil, true), (Token::Error(b"ERR"), true), (Token::Array(0), false)] {
        outbox.ask("a".into());
        assert!(!outbox.is_empty());
        write(&mut outbox);
        assert_eq!(outbox.answer(&token), Some(Answer::Asked(empty)));
    }
    outbox.ask("a".into());
    write(&mut outbox);
    assert_eq!(outbox.answer(&Token::Array(1)), None);
    assert!(outbox.take_unconfirmed().is_empty() && !outbox.is_asking());
    outbox.ask("a".into());
    assert!(outbox.take_unsent().is_empty() && outbox.is_empty());
}

#[test]
fn a_reply_of_another_shape_or_too_many_gives_the_link_up_and_loses_no_ticket() {
    let mut outbox = Outbox::default();
    assert_eq!(outbox.answer(&Token::Integer(1)), None);
    outbox.push(push("a", "1", 1));
    write(&mut outbox);
    for token in [Token::Nil, Token::Array(1), Token::Bulk(b"1"), Token::Simple(b"OK")] {
        assert_eq!(outbox.answer(&token), None, "{token:?}");
    }
    assert_eq!(outbox.take_unconfirmed(), [ticket(1)]);
}

#[test]
fn what_was_written_and_what_was_not_are_told_apart() {
    let mut outbox = Outbox::default();
    for n in 1..=3 {
        outbox.push(push("a", "m", n));
    }
    outbox.push(push("b", "m", 4));
    write(&mut outbox);
    outbox.written();
    outbox.push(push("a", "m", 5));
    outbox.push(push("a", "m", 0));
    outbox.delete("d".into());
    assert_eq!(outbox.answer(&Token::Integer(3)), Some(done("a", 3, 3)));
    assert_eq!(outbox.take_unconfirmed(), [ticket(4)]);
    assert_eq!(outbox.take_unsent(), [ticket(5)]);
    assert_eq!((outbox.bytes(), outbox.is_empty(), write(&mut outbox).len()), (0, true, 0));
}
