//! What the system says of this process and its machine, for INFO. `None` where it does not say.

use std::sync::LazyLock;

/// Bytes of memory that the process holds.
pub(super) fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}

/// Bytes of memory that the machine has. It is asked once: INFO holds the keyspace.
pub(super) fn machine_bytes() -> Option<u64> {
    static BYTES: LazyLock<Option<u64>> = LazyLock::new(|| {
        let info = std::fs::read_to_string("/proc/meminfo").ok()?;
        let kib = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        let kib: u64 = kib.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1_024)
    });
    *BYTES
}

/// Ticks of processor time that went to the process itself, and to the system for it; and ticks a second.
pub(super) fn cpu_ticks() -> Option<(u64, u64, u64)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in brackets, may have blanks.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse().ok();
    Some((ticks()?, ticks()?, rustix::param::clock_ticks_per_second()))
}

/// A number of bytes as Redis shows it to people: `1.50M`.
pub(super) fn for_people(bytes: u64) -> String {
    const UNITS: [char; 4] = ['K', 'M', 'G', 'T'];
    if bytes < 1_024 {
        return format!("{bytes}B");
    }
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let mut amount = bytes as f64 / 1_024.0;
    let mut units = UNITS.into_iter();
    let mut unit = units.next().unwrap_or('K');
    while amount >= 1_024.0
        && let Some(larger) = units.next()
    {
        amount /= 1_024.0;
        unit = larger;
    }
    format!("{amount:.2}{unit}")
}

#[cfg(test)]
mod tests {
    use super::for_people;

    #[test]
    fn bytes_are_shown_as_redis_shows_them() {
        let shown = [0, 1_023, 1_024, 1_536_000, 1_073_741_824, 1 << 50].map(for_people);
        assert_eq!(shown, ["0B", "1023B", "1.00K", "1.46M", "1.00G", "1024.00T"]);
    }
}
