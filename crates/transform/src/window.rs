//! Sixty-four bytes at once: where each of them that matters stands, as one bit each.

use wide::u8x16;

/// Bytes looked at together.
pub(crate) const WINDOW: usize = 64;
const STEP: usize = 16;

/// A byte that is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(u8x16, u8);

impl Mark {
    pub(crate) const FEED: Self = Self::of(b'\n');
    pub(crate) const RETURN: Self = Self::of(b'\r');

    pub(crate) const fn of(byte: u8) -> Self {
        Self(u8x16::splat(byte), byte)
    }

    #[inline]
    pub(crate) fn is(self, byte: u8) -> bool {
        self.1 == byte
    }
}

/// Bytes from one to another, both included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    first: u8x16,
    /// Distance of the last from the first.
    rest: u8x16,
}

impl Range {
    pub(crate) const fn of(first: u8, last: u8) -> Self {
        Self { first: u8x16::splat(first), rest: u8x16::splat(last - first) }
    }

    #[inline]
    fn holds(self, bytes: u8x16) -> u8x16 {
        let distance = bytes - self.first;
        distance.min(self.rest).simd_eq(distance)
    }
}

#[inline]
fn bits(window: &[u8; WINDOW], holds: impl Fn(u8x16) -> u8x16) -> u64 {
    let steps = window.as_chunks::<STEP>().0;
    let bits = |index: usize| u64::from(holds(u8x16::new(steps[index])).to_bitmask()) << (STEP * index);
    bits(0) | bits(1) | bits(2) | bits(3)
}

/// One bit for each byte of the window that is one of `marks`, the first byte's the lowest.
#[inline]
pub(crate) fn mask<const N: usize>(window: &[u8; WINDOW], marks: [Mark; N]) -> u64 {
    bits(window, |bytes| marks.iter().fold(u8x16::ZERO, |found, mark| found | bytes.simd_eq(mark.0)))
}

/// The same for bytes in one of `ranges`.
#[inline]
pub(crate) fn in_ranges(window: &[u8; WINDOW], ranges: &[Range]) -> u64 {
    ranges.iter().fold(0, |found, range| found | bits(window, |bytes| range.holds(bytes)))
}

/// The same for bytes of characters beyond ASCII.
#[inline]
pub(crate) fn beyond_ascii(window: &[u8; WINDOW]) -> u64 {
    bits(window, |bytes| bytes)
}

/// The window with the bytes of `letters`, capital or small ones, as the others.
#[inline]
pub(crate) fn with_case_changed(window: &[u8; WINDOW], letters: Range) -> [u8; WINDOW] {
    let mut changed = *window;
    for step in changed.as_chunks_mut::<STEP>().0 {
        let bytes = u8x16::new(*step);
        *step = (bytes ^ letters.holds(bytes) & u8x16::splat(0x20)).to_array();
    }
    changed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_byte_has_its_bit(bytes in proptest::collection::vec(any::<u8>(), WINDOW), first: u8, last: u8, mark: u8) {
            let window: &[u8; WINDOW] = bytes.as_slice().try_into().unwrap();
            let (first, last) = (first.min(last), first.max(last));
            let of = |holds: &dyn Fn(u8) -> bool| {
                (0..WINDOW).fold(0_u64, |bits, at| bits | u64::from(holds(window[at])) << at)
            };
            prop_assert_eq!(mask(window, [Mark::of(mark), Mark::FEED]), of(&|byte| byte == mark || byte == b'\n'));
            prop_assert_eq!(in_ranges(window, &[Range::of(first, last)]), of(&|byte| (first..=last).contains(&byte)));
            prop_assert_eq!(beyond_ascii(window), of(&|byte| !byte.is_ascii()));
            let lower = with_case_changed(window, Range::of(b'A', b'Z'));
            prop_assert_eq!(lower, window.map(|byte| byte.to_ascii_lowercase()));
            let upper = with_case_changed(window, Range::of(b'a', b'z'));
            prop_assert_eq!(upper, window.map(|byte| byte.to_ascii_uppercase()));
        }
    }
}
