//! Names and raw bytes as text a terminal can be given.
//!
//! A file name, an object key or a cell may hold anything: an escape sequence that repaints the screen, a line end that
//! forges a log line, a mark that turns the direction of the text after it. None of that reaches a terminal or a log;
//! each such character is shown by its number instead. The result is for reading, not for turning back: a backslash
//! stays as it is.

use std::fmt::{self, Write};
use std::path::Path;

/// Displays bytes with everything unprintable as `\n`, `\x1b`, `\u{202e}`; bytes that are not UTF-8 as `\xff`.
#[derive(Clone, Copy)]
pub struct Escaped<'a> {
    bytes: &'a [u8],
}

/// A word of a command that is to be pasted: as it is where a shell takes it so, else in quotes. On Windows those that cmd.exe
/// and PowerShell have in common.
pub fn shell_word(text: &str) -> String {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@%+=,".contains(&byte) || cfg!(windows) && byte == b'\\';
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else if cfg!(windows) {
        format!("\"{text}\"")
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// For text.
pub fn escape(text: &str) -> Escaped<'_> {
    escape_bytes(text.as_bytes())
}

/// For bytes that may not be text.
pub fn escape_bytes(bytes: &[u8]) -> Escaped<'_> {
    Escaped { bytes }
}

/// For file names, which on Unix are bytes.
pub fn escape_path(path: &Path) -> Escaped<'_> {
    escape_bytes(path.as_os_str().as_encoded_bytes())
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = EscapingWriter(f);
        for chunk in self.bytes.utf8_chunks() {
            out.write_str(chunk.valid())?;
            for byte in chunk.invalid() {
                write!(out.0, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Escapes what is written through it.
pub(crate) struct EscapingWriter<W>(pub(crate) W);

impl<W: Write> Write for EscapingWriter<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut plain = 0;
        for (at, char) in text.char_indices() {
            if !is_unprintable(char) {
                continue;
            }
            self.0.write_str(&text[plain..at])?;
            plain = at + char.len_utf8();
            match char {
                '\n' => self.0.write_str("\\n")?,
                '\r' => self.0.write_str("\\r")?,
                '\t' => self.0.write_str("\\t")?,
                _ if char.is_ascii() => write!(self.0, "\\x{:02x}", u32::from(char))?,
                _ => write!(self.0, "\\u{{{:x}}}", u32::from(char))?,
            }
        }
        self.0.write_str(&text[plain..])
    }
}

/// Control characters, and characters that show nothing but change what is seen around them.
fn is_unprintable(char: char) -> bool {
    if char.is_ascii() {
        return char.is_ascii_control();
    }
    char.is_control()
        || matches!(char,
            '\u{ad}' // soft hyphen
            | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' // direction
            | '\u{180e}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}' | '\u{feff}' // zero width
            | '\u{2028}' | '\u{2029}' // line and paragraph separators
            | '\u{e0000}'..='\u{e007f}' // tags
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_move_the_cursor_or_forge_a_line() {
        assert_eq!(escape("a\x1b[2Jb\nerror: c\r\t\x07").to_string(), "a\\x1b[2Jb\\nerror: c\\r\\t\\x07");
        assert_eq!(escape("\u{9b}2J\u{7f}").to_string(), "\\u{9b}2J\\x7f");
    }

    #[test]
    fn a_name_cannot_hide_or_turn_its_text() {
        assert_eq!(escape("gpj.\u{202e}csv").to_string(), "gpj.\\u{202e}csv");
        assert_eq!(escape("pay\u{200b}pal\u{feff}").to_string(), "pay\\u{200b}pal\\u{feff}");
    }

    #[test]
    fn bytes_that_are_not_text_are_shown_by_their_number() {
        assert_eq!(escape_bytes(b"\xffa\xc3(").to_string(), "\\xffa\\xc3(");
        assert_eq!(escape_bytes("Pe\u{f1}a".as_bytes()).to_string(), "Peña");
    }

    #[test]
    fn plain_text_stays_as_it_is() {
        let text = "Søren \\ 東京 🎉 'quoted' \"twice\"";
        assert_eq!(escape(text).to_string(), text);
    }
}
