//! Why a record was set aside.

use crate::pipeline::{Constraints, Field, Kind};
use crate::types::ColumnType;

/// The kind of a reject, as stored in the ledger and shown to people. Frictionless error types where one exists.
/// Stable: a code is never renamed or given another meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    TypeError,
    ConstraintError,
    MissingCell,
    ExtraCell,
    EncodingError,
    QuoteError,
    RecordLimit,
    // The database's to judge.
    PrimaryKey,
    UniqueError,
    ForeignKey,
}

impl Code {
    pub const ALL: [Self; 10] = [
        Self::TypeError,
        Self::ConstraintError,
        Self::MissingCell,
        Self::ExtraCell,
        Self::EncodingError,
        Self::QuoteError,
        Self::RecordLimit,
        Self::PrimaryKey,
        Self::UniqueError,
        Self::ForeignKey,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::TypeError => "type-error",
            Self::ConstraintError => "constraint-error",
            Self::MissingCell => "missing-cell",
            Self::ExtraCell => "extra-cell",
            Self::EncodingError => "encoding-error",
            Self::QuoteError => "quote-error",
            Self::RecordLimit => "record-limit",
            Self::PrimaryKey => "primary-key",
            Self::UniqueError => "unique-error",
            Self::ForeignKey => "foreign-key",
        }
    }

    /// One sentence for the reference.
    pub fn describe(self) -> &'static str {
        match self {
            Self::TypeError => "A value is not of the field's type, or the column could not hold it unchanged.",
            Self::ConstraintError => {
                "A value breaks one of the field's constraints, or the record one of the table's: a check, not null, an \
                 exclusion, a partition, a trigger."
            }
            Self::MissingCell => "The record has fewer fields than the header.",
            Self::ExtraCell => "The record has more fields than the header.",
            Self::EncodingError => "The record holds bytes that are not text in the source's encoding.",
            Self::QuoteError => "A quote opens and does not close, or text follows a closing quote.",
            Self::RecordLimit => "The record is longer than `limits.record`.",
            Self::PrimaryKey => "The primary key stands in the table already, or in an earlier record of the object.",
            Self::UniqueError => "The same for another unique key of the table.",
            Self::ForeignKey => "The table that a foreign key refers to has no such row.",
        }
    }
}

/// What exactly is wrong. Small and `Copy`: a message is rendered only for the rejects that are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    // The record as a whole.
    UnclosedQuote,
    TextAfterQuote,
    RecordTooLong,
    InvalidEncoding,
    FewerFields {
        expected: u32,
        found: u32,
    },
    MoreFields {
        expected: u32,
        found: u32,
    },
    // One value: its type.
    NotInteger,
    LeadingPlus,
    LeadingZero,
    /// Blanks before or after the value.
    OuterBlank,
    /// A parenthesis around a number: in accounts it means a negative one.
    Accounting,
    /// Group characters that do not stand every three (or, inside, two) digits.
    DigitGroups,
    NotNumber,
    /// NaN or an infinity.
    NotFinite,
    OutOfRange(ColumnType),
    /// The column would round the value.
    WouldRound(ColumnType),
    /// Written out without its exponent the number would be out of all proportion to the record.
    ExpandedTooLong,
    CleanedTooLong,
    NotBoolean,
    NotYear,
    NotDate,
    /// Well formed, but not in the calendar.
    NoSuchDate,
    NotDatetime,
    NotTime,
    /// Well formed, but not on the clock.
    NoSuchTime,
    LeapSecond,
    /// The time of day 24:00.
    EndOfDay,
    /// More digits of the second than microseconds.
    SubMicrosecond,
    /// An offset in a value for a column without time zone.
    UnexpectedOffset,
    MissingOffset,
    OffsetOutOfRange,
    /// A local time the zone's clocks skipped.
    InGap,
    /// A local time the zone's clocks showed twice.
    InOverlap,
    NotJson,
    NotObject,
    NotArray,
    DuplicateKey,
    JsonTooDeep,
    LoneSurrogate,
    NumberOutOfRange,
    Nul,
    TooLong(ColumnType),
    NotEmail,
    NotUri,
    NotUuid,
    NotBase64,
    // One value: a constraint.
    Required,
    MinLength,
    MaxLength,
    Minimum,
    Maximum,
    ExclusiveMinimum,
    ExclusiveMaximum,
    Pattern,
    NotInEnum,
}

impl Reason {
    pub fn code(self) -> Code {
        match self {
            Self::UnclosedQuote | Self::TextAfterQuote => Code::QuoteError,
            Self::RecordTooLong => Code::RecordLimit,
            Self::InvalidEncoding => Code::EncodingError,
            Self::FewerFields { .. } => Code::MissingCell,
            Self::MoreFields { .. } => Code::ExtraCell,
            Self::NotInteger
            | Self::LeadingPlus
            | Self::LeadingZero
            | Self::OuterBlank
            | Self::Accounting
            | Self::DigitGroups
            | Self::NotNumber
            | Self::NotFinite
            | Self::OutOfRange(_)
            | Self::WouldRound(_)
            | Self::ExpandedTooLong
            | Self::CleanedTooLong
            | Self::NotBoolean
            | Self::NotYear
            | Self::NotDate
            | Self::NoSuchDate
            | Self::NotDatetime
            | Self::NotTime
            | Self::NoSuchTime
            | Self::LeapSecond
            | Self::EndOfDay
            | Self::SubMicrosecond
            | Self::UnexpectedOffset
            | Self::MissingOffset
            | Self::OffsetOutOfRange
            | Self::InGap
            | Self::InOverlap
            | Self::NotJson
            | Self::NotObject
            | Self::NotArray
            | Self::DuplicateKey
            | Self::JsonTooDeep
            | Self::LoneSurrogate
            | Self::NumberOutOfRange
            | Self::Nul
            | Self::TooLong(_)
            | Self::NotEmail
            | Self::NotUri
            | Self::NotUuid
            | Self::NotBase64 => Code::TypeError,
            Self::Required
            | Self::MinLength
            | Self::MaxLength
            | Self::Minimum
            | Self::Maximum
            | Self::ExclusiveMinimum
            | Self::ExclusiveMaximum
            | Self::Pattern
            | Self::NotInEnum => Code::ConstraintError,
        }
    }

    /// The message stored with the reject. It names limits and rules of `field`, never the value.
    pub fn message(self, field: Option<&Field>) -> String {
        match self {
            Self::UnclosedQuote => "a quote opens on this line and does not close".into(),
            Self::TextAfterQuote => "text after a closing quote".into(),
            Self::RecordTooLong => "the record is longer than limits.record".into(),
            Self::InvalidEncoding => "bytes that are not text in the source's encoding".into(),
            Self::FewerFields { expected, found } => format!("expected {expected} fields, found {found}"),
            Self::MoreFields { expected, found } => format!("expected {expected} fields, found {found}"),
            Self::NotInteger => "not an integer".into(),
            Self::LeadingPlus => {
                "a plus sign before an integer; clean it away or use type \"string\" to keep it".into()
            }
            Self::LeadingZero => "a number with leading zeros; use type \"string\" to keep them".into(),
            Self::OuterBlank => "blanks before or after the value; clean = [\"trim\"] takes them off".into(),
            Self::Accounting => "a parenthesis around a number, which may mean a negative one".into(),
            Self::DigitGroups => "group characters that do not stand between groups of digits".into(),
            Self::NotNumber => "not a number".into(),
            Self::NotFinite => "not a finite number".into(),
            Self::OutOfRange(column) => format!("out of range for {column}"),
            Self::WouldRound(column) => format!("{column} would round the value"),
            Self::ExpandedTooLong => "a number that is too long when written out".into(),
            Self::CleanedTooLong => "a text that cleaning makes longer by more than 4 MiB".into(),
            Self::NotBoolean => "neither one of trueValues nor of falseValues".into(),
            Self::NotYear => "not a year of four digits, 0001 to 9999".into(),
            Self::NotDate => format!("not a date of the form {}", form(field, "YYYY-MM-DD")),
            Self::NoSuchDate => "a date that is not in the calendar".into(),
            Self::NotDatetime => format!("not a date and time of the form {}", form(field, "YYYY-MM-DDTHH:MM:SS")),
            Self::NotTime => format!("not a time of the form {}", form(field, "HH:MM:SS")),
            Self::NoSuchTime => "a time that is not on the clock".into(),
            Self::LeapSecond => "second 60 has no place in the column".into(),
            Self::EndOfDay => "the time 24:00 belongs to the next day".into(),
            Self::SubMicrosecond => "more than six digits after the second".into(),
            Self::UnexpectedOffset => {
                "a time with an offset in a column without time zone; give the field a timezone or a format with %z"
                    .into()
            }
            Self::MissingOffset => "a time without an offset in a field without a timezone".into(),
            Self::OffsetOutOfRange => "an offset beyond 15:59:59".into(),
            Self::InGap => match timezone(field) {
                Some(zone) => format!("a local time that {zone} skipped when its clocks were put forward"),
                None => "a local time that was skipped when the clocks were put forward".into(),
            },
            Self::InOverlap => match timezone(field) {
                Some(zone) => format!("a local time that {zone} had twice when its clocks were put back"),
                None => "a local time that came twice when the clocks were put back".into(),
            },
            Self::NotJson => "not JSON".into(),
            Self::NotObject => "not a JSON object".into(),
            Self::NotArray => "not a JSON array".into(),
            Self::DuplicateKey => "a JSON object with the same key twice".into(),
            Self::JsonTooDeep => "JSON nested deeper than 128 levels".into(),
            Self::LoneSurrogate => "a \\u escape that is half a character".into(),
            Self::NumberOutOfRange => "a number beyond the limits of numeric".into(),
            Self::Nul => "a NUL character, which the database cannot hold".into(),
            Self::TooLong(column) => format!("too long for {column}"),
            Self::NotEmail => "not an e-mail address".into(),
            Self::NotUri => "not a URI".into(),
            Self::NotUuid => "not a UUID".into(),
            Self::NotBase64 => "not base64 with padding".into(),
            Self::Required => "the value is required".into(),
            Self::MinLength => with_limit("shorter than minLength", field, |c| c.min_length.map(|n| n.to_string())),
            Self::MaxLength => with_limit("longer than maxLength", field, |c| c.max_length.map(|n| n.to_string())),
            Self::Minimum => with_limit("less than the minimum", field, |c| c.minimum.clone()),
            Self::Maximum => with_limit("more than the maximum", field, |c| c.maximum.clone()),
            Self::ExclusiveMinimum => {
                with_limit("not more than the exclusiveMinimum", field, |c| c.exclusive_minimum.clone())
            }
            Self::ExclusiveMaximum => {
                with_limit("not less than the exclusiveMaximum", field, |c| c.exclusive_maximum.clone())
            }
            Self::Pattern => with_limit("does not match the pattern", field, |c| c.pattern.clone()),
            Self::NotInEnum => "not one of the values of enum".into(),
        }
    }
}

/// The form values of the field have, as its format says or by default.
fn form<'a>(field: Option<&'a Field>, default: &'a str) -> &'a str {
    match field.map(|field| &field.kind) {
        Some(Kind::Date { format } | Kind::Datetime { format, .. } | Kind::Time { format }) => {
            format.as_deref().unwrap_or(default)
        }
        _ => default,
    }
}

fn timezone(field: Option<&Field>) -> Option<&str> {
    match &field?.kind {
        Kind::Datetime { timezone, .. } => timezone.as_deref(),
        _ => None,
    }
}

fn with_limit(text: &str, field: Option<&Field>, limit: impl Fn(&Constraints) -> Option<String>) -> String {
    match field.and_then(|field| limit(&field.constraints)) {
        Some(limit) => format!("{text} {limit}"),
        None => text.into(),
    }
}

/// Where in the record, and why. `field` is the index into `schema.fields`; `None` is the record as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub field: Option<u16>,
    pub reason: Reason,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::StringFormat;

    fn field(kind: Kind, constraints: Constraints) -> Field {
        Field { name: "x".into(), from: None, kind, sql_type: None, constraints, clean: Vec::new(), default: None }
    }

    #[test]
    fn messages_name_the_rule_that_was_broken() {
        let constraints = Constraints {
            minimum: Some("1".into()),
            max_length: Some(5),
            pattern: Some("[a-z]+".into()),
            ..Constraints::default()
        };
        let text = field(Kind::String { format: StringFormat::Default }, constraints);
        let date = field(Kind::Date { format: Some("%d/%m/%Y".into()) }, Constraints::default());
        let zone = Some("Europe/Paris".to_owned());
        let datetime = field(Kind::Datetime { format: None, timezone: zone }, Constraints::default());
        for (reason, field, message) in [
            (Reason::Minimum, &text, "less than the minimum 1"),
            (Reason::MaxLength, &text, "longer than maxLength 5"),
            (Reason::Pattern, &text, "does not match the pattern [a-z]+"),
            (Reason::OutOfRange(ColumnType::Int2), &text, "out of range for smallint"),
            (Reason::NotDate, &date, "not a date of the form %d/%m/%Y"),
            (Reason::InGap, &datetime, "a local time that Europe/Paris skipped when its clocks were put forward"),
        ] {
            assert_eq!(reason.message(Some(field)), message);
            assert!(!reason.message(None).is_empty());
        }
    }
}
