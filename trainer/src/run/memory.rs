//! How much memory the process has and the machine has left: on Linux; elsewhere nothing is told.

use std::fs;

/// Bytes of this process that are in memory.
#[must_use]
pub(crate) fn resident_bytes() -> Option<u64> {
    field("/proc/self/status", "VmRSS:")
}

/// The most bytes of this process that were in memory at once.
#[must_use]
pub(crate) fn peak_resident_bytes() -> Option<u64> {
    field("/proc/self/status", "VmHWM:")
}

/// Bytes that the machine could give without swapping.
#[must_use]
pub(crate) fn available_bytes() -> Option<u64> {
    field("/proc/meminfo", "MemAvailable:")
}

/// The line `name 1234 kB` of a file, in bytes.
fn field(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let kilobytes = text.lines().find_map(|line| line.strip_prefix(name))?.trim().strip_suffix("kB")?.trim();
    kilobytes.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// Bytes for people: `1.5 GiB`.
#[must_use]
pub(crate) fn readable(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            let decimals = usize::from(unit != "B" && value < 100.0);
            return format!("{value:.decimals$} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_readable() {
        let written = [0, 1023, 1536, 200 << 20, 3 << 30, 5 << 40].map(readable);
        assert_eq!(written, ["0 B", "1023 B", "1.5 KiB", "200 MiB", "3.0 GiB", "5.0 TiB"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_some_memory_and_never_had_less_than_now() {
        let (now, peak) = (resident_bytes().unwrap_or(0), peak_resident_bytes().unwrap_or(0));
        assert!(now > 1 << 16 && peak >= now / 2, "{now} {peak}");
        assert!(available_bytes().is_some_and(|bytes| bytes > 0));
    }
}
