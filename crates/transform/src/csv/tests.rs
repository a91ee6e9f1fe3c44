//! Promises of the grammar, checked on byte strings of every kind.

use proptest::prelude::*;

use super::{Block, Cutter, Decoded, Decoder, Grammar, LastRecord};
use crate::encoding::Encoding;
use crate::pipeline::Dialect;
use crate::reject::Reason;

fn grammar() -> Grammar {
    Grammar::new(&Dialect::default(), b',')
}

fn dialects() -> Vec<Grammar> {
    let base = Dialect::default();
    let with = |change: fn(&mut Dialect)| {
        let mut dialect = base.clone();
        change(&mut dialect);
        Grammar::new(&dialect, b',')
    };
    vec![
        grammar(),
        with(|d| d.comment = Some(b'#')),
        with(|d| d.skip_initial_space = true),
        with(|d| d.quote = None),
        with(|d| {
            d.double_quote = false;
            d.escape = Some(b'\\');
        }),
        with(|d| d.escape = Some(b'\\')),
    ]
}

/// Cuts `input` pushed in pieces of `piece` bytes into blocks of about `block` bytes.
fn cut(grammar: Grammar, input: &[u8], piece: usize, block: usize, limit: usize, header: bool) -> Vec<Block> {
    let mut cutter = Cutter::new(grammar, Encoding::Utf8, limit, header).with_block(block);
    let mut blocks = Vec::new();
    for chunk in input.chunks(piece.max(1)) {
        cutter.push(chunk);
        while let Some(block) = cutter.next() {
            blocks.push(block);
        }
    }
    cutter.finish();
    while let Some(block) = cutter.next() {
        blocks.push(block);
    }
    blocks
}

/// What decode finds: the record's range in the input (`None` for a skipped line), its fields and its fault.
type Item = (Option<(u64, u64)>, Vec<String>, Option<Reason>);

fn decode(grammar: Grammar, blocks: &[Block]) -> Vec<Item> {
    let mut items = Vec::new();
    let mut decoder = Decoder::new(grammar);
    for block in blocks {
        // A line over the limit may be cut inside a character.
        let text = match block.last {
            LastRecord::Truncated => String::from_utf8_lossy(&block.bytes).replace('\u{FFFD}', "?"),
            _ => String::from_utf8(block.bytes.clone()).expect("tests cut text"),
        };
        decoder.reset();
        loop {
            match decoder.next(&text) {
                Decoded::End => break,
                Decoded::Skipped => items.push((None, Vec::new(), None)),
                Decoded::Record { start, end, mut fault } => {
                    let fields = (0..decoder.len()).map(|i| decoder.field(&text, i).to_owned()).collect();
                    if block.last != LastRecord::Whole && decoder.at() == text.len() {
                        fault = Some(Reason::RecordTooLong);
                    }
                    let at = |offset: usize| block.offset + offset as u64;
                    items.push((Some((at(start), at(end))), if fault.is_some() { Vec::new() } else { fields }, fault));
                }
            }
        }
    }
    items
}

/// Bytes that matter to the grammar, far more often than chance would give them.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => Just("\""), 4 => Just(","), 4 => Just("\n"), 2 => Just("\r"), 2 => Just("\r\n"), 2 => Just("a"),
        1 => Just(" "), 1 => Just("\\"), 1 => Just("#"), 1 => Just("é"), 1 => Just("\"\""), 1 => Just(",\""),
        1 => Just("\","), 1 => Just("\"\n"), 1 => Just("long text"),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Records as programs write them, for the most part: what many of are passed over at once.
fn written() -> impl Strategy<Value = String> {
    let quoted = proptest::collection::vec(prop::sample::select(vec!["a", ",", "\n", "\r\n", "\"\"", "é", " "]), 0..6)
        .prop_map(|pieces| format!("\"{}\"", pieces.concat()));
    let field = prop_oneof![8 => "[a-z é]{0,12}".boxed(), 3 => quoted.boxed(), 1 => Just("a\"b".to_owned()).boxed()];
    let end = prop::sample::select(vec!["\n", "\n", "\n", "\r\n", "\n\n", "\r\n\r\n", "\r"]);
    let record = (proptest::collection::vec(field, 1..5), end).prop_map(|(fields, end)| fields.join(",") + end);
    let odd = soup().prop_filter("short", |text| text.len() < 20);
    proptest::collection::vec(prop_oneof![30 => record.boxed(), 1 => odd.boxed()], 0..60)
        .prop_map(|records| records.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Many records at once are the same as one after the other.
    #[test]
    fn leaps_end_where_steps_do(
        input in written(), piece in 1usize..1000, block in 65usize..600, which in 0usize..6, header: bool,
    ) {
        let cutter = || Cutter::new(dialects()[which], Encoding::Utf8, 1000, header).with_block(block);
        let blocks = |mut cutter: Cutter| {
            let mut blocks = Vec::new();
            for chunk in input.as_bytes().chunks(piece) {
                cutter.push(chunk);
                blocks.extend(std::iter::from_fn(|| cutter.next()));
            }
            cutter.finish();
            blocks.extend(std::iter::from_fn(|| cutter.next()));
            blocks.iter().map(|block| format!("{block:?}")).collect::<Vec<_>>()
        };
        prop_assert_eq!(blocks(cutter()), blocks(cutter().step_by_step()));
    }

    /// However bytes arrive and wherever blocks end, the records are the same.
    #[test]
    fn records_do_not_depend_on_pieces_or_blocks(
        input in soup(), piece in 1usize..12, block in 1usize..40, limit in 4usize..40, which in 0usize..6,
    ) {
        let grammar = dialects()[which];
        let whole = decode(grammar, &cut(grammar, input.as_bytes(), usize::MAX, usize::MAX, limit, false));
        let pieces = decode(grammar, &cut(grammar, input.as_bytes(), piece, block, limit, false));
        prop_assert_eq!(whole, pieces);
    }

    /// Cut and decode find the same record ends: with blocks of one byte each block is one record or skipped line.
    #[test]
    fn cut_and_decode_agree(input in soup(), limit in 4usize..60, which in 0usize..6) {
        let grammar = dialects()[which];
        let ones = cut(grammar, input.as_bytes(), usize::MAX, 1, limit, false);
        for one in &ones {
            prop_assert_eq!(decode(grammar, std::slice::from_ref(one)).len(), 1);
        }
        let whole = cut(grammar, input.as_bytes(), usize::MAX, usize::MAX, limit, false);
        prop_assert_eq!(decode(grammar, &ones), decode(grammar, &whole));
    }

    /// Every byte is in a block, in order, unless a line went over the limit.
    #[test]
    fn no_byte_is_lost(input in soup(), piece in 1usize..12, block in 1usize..40) {
        let blocks = cut(grammar(), input.as_bytes(), piece, block, 1 << 20, false);
        let joined: Vec<u8> = blocks.iter().flat_map(|block| block.bytes.clone()).collect();
        prop_assert_eq!(joined, input.as_bytes());
        let mut offset = 0;
        let mut line = 1;
        for block in &blocks {
            prop_assert_eq!((block.offset, block.line), (offset, line));
            offset += block.len() as u64;
            line += super::count_line_ends(&block.bytes);
        }
    }

    /// Where quotes are used as RFC 4180 says, the csv crate reads the same fields. (It drops blank lines, as we skip
    /// them, and reads on after stray quotes, where we have a fault.)
    #[test]
    fn the_csv_crate_reads_the_same(input in soup(), piece in 1usize..12) {
        let ours = decode(grammar(), &cut(grammar(), input.as_bytes(), piece, 16, 1 << 20, false));
        if ours.iter().any(|(_, _, fault)| fault.is_some()) {
            return Ok(());
        }
        let ours: Vec<_> = ours.into_iter().filter(|(at, ..)| at.is_some()).map(|(_, fields, _)| fields).collect();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(input.as_bytes());
        let theirs: Vec<Vec<String>> =
            reader.records().map(|record| record.expect("reads").iter().map(str::to_owned).collect()).collect();
        prop_assert_eq!(ours, theirs);
    }

    /// The first block of an object with a header ends with the header, whatever stands before it.
    #[test]
    fn the_header_is_alone(input in soup(), piece in 1usize..12) {
        let blocks = cut(grammar(), input.as_bytes(), piece, usize::MAX, 1 << 20, true);
        let items = decode(grammar(), &blocks);
        if items.iter().any(|(at, ..)| at.is_some()) {
            let first = decode(grammar(), &blocks[..1]);
            prop_assert_eq!(first.iter().filter(|(at, ..)| at.is_some()).count(), 1);
            prop_assert!(first.last().is_some_and(|(at, ..)| at.is_some()));
            prop_assert!(blocks.iter().skip(1).take(1).all(|block| block.record == 1));
        }
    }
}

fn records(input: &str) -> Vec<(Vec<String>, Option<Reason>)> {
    let items = decode(grammar(), &cut(grammar(), input.as_bytes(), 7, 1, 1 << 20, false));
    items.into_iter().filter(|(at, ..)| at.is_some()).map(|(_, fields, fault)| (fields, fault)).collect()
}

fn fields(list: &[&str]) -> (Vec<String>, Option<Reason>) {
    (list.iter().map(|&field| field.to_owned()).collect(), None)
}

#[test]
fn one_stray_quote_costs_one_line() {
    let read = records("1,a\n2,\"b\n3,\"c\",x\n4,d\n");
    assert_eq!(
        read,
        [fields(&["1", "a"]), (vec![], Some(Reason::UnclosedQuote)), fields(&["3", "c", "x"]), fields(&["4", "d"])]
    );
}

#[test]
fn an_unclosed_quote_at_the_end_costs_its_line_only() {
    let read = records("1,\"a\n2,b\n3,c");
    assert_eq!(read, [(vec![], Some(Reason::UnclosedQuote)), fields(&["2", "b"]), fields(&["3", "c"])]);
}

#[test]
fn quotes_inside_unquoted_text_are_text() {
    assert_eq!(records("5\" pipe,a\"\"b\n"), [fields(&["5\" pipe", "a\"\"b"])]);
}

#[test]
fn text_after_a_closing_quote_is_a_fault_of_its_record_only() {
    assert_eq!(records("\"a\"b,c\nd,e\n"), [(vec![], Some(Reason::TextAfterQuote)), fields(&["d", "e"])]);
}

#[test]
fn line_ends_may_be_mixed() {
    let read = records("a,b\rc,d\r\ne,f\ng,h");
    assert_eq!(read, [fields(&["a", "b"]), fields(&["c", "d"]), fields(&["e", "f"]), fields(&["g", "h"])]);
}

#[test]
fn a_line_over_the_limit_is_one_reject_and_reading_goes_on() {
    let long = "x".repeat(100_000);
    for piece in [3, 1000, usize::MAX] {
        let input = format!("a\n{long}\nb\n");
        let blocks = cut(grammar(), input.as_bytes(), piece, 1 << 18, 1000, false);
        let items = decode(grammar(), &blocks);
        let faults: Vec<_> = items.iter().map(|(_, _, fault)| *fault).collect();
        assert_eq!(faults, [None, Some(Reason::RecordTooLong), None]);
        assert!(blocks.iter().all(|block| block.len() <= 1002), "the rest of the line is not kept");
        assert_eq!(items[2].0, Some((100_003, 100_004)), "offsets count the dropped bytes");
        assert_eq!(blocks.last().map(|block| (block.line, block.record)), Some((3, 3)));
    }
}

#[test]
fn a_comment_over_the_limit_is_a_skipped_line_like_any_other() {
    let grammar = dialects()[1];
    let long = "é".repeat(50_000);
    for (piece, end) in [(3, "\n"), (1000, "\r\n"), (usize::MAX, "\r"), (7, "\n")] {
        let input = format!("#{long}{end}a{end}#{long}{end}b{end}#{long}");
        let blocks = cut(grammar, input.as_bytes(), piece, 1 << 18, 1000, true);
        let items = decode(grammar, &blocks);
        let records: Vec<_> = items.iter().map(|(_, fields, fault)| (fields.concat(), *fault)).collect();
        assert_eq!(records, ["", "a", "", "b", ""].map(|text| (text.to_owned(), None)));
        assert!(blocks.iter().all(|block| block.len() <= 1000), "the rest of the line is not kept");
        let b = 2 * (1 + long.len() + end.len()) + 1 + end.len();
        assert_eq!(items[3].0, Some((b as u64, b as u64 + 1)), "offsets count the dropped bytes");
        let places: Vec<_> = blocks.iter().map(|block| (block.line, block.record)).collect();
        assert_eq!(places[places.len() - 2..], [(4, 1), (5, 2)]);
        let header = blocks.iter().find_map(|block| super::read_header(block, grammar, 10).unwrap().0);
        assert_eq!(header.unwrap(), ["a"]);
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_label() {
    for piece in [1, 2, 100] {
        let blocks = cut(grammar(), b"\xEF\xBB\xBF\"id\",b\n1,2\n", piece, 1 << 18, 1 << 20, true);
        assert_eq!(super::read_header(&blocks[0], grammar(), 10).unwrap().0.unwrap(), ["id", "b"]);
        assert_eq!(blocks[0].offset, 3);
        assert_eq!(blocks[1].offset, 10);
    }
}

#[test]
fn a_byte_order_mark_alone_is_no_record() {
    assert!(cut(grammar(), b"\xEF\xBB\xBF", 1, 1, 1 << 20, true).is_empty());
    assert_eq!(cut(grammar(), b"\xEF\xBB", 1, 1, 1 << 20, true).len(), 1);
}

#[test]
fn utf16_records_keep_their_raw_bytes_and_offsets() {
    let text = "id,name\n1,Peña\n2,😀\n3,\"a\nb\"\n";
    for encoding in [Encoding::Utf16Le, Encoding::Utf16Be] {
        let unit = |unit: u16| if encoding == Encoding::Utf16Le { unit.to_le_bytes() } else { unit.to_be_bytes() };
        let mut raw: Vec<u8> = std::iter::once(0xFEFF).chain(text.encode_utf16()).flat_map(unit).collect();
        // A lone surrogate and an odd last byte, neither of which is text.
        raw.extend(unit(0xD800));
        raw.push(0x0A);
        for piece in [1, 3, 1000] {
            let mut cutter = Cutter::new(grammar(), encoding, 1 << 20, true).with_block(1);
            let mut blocks = Vec::new();
            for chunk in raw.chunks(piece) {
                cutter.push(chunk);
                blocks.extend(std::iter::from_fn(|| cutter.next()));
            }
            cutter.finish();
            blocks.extend(std::iter::from_fn(|| cutter.next()));
            let mut rebuilt = raw[..2].to_vec();
            for block in &blocks {
                assert_eq!(block.offset as usize, rebuilt.len());
                rebuilt.extend(encoding.to_raw(&block.bytes));
            }
            assert_eq!(rebuilt, raw);
            assert!(encoding.decode(&blocks.last().unwrap().bytes).is_none());
        }
    }
}

#[test]
fn the_delimiter_is_guessed_from_records_not_from_characters() {
    let dialect = Dialect::default();
    assert_eq!(super::sniff_delimiter(&dialect, "a;b\n\"1,2,3\";4\n5;6\n"), Some(b';'));
    assert_eq!(super::sniff_delimiter(&dialect, "a\tb\n1,5\t2\n"), Some(b'\t'));
    assert_eq!(super::sniff_delimiter(&dialect, "a|b|c\n1|2|3\n"), Some(b'|'));
    assert_eq!(super::sniff_delimiter(&dialect, "one\ntwo\n"), None);
}

#[test]
fn the_byte_order_mark_decides_between_the_two_utf16() {
    let pipeline = crate::Pipeline::parse(
        "version = 1\nname = \"t\"\n[source]\npath = \"t.csv\"\nencoding = \"utf-16\"\n[schema]\n\
         fields = [{ name = \"id\" }]\n",
    )
    .unwrap();
    for order in [u16::to_le_bytes, u16::to_be_bytes] {
        let raw: Vec<u8> = "\u{FEFF}\n\nid\n1\n".encode_utf16().flat_map(order).collect();
        let opened = super::Opened::new(raw.as_slice(), &pipeline).unwrap();
        assert_eq!(opened.header().unwrap(), ["id"]);
        assert_eq!(opened.skipped(), 2, "blank lines before the header are skipped lines like any other");
    }
}

#[test]
fn a_first_line_may_name_the_delimiter_and_is_no_record() {
    let pipeline = |dialect: &str| {
        let text = format!(
            "version = 1\nname = \"t\"\n[source]\npath = \"t.csv\"\n[dialect]\n{dialect}\n[schema]\n\
             fields = [{{ name = \"id\" }}, {{ name = \"note\" }}]\n"
        );
        crate::Pipeline::parse(&text).unwrap()
    };
    for hint in ["sep=;\n", "SEP=;\r\n", "\"sep=;\"\r", "\u{FEFF}sep=;\n"] {
        for (dialect, header) in [("", "id;note\n"), ("delimiter = \";\"", "id;note\n"), ("header = false", "")] {
            let input = format!("{hint}{header}1;a,b,c\n");
            let mut opened = super::Opened::new(input.as_bytes(), &pipeline(dialect)).unwrap();
            assert_eq!(
                (opened.grammar().delimiter(), opened.sniffed(), opened.skipped()),
                (b';', None, 1),
                "{input:?}"
            );
            assert_eq!(opened.hinted(), Some(';'));
            let block = opened.next_block().unwrap().unwrap();
            let line = if header.is_empty() { 2 } else { 3 };
            assert_eq!((block.offset as usize, block.line, block.record), (hint.len() + header.len(), line, 1));
            assert_eq!(block.bytes, b"1;a,b,c\n");
        }
    }
    let error = super::Opened::new(&b"sep=;\nid;note\n"[..], &pipeline("delimiter = \",\"")).unwrap_err();
    assert_eq!(error.to_string(), "its first line says sep=;, and the pipeline says delimiter = \",\"");
    let error = super::Opened::new(&b"sep=;"[..], &pipeline("")).unwrap_err();
    assert!(matches!(error, super::OpenError::NoHeader), "{error}");
    for no_hint in ["sep=\n", "sep=x\n", "sep=;x\n", " sep=;\n", "sep=\"\n"] {
        assert_eq!(super::hinted_delimiter(&Dialect::default(), no_hint), None, "{no_hint:?}");
    }
}

/// Counts what is read from it.
#[derive(Debug)]
struct Counted(std::rc::Rc<std::cell::Cell<u64>>);

impl std::io::Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let left = (64_u64 << 20) - self.0.get();
        let length = buffer.len().min(usize::try_from(left).unwrap());
        buffer[..length].fill(b'a');
        self.0.set(self.0.get() + length as u64);
        Ok(length)
    }
}

#[test]
fn a_header_over_the_limit_is_refused_before_its_end() {
    let text = "version = 1\nname = \"p\"\n[source]\npath = \"p.csv\"\n[schema]\n\
                fields = [{ name = \"a\", type = \"string\" }]\n";
    let pipeline = crate::Pipeline::parse(text).unwrap();
    let read = std::rc::Rc::default();
    let error = super::Opened::new(Counted(std::rc::Rc::clone(&read)), &pipeline).unwrap_err();
    assert!(matches!(error, super::OpenError::Header(super::HeaderError::TooLong { line: 1 })), "{error:?}");
    assert!(read.get() < 4 << 20, "{} bytes read", read.get());
}
