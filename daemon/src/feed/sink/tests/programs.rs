//! Programs and sockets: acknowledgements, refusals, ends.

use std::time::{Duration, Instant};

use engine::feed::event::Event;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener};

use super::{Folder, add, adds, batch, run, sinks};
use crate::feed::sink::{Acknowledge, CommandPlan, Failure, SinkKind, SocketPlace, SocketPlan};

fn shell(script: &str, ack: Acknowledge) -> SinkKind {
    SinkKind::Command(CommandPlan {
        program: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        ack,
        directory: None,
        environment: vec![("GREETING".into(), "hello".into())],
    })
}

/// Acknowledges each line as it comes.
const EACH: &str = r#"while read -r line; do seq=${line#*:}; echo "${seq%%,*}"; done"#;

#[test]
fn a_program_acknowledges_line_by_line() {
    run(async {
        let mut sink = sinks(shell(EACH, Acknowledge::Yes)).connect(3).await.unwrap();
        assert_eq!(sink.deliver(&batch(&adds(1..=500, 3))).await.unwrap().upto, 500);
        assert_eq!(sink.deliver(&batch(&adds(510..=510, 3))).await.unwrap().upto, 510);
        assert_eq!(
            sink.deliver(&batch(&[Event::heartbeat(510, 0)])).await.unwrap().upto,
            510
        );
        assert_eq!(sink.deliver(&batch(&adds(511..=511, 3))).await.unwrap().upto, 511);
        sink.close().await;
    });
}

#[test]
fn a_program_that_refuses_one_is_not_sent_the_rest_again() {
    let folder = Folder::new("refuses");
    let log = folder.path("log");
    let script = format!(
        r#"while read -r line; do seq=${{line#*:}}; seq=${{seq%%,*}}; echo $seq >> {}
           if [ $seq = 3 ]; then echo '{{"refused": 3, "reason": "no such group"}}'; else echo $seq; fi; done"#,
        log.display()
    );
    run(async {
        let mut sink = sinks(shell(&script, Acknowledge::Yes)).connect(0).await.unwrap();
        let events = adds(1..=5, 0);
        let error = sink.deliver(&batch(&events)).await.unwrap_err();
        assert_eq!(error.failure, Failure::Refused { seq: 3 });
        assert_eq!(error.upto, Some(2));
        assert!(error.text.contains("no such group"), "{error}");
        assert_eq!(sink.deliver(&batch(&events[3..])).await.unwrap().upto, 5);
        let written = std::fs::read_to_string(&log).unwrap();
        assert_eq!(written, "1\n2\n3\n4\n5\n");
        // Asked for again, the refused one alone is sent again.
        let error = sink.deliver(&batch(&adds(6..=7, 0))).await;
        assert_eq!(error.unwrap().upto, 7);
    });
}

#[test]
fn a_program_that_ends_or_babbles_is_told_with_how_far_it_came() {
    run(async {
        let mut sink = sinks(shell("read a; echo 1; exit 7", Acknowledge::Yes))
            .connect(0)
            .await
            .unwrap();
        let error = sink.deliver(&batch(&adds(1..=3, 0))).await.unwrap_err();
        assert_eq!(error.upto, Some(1));
        assert!(error.text.contains("exit status: 7"), "{error}");
        let mut sink = sinks(shell("echo hello; cat", Acknowledge::Yes))
            .connect(0)
            .await
            .unwrap();
        let error = sink.deliver(&batch(&adds(1..=3, 0))).await.unwrap_err();
        assert!(error.text.contains("\"hello\", which is no acknowledgement"), "{error}");
        let mut sink = sinks(shell("echo 99; cat", Acknowledge::Yes)).connect(0).await.unwrap();
        let error = sink.deliver(&batch(&adds(1..=3, 0))).await.unwrap_err();
        assert!(error.text.contains("event 99, which it has not been sent"), "{error}");
    });
}

#[test]
fn without_acknowledgement_written_is_done_and_what_does_not_end_is_ended() {
    let folder = Folder::new("unacknowledged");
    let out = folder.path("out");
    let script = format!(
        "trap '' TERM; echo $GREETING $USHERD_FEED $USHERD_SHARD > {0}; cat >> {0}; sleep 60",
        out.display()
    );
    run(async {
        let mut sink = sinks(shell(&script, Acknowledge::No)).connect(2).await.unwrap();
        let events = adds(1..=3, 2);
        assert_eq!(sink.deliver(&batch(&events)).await.unwrap().upto, 3);
        let beat = [Event::heartbeat(3, 0)];
        assert_eq!(sink.deliver(&batch(&beat)).await.unwrap().upto, 3);
        while std::fs::read_to_string(&out).unwrap_or_default().lines().count() < 5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let begun = Instant::now();
        sink.close().await;
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "it was killed after its grace"
        );
    });
    let text = std::fs::read_to_string(out).unwrap();
    assert!(text.starts_with("hello people 2\n"), "{text}");
    assert!(text.lines().nth(4).unwrap().contains("\"op\":\"heartbeat\""), "{text}");
}

#[test]
fn a_socket_takes_lines_and_acknowledges_late() {
    let folder = Folder::new("socket");
    let path = folder.path("s");
    run(async {
        let listener = UnixListener::bind(&path).unwrap();
        let peer = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (read, mut write) = stream.into_split();
            let mut lines = BufReader::new(read).lines();
            for seq in 1..=3 {
                let line = lines.next_line().await.unwrap().unwrap();
                assert!(
                    line.starts_with(&format!("{{\"seq\":{seq},\"feed\":\"people\"")),
                    "{line}"
                );
            }
            write.write_all(b"2\n").await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            write.write_all(b"3\n").await.unwrap();
        });
        let kind = SinkKind::Socket(SocketPlan {
            place: SocketPlace::Unix(path.clone()),
            tls: None,
            ack: Acknowledge::Yes,
        });
        let mut sink = sinks(kind).connect(0).await.unwrap();
        assert_eq!(sink.deliver(&batch(&adds(1..=3, 0))).await.unwrap().upto, 3);
        peer.await.unwrap();
        let error = sink.deliver(&batch(&adds(4..=4, 0))).await.unwrap_err();
        assert!(matches!(error.failure, Failure::Retry { after: None }), "{error:?}");
    });
}

#[test]
fn a_tcp_peer_that_stops_reading_meets_the_time_out() {
    static LONG: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let content = LONG.get_or_init(|| {
        (0..2000)
            .flat_map(|_| super::attribute("description", &[&[b'x'; 60]]))
            .collect()
    });
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut plan = super::plan(SinkKind::Socket(SocketPlan {
            place: SocketPlace::Tcp("127.0.0.1".into(), port),
            tls: None,
            ack: Acknowledge::No,
        }));
        plan.timeouts.deliver = Duration::from_millis(200);
        let mut sink = crate::feed::sink::Sinks::new(plan, "people").connect(0).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        let events: Vec<_> = (1..=200).map(|seq| add(seq, 0, content)).collect();
        let error = sink.deliver(&batch(&events)).await.unwrap_err();
        assert!(error.text.contains("deliver_timeout"), "{error}");
        let mut some = [0; 10];
        peer.read_exact(&mut some).await.unwrap();
        assert_eq!(&some, b"{\"seq\":1,\"");
    });
}
