//! Numbers as people read them.

use std::time::Duration;

/// `1234567` as `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 record`, `2 records`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `512 B`, `1.5 KiB`, `64.0 MiB`.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if number < 1024 {
        return format!("{number} B");
    }
    let mut value = number as f64 / 1024.0;
    let mut unit = 0;
    // 1023.96 would be printed as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `0.4 s`, `12.3 s`, `2 min 5 s`, `3 h 4 min`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if duration < Duration::from_millis(59_950) {
        format!("{:.1} s", duration.as_secs_f64())
    } else if seconds < 3600 {
        let seconds = seconds.max(60);
        format!("{} min {} s", seconds / 60, seconds % 60)
    } else {
        format!("{} h {} min", seconds / 3600, seconds % 3600 / 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_thousands_separators() {
        assert_eq!(
            [0, 999, 1000, 1_234_567, u64::MAX].map(count),
            ["0", "999", "1,000", "1,234,567", "18,446,744,073,709,551,615"]
        );
        assert_eq!(counted(1, "record", "records"), "1 record");
        assert_eq!(counted(1200, "record", "records"), "1,200 records");
    }

    #[test]
    fn bytes_are_powers_of_two() {
        assert_eq!(
            [0, 1023, 1024, 1536, 1024 * 1024 - 1, 1 << 26, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "64.0 MiB", "16384.0 PiB"]
        );
    }

    #[test]
    fn durations_lose_digits_as_they_grow() {
        let shown = |millis| duration(Duration::from_millis(millis));
        assert_eq!(shown(40), "0.0 s");
        assert_eq!(shown(12_340), "12.3 s");
        assert_eq!(shown(59_990), "1 min 0 s");
        assert_eq!(shown(125_000), "2 min 5 s");
        assert_eq!(shown(11_040_000), "3 h 4 min");
    }
}
