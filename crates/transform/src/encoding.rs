//! Character encodings of a source: which ones we read, and how text and raw bytes map onto each other.
//!
//! Records are cut before they are decoded wherever the encoding holds ASCII unchanged (UTF-8 and all single-byte
//! encodings). UTF-16 does not, so its bytes become UTF-8 on arrival; the mapping is lossless (a lone surrogate becomes
//! the three bytes UTF-8 would forbid, an odd last byte becomes 0xFF), which keeps raw bytes and offsets exact.

use std::borrow::Cow;

/// A character encoding we can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Utf8,
    Utf16Le,
    Utf16Be,
    /// A single-byte WHATWG encoding; all of them hold ASCII unchanged, so records are cut before decoding.
    SingleByte(&'static encoding_rs::Encoding),
}

impl Encoding {
    /// The encoding of a WHATWG label such as `latin1`; `None` when unknown or when its characters may take several
    /// bytes that look like delimiters (Shift_JIS, GBK, …).
    pub fn for_label(label: &str) -> Option<Self> {
        let encoding = encoding_rs::Encoding::for_label(label.as_bytes())?;
        if encoding == encoding_rs::UTF_8 {
            Some(Self::Utf8)
        } else if encoding == encoding_rs::UTF_16LE {
            Some(Self::Utf16Le)
        } else if encoding == encoding_rs::UTF_16BE {
            Some(Self::Utf16Be)
        } else if encoding == encoding_rs::X_USER_DEFINED {
            // It makes private characters of what it does not know.
            None
        } else if encoding.is_single_byte() && encoding.is_ascii_compatible() {
            Some(Self::SingleByte(encoding))
        } else {
            None
        }
    }

    /// The WHATWG name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Utf8 => "UTF-8",
            Self::Utf16Le => "UTF-16LE",
            Self::Utf16Be => "UTF-16BE",
            Self::SingleByte(encoding) => encoding.name(),
        }
    }

    /// The byte order mark at the start of a stream and the encoding it stands for.
    pub fn of_bom(head: &[u8]) -> Option<(Self, usize)> {
        if head.starts_with(&[0xEF, 0xBB, 0xBF]) {
            Some((Self::Utf8, 3))
        } else if head.starts_with(&[0xFF, 0xFE]) {
            Some((Self::Utf16Le, 2))
        } else if head.starts_with(&[0xFE, 0xFF]) {
            Some((Self::Utf16Be, 2))
        } else {
            None
        }
    }

    /// What text without a mark looks like by its zeros, when it is not this encoding: UTF-16 and UTF-32 have one in most
    /// characters, always on the same side.
    pub fn other_by_zeros(self, head: &[u8]) -> Option<&'static str> {
        let head = &head[..head.len().min(256) & !3];
        let zeros = |at: usize| head.iter().skip(at).step_by(4).filter(|byte| **byte == 0).count();
        let most = |at: usize| zeros(at) * 8 > head.len();
        let found = match ([most(0), most(1), most(2), most(3)], self) {
            ([false, true, true, true] | [true, true, true, false], _) => "UTF-32",
            ([true, false, true, false], Self::Utf8 | Self::Utf16Le | Self::SingleByte(_)) => "UTF-16BE",
            ([false, true, false, true], Self::Utf8 | Self::Utf16Be | Self::SingleByte(_)) => "UTF-16LE",
            _ => return None,
        };
        Some(found)
    }

    /// The text of a record's raw bytes; `None` when they are not text in this encoding.
    pub fn text_of(self, raw: &[u8]) -> Option<Cow<'_, str>> {
        match self {
            Self::Utf8 => std::str::from_utf8(raw).ok().map(Cow::Borrowed),
            Self::Utf16Le => encoding_rs::UTF_16LE.decode_without_bom_handling_and_without_replacement(raw),
            Self::Utf16Be => encoding_rs::UTF_16BE.decode_without_bom_handling_and_without_replacement(raw),
            Self::SingleByte(encoding) => encoding.decode_without_bom_handling_and_without_replacement(raw),
        }
    }

    /// Text of the first bytes of a source, good enough to look at: what is no text becomes U+FFFD.
    pub fn decode_sample(self, head: &[u8]) -> String {
        let encoding = match self {
            Self::Utf8 => encoding_rs::UTF_8,
            Self::Utf16Le => encoding_rs::UTF_16LE,
            Self::Utf16Be => encoding_rs::UTF_16BE,
            Self::SingleByte(encoding) => encoding,
        };
        encoding.decode_with_bom_removal(head).0.into_owned()
    }

    pub(crate) fn is_utf16(self) -> bool {
        matches!(self, Self::Utf16Le | Self::Utf16Be)
    }

    /// Bytes in the source for `cut` bytes, where `cut` is what the cutter works on.
    pub(crate) fn raw_len(self, cut: &[u8]) -> u64 {
        if !self.is_utf16() {
            return cut.len() as u64;
        }
        // Each character but those above U+FFFF is one unit of two bytes; the mark of an odd last byte is one byte.
        cut.iter()
            .map(|&byte| match byte {
                0x80..=0xBF => 0,
                0xF0..=0xF7 => 4,
                0xFF => 1,
                _ => 2,
            })
            .sum()
    }

    /// The source's bytes of a piece the cutter worked on.
    pub(crate) fn to_raw(self, cut: &[u8]) -> Vec<u8> {
        if !self.is_utf16() {
            return cut.to_vec();
        }
        let mut raw = Vec::with_capacity(cut.len() * 2);
        let mut put = |unit: u16| {
            raw.extend_from_slice(&if self == Self::Utf16Le { unit.to_le_bytes() } else { unit.to_be_bytes() });
        };
        let mut rest = cut;
        let mut odd = None;
        while let [first, tail @ ..] = rest {
            let low = |byte: Option<&u8>| u32::from(byte.copied().unwrap_or(0) & 0x3F);
            let (point, len) = match *first {
                0x00..=0x7F => (u32::from(*first), 1),
                0xC0..=0xDF => (u32::from(first & 0x1F) << 6 | low(tail.first()), 2),
                0xE0..=0xEF => (u32::from(first & 0x0F) << 12 | low(tail.first()) << 6 | low(tail.get(1)), 3),
                0xF0..=0xF7 => (
                    u32::from(first & 0x07) << 18 | low(tail.first()) << 12 | low(tail.get(1)) << 6 | low(tail.get(2)),
                    4,
                ),
                0xFF => {
                    odd = Some((low(tail.first()) << 4 | low(tail.get(1))) as u8);
                    break;
                }
                _ => (u32::from(*first), 1),
            };
            if point >= 0x1_0000 {
                put(0xD800 + ((point - 0x1_0000) >> 10) as u16);
                put(0xDC00 + ((point - 0x1_0000) & 0x3FF) as u16);
            } else {
                put(point as u16);
            }
            rest = rest.get(len..).unwrap_or_default();
        }
        raw.extend(odd);
        raw
    }

    /// A piece cut off at any byte, less the character of UTF-16 it ends inside of.
    pub(crate) fn without_half(self, cut: &[u8]) -> &[u8] {
        let lead = cut.iter().rposition(|byte| !(0x80..=0xBF).contains(byte));
        match lead {
            Some(lead) if self.is_utf16() => {
                let len = match cut[lead] {
                    0x00..=0x7F => 1,
                    0xC0..=0xDF => 2,
                    0xE0..=0xEF | 0xFF => 3,
                    _ => 4,
                };
                if cut.len() - lead < len { &cut[..lead] } else { cut }
            }
            _ => cut,
        }
    }

    /// The text of raw bytes; `None` when they are not text in this encoding.
    pub(crate) fn decode(self, cut: &[u8]) -> Option<Cow<'_, str>> {
        match self {
            Self::Utf8 | Self::Utf16Le | Self::Utf16Be => {
                // Twice the speed of the standard library's where text is not all ASCII.
                simdutf8::basic::from_utf8(cut).ok().map(Cow::Borrowed)
            }
            Self::SingleByte(encoding) => encoding.decode_without_bom_handling_and_without_replacement(cut),
        }
    }

    /// Text of bytes that are not all text, with `mask` (ASCII) for each byte that is not, and the ranges of the text
    /// those stand at. Everything else keeps its place, so that only the records they fall into are set aside.
    pub(crate) fn decode_masked(self, cut: &[u8], mask: u8) -> (String, Vec<std::ops::Range<usize>>) {
        let mut text = String::with_capacity(cut.len() + cut.len() / 2);
        let mut bad = Vec::new();
        if let Self::SingleByte(encoding) = self {
            for byte in cut {
                match encoding.decode_without_bom_handling_and_without_replacement(std::slice::from_ref(byte)) {
                    Some(character) => text.push_str(&character),
                    None => {
                        bad.push(text.len()..text.len() + 1);
                        text.push(mask as char);
                    }
                }
            }
        } else {
            for chunk in cut.utf8_chunks() {
                text.push_str(chunk.valid());
                if !chunk.invalid().is_empty() {
                    let start = text.len();
                    text.extend(chunk.invalid().iter().map(|_| mask as char));
                    bad.push(start..text.len());
                }
            }
        }
        (text, bad)
    }

    /// Bytes the cutter worked on for a piece of text, the counterpart of `decode`.
    pub(crate) fn cut_len(self, text: &str) -> usize {
        match self {
            Self::Utf8 | Self::Utf16Le | Self::Utf16Be => text.len(),
            Self::SingleByte(_) => text.chars().count(),
        }
    }
}

/// UTF-16 chunks to the cutter's bytes, across chunk borders.
#[derive(Debug, Default)]
pub(crate) struct FromUtf16 {
    big_endian: bool,
    half: Option<u8>,
    high: Option<u16>,
}

impl FromUtf16 {
    pub(crate) fn new(encoding: Encoding) -> Self {
        Self { big_endian: encoding == Encoding::Utf16Be, half: None, high: None }
    }

    pub(crate) fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        for &byte in chunk {
            let Some(first) = self.half.take() else {
                self.half = Some(byte);
                continue;
            };
            let pair = [first, byte];
            let unit = if self.big_endian { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) };
            self.unit(unit, out);
        }
    }

    fn unit(&mut self, unit: u16, out: &mut Vec<u8>) {
        if let Some(high) = self.high.take() {
            if (0xDC00..0xE000).contains(&unit) {
                let point = 0x1_0000 + (u32::from(high - 0xD800) << 10) + u32::from(unit - 0xDC00);
                generalized_utf8(point, out);
                return;
            }
            generalized_utf8(u32::from(high), out);
        }
        if (0xD800..0xDC00).contains(&unit) {
            self.high = Some(unit);
        } else {
            generalized_utf8(u32::from(unit), out);
        }
    }

    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        if let Some(high) = self.high.take() {
            generalized_utf8(u32::from(high), out);
        }
        if let Some(half) = self.half.take() {
            out.extend([0xFF, 0x80 | half >> 4, 0x80 | half & 0x0F]);
        }
    }
}

/// UTF-8 that also writes surrogates, so that nothing of a damaged source is lost.
fn generalized_utf8(point: u32, out: &mut Vec<u8>) {
    match point {
        0..0x80 => out.push(point as u8),
        0x80..0x800 => out.extend([0xC0 | (point >> 6) as u8, 0x80 | (point & 0x3F) as u8]),
        0x800..0x1_0000 => {
            out.extend([0xE0 | (point >> 12) as u8, 0x80 | (point >> 6 & 0x3F) as u8, 0x80 | (point & 0x3F) as u8]);
        }
        _ => out.extend([
            0xF0 | (point >> 18) as u8,
            0x80 | (point >> 12 & 0x3F) as u8,
            0x80 | (point >> 6 & 0x3F) as u8,
            0x80 | (point & 0x3F) as u8,
        ]),
    }
}
