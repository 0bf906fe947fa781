//! What is told of a translation, with file and line.

use std::fmt;
use std::rc::Rc;

use wire::radius::dictionary::Fault;

/// A place in a file.
#[derive(Clone, Debug)]
pub struct At {
    /// The file.
    pub file: Rc<str>,
    /// From 1.
    pub line: usize,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What is missing, and what is worth knowing.
#[derive(Debug, Default)]
pub struct Told {
    /// Without a counterpart here, and its absence is felt.
    pub faults: Vec<Fault>,
    /// Left out or changed, and nobody is the worse for it.
    pub notices: Vec<Fault>,
}

impl Told {
    /// Something is missing.
    pub fn fault(&mut self, at: &At, found: &str, right: &str) {
        self.faults.push(fault(at, found, right));
    }

    /// Something is different.
    pub fn notice(&mut self, at: &At, found: &str, right: &str) {
        self.notices.push(fault(at, found, right));
    }
}

fn fault(at: &At, found: &str, right: &str) -> Fault {
    Fault {
        file: at.file.to_string(),
        line: at.line,
        found: found.to_owned(),
        right: right.to_owned(),
    }
}
