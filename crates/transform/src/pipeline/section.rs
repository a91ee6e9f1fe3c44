//! Reading values out of a checked table, with the defaults of `KEYS`.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::check;
use super::keys::{self, Default};

/// One table of the file, written or not. Values of a wrong type were reported by `check`; they read as the default
/// here, so that the rest of the file can still be judged.
#[derive(Clone)]
pub(super) struct Section<'a> {
    path: &'static str,
    written: Option<&'a DeTable<'a>>,
    /// Where the table is, or where it would be named.
    pub(super) span: Range<usize>,
}

/// A value and where it was written; a default stands where its table does.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

impl<'a> Section<'a> {
    pub(super) fn root(table: &'a Spanned<DeTable<'a>>) -> Self {
        Self { path: "", written: Some(table.get_ref()), span: 0..0 }
    }

    /// The table behind `key`; empty when it is not written.
    pub(super) fn section(&self, key: &str) -> Self {
        let path = keys::key_in(self.path, key).map_or("", |key| key.path);
        let value = self.written(key);
        let span = value.map_or_else(|| self.span.clone(), |value| value.span());
        Self { path, written: value.and_then(|value| value.get_ref().as_table()), span }
    }

    /// The tables of the list behind `key`.
    pub(super) fn sections(&self, key: &str) -> Vec<Self> {
        self.list(key)
            .into_iter()
            .flatten()
            .filter_map(|item| {
                let written = Some(item.get_ref().as_table()?);
                Some(Self { path: "schema.fields[]", written, span: item.span() })
            })
            .collect()
    }

    /// A table that stands in a list of steps.
    pub(super) fn step(table: &'a DeTable<'a>, span: Range<usize>) -> Self {
        Self { path: "schema.fields[].clean[]", written: Some(table), span }
    }

    pub(super) fn is_written(&self, key: &str) -> bool {
        self.written(key).is_some()
    }

    /// The names written in this table, with the place of each.
    pub(super) fn names(&self) -> impl Iterator<Item = (&'a str, Range<usize>)> {
        self.written.into_iter().flatten().map(|(name, _)| (&**name.get_ref(), name.span()))
    }

    pub(super) fn path(&self) -> &'static str {
        self.path
    }

    pub(super) fn written(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        debug_assert!(keys::key_in(self.path, key).is_some(), "{}.{key} is not in KEYS", self.path);
        self.written?.get(key)
    }

    /// Where the value of `key` is, else the table.
    pub(super) fn span_of(&self, key: &str) -> Range<usize> {
        self.written(key).map_or_else(|| self.span.clone(), |value| value.span())
    }

    /// The array behind `key`, when it is one of the right type.
    pub(super) fn list(&self, key: &str) -> Option<&'a DeArray<'a>> {
        let expected = keys::key_in(self.path, key)?.value;
        self.written(key).filter(|value| check::fits(expected, value.get_ref()))?.get_ref().as_array()
    }

    /// As written, else the default of KEYS, else `None`.
    pub(super) fn value(&self, key: &str) -> Option<At<DeValue<'a>>> {
        let known = keys::key_in(self.path, key)?;
        if let Some(written) = self.written(key)
            && check::fits(known.value, written.get_ref())
        {
            return Some(At { value: written.get_ref().clone(), span: written.span() });
        }
        match known.default {
            Default::Toml(text) => {
                let value = DeValue::parse(text).ok()?.into_inner();
                Some(At { value, span: self.span_of(key) })
            }
            Default::Required | Default::Words(_) => None,
        }
    }

    pub(super) fn text(&self, key: &str) -> Option<At<String>> {
        let At { value, span } = self.value(key)?;
        Some(At { value: value.as_str()?.to_owned(), span })
    }

    pub(super) fn boolean(&self, key: &str) -> bool {
        self.value(key).and_then(|at| at.value.as_bool()).unwrap_or_default()
    }

    pub(super) fn integer(&self, key: &str) -> Option<u64> {
        check::integer(&self.value(key)?.value)
    }

    pub(super) fn bytes(&self, key: &str) -> Option<u64> {
        check::bytes(&self.value(key)?.value)
    }

    pub(super) fn percent(&self, key: &str) -> Option<f64> {
        check::percent(&self.value(key)?.value)
    }

    /// The character; `None` for none. Text of another length was reported.
    pub(super) fn character(&self, key: &str) -> Option<char> {
        self.text(key)?.value.chars().next()
    }

    pub(super) fn texts(&self, key: &str) -> Vec<At<String>> {
        let Some(At { value, span }) = self.value(key) else { return Vec::new() };
        // The items of a default have places in the default's text, which is not the file.
        let own = self.list(key).is_some();
        let items = value.as_array().into_iter().flatten();
        items
            .filter_map(|item| {
                let span = if own { item.span() } else { span.clone() };
                Some(At { value: item.get_ref().as_str()?.to_owned(), span })
            })
            .collect()
    }

    /// A section as if `key` had been written as its default.
    pub(super) fn section_or_default<R>(&self, key: &str, read: impl FnOnce(Section<'_>) -> R) -> R {
        let default = keys::key_in(self.path, key);
        if let (None, Some(key)) = (self.written(key), default)
            && let Default::Toml(text) = key.default
            && let Ok(value) = DeValue::parse(text)
            && let DeValue::Table(table) = value.get_ref()
        {
            return read(Section { path: key.path, written: Some(table), span: self.span.clone() });
        }
        read(self.section(key))
    }
}
