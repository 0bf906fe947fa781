//! Gives back what only starting and reloading need of the program's own file: its code for arguments, configuration and the like,
//! a third of what is resident of a daemon at rest.
//!
//! Whatever is needed again is mapped again, from the kernel's page cache as a rule: at most 64 KiB for each fault.

use std::ffi::c_void;
use std::ops::Range;

use rustix::mm::{Advice, madvise};

/// Gives it back. Where the kernel does not say what is mapped, nothing happens.
pub fn give_back() {
    let Some(program) = std::fs::read_link("/proc/self/exe").ok() else {
        return;
    };
    let Ok(maps) = std::fs::read_to_string("/proc/self/smaps") else {
        return;
    };
    for range in unchanged(&maps, &program.to_string_lossy()) {
        let start = std::ptr::without_provenance_mut::<c_void>(range.start);
        // SAFETY: a private mapping of a file, which nobody can write to and which holds no page of its own: each octet of it
        // is read from the file again. The kernel lets nobody write to a program's file while it runs.
        let given = unsafe { madvise(start, range.end.saturating_sub(range.start), Advice::LinuxDontNeed) };
        if let Err(error) = given {
            tracing::debug!(%error, "pages of the program cannot be given back");
        }
    }
}

/// The mappings of `program` that nobody can write to and of which no page differs from the file (proc_pid_smaps(5)).
fn unchanged(maps: &str, program: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in maps.lines() {
        if let Some(range) = mapping(line) {
            candidate = is_read_alone(line, program).then_some(range);
        } else if let Some(own) = line.strip_prefix("Anonymous:") {
            found.extend(candidate.take().filter(|_| own.trim() == "0 kB"));
        }
    }
    found
}

/// The addresses, if the line begins a mapping.
fn mapping(line: &str) -> Option<Range<usize>> {
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    (start < end).then_some(start..end)
}

/// Whether the line's mapping is a private one of the program that is read or run alone.
fn is_read_alone(line: &str, program: &str) -> bool {
    let mut words = line.splitn(6, ' ');
    let access = words.nth(1);
    let path = words.nth(3).map(str::trim_start);
    matches!(access, Some("r-xp" | "r--p")) && path == Some(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
55d0c0000000-55d0c0533000 r--p 00000000 fe:00 4711                       /usr/bin/usherd
Size:               5324 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
VmFlags: rd mr mw me sd
55d0c0534000-55d0c17ee000 r-xp 00533000 fe:00 4711                       /usr/bin/usherd
Anonymous:             0 kB
55d0c17ef000-55d0c188b000 r--p 017ed000 fe:00 4711                       /usr/bin/usherd
Anonymous:           620 kB
55d0c188b000-55d0c1893000 rw-p 01888000 fe:00 4711                       /usr/bin/usherd
Anonymous:             0 kB
55d0c2000000-55d0c2021000 rw-p 00000000 00:00 0                          [heap]
Anonymous:             0 kB
7f0000000000-7f0000028000 r-xp 00000000 fe:00 99                         /usr/lib/libc.so.6
Anonymous:             0 kB
";

    #[test]
    fn only_what_the_file_still_has_is_given_back() {
        let found = unchanged(MAPS, "/usr/bin/usherd");
        assert_eq!(
            found,
            [0x55d0_c000_0000..0x55d0_c053_3000, 0x55d0_c053_4000..0x55d0_c17e_e000]
        );
        assert!(unchanged(MAPS, "/usr/bin/usher").is_empty());
        assert_eq!(unchanged(MAPS, "/usr/lib/libc.so.6").len(), 1);
        assert!(unchanged("", "/usr/bin/usherd").is_empty());
    }

    #[test]
    fn the_program_goes_on() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let before = resident();
        give_back();
        let after = resident();
        assert!(after < before, "{before} kB resident before, {after} kB after");
    }
}
