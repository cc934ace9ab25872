//! [`Ahead`]: where a byte stands in the input ahead, found for many places at a time.

use std::cell::Cell;

use memchr::memchr;

/// What is known of the input that comes next: where one byte stands in a block of it.
///
/// A search for each line alone costs a short line more than all else. Here one look at 64 bytes finds every line's end
/// among them.
///
/// ```text
///   |---------------------- a chunk of input ----------------------|
///   | consumed |--------------------- input -----------------------|
///         |----- block: 64 bytes -----|
///          0010000000001000000010000000   <- hits
/// ```
///
/// Places are counted from the end of the chunk, which stays where it is while the input is consumed. All inputs between
/// two [`Ahead::default`]s must be ends of one chunk, each within the one before.
#[derive(Debug)]
pub(crate) struct Ahead {
    byte: u8,
    /// Where the byte stands in the block: the lowest bit is the block's first place.
    hits: u64,
    /// From the start of the block to the end of the chunk.
    block: usize,
}

impl Default for Ahead {
    /// Nothing is known.
    fn default() -> Self {
        Self { byte: 0, hits: 0, block: usize::MAX }
    }
}

impl Ahead {
    /// Where `byte` stands first in `input`; adds to `searched` how many bytes had to be looked at.
    #[inline(always)]
    pub(crate) fn find(&mut self, byte: u8, input: &[u8], searched: &Cell<u64>) -> Option<usize> {
        loop {
            if self.hits == 0 || self.byte != byte {
                let unseen = if self.byte == byte { self.unseen().min(input.len()) } else { input.len() };
                if unseen == 0 {
                    return None;
                }
                self.byte = byte;
                (self.hits, self.block) = look(byte, &input[input.len() - unseen..]);
                searched.set(searched.get() + (unseen - self.unseen()) as u64);
                if self.hits == 0 {
                    return None;
                }
            }
            let from_end = self.block - self.hits.trailing_zeros() as usize;
            if let Some(at) = input.len().checked_sub(from_end) {
                return Some(at);
            }
            // It was consumed with something else.
            self.pass();
        }
    }

    /// Goes on behind what was found. Either that is consumed before the next search, or nothing is to be known any more.
    #[inline(always)]
    pub(crate) const fn pass(&mut self) {
        self.hits &= self.hits.wrapping_sub(1);
    }

    /// From the end of what has been looked at, which is the block's, to the end of the chunk.
    #[inline(always)]
    const fn unseen(&self) -> usize {
        self.block.saturating_sub(BLOCK)
    }
}

/// Where `byte` stands in the first block of `end`, the end of a chunk, that has it, and from where that block goes to the
/// end of the chunk.
// One call for many lines: it is not to take the registers of the loop that searches. What it returns fits into two.
#[inline(never)]
fn look(byte: u8, end: &[u8]) -> (u64, usize) {
    let (mut rest, mut vain) = (end, 0);
    loop {
        let hits = match rest.first_chunk() {
            Some(block) => places(byte, block),
            None => last_places(byte, end, rest.len()),
        };
        let behind = rest.get(BLOCK..).unwrap_or_default();
        if hits != 0 || behind.is_empty() {
            return (hits, rest.len());
        }
        rest = behind;
        vain += 1;
        if vain == VAIN_BLOCKS {
            vain = 0;
            rest = memchr(byte, rest).map_or(&[], |at| &rest[at..]);
        }
    }
}

/// Where `byte` stands in the last bytes of `end`, `length` of them and fewer than a block.
fn last_places(byte: u8, end: &[u8], length: usize) -> u64 {
    let before = BLOCK - length;
    let places = if let Some(block) = end.last_chunk() {
        places(byte, block)
    } else {
        let mut block = [0; BLOCK];
        block[before..].copy_from_slice(&end[end.len() - length..]);
        places(byte, &block)
    };
    // Of none of them, none is left.
    u32::try_from(before).ok().and_then(|before| places.checked_shr(before)).unwrap_or_default()
}

/// Where `byte` stands in a block, a bit for each place.
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[inline]
fn places(byte: u8, block: &[u8; BLOCK]) -> u64 {
    use safe_arch::{cmp_eq_mask_i8_m128i, load_unaligned_m128i, move_mask_i8_m128i, set_splat_i8_m128i};

    let sought = set_splat_i8_m128i(byte.cast_signed());
    let (quarters, _) = block.as_chunks();
    quarters.iter().rev().fold(0, |places, quarter| {
        let found = move_mask_i8_m128i(cmp_eq_mask_i8_m128i(load_unaligned_m128i(quarter), sought));
        places << 16 | u64::from(found.cast_unsigned())
    })
}

/// As the one for x86-64, in plain words of eight bytes.
#[cfg(not(all(target_arch = "x86_64", target_feature = "sse2")))]
use places_by_words as places;

/// Where `byte` stands in a block, a bit for each place.
#[cfg(any(test, not(all(target_arch = "x86_64", target_feature = "sse2"))))]
fn places_by_words(byte: u8, block: &[u8; BLOCK]) -> u64 {
    let low_bits = u64::from_ne_bytes([0x7f; 8]);
    let (words, _) = block.as_chunks();
    words.iter().rev().fold(0, |places, word| {
        // A byte of `other` is zero where the word has `byte`. No carry leaves its byte.
        let other = u64::from_le_bytes(*word) ^ u64::from_ne_bytes([byte; 8]);
        let differs = ((other & low_bits) + low_bits) | other | low_bits;
        // The eight top bits, moved together.
        places << 8 | (!differs >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
    })
}

/// The bytes that one look takes: as many as a word has bits.
const BLOCK: usize = 64;

/// After so many blocks without a hit the lines are long, and `memchr` is faster: 2, for a line of 80 bytes has its end in
/// one of two.
const VAIN_BLOCKS: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_of_a_block_is_told_by_either_way() {
        for at in 0..BLOCK {
            for other in [0, b'\r', 0x7f, 0x80, 0xff] {
                let mut block = [other; BLOCK];
                block[at] = b'\n';
                assert_eq!(places(b'\n', &block), 1 << at);
                assert_eq!(places(other, &block), !(1 << at));
                assert_eq!(places_by_words(b'\n', &block), 1 << at);
                assert_eq!(places_by_words(other, &block), !(1 << at));
            }
        }
    }

    #[test]
    fn hits_are_found_in_order_wherever_they_stand() {
        for gap in [1, 2, 18, 63, 64, 65, 82, 127, 128, 129, 300, 1000] {
            for length in [0, 1, 63, 64, 65, 200, 4000] {
                let chunk: Vec<u8> = (0..length).map(|i| u8::from(i % gap == gap - 1)).collect();
                for byte in [0, 1] {
                    let mut ahead = Ahead::default();
                    let mut input = &chunk[..];
                    let mut found = Vec::new();
                    while let Some(at) = ahead.find(byte, input, &Cell::new(0)) {
                        found.push(chunk.len() - input.len() + at);
                        input = &input[at + 1..];
                        ahead.pass();
                    }
                    let expected = (0..length).filter(|&i| chunk[i] == byte).collect::<Vec<usize>>();
                    assert_eq!(found, expected, "{gap} {length} {byte}");
                }
            }
        }
    }

    #[test]
    fn what_was_consumed_with_something_else_is_found_no_more() {
        let chunk = b"a.b.c|d.e.f.".repeat(30);
        for step in 1..200 {
            let mut ahead = Ahead::default();
            let mut input = &chunk[..];
            for (turn, byte) in b"..|.".iter().cycle().enumerate() {
                let found = ahead.find(*byte, input, &Cell::new(0));
                assert_eq!(found, memchr(*byte, input), "{step} {turn}");
                let Some(rest) = input.get(step.min(turn * step)..) else { break };
                input = rest;
            }
        }
    }
}
