//! Both doors over real sockets, with a daemon that is a counter.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use super::snapshot::{Count, Counters, Directory, Helper, Listener, Local, Operations, Seconds, Server, Service};
use super::*;

fn local() -> Local {
    Local {
        file: "people.ldif".into(),
        entries: 12,
        unsaved: 1,
        ..Local::default()
    }
}

fn server() -> Server {
    Server {
        name: "a\"\\b\nc".into(),
        tier: 1,
        state: "suspect".into(),
        pending: 9,
        isolated: 5,
        pinned: 7,
        ..Server::default()
    }
}

fn directory() -> Directory {
    Directory {
        name: "corp".into(),
        identity: "proxied".into(),
        queue: 4,
        servers: vec![server()],
        operations: vec![Operations {
            class: "search".into(),
            result: "success".into(),
            count: 8,
        }],
        seconds: Seconds {
            bounds_us: vec![100, 500, 60_000_000],
            buckets: vec![5, 2, 0, 1],
            sum_us: 61_000_250,
        },
        malformed: 6,
        slow_readers: 0,
        names_asked: 8,
        names_spared: 9,
        kept: vec![Count {
            label: "isolate".into(),
            count: 2,
        }],
    }
}

fn figures() -> Snapshot {
    Snapshot {
        version: "0.1.0".into(),
        pid: 7,
        uptime_s: 61,
        lifecycle: "ready".into(),
        workers: 2,
        clients: 3,
        operations: 8,
        listeners: vec![Listener {
            address: "[::]:389".into(),
            protocol: "ldap".into(),
            directory: "corp".into(),
            clients: 3,
            state: "ready".into(),
        }],
        local: vec![local()],
        directories: vec![directory()],
        services: vec![Service {
            name: "upper".into(),
            running: 3,
            idle: 1,
            busy: 2,
            queue_wait: Seconds {
                bounds_us: vec![64, 128],
                buckets: vec![3, 1, 1],
                sum_us: 1_500,
            },
            exits: vec![Count {
                label: "crash".into(),
                count: 6,
            }],
            helpers: vec![Helper {
                pid: 77,
                requests: 9,
                ..Helper::default()
            }],
            outcomes: vec![Count {
                label: "answered".into(),
                count: 12,
            }],
            ..Service::default()
        }],
        counters: Counters {
            refusals: vec![Count {
                label: "empty-password".into(),
                count: 2,
            }],
            late_replies: 5,
            upgrades: vec![Count {
                label: "failed".into(),
                count: 1,
            }],
            took_over: 1,
            ..Counters::default()
        },
        ..Snapshot::default()
    }
}

struct Daemon {
    running: Option<Running>,
    told: Arc<Mutex<Vec<Command>>>,
    figures: Arc<Mutex<Snapshot>>,
    folder: PathBuf,
}

impl Daemon {
    fn start(name: &str) -> Daemon {
        let folder = std::env::temp_dir().join(format!("usherd-admin-test-{}-{name}", std::process::id()));
        let told = Arc::new(Mutex::new(Vec::new()));
        let shown = Arc::new(Mutex::new(figures()));
        let bound = Bound::bind(&folder.join("control.sock"), Some("127.0.0.1:0".parse().unwrap())).unwrap();
        let (record, show) = (told.clone(), shown.clone());
        let handle = Handle {
            feed: Box::new(|name, verb| Ok(serde_json::json!({ "done": format!("{name:?} {verb:?}") }))),
            lockout: Box::new(|clear| serde_json::json!({ "done": clear })),
            trace: Box::new(|verb| Ok(serde_json::json!({ "done": format!("{verb:?}") }))),
            snapshot: Box::new(move || show.lock().unwrap().clone()),
            command: Box::new(move |command| {
                record.lock().unwrap().push(command.clone());
                if command == Command::Reload {
                    Err("usherd.toml:1:1: wrong".into())
                } else {
                    Ok(())
                }
            }),
        };
        Daemon {
            running: Some(bound.start(handle).unwrap()),
            told,
            figures: shown,
            folder,
        }
    }

    fn control(&self) -> PathBuf {
        self.folder.join("control.sock")
    }

    fn ask(&self, line: &str) -> serde_json::Value {
        let mut stream = UnixStream::connect(self.control()).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        stream.write_all(b"\n").unwrap();
        let mut reply = String::new();
        BufReader::new(stream).read_line(&mut reply).unwrap();
        serde_json::from_str(&reply).unwrap()
    }

    fn get(&self, path: &str) -> (u16, String) {
        let address = self.running.as_ref().unwrap().http_address.unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let status = reply.split(' ').nth(1).unwrap().parse().unwrap();
        (status, reply.split_once("\r\n\r\n").unwrap().1.to_owned())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.running.take());
        assert!(!self.control().exists(), "the socket goes with the daemon");
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[test]
fn commands_arrive_and_their_outcome_is_told() {
    let daemon = Daemon::start("commands");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&daemon.control()), mode(&daemon.folder)), (0o600, 0o700));
    assert_eq!(daemon.ask(r#"{"command":"stop"}"#)["ok"], true);
    assert_eq!(daemon.ask(r#"{"command":"drain","level":"firm"}"#)["ok"], true);
    assert_eq!(daemon.ask(r#"{"command":"drain"}"#)["ok"], true);
    let refused = daemon.ask(r#"{"command":"reload"}"#);
    assert_eq!(
        (&refused["ok"], &refused["error"]),
        (&false.into(), &"usherd.toml:1:1: wrong".into())
    );
    let told = daemon.told.lock().unwrap().clone();
    let expected = [
        Command::Stop,
        Command::Drain(Drain::Firm),
        Command::Drain(Drain::Gentle),
        Command::Reload,
    ];
    assert_eq!(told, expected);
    for wrong in [
        "",
        "{}",
        "status",
        r#"{"command":"explode"}"#,
        r#"{"command":"drain","level":"soft"}"#,
    ] {
        assert_eq!(daemon.ask(wrong)["ok"], false, "{wrong}");
    }
    assert_eq!(
        daemon.told.lock().unwrap().len(),
        4,
        "what is not understood does nothing"
    );
}

#[test]
fn status_is_the_snapshot_and_reads_back() {
    let daemon = Daemon::start("status");
    let mut reply = daemon.ask(r#"{"command":"status"}"#);
    assert_eq!(reply["ok"], true);
    assert_eq!(reply["directories"][0]["servers"][0]["state"], "suspect");
    reply.as_object_mut().unwrap().remove("ok");
    assert_eq!(serde_json::from_value::<Snapshot>(reply).unwrap(), figures());
}

#[test]
fn several_requests_on_one_connection_and_an_endless_line() {
    let daemon = Daemon::start("lines");
    let mut stream = UnixStream::connect(daemon.control()).unwrap();
    stream
        .write_all(b"{\"command\":\"stop\"}\n{\"command\":\"stop\"}\n")
        .unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for _ in 0..2 {
        let mut reply = String::new();
        reader.read_line(&mut reply).unwrap();
        assert_eq!(reply, "{\"ok\":true}\n");
    }
    stream.write_all(&[b'x'; 16 * 1024]).unwrap();
    let mut rest = String::new();
    // The daemon may close while bytes are still unread, which the kernel tells as a reset.
    let _ = reader.read_to_string(&mut rest);
    assert!(rest.contains("at most 16 KiB"), "{rest}");
}

#[test]
fn a_socket_in_use_is_refused_and_a_dead_one_replaced() {
    let daemon = Daemon::start("twice");
    let error = Bound::bind(&daemon.control(), None).err().unwrap();
    assert!(error.starts_with("another usherd answers at "), "{error}");
    let http = daemon.running.as_ref().unwrap().http_address;
    let error = Bound::bind(&daemon.folder.join("other.sock"), http).err().unwrap();
    assert!(error.contains("is in use"), "{error}");
    let dead = daemon.folder.join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    assert!(dead.exists());
    Bound::bind(&dead, None).map(drop).unwrap();
    let file = daemon.folder.join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(Bound::bind(&file, None).err().unwrap().contains("is not a socket"));
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
}

#[test]
fn health_and_readiness() {
    let daemon = Daemon::start("health");
    assert_eq!(daemon.get("/healthz"), (200, "ok\n".into()));
    assert_eq!(daemon.get("/readyz"), (200, "ready\n".into()));
    assert_eq!(daemon.get("/nothing").0, 404);
    {
        let mut figures = daemon.figures.lock().unwrap();
        figures.workers_silent = 1;
        figures.lifecycle = "draining".into();
        figures.listeners[0].state = "draining".into();
    }
    assert_eq!(daemon.get("/healthz"), (503, "1 of 2 workers do not answer\n".into()));
    assert_eq!(
        daemon.get("/readyz"),
        (503, "draining\nldap [::]:389 is draining\n".into())
    );
}

#[test]
fn metrics_are_well_formed() {
    let daemon = Daemon::start("metrics");
    let (status, page) = daemon.get("/metrics");
    assert_eq!(status, 200);
    for line in [
        "usherd_info{version=\"0.1.0\"} 1",
        "usherd_ready 1",
        "usherd_uptime_seconds 61",
        "usherd_late_replies_total 5",
        "usherd_refusals_total{reason=\"empty-password\"} 2",
        "usherd_listener_clients{address=\"[::]:389\",protocol=\"ldap\",directory=\"corp\"} 3",
        "usherd_queue{directory=\"corp\"} 4",
        "usherd_clients_kept{directory=\"corp\",by=\"isolate\"} 2",
        "usherd_upgrades_total{outcome=\"failed\"} 1",
        "usherd_took_over 1",
        "usherd_upstream_isolated_connections{directory=\"corp\",server=\"a\\\"\\\\b\\nc\",tier=\"1\"} 5",
        "usherd_upstream_pinned_connections{directory=\"corp\",server=\"a\\\"\\\\b\\nc\",tier=\"1\"} 7",
        "usherd_operations_total{directory=\"corp\",class=\"search\",result=\"success\"} 8",
        "usherd_operation_seconds_bucket{directory=\"corp\",le=\"0.0001\"} 5",
        "usherd_operation_seconds_bucket{directory=\"corp\",le=\"0.0005\"} 7",
        "usherd_operation_seconds_bucket{directory=\"corp\",le=\"60\"} 7",
        "usherd_operation_seconds_bucket{directory=\"corp\",le=\"+Inf\"} 8",
        "usherd_operation_seconds_sum{directory=\"corp\"} 61.00025",
        "usherd_operation_seconds_count{directory=\"corp\"} 8",
        "usherd_upstream_state{directory=\"corp\",server=\"a\\\"\\\\b\\nc\",state=\"suspect\"} 1",
        "usherd_upstream_state{directory=\"corp\",server=\"a\\\"\\\\b\\nc\",state=\"up\"} 0",
        "usherd_malformed_total{directory=\"corp\"} 6",
        "usherd_whoami_total{directory=\"corp\",outcome=\"asked\"} 8",
        "usherd_whoami_total{directory=\"corp\",outcome=\"spared\"} 9",
        "usherd_upstream_pending{directory=\"corp\",server=\"a\\\"\\\\b\\nc\",tier=\"1\"} 9",
        "usherd_service_helpers{service=\"upper\",state=\"busy\"} 2",
        "usherd_calls_total{service=\"upper\",outcome=\"answered\"} 12",
        "usherd_service_exits_total{service=\"upper\",reason=\"crash\"} 6",
        "usherd_service_queue_seconds_bucket{service=\"upper\",le=\"0.000128\"} 4",
        "usherd_service_queue_seconds_sum{service=\"upper\"} 0.0015",
        "usherd_service_queue_seconds_count{service=\"upper\"} 5",
        "usherd_helper_requests_total{service=\"upper\",pid=\"77\"} 9",
    ] {
        assert!(page.lines().any(|found| found == line), "no line `{line}` in:\n{page}");
    }
    // Every sample belongs to a family that has been introduced with HELP and TYPE, once.
    let mut families = Vec::new();
    let mut last_help = "";
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(!help.is_empty() && !families.contains(&name), "{line}");
            last_help = name;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            assert_eq!(rest.split(' ').next(), Some(last_help), "TYPE follows HELP");
            families.push(last_help);
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            let family = families.last().unwrap();
            let suffix = name
                .strip_prefix(family)
                .unwrap_or_else(|| panic!("`{name}` stands below {family}"));
            assert!(["", "_bucket", "_sum", "_count"].contains(&suffix), "{line}");
        }
    }
    assert!(families.iter().all(|name| name.starts_with("usherd_")));
}
