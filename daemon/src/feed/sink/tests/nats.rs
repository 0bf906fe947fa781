//! The real server: what is in the stream, after kill -9 of it too, and what a stale writer is told.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use engine::feed::event::Op;
use futures_util::StreamExt;

use super::{Folder, add, adds, attribute, batch, plan, run};
use crate::feed::sink::{Failure, NatsAuthentication, NatsPlan, Sink, SinkKind, Sinks, Storage};

/// A server of its own; ended at the end.
pub(in crate::feed) struct Server {
    child: Child,
    pub(in crate::feed) port: u16,
    folder: Folder,
}

impl Server {
    pub(in crate::feed) fn start(name: &str) -> Server {
        let folder = Folder::new(name);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Server {
            child: spawn(&folder, port),
            port,
            folder,
        };
        server.wait();
        server
    }

    fn wait(&mut self) {
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "nats-server ended");
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("nats-server does not listen");
    }

    /// kill -9, and the same again on the same port and folder.
    fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = spawn(&self.folder, self.port);
        self.wait();
    }
}

fn spawn(folder: &Folder, port: u16) -> Child {
    // Debian puts it where a user's PATH does not look.
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    Command::new("nats-server")
        .args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "-sd"])
        .arg(&folder.0)
        .env("PATH", path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server (Debian package nats-server)")
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(in crate::feed) fn nats(port: u16) -> NatsPlan {
    NatsPlan {
        servers: vec![format!("nats://127.0.0.1:{port}")],
        authentication: NatsAuthentication::None,
        tls: None,
        stream: Some("people".into()),
        subject: Some("dir.people".into()),
        create: true,
        replicas: 1,
        storage: Storage::File,
        stream_bytes_max: 0,
        stream_age_max: Duration::ZERO,
        lease: None,
    }
}

/// Every message of the stream: subject and our number.
pub(in crate::feed) async fn messages(port: u16) -> Vec<(String, u64)> {
    let client = async_nats::connect(format!("127.0.0.1:{port}")).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream("people").await.unwrap();
    let count = stream.cached_info().state.messages;
    let config = async_nats::jetstream::consumer::pull::OrderedConfig::default();
    let consumer = stream.create_consumer(config).await.unwrap();
    let messages = consumer.messages().await.unwrap().take(usize::try_from(count).unwrap());
    let one = |message: Result<async_nats::jetstream::Message, _>| {
        let message = message.unwrap();
        let seq = message
            .headers
            .as_ref()
            .unwrap()
            .get("Usherd-Seq")
            .unwrap()
            .as_str()
            .parse()
            .unwrap();
        (message.subject.to_string(), seq)
    };
    if count == 0 {
        Vec::new()
    } else {
        messages.map(one).collect().await
    }
}

async fn connect(plan_: NatsPlan, shard: u16) -> Sink {
    Sinks::new(plan(SinkKind::Nats(plan_)), "people")
        .connect(shard)
        .await
        .unwrap()
}

#[test]
fn the_stream_is_made_and_knows_the_last_number_of_each_shard() {
    let server = Server::start("nats-last");
    run(async {
        let shared = Sinks::new(plan(SinkKind::Nats(nats(server.port))), "people");
        let (mut zero, mut one) = (shared.connect(0).await.unwrap(), shared.connect(1).await.unwrap());
        assert_eq!((zero.last(), one.last()), (None, None));
        assert_eq!(zero.deliver(&batch(&adds(1..=3, 0))).await.unwrap().upto, 3);
        assert_eq!(one.deliver(&batch(&adds(4..=5, 1))).await.unwrap().upto, 5);
        // The same again, as after a crash before it was written down here: nothing comes twice.
        let mut again = connect(nats(server.port), 0).await;
        assert_eq!(again.last(), Some(3));
        assert_eq!(again.deliver(&batch(&adds(1..=6, 0))).await.unwrap().upto, 6);
        let said = messages(server.port).await;
        let expected = [
            ("0", 1),
            ("0", 2),
            ("0", 3),
            ("1", 4),
            ("1", 5),
            ("0", 4),
            ("0", 5),
            ("0", 6),
        ];
        assert_eq!(said, expected.map(|(shard, seq)| (format!("dir.people.{shard}"), seq)));
    });
}

#[test]
fn who_does_not_know_the_last_message_is_fenced() {
    let server = Server::start("nats-fence");
    run(async {
        let mut old = connect(nats(server.port), 0).await;
        old.deliver(&batch(&adds(1..=1, 0))).await.unwrap();
        let mut new = connect(nats(server.port), 0).await;
        new.deliver(&batch(&adds(2..=2, 0))).await.unwrap();
        let error = old.deliver(&batch(&adds(3..=3, 0))).await.unwrap_err();
        assert_eq!(error.failure, Failure::Fenced);
        // Not even where the server, which knows a message of this number, would call it a duplicate.
        let mut other = add(2, 0, b"");
        other.op = Op::Delete;
        let mut old = connect(nats(server.port), 0).await;
        assert_eq!(old.last(), Some(2));
        new.deliver(&batch(&adds(3..=3, 0))).await.unwrap();
        other.seq = 3;
        let error = old.deliver(&batch(&[other])).await.unwrap_err();
        assert_eq!(error.failure, Failure::Fenced);
        assert_eq!(new.deliver(&batch(&adds(4..=4, 0))).await.unwrap().upto, 4);
        assert_eq!(messages(server.port).await.len(), 4);
    });
}

#[test]
fn a_server_that_is_killed_loses_and_doubles_nothing() {
    let mut server = Server::start("nats-kill");
    run(async {
        let shared = Sinks::new(plan(SinkKind::Nats(nats(server.port))), "people");
        let mut sink = Some(shared.connect(0).await.unwrap());
        let events = adds(1..=300, 0);
        let (mut done, mut killed) = (0, 0);
        while done < 300 {
            let from = usize::try_from(done).unwrap();
            let end = (from + 20).min(300);
            let delivering = async {
                let Some(mut connected) = sink.take() else {
                    return shared.connect(0).await.map(|new| (new, done));
                };
                let result = connected.deliver(&batch(&events[from..end])).await;
                result.map(|delivered| (connected, delivered.upto))
            };
            let result = if killed < 3 && done >= 60 * (killed + 1) {
                killed += 1;
                // In the middle of it.
                let killing = async {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    server.kill_and_restart();
                };
                tokio::join!(delivering, killing).0
            } else {
                delivering.await
            };
            match result {
                Ok((connected, upto)) => (sink, done) = (Some(connected), upto),
                Err(error) => {
                    assert!(matches!(error.failure, Failure::Retry { .. }), "{error:?}");
                    done = done.max(error.upto.unwrap_or(0));
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        assert_eq!(killed, 3);
        let seqs: Vec<u64> = messages(server.port).await.into_iter().map(|(_, seq)| seq).collect();
        assert_eq!(seqs, (1..=300).collect::<Vec<_>>());
    });
}

#[test]
fn what_is_larger_than_the_server_takes_is_refused_by_number() {
    static LARGE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let large = LARGE.get_or_init(|| {
        (0..16_000)
            .flat_map(|_| attribute("description", &[&[b'x'; 60]]))
            .collect()
    });
    let server = Server::start("nats-large");
    run(async {
        let mut sink = connect(nats(server.port), 0).await;
        let events = [add(1, 0, b""), add(2, 0, large), add(3, 0, b"")];
        let error = sink.deliver(&batch(&events)).await.unwrap_err();
        assert_eq!((error.failure, error.upto), (Failure::Refused { seq: 2 }, Some(1)));
        assert!(error.text.contains("max_payload is 1048576"), "{error}");
        assert_eq!(sink.deliver(&batch(&events[2..])).await.unwrap().upto, 3);
    });
}

#[test]
fn a_stream_that_is_not_to_be_made_is_for_a_person() {
    let server = Server::start("nats-create");
    run(async {
        let mut plan_ = nats(server.port);
        plan_.create = false;
        let made = Sinks::new(plan(SinkKind::Nats(plan_)), "people").connect(0).await;
        assert_eq!(made.err().unwrap().failure, Failure::Setting);
    });
}
