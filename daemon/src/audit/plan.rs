//! What of the audit log is configured: plain values, every default filled in.

use wire::ldap::envelope::tag;

use crate::accounting::plan::FilePlan;

/// `[audit]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where lines go.
    pub file: FilePlan,
    /// Lines that may wait to be written, at most.
    pub queue_max: usize,
    /// What is done with one more.
    pub when_full: WhenFull,
    /// Which operations are told.
    pub operations: Operations,
    /// Of searches and compares, how many of a million are told.
    pub sample_millionths: u32,
    /// Only those of these directories; empty: of all.
    pub directories: Vec<String>,
    /// Only those that did not succeed.
    pub failures_only: bool,
}

/// See [`Settings::when_full`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It is lost, and counted.
    Drop,
    /// The worker waits until there is room, and with it all of its clients.
    Wait,
}

/// A set of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Operations(u16);

/// Operations by the words of `operations`.
pub const WORDS: [(&str, Operations); 12] = [
    ("bind", Operations(1)),
    ("unbind", Operations(1 << 1)),
    ("search", Operations(1 << 2)),
    ("compare", Operations(1 << 3)),
    ("add", Operations(1 << 4)),
    ("modify", Operations(1 << 5)),
    ("delete", Operations(1 << 6)),
    ("modify-dn", Operations(1 << 7)),
    ("extended", Operations(1 << 8)),
    ("abandon", Operations(1 << 9)),
    ("write", Operations(0b1111 << 4)),
    ("all", Operations(0x3ff)),
];

impl Operations {
    /// What is told where nothing is written: who they are, and what they change.
    pub const DEFAULT: Operations = Operations(1 | 0b1111 << 4 | 1 << 8);

    /// Both.
    #[must_use]
    pub fn with(self, other: Operations) -> Operations {
        Operations(self.0 | other.0)
    }

    /// Whether requests with this tag are in it.
    pub fn has(self, request_tag: u8) -> bool {
        WORDS
            .iter()
            .find(|(word, _)| *word == name(request_tag))
            .is_some_and(|(_, one)| self.0 & one.0 != 0)
    }
}

/// What a request with this tag is called.
pub fn name(request_tag: u8) -> &'static str {
    match request_tag {
        tag::BIND_REQUEST => "bind",
        tag::UNBIND_REQUEST => "unbind",
        tag::SEARCH_REQUEST => "search",
        tag::COMPARE_REQUEST => "compare",
        tag::ADD_REQUEST => "add",
        tag::MODIFY_REQUEST => "modify",
        tag::DELETE_REQUEST => "delete",
        tag::MODIFY_DN_REQUEST => "modify-dn",
        tag::EXTENDED_REQUEST => "extended",
        tag::ABANDON_REQUEST => "abandon",
        _ => "",
    }
}
