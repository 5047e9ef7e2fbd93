//! How much memory queued messages may take before publishers wait.

use std::path::Path;

use super::amount;

/// `--memory-limit`: a share of the machine's memory, as RabbitMQ's `vm_memory_high_watermark`, or an
/// amount.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MemoryLimit {
    /// Of what the machine has, or the control group that the process is in.
    Share(f64),
    Bytes(usize),
    Off,
}

impl Default for MemoryLimit {
    fn default() -> Self {
        Self::Share(0.4)
    }
}

impl MemoryLimit {
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no share (0.4), no amount (512MiB) and not off");
        let lower = text.trim().to_ascii_lowercase();
        if lower == "off" {
            return Ok(Self::Off);
        }
        if let Some(bytes) = amount::parse(&lower) {
            return Ok(Self::Bytes(bytes));
        }
        match lower.parse() {
            Ok(share) if share > 0.0 && share <= 1.0 => Ok(Self::Share(share)),
            _ => Err(wrong()),
        }
    }

    /// The limit in bytes; `None`: there is none.
    pub fn bytes(self) -> Option<usize> {
        match self {
            Self::Off => None,
            Self::Bytes(bytes) => Some(bytes),
            Self::Share(share) => {
                let limit = machine_bytes().map(|bytes| (bytes as f64 * share) as usize);
                if limit.is_none() {
                    tracing::warn!("the machine's memory is not known: messages have no limit");
                }
                limit
            }
        }
    }
}

/// What the process may take at most: the machine's memory, or what its control group is given.
fn machine_bytes() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(total_bytes);
    let own_group = std::fs::read_to_string("/proc/self/cgroup").ok();
    let own_group = own_group.as_deref().and_then(|groups| groups.trim().strip_prefix("0::/"));
    let root = Path::new("/sys/fs/cgroup");
    let files = [
        root.join("memory.max"),
        root.join(own_group.unwrap_or_default()).join("memory.max"),
        root.join("memory/memory.limit_in_bytes"),
    ];
    let groups = files.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    // A group without a limit says `max`.
    let groups = groups.filter_map(|text| text.trim().parse().ok());
    groups.chain(machine).min()
}

/// `MemTotal` of /proc/meminfo, which counts in KiB.
fn total_bytes(meminfo: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_share_an_amount_or_off() {
        assert_eq!(MemoryLimit::parse("0.25"), Ok(MemoryLimit::Share(0.25)));
        assert_eq!(MemoryLimit::parse("1"), Ok(MemoryLimit::Share(1.0)));
        assert_eq!(MemoryLimit::parse("512MiB"), Ok(MemoryLimit::Bytes(512 << 20)));
        assert_eq!(MemoryLimit::parse("2 gb"), Ok(MemoryLimit::Bytes(2_000_000_000)));
        assert_eq!(MemoryLimit::parse("off"), Ok(MemoryLimit::Off));
        for wrong in ["", "0", "1.5", "-1", "nan", "many", "0MiB", "1.5GiB", "99999999999GiB"] {
            assert!(MemoryLimit::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_share_is_one_of_the_machine() {
        assert_eq!(total_bytes("MemTotal:        2048 kB\nMemFree: 1 kB\n"), Some(2 << 20));
        assert_eq!(total_bytes("nothing"), None);
        let whole = MemoryLimit::Share(1.0).bytes().unwrap();
        let half = MemoryLimit::Share(0.5).bytes().unwrap();
        assert!(whole / 2 - half < 2 && half > 1 << 20);
    }
}
