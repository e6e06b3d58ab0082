//! Pops: what is written, and what the replies mean.

use super::super::inbox::{Inbox, Unexpected};
use super::*;

const KEY: &str = "opensrf:client:gateway:d:h:1:ff";

/// What an LPOP asks for, of the commands that were written.
fn counts(written: &[u8]) -> Vec<String> {
    let bulks: Vec<String> = tokens(&[written])
        .0
        .into_iter()
        .filter_map(|token| if let Owned::Bulk(word) = token { String::from_utf8(word).ok() } else { None })
        .collect();
    bulks.chunks(6).map(|pair| pair[5].clone()).collect()
}

/// Feeds replies that arrive in `chunks` to `inbox`; the messages that came out.
fn feed(inbox: &mut Inbox, chunks: &[&[u8]]) -> Result<Vec<Vec<u8>>, Unexpected> {
    let (mut buffer, mut at, mut messages) = (Vec::new(), 0, Vec::new());
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        while let Some(token) = next(&buffer, &mut at).expect("RESP") {
            messages.extend(inbox.token(&token)?.map(<[u8]>::to_vec));
        }
    }
    Ok(messages)
}

/// A BLPOP's reply and that of the LPOP behind it.
fn pair(first: &str, rest: &[&str]) -> String {
    // A BLPOP's two elements, then an LPOP's nil or array.
    let mut text = format!("*2\r\n${}\r\n{KEY}\r\n${}\r\n{first}\r\n", KEY.len(), first.len());
    text += if rest.is_empty() { "*-1\r\n".to_owned() } else { format!("*{}\r\n", rest.len()) }.as_str();
    text += &rest.iter().map(|message| format!("${}\r\n{message}\r\n", message.len())).collect::<Vec<_>>().concat();
    text
}

fn written() -> Inbox {
    let mut inbox = Inbox::new(KEY);
    inbox.write(&mut Vec::new());
    inbox
}

#[test]
fn pairs_are_queued_ahead_and_written_again_when_few_are_left() {
    let mut inbox = Inbox::new(KEY);
    let mut out = Vec::new();
    assert_eq!(inbox.write(&mut out), 32);
    let pair_text = format!(
        "*3\r\n$5\r\nBLPOP\r\n${0}\r\n{KEY}\r\n$1\r\n0\r\n*3\r\n$4\r\nLPOP\r\n${0}\r\n{KEY}\r\n$2\r\n16\r\n",
        KEY.len()
    );
    assert_eq!(String::from_utf8(out).expect("text"), pair_text.repeat(16));
    let mut out = Vec::new();
    assert_eq!(inbox.write(&mut out), 0);
    for _ in 0..11 {
        feed(&mut inbox, &[pair("m", &[]).as_bytes()]).expect("a pair");
        assert_eq!(inbox.write(&mut out), 0, "most replies cost no write");
    }
    feed(&mut inbox, &[pair("m", &["n"]).as_bytes()]).expect("a pair");
    assert_eq!((inbox.write(&mut out), counts(&out)), (24, vec!["256".to_owned(); 12]));
}

#[test]
fn replies_cut_anywhere_yield_the_same_messages() {
    let stream = pair("one", &["two", "", "{\"four\":\r\n4}"]) + &pair("five", &[]) + "*-1\r\n*0\r\n";
    let whole = feed(&mut written(), &[stream.as_bytes()]).expect("three pairs");
    assert_eq!(whole, [&b"one"[..], b"two", b"", b"{\"four\":\r\n4}", b"five"]);
    for cut in 0..=stream.len() {
        let (first, second) = stream.as_bytes().split_at(cut);
        assert_eq!(feed(&mut written(), &[first, second]).as_ref(), Ok(&whole), "cut at {cut}");
    }
}

#[test]
fn each_element_is_handed_on_as_it_completes() {
    let mut inbox = written();
    let stream = pair("one", &["two", "three"]);
    let cut = stream.find("three").expect("three") + 2;
    assert_eq!(feed(&mut inbox, &[&stream.as_bytes()[..cut]]), Ok(vec![b"one".to_vec(), b"two".to_vec()]));
}

#[test]
fn a_pop_carries_about_half_a_mebibyte_and_at_most_256() {
    let mut inbox = written();
    let small = "s".repeat(400);
    feed(&mut inbox, &[pair(&small, &[&*small; 16]).as_bytes()]).expect("a pair");
    assert_eq!(inbox.pop_size(), 256);
    let large = "l".repeat(5_000_000);
    feed(&mut inbox, &[pair(&large, &[]).as_bytes()]).expect("a pair");
    assert_eq!(inbox.pop_size(), 1, "one large message is enough to be careful");
    for _ in 0..10 {
        feed(&mut inbox, &[pair(&large, &[]).as_bytes()]).expect("a pair");
    }
    let mut out = Vec::new();
    inbox.write(&mut out);
    assert_eq!(counts(&out), ["1"; 12]);
    let middle = "m".repeat(100_000);
    for _ in 0..40 {
        feed(&mut inbox, &[pair(&middle, &[]).as_bytes()]).expect("a pair");
        inbox.write(&mut Vec::new());
    }
    assert_eq!(inbox.pop_size(), 4);
}

#[test]
fn a_pop_that_is_unblocked_from_outside_is_no_refusal() {
    for unblocked in ["*-1\r\n", "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"] {
        let stream = format!("{unblocked}*-1\r\n{}", pair("m", &[]));
        assert_eq!(feed(&mut written(), &[stream.as_bytes()]), Ok(vec![b"m".to_vec()]), "{unblocked}");
    }
    let late = format!("{}-UNBLOCKED x\r\n", &pair("m", &[])[..pair("m", &[]).len() - 5]);
    assert!(feed(&mut written(), &[late.as_bytes()]).is_err(), "an LPOP never blocks");
}

#[test]
fn an_error_of_redis_is_handed_on_in_its_own_words() {
    for before in ["", "*2\r\n", &pair("m", &[])] {
        let stream = format!("{before}-NOPERM this user has no permissions\r\n");
        let refused = feed(&mut written(), &[stream.as_bytes()]);
        assert_eq!(refused, Err(Unexpected::Refused("NOPERM this user has no permissions".to_owned())));
    }
}

#[test]
fn a_reply_of_another_shape_gives_the_link_up() {
    let key = format!("*2\r\n${}\r\n{KEY}\r\n", KEY.len());
    for stream in
        [":1\r\n", "+OK\r\n", "$1\r\nm\r\n", "*3\r\n", "*2\r\n*2\r\n", "*2\r\n$-1\r\n", &format!("{key}$-1\r\n")]
    {
        assert_eq!(feed(&mut written(), &[stream.as_bytes()]), Err(Unexpected::Shape), "{stream:?}");
    }
    let stream = pair("m", &[]).replace("*-1\r\n", "*1\r\n:5\r\n");
    assert_eq!(feed(&mut written(), &[stream.as_bytes()]), Err(Unexpected::Shape));
}

#[test]
fn a_reply_that_nobody_asked_for_gives_the_link_up() {
    assert_eq!(feed(&mut Inbox::new(KEY), &[b"*-1\r\n*-1\r\n"]), Err(Unexpected::Shape));
    let stream = pair("m", &[]).repeat(17);
    assert_eq!(feed(&mut written(), &[stream.as_bytes()]), Err(Unexpected::Shape), "sixteen were written");
}

#[test]
fn a_redis_without_counts_is_asked_by_as_many_blpops_as_make_up_for_it() {
    let mut inbox = Inbox::without_counts(KEY);
    let mut out = Vec::new();
    assert_eq!(inbox.write(&mut out), 512);
    let command = format!("*3\r\n$5\r\nBLPOP\r\n${}\r\n{KEY}\r\n$1\r\n0\r\n", KEY.len());
    assert_eq!(String::from_utf8(out).expect("text"), command.repeat(512));
    let single = |message: &str| format!("*2\r\n${}\r\n{KEY}\r\n${}\r\n{message}\r\n", KEY.len(), message.len());
    let stream = format!("{}*-1\r\n-UNBLOCKED x\r\n{}", single("one"), single("two"));
    assert_eq!(feed(&mut inbox, &[stream.as_bytes()]), Ok(vec![b"one".to_vec(), b"two".to_vec()]));
    assert_eq!(inbox.write(&mut Vec::new()), 0, "most replies cost no write");
    for _ in 0..380 {
        feed(&mut inbox, &[single("m").as_bytes()]).expect("a message");
    }
    assert_eq!(inbox.write(&mut Vec::new()), 384);
}

#[test]
fn large_messages_are_not_all_popped_at_once_without_counts() {
    let mut inbox = Inbox::without_counts(KEY);
    inbox.write(&mut Vec::new());
    let large = "l".repeat(700_000);
    let single = format!("*2\r\n${}\r\n{KEY}\r\n${}\r\n{large}\r\n", KEY.len(), large.len());
    let mut written = 0;
    for _ in 0..512 {
        feed(&mut inbox, &[single.as_bytes()]).expect("a message");
        written += inbox.write(&mut Vec::new());
    }
    assert_eq!(written, 12, "four of the first were left when there were to be sixteen again");
}
