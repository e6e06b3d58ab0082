//! Finding the bytes that matter in JSON text, sixteen or sixty-four at a time. Nothing here judges.
//!
//! Every x86-64 has the vectors that this needs; wide spells them without `unsafe`, and as plain loops elsewhere.

use memchr::memchr2;
use wide::u8x16;

/// Bytes without a stop after which a string is taken for a long one, which memchr's wider vectors search faster.
const LONG: usize = 256;

/// The length of a string that begins with these bytes, where it ends in them and nothing but its closing quote stops
/// at it; `strict`: no control character either.
#[inline]
pub(crate) fn short_string(block: &[u8; 16], strict: bool) -> Option<usize> {
    let block = u8x16::new(*block);
    let quotes = block.simd_eq(u8x16::splat(b'"')).to_bitmask();
    let others = block.simd_eq(u8x16::splat(b'\\'));
    let others = if strict { others | controls(block) } else { others }.to_bitmask();
    // All below the first quote, and that.
    let string = quotes ^ quotes.wrapping_sub(1);
    (quotes != 0 && others & string == 0).then(|| quotes.trailing_zeros() as usize)
}

/// The next quote, backslash or control character from `at` on: all that a strict reader of strings stops at.
#[inline]
pub(crate) fn string_stop(text: &[u8], mut at: usize) -> Option<usize> {
    while let Some(block) = text.get(at..)?.first_chunk::<16>() {
        let block = u8x16::new(*block);
        let stops = (quote_or_backslash(block) | controls(block)).to_bitmask();
        if stops != 0 {
            return Some(at + stops.trailing_zeros() as usize);
        }
        at += 16;
    }
    last_string_stop(text, at)
}

/// The same in the text's last bytes.
#[inline(never)]
fn last_string_stop(text: &[u8], at: usize) -> Option<usize> {
    let stop = text.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
    Some(at + stop)
}

/// How many bytes at the beginning of `text` are printable ASCII and stand for themselves: inside a string all but quotes and
/// backslashes, outside what is neither a space nor structure, colons aside.
#[inline]
pub(crate) fn shown_run(text: &[u8], in_string: bool) -> usize {
    let (blocks, last) = text.as_chunks::<16>();
    for (at, block) in blocks.iter().enumerate() {
        let stops = run_stops(u8x16::new(*block), in_string);
        if stops != 0 {
            return at * 16 + stops.trailing_zeros() as usize;
        }
    }
    let mut block = [0; 16];
    block[..last.len()].copy_from_slice(last);
    text.len() - last.len() + run_stops(u8x16::new(block), in_string).trailing_zeros() as usize
}

/// A bit for each byte that ends such a run; what is not printable does in any case.
#[inline]
fn run_stops(block: u8x16, in_string: bool) -> u32 {
    let shown = block.simd_eq(block.max(u8x16::splat(b' ')).min(u8x16::splat(b'~')));
    let is = |byte| block.simd_eq(u8x16::splat(byte));
    let stops = if in_string {
        is(b'"') | is(b'\\')
    } else {
        let folded = block | u8x16::splat(0x20);
        let brackets = folded.simd_eq(u8x16::splat(b'{')) | folded.simd_eq(u8x16::splat(b'}'));
        is(b' ') | is(b',') | is(b'"') | brackets
    };
    (!shown | stops).to_bitmask()
}

/// Just past the closing quote of the string whose first byte is at `at`, and whether a backslash is in it.
#[inline]
pub(crate) fn string_end(text: &[u8], at: usize) -> Option<(usize, bool)> {
    match text.get(at..)?.first_chunk().and_then(|block| short_string(block, false)) {
        Some(length) => Some((at + length + 1, false)),
        None => far_string_end(text, at),
    }
}

#[inline(never)]
fn far_string_end(text: &[u8], mut at: usize) -> Option<(usize, bool)> {
    let long_at = at.saturating_add(LONG);
    let stop = loop {
        let Some(block) = text.get(at..)?.first_chunk::<16>() else {
            break at + text[at..].iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
        };
        let stops = quote_or_backslash(u8x16::new(*block)).to_bitmask();
        if stops != 0 {
            break at + stops.trailing_zeros() as usize;
        }
        at += 16;
        if at >= long_at {
            break at + memchr2(b'"', b'\\', text.get(at..)?)?;
        }
    };
    if text[stop] == b'"' { Some((stop + 1, false)) } else { escaped_string_end(text, stop) }
}

/// The same from a backslash on.
#[inline(never)]
fn escaped_string_end(text: &[u8], mut at: usize) -> Option<(usize, bool)> {
    let mut escapes = Escapes::default();
    loop {
        let chunk = Chunk::at(text, at)?;
        let quotes = chunk.equal(b'"') & !escapes.next(chunk.equal(b'\\'));
        if quotes != 0 {
            return Some((at + quotes.trailing_zeros() as usize + 1, true));
        }
        at += 64;
    }
}

/// Just past the bracket that closes the container which begins at `start`. A count stands for the stack: which kind of
/// bracket closes is not looked at, and no depth costs memory.
pub(crate) fn container_end(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    let mut depth = 1_usize;
    let mut escapes = Escapes::default();
    // All ones while the chunk before ended in a string.
    let mut inside = 0_u64;
    loop {
        let chunk = Chunk::at(text, at)?;
        let backslashes = chunk.equal(b'\\');
        let before = (escapes, inside);
        let quotes = chunk.equal(b'"') & !escapes.next(backslashes);
        let strings = parity(quotes) ^ inside;
        if backslashes & !strings != 0 {
            // Damaged: outside a string it escapes nothing. Byte by byte, then, which takes it as it is.
            return damaged_container_end(text, at, depth, before);
        }
        inside = 0_u64.wrapping_sub(strings >> 63);
        // `[` and `{` differ in one bit only, as do the others.
        let opens = chunk.equal_but_for_0x20(b'{') & !strings;
        let closes = chunk.equal_but_for_0x20(b'}') & !strings;
        if closes == 0 || (closes.count_ones() as usize) < depth {
            depth = depth + opens.count_ones() as usize - closes.count_ones() as usize;
        } else {
            let mut brackets = opens | closes;
            while brackets != 0 {
                let lowest = brackets & brackets.wrapping_neg();
                if opens & lowest != 0 {
                    depth += 1;
                } else {
                    depth -= 1;
                    if depth == 0 {
                        return Some(at + lowest.trailing_zeros() as usize + 1);
                    }
                }
                brackets ^= lowest;
            }
        }
        at += 64;
    }
}

/// The same byte by byte, `depth` levels deep at `at`.
#[cold]
fn damaged_container_end(
    text: &[u8],
    mut at: usize,
    mut depth: usize,
    (escapes, inside): (Escapes, u64),
) -> Option<usize> {
    if inside != 0 {
        at = string_end(text, at + escapes.carried as usize)?.0;
    }
    loop {
        let byte = *text.get(at)?;
        at += 1;
        match byte {
            b'"' => at = string_end(text, at)?.0,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
}

#[inline]
fn controls(block: u8x16) -> u8x16 {
    block.simd_eq(block.min(u8x16::splat(0x1F)))
}

#[inline]
fn quote_or_backslash(block: u8x16) -> u8x16 {
    block.simd_eq(u8x16::splat(b'"')) | block.simd_eq(u8x16::splat(b'\\'))
}

/// Sixty-four bytes; past the end of the text, spaces.
struct Chunk([u8x16; 4]);

impl Chunk {
    /// None where no text is left.
    #[inline]
    fn at(text: &[u8], at: usize) -> Option<Self> {
        let rest = text.get(at..)?;
        if let Some(chunk) = rest.first_chunk::<64>() {
            return Some(Self::new(chunk));
        }
        Self::last(rest)
    }

    #[inline(never)]
    fn last(rest: &[u8]) -> Option<Self> {
        if rest.is_empty() {
            return None;
        }
        let mut chunk = [b' '; 64];
        chunk[..rest.len()].copy_from_slice(rest);
        Some(Self::new(&chunk))
    }

    #[inline]
    fn new(chunk: &[u8; 64]) -> Self {
        let (blocks, _) = chunk.as_chunks::<16>();
        Self([0, 1, 2, 3].map(|block| u8x16::new(blocks[block])))
    }

    /// A bit for each byte that is `byte`.
    #[inline]
    fn equal(&self, byte: u8) -> u64 {
        self.mask(|block| block.simd_eq(u8x16::splat(byte)))
    }

    /// A bit for each byte that is `byte` when its bit 0x20 is set.
    #[inline]
    fn equal_but_for_0x20(&self, byte: u8) -> u64 {
        self.mask(|block| (block | u8x16::splat(0x20)).simd_eq(u8x16::splat(byte)))
    }

    #[inline]
    fn mask(&self, equal: impl Fn(u8x16) -> u8x16) -> u64 {
        let [a, b, c, d] = self.0.map(|block| u64::from(equal(block).to_bitmask()));
        a | b << 16 | c << 32 | d << 48
    }
}

/// Which bytes backslashes escape, chunk after chunk.
#[derive(Clone, Copy, Default)]
struct Escapes {
    /// 1 where the chunk before ended in a backslash that escapes.
    carried: u64,
}

impl Escapes {
    /// A bit for each byte that is escaped.
    #[inline]
    fn next(&mut self, backslashes: u64) -> u64 {
        let mut escaped = std::mem::take(&mut self.carried);
        let mut left = backslashes & !escaped;
        if left & left << 1 == 0 {
            // Each stands alone, as nearly always.
            self.carried = left >> 63;
            return escaped | left << 1;
        }
        while left != 0 {
            let first = left & left.wrapping_neg();
            escaped |= first << 1;
            self.carried = first >> 63;
            left &= !(first | first << 1);
        }
        escaped
    }
}

/// A bit is set where an odd number of bits of `bits` stands at it or below: from an opening quote to before the closing
/// one.
#[inline]
fn parity(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}
