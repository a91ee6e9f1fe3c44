//! Bytes to digits: the innermost loops of all number, date and time parsers.
//!
//! Nothing here can overflow: each function takes at most the digits its integer holds and says `None` to more.

use std::ops::Range;

/// 10^0 to 10^18, all that fit an `i64`.
pub(super) const POWERS: [i64; 19] = {
    let mut powers = [1_i64; 19];
    let mut i = 1;
    while i < 19 {
        powers[i] = powers[i - 1] * 10;
        i += 1;
    }
    powers
};

const ONES: u64 = 0x0101_0101_0101_0101;

/// Eight ASCII digits at once; `None` when one of the bytes is no digit.
#[inline]
pub(super) fn eight(bytes: [u8; 8]) -> Option<u32> {
    eight_in(u64::from_le_bytes(bytes))
}

#[inline]
fn eight_in(word: u64) -> Option<u32> {
    // A digit has high half 3, and still has it after 6 is added: '9' + 6 is 0x3F.
    let high = (word | word.wrapping_add(ONES * 6)) & (ONES * 0xF0);
    if high != ONES * 0x30 || (word & (ONES * 0xF0)) != ONES * 0x30 {
        return None;
    }
    // Neighbours are joined to pairs, pairs to fours, fours to eight.
    let word = (word & (ONES * 0x0F)).wrapping_mul(10 * 256 + 1) >> 8;
    let word = (word & 0x00FF_00FF_00FF_00FF).wrapping_mul(100 * 65_536 + 1) >> 16;
    let word = (word & 0x0000_FFFF_0000_FFFF).wrapping_mul(10_000 * 4_294_967_296 + 1) >> 32;
    Some(word as u32)
}

/// The one to eight digits `range` of `bytes`, read at once with what stands before them; `None` when they are more, or
/// not all digits, or too near the beginning. A loop over them would guess their number wrong again and again.
#[inline]
pub(super) fn few(bytes: &[u8], range: Range<usize>) -> Option<u32> {
    let before = 8_usize.checked_sub(range.len()).filter(|&before| before < 8)?;
    let word = u64::from_le_bytes(*bytes.get(..range.end)?.last_chunk()?);
    let kept = u64::MAX << (8 * before);
    eight_in((word & kept) | ((ONES * 0x30) & !kept))
}

/// One to eighteen ASCII digits; `None` for anything else.
#[inline]
pub(super) fn up_to_eighteen(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let (head, eights) = digits.as_rchunks::<8>();
    let mut value: u64 = 0;
    for &byte in head {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
    }
    for chunk in eights {
        value = value.wrapping_mul(100_000_000).wrapping_add(u64::from(eight(*chunk)?));
    }
    Some(value as i64)
}

/// Eight bytes of a fixed form, checked and read all at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    template: u64,
    /// What each byte may be at most once the template is taken off, as its distance to 0x80.
    slack: u64,
}

impl Form {
    /// `0` stands for a digit, everything else for itself.
    pub(super) const fn of(template: &[u8; 8]) -> Self {
        let mut slack = [0; 8];
        let mut at = 0;
        while at < 8 {
            slack[at] = if template[at] == b'0' { 0x80 - 10 } else { 0x80 - 1 };
            at += 1;
        }
        Self { template: u64::from_le_bytes(*template), slack: u64::from_le_bytes(slack) }
    }

    /// For each place the number its digit makes with the one behind it; `None` when the bytes have another form.
    #[inline]
    pub(super) fn pairs(self, bytes: [u8; 8]) -> Option<[u8; 8]> {
        const HIGH: u64 = 0x8080_8080_8080_8080;
        let digits = u64::from_le_bytes(bytes) ^ self.template;
        // A byte of 0x80 or more may carry into its neighbour here, but then it has already given itself away.
        if (digits | digits.wrapping_add(self.slack)) & HIGH != 0 {
            return None;
        }
        Some(digits.wrapping_mul(10).wrapping_add(digits >> 8).to_le_bytes())
    }
}

/// The two digits at `at`; more than 99 when they are none. `at + 1` must be inside.
#[inline]
pub(super) fn two(bytes: &[u8], at: usize) -> u32 {
    let tens = u32::from(bytes[at].wrapping_sub(b'0'));
    let ones = u32::from(bytes[at + 1].wrapping_sub(b'0'));
    if tens > 9 || ones > 9 { u32::MAX } else { tens * 10 + ones }
}

/// Whether all bytes are ASCII digits.
pub(super) fn all_digits(bytes: &[u8]) -> bool {
    bytes.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_form_takes_exactly_the_bytes_of_its_form(
            mut bytes in "[0-9]{2}:[0-9]{2}:[0-9]{2}".prop_map(|text| <[u8; 8]>::try_from(text.as_bytes()).unwrap()),
            at in 0_usize..8,
            byte in prop_oneof![any::<u8>(), 0x28_u8..0x40],
        ) {
            bytes[at] = byte;
            let fits = (0..8).all(|at| if at == 2 || at == 5 { bytes[at] == b':' } else { bytes[at].is_ascii_digit() });
            let pairs = Form::of(b"00:00:00").pairs(bytes);
            prop_assert_eq!(pairs.is_some(), fits);
            if let Some(pairs) = pairs {
                prop_assert_eq!([pairs[0], pairs[3], pairs[6]].map(u32::from), [0, 3, 6].map(|at| two(&bytes, at)));
            }
        }

        #[test]
        fn eight_digits_are_what_the_standard_library_reads(value in 0_u32..100_000_000) {
            let text = format!("{value:08}");
            prop_assert_eq!(eight(text.as_bytes().try_into().unwrap()), Some(value));
        }

        #[test]
        fn few_digits_are_what_the_standard_library_reads(
            bytes in "[0-9a/: é]{0,24}", start in 0_usize..24, len in 0_usize..12,
        ) {
            let bytes = bytes.as_bytes();
            let (start, end) = (start.min(bytes.len()), (start + len).min(bytes.len()));
            let expected = if end - start <= 8 && end >= 8 && all_digits(&bytes[start..end]) {
                std::str::from_utf8(&bytes[start..end]).unwrap().parse().ok()
            } else {
                None
            };
            prop_assert_eq!(few(bytes, start..end), expected);
        }

        #[test]
        fn eight_bytes_that_are_not_all_digits_are_none(bytes in any::<[u8; 8]>()) {
            let expected = if all_digits(&bytes) { std::str::from_utf8(&bytes).unwrap().parse().ok() } else { None };
            prop_assert_eq!(eight(bytes), expected);
        }

        #[test]
        fn one_byte_off_is_seen_everywhere(value in 0_u32..100_000_000, at in 0_usize..8, byte in any::<u8>()) {
            let mut bytes: [u8; 8] = format!("{value:08}").as_bytes().try_into().unwrap();
            bytes[at] = byte;
            prop_assert_eq!(eight(bytes).is_some(), all_digits(&bytes));
        }

        #[test]
        fn up_to_eighteen_digits_are_what_the_standard_library_reads(text in "[0-9]{0,20}") {
            let expected = if text.len() <= 18 { text.parse().ok() } else { None };
            prop_assert_eq!(up_to_eighteen(text.as_bytes()), expected);
        }
    }
}
