//! Records in files: one write for all that wait, each in the format that its file has.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::tz::TimeZone;
use wire::radius::Dictionary;

use super::append::Appender;
use super::moment::{Moment, micros};
use super::plan::{FilePlan, Format};
use super::{Item, Outcome, detail, json};

/// See the module.
pub(super) struct Files {
    files: Appender,
    dictionary: Arc<Dictionary>,
    text: Vec<u8>,
}

impl Files {
    pub(super) fn new(plan: FilePlan, dictionary: Arc<Dictionary>) -> Files {
        Files {
            files: Appender::new(plan),
            dictionary,
            text: Vec::new(),
        }
    }

    /// Closes all files; each is opened again when there is something for it.
    pub(super) fn reopen(&mut self) {
        self.files.reopen();
    }

    /// Writes records, each to its file in order. What did not go wrong is done.
    pub(super) fn write(&mut self, batch: &[Item]) -> (Vec<Outcome>, Option<String>) {
        let mut outcomes = vec![Outcome::Later; batch.len()];
        let mut wrong = None;
        if let (true, Some(first)) = (self.files.plan().path.is_plain(), batch.first()) {
            let path = self.path(first);
            match self.write_to(&path, batch.iter()) {
                Ok(()) => outcomes.fill(Outcome::Done),
                Err(error) => wrong = Some(self.failed(&path, &error)),
            }
            return (outcomes, wrong);
        }
        let paths = batch.iter().map(|item| self.path(item));
        let mut rest: Vec<(usize, PathBuf)> = paths.enumerate().collect();
        while let Some((_, path)) = rest.first() {
            let path = path.clone();
            let (now, later): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(_, other)| *other == path);
            rest = later;
            let items = now.iter().filter_map(|(at, _)| batch.get(*at));
            match self.write_to(&path, items) {
                Ok(()) => {
                    for (at, _) in now {
                        outcomes
                            .get_mut(at)
                            .into_iter()
                            .for_each(|outcome| *outcome = Outcome::Done);
                    }
                }
                Err(error) => wrong = Some(self.failed(&path, &error)),
            }
        }
        (outcomes, wrong)
    }

    fn failed(&mut self, path: &Path, error: &io::Error) -> String {
        self.files.forget(path);
        format!("{}: {error}", path.display())
    }

    fn path(&self, item: &Item) -> PathBuf {
        let received = Moment::new(micros(item.record.received));
        self.files.plan().path.path(&item.record.client, &received)
    }

    fn write_to<'i>(&mut self, path: &Path, items: impl Iterator<Item = &'i Item>) -> io::Result<()> {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        // It is kept by jiff, and looked at again now and then.
        let zone = TimeZone::system();
        for item in items {
            match self.files.plan().format {
                Format::Json => {
                    json::write(&mut text, &self.dictionary, &item.record);
                    text.push(b'\n');
                }
                Format::Detail => detail::write(&mut text, &self.dictionary, &item.record, &zone),
            }
        }
        let written = self.files.append(path, &text);
        self.text = text;
        written
    }
}
