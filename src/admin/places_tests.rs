use super::Stage::{Answering, Asking, Silent};
use super::*;

fn loser(stages: &[Stage]) -> Option<u64> {
    least_far(&stages.iter().enumerate().map(|(key, stage)| (key as u64, *stage)).collect::<Vec<_>>())
}

#[test]
fn the_oldest_silent_one_goes_first_but_not_of_a_few() {
    assert_eq!(loser(&[Asking, Answering, Silent, Silent, Asking]), Some(2));
    assert_eq!(loser(&[Answering, Asking, Asking]), Some(1));
    assert_eq!(loser(&[Answering, Answering]), Some(0));
    // One of four or fewer is enough of a crowd; the newcomer among many who take their answers slowly is not.
    assert_eq!(loser(&[Answering, Answering, Silent]), Some(2));
    assert_eq!(loser(&[Answering, Answering, Answering, Silent]), Some(0));
    assert_eq!(loser(&[]), None);
}

/// Fills `places` from these addresses and says who holds one in the end, by the order of coming from 1.
fn fill(most: usize, from: &[&str]) -> Vec<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let _entered = runtime.enter();
    let places = Arc::new(Places::new(most));
    for address in from {
        places.give(address.parse().expect("an address"), |place| {
            // It never runs: it holds its place until it is aborted.
            tokio::spawn(async move { drop(place) }).abort_handle()
        });
    }
    let holders = held(&places.taken).by.keys().copied().collect();
    assert_eq!(places.dropped(), from.len() as u64 - held(&places.taken).by.len() as u64);
    holders
}

#[test]
fn one_address_leaves_a_quarter_to_the_others_and_makes_room_for_them() {
    let one = ["192.0.2.1"; 20];
    assert_eq!(fill(8, &one), [15, 16, 17, 18, 19, 20], "six of eight, the newest");
    let others = [&one[..], &["192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"]].concat();
    assert_eq!(fill(8, &others), [17, 18, 19, 20, 21, 22, 23, 24], "nobody makes room but who holds most");
}

#[test]
fn an_address_that_holds_as_much_as_any_other_makes_room_for_itself() {
    let [a, b, c, d] = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"];
    assert_eq!(fill(4, &[a, b, c, d, d]), [1, 2, 3, 5], "one each");
    assert_eq!(fill(4, &[a, a, b, b, b, b]), [1, 2, 5, 6], "two each");
    assert_eq!(fill(5, &[a, a, b, b, b, a, a]), [3, 4, 5, 6, 7], "they do not take turns at each other's places");
    assert_eq!(fill(4, &[a, a, a, b, b]), [2, 3, 4, 5], "but who holds more makes room");
    assert_eq!(fill(4, &[a, a, b, b, c]), [2, 3, 4, 5], "and who has none gets one");
}

#[test]
fn the_addresses_of_one_network_are_one_and_a_mapped_one_is_what_it_maps() {
    let network = ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:3", "2001:db8::4", "2001:db8:0:1::5"];
    assert_eq!(fill(4, &network), [2, 3, 4, 5]);
    assert_eq!(fill(4, &["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"]), [2, 3, 4]);
}

#[test]
fn where_nobody_holds_more_than_others_the_oldest_silent_one_goes() {
    let many: Vec<String> = (1..=40).map(|n| format!("192.0.2.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(fill(4, &many), [37, 38, 39, 40]);
    assert_eq!(fill(1, &["192.0.2.1", "192.0.2.1"]), [2], "a newcomer always gets a place");
}
