//! What another daemon publishes, read back by one that follows, and where the stream ends.

use std::time::Duration;

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use engine::feed::event::{Op, Uuid};
use engine::feed::standby::{Said, State};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::super::SinkError;
use super::super::nats::{COOKIE, DN, OP, SEQ, STATE, Shared, UUID};

/// One message of the stream, by its headers; payloads are not fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its number in the stream.
    pub position: u64,
    /// The number that the daemon which published it gave the event.
    pub seq: u64,
    /// The source's cookie as it was then: who takes over must have come as far. Empty: none was known.
    pub cookie: Vec<u8>,
    /// The entry, and what the stream's readers believe of it now; none in feed-wide messages.
    pub entry: Option<(Uuid, Said)>,
    /// Whether it says that a content was complete.
    pub is_done: bool,
}

/// A reading of the stream, from a position on, for as long as it is wanted.
pub struct Follow {
    shared: Shared,
    messages: Ordered,
}

impl Follow {
    /// From behind a position; 0: from the first message that is kept.
    pub(super) async fn open(shared: &Shared, after: u64) -> Result<Follow, SinkError> {
        let stream = shared.stream().await?;
        let config = OrderedConfig {
            headers_only: true,
            filter_subject: format!("{}.*", shared.prefix()),
            deliver_policy: match after {
                0 => DeliverPolicy::All,
                after => DeliverPolicy::ByStartSequence {
                    start_sequence: after + 1,
                },
            },
            ..OrderedConfig::default()
        };
        let failed = |error: String| SinkError::retry(format!("{}: the stream cannot be read: {error}", shared.peer()));
        let consumer = stream
            .create_consumer(config)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let messages = consumer.messages().await.map_err(|error| failed(error.to_string()))?;
        Ok(Follow {
            shared: shared.clone(),
            messages,
        })
    }

    /// The next message; none where none comes within `wait`.
    ///
    /// # Errors
    /// The stream cannot be read on from here: it is opened anew behind the last position.
    pub async fn next(&mut self, wait: Duration) -> Result<Option<Published>, SinkError> {
        let failed =
            |error: &str| SinkError::retry(format!("{}: the stream cannot be read: {error}", self.shared.peer()));
        loop {
            let message = match timeout(wait, self.messages.next()).await {
                Err(_) => return Ok(None),
                Ok(None) => return Err(failed("it has ended")),
                Ok(Some(Err(error))) => return Err(failed(&error.to_string())),
                Ok(Some(Ok(message))) => message,
            };
            if let Some(published) = read(&message) {
                return Ok(Some(published));
            }
        }
    }
}

/// Where a stream ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// The position of its last message; 0: it has none.
    pub position: u64,
    /// The highest number that an event has in it; 0: there is none.
    pub seq: u64,
}

/// Where the subjects of so many shards end.
pub(super) async fn end(shared: &Shared, shards: u16) -> Result<End, SinkError> {
    let stream = shared.stream().await?;
    let mut end = End::default();
    for shard in 0..shards {
        let subject = format!("{}.{shard}", shared.prefix());
        match stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => {
                let seq = message.headers.get(SEQ).and_then(|seq| seq.as_str().parse().ok());
                end.position = end.position.max(message.sequence);
                end.seq = end.seq.max(seq.unwrap_or(0));
            }
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {}
            Err(error) => return Err(SinkError::retry(format!("{}: {error}", shared.peer()))),
        }
    }
    Ok(end)
}

/// Of a message that is none of ours, only the position.
fn read(message: &Message) -> Option<Published> {
    let position = message.info().ok()?.stream_sequence;
    Some(ours(message, position).unwrap_or(Published {
        position,
        seq: 0,
        cookie: Vec::new(),
        entry: None,
        is_done: false,
    }))
}

fn ours(message: &Message, position: u64) -> Option<Published> {
    let headers = message.headers.as_ref()?;
    let text = |name: &str| headers.get(name).map(|value| value.as_str());
    let entry = match text(UUID) {
        None => None,
        Some(written) => {
            let dn = STANDARD.decode(text(DN)?).ok()?;
            let said = Said {
                position,
                dn: String::from_utf8(dn).ok()?,
                state: text(STATE)?.parse::<State>().ok()?,
            };
            Some((uuid(written)?, said))
        }
    };
    Some(Published {
        position,
        seq: text(SEQ)?.parse().ok()?,
        cookie: STANDARD.decode(text(COOKIE).unwrap_or_default()).ok()?,
        entry,
        is_done: text(OP) == Some(Op::RefreshDone.name()),
    })
}

fn uuid(text: &str) -> Option<Uuid> {
    let digits: String = text.chars().filter(|digit| *digit != '-').collect();
    let number = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)?;
    Some(number.to_be_bytes())
}
