//! More than one daemon for one feed, with the sink `nats`: see docs/feed-high-availability.md.
//!
//! Leadership, and the reading back of the stream, against the real server; what is made of it is decided in
//! `engine::feed::standby`. `feed::lead` asks for them.

mod follow;
mod lease;

pub use follow::{End, Follow, Published};
pub use lease::Leadership;

use super::{LeasePlan, Shared, SinkError, Sinks, nats};

impl Sinks {
    /// This daemon's part in the leadership.
    ///
    /// # Errors
    /// The bucket cannot be had.
    pub async fn leadership(&self, lease: &LeasePlan) -> Result<Leadership, SinkError> {
        Leadership::open(self.stream()?, lease).await
    }

    /// Reads the stream from behind a position; 0: from its beginning.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub async fn follow(&self, after: u64) -> Result<Follow, SinkError> {
        Follow::open(self.stream()?, after).await
    }

    /// Where the stream ends, over so many shards.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub async fn end(&self, shards: u16) -> Result<End, SinkError> {
        follow::end(self.stream()?, shards).await
    }

    fn stream(&self) -> Result<&nats::Shared, SinkError> {
        match &self.shared {
            Shared::Nats(shared) => Ok(shared),
            Shared::Nothing | Shared::File(_) => Err(SinkError::setting("only the sink nats can be read back")),
        }
    }
}
