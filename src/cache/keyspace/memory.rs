//! What an allocation takes.

/// Bytes that the allocator gives to who asks for so many: its sizes are 8, multiples of 16 up to 128,
/// then four from each power of two to the next; of a large one what is asked for is touched alone.
pub(in crate::cache) fn allocated(bytes: usize) -> usize {
    const PAGE_BYTES: usize = 4_096;
    let step = match bytes {
        0..=8 => 8,
        9..=128 => 16,
        _ => (1 << (bytes - 1).ilog2().saturating_sub(2)).min(PAGE_BYTES),
    };
    bytes.next_multiple_of(step)
}

/// What a stored text takes. Its first reader, often the journal, makes a count for its readers: half of
/// that is added, since there is no telling whether there was one.
pub(in crate::cache) fn text_bytes(len: usize) -> usize {
    const HALF_OF_COUNT_BYTES: usize = 16;
    if len == 0 { 0 } else { allocated(len) + HALF_OF_COUNT_BYTES }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_allocator() {
        for (asked, given) in [
            (0, 0),
            (1, 8),
            (9, 16),
            (16, 16),
            (17, 32),
            (113, 128),
            (128, 128),
            (129, 160),
            (160, 160),
            (161, 192),
            (256, 256),
            (257, 320),
            (1_000, 1_024),
            (1_025, 1_280),
            (4_096, 4_096),
            (8_960, 10_240),
            (1_000_001, 1_003_520),
        ] {
            assert_eq!(allocated(asked), given, "{asked}");
        }
    }
}
