//! What a core keeps for reuse, and what it looks at in a hurry.

use super::*;
use crate::clients::book::Book;
use crate::clients::from_bus::slot_of;

#[test]
fn a_small_book_is_kept_for_the_next_request_and_a_large_one_is_not() {
    let mut reuse = Reuse::default();
    for (conversations, kept) in [(1, 1), (2, 1), (16, 1), (17, 0), (100, 0)] {
        let mut book = Book::default();
        let numbers: Vec<u64> =
            (0..conversations).map(|_| book.open(&mut reuse, "t", b"\"t\"", "opensrf:service:x".into())).collect();
        for n in numbers {
            book.forget_if_over(n);
        }
        book.rest(&mut reuse);
        assert_eq!((reuse.books(), book.owns_heap()), (kept, false), "{conversations}");
    }
    let mut lent: Vec<Book> = (0..1_500).map(|_| Book::default()).collect();
    for book in &mut lent {
        book.open(&mut reuse, "t", b"\"t\"", "opensrf:service:x".into());
    }
    assert_eq!(reuse.books(), 0);
    for book in &mut lent {
        book.forget_if_over(0);
        book.rest(&mut reuse);
    }
    assert_eq!(reuse.books(), 1_024);
}

#[test]
fn what_is_used_is_kept_and_what_is_not_goes_tick_by_tick() {
    let mut reuse = Reuse::default();
    let use_some = |reuse: &mut Reuse, count: usize| {
        let mut lent: Vec<Book> = (0..count).map(|_| Book::default()).collect();
        let opened: Vec<u64> =
            lent.iter_mut().map(|book| book.open(reuse, "t", b"\"t\"", "opensrf:service:x".into())).collect();
        for (book, n) in lent.iter_mut().zip(opened) {
            book.forget_if_over(n);
            book.rest(reuse);
        }
    };
    for _ in 0..10 {
        use_some(&mut reuse, 300);
        reuse.tick();
    }
    assert_eq!(reuse.books(), 300, "all of them are used in each tick");
    for _ in 0..12 {
        use_some(&mut reuse, 100);
        reuse.tick();
    }
    assert!((100..110).contains(&reuse.books()), "{}", reuse.books());
    (0..12).for_each(|_| reuse.tick());
    assert_eq!(reuse.books(), 16, "a core at rest keeps some");
}

#[test]
fn the_slot_of_a_bus_message_is_found_at_a_glance() {
    let thread = memchr::memmem::Finder::new(br#""thread":""#);
    let mut near = 0;
    let mut of = |text: &str| slot_of(&thread, text.as_bytes(), &mut near);
    assert_eq!(of(r#"{"to":"x","thread":"1907.3.5:t","body":[]}"#), Some(1907));
    assert_eq!(of(r#"{"to":"x","thread":"12.3.5:t","body":[]}"#), Some(12));
    assert_eq!(of(r#"{"thread":"0.0.0:t"}"#), Some(0));
    assert_eq!(of(r#"{"thread":"65.1.0:t"}"#), Some(65));
    assert_eq!(of(&format!(r#"{{"body":"{}","thread":"7.0.0:t"}}"#, "x".repeat(600))), None);
    assert_eq!(of("{}"), None);
    assert_eq!(of(r#"{"to":"x","thread":""#), Some(0));
}
