//! What the bytes of a file can look like as a whole: its line ends, its first and last bytes, its encoding, its size.

use std::io::{Seek, SeekFrom, Write};

use super::{COMMA, Place, peak_memory, texts};
use crate::text;

#[test]
fn lines_end_as_anybody_ends_them_and_are_counted_as_an_editor_does() {
    for (what, content, rows, rejects) in [
        ("all three ends", &b"a,b\r\n1,x\n2,y\r3,z\r\nbad\n4,w"[..], "1x 2y 3z 4w", "5 missing-cell"),
        ("a return too many", b"a,b\r\r\n1,x\r\r\nbad\r\r\n", "1x", "5 missing-cell"),
        ("NULs at the end", b"a,b\n1,x\n\0\0\0\0", "1x", "3 missing-cell"),
        ("curly quotes", "a,b\n\u{201c}1\u{201d},x\n".as_bytes(), "\u{201c}1\u{201d}x", ""),
        ("doubled beside backslash", b"a,b\n\"1\"\"2\",x\\\n", "1\"2x\\", ""),
        ("four quotes", b"a,b\n\"\"\"\",x\n", "\"x", ""),
        ("a delimiter behind each record", b"a,b\n1,x,\n2,y,\n", "", "2 extra-cell 3 extra-cell"),
        ("a second table", b"a,b\n1,x\n\na,b,c\n1,2,3\n", "1x", "4 extra-cell 5 extra-cell"),
        ("a quote on each line", b"a,b\n1,x\n\"\n\"\n\"\n\"\n2,y\n", "1x 2y", "3 missing-cell 5 missing-cell"),
    ] {
        let place = Place::new(&texts(COMMA, ""));
        place.write("t.csv", content);
        place.run("run p.toml t.csv", 0);
        let sql = "select coalesce(string_agg(a || b, ' ' order by _record), '') from t";
        assert_eq!(place.database.psql(sql), rows, "{what}");
        assert_eq!(place.rejects().join(" "), rejects, "{what}");
    }
    // A delimiter more in the header is a column without a name, which no field asks for.
    let place = Place::new(&texts(COMMA, ""));
    place.write("t.csv", "a,b,\n1,x,\n");
    place.run("run p.toml t.csv", 0);
    assert_eq!(place.rows(), ["(1,x)"]);
}

#[test]
fn what_holds_no_record_or_no_text_is_refused_with_the_reason() {
    let utf16 = |order: fn(u16) -> [u8; 2]| "a,b\n1,2\n".encode_utf16().flat_map(order).collect::<Vec<u8>>();
    let utf32: Vec<u8> = "a,b\n1,2\n".chars().flat_map(|char| u32::from(char).to_le_bytes()).collect();
    for (what, encoding, content, said) in [
        ("a mark only", "utf-8", b"\xef\xbb\xbf".to_vec(), "no header"),
        ("line ends only", "utf-8", b"\n\r\n\r\n".to_vec(), "no header"),
        ("UTF-16LE without a mark", "utf-8", utf16(u16::to_le_bytes), "looks like UTF-16LE without a byte order mark"),
        ("UTF-16BE without a mark", "windows-1252", utf16(u16::to_be_bytes), "looks like UTF-16BE"),
        ("the other byte order", "utf-16", utf16(u16::to_be_bytes), "encoding = \"utf-16be\""),
        ("UTF-32", "utf-8", utf32, "looks like UTF-32 without a byte order mark"),
        // "a,b" and a line end in EBCDIC.
        ("EBCDIC", "utf-8", b"\x81\x6b\x82\x25\xf1\x6b\xf2\x25".to_vec(), "UTF-8"),
        ("XML", "utf-8", b"<?xml version=\"1.0\"?>\n<a/>\n".to_vec(), "XML"),
        ("a page behind a comment", "utf-8", b"<!-- x -->\n<html>\n".to_vec(), "HTML"),
    ] {
        for header in ["", "\nheader = false"] {
            let place = Place::new(&texts(&format!("{COMMA}{header}"), &format!("encoding = \"{encoding}\"")));
            place.write("t.csv", &content);
            if !header.is_empty() && ["a mark only", "line ends only", "EBCDIC"].contains(&what) {
                // Without a header nothing is wrong with a file of no records, and bytes that are no text are rejects.
                place.run("run p.toml t.csv", 0);
                assert_eq!(place.database.psql("select count(*) from t"), "0", "{what}");
                continue;
            }
            let output = place.run("run p.toml t.csv", 3);
            assert!(output.contains(said), "{what}: {output}");
        }
    }
    // In the byte order that is named, no mark is needed.
    for (encoding, content) in [("utf-16", utf16(u16::to_le_bytes)), ("utf-16be", utf16(u16::to_be_bytes))] {
        let place = Place::new(&texts(COMMA, &format!("encoding = \"{encoding}\"")));
        place.write("t.csv", content);
        place.run("run p.toml t.csv", 0);
        assert_eq!(place.rows(), ["(1,2)"], "{encoding}");
    }
    let place = Place::new(&texts(COMMA, "encoding = \"x-user-defined\""));
    assert!(place.run("run p.toml t.csv", 2).contains("x-user-defined"));
}

#[test]
fn a_file_of_another_shape_makes_one_ask_for_the_delimiter() {
    let pipeline = texts("", "").replace("rows = 100000", "rows = 10");
    let place = Place::new(&pipeline);
    place.write("t.csv", format!("a,b\n{}", "x;y\n".repeat(40)));
    let said = place.run("run p.toml t.csv", 3);
    assert!(said.contains("each has too few cells or too many: is the delimiter the right one"), "{said}");
    // A reject of another kind speaks against it.
    let place = Place::new(&pipeline);
    place.write("t.csv", format!("a,b\nx\0,y\n{}", "x;y\n".repeat(40)));
    assert!(!place.run("run p.toml t.csv", 3).contains("is the delimiter the right one"));
    // So does a record that is right.
    let place = Place::new(&pipeline.replace("rows = 10", "rows = 0"));
    place.write("t.csv", "a,b\nx,y\nx,y\nbad\n");
    assert!(!place.run("run p.toml t.csv", 3).contains("is the delimiter the right one"));
    // One column may be what there is, or what no delimiter was found in.
    let place = Place::new(&pipeline.replace(", { name = \"b\" }", ""));
    place.write("t.csv", "a\nx^y\n");
    let said = place.run("run p.toml t.csv", 0);
    assert!(said.contains("took \",\" for the delimiter, which splits nothing"), "{said}");
}

#[test]
fn a_field_name_of_a_megabyte_in_a_gzip_header_is_an_error_that_says_so() {
    let packed = |name: usize| {
        let file = flate2::GzBuilder::new().filename("n".repeat(name));
        let mut encoder = file.write(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"a,b\n1,x\n").unwrap();
        encoder.finish().unwrap()
    };
    let place = Place::new(&texts(COMMA, ""));
    place.write("long.csv.gz", packed(1_000_000));
    assert!(place.run("run p.toml long.csv.gz", 1).contains("gzip"));
    place.write("t.csv.gz", packed(60_000));
    place.run("run p.toml t.csv.gz", 0);
    assert_eq!(place.rows(), ["(1,x)"]);
}

#[test]
fn positions_beyond_four_gigabytes_are_right_and_take_no_memory() {
    let place = Place::new(&texts(COMMA, ""));
    let mut file = std::fs::File::create(place.path("t.csv")).unwrap();
    file.write_all(b"a,b\n1,x\n").unwrap();
    // A line of NULs that takes no room on the disk.
    let hole = 4_500_000_000_u64;
    file.seek(SeekFrom::Start(8 + hole)).unwrap();
    file.write_all(b"\n2,y\nbad\n3,z\n").unwrap();
    drop(file);
    let mut child = place.command(place.database.url(), "run p.toml t.csv").spawn().unwrap();
    let peak = peak_memory(&mut child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!((1_000..64 * 1024).contains(&peak), "{peak} KiB");
    assert_eq!(place.rows(), ["(1,x)", "(2,y)", "(3,z)"]);
    let rejects = "select line || ' ' || code || ' ' || byte_offset from aqueduct.reject order by record";
    let expected = format!("3 record-limit 8\n5 missing-cell {}", 8 + hole + 5);
    assert_eq!(place.database.psql(rejects), expected);
}
