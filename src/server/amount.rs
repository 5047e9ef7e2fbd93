//! Amounts of bytes as people write them.

/// Units, the longest name first.
const UNITS: [(&str, u64); 7] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("b", 1),
];

/// `512MiB`, `64 kb`, `100B`: a whole number above zero and its unit, in any case. `None`: it is no such
/// text, or too much for this machine.
pub fn parse(text: &str) -> Option<usize> {
    let lower = text.trim().to_ascii_lowercase();
    let (number, unit_bytes) =
        UNITS.iter().find_map(|(unit, bytes)| Some((lower.strip_suffix(unit)?, bytes)))?;
    let number: u64 = number.trim().parse().ok()?;
    let bytes = number.checked_mul(*unit_bytes)?.try_into().ok()?;
    (bytes > 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_a_number_and_a_unit() {
        assert_eq!(parse("16MiB"), Some(16 << 20));
        assert_eq!(parse(" 2 gb"), Some(2_000_000_000));
        assert_eq!(parse("7B"), Some(7));
        for wrong in ["", "1", "0MiB", "1.5GiB", "-1kb", "MiB", "99999999999GiB"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
