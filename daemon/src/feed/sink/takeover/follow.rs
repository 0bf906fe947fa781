//! What another daemon publishes, read back by one that follows, and where the stream ends.

use std::time::Duration;

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use engine::feed::event::Uuid;
use engine::feed::standby::{Said, State};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::super::SinkError;
use super::super::nats::{COOKIE, DN, SEQ, STATE, Shared, UUID};

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

/// The number of the stream's last message; 0: it has none.
pub(super) async fn end(shared: &Shared) -> Result<u64, SinkError> {
    let stream = shared.stream().await?;
    match stream
        .get_last_raw_message_by_subject(&format!("{}.*", shared.prefix()))
        .await
    {
        Ok(message) => Ok(message.sequence),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(0),
        Err(error) => Err(SinkError::retry(format!("{}: {error}", shared.peer()))),
    }
}

/// Nothing where the message is none of ours.
fn read(message: &Message) -> Option<Published> {
    let headers = message.headers.as_ref()?;
    let text = |name: &str| headers.get(name).map(|value| value.as_str());
    let position = message.info().ok()?.stream_sequence;
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
    })
}

fn uuid(text: &str) -> Option<Uuid> {
    let digits: String = text.chars().filter(|digit| *digit != '-').collect();
    let number = u128::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 32)?;
    Some(number.to_be_bytes())
}
