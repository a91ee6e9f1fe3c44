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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_byte_has_its_bit(bytes in proptest::collection::vec(any::<u8>(), WINDOW), mark: u8) {
            let window: &[u8; WINDOW] = bytes.as_slice().try_into().unwrap();
            let of = |holds: &dyn Fn(u8) -> bool| {
                (0..WINDOW).fold(0_u64, |bits, at| bits | u64::from(holds(window[at])) << at)
            };
            prop_assert_eq!(mask(window, [Mark::of(mark), Mark::FEED]), of(&|byte| byte == mark || byte == b'\n'));
        }
    }
}
