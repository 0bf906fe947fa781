//! Lines in a file, one writer for all shards of a feed, with rotation.
//!
//! The file itself says how far it is: at the start each shard's last whole line is looked for, and a line that was torn
//! by a crash is cut off. A batch that cannot be written whole is taken back, so that there are never half lines in the
//! middle. Whoever moves the file away (logrotate) is noticed before the next batch.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use engine::feed::json;

use super::{Batch, Delivered, FilePlan, SinkError};
use crate::rotation;

/// The file of a feed, shared by its shards.
#[derive(Clone)]
pub(super) struct SharedFile(Arc<Mutex<Writer>>);

struct Writer {
    plan: FilePlan,
    /// What stands between sequence number and shard in each line of this feed.
    mark: String,
    open: Option<Open>,
    last: BTreeMap<u16, u64>,
    /// How many files, from the newest, have been looked through for the last numbers.
    looked: usize,
}

struct Open {
    file: File,
    inode: u64,
    bytes: u64,
    since: SystemTime,
}

/// The file, for one shard.
pub struct Lines {
    shared: SharedFile,
    feed: Arc<str>,
    last: Option<u64>,
}

impl SharedFile {
    pub(super) fn new(plan: &FilePlan, feed: &str) -> SharedFile {
        let name = serde_json::Value::from(feed).to_string();
        SharedFile(Arc::new(Mutex::new(Writer {
            plan: plan.clone(),
            mark: format!(",\"feed\":{name},\"shard\":"),
            open: None,
            last: BTreeMap::new(),
            looked: 0,
        })))
    }

    pub(super) async fn connect(&self, feed: &Arc<str>, shard: u16) -> Result<Lines, SinkError> {
        let last = self.blocking(move |writer| {
            writer.ready()?;
            writer.last(shard)
        });
        Ok(Lines {
            last: last.await?,
            shared: self.clone(),
            feed: feed.clone(),
        })
    }

    /// Runs on a thread that may block; what went wrong names the file.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> io::Result<T> + Send + 'static,
    ) -> Result<T, SinkError> {
        let shared = self.0.clone();
        let done = tokio::task::spawn_blocking(move || {
            // A writer that panicked left at worst a file that is looked at anew.
            let mut writer = shared.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut writer).map_err(|error| SinkError::retry(format!("{}: {error}", writer.plan.path.display())))
        });
        done.await
            .unwrap_or_else(|_| Err(SinkError::retry("the writer was stopped")))
    }
}

impl Lines {
    pub(super) fn last(&self) -> Option<u64> {
        self.last
    }

    pub(super) async fn deliver(&mut self, batch: &Batch<'_>) -> Result<Delivered, SinkError> {
        let mut text = Vec::new();
        for event in batch.events {
            json::write_line(&mut text, &self.feed, event);
        }
        let (_, upto) = batch.range();
        self.shared.blocking(move |writer| writer.append(&text)).await?;
        self.last = Some(upto);
        Ok(Delivered { upto })
    }
}

impl Writer {
    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        let fsync = self.plan.fsync;
        self.rotate_if_due()?;
        let open = self.ready()?;
        let written = open
            .file
            .write_all(text)
            .and_then(|()| if fsync { rotation::sync(&open.file) } else { Ok(()) });
        match written {
            Ok(()) => {
                open.bytes = open.bytes.saturating_add(text.len() as u64);
                Ok(())
            }
            Err(error) => {
                // A full disk: what was written of it is taken back now, or else when the file is opened again.
                let _ = open.file.set_len(open.bytes);
                self.open = None;
                Err(error)
            }
        }
    }

    /// The file, opened, with its torn end cut off, and still the one of this name.
    fn ready(&mut self) -> io::Result<&mut Open> {
        let path = &self.plan.path;
        let same = |open: &Open| fs::metadata(path).is_ok_and(|found| found.ino() == open.inode);
        if !self.open.as_ref().is_some_and(same) {
            self.open = Some(Open::new(path)?);
        }
        self.open.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The last number of a shard, from the newest file that has one.
    fn last(&mut self, shard: u16) -> io::Result<Option<u64>> {
        while !self.last.contains_key(&shard) && self.looked <= self.plan.keep {
            let path = rotation::older(&self.plan.path, self.looked);
            self.looked += 1;
            // Of a device nothing is known, and it may have no end.
            let Ok(file) = File::open(&path) else { continue };
            if !file.metadata()?.is_file() {
                continue;
            }
            let mut found = BTreeMap::new();
            self.numbers(file, &mut found)?;
            for (shard, seq) in found {
                self.last.entry(shard).or_insert(seq);
            }
        }
        Ok(self.last.get(&shard).copied())
    }

    fn numbers(&self, file: File, found: &mut BTreeMap<u16, u64>) -> io::Result<()> {
        let mut lines = BufReader::with_capacity(1 << 20, file);
        let mut line = Vec::new();
        loop {
            line.clear();
            if lines.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            if let Some((seq, shard)) = number(&line, &self.mark) {
                let newest = found.entry(shard).or_insert(seq);
                *newest = seq.max(*newest);
            }
        }
    }

    fn rotate_if_due(&mut self) -> io::Result<()> {
        let (size, age) = (self.plan.rotate_bytes, self.plan.rotate_age);
        let open = self.ready()?;
        let old = !age.is_zero() && open.since.elapsed().is_ok_and(|since| since >= age);
        let due = open.bytes > 0 && (old || size > 0 && open.bytes >= size);
        if !due {
            return Ok(());
        }
        open.file.sync_data()?;
        self.open = None;
        rotation::put_away(&self.plan.path, self.plan.keep)?;
        if self.plan.keep == 0 {
            return Ok(());
        }
        self.ready()?;
        rotation::sync_folder(&self.plan.path)
    }
}

impl Open {
    fn new(path: &Path) -> io::Result<Open> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let bytes = rotation::whole(&mut file, b"\n", u64::MAX)?.unwrap_or(0);
        let metadata = file.metadata()?;
        if bytes < metadata.len() {
            file.set_len(bytes)?;
        }
        let since = metadata.created().or_else(|_| metadata.modified());
        Ok(Open {
            inode: metadata.ino(),
            bytes,
            since: since.unwrap_or_else(|_| SystemTime::now()),
            file,
        })
    }
}

/// `{"seq":N,"feed":"NAME","shard":N,…`: number and shard of one line of this feed.
fn number(line: &[u8], mark: &str) -> Option<(u64, u16)> {
    let rest = line.strip_prefix(b"{\"seq\":")?;
    let (seq, rest) = digits(rest)?;
    let (shard, _) = digits(rest.strip_prefix(mark.as_bytes())?)?;
    Some((seq, u16::try_from(shard).ok()?))
}

fn digits(text: &[u8]) -> Option<(u64, &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit())?;
    let (digits, rest) = text.split_at_checked(end)?;
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}
