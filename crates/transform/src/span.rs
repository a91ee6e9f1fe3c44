//! Where the bytes of a value stand.

/// Where the bytes of a [`Span`] stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// In the block the record was decoded from: the value is exactly what the file says.
    Block,
    /// In scratch: the value was unescaped, cleaned or brought into canonical form.
    Scratch,
}

/// A range of bytes in the block or in scratch, as the decoder and the row use it alike. Offsets rather than references,
/// so scratch may grow.
///
/// One number (start, side, length), so that a span is written and read at once: two halves written apart and read
/// together would stall each time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Span(u64);

const SCRATCH: u64 = 1 << 31;
const LENGTH: u64 = SCRATCH - 1;

impl Span {
    /// A range of the block. Blocks and scratch stay far below 2 GiB: a record is bounded by `limits.record`.
    #[inline]
    pub fn block(start: usize, len: usize) -> Self {
        debug_assert!((start as u64) < SCRATCH && (len as u64) < SCRATCH);
        Self((start as u64) << 32 | len as u64)
    }

    /// A range of the scratch.
    #[inline]
    pub fn scratch(start: usize, len: usize) -> Self {
        Self(Self::block(start, len).0 | SCRATCH)
    }

    #[inline]
    pub fn side(self) -> Side {
        if self.0 & SCRATCH == 0 { Side::Block } else { Side::Scratch }
    }

    /// Bytes.
    #[inline]
    pub fn len(self) -> usize {
        (self.0 & LENGTH) as usize
    }

    #[inline]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub(crate) fn range(self) -> std::ops::Range<usize> {
        let start = (self.0 >> 32) as usize;
        start..start + self.len()
    }
}

impl std::fmt::Debug for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} {:?}", self.side(), self.range())
    }
}
