//! The generator behind `math.random`: that of `lrand48`, so that scripts get the numbers that they
//! get from Redis.

/// The state of `lrand48`: 48 bits.
pub(super) struct Random(u64);

const BITS: u64 = (1 << 48) - 1;
const MULTIPLIER: u64 = 0x5_DEEC_E66D;
const INCREMENT: u64 = 0xB;
const LOW: u64 = 0x330E;
/// Numbers are below this.
const END: u32 = i32::MAX as u32;

impl Default for Random {
    /// As it is in a process that has not seeded it.
    fn default() -> Self {
        Self(0x1234_ABCD_330E)
    }
}

impl Random {
    pub(super) fn seeded(seed: i32) -> Self {
        Self((u64::from(seed.cast_unsigned()) << 16) | LOW)
    }

    /// At least 0 and below 1.
    pub(super) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT) & BITS;
        // 31 bits are left.
        let number = (self.0 >> 17) as u32;
        f64::from(number % END) / f64::from(END)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_of_lrand48() {
        let mut random = Random::default();
        let numbers = [random.next(), random.next()].map(|number| format!("{number:.8}"));
        assert_eq!(numbers, ["0.39646477", "0.84048537"]);
        let mut random = Random::seeded(10);
        let numbers = [random.next(), random.next()].map(|number| format!("{number:.8}"));
        assert_eq!(numbers, ["0.87885112", "0.79580662"]);
    }
}
