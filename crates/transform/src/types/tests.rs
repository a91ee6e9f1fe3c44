//! What every type must keep: what the families' own tests build on, and promises across all of them.

use proptest::prelude::*;

use super::*;
use crate::pipeline::{Constraints, StringFormat};
use crate::row::RowRef;

pub(super) fn field(kind: &Kind) -> Field {
    Field {
        name: "value".into(),
        from: None,
        kind: kind.clone(),
        sql_type: None,
        constraints: Constraints::default(),
        clean: Vec::new(),
        default: None,
    }
}

pub(super) fn integer(bare: bool, group: Option<char>) -> Kind {
    Kind::Integer { bare, group }
}

pub(super) fn number() -> Kind {
    Kind::Number { decimal: '.', group: None, bare: true, precision: None }
}

pub(super) fn string(format: StringFormat) -> Kind {
    Kind::String { format }
}

/// The cell a text becomes; a text that is its own value becomes a null cell.
pub(super) fn outcome(kind: &Kind, column: ColumnType, text: &str) -> Result<Cell, Reason> {
    let converter = Converter::compile(&field(kind), column).unwrap();
    let mut scratch = b"before".to_vec();
    let converted = converter.convert(text, &mut scratch);
    assert!(scratch.starts_with(b"before"));
    if converted.is_err() {
        assert_eq!(scratch, b"before", "a reject leaves nothing behind");
    }
    converted.map(|converted| match converted {
        Converted::Cell(cell) => cell,
        Converted::Text => Cell::Null,
    })
}

/// What the database would print for a text.
pub(super) fn shown(kind: &Kind, column: ColumnType, text: &str) -> Result<String, Reason> {
    let converter = Converter::compile(&field(kind), column).unwrap();
    let mut scratch = b"before".to_vec();
    let cell = match converter.convert(text, &mut scratch)? {
        Converted::Cell(cell) => cell,
        Converted::Text => Cell::Text(Span::block(0, text.len())),
    };
    let mut out = String::new();
    write_canonical(cell, column, &RowRef::of_cells(&[], text, &scratch), &mut out);
    Ok(out)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// What is read without a call is what the general way reads.
    #[test]
    fn the_quick_way_agrees_with_the_general_one(
        text in prop_oneof![
            "-?[0-9]{0,10}", "[-+]?[0-9]{0,9}[.,][0-9]{0,5}", "-?0[0-9]{0,3}(\\.[0-9]{1,3})?",
            "(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9]([T ][0-2][0-9]:[0-5][0-9](:[0-5][0-9](\\.[0-9]{1,7})?)?(Z|[+-][01][0-9](:?[0-5]0)?)?)?",
            "(?s)[0-9.,٫\\-\0:TZ+ ]{0,12}",
        ],
        before in "[-0-9a-z,.é]{0,9}",
        after in "[-0-9a-z,.é]{0,3}",
    ) {
        let block = format!("{before}{text}{after}");
        let range = before.len()..before.len() + text.len();
        for (kind, column) in all_pairs() {
            let converter = Converter::compile(&field(&kind), column).unwrap();
            let mut cell = Cell::Null;
            if converter.quick(block.as_bytes(), range.clone(), &mut cell) {
                prop_assert_eq!(converter.convert(&text, &mut Vec::new()), Ok(Converted::Cell(cell)), "{:?} {}", kind, column);
            }
        }
    }
}

/// Every kind with every column it goes into.
fn all_pairs() -> Vec<(Kind, ColumnType)> {
    let kinds = [
        string(StringFormat::Default),
        string(StringFormat::Email),
        string(StringFormat::Uri),
        string(StringFormat::Uuid),
        string(StringFormat::Binary),
        integer(true, None),
        integer(false, Some(',')),
        integer(true, Some('\u{202f}')),
        number(),
        Kind::Number { decimal: ',', group: Some('.'), bare: false, precision: None },
        Kind::Number { decimal: '\u{66b}', group: Some('\u{66c}'), bare: false, precision: None },
        Kind::Boolean { true_values: vec!["1".into()], false_values: vec!["".into()] },
        Kind::Date { format: None },
        Kind::Date { format: Some("%d/%m/%Y".into()) },
        Kind::Date { format: Some("%Y%j".into()) },
        Kind::Date { format: Some("%e %B %y".into()) },
        Kind::Datetime { format: None, timezone: None },
        Kind::Datetime { format: None, timezone: Some("Europe/Paris".into()) },
        Kind::Datetime { format: Some("%b %d %Y %I:%M:%S.%f %p %z".into()), timezone: None },
        Kind::Datetime { format: Some("%Y%m%d%H%M%S".into()), timezone: None },
        Kind::Time { format: None },
        Kind::Time { format: Some("%H%M%S".into()) },
        Kind::Year,
        Kind::Object,
        Kind::Array,
    ];
    let columns = [
        ColumnType::Bool,
        ColumnType::Int2,
        ColumnType::Int4,
        ColumnType::Int8,
        ColumnType::Float4,
        ColumnType::Float8,
        ColumnType::Numeric(None),
        ColumnType::Numeric(Some((12, 2))),
        ColumnType::Numeric(Some((2, 5))),
        ColumnType::Numeric(Some((1000, 1000))),
        ColumnType::Text,
        ColumnType::Varchar(None),
        ColumnType::Varchar(Some(3)),
        ColumnType::Char(3),
        ColumnType::Date,
        ColumnType::Time(6),
        ColumnType::Time(0),
        ColumnType::Timestamp(6),
        ColumnType::Timestamp(3),
        ColumnType::Timestamptz(6),
        ColumnType::Timestamptz(0),
        ColumnType::Json,
        ColumnType::Jsonb,
        ColumnType::Uuid,
        ColumnType::Bytea,
    ];
    let mut pairs = Vec::new();
    for kind in &kinds {
        pairs.extend(columns.iter().filter(|column| column.fits(kind)).map(|column| (kind.clone(), *column)));
    }
    pairs
}

fn converters() -> Vec<Converter> {
    all_pairs().iter().map(|(kind, column)| Converter::compile(&field(kind), *column).unwrap()).collect()
}

/// Converts and prints; the result does not matter, only that there is one.
fn survive(converter: &Converter, text: &str) {
    let mut scratch = Vec::new();
    if let Ok(converted) = converter.convert(text, &mut scratch) {
        let cell = match converted {
            Converted::Cell(cell) => cell,
            Converted::Text => Cell::Text(Span::block(0, text.len())),
        };
        write_canonical(cell, converter.column(), &RowRef::of_cells(&[], text, &scratch), &mut String::new());
    } else {
        assert!(scratch.is_empty(), "a reject leaves nothing behind");
    }
}

#[test]
fn each_kind_goes_into_its_own_default_column() {
    for (kind, _) in all_pairs() {
        assert!(kind.column_type().fits(&kind), "{kind:?}");
    }
}

#[test]
fn a_converter_goes_to_other_threads() {
    fn needs<T: Clone + Send + Sync>() {}
    needs::<Converter>();
    needs::<Checks>();
    needs::<Cleaner>();
}

#[test]
fn a_megabyte_of_anything_is_judged_without_delay_or_panic() {
    let texts =
        ["9", "0", "1.", "a", "-", "[", "{\"a\":", "\"", "\\u", "1,", ".", " ", "\u{660}", "(", "9e", "=", "\n", "'"]
            .map(|piece| piece.repeat((1 << 20) / piece.len()));
    let exponents = [
        format!("{}e9", "9".repeat(1 << 20)),
        format!("0.{}1", "0".repeat(1 << 20)),
        format!("1e{}", "9".repeat(1 << 20)),
    ];
    for converter in converters() {
        for text in texts.iter().chain(&exponents) {
            survive(&converter, text);
        }
    }
}

#[test]
fn memory_is_bounded_whatever_the_exponents() {
    let bomb = format!("[{}1]", "1e131071,".repeat(1000));
    assert_eq!(shown(&Kind::Array, ColumnType::Jsonb, &bomb), Err(Reason::ExpandedTooLong));
    let converter = Converter::compile(&field(&number()), ColumnType::Numeric(None)).unwrap();
    let mut scratch = Vec::new();
    let results: Vec<_> = (0..1000).map(|_| converter.convert("1e131071", &mut scratch)).collect();
    assert_eq!(results.last(), Some(&Err(Reason::ExpandedTooLong)));
    assert!(scratch.len() <= 4 << 20);
}

proptest! {
    #[test]
    fn no_text_makes_a_converter_panic(
        text in prop_oneof![
            any::<String>(),
            "[-+0-9eE., :/TZ()$%]{0,40}",
            "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\\.[0-9]{0,8})?)?([-+Z][0-9:]{0,8})?",
            "[\\[\\]{}:,\"\\\\uabtn0-9eE.-]{0,40}",
            "[A-Za-z0-9+/]{0,12}={0,3}",
            "[-0-9a-fA-F]{30,38}",
            "[\u{e9}\u{660}\u{1f600}@.:-]{0,12}",
        ],
    ) {
        for converter in converters() {
            survive(&converter, &text);
        }
    }
}
