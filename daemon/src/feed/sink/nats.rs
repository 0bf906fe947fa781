//! Messages to a NATS JetStream stream: one subject for each shard, `PREFIX.SHARD`, one message for each event.
//!
//! Two things keep the stream right. `Nats-Msg-Id` (`FEED/SHARD/SEQ`) lets the server drop what it has had within its
//! window. `Nats-Expected-Last-Subject-Sequence` lets it refuse whoever does not know the last message of the subject:
//! a daemon that has lost its lease and does not know it yet, above all. That is why one message is under way for each
//! shard: the next one names its number. At the start the last message of the subject is read, whatever the window.
//!
//! Beside the event (JSON, as everywhere) a message has what a daemon that follows needs, in its headers: see
//! docs/feed-high-availability.md.

use std::sync::Arc;
use std::time::Duration;

use async_nats::header::HeaderMap;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::{GetStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, LastRawMessageErrorKind, StorageType, Stream};
use async_nats::{ConnectOptions, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use engine::feed::event::{Event, Op};
use engine::feed::{json, standby};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::error::is_about_a_certificate;
use super::{Batch, Delivered, Failure, NatsAuthentication, NatsPlan, SinkError, Storage, Timeouts};
use crate::net::tls;

pub(super) const SEQ: &str = "Usherd-Seq";
pub(super) const OP: &str = "Usherd-Op";
pub(super) const UUID: &str = "Usherd-Uuid";
pub(super) const STATE: &str = "Usherd-State";
pub(super) const DN: &str = "Usherd-Dn";
pub(super) const COOKIE: &str = "Usherd-Cookie";
const MESSAGE_ID: &str = "Nats-Msg-Id";
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
/// What headers take of a message beside the values that are counted: names, separators, numbers.
const HEADER_BYTES: usize = 512;
/// How long the server remembers message ids, where the stream is made here.
const WINDOW: Duration = Duration::from_secs(120);

/// The connection of a feed, shared by its shards; it reconnects by itself.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) plan: Arc<NatsPlan>,
    times: Timeouts,
    pub(super) feed: Arc<str>,
    context: Arc<Mutex<Option<Context>>>,
}

impl Shared {
    pub(super) fn new(plan: &NatsPlan, times: &Timeouts, feed: &Arc<str>) -> Shared {
        Shared {
            plan: Arc::new(plan.clone()),
            times: times.clone(),
            feed: feed.clone(),
            context: Arc::new(Mutex::new(None)),
        }
    }

    /// The servers, as they are named in messages.
    pub(super) fn peer(&self) -> String {
        self.plan.servers.join(",")
    }

    /// The connection, made with the first call.
    pub(super) async fn context(&self) -> Result<Context, SinkError> {
        let mut kept = self.context.lock().await;
        if let Some(context) = &*kept {
            return Ok(context.clone());
        }
        let options = self.options()?;
        let connecting = timeout(self.times.connect, options.connect(self.plan.servers.clone())).await;
        let client = match connecting {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(self.connect_error(&error)),
            Err(_) => {
                let text = format!(
                    "{} does not answer within {:?} (connect_timeout)",
                    self.peer(),
                    self.times.connect
                );
                return Err(SinkError::retry(text));
            }
        };
        let mut context = async_nats::jetstream::new(client);
        context.set_timeout(self.times.deliver);
        Ok(kept.insert(context).clone())
    }

    fn options(&self) -> Result<ConnectOptions, SinkError> {
        let mut options = ConnectOptions::new()
            .name(format!("usherd feed {}", self.feed))
            .connection_timeout(self.times.connect)
            .request_timeout(Some(self.times.deliver));
        options = match &self.plan.authentication {
            NatsAuthentication::None => options,
            NatsAuthentication::Token(token) => options.token(token.to_string()),
            NatsAuthentication::Password(user, password) => {
                options.user_and_password(user.clone(), password.to_string())
            }
            NatsAuthentication::Credentials(text) => options
                .credentials(text)
                .map_err(|error| SinkError::setting(format!("the credentials file: {error}")))?,
        };
        if let Some(plan) = &self.plan.tls {
            let config = tls::client(plan).map_err(SinkError::setting)?;
            options = options.require_tls(true).tls_client_config((*config).clone());
        }
        Ok(options)
    }

    fn connect_error(&self, error: &async_nats::ConnectError) -> SinkError {
        use async_nats::ConnectErrorKind as Kind;
        let text = format!("{}: {error}", self.peer());
        match error.kind() {
            Kind::AuthorizationViolation | Kind::Authentication => SinkError::setting(text),
            _ if is_about_a_certificate(error) => SinkError::setting(text),
            _ => SinkError::retry(text),
        }
    }

    pub(super) fn stream_name(&self) -> String {
        self.plan
            .stream
            .clone()
            .unwrap_or_else(|| self.feed.replace(['.', ' '], "_"))
    }

    pub(super) fn prefix(&self) -> String {
        self.plan
            .subject
            .clone()
            .unwrap_or_else(|| format!("usherd.{}", self.feed))
    }

    /// The stream, made where there is none and that is wanted.
    pub(super) async fn stream(&self) -> Result<Stream, SinkError> {
        let context = self.context().await?;
        let name = self.stream_name();
        match context.get_stream(&name).await {
            Ok(stream) => return Ok(stream),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(why) if why.code() == 404 => {}
                _ => return Err(SinkError::retry(format!("{}: stream {name}: {error}", self.peer()))),
            },
        }
        if !self.plan.create {
            let text = format!("{} has no stream {name}, and create = false", self.peer());
            return Err(SinkError::setting(text));
        }
        let bytes = i64::try_from(self.plan.stream_bytes_max).unwrap_or(i64::MAX);
        let config = Config {
            subjects: vec![format!("{}.*", self.prefix())],
            max_bytes: if bytes == 0 { -1 } else { bytes },
            max_age: self.plan.stream_age_max,
            // A full stream refuses: what it would drop instead, somebody may not have read.
            discard: DiscardPolicy::New,
            duplicate_window: if self.plan.stream_age_max.is_zero() {
                WINDOW
            } else {
                WINDOW.min(self.plan.stream_age_max)
            },
            num_replicas: self.plan.replicas,
            storage: match self.plan.storage {
                Storage::File => StorageType::File,
                Storage::Memory => StorageType::Memory,
            },
            name,
            ..Config::default()
        };
        let made = context.create_stream(config).await;
        made.map_err(|error| SinkError::retry(format!("{}: the stream cannot be made: {error}", self.peer())))
    }

    pub(super) async fn connect(&self, shard: u16) -> Result<Nats, SinkError> {
        let opening = async {
            let context = self.context().await?;
            let stream = self.stream().await?;
            let mut nats = Nats {
                subject: format!("{}.{shard}", self.prefix()),
                shared: self.clone(),
                context,
                stream,
                shard,
                newest: Newest::default(),
            };
            nats.newest = nats.read_newest().await?;
            Ok(nats)
        };
        match timeout(self.times.connect + self.times.handshake, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(SinkError::retry(format!("{}: no answer about the stream", self.peer()))),
        }
    }
}

/// The last message of a subject.
#[derive(Clone, Debug, Default, PartialEq)]
struct Newest {
    /// Its number in the stream; 0: there is none.
    position: u64,
    /// Our number in it, where it is ours.
    seq: Option<u64>,
    /// What it says, in a word: see [`mark`].
    mark: String,
}

/// What tells one event from another of the same number, which another daemon may have given.
fn mark(headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).map_or("", |value| value.as_str());
    format!("{} {} {}", text(OP), text(UUID), text(STATE))
}

/// A stream, for one shard.
pub struct Nats {
    shared: Shared,
    context: Context,
    stream: Stream,
    subject: String,
    shard: u16,
    newest: Newest,
}

impl Nats {
    pub(super) fn last(&self) -> Option<u64> {
        self.newest.seq
    }

    pub(super) fn position(&self) -> u64 {
        self.newest.position
    }

    pub(super) async fn deliver(&mut self, batch: &Batch<'_>) -> Result<Delivered, SinkError> {
        let mut upto = None;
        for event in batch.events {
            // A sign of life has no number of its own and would be a duplicate: consumers see the leader's lease instead.
            if event.op != Op::Heartbeat && self.newest.seq.is_none_or(|seq| event.seq > seq) {
                self.publish(event, batch.cookie)
                    .await
                    .map_err(|error| error.after(upto))?;
            }
            upto = Some(event.seq);
        }
        let (_, last) = batch.range();
        Ok(Delivered { upto: last })
    }

    async fn publish(&mut self, event: &Event<'_>, cookie: &[u8]) -> Result<(), SinkError> {
        let mut body = Vec::new();
        json::write(&mut body, &self.shared.feed, event);
        let mut headers = self.headers(event, cookie);
        let size = body.len() + HEADER_BYTES + event.dn.len().saturating_mul(2) + cookie.len().saturating_mul(2);
        let most = self.context.client().server_info().max_payload;
        if size > most {
            let text = format!(
                "event {} takes {size} bytes, and the server's max_payload is {most}",
                event.seq
            );
            return Err(SinkError::refused(event.seq, text));
        }
        // Twice: the server may have forgotten an old message by age, which is no reason to stop.
        for _ in 0..2 {
            headers.insert(EXPECTED, HeaderValue::from(self.newest.position));
            let sent = self
                .context
                .publish_with_headers(self.subject.clone(), headers.clone(), body.clone().into());
            let acknowledged = match sent.await {
                Ok(acknowledged) => acknowledged.await,
                Err(error) => Err(error),
            };
            match acknowledged {
                Ok(acknowledged) if !acknowledged.duplicate => {
                    self.newest = Newest {
                        position: acknowledged.sequence,
                        seq: Some(event.seq),
                        mark: mark(&headers),
                    };
                    return Ok(());
                }
                // The server has had a message of this number: ours, or another daemon's.
                Ok(_) => {}
                Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {}
                Err(error) => return Err(self.publish_error(event.seq, &error)),
            }
            let found = self.read_newest().await?;
            let before = std::mem::replace(&mut self.newest, found);
            if self.newest.seq == Some(event.seq) && self.newest.mark == mark(&headers) {
                // It is there: only its acknowledgement was lost.
                return Ok(());
            }
            if self.newest.position != 0 && self.newest != before {
                let text = format!("{}: somebody else has written to {}", self.shared.peer(), self.subject);
                return Err(SinkError::new(Failure::Fenced, text));
            }
        }
        let text = format!(
            "{}: {} has no last message that holds",
            self.shared.peer(),
            self.subject
        );
        Err(SinkError::retry(text))
    }

    fn publish_error(&self, seq: u64, error: &async_nats::jetstream::context::PublishError) -> SinkError {
        let text = format!("{}: {}: {error}", self.shared.peer(), self.subject);
        match error.kind() {
            PublishErrorKind::StreamNotFound => SinkError::setting(format!("{text}; no stream takes this subject")),
            PublishErrorKind::MaxPayloadExceeded => SinkError::refused(seq, text),
            _ => SinkError::retry(text),
        }
    }

    fn headers(&self, event: &Event<'_>, cookie: &[u8]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(MESSAGE_ID, format!("{}/{}/{}", self.shared.feed, self.shard, event.seq));
        headers.insert(SEQ, event.seq.to_string());
        headers.insert(OP, event.op.name());
        if !cookie.is_empty() {
            headers.insert(COOKIE, STANDARD.encode(cookie));
        }
        if !event.op.is_feed_wide() {
            let mut uuid = Vec::new();
            json::write_uuid(&mut uuid, &event.uuid);
            headers.insert(UUID, String::from_utf8_lossy(&uuid).into_owned());
            headers.insert(STATE, standby::State::of(event).to_string());
            headers.insert(DN, STANDARD.encode(event.dn));
        }
        headers
    }

    async fn read_newest(&self) -> Result<Newest, SinkError> {
        match self.stream.get_last_raw_message_by_subject(&self.subject).await {
            Ok(message) => Ok(Newest {
                position: message.sequence,
                seq: message.headers.get(SEQ).and_then(|seq| seq.as_str().parse().ok()),
                mark: mark(&message.headers),
            }),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(Newest::default()),
            Err(error) => Err(SinkError::retry(format!(
                "{}: {}: {error}",
                self.shared.peer(),
                self.subject
            ))),
        }
    }
}
