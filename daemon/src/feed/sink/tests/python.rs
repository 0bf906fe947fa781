//! The stock `Listener` of the Python at hand (or of the one that USHERD_TEST_PYTHON names), and scripted ones of both dialects that behave badly.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use engine::feed::event::{Attributes, Event, Op};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use wire::python_connection::Digest;
use zeroize::Zeroizing;

use super::{Folder, add, adds, attribute, batch, plan, run, sinks};
use crate::feed::sink::{Acknowledge, Failure, PythonAddress, PythonPlan, Sink, SinkError, SinkKind, Sinks};

const KEY: &[u8] = b"a key \0 with\xff everything\n";

/// Prints its address, then each message's `repr`, with the keys in order; acknowledges when asked to.
const LISTENER: &str = r#"
import sys, struct
from multiprocessing.connection import Listener
address, ack = sys.argv[1], sys.argv[2] == "ack"
key = bytes.fromhex(sys.argv[3])
if address == "tcp": address = ("127.0.0.1", 0)
if address[0] == "@": address = "\0" + address[1:]
with Listener(address, authkey=key or None) as listener:
    print(listener.address[1] if isinstance(listener.address, tuple) else "", flush=True)
    with listener.accept() as connection:
        while True:
            try: message = connection.recv()
            except EOFError: break
            print(repr(message), flush=True)
            if ack: connection.send_bytes(struct.pack("!Q", message["seq"]))
"#;

struct Listener {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    first: String,
}

impl Listener {
    fn start(address: &str, ack: bool, key: &[u8]) -> Listener {
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut child = Command::new(std::env::var("USHERD_TEST_PYTHON").unwrap_or("/usr/bin/python3".into()))
            .args(["-c", LISTENER, address, if ack { "ack" } else { "" }, &key])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 (Debian package python3)");
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut listener = Listener {
            child,
            lines,
            first: String::new(),
        };
        listener.first = listener.line();
        listener
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn python(address: PythonAddress, key: &[u8], ack: Acknowledge) -> SinkKind {
    SinkKind::Python(PythonPlan {
        address,
        authkey: (!key.is_empty()).then(|| Zeroizing::new(key.to_vec())),
        ack,
    })
}

#[test]
fn a_stock_listener_receives_plain_dictionaries() {
    static CONTENT: OnceLock<Vec<u8>> = OnceLock::new();
    static NAMES: [u8; 6] = *b"\x04\x04mail";
    let content = CONTENT.get_or_init(|| {
        let photo = attribute("jpegPhoto", &[b"\xff\0", b"\x01"]);
        let name = attribute("cn", &["Zoë".as_bytes(), b"p1"]);
        [name, photo, attribute("mail", &[b""])].concat()
    });
    let mut listener = Listener::start("tcp", true, KEY);
    let address = PythonAddress::Tcp("127.0.0.1".into(), listener.first.parse().unwrap());
    run(async {
        let mut sink = sinks(python(address, KEY, Acknowledge::Yes)).connect(0).await.unwrap();
        let mut change = add(70_000, 0, content);
        change.op = Op::Modify;
        change.csn = Some("20261126000000.000000Z#000000#001#000000");
        change.before = Some(Attributes::default());
        change.changed = engine::feed::event::Names::new(&NAMES).unwrap();
        let mut end = Event::new(Op::RefreshDone, [0; 16], "", 0);
        (end.seq, end.counts) = (1 << 40, Some(engine::feed::event::Counts::default()));
        let events = [add(1, 0, content), change, end];
        assert_eq!(sink.deliver(&batch(&events)).await.unwrap().upto, 1 << 40);
        sink.close().await;
    });
    assert_eq!(
        listener.line(),
        "{'seq': 1, 'feed': 'people', 'shard': 0, 'op': 'add', 'uuid': '00000000-0000-0000-0000-000000000001', \
         'dn': 'cn=p1,dc=example', 'attributes': {'cn': ['Zoë', 'p1'], 'jpegPhoto': [b'\\xff\\x00', b'\\x01'], \
         'mail': ['']}, 'time': '2023-11-14T22:13:20.000Z'}"
    );
    let second = listener.line();
    assert!(
        second.contains("'changed': ['mail'], 'before': {}, 'csn': '20261126000000"),
        "{second}"
    );
    let third = listener.line();
    assert!(
        third.starts_with("{'seq': 1099511627776, 'feed': 'people', 'shard': 0, 'op': 'refresh-done', 'entries': 0")
    );
    assert!(listener.child.wait().unwrap().success());
}

#[test]
fn unix_and_abstract_addresses_with_and_without_a_key() {
    let folder = Folder::new("python");
    let path = folder.path("s");
    let mut listener = Listener::start(path.to_str().unwrap(), false, b"");
    run(async {
        let kind = python(PythonAddress::Unix(path.clone()), b"", Acknowledge::No);
        let mut sink = sinks(kind).connect(0).await.unwrap();
        assert_eq!(sink.deliver(&batch(&adds(1..=2, 0))).await.unwrap().upto, 2);
        sink.close().await;
    });
    assert!(listener.line().starts_with("{'seq': 1,") && listener.line().starts_with("{'seq': 2,"));
    let name = format!("usherd-test-{}", std::process::id());
    let mut listener = Listener::start(&format!("@{name}"), true, KEY);
    run(async {
        let kind = python(PythonAddress::Abstract(name.into_bytes()), KEY, Acknowledge::Yes);
        let mut sink = sinks(kind).connect(0).await.unwrap();
        assert_eq!(sink.deliver(&batch(&adds(7..=9, 0))).await.unwrap().upto, 9);
        sink.close().await;
    });
    assert!(listener.line().starts_with("{'seq': 7,"));
}

#[test]
fn a_wrong_key_is_for_a_person() {
    let listener = Listener::start("tcp", false, b"another");
    let address = PythonAddress::Tcp("127.0.0.1".into(), listener.first.parse().unwrap());
    let error = run(async { failed(python(address, KEY, Acknowledge::No)).await });
    assert_eq!(error.failure, Failure::Setting);
    assert!(error.text.contains("refuses our key"), "{error}");
}

async fn failed(kind: SinkKind) -> SinkError {
    match sinks(kind).connect(0).await {
        Ok(_) => panic!("it was taken"),
        Err(error) => error,
    }
}

async fn read(stream: &mut TcpStream) -> Vec<u8> {
    let length = usize::try_from(stream.read_i32().await.unwrap()).unwrap();
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.unwrap();
    payload
}

async fn write(stream: &mut TcpStream, payload: &[u8]) {
    stream.write_i32(i32::try_from(payload.len()).unwrap()).await.unwrap();
    stream.write_all(payload).await.unwrap();
}

/// The listener's side of the handshake in either dialect.
async fn listen(stream: &mut TcpStream, modern: bool) {
    let message = if modern {
        [b"{sha256}".as_slice(), &[9; 40]].concat()
    } else {
        vec![9; 20]
    };
    write(stream, &[b"#CHALLENGE#", message.as_slice()].concat()).await;
    let expected = if modern {
        [b"{sha256}", Digest::Sha256.mac(KEY, &message).as_slice()].concat()
    } else {
        Digest::Md5.mac(KEY, &message)
    };
    assert_eq!(read(stream).await, expected);
    write(stream, b"#WELCOME#").await;
    let challenge = read(stream).await;
    let message = challenge.strip_prefix(b"#CHALLENGE#").unwrap();
    let answer = if modern {
        [b"{sha256}", Digest::Sha256.mac(KEY, message).as_slice()].concat()
    } else {
        Digest::Md5.mac(KEY, message)
    };
    write(stream, &answer).await;
    assert_eq!(read(stream).await, b"#WELCOME#");
}

async fn scripted(
    ack: Acknowledge,
    script: impl AsyncFnOnce(TcpStream),
    ours: impl AsyncFnOnce(Result<Sink, SinkError>),
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut plan = plan(python(PythonAddress::Tcp("127.0.0.1".into(), port), KEY, ack));
    plan.timeouts.handshake = std::time::Duration::from_millis(300);
    let peer = async { script(listener.accept().await.unwrap().0).await };
    let us = async { ours(Sinks::new(plan, "people").connect(0).await).await };
    tokio::join!(peer, us);
}

#[test]
fn both_dialects_of_the_handshake() {
    for modern in [false, true] {
        run(scripted(
            Acknowledge::Yes,
            async |mut stream: TcpStream| {
                listen(&mut stream, modern).await;
                let pickle = read(&mut stream).await;
                assert!(pickle.starts_with(b"\x80\x03}(X\x03\0\0\0seqK\x01") && pickle.ends_with(b"u."));
                write(&mut stream, &1u64.to_be_bytes()).await;
                // The second is never acknowledged: it vanishes instead, in the middle of a frame.
                read(&mut stream).await;
                stream.write_all(&[0, 0, 0, 8, 0]).await.unwrap();
            },
            async |sink| {
                let mut sink = sink.unwrap();
                let error = sink.deliver(&batch(&adds(1..=2, 0))).await.unwrap_err();
                assert_eq!(error.upto, Some(1));
                assert!(matches!(error.failure, Failure::Retry { .. }), "{error:?}");
            },
        ));
    }
}

#[test]
fn a_stalled_handshake_a_liar_and_a_babbler_are_told_apart() {
    let quiet = async |mut stream: TcpStream| {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"");
    };
    run(scripted(Acknowledge::No, quiet, async |sink| {
        let error = sink.err().unwrap();
        assert!(error.text.contains("handshake_timeout"), "{error}");
    }));
    let liar = async |mut stream: TcpStream| {
        write(&mut stream, &[b"#CHALLENGE#".as_slice(), &[9; 20]].concat()).await;
        read(&mut stream).await;
        write(&mut stream, b"#WELCOME#").await;
        read(&mut stream).await;
        write(&mut stream, &[0; 16]).await;
        assert_eq!(read(&mut stream).await, b"#FAILURE#");
    };
    run(scripted(Acknowledge::No, liar, async |sink| {
        let error = sink.err().unwrap();
        assert_eq!(error.failure, Failure::Setting);
        assert!(error.text.contains("does not know our key"), "{error}");
    }));
    let babbler = async |mut stream: TcpStream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    run(scripted(Acknowledge::No, babbler, async |sink| {
        assert!(sink.err().unwrap().text.contains("larger than allowed"));
    }));
}

#[test]
fn an_acknowledgement_is_eight_bytes_and_never_unpickled() {
    let pickler = async |mut stream: TcpStream| {
        listen(&mut stream, true).await;
        read(&mut stream).await;
        write(&mut stream, b"\x80\x04K\x01.").await;
    };
    run(scripted(Acknowledge::Yes, pickler, async |sink| {
        let error = sink.unwrap().deliver(&batch(&adds(1..=1, 0))).await.unwrap_err();
        assert!(error.text.contains("acknowledges nothing"), "{error}");
    }));
    // The key's file is read verbatim; nothing of it may reach a message.
    let shown = format!(
        "{:?}",
        plan(python(PythonAddress::Unix("/s".into()), KEY, Acknowledge::No))
    );
    assert!(!shown.contains("97") && !shown.contains("everything"), "{shown}");
}
