//! Accounting records as calls of a service: the table of the manual in a real MariaDB, services that are down, and daemons
//! that are killed or ended while records wait.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;

use crate::helpers::program;
use crate::mariadb::{MariaDb, USER};
use crate::proc::{alone, setting, shown, wait_for};
use crate::radius_records::{INTERIM, Nas, ON, START, STOP, figures, lines, listener, orders, setup};
use crate::usherd::Usherd;

const MANUAL: &str = include_str!("../../../docs/radius-accounting.md");

/// The block of code of the manual that has these words.
fn block(language: &str, words: &str) -> String {
    let start = format!("```{language}\n");
    let mut blocks = MANUAL.split(&start).skip(1).filter_map(|rest| rest.split("```").next());
    let found = blocks.find(|block| block.contains(words));
    found.unwrap_or_else(|| panic!("the manual has no {words}")).to_owned()
}

/// A database as the manual makes it, and a daemon as the manual configures it.
fn with_database() -> (MariaDb, Usherd) {
    let server = MariaDb::start();
    let mut root = server.root();
    let schema = block("sql", "CREATE PROCEDURE account");
    let (table, rest) = schema.split_once("DELIMITER //\n").expect("a table, then a procedure");
    let (procedure, _) = rest.split_once(" //\n").expect("its end");
    for sql in [table, procedure] {
        root.query_drop(sql.trim().trim_end_matches(';')).expect(sql);
    }
    let url = format!("mysql://{}@unix({})/users", USER.0, server.socket().display());
    let service = block("toml", "[service.sql]")
        .replace("mysql://usherd@unix(/run/mysqld/mysqld.sock)/radius", &url)
        .replace(
            "/etc/usherd/radius.secret",
            &server.password_file().display().to_string(),
        );
    assert!(service.contains(&url) && !service.contains("/etc/usherd"), "{service}");
    let accounting = block(
        "toml",
        "accounting = { service = \"sql\", statement = \"account\", parameters = [\"session_key\", \"status\"",
    );
    let lines = format!("clients_file = \"clients.toml\"\nanswer = \"accounting\"\n{accounting}");
    let usherd = setup()
        .server("state_dir = \"state\"")
        .section(&service)
        .listen("radius", "127.0.0.1:0", &lines)
        .start();
    (server, usherd)
}

/// Numbers of four octets.
fn four(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

/// A record of a session that began at `begun`, so many seconds later.
fn tells(nas: &mut Nas, session: &str, status: u32, begun: u32, seconds: u32, more: &[(u8, &[u8])]) -> bool {
    let (at, took, octets) = (four(begun + seconds), four(seconds), four(seconds * 10));
    let own: [(u8, &[u8]); 4] = [(55, &at), (46, &took), (42, &octets), (43, &octets)];
    let all = [&own[..], more].concat();
    nas.tells(session, status, &all)
}

const BEGUN: u32 = 1_790_000_000;

type Line = (String, u64, u64, u64, Option<String>, String, Option<String>);

fn rows(server: &MariaDb) -> Vec<Line> {
    let sql = "SELECT session, seconds, input_octets, output_octets, terminate, CAST(started AS CHAR), CAST(stopped AS CHAR) \
               FROM radacct ORDER BY session";
    server.root().query(sql).expect("the manual's table")
}

#[test]
fn a_session_is_one_row_of_the_manual_s_table_however_often_it_is_told() {
    let (mut server, usherd) = with_database();
    let mut nas = Nas::new("127.0.0.1", usherd.port(0));
    let (gigawords, cause) = (four(1), four(1));
    let stop: [(u8, &[u8]); 2] = [(52, &gigawords), (49, &cause)];
    for (turn, delay) in [0, 7].into_iter().enumerate() {
        // The second time as a NAS that has not heard of it sends it: with another delay, as a new request.
        let delay = four(delay);
        let again: [(u8, &[u8]); 1] = [(41, &delay)];
        assert!(
            tells(&mut nas, "one", START, BEGUN, 0, &again),
            "{turn}: {}",
            figures(&usherd, 0)
        );
        assert!(tells(&mut nas, "one", INTERIM, BEGUN, 60, &again));
        assert!(tells(&mut nas, "one", STOP, BEGUN, 120, &[&stop[..], &again].concat()));
        let found = rows(&server);
        let right = (
            "one".to_owned(),
            120,
            (1 << 32) + 1200,
            1200,
            Some("User-Request".to_owned()),
        );
        assert_eq!(found.len(), 1, "{found:?}");
        let (session, seconds, input, output, terminate, started, stopped) = found[0].clone();
        assert_eq!((session, seconds, input, output, terminate), right);
        // In UTC, whatever the zone of the server.
        assert_eq!(started, "2026-09-21 14:13:20.000000");
        assert_eq!(stopped.as_deref(), Some("2026-09-21 14:15:20.000000"));
    }
    // Who restarts has no sessions any more.
    assert!(tells(&mut nas, "two", START, BEGUN + 500, 0, &[]));
    assert_eq!(rows(&server)[1].6, None);
    assert!(nas.tells("boot", ON, &[]));
    let found = rows(&server);
    assert!(
        found.len() == 2 && found[1].4.as_deref() == Some("NAS-Reboot"),
        "{found:?}"
    );
    assert_eq!(
        found[0].6.as_deref(),
        Some("2026-09-21 14:15:20.000000"),
        "what had ended is left"
    );

    // A database that crashes, and comes back.
    server.crash();
    for n in 0..20 {
        let session = format!("while-down-{n:02}");
        assert!(
            tells(&mut nas, &session, START, BEGUN + 1000, 0, &[]),
            "{n}: {}",
            figures(&usherd, 0)
        );
        assert!(tells(&mut nas, &session, STOP, BEGUN + 1000, 30, &[]));
    }
    let told = figures(&usherd, 0);
    assert!(
        told["spool_records"].as_u64() >= Some(30) && told["last_error"].as_str().is_some_and(|text| !text.is_empty()),
        "{told}"
    );
    server.run();
    usherd.until("what was kept is delivered", |status| {
        let records = &status["radius"][0]["records"];
        records["spool_records"] == 0 && records["last_error"] == ""
    });
    let found = rows(&server);
    assert_eq!(found.len(), 22, "{found:?}");
    assert!(
        found.iter().skip(2).all(|row| row.1 == 30 && row.6.is_some()),
        "{found:?}"
    );
    assert_eq!(figures(&usherd, 0)["set_aside"], 0);
    usherd.stop();
}

fn books(program: &str, more: &str) -> String {
    format!("[service.books]\n{program}\n{more}\n")
}

/// Writes the configuration anew with another program.
fn change(usherd: &Usherd, from: &str, to: &str) {
    let file = usherd.folder.file("usherd.toml");
    let text = std::fs::read_to_string(&file).expect("it is there");
    assert!(text.contains(from), "{text}");
    std::fs::write(&file, text.replace(from, to)).expect("our own");
}

#[test]
fn a_service_whose_program_fails_holds_up_nobody_and_gets_all_when_it_works() {
    let setup = setup();
    let calls = setup.folder.write("calls", "");
    let failing = program(&["broken"]);
    let usherd = setup
        .server("state_dir = \"state\"")
        .section(&books(&failing, "min = 0\nmax = 1\nqueue_timeout = \"300ms\""))
        .listen(
            "radius",
            "127.0.0.1:0",
            &listener("{ service = \"books\", spool_after = \"200ms\" }"),
        )
        .listen(
            "radius",
            "127.0.0.1:0",
            &listener("{ service = \"books\", spool = false, timeout = \"500ms\" }"),
        )
        .start();
    let mut kept = Nas::new("127.0.0.1", usherd.port(0));
    for n in 0..30 {
        let (session, status) = (format!("kept-{}", n / 2), [START, STOP][n % 2]);
        assert!(kept.tells(&session, status, &[]), "{n}: {}", figures(&usherd, 0));
    }
    let mut unkept = Nas::new("127.0.0.1", usherd.port(1));
    let octets = unkept.send("unkept", START, &[]);
    assert!(
        !unkept.heard(&octets, Duration::from_secs(2)),
        "acknowledged, and nobody has it"
    );
    assert!(figures(&usherd, 1)["refused"].as_u64() >= Some(1));
    change(&usherd, &failing, &program(&["account", &calls]));
    let told = usherd.command(&["reload"]);
    assert!(told.status.success(), "{}", shown(&told));
    usherd.until("what was kept is delivered", |status| {
        status["radius"][0]["records"]["replayed"] == 30 && status["radius"][0]["records"]["spool_records"] == 0
    });
    unkept.again(&octets);
    assert!(unkept.heard(&octets, Duration::from_secs(5)));
    let written = lines(Path::new(&calls));
    let orders = orders(&written);
    assert_eq!(orders.len(), 16, "{orders:?}");
    let kept = orders.iter().filter(|(session, _)| session.starts_with("kept-"));
    assert!(
        kept.into_iter().all(|(_, order)| *order == ["Start", "Stop"]),
        "{orders:?}"
    );
    usherd.stop();
}

#[test]
fn records_that_wait_at_the_end_are_kept_for_the_next_start() {
    let setup = setup();
    let calls = setup.folder.write("calls", "");
    let silent = program(&["mute"]);
    let mut usherd = setup
        .server("state_dir = \"state\"")
        .section(&books(&silent, "min = 0\nmax = 1"))
        .listen("radius", "127.0.0.1:0", &listener("{ service = \"books\" }"))
        .start();
    let mut nas = Nas::new("127.0.0.1", usherd.port(0));
    let sent: Vec<Vec<u8>> = (0..50).map(|n| nas.send(&format!("s{n}"), START, &[])).collect();
    usherd.until("they wait", |status| {
        status["radius"][0]["waiting"].as_u64() >= Some(50)
    });
    usherd.terminate();
    let status = usherd.process.wait(Duration::from_secs(20));
    assert_eq!(status.code(), Some(0), "{}", usherd.process.output());
    let acknowledged = sent
        .iter()
        .filter(|octets| nas.heard(octets, Duration::from_millis(20)))
        .count();
    assert!(acknowledged > 0, "none of them is acknowledged, and they are kept");
    assert!(lines(Path::new(&calls)).is_empty());
    change(&usherd, &silent, &program(&["account", &calls]));
    usherd.restart();
    usherd.until("they are delivered", |status| {
        status["radius"][0]["records"]["replayed"] == 50
    });
    let written = lines(Path::new(&calls));
    let right: BTreeSet<String> = (0..50).map(|n| format!("s{n}")).collect();
    assert_eq!(orders(&written).into_keys().collect::<BTreeSet<_>>(), right);
    usherd.stop();
}

/// Tells of sessions until it is to end, each record again and again until it is acknowledged. What was acknowledged.
fn tell_on(port: u16, number: usize, ends: &AtomicBool) -> Vec<(String, &'static str)> {
    let (mut nas, mut done) = (Nas::new("127.0.0.1", port), Vec::new());
    for n in 0.. {
        let session = format!("nas{number}-{n}");
        for (status, name) in [(START, "Start"), (INTERIM, "Interim-Update"), (STOP, "Stop")] {
            let octets = nas.send(&session, status, &[]);
            let until = Instant::now() + Duration::from_secs(40);
            while !nas.heard(&octets, Duration::from_millis(250)) {
                if ends.load(Ordering::Relaxed) {
                    return done;
                }
                assert!(Instant::now() < until, "{session} {name} is never acknowledged");
                nas.again(&octets);
            }
            done.push((session.clone(), name));
            if ends.load(Ordering::Relaxed) {
                return done;
            }
        }
    }
    done
}

#[test]
fn daemons_killed_under_load_with_a_service_that_comes_and_goes_lose_and_disorder_nothing() {
    let _alone = alone();
    let setup = setup();
    let calls = setup.folder.write("calls", "");
    let refusing = format!("{calls}.refuse");
    let mut usherd = setup
        .server("state_dir = \"state\"")
        .section(&books(&program(&["account", &calls]), "min = 1\nmax = 1"))
        .listen(
            "radius",
            "127.0.0.1:0",
            &listener("{ service = \"books\", spool_after = \"50ms\" }"),
        )
        .start();
    let port = usherd.port(0);
    usherd.expect_end();
    let ends = AtomicBool::new(false);
    let done: Vec<(String, &str)> = std::thread::scope(|scope| {
        let nases: Vec<_> = (0..6)
            .map(|n| {
                scope.spawn({
                    let ends = &ends;
                    move || tell_on(port, n, ends)
                })
            })
            .collect();
        for turn in 0..setting("USHERD_TEST_KILLS", 4) {
            for n in 0..4 {
                let is_up = (turn + n) % 2 == 0;
                match is_up {
                    true => drop(std::fs::remove_file(&refusing)),
                    false => std::fs::write(&refusing, "").expect("a temporary file"),
                }
                std::thread::sleep(Duration::from_millis(180));
            }
            usherd.restart();
        }
        ends.store(true, Ordering::Relaxed);
        nases
            .into_iter()
            .flat_map(|nas| nas.join().expect("no panic"))
            .collect()
    });
    let _ = std::fs::remove_file(&refusing);
    assert!(done.len() > 100, "too few to notice anything: {}", done.len());
    usherd.until("all is delivered", |status| {
        let records = &status["radius"][0]["records"];
        records["spool_records"] == 0 && records["queue"] == 0
    });
    // The last call may just have been written when its helper was killed.
    let orders = wait_for("the file is whole", Duration::from_secs(5), || {
        let text = std::fs::read_to_string(&calls).ok()?;
        text.ends_with('\n').then(|| orders(&lines(Path::new(&calls))))
    });
    for (session, status) in &done {
        assert!(
            orders
                .get(session)
                .is_some_and(|order| order.iter().any(|known| known == status)),
            "{session} {status} was acknowledged, and is not there: {:?}",
            orders.get(session)
        );
    }
    let right = ["Start", "Interim-Update", "Stop"];
    for (session, order) in &orders {
        assert_eq!(order[..], right[..order.len()], "{session} is out of order");
    }
    usherd.stop();
}
