//! Files that are certainly no CSV, told by their first bytes.

/// What a file is and what to do about it, when its first bytes (after decompression; 512 are plenty) show that it is no
/// CSV; `None` when it may be one.
///
/// Signatures that are plain letters are believed only when what follows cannot be text, so that a CSV whose first
/// column is called `PAR1` passes.
pub fn refuse_binary(head: &[u8]) -> Option<&'static str> {
    let binary_after = |length: usize| head.get(length).is_some_and(|&byte| byte < 0x20 && !b"\t\r\n".contains(&byte));
    let found = SIGNATURES.iter().find(|(signature, kind, _)| {
        head.starts_with(signature) && (*kind == Kind::Sure || binary_after(signature.len()))
    });
    if let Some((_, _, advice)) = found {
        return Some(advice);
    }
    if head.get(257..262) == Some(b"ustar") {
        return Some("a tar archive; unpack it and give the files inside");
    }
    is_markup(head).then_some(
        "an HTML page or XML, perhaps a login or error page saved by mistake; download the file again, or export it as CSV",
    )
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// No text starts like this.
    Sure,
    /// Letters; a control character has to follow.
    Letters,
}

const SIGNATURES: &[(&[u8], Kind, &str)] = &[
    (b"%PDF-", Kind::Sure, "a PDF document; export the table as CSV from where it was made"),
    (b"PAR1", Kind::Letters, "a Parquet file; convert it to CSV first"),
    (b"PK\x03\x04", Kind::Sure, "a ZIP archive or an Excel workbook (.xlsx); unpack it, or save the sheet as CSV"),
    (b"PK\x05\x06", Kind::Sure, "an empty ZIP archive"),
    (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", Kind::Sure, "an old Excel workbook (.xls); save the sheet as CSV"),
    (b"\x7FELF", Kind::Sure, "a program (ELF); give a CSV file"),
    (b"SQLite format 3\0", Kind::Sure, "an SQLite database; export the table as CSV"),
    (b"\xFD7zXZ\0", Kind::Sure, "xz-compressed; recompress it with gzip, zstd or bzip2"),
    (b"7z\xBC\xAF\x27\x1C", Kind::Sure, "a 7z archive; unpack it and give the files inside"),
    (b"Rar!\x1A\x07", Kind::Sure, "a RAR archive; unpack it and give the files inside"),
    (b"\x04\x22\x4D\x18", Kind::Sure, "lz4-compressed; recompress it with gzip, zstd or bzip2"),
    (b"\x1F\x8B", Kind::Sure, "compressed twice (gzip inside); decompress it once"),
    (b"\x28\xB5\x2F\xFD", Kind::Sure, "compressed twice (zstd inside); decompress it once"),
    (b"BZh91AY&SY", Kind::Sure, "compressed twice (bzip2 inside); decompress it once"),
    (b"\xFF\xFE\0\0", Kind::Sure, "UTF-32 text; convert it to UTF-8 first, for example with iconv"),
    (b"\0\0\xFE\xFF", Kind::Sure, "UTF-32 text; convert it to UTF-8 first, for example with iconv"),
    (b"Obj\x01", Kind::Sure, "an Avro file; convert it to CSV first"),
    (b"ORC", Kind::Letters, "an ORC file; convert it to CSV first"),
    (b"ARROW1\0\0", Kind::Sure, "an Arrow file; convert it to CSV first"),
    (b"\x89PNG\r\n\x1A\n", Kind::Sure, "a PNG picture; give a CSV file"),
    (b"\xFF\xD8\xFF", Kind::Sure, "a JPEG picture; give a CSV file"),
    (
        b"version https://git-lfs.github.com/spec/v1",
        Kind::Sure,
        "a Git LFS pointer, not the file itself; run `git lfs pull`",
    ),
];

fn is_markup(head: &[u8]) -> bool {
    let text = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).trim_ascii_start();
    [&b"<!doctype html"[..], b"<html", b"<head>", b"<!--", b"<?xml "]
        .iter()
        .any(|tag| text.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_files_are_refused_by_name() {
        let mut tar = vec![b'a'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        for (head, expected) in [
            (&b"%PDF-1.7\n"[..], "PDF"),
            (b"PAR1\x15\x04\x15", "Parquet"),
            (b"PK\x03\x04\x14\0", "Excel"),
            (b"\xEF\xBB\xBF \n<!DOCTYPE HTML>", "HTML"),
            (b"<html lang=en>", "HTML"),
            (b"<!-- saved from url -->\n<html>", "HTML"),
            (b"<?xml version=\"1.0\"?>\n<Error>", "XML"),
            (b"\x7FELF\x02", "ELF"),
            (b"SQLite format 3\0", "SQLite"),
            (b"\xFD7zXZ\0\0", "xz"),
            (b"7z\xBC\xAF\x27\x1C", "7z"),
            (b"\xFF\xFE\0\0i\0\0\0", "UTF-32"),
            (b"\0\0\xFE\xFF\0\0\0i", "UTF-32"),
            (b"\x1F\x8B\x08\0", "gzip inside"),
            (b"\x28\xB5\x2F\xFD\x04", "zstd inside"),
            (b"BZh91AY&SY\xB1", "bzip2 inside"),
            (b"PK\x05\x06\0\0", "empty ZIP"),
            (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1\0", ".xls"),
            (b"Rar!\x1A\x07\x01\0", "RAR"),
            (b"\x04\x22\x4D\x18\x64", "lz4"),
            (b"Obj\x01\x04", "Avro"),
            (b"ORC\x08\x03", "ORC"),
            (b"ARROW1\0\0", "Arrow"),
            (b"\x89PNG\r\n\x1A\n\0", "PNG"),
            (b"\xFF\xD8\xFF\xE0", "JPEG"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
            (&tar, "tar"),
        ] {
            assert!(refuse_binary(head).is_some_and(|advice| advice.contains(expected)), "{expected}");
        }
    }

    #[test]
    fn text_that_only_looks_alike_passes() {
        for head in [
            &b""[..],
            b"PAR1,PAR2\n1,2\n",
            b"ORC\n1\n",
            b"PK,name\n",
            b"<a>,b\n",
            b"id,name\n",
            b"\xFF\xFEi\0d\0",
            b"version,https\n",
            b"BZh9,x\n",
        ] {
            assert_eq!(refuse_binary(head), None, "{}", head.escape_ascii());
        }
    }
}
