//! Booleans by the field's own words, exact to the letter.

use crate::reject::Reason;

#[derive(Clone, Debug)]
pub(super) struct Boolean {
    words: Box<[(Box<str>, bool)]>,
}

impl Boolean {
    pub(super) fn compile(true_values: &[String], false_values: &[String]) -> Result<Self, String> {
        if let Some(word) = true_values.iter().find(|word| false_values.contains(word)) {
            return Err(format!("{word:?} stands in both trueValues and falseValues"));
        }
        let of =
            |words: &[String], value| words.iter().map(move |word| (word.as_str().into(), value)).collect::<Vec<_>>();
        let mut words = of(true_values, true);
        words.extend(of(false_values, false));
        Ok(Self { words: words.into() })
    }

    #[inline]
    pub(super) fn convert(&self, text: &str) -> Result<bool, Reason> {
        self.words.iter().find(|(word, _)| **word == *text).map(|&(_, value)| value).ok_or(Reason::NotBoolean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_count_in_exactly_their_case() {
        let rule = Boolean::compile(&["1".into(), "active".into()], &["0".into(), "inactive".into()]).unwrap();
        assert_eq!(rule.convert("1"), Ok(true));
        assert_eq!(rule.convert("inactive"), Ok(false));
        for text in ["Active", "ACTIVE", "", " 1", "2", "no", "NO", "t", "true", "01", "1\0"] {
            assert_eq!(rule.convert(text), Err(Reason::NotBoolean), "{text:?}");
        }
    }

    #[test]
    fn a_word_has_one_meaning() {
        assert!(Boolean::compile(&["x".into()], &["x".into()]).is_err());
    }
}
