//! What Redis sends: tokens, popped messages and confirmations are the same however they are cut; what pops answer comes out whole and in
//! order; of what is pushed nothing is lost, doubled or told twice.

use std::collections::BTreeMap;
use std::rc::Rc;

use evergate_proto::redis::inbox::Inbox;
use evergate_proto::redis::outbox::{Answer, Outbox, Push, Ticket};
use evergate_proto::redis::resp::{self, Token};

use crate::cuts;

/// The first byte chooses what the rest is: any bytes, messages to be popped, or messages to be pushed.
pub fn run(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    match kind % 3 {
        0 => any_bytes(rest),
        1 => popped(rest),
        _ => pushed(rest),
    }
}

/// Hands `take` the tokens of a stream that comes in pieces, until one is malformed or not wanted; says whether none was.
fn tokens(pieces: &[&[u8]], mut take: impl FnMut(&Token<'_>) -> bool) -> bool {
    let (mut buffer, mut at) = (Vec::new(), 0);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            assert!(at <= buffer.len());
            let wanted = resp::wanted(&buffer, at);
            match resp::next(&buffer, &mut at) {
                Err(_) => return false,
                Ok(Some(token)) => {
                    if !take(&token) {
                        return false;
                    }
                }
                Ok(None) => {
                    assert!(
                        wanted == 0 || wanted > buffer.len() - at || buffer.len() == at,
                        "all that it wants is here"
                    );
                    break;
                }
            }
        }
    }
    true
}

/// Everything that a stream of any bytes means, as text.
fn meaning(pieces: &[&[u8]]) -> (Vec<String>, bool) {
    let mut said = Vec::new();
    let (mut inbox, mut single) = (Inbox::new("k"), Inbox::without_counts("k"));
    let mut outbox = outbox(&[(0, b"a"), (1, b"b"), (0, b"c")]);
    outbox.delete("d".into());
    for write in [Inbox::write, Inbox::write] {
        write(&mut inbox, &mut Vec::new());
        write(&mut single, &mut Vec::new());
    }
    outbox.write(&mut Vec::new());
    let fine = tokens(pieces, |token| {
        let answers = (inbox.token(token), single.token(token), outbox.answer(token));
        said.push(format!("{token:?} {answers:?} {}", inbox.pop_size()));
        said.len() < 1_000
    });
    (said, fine)
}

fn any_bytes(data: &[u8]) {
    let Some((stream, ends)) = cuts::of(data) else { return };
    assert_eq!(meaning(&cuts::pieces(stream, &ends)), meaning(&[stream]), "cut at {ends:?}");
}

/// The messages are what stands between the zeros; they come by a BLPOP and an LPOP in turn.
fn popped(data: &[u8]) {
    let Some((text, ends)) = cuts::of(data) else { return };
    let messages: Vec<&[u8]> = text.split(|&byte| byte == 0).take(60).collect();
    let mut replies = Vec::new();
    for pair in messages.chunks(4) {
        resp::write_command(&mut replies, &[b"key", pair[0]]);
        match &pair[1..] {
            [] => replies.extend_from_slice(b"*-1\r\n"),
            rest => resp::write_command(&mut replies, rest),
        }
    }
    let ends: Vec<usize> = ends.into_iter().filter(|&end| end < replies.len()).chain([replies.len()]).collect();
    let mut inbox = Inbox::new("key");
    let mut got: Vec<Vec<u8>> = Vec::new();
    inbox.write(&mut Vec::new());
    let fine = tokens(&cuts::pieces(&replies, &ends), |token| {
        inbox.write(&mut Vec::new());
        got.extend(inbox.token(token).expect("the answer of a pop").map(<[u8]>::to_vec));
        true
    });
    assert!(fine && got == messages);
}

fn outbox(messages: &[(u8, &[u8])]) -> Outbox {
    let mut outbox = Outbox::default();
    let keys: Vec<Rc<str>> = (0..4).map(|key| format!("key{key}").into()).collect();
    for (n, &(key, message)) in messages.iter().enumerate() {
        let ticket = Ticket { slot: 0, generation: 0, n: n as u64, push: 0 };
        // The same name may be held twice.
        let held = &keys[usize::from(key % 4)];
        let key = if key & 4 == 0 { Rc::clone(held) } else { Rc::from(&**held) };
        outbox.push(Push { key, message: message.to_vec(), ticket: Some(ticket) });
    }
    outbox
}

/// Each line is a message, whose first byte says the list; the line's last byte, how Redis answers.
fn pushed(data: &[u8]) {
    let lines: Vec<&[u8]> = data.split(|&byte| byte == b'\n').filter(|line| line.len() >= 2).take(60).collect();
    let messages: Vec<(u8, &[u8])> = lines.iter().map(|line| (line[0], &line[1..])).collect();
    let mut outbox = outbox(&messages);
    assert_eq!(outbox.len(), messages.len());
    let mut batch = Vec::new();
    let commands = outbox.write(&mut batch);
    assert_eq!((outbox.unconfirmed(), outbox.len()), (commands, 0));

    let mut words: Vec<Vec<u8>> = Vec::new();
    assert!(tokens(&[&batch], |token| {
        if let Token::Bulk(word) = token {
            words.push(word.to_vec());
        }
        true
    }));
    let mut expected: BTreeMap<String, Vec<&[u8]>> = BTreeMap::new();
    for (key, message) in &messages {
        expected.entry(format!("key{}", key % 4)).or_default().push(message);
    }
    assert_eq!(commands, expected.len());
    assert_eq!(words.len(), messages.len() + 2 * commands);
    let mut rest = &words[..];
    while let [command, key, behind @ ..] = rest {
        assert_eq!(command, b"RPUSH");
        let wanted = expected.remove(std::str::from_utf8(key).expect("ours")).expect("each list once");
        assert_eq!(&behind[..wanted.len()], wanted);
        rest = &behind[wanted.len()..];
    }

    // Some are confirmed, some refused, and then the link breaks.
    let mut told = Vec::new();
    let mut confirmed = 0;
    for line in lines.iter().take(commands) {
        let token = match line[line.len() - 1] % 4 {
            0 => break,
            1 => Token::Error(b"OOM"),
            _ => Token::Integer(1),
        };
        match outbox.answer(&token).expect("a command waits for it") {
            Answer::Done { .. } => confirmed += 1,
            Answer::Refused { tickets, .. } => told.extend(tickets),
            other => panic!("{other:?}"),
        }
    }
    told.extend(outbox.take_unconfirmed());
    assert!(outbox.is_confirmed());
    let mut numbers: Vec<u64> = told.iter().map(|ticket| ticket.n).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), told.len(), "nobody is told twice");
    assert!(told.len() <= messages.len() && (confirmed > 0 || told.len() == messages.len()), "nobody is forgotten");
}
