//! Where a stream is cut: the fuzzer's first two bytes say it, the rest is the stream.

/// The stream, and where it is cut: ascending, the end included.
pub fn of(data: &[u8]) -> Option<(&[u8], Vec<usize>)> {
    let (&[kind, seed], stream) = data.split_first_chunk()?;
    let mut cuts: Vec<usize> = match kind % 4 {
        0 => (0..=stream.len()).collect(),
        1 => vec![usize::from(seed).min(stream.len())],
        2 => (0..stream.len()).step_by(usize::from(seed) + 1).collect(),
        _ => {
            let mut state = u32::from(seed) + 1;
            let next = |at: &usize| {
                // A small linear congruence: the same cuts for the same input.
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                Some(at + 1 + (state >> 24) as usize % 40)
            };
            std::iter::successors(Some(0), next).take_while(|&at| at < stream.len()).collect()
        }
    };
    cuts.push(stream.len());
    Some((stream, cuts))
}

/// The pieces between the cuts.
pub fn pieces<'a>(stream: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut from = 0;
    let piece = |&to: &usize| &stream[std::mem::replace(&mut from, to)..to];
    cuts.iter().map(piece).collect()
}
