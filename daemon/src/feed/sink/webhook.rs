//! Batches by HTTP POST, over one kept connection for each shard.
//!
//! 2xx acknowledges. What the receiver says about itself (not found, not allowed, gone elsewhere) is for a person; what it
//! says about the request (every other 4xx) is about an event: the batch is sent again one by one, and the one that is
//! refused alone is refused. Everything else is tried again, when `Retry-After` says, or with back-off.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::feed::event::Event;
use engine::feed::json;
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use sha2::Sha256;
use tokio::time::timeout;

use super::socket::{late, tcp};
use super::{Batch, Delivered, Failure, SinkError, Timeouts, WebhookFormat, WebhookPlan};

/// Of an answer so much is read; a longer one costs the connection.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Of an answer so much is shown.
const SHOWN_CHARACTERS_MAX: usize = 200;
/// A receiver is not waited for longer, whatever it says.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// An HTTP receiver, for one shard.
pub struct Webhook {
    plan: WebhookPlan,
    times: Timeouts,
    feed: Arc<str>,
    shard: u16,
    sender: SendRequest<Full<Bytes>>,
}

impl Webhook {
    pub(super) async fn connect(
        plan: &WebhookPlan,
        times: &Timeouts,
        feed: &Arc<str>,
        shard: u16,
    ) -> Result<Webhook, SinkError> {
        Ok(Webhook {
            sender: dial(plan, times).await?,
            plan: plan.clone(),
            times: times.clone(),
            feed: feed.clone(),
            shard,
        })
    }

    pub(super) async fn deliver(&mut self, batch: &Batch<'_>) -> Result<Delivered, SinkError> {
        let (_, upto) = batch.range();
        match self.post(batch.events).await {
            Ok(()) => return Ok(Delivered { upto }),
            Err(error) if batch.events.len() > 1 && matches!(error.failure, Failure::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut done = None;
        for event in batch.events.chunks(1) {
            self.post(event).await.map_err(|error| error.after(done))?;
            done = event.first().map(|event| event.seq);
        }
        Ok(Delivered { upto })
    }

    async fn post(&mut self, events: &[Event<'_>]) -> Result<(), SinkError> {
        if self.sender.is_closed() {
            self.sender = dial(&self.plan, &self.times).await?;
        }
        let request = self.request(events)?;
        let allowed = self.times.deliver;
        match timeout(allowed, self.exchange(request, events)).await {
            Ok(done) => done,
            Err(_) => Err(late(allowed)),
        }
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>, events: &[Event<'_>]) -> Result<(), SinkError> {
        let who = format!("{}:{}", self.plan.host, self.plan.port);
        let failed = |error: hyper::Error| SinkError::retry(format!("{who}: {error}"));
        self.sender.ready().await.map_err(failed)?;
        let answer = self.sender.send_request(request).await.map_err(failed)?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        // Read to its end, or the connection cannot be used again.
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        judge(&who, status, &headers, &body, events)
    }

    fn request(&self, events: &[Event<'_>]) -> Result<Request<Full<Bytes>>, SinkError> {
        let (kind, body) = body(self.plan.format, &self.feed, events);
        let range = Batch { events, cookie: &[] }.range();
        let (host, port) = (&self.plan.host, self.plan.port);
        let host = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let mut request = Request::post(&self.plan.path)
            .header(HOST, host)
            .header(USER_AGENT, concat!("usherd/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, kind)
            .header(
                "idempotency-key",
                format!("{}/{}/{}-{}", self.feed, self.shard, range.0, range.1),
            )
            .header("usherd-feed", &*self.feed)
            .header("usherd-shard", self.shard);
        if let Some(secret) = &self.plan.secret {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs();
            request = request
                .header("usherd-timestamp", now)
                .header("usherd-signature", format!("v1={}", signature(secret, now, &body)));
        }
        if let Some(token) = &self.plan.token {
            let mut value = HeaderValue::from_bytes(&[b"Bearer ", token.as_slice()].concat())
                .map_err(|_| SinkError::setting("the token cannot stand in a header"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request
            .body(Full::new(body.into()))
            .map_err(|error| SinkError::setting(error.to_string()))
    }
}

async fn dial(plan: &WebhookPlan, times: &Timeouts) -> Result<SendRequest<Full<Bytes>>, SinkError> {
    let stream = tcp(&plan.host, plan.port, plan.tls.as_ref(), times).await?;
    let shaken = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.map_err(|error| SinkError::retry(format!("{}: {error}", plan.host)))?;
    tokio::spawn(async move {
        // What ends it is told to whoever has sent a request.
        let _ = connection.await;
    });
    Ok(sender)
}

fn body(format: WebhookFormat, feed: &str, events: &[Event<'_>]) -> (&'static str, Vec<u8>) {
    let mut out = Vec::new();
    match format {
        WebhookFormat::Ndjson => {
            for event in events {
                json::write_line(&mut out, feed, event);
            }
            ("application/x-ndjson", out)
        }
        WebhookFormat::Array => {
            out.push(b'[');
            for (place, event) in events.iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                json::write(&mut out, feed, event);
            }
            out.push(b']');
            ("application/json", out)
        }
    }
}

/// HMAC-SHA256 of `TIMESTAMP.BODY`, in hexadecimal.
fn signature(secret: &[u8], timestamp: u64, body: &[u8]) -> String {
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret) else {
        return String::new();
    };
    let mac = mac
        .chain_update(timestamp.to_string())
        .chain_update(b".")
        .chain_update(body);
    mac.finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn judge(
    who: &str,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    events: &[Event<'_>],
) -> Result<(), SinkError> {
    let shown: String = String::from_utf8_lossy(body)
        .trim()
        .chars()
        .take(SHOWN_CHARACTERS_MAX)
        .collect();
    let text = format!("{who} answers {status}: {shown}")
        .trim_end_matches([':', ' '])
        .to_owned();
    let failure = match status.as_u16() {
        200..=299 => return Ok(()),
        401 | 403..=405 | 407 | 300..=399 => Failure::Setting,
        408 | 425 | 429 => Failure::Retry {
            after: retry_after(headers),
        },
        400..=499 => Failure::Refused {
            seq: events.first().map_or(0, |event| event.seq),
        },
        _ => Failure::Retry {
            after: retry_after(headers),
        },
    };
    Err(SinkError::new(failure, text))
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let then = httpdate::parse_http_date(text).ok()?;
            then.duration_since(SystemTime::now()).unwrap_or_default()
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::feed::event::Op;

    #[test]
    fn answers_are_judged_by_what_they_are_about() {
        let events = [Event {
            seq: 7,
            ..Event::new(Op::Delete, [1; 16], "cn=a", 0)
        }];
        let judged = |status: u16, after: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(after) = after {
                headers.insert(RETRY_AFTER, after.parse().unwrap());
            }
            let status = StatusCode::from_u16(status).unwrap();
            judge("a:80", status, &headers, b"", &events).map_err(|error| error.failure)
        };
        assert_eq!(judged(204, None), Ok(()));
        assert_eq!(judged(422, None), Err(Failure::Refused { seq: 7 }));
        assert_eq!(judged(401, None), Err(Failure::Setting));
        assert_eq!(judged(302, None), Err(Failure::Setting));
        let seconds = |n| Failure::Retry {
            after: Some(Duration::from_secs(n)),
        };
        assert_eq!(judged(429, Some("3")), Err(seconds(3)));
        assert_eq!(judged(503, Some("999999")), Err(seconds(3600)));
        assert_eq!(judged(503, Some("Sun, 06 Nov 1994 08:49:37 GMT")), Err(seconds(0)));
        assert_eq!(judged(503, Some("soon")), Err(Failure::Retry { after: None }));
    }

    #[test]
    fn the_signature_is_over_timestamp_and_body() {
        // printf '1700000000.{}\n' | openssl dgst -sha256 -hmac key
        let expected = "e7b2db2a9191d08b7d95e17269f78ba083729e7bd3bf9be2b82d2f8cd93c86ef";
        assert_eq!(signature(b"key", 1_700_000_000, b"{}\n"), expected);
    }
}
