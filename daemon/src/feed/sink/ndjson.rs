//! Lines on standard output, one writer for all shards: a batch is written whole under the lock that standard output has.
//!
//! A reader that does not read holds the feed up, and nothing is lost: there is no time-out here, because a terminal that
//! was stopped is not a failure. A reader that has gone ends the feed.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;

use engine::feed::json;

use super::{Batch, Delivered, Failure, SinkError};

/// Standard output, for one shard.
pub struct Ndjson {
    feed: Arc<str>,
}

impl Ndjson {
    pub(super) fn new(feed: &Arc<str>) -> Ndjson {
        Ndjson { feed: feed.clone() }
    }

    pub(super) async fn deliver(&mut self, batch: &Batch<'_>) -> Result<Delivered, SinkError> {
        let mut text = Vec::new();
        for event in batch.events {
            json::write_line(&mut text, &self.feed, event);
        }
        let (_, upto) = batch.range();
        let written = tokio::task::spawn_blocking(move || {
            let mut out = io::stdout().lock();
            out.write_all(&text)?;
            out.flush()
        });
        match written.await {
            Ok(Ok(())) => Ok(Delivered { upto }),
            Ok(Err(error)) if error.kind() == ErrorKind::BrokenPipe => Err(SinkError::new(
                Failure::Ended,
                "standard output is closed: nobody reads any more",
            )),
            Ok(Err(error)) => Err(SinkError::retry(format!("standard output: {error}"))),
            Err(_) => Err(SinkError::retry("standard output: the writer was stopped")),
        }
    }
}
