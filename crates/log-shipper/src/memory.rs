//! Memory that goes back to the kernel while nothing happens.

use rustix::mm::{Advice, madvise};

/// What the allocator keeps of what was freed, and what is mapped of the program itself: a start touches nearly all of it, and
/// rest takes a fraction.
pub(crate) fn give_back() {
    collect();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().filter_map(Code::of).for_each(let_go);
}

#[expect(unsafe_code, reason = "the allocator's own function, for which its crate has no safe name")]
fn collect() {
    // SAFETY: it takes no pointer, and may be called by any thread at any time.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

#[expect(unsafe_code, reason = "the kernel is told about a range of addresses")]
fn let_go(code: Code) {
    let start = std::ptr::with_exposed_provenance_mut(code.start);
    // SAFETY: the range is one mapping of a file for reading and executing. Nothing was ever written to it, so each page is what
    // the file has there, and the kernel maps it again when it is touched.
    let _ = unsafe { madvise(start, code.length, Advice::LinuxDontNeed) };
}

/// A mapping of a file's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Code {
    start: usize,
    length: usize,
}

impl Code {
    /// From a line of `/proc/self/maps` (proc_pid_maps(5)): range, rights, offset, device, inode, path.
    fn of(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let is_code_of_a_file = fields.next()? == "r-xp" && fields.nth(3)?.starts_with('/');
        let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        is_code_of_a_file.then_some(Self { start, length: end.checked_sub(start)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_files_is_let_go() {
        let code = Code::of("55d0c8a00000-55d0c9000000 r-xp 00200000 08:01 1234      /usr/local/bin/log-shipper");
        assert_eq!(code, Some(Code { start: 0x55d0_c8a0_0000, length: 0x60_0000 }));
        for other in [
            "55d0c8800000-55d0c8a00000 r--p 00000000 08:01 1234      /usr/local/bin/log-shipper",
            "55d0c9000000-55d0c9100000 rw-p 00800000 08:01 1234      /usr/local/bin/log-shipper",
            "7f0000000000-7f0000001000 rwxp 00000000 00:00 0",
            "7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0         [vdso]",
            "",
        ] {
            assert_eq!(Code::of(other), None, "{other}");
        }
    }

    #[test]
    fn what_is_let_go_is_there_when_it_is_wanted() {
        for round in 0..3 {
            give_back();
            assert_eq!(format!("{round}"), ["0", "1", "2"][round]);
        }
    }
}
