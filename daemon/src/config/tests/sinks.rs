//! Sinks: what is written becomes a plan, or every mistake with its place.

use std::time::Duration;

use super::super::keys::Kind;
use super::super::reader::Section;
use super::super::{check_sink, raw_sink};
use super::*;
use crate::feed::sink::{
    Acknowledge, NatsAuthentication, PythonAddress, SinkKind, SinkPlan, SocketPlace, WebhookFormat,
};

/// Reads the settings of one sink, written as a table of their own.
fn read(fixture: &Fixture, text: &str) -> Result<SinkPlan, Vec<String>> {
    let source = Source {
        name: "usherd.toml".into(),
        text: text.into(),
    };
    let table = DeTable::parse(text).unwrap();
    let mut p = Problems::new(Some(Arc::new(source)));
    let section = Section::new(
        Kind::Sink,
        "`sink` of [feed.people]",
        Place::Text(0..1),
        table.get_ref(),
    );
    let raw = raw_sink::read(&mut p, section);
    let plan = check_sink::check(&mut p, &raw, &Folder::new(&fixture.0));
    if !p.has_errors() {
        return Ok(plan.unwrap());
    }
    let list = p.into_list();
    let told = |one: &Diagnostic| {
        let (line, column) = one.position().unwrap();
        format!("{line}:{column} {}", one.message)
    };
    Err(list.iter().map(told).collect())
}

fn kind(fixture: &Fixture, text: &str) -> SinkKind {
    read(fixture, text)
        .unwrap_or_else(|found| panic!("{text}: {found:?}"))
        .kind
}

#[test]
fn defaults_and_what_is_written() {
    let fixture = Fixture::new("sinks");
    let plan = read(&fixture, "type = \"ndjson\"\ndeliver_timeout = \"7s\"\n").unwrap();
    assert_eq!(plan.timeouts.deliver, Duration::from_secs(7));
    assert_eq!(plan.timeouts.connect, Duration::from_secs(5));
    let SinkKind::File(file) = kind(&fixture, "type = \"file\"\npath = \"feed\"\nrotate_size = \"1MiB\"\n") else {
        panic!("a file")
    };
    assert_eq!(file.path, std::path::absolute(fixture.0.join("feed")).unwrap());
    assert!(file.fsync && file.rotate_bytes == 1 << 20 && file.keep == 5);
    let SinkKind::Command(command) = kind(&fixture, "type = \"command\"\nprogram = [\"sh\", \"-c\", \"cat\"]\n") else {
        panic!("a command")
    };
    assert!(command.program[0].ends_with("/sh") && command.ack == Acknowledge::Yes);
    let SinkKind::Webhook(hook) = kind(
        &fixture,
        "type = \"webhook\"\nurl = \"https://a.example/x?y=1\"\nsignature_file = \"secret\"\nformat = \"array\"\n",
    ) else {
        panic!("a webhook")
    };
    assert_eq!(
        (hook.host.as_str(), hook.port, hook.path.as_str()),
        ("a.example", 443, "/x?y=1")
    );
    assert_eq!(hook.format, WebhookFormat::Array);
    assert_eq!(hook.secret.as_ref().unwrap().as_slice(), b"s3cret");
    let SinkKind::Nats(nats) = kind(
        &fixture,
        "type = \"nats\"\nurl = \"nats://a.example, b.example:4333\"\nuser = \"u\"\npassword_file = \"secret\"\n\
         stream_age_max = \"7d\"\nlease = \"leases\"\nlease_ttl = \"3s\"\n",
    ) else {
        panic!("nats")
    };
    assert_eq!(nats.servers, ["nats://a.example:4222", "nats://b.example:4333"]);
    assert_eq!(nats.stream_age_max, Duration::from_secs(7 * 24 * 3600));
    let lease = nats.lease.as_ref().unwrap();
    assert_eq!((lease.bucket.as_str(), lease.ttl), ("leases", Duration::from_secs(3)));
    assert!(matches!(&nats.authentication, NatsAuthentication::Password(user, _) if user == "u"));
    for (shown, kind) in [(format!("{hook:?}"), "webhook"), (format!("{nats:?}"), "nats")] {
        assert!(
            !shown.contains("s3cret") && !shown.contains("115, 51"),
            "{kind}: {shown}"
        );
    }
}

#[test]
fn addresses_of_python_are_those_of_its_families() {
    let fixture = Fixture::new("sinks-python");
    fixture.file("key", "a\nkey\n", 0o600);
    let address = |text: &str| match kind(
        &fixture,
        &format!("type = \"python\"\nauthkey_file = \"key\"\n{text}\n"),
    ) {
        SinkKind::Python(python) => {
            assert_eq!(python.authkey.unwrap().as_slice(), b"a\nkey\n", "verbatim");
            python.address
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(
        address("address = \"[::1]:6000\""),
        PythonAddress::Tcp("::1".into(), 6000)
    );
    assert_eq!(
        address("address = \"unix:/run/s\""),
        PythonAddress::Unix("/run/s".into())
    );
    assert_eq!(
        address("address = \"s\"\nfamily = \"AF_UNIX\""),
        PythonAddress::Unix("s".into())
    );
    assert_eq!(
        address("address = \"unix:@name\""),
        PythonAddress::Abstract(b"name".to_vec())
    );
    let wrong = |text: &str| read(&fixture, &format!("type = \"python\"\n{text}\n")).unwrap_err();
    let pipe = "AF_PIPE is an address of Windows, and there is none here";
    assert_eq!(wrong("address = '\\\\.\\pipe\\x'"), [format!("2:11 {pipe}")]);
    assert_eq!(
        wrong("address = \"a:1\"\nfamily = \"AF_PIPE\""),
        [format!("3:10 {pipe}")]
    );
    let inet = "2:11 `address` is a unix socket, and `family` is AF_INET";
    assert_eq!(wrong("address = \"/run/s\"\nfamily = \"AF_INET\""), [inet]);
}

#[test]
fn every_mistake_has_its_place() {
    let fixture = Fixture::new("sinks-mistakes");
    for (text, expected) in [
        ("fsync = true\n", vec!["1:1 the sink has no `type`"]),
        (
            "type = \"redis\"\n",
            vec!["1:8 type \"redis\" is not part of this version"],
        ),
        (
            "type = \"ndjson\"\npath = \"x\"\nack = true\n",
            vec![
                "2:8 `path` is not a setting of the sink `ndjson`",
                "3:7 `ack` is not a setting of the sink `ndjson`",
            ],
        ),
        (
            "type = \"file\"\nrotate_size = 17\n",
            vec![
                "1:1 the sink has no `path`",
                "2:15 `rotate_size` is too small to be of use",
            ],
        ),
        (
            "type = \"file\"\npath = \".\"\n",
            vec!["2:8 `path` names a folder and not a file"],
        ),
        (
            "type = \"command\"\nprogram = []\n",
            vec!["2:11 `program` is an empty list"],
        ),
        ("type = \"python\"\naddress = \"a\"\n", vec!["2:11 `a` cannot be read"]),
        (
            "type = \"socket\"\naddress = \"unix:/s\"\ntls = {}\n",
            vec!["3:7 a unix socket has no TLS"],
        ),
        (
            "type = \"webhook\"\nurl = \"ftp://a\"\n",
            vec!["2:7 `ftp://a` cannot be read"],
        ),
        (
            "type = \"webhook\"\nurl = \"https://u:p@a\"\n",
            vec!["2:7 a secret does not stand in a URL"],
        ),
        (
            "type = \"nats\"\nurl = \"nats://a\"\nstream = \"a.b\"\n",
            vec!["3:10 this cannot be a stream's name"],
        ),
        (
            "type = \"nats\"\nurl = \"nats://a\"\nlease = \"a b\"\n",
            vec!["3:9 this cannot be a bucket's name"],
        ),
        (
            "type = \"nats\"\nurl = \"nats://a\"\nlease_ttl = \"3s\"\n",
            vec!["3:13 `lease_ttl` is of a lease, and there is no `lease`"],
        ),
        (
            "type = \"nats\"\nurl = \"tls://a\"\ntls = { server_name = \"b\" }\n",
            vec!["3:23 `server_name` is not for NATS: the name that is verified is the URL's"],
        ),
        (
            "type = \"nats\"\nurl = \"nats://a\"\ntoken_file = \"secret\"\ncredentials_file = \"secret\"\n",
            vec!["3:14 one way to authenticate is enough"],
        ),
    ] {
        assert_eq!(read(&fixture, text).unwrap_err(), expected, "{text}");
    }
}

#[test]
fn one_line_forms() {
    let fixture = Fixture::new("sinks-one-line");
    let path = fixture.0.join("feed").display().to_string();
    let read = |text: &str| {
        let mut p = Problems::new(None);
        let plan = check_sink::one_line(&mut p, "--sink", text, None);
        plan.map(|plan| plan.kind).ok_or_else(|| render(&p.into_list(), false))
    };
    assert_eq!(read("ndjson"), Ok(SinkKind::Ndjson));
    assert!(matches!(read(&format!("file:{path}")), Ok(SinkKind::File(_))));
    assert!(matches!(read("command:cat -u"), Ok(SinkKind::Command(command)) if command.program[1] == "-u"));
    assert!(matches!(read("python:localhost:6000"), Ok(SinkKind::Python(_))));
    assert!(
        matches!(read("tcp:localhost:1"), Ok(SinkKind::Socket(socket)) if socket.place == SocketPlace::Tcp("localhost".into(), 1))
    );
    assert!(matches!(read("unix:/run/s"), Ok(SinkKind::Socket(_))));
    assert!(matches!(read("http://localhost:8080/x"), Ok(SinkKind::Webhook(_))));
    assert!(matches!(read("nats://localhost"), Ok(SinkKind::Nats(_))));
    assert!(
        read("redis://localhost")
            .unwrap_err()
            .starts_with("error: --sink: a sink `redis` is not in this version")
    );
    assert!(
        read("kafka:x")
            .unwrap_err()
            .starts_with("error: --sink: no sink is called `kafka`")
    );
}
