//! JSON, checked and brought into the text PostgreSQL prints for `text::jsonb::text`.
//!
//! Keys are sorted by length and bytes, blanks are normal, escapes only where needed, numbers without exponents. `json`
//! columns get the same text, so that the same value is the same text in both databases. A key that comes twice is a
//! reject, since `jsonb` would keep only the last.

use std::cmp::Ordering;

use super::number;
use crate::reject::Reason;

/// Deeper nesting is a reject: it is a mistake or an attack, and it bounds our own recursion.
const MAX_DEPTH: usize = 128;

/// What the outermost value must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Object,
    Array,
}

/// Appends the canonical text; `out` is as before when the text is a reject.
pub(super) fn canonicalise(text: &str, shape: Shape, out: &mut Vec<u8>) -> Result<(), Reason> {
    let start = out.len();
    let mut parser = Parser { text: text.as_bytes(), at: 0, members: Vec::new() };
    let result = parser.document(shape, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
    /// The members of the objects being read, the innermost object's last.
    members: Vec<Member>,
}

/// One key with its value, as ranges of the output.
#[derive(Clone, Copy, Debug)]
struct Member {
    start: usize,
    key_end: usize,
    end: usize,
    /// Bytes of the key without its escapes.
    key_len: usize,
}

impl Parser<'_> {
    fn document(&mut self, shape: Shape, out: &mut Vec<u8>) -> Result<(), Reason> {
        self.skip_blanks();
        let first = self.peek();
        self.value(0, out)?;
        self.skip_blanks();
        if self.at < self.text.len() {
            return Err(Reason::NotJson);
        }
        match (shape, first) {
            (Shape::Object, Some(b'{')) | (Shape::Array, Some(b'[')) => Ok(()),
            (Shape::Object, _) => Err(Reason::NotObject),
            (Shape::Array, _) => Err(Reason::NotArray),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Reason> {
        if self.peek() != Some(byte) {
            return Err(if self.peek() == Some(0) { Reason::Nul } else { Reason::NotJson });
        }
        self.at += 1;
        Ok(())
    }

    fn value(&mut self, depth: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
        match self.peek() {
            Some(b'{') => self.object(depth + 1, out),
            Some(b'[') => self.array(depth + 1, out),
            Some(b'"') => self.string(out).map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number(out),
            Some(b't') => self.word(b"true", out),
            Some(b'f') => self.word(b"false", out),
            Some(b'n') => self.word(b"null", out),
            Some(0) => Err(Reason::Nul),
            _ => Err(Reason::NotJson),
        }
    }

    fn word(&mut self, word: &[u8], out: &mut Vec<u8>) -> Result<(), Reason> {
        if !self.text[self.at..].starts_with(word) {
            return Err(Reason::NotJson);
        }
        self.at += word.len();
        out.extend_from_slice(word);
        Ok(())
    }

    fn array(&mut self, depth: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
        if depth > MAX_DEPTH {
            return Err(Reason::JsonTooDeep);
        }
        self.expect(b'[')?;
        out.push(b'[');
        self.skip_blanks();
        if self.peek() != Some(b']') {
            loop {
                self.skip_blanks();
                self.value(depth, out)?;
                self.skip_blanks();
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
                out.extend_from_slice(b", ");
            }
        }
        self.expect(b']')?;
        out.push(b']');
        Ok(())
    }

    fn object(&mut self, depth: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
        if depth > MAX_DEPTH {
            return Err(Reason::JsonTooDeep);
        }
        self.expect(b'{')?;
        let first = self.members.len();
        out.push(b'{');
        let body = out.len();
        self.skip_blanks();
        if self.peek() != Some(b'}') {
            loop {
                self.skip_blanks();
                let start = out.len();
                let key_len = self.string(out)?;
                let key_end = out.len();
                self.skip_blanks();
                self.expect(b':')?;
                out.extend_from_slice(b": ");
                self.skip_blanks();
                self.value(depth, out)?;
                self.members.push(Member { start, key_end, end: out.len(), key_len });
                self.skip_blanks();
                if self.peek() != Some(b',') {
                    break;
                }
                self.at += 1;
                out.extend_from_slice(b", ");
            }
        }
        self.expect(b'}')?;
        self.sort_members(first, body, out)?;
        out.push(b'}');
        Ok(())
    }

    /// Brings the members written from `body` on into order.
    fn sort_members(&mut self, first: usize, body: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
        let members = &mut self.members[first..];
        if !members.is_sorted_by(|a, b| compare_keys(a, b, out) == Ordering::Less) {
            members.sort_unstable_by(|a, b| compare_keys(a, b, out));
            if members.windows(2).any(|pair| compare_keys(&pair[0], &pair[1], out) == Ordering::Equal) {
                return Err(Reason::DuplicateKey);
            }
            let end = out.len();
            for (at, member) in members.iter().enumerate() {
                if at > 0 {
                    out.extend_from_slice(b", ");
                }
                out.extend_from_within(member.start..member.end);
            }
            out.copy_within(end.., body);
            out.truncate(end);
        }
        self.members.truncate(first);
        Ok(())
    }

    /// Reads a string; its length in bytes without escapes.
    fn string(&mut self, out: &mut Vec<u8>) -> Result<usize, Reason> {
        self.expect(b'"')?;
        out.push(b'"');
        let mut len = 0;
        loop {
            let rest = &self.text[self.at..];
            let plain =
                rest.iter().position(|&byte| byte < 0x20 || byte == b'"' || byte == b'\\').unwrap_or(rest.len());
            out.extend_from_slice(&rest[..plain]);
            len += plain;
            self.at += plain;
            match rest.get(plain) {
                Some(b'"') => {
                    self.at += 1;
                    out.push(b'"');
                    return Ok(len);
                }
                Some(b'\\') => len += self.escape(out)?,
                Some(0) => return Err(Reason::Nul),
                _ => return Err(Reason::NotJson),
            }
        }
    }

    /// Reads one escape; its length in bytes once resolved.
    fn escape(&mut self, out: &mut Vec<u8>) -> Result<usize, Reason> {
        let kind = *self.text.get(self.at + 1).ok_or(Reason::NotJson)?;
        self.at += 2;
        let c = match kind {
            b'"' | b'\\' | b'/' => char::from(kind),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => self.unicode_escape()?,
            _ => return Err(Reason::NotJson),
        };
        write_escaped(c, out);
        Ok(c.len_utf8())
    }

    fn unicode_escape(&mut self) -> Result<char, Reason> {
        let unit = self.four_hex()?;
        let point = match unit {
            0 => return Err(Reason::Nul),
            0xD800..0xDC00 => {
                if !self.text[self.at..].starts_with(b"\\u") {
                    return Err(Reason::LoneSurrogate);
                }
                self.at += 2;
                let low = self.four_hex()?;
                if !(0xDC00..0xE000).contains(&low) {
                    return Err(Reason::LoneSurrogate);
                }
                0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00)
            }
            unit => unit,
        };
        char::from_u32(point).ok_or(Reason::LoneSurrogate)
    }

    fn four_hex(&mut self) -> Result<u32, Reason> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(Reason::NotJson)?;
        self.at += 4;
        digits.iter().try_fold(0, |value, &digit| {
            char::from(digit).to_digit(16).map(|digit| value * 16 + digit).ok_or(Reason::NotJson)
        })
    }

    fn number(&mut self, out: &mut Vec<u8>) -> Result<(), Reason> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let whole = self.digits();
        if whole == 0 || (whole > 1 && self.text[self.at - whole] == b'0') {
            return Err(Reason::NotJson);
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return Err(Reason::NotJson);
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(Reason::NotJson);
            }
        }
        number::scan(&self.text[start..self.at])?.write_numeric(out)
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - start
    }
}

/// As PostgreSQL writes characters inside JSON strings.
fn write_escaped(c: char, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match c {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\u{8}' => out.extend_from_slice(b"\\b"),
        '\u{c}' => out.extend_from_slice(b"\\f"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\0'..' ' => {
            let byte = c as u8;
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 15)]);
        }
        c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Shorter keys come first, then bytes decide, both without escapes.
fn compare_keys(a: &Member, b: &Member, out: &[u8]) -> Ordering {
    let (a_text, b_text) = (&out[a.start + 1..a.key_end - 1], &out[b.start + 1..b.key_end - 1]);
    a.key_len.cmp(&b.key_len).then_with(|| {
        if a_text.len() == a.key_len && b_text.len() == b.key_len {
            a_text.cmp(b_text)
        } else {
            unescaped(a_text).cmp(unescaped(b_text))
        }
    })
}

/// The bytes behind the escapes of [`write_escaped`].
fn unescaped(text: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (byte, after) = match rest {
            [] => return None,
            [b'\\', b'u', _, _, high, low, after @ ..] => {
                let hex = |digit: u8| char::from(digit).to_digit(16).unwrap_or(0) as u8;
                (hex(*high) << 4 | hex(*low), after)
            }
            [b'\\', kind, after @ ..] => {
                let byte = match kind {
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    other => *other,
                };
                (byte, after)
            }
            [byte, after @ ..] => (*byte, after),
        };
        rest = after;
        Some(byte)
    })
}

/// How many items the outermost array or object of a canonical text has.
pub(super) fn count_items(canonical: &[u8]) -> u64 {
    let mut depth = 0_u32;
    let mut commas = 0;
    let mut in_string = false;
    let mut bytes = canonical.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'\\' if in_string => {
                bytes.next();
            }
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 1 => commas += 1,
            _ => {}
        }
    }
    // `[]` and `{}` are the only texts without an item.
    if canonical.len() <= 2 { 0 } else { commas + 1 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn canonical(text: &str) -> Result<String, Reason> {
        let shape = if text.trim_start().starts_with('[') { Shape::Array } else { Shape::Object };
        let mut out = Vec::new();
        canonicalise(text, shape, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_text_is_what_postgresql_prints_for_jsonb() {
        for (text, expected) in [
            ("{}", "{}"),
            (" [ ] ", "[]"),
            ("{\"a\":1,\"b\":[1,2]}", r#"{"a": 1, "b": [1, 2]}"#),
            ("{\"bb\":1,\"a\":2,\"\":3}", r#"{"": 3, "a": 2, "bb": 1}"#),
            ("{\"é\":1,\"zz\":2,\"z\":3}", r#"{"z": 3, "zz": 2, "é": 1}"#),
            ("{\"\\n\":1,\"b\":2,\"A\":3}", r#"{"\n": 1, "A": 3, "b": 2}"#),
            ("{\"ab\":1,\"\\u0001\\\"\":2}", r#"{"\u0001\"": 2, "ab": 1}"#),
            (
                "{\"x\":{\"b\":{\"d\":1,\"c\":2},\"a\":[]},\"a\":0}",
                r#"{"a": 0, "x": {"a": [], "b": {"c": 2, "d": 1}}}"#,
            ),
            (
                "[1.0, 1.50, -0, -0.0, 1e3, 1.5E-3, 0.1e1, 10000000000000000000000]",
                "[1.0, 1.50, 0, 0.0, 1000, 0.0015, 1, 10000000000000000000000]",
            ),
            ("[true,false,null,\t\r\n\"\"]", r#"[true, false, null, ""]"#),
            (r#"["\/\b\f\n\r\t\"\\"]"#, r#"["/\b\f\n\r\t\"\\"]"#),
            (r#"["\u00e9\uD83D\ude00\u007f\u001F"]"#, "[\"é😀\u{7f}\\u001f\"]"),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_jsonb_refuses_or_would_alter_is_a_reject() {
        for (text, reason) in [
            ("", Reason::NotJson),
            ("{", Reason::NotJson),
            ("[1,]", Reason::NotJson),
            ("[,1]", Reason::NotJson),
            ("{\"a\":1,}", Reason::NotJson),
            ("{\"a\"}", Reason::NotJson),
            ("{a:1}", Reason::NotJson),
            ("{'a':1}", Reason::NotJson),
            ("[1 2]", Reason::NotJson),
            ("[1] x", Reason::NotJson),
            ("[01]", Reason::NotJson),
            ("[1.]", Reason::NotJson),
            ("[.5]", Reason::NotJson),
            ("[+1]", Reason::NotJson),
            ("[1e]", Reason::NotJson),
            ("[-]", Reason::NotJson),
            ("[NaN]", Reason::NotJson),
            ("[True]", Reason::NotJson),
            ("[nul]", Reason::NotJson),
            ("[\"a\nb\"]", Reason::NotJson),
            ("[\"\\x\"]", Reason::NotJson),
            ("[\"\\u12g4\"]", Reason::NotJson),
            ("[\"\\u12", Reason::NotJson),
            ("[\"a", Reason::NotJson),
            ("[\u{a0}1]", Reason::NotJson),
            ("[\u{feff}]", Reason::NotJson),
            ("1", Reason::NotObject),
            ("null", Reason::NotObject),
            ("\"a\"", Reason::NotObject),
            ("{\"a\":1,\"a\":1}", Reason::DuplicateKey),
            ("{\"a\":1,\"b\":2,\"\\u0061\":3}", Reason::DuplicateKey),
            ("[{\"\\n\":1,\"\\u000a\":2}]", Reason::DuplicateKey),
            ("[\"\\u0000\"]", Reason::Nul),
            ("[\"\0\"]", Reason::Nul),
            ("[\0]", Reason::Nul),
            ("[\"\\ud800\"]", Reason::LoneSurrogate),
            ("[\"\\udc00\"]", Reason::LoneSurrogate),
            ("[\"\\ud800\\u0041\"]", Reason::LoneSurrogate),
            ("[\"\\ud800x\"]", Reason::LoneSurrogate),
            ("[1e131072]", Reason::NumberOutOfRange),
            ("[1e-16384]", Reason::NumberOutOfRange),
            ("[1e99999999999]", Reason::NumberOutOfRange),
        ] {
            assert_eq!(canonical(text), Err(reason), "{text}");
        }
    }

    #[test]
    fn the_outermost_value_has_the_fields_shape() {
        let mut out = Vec::new();
        assert_eq!(canonicalise("[]", Shape::Object, &mut out), Err(Reason::NotObject));
        assert_eq!(canonicalise("{}", Shape::Array, &mut out), Err(Reason::NotArray));
        assert!(out.is_empty());
    }

    #[test]
    fn nesting_has_a_limit_and_no_stack_overflows() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(canonical(&nested(128)), Ok(nested(128)));
        assert_eq!(canonical(&nested(129)), Err(Reason::JsonTooDeep));
        assert_eq!(canonical(&"[".repeat(1 << 20)), Err(Reason::JsonTooDeep));
        assert_eq!(canonical(&"{\"a\":".repeat(1 << 18)), Err(Reason::JsonTooDeep));
    }

    #[test]
    fn items_are_counted_on_the_outermost_level() {
        for (text, items) in [
            ("[]", 0),
            ("{}", 0),
            ("[1]", 1),
            ("[[1,2],\"a,b\\\",\",{\"x\":1,\"y\":2}]", 3),
            ("{\"a\":[1,2],\"b\":1}", 2),
        ] {
            assert_eq!(count_items(canonical(text).unwrap().as_bytes()), items, "{text}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[^\0]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::btree_map("[^\0]{0,3}|[ab\"\\\\\n\u{1}]{0,3}", inner, 0..6)
                    .prop_map(|map: BTreeMap<String, Value>| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    /// Prints by the rules as PostgreSQL's documentation has them, from a parsed value.
    fn model(value: &Value, out: &mut String) {
        match value {
            Value::Array(items) => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    out.push_str(if at > 0 { ", " } else { "" });
                    model(item, out);
                }
                out.push(']');
            }
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_by_key(|(key, _)| (key.len(), key.as_bytes().to_vec()));
                out.push('{');
                for (at, (key, value)) in members.iter().enumerate() {
                    out.push_str(if at > 0 { ", " } else { "" });
                    out.push_str(&format!("{}: ", Value::from(key.as_str())));
                    model(value, out);
                }
                out.push('}');
            }
            // serde_json escapes strings exactly as PostgreSQL does, and integers have one form.
            leaf => out.push_str(&leaf.to_string()),
        }
    }

    proptest! {
            #[test]
            fn any_value_is_printed_by_the_rules(value in any_json(), pretty: bool) {
                let value = if value.is_array() || value.is_object() { value } else { Value::from(vec![value]) };
                let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
                let mut expected = String::new();
                model(&value, &mut expected);
                let once = canonical(&text);
                prop_assert_eq!(once.as_ref(), Ok(&expected));
                prop_assert_eq!(canonical(&expected), Ok(expected), "canonical text is its own");
            }

            #[test]
            fn texts_are_judged_as_serde_json_judges_them(
                text in "(\\[|\\{|\\]|\\}|,|:|\"|\\\\|\"a\"|\"b\"|\\\\u00e9|\\\\n|[ 01.e-]|true|null|\\[1,2\\]|\\{\"a\":1\\}){0,8}",
            ) {
    let theirs: Option<Value> =
                    serde_json::from_str(&text).ok().filter(|value: &Value| value.is_array() || value.is_object());
                match canonical(&text) {
                    // Beyond the range of a double serde_json gives up, and PostgreSQL does not.
                    Ok(ours) => {
                        prop_assert!(theirs.is_some() || text.contains('e'), "{}", text);
                        prop_assert_eq!(canonical(&ours), Ok(ours));
                    }
                    Err(Reason::DuplicateKey | Reason::NumberOutOfRange) => {}
                    Err(reason) => prop_assert_eq!(theirs, None, "{} {:?}", text, reason),
                }
            }
        }
}
