//! However a stream is cut, its events are the same; and whatever the bytes, nothing panics and memory is bounded.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{FIN, Owned, client_frame, decode};

/// A stream with every kind of frame, length form and interleaving, ending in a Close.
fn stream() -> (Vec<u8>, Vec<Owned>) {
    let long = "é".repeat(200);
    let bytes = [
        client_frame(FIN | 0x1, b"{}"),
        client_frame(FIN | 0x2, long.as_bytes()),
        client_frame(FIN | 0x9, b""),
        client_frame(0x1, &long.as_bytes()[..201]),
        client_frame(FIN | 0x9, b"between"),
        client_frame(0x0, b""),
        client_frame(FIN | 0xa, b"pong"),
        client_frame(FIN, &long.as_bytes()[201..]),
        client_frame(FIN | 0x1, b""),
        client_frame(0x1, b""),
        client_frame(FIN, b""),
        client_frame(FIN | 0x8, b"\x03\xe8bye"),
    ]
    .concat();
    let message = |text: &str| Owned::Message(text.into());
    let events = vec![
        message("{}"),
        Owned::Binary(long.clone().into()),
        Owned::Ping(vec![]),
        Owned::Ping(b"between".to_vec()),
        Owned::Pong,
        message(&long),
        message(""),
        message(""),
        Owned::Close(Some(1000), "bye".into()),
    ];
    (bytes, events)
}

const MAX: usize = 1000;

#[test]
fn every_single_cut_gives_the_same_events() {
    let (bytes, events) = stream();
    for cut in 0..=bytes.len() {
        let (a, b) = bytes.split_at(cut);
        assert_eq!(decode(&[a, b], MAX).0, events, "cut at {cut}");
    }
}

#[test]
fn byte_by_byte_and_every_chunk_size_give_the_same_events() {
    let (bytes, events) = stream();
    for size in 1..40 {
        let chunks: Vec<_> = bytes.chunks(size).collect();
        assert_eq!(decode(&chunks, MAX).0, events, "chunks of {size}");
    }
}

#[test]
fn a_64_bit_length_survives_every_cut_of_its_header() {
    let payload = vec![b'x'; 70_000];
    let bytes = client_frame(FIN | 0x1, &payload);
    for cut in 0..20 {
        let (a, b) = bytes.split_at(cut);
        assert_eq!(decode(&[a, b], 100_000).0, [Owned::Message(payload.clone())]);
    }
}

/// `bytes` cut into chunks at random places.
fn cut<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// A frame that may break any rule, more often none.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop::sample::select(vec![0u8, 0, 1, 1, 2, 8, 9, 10]);
    let valid = (any::<bool>(), opcode).prop_map(|(fin, opcode)| if fin { FIN | opcode } else { opcode });
    let first = prop_oneof![9 => valid, 1 => any::<u8>()];
    let payload = prop_oneof![9 => "[a-zé€]{0,100}".prop_map(String::into_bytes), 1 => vec(any::<u8>(), 0..200)];
    (first, payload).prop_map(|(first, payload)| client_frame(first, &payload))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_cuts_of_a_good_stream_give_the_same_events(cuts in vec(any::<prop::sample::Index>(), 0..40)) {
        let (bytes, events) = stream();
        prop_assert_eq!(decode(&cut(&bytes, &cuts), MAX).0, events);
    }

    #[test]
    fn random_cuts_of_any_frames_give_the_same_events_and_verdict(
        frames in vec(frame(), 0..12),
        cuts in vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let bytes = frames.concat();
        let (events, violation, decoder) = decode(&[&bytes], 300);
        let (cut_events, cut_violation, cut_decoder) = decode(&cut(&bytes, &cuts), 300);
        prop_assert_eq!((events, violation), (cut_events, cut_violation));
        prop_assert_eq!(violation.is_some() || decoder.is_clean(), violation.is_some() || cut_decoder.is_clean());
    }

    /// `decode` checks the bound at every step.
    #[test]
    fn arbitrary_bytes_never_panic_and_memory_is_bounded(
        chunks in vec(vec(any::<u8>(), 0..300), 0..20),
        message_bytes_max in 0..2000usize,
    ) {
        let chunks: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
        decode(&chunks, message_bytes_max);
    }

    /// Arbitrary payloads behind valid headers, so that gathering is reached.
    #[test]
    fn fragments_without_end_stay_within_the_limit(
        sizes in vec(0..400usize, 0..40),
        message_bytes_max in 0..4000usize,
    ) {
        let mut first = 0x1;
        let stream: Vec<u8> = sizes.iter().flat_map(|&size| {
            client_frame(std::mem::replace(&mut first, 0), &vec![b'x'; size])
        }).collect();
        let chunks: Vec<_> = stream.chunks(97).collect();
        let (_, violation, _) = decode(&chunks, message_bytes_max);
        prop_assert_eq!(violation.map(|v| v.code), (sizes.iter().sum::<usize>() > message_bytes_max).then_some(1009));
    }
}
