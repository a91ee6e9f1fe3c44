//! Strings: what the column can hold, and the formats e-mail, URI, UUID and base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Converted;
use crate::pipeline::StringFormat;
use crate::reject::Reason;
use crate::row::Cell;
use crate::span::Span;
use crate::types::ColumnType;

#[derive(Clone, Debug)]
pub(super) struct Text {
    format: StringFormat,
    column: ColumnType,
    /// In characters.
    max: usize,
}

impl Text {
    pub(super) fn compile(format: StringFormat, column: ColumnType) -> Self {
        let max = match column {
            ColumnType::Varchar(Some(n)) | ColumnType::Char(n) => n as usize,
            _ => usize::MAX,
        };
        Self { format, column, max }
    }

    /// See [`super::Converter::verbatim`]. A character is at least a byte.
    pub(super) fn verbatim(&self) -> usize {
        if self.format == StringFormat::Default { self.max.saturating_add(1) } else { 0 }
    }

    #[inline]
    pub(super) fn convert(&self, text: &str, nul_free: bool, scratch: &mut Vec<u8>) -> Result<Converted, Reason> {
        if !nul_free && memchr::memchr(0, text.as_bytes()).is_some() {
            return Err(Reason::Nul);
        }
        // A character is at least a byte, so most texts need no counting.
        if text.len() > self.max && text.chars().count() > self.max {
            return Err(Reason::TooLong(self.column));
        }
        match self.format {
            StringFormat::Default => Ok(Converted::Text),
            StringFormat::Email if is_email(text) => Ok(Converted::Text),
            StringFormat::Email => Err(Reason::NotEmail),
            StringFormat::Uri if is_uri(text) => Ok(Converted::Text),
            StringFormat::Uri => Err(Reason::NotUri),
            StringFormat::Uuid => {
                let bytes = uuid(text.as_bytes()).ok_or(Reason::NotUuid)?;
                if self.column != ColumnType::Uuid {
                    return Ok(Converted::Text);
                }
                let start = scratch.len();
                scratch.extend_from_slice(&bytes);
                Ok(Converted::Cell(Cell::Uuid(Span::scratch(start, bytes.len()))))
            }
            StringFormat::Binary => {
                let start = scratch.len();
                if STANDARD.decode_vec(text, scratch).is_err() {
                    scratch.truncate(start);
                    return Err(Reason::NotBase64);
                }
                if self.column == ColumnType::Bytea {
                    return Ok(Converted::Cell(Cell::Bytes(Span::scratch(start, scratch.len() - start))));
                }
                scratch.truncate(start);
                Ok(Converted::Text)
            }
        }
    }
}

/// Bytes of the part before the `@`.
const LOCAL: u8 = 1;
/// Bytes of the part after it.
const DOMAIN: u8 = 2;

/// Which part of an address a byte may stand in. Bytes of characters outside ASCII may stand in both.
const ADDRESS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let letter = (byte as u8).is_ascii_alphanumeric() || byte >= 0x80;
        table[byte] = if letter { LOCAL | DOMAIN } else { 0 };
        byte += 1;
    }
    let special = b"!#$%&'*+/=?^_`{|}~";
    let mut at = 0;
    while at < special.len() {
        table[special[at] as usize] = LOCAL;
        at += 1;
    }
    table[b'-' as usize] = LOCAL | DOMAIN;
    table[b'.' as usize] = LOCAL | DOMAIN;
    table
};

/// One `@`, something sane before it, a dotted domain after it. Whether anybody reads there, only a letter can tell.
fn is_email(text: &str) -> bool {
    let bytes = text.as_bytes();
    let Some(at) = bytes.iter().position(|&byte| byte == b'@') else { return false };
    let (local, domain) = (&bytes[..at], &bytes[at + 1..]);
    if local.is_empty() || local.len() > 64 || bytes.len() > 320 {
        return false;
    }
    // Without branches: a wrong byte is rare, and looking for one at each step is what would cost.
    let (mut class, mut wrong, mut before) = (LOCAL, false, b'.');
    for &byte in local {
        class &= ADDRESS[usize::from(byte)];
        wrong |= (byte == b'.') & (before == b'.');
        before = byte;
    }
    if class == 0 || wrong || before == b'.' {
        return false;
    }
    // A label neither starts nor ends with a hyphen, and none is empty.
    let (mut class, mut dots, mut before) = (DOMAIN, 0, b'.');
    for &byte in domain {
        class &= ADDRESS[usize::from(byte)];
        let (dot, hyphen) = (byte == b'.', byte == b'-');
        wrong |= (dot & ((before == b'.') | (before == b'-'))) | (hyphen & (before == b'.'));
        dots += usize::from(dot);
        before = byte;
    }
    if class == 0 || wrong || dots == 0 || before == b'.' || before == b'-' {
        return false;
    }
    text.is_ascii() || !text.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// A scheme, a colon and something after it, without blanks and control characters.
fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let [first, others @ ..] = scheme.as_bytes() else { return false };
    first.is_ascii_alphabetic()
        && others.iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
        && !rest.is_empty()
        && !rest.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// 32 hexadecimal digits, alone or as 8-4-4-4-12.
fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let mut digits = [0; 32];
    match text.len() {
        32 => digits.copy_from_slice(text),
        36 if [8, 13, 18, 23].iter().all(|&at| text[at] == b'-') => {
            digits[..8].copy_from_slice(&text[..8]);
            digits[8..12].copy_from_slice(&text[9..13]);
            digits[12..16].copy_from_slice(&text[14..18]);
            digits[16..20].copy_from_slice(&text[19..23]);
            digits[20..].copy_from_slice(&text[24..]);
        }
        _ => return None,
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = hex(pair[0])? << 4 | hex(pair[1])?;
    }
    Some(bytes)
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{outcome, shown, string};
    use super::*;

    fn text(column: ColumnType, text: &str) -> Result<String, Reason> {
        shown(&string(StringFormat::Default), column, text)
    }

    #[test]
    fn text_is_stored_as_it_is() {
        for value in [
            "",
            " ",
            "=1+1",
            "'); DROP TABLE t; --",
            "\\N",
            "\\.",
            "NULL",
            "e\u{301}",
            "\u{feff}",
            "\u{fffe}",
            "\u{202e}",
            "a\nb",
            "007",
        ] {
            assert_eq!(text(ColumnType::Text, value).as_deref(), Ok(value));
            assert_eq!(outcome(&string(StringFormat::Default), ColumnType::Text, value), Ok(Cell::Null), "no copy");
        }
        assert_eq!(text(ColumnType::Text, "a\0b"), Err(Reason::Nul));
    }

    #[test]
    fn lengths_count_characters_and_nothing_is_cut() {
        let varchar = ColumnType::Varchar(Some(3));
        assert_eq!(text(varchar, "ééé").as_deref(), Ok("ééé"));
        assert_eq!(text(varchar, "éééé"), Err(Reason::TooLong(varchar)));
        assert_eq!(text(varchar, "abc "), Err(Reason::TooLong(varchar)));
        assert_eq!(text(varchar, "ab ").as_deref(), Ok("ab "));
        assert_eq!(text(ColumnType::Varchar(None), "abcdef").as_deref(), Ok("abcdef"));
        assert_eq!(text(ColumnType::Char(3), "ab ").as_deref(), Ok("ab"));
        assert_eq!(text(ColumnType::Char(3), "abc "), Err(Reason::TooLong(ColumnType::Char(3))));
    }

    #[test]
    fn an_address_has_one_at_sign_and_a_dotted_domain() {
        for text in
            ["a@b.co", "first.last+tag@sub.example.org", "o'brien@example.com", "用户@例子.公司", "a@b-c.de", "_@x.yz"]
        {
            assert!(is_email(text), "{text}");
        }
        for text in [
            "",
            "a",
            "@b.co",
            "a@",
            "a@b",
            "a@@b.co",
            "a@b@c.co",
            "a b@c.co",
            "a@b .co",
            "a@b.co ",
            " a@b.co",
            ".a@b.co",
            "a.@b.co",
            "a..b@c.co",
            "a@.b.co",
            "a@b..co",
            "a@b.co.",
            "a@-b.co",
            "a@b-.co",
            "a@b_c.co",
            "<a@b.co>",
            "a,b@c.co",
            "a\u{a0}b@c.co",
            "\"a b\"@c.co",
            "a@[1.2.3.4]",
            "a\n@b.co",
        ] {
            assert!(!is_email(text), "{text:?}");
        }
        assert!(!is_email(&format!("{}@b.co", "a".repeat(65))));
    }

    #[test]
    fn a_uri_has_a_scheme() {
        for text in
            ["http://x", "https://exa.org/a?b=c#d", "mailto:a@b.co", "urn:isbn:123", "s3://bucket/key", "x-y+z.1:é"]
        {
            assert!(is_uri(text), "{text}");
        }
        for text in [
            "",
            ":",
            "x",
            "http:",
            "//x",
            "1a:b",
            "a b:c",
            "http://x y",
            "http://x\n",
            "é:x",
            "http://x\u{a0}y",
            "example.org/x",
        ] {
            assert!(!is_uri(text), "{text:?}");
        }
    }

    #[test]
    fn a_uuid_has_two_forms_and_one_print() {
        let kind = string(StringFormat::Uuid);
        let canonical = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        for text in [canonical, "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc999c0b4ef8bb6d6bb9bd380a11"] {
            assert_eq!(shown(&kind, ColumnType::Uuid, text).as_deref(), Ok(canonical));
            assert_eq!(shown(&kind, ColumnType::Text, text).as_deref(), Ok(text), "a text column keeps the text");
        }
        for text in [
            "",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1g",
            "a0eebc99-9c0b-4ef8-bb6d6-bb9bd380a11",
            "a0eebc999c0b4ef8bb6d6bb9bd380a1é",
            " a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380aé",
        ] {
            assert_eq!(outcome(&kind, ColumnType::Uuid, text), Err(Reason::NotUuid), "{text}");
            assert_eq!(outcome(&kind, ColumnType::Text, text), Err(Reason::NotUuid), "{text}");
        }
    }

    #[test]
    fn base64_is_the_standard_one_with_padding() {
        let kind = string(StringFormat::Binary);
        for (text, expected) in [("", "\\x"), ("AA==", "\\x00"), ("/+8=", "\\xffef"), ("aGFsbG8h", "\\x68616c6c6f21")] {
            assert_eq!(shown(&kind, ColumnType::Bytea, text).as_deref(), Ok(expected), "{text}");
            assert_eq!(shown(&kind, ColumnType::Text, text).as_deref(), Ok(text));
        }
        for text in ["A", "AA", "AA=", "AA===", "AB==", "_-8=", "AA ==", "AA==\n", "é===", "\\x00"] {
            assert_eq!(outcome(&kind, ColumnType::Bytea, text), Err(Reason::NotBase64), "{text:?}");
            assert_eq!(outcome(&kind, ColumnType::Text, text), Err(Reason::NotBase64), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn bytes_come_back_from_base64(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(shown(&string(StringFormat::Binary), ColumnType::Bytea, &STANDARD.encode(&bytes)), Ok(format!("\\x{hex}")));
        }

        #[test]
        fn a_uuid_is_its_number(value: u128) {
            let plain = format!("{value:032x}");
            let kind = string(StringFormat::Uuid);
            prop_assert_eq!(shown(&kind, ColumnType::Uuid, &plain).unwrap().replace('-', ""), plain.clone());
            prop_assert_eq!(shown(&kind, ColumnType::Uuid, &plain), shown(&kind, ColumnType::Uuid, &plain.to_uppercase()));
        }
    }
}
