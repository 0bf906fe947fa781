//! An HTTP receiver that says what it is told to.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use zeroize::Zeroizing;

use super::{adds, batch, plan, run};
use crate::feed::sink::{Failure, SinkKind, Sinks, WebhookFormat, WebhookPlan};

/// One request as it came: its head in lower case, its body, and the number of its connection.
#[derive(Clone, Debug)]
struct Seen {
    head: String,
    body: String,
    connection: usize,
}

/// Serves connections one after the other; `answer` says status line and headers for a body.
async fn serve(listener: TcpListener, seen: Arc<Mutex<Vec<Seen>>>, answer: fn(&str) -> &'static str) {
    for connection in 0.. {
        let mut stream = BufReader::new(listener.accept().await.unwrap().0);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if stream.read_line(&mut head).await.unwrap() == 0 {
                    break;
                }
            }
            let head = head.to_ascii_lowercase();
            let Some(length) = head.split("content-length: ").nth(1) else {
                break;
            };
            let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            let body = String::from_utf8(body).unwrap();
            let text = answer(&body);
            seen.lock().unwrap().push(Seen { head, body, connection });
            stream
                .write_all(format!("HTTP/1.1 {text}\r\ncontent-length: 2\r\n\r\nok").as_bytes())
                .await
                .unwrap();
        }
    }
}

fn webhook(
    format: WebhookFormat,
    answer: fn(&str) -> &'static str,
    test: impl AsyncFnOnce(Sinks, Arc<Mutex<Vec<Seen>>>),
) {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let kind = SinkKind::Webhook(WebhookPlan {
            host: "127.0.0.1".into(),
            port: listener.local_addr().unwrap().port(),
            path: "/hook?x=1".into(),
            tls: None,
            secret: Some(Zeroizing::new(b"key".to_vec())),
            token: Some(Zeroizing::new(b"t0ken".to_vec())),
            format,
        });
        let seen = Arc::new(Mutex::new(Vec::new()));
        let server = tokio::spawn(serve(listener, seen.clone(), answer));
        test(Sinks::new(plan(kind), "people"), seen).await;
        server.abort();
    });
}

#[test]
fn a_batch_is_posted_signed_over_one_connection() {
    webhook(
        WebhookFormat::Ndjson,
        |_| "202 Accepted",
        async |sinks, seen| {
            let mut sink = sinks.connect(3).await.unwrap();
            assert_eq!(sink.deliver(&batch(&adds(5..=7, 3))).await.unwrap().upto, 7);
            assert_eq!(sink.deliver(&batch(&adds(8..=8, 3))).await.unwrap().upto, 8);
            let seen = seen.lock().unwrap().clone();
            let Seen { head, body, .. } = &seen[0];
            assert!(head.starts_with("post /hook?x=1 http/1.1\r\n"), "{head}");
            for line in [
                "idempotency-key: people/3/5-7",
                "content-type: application/x-ndjson",
                "authorization: bearer t0ken",
                "usherd-feed: people",
                "usherd-shard: 3",
            ] {
                assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {head}");
            }
            assert_eq!(body.lines().count(), 3);
            let header = |name: &str| {
                let rest = head.split(&format!("\r\n{name}: ")).nth(1).unwrap();
                rest.split("\r\n").next().unwrap().to_owned()
            };
            // As a receiver would check it, with a program that is not ours.
            let signed = format!("{}.{body}", header("usherd-timestamp"));
            let mut openssl = std::process::Command::new("openssl")
                .args(["dgst", "-sha256", "-hmac", "key"])
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .expect("openssl (Debian package openssl)");
            std::io::Write::write_all(&mut openssl.stdin.take().unwrap(), signed.as_bytes()).unwrap();
            let said = openssl.wait_with_output().unwrap().stdout;
            let expected = String::from_utf8(said)
                .unwrap()
                .trim()
                .rsplit(' ')
                .next()
                .unwrap()
                .to_owned();
            assert_eq!(header("usherd-signature"), format!("v1={expected}"));
            assert!(seen.iter().all(|seen| seen.connection == 0), "kept alive");
        },
    );
}

#[test]
fn a_refused_batch_is_sent_one_by_one_and_the_culprit_named() {
    let answer = |body: &str| {
        if body.contains("\"seq\":6,") {
            "422 Unprocessable Content"
        } else {
            "200 OK"
        }
    };
    webhook(WebhookFormat::Array, answer, async |sinks, seen| {
        let mut sink = sinks.connect(0).await.unwrap();
        let events = adds(5..=7, 0);
        let error = sink.deliver(&batch(&events)).await.unwrap_err();
        assert_eq!((error.failure, error.upto), (Failure::Refused { seq: 6 }, Some(5)));
        assert!(error.text.contains("answers 422"), "{error}");
        assert_eq!(sink.deliver(&batch(&events[2..])).await.unwrap().upto, 7);
        let bodies: Vec<String> = seen.lock().unwrap().iter().map(|seen| seen.body.clone()).collect();
        assert!(
            bodies[0].starts_with("[{\"seq\":5,") && bodies[0].ends_with("}]"),
            "{}",
            bodies[0]
        );
        assert_eq!(bodies.len(), 4);
    });
}

#[test]
fn a_busy_receiver_says_when_and_one_that_forbids_us_is_for_a_person() {
    webhook(
        WebhookFormat::Ndjson,
        |_| "503 Service Unavailable\r\nretry-after: 7",
        async |sinks, _| {
            let error = sinks
                .connect(0)
                .await
                .unwrap()
                .deliver(&batch(&adds(1..=2, 0)))
                .await
                .unwrap_err();
            let after = Some(Duration::from_secs(7));
            assert_eq!((error.failure, error.upto), (Failure::Retry { after }, None));
        },
    );
    webhook(
        WebhookFormat::Ndjson,
        |_| "403 Forbidden",
        async |sinks, seen| {
            let error = sinks
                .connect(0)
                .await
                .unwrap()
                .deliver(&batch(&adds(1..=2, 0)))
                .await
                .unwrap_err();
            assert_eq!(error.failure, Failure::Setting);
            assert_eq!(seen.lock().unwrap().len(), 1);
        },
    );
}

#[test]
fn a_receiver_that_says_nothing_meets_the_time_out() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut plan = plan(SinkKind::Webhook(WebhookPlan {
            host: "127.0.0.1".into(),
            port: listener.local_addr().unwrap().port(),
            path: "/".into(),
            tls: None,
            secret: None,
            token: None,
            format: WebhookFormat::Ndjson,
        }));
        plan.timeouts.deliver = Duration::from_millis(200);
        let mut sink = Sinks::new(plan, "people").connect(0).await.unwrap();
        let error = sink.deliver(&batch(&adds(1..=1, 0))).await.unwrap_err();
        assert!(error.text.contains("deliver_timeout"), "{error}");
    });
}
