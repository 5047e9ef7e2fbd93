//! Counting, finding and combining bits.

use std::ops::Range;

use bytes::Bytes;

use super::{BitwiseOp, bit_at};

/// Ones among these bits, which are there.
pub(super) fn count(bytes: &[u8], bits: Range<usize>) -> usize {
    let (edges, whole) = split(&bits);
    let whole = bytes.get(whole).unwrap_or_default();
    let ones: u32 = {
        let mut words = whole.chunks_exact(8);
        let in_words: u32 = words
            .by_ref()
            .filter_map(|word| word.try_into().ok())
            .map(|word| u64::from_ne_bytes(word).count_ones())
            .sum();
        in_words + words.remainder().iter().map(|byte| byte.count_ones()).sum::<u32>()
    };
    let at_edges = edges.into_iter().flatten().filter(|&offset| bit_at(bytes, offset)).count();
    ones as usize + at_edges
}

/// The first of these bits, which are there, that is as `bit` says.
pub(super) fn position(bytes: &[u8], bit: bool, bits: Range<usize>) -> Option<usize> {
    let ([mut before, mut behind], whole) = split(&bits);
    let is_it = |offset: &usize| bit_at(bytes, *offset) == bit;
    let other = if bit { 0 } else { 0xff };
    before
        .find(is_it)
        .or_else(|| {
            let at =
                bytes.get(whole.clone())?.iter().position(|byte| *byte != other)? + whole.start;
            (at * 8..at * 8 + 8).find(is_it)
        })
        .or_else(|| behind.find(is_it))
}

/// The bits before and behind the whole bytes of a range, and those bytes.
fn split(bits: &Range<usize>) -> ([Range<usize>; 2], Range<usize>) {
    let (first, last) = (bits.start.div_ceil(8), bits.end / 8);
    if first >= last {
        return ([bits.clone(), 0..0], 0..0);
    }
    ([bits.start..first * 8, last * 8..bits.end], first..last)
}

/// BITOP: as long as the longest of them; a shorter one goes on with zeros.
pub(super) fn combine(op: BitwiseOp, sources: &[Bytes]) -> Bytes {
    let len = sources.iter().map(Bytes::len).max().unwrap_or(0);
    let Some((first, others)) = sources.split_first() else { return Bytes::new() };
    let mut combined = first.to_vec();
    combined.resize(len, 0);
    if op == BitwiseOp::Not {
        combined.iter_mut().for_each(|byte| *byte = !*byte);
    }
    for other in others {
        let (shared, rest) = combined.split_at_mut(other.len());
        for (byte, with) in shared.iter_mut().zip(other) {
            match op {
                BitwiseOp::And => *byte &= with,
                BitwiseOp::Or => *byte |= with,
                BitwiseOp::Xor => *byte ^= with,
                BitwiseOp::Not => {}
            }
        }
        if op == BitwiseOp::And {
            rest.fill(0);
        }
    }
    Bytes::from(combined)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_is_counted_and_searched_as_bit_by_bit() {
        let bytes: Vec<u8> =
            [0, 0xff, 0, 0b0101_1000].into_iter().chain((0..9).map(|i| i * 29)).collect();
        for start in 0..bytes.len() * 8 {
            for end in start..=bytes.len() * 8 {
                let slowly = (start..end).filter(|&offset| bit_at(&bytes, offset)).count();
                assert_eq!(count(&bytes, start..end), slowly, "{start}..{end}");
                for bit in [false, true] {
                    let slowly = (start..end).find(|&offset| bit_at(&bytes, offset) == bit);
                    assert_eq!(position(&bytes, bit, start..end), slowly, "{bit} {start}..{end}");
                }
            }
        }
    }
}
