//! What only a field's own types can judge: its format, and whether the values in its rules are values of the field.

use super::problem::Collector;
use super::section::Section;
use super::{Constraints, Field};
use crate::row::Cell;
use crate::span::Span;
use crate::types::{Checks, Cleaner, Converted, Converter};

/// Compiles the field as a load would and reports what does not work, where it was written.
pub(super) fn check(problems: &mut Collector<'_>, section: &Section<'_>, field: &Field) {
    if let Err(why) = Cleaner::compile(&field.clean) {
        problems.push(section.span_of("clean"), why);
    }
    let converter = match Converter::compile(field, field.column_type()) {
        Ok(converter) => converter,
        Err(why) => {
            problems.push(section.span_of("format"), why);
            return;
        }
    };
    let rules = section.section("constraints");
    let mut sound = true;
    for (key, alone) in one_by_one(&field.constraints) {
        if let Err(why) = compile(field, &alone, &converter) {
            sound = false;
            problems.push(rules.span_of(key), why);
        }
    }
    let items = rules.list("enum").into_iter().flatten();
    for (item, value) in items.zip(field.constraints.one_of.iter().flatten()) {
        let alone = Constraints { one_of: Some(vec![value.clone()]), ..Constraints::default() };
        if let Err(why) = compile(field, &alone, &converter) {
            sound = false;
            problems.push(item.span(), why);
        }
    }
    if !sound {
        return;
    }
    check_range(problems, &rules, field, &converter);
    if let Some(default) = &field.default {
        check_default(problems, section, field, &converter, default);
    }
}

/// Each rule that holds a value, as if it were the only one.
fn one_by_one(all: &Constraints) -> [(&'static str, Constraints); 5] {
    let none = Constraints::default;
    [
        ("minimum", Constraints { minimum: all.minimum.clone(), ..none() }),
        ("maximum", Constraints { maximum: all.maximum.clone(), ..none() }),
        ("exclusiveMinimum", Constraints { exclusive_minimum: all.exclusive_minimum.clone(), ..none() }),
        ("exclusiveMaximum", Constraints { exclusive_maximum: all.exclusive_maximum.clone(), ..none() }),
        ("pattern", Constraints { pattern: all.pattern.clone(), ..none() }),
    ]
}

fn compile(field: &Field, rules: &Constraints, converter: &Converter) -> Result<Checks, String> {
    Checks::compile(&Field { constraints: rules.clone(), ..field.clone() }, converter)
}

/// A range without values would reject every record.
fn check_range(problems: &mut Collector<'_>, rules: &Section<'_>, field: &Field, converter: &Converter) {
    let Constraints { minimum, maximum, exclusive_minimum, exclusive_maximum, .. } = &field.constraints;
    let lower = [("minimum", minimum), ("exclusiveMinimum", exclusive_minimum)];
    let upper = [("maximum", maximum), ("exclusiveMaximum", exclusive_maximum)];
    for (low_key, low) in lower {
        for (high_key, high) in upper {
            let (Some(low), Some(high)) = (low, high) else { continue };
            let strict = low_key != "minimum" || high_key != "maximum";
            let below = Constraints {
                maximum: (!strict).then(|| high.clone()),
                exclusive_maximum: strict.then(|| high.clone()),
                ..Constraints::default()
            };
            // A bound in another notation than the field's is left to the records.
            if judge(field, &below, converter, low).is_err_and(|why| why.is_some()) {
                problems
                    .push(rules.span_of(low_key), format!("no value is between {low_key} {low} and {high_key} {high}"));
            }
        }
    }
}

fn check_default(
    problems: &mut Collector<'_>,
    section: &Section<'_>,
    field: &Field,
    converter: &Converter,
    default: &str,
) {
    let span = section.span_of("default");
    match judge(field, &field.constraints, converter, default) {
        Ok(()) => {}
        Err(Some(why)) => problems.push(span, format!("the default breaks a rule of the field: {why}")),
        Err(None) => {
            let why = converter.convert(default, &mut Vec::new()).err().map(|reason| reason.message(Some(field)));
            problems.push(span, format!("the default is no value of the field: {}", why.unwrap_or_default()));
        }
    }
}

/// What a load would say to `text`: `Err(None)` when it is no value of the field, `Err(Some)` when it breaks a rule.
fn judge(field: &Field, rules: &Constraints, converter: &Converter, text: &str) -> Result<(), Option<String>> {
    let mut scratch = Vec::new();
    let cell = match converter.convert(text, &mut scratch) {
        Ok(Converted::Cell(cell)) => cell,
        Ok(Converted::Text) => Cell::Text(Span::block(0, text.len())),
        Err(_) => return Err(None),
    };
    let checks = compile(field, rules, converter).map_err(Some)?;
    checks.check(cell, text, &scratch).map_err(|reason| Some(reason.message(Some(field))))
}
