//! Which of several daemons delivers a feed: a lease in a NATS key-value bucket.
//!
//! The bucket forgets a key that is not renewed within the TTL. Taking it is creating it, renewing it is compare-and-set
//! on the revision one has; both are refused to everybody else. The holder counts for itself, from *before* it asked for
//! the renewal, and believes itself the leader for less than the TTL: it stops before another can begin. And if it were
//! wrong, by a clock that stood still, the stream refuses it (`Nats-Expected-Last-Subject-Sequence`).
//!
//! The value tells a person who leads.

use std::time::{Duration, Instant};

use async_nats::jetstream::kv::{CreateErrorKind, Store, UpdateErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use serde::{Deserialize, Serialize};

use super::super::nats::Shared;
use super::super::{LeasePlan, SinkError, Storage};

/// The value of a lease.
#[derive(Serialize, Deserialize)]
struct Value {
    holder: String,
}

/// When a lease is held, renewed and lost. Times are passed in.
#[derive(Clone, Debug)]
pub struct Term {
    ttl: Duration,
    /// When the renewal was asked for that was granted last.
    since: Option<Instant>,
}

impl Term {
    /// Not held.
    pub fn new(ttl: Duration) -> Term {
        Term { ttl, since: None }
    }

    /// A request made at `asked` was granted.
    pub fn granted(&mut self, asked: Instant) {
        self.since = Some(asked);
    }

    /// It is somebody else's.
    pub fn lost(&mut self) {
        self.since = None;
    }

    /// Whether it is held at `now`: for three quarters of the TTL from the last granted request.
    pub fn holds(&self, now: Instant) -> bool {
        self.until().is_some_and(|until| now < until)
    }

    /// The end of that.
    pub fn until(&self) -> Option<Instant> {
        self.since.map(|since| since + self.ttl * 3 / 4)
    }

    /// When to ask for it: a holder after a quarter of the TTL, so that two renewals may fail; others as often.
    pub fn ask_at(&self, now: Instant) -> Instant {
        match self.since {
            Some(since) => since + self.ttl / 4,
            None => now + self.ttl / 4,
        }
    }
}

/// This daemon's part in the leadership of a feed.
pub struct Leadership {
    store: Store,
    key: String,
    holder: String,
    peer: String,
    term: Term,
    revision: Option<u64>,
}

impl Leadership {
    pub(super) async fn open(shared: &Shared, lease: &LeasePlan) -> Result<Leadership, SinkError> {
        let context = shared.context().await?;
        let store = match context.get_key_value(&lease.bucket).await {
            Ok(store) => store,
            Err(_) => {
                // The client's own way asks for the account first, in words that servers before 2.10 do not have.
                let config = Config {
                    name: format!("KV_{}", lease.bucket),
                    subjects: vec![format!("$KV.{}.>", lease.bucket)],
                    max_messages_per_subject: 1,
                    max_age: lease.ttl,
                    duplicate_window: lease.ttl,
                    discard: DiscardPolicy::New,
                    allow_rollup: true,
                    deny_delete: true,
                    allow_direct: true,
                    num_replicas: shared.plan.replicas,
                    storage: match shared.plan.storage {
                        Storage::File => StorageType::File,
                        Storage::Memory => StorageType::Memory,
                    },
                    ..Config::default()
                };
                let failed =
                    |error: String| SinkError::retry(format!("{}: bucket {}: {error}", shared.peer(), lease.bucket));
                context
                    .create_stream(config)
                    .await
                    .map_err(|error| failed(error.to_string()))?;
                context
                    .get_key_value(&lease.bucket)
                    .await
                    .map_err(|error| failed(error.to_string()))?
            }
        };
        let status = store.status().await;
        let status =
            status.map_err(|error| SinkError::retry(format!("{}: {}: {error}", shared.peer(), lease.bucket)))?;
        if status.max_age() != lease.ttl {
            let text = format!(
                "the bucket {} forgets after {:?}, and lease_ttl is {:?}: all daemons need the same",
                lease.bucket,
                status.max_age(),
                lease.ttl
            );
            return Err(SinkError::setting(text));
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok(Leadership {
            store,
            key: shared.feed.to_string(),
            holder: format!("{host}/{}", std::process::id()),
            peer: shared.peer(),
            term: Term::new(lease.ttl),
            revision: None,
        })
    }

    /// Takes the lease, or renews it. True: this daemon leads.
    ///
    /// # Errors
    /// The servers do not answer. What [`Leadership::is_leader`] says stays true meanwhile, for its time.
    pub async fn hold(&mut self) -> Result<bool, SinkError> {
        let asked = Instant::now();
        let value = Value {
            holder: self.holder.clone(),
        };
        let value = serde_json::to_vec(&value).map_err(|error| SinkError::retry(error.to_string()))?;
        let failed = |error: String| SinkError::retry(format!("{}: the lease: {error}", self.peer));
        let granted = match self.revision {
            Some(revision) => match self.store.update(&self.key, value.into(), revision).await {
                Ok(revision) => Some(revision),
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => None,
                Err(error) => return Err(failed(error.to_string())),
            },
            None => match self.store.create(&self.key, value.into()).await {
                Ok(revision) => Some(revision),
                Err(error) if error.kind() == CreateErrorKind::AlreadyExists => None,
                Err(error) => return Err(failed(error.to_string())),
            },
        };
        self.revision = granted;
        match granted {
            Some(_) => self.term.granted(asked),
            None => self.term.lost(),
        }
        Ok(granted.is_some())
    }

    /// Whether this daemon may deliver now. It turns false by itself when renewals fail for too long.
    pub fn is_leader(&self) -> bool {
        self.term.holds(Instant::now())
    }

    /// Until when it may, if nothing more is heard of the servers; none: it may not.
    pub fn until(&self) -> Option<Instant> {
        self.term.until()
    }

    /// When to call [`Leadership::hold`] next.
    pub fn ask_at(&self) -> Instant {
        self.term.ask_at(Instant::now())
    }

    /// Who leads: host and process, for a person; none: nobody does now.
    ///
    /// # Errors
    /// The servers do not answer.
    pub async fn leader(&self) -> Result<Option<String>, SinkError> {
        let found = self.store.get(self.key.clone()).await;
        let found = found.map_err(|error| SinkError::retry(format!("{}: the lease: {error}", self.peer)))?;
        let value = found.and_then(|value| serde_json::from_slice::<Value>(&value).ok());
        Ok(value.map(|value| value.holder))
    }

    /// Gives it up, so that another need not wait for the TTL. Call it when the last batch is acknowledged.
    pub async fn resign(mut self) {
        if let Some(revision) = self.revision.take() {
            // Unheard, it runs out by itself.
            let _ = self.store.delete_expect_revision(&self.key, Some(revision)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_stops_before_another_can_begin() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut term = Term::new(Duration::from_secs(4));
        assert!(!term.holds(at(0)));
        assert_eq!(term.ask_at(at(0)), at(1000));
        term.granted(at(0));
        assert!(term.holds(at(2999)) && !term.holds(at(3000)));
        assert_eq!(term.ask_at(at(500)), at(1000));
        term.granted(at(2000));
        assert!(term.holds(at(4999)));
        term.lost();
        assert!(!term.holds(at(2001)));
    }
}
