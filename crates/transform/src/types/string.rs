//! Strings: what the column can hold, and the formats e-mail, URI, UUID and base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Converted;
use crate::pipeline::StringFormat;
use crate::reject::Reason;
use crate::row::{Cell, Span};
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

    #[inline]
    pub(super) fn convert(&self, text: &str, scratch: &mut Vec<u8>) -> Result<Converted, Reason> {
        if memchr::memchr(0, text.as_bytes()).is_some() {
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

/// One `@`, something sane before it, a dotted domain after it. Whether anybody reads there, only a letter can tell.
fn is_email(text: &str) -> bool {
    let Some(at) = memchr::memchr(b'@', text.as_bytes()) else { return false };
    let (local, domain) = (&text.as_bytes()[..at], &text.as_bytes()[at + 1..]);
    if local.is_empty() || local.len() > 64 || text.len() > 320 {
        return false;
    }
    if !text.is_ascii() && text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return false;
    }
    let dots = |bytes: &[u8]| {
        !bytes.starts_with(b".") && !bytes.ends_with(b".") && bytes.windows(2).all(|pair| pair != b"..")
    };
    let local_byte = |byte: &u8| byte.is_ascii_alphanumeric() || !byte.is_ascii() || b".!#$%&'*+/=?^_`{|}~-".contains(byte);
    let domain_byte = |byte: &u8| byte.is_ascii_alphanumeric() || !byte.is_ascii() || matches!(byte, b'.' | b'-');
    local.iter().all(local_byte)
        && dots(local)
        && domain.iter().all(domain_byte)
        && domain.contains(&b'.')
        && dots(domain)
        && domain.split(|&byte| byte == b'.').all(|label| !label.starts_with(b"-") && !label.ends_with(b"-"))
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
