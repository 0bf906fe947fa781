//! How a feed stands, for whoever asks: written by its writer and its shards, read by the admin side.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::admin::snapshot::{Feed, FeedShard};

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Status(Mutex<Feed>);

impl Status {
    /// Of a feed that has not begun.
    pub fn new(name: &str, directory: &str, sink: &str, shards: u16) -> Status {
        Status(Mutex::new(Feed {
            name: name.to_owned(),
            directory: directory.to_owned(),
            sink: sink.to_owned(),
            phase: "starting".to_owned(),
            role: "alone".to_owned(),
            shards: (0..shards)
                .map(|shard| FeedShard {
                    shard: u64::from(shard),
                    state: "starting".to_owned(),
                    ..FeedShard::default()
                })
                .collect(),
            ..Feed::default()
        }))
    }

    /// To be changed.
    pub fn lock(&self) -> MutexGuard<'_, Feed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One shard's part is changed.
    pub fn shard(&self, shard: u16, change: impl FnOnce(&mut FeedShard)) {
        if let Some(found) = self.lock().shards.get_mut(usize::from(shard)) {
            change(found);
        }
    }
}
