//! The `sql` helper against a real MariaDB: every status, transactions, lost connections, interrupts.

#![cfg(test)]

mod mariadb;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use helpers::sql::database::Database;
use helpers::sql::settings::{ResultKind, Settings, Statement, Target};
use helpers::sql::value::Parameter;
use mariadb::{MariaDb, USER};
use mysql::prelude::Queryable;
use serde_json::{Value, json};

const SCHEMA: &[&str] = &[
    "CREATE TABLE person (name VARCHAR(10) PRIMARY KEY, uid BIGINT UNSIGNED NOT NULL, credit INT CHECK (credit >= 0), photo BLOB)",
    "CREATE TABLE phone (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(10) NOT NULL, number VARCHAR(20), \
     FOREIGN KEY (name) REFERENCES person (name))",
    "CREATE TABLE kinds (s VARCHAR(30), i BIGINT, u BIGINT UNSIGNED, f DOUBLE, g FLOAT, b BOOLEAN, x VARBINARY(20), \
     d DATE, t TIME(6), m DATETIME(6), n DECIMAL(30,4), j JSON, o BIT(12), e ENUM('red','blue'), y YEAR)",
    "INSERT INTO person VALUES ('alice', 1000, 10, x'00ff'), ('bob', 1001, 10, NULL), ('carol', 18446744073709551615, NULL, NULL)",
    "CREATE PROCEDURE fails() SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'as asked', MYSQL_ERRNO = 31000",
    "CREATE PROCEDURE two() BEGIN SELECT 1 AS one; SELECT 2 AS two, 3 AS three; END",
];

/// Name, SQL, parameters, result, and whether it only reads.
type Row<'a> = (&'a str, &'a str, &'a [&'a str], ResultKind, bool);

const STATEMENTS: &[Row<'static>] = &[
    (
        "find",
        "SELECT name, uid, photo FROM person WHERE name = ?",
        &["string"],
        ResultKind::Row,
        true,
    ),
    (
        "all",
        "SELECT name FROM person ORDER BY name",
        &[],
        ResultKind::Rows,
        true,
    ),
    (
        "add",
        "INSERT INTO person (name, uid) VALUES (?, ?)",
        &["string", "unsigned?"],
        ResultKind::Count,
        false,
    ),
    (
        "phone",
        "INSERT INTO phone (name, number) VALUES (?, ?)",
        &["string", "string?"],
        ResultKind::Count,
        false,
    ),
    (
        "credit",
        "UPDATE person SET credit = credit + ? WHERE name = ?",
        &["integer", "string"],
        ResultKind::Count,
        false,
    ),
    ("same", "UPDATE person SET uid = uid", &[], ResultKind::Count, false),
    (
        "nothere",
        "SELECT * FROM nothere WHERE a = ?",
        &["string"],
        ResultKind::Rows,
        true,
    ),
    ("fails", "CALL fails()", &[], ResultKind::Rows, false),
    ("two", "CALL two()", &[], ResultKind::Rows, false),
    (
        "large",
        "SELECT REPEAT('x', ?) AS x",
        &["integer"],
        ResultKind::Rows,
        true,
    ),
    ("sleep", "SELECT SLEEP(?)", &["float"], ResultKind::Rows, true),
    (
        "slowadd",
        "INSERT INTO person (name, uid) SELECT ?, SLEEP(?)",
        &["string", "float"],
        ResultKind::Count,
        false,
    ),
    ("kinds", "SELECT * FROM kinds", &[], ResultKind::Row, true),
    (
        "store",
        "INSERT INTO kinds (s, i, u, f, g, b, x, d, t, m, n, j, o, e, y) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        &[
            "string?", "integer", "unsigned", "float", "float", "boolean", "bytes", "date", "time", "datetime",
            "decimal", "string", "unsigned", "string", "integer",
        ],
        ResultKind::Count,
        false,
    ),
    ("count", "SELECT COUNT(*) FROM person", &[], ResultKind::Row, true),
];

fn settings(server: &MariaDb) -> Settings {
    let statement = |&(name, sql, parameters, result, read_only): &Row<'_>| {
        let statement = Statement {
            sql: sql.to_owned(),
            parameters: parameters
                .iter()
                .map(|word| Parameter::parse(word).expect(word))
                .collect(),
            result,
            rows_max: 2,
            rows_min: u64::from(name == "credit"),
            read_only,
        };
        assert_eq!(statement.check(), Ok(()), "{name}");
        (name.to_owned(), statement)
    };
    Settings {
        target: Target::Unix(server.socket()),
        user: USER.0.to_owned(),
        password_file: Some(server.password_file()),
        database: Some("users".to_owned()),
        connect_timeout_ms: 2000,
        idle_check_ms: 60_000,
        answer_bytes_max: 100_000,
        init: vec!["SET time_zone = '+00:00'".to_owned()],
        statements: STATEMENTS.iter().map(statement).collect(),
        transactions: BTreeMap::from([
            ("move".to_owned(), vec!["credit".to_owned(), "credit".to_owned()]),
            ("enter".to_owned(), vec!["add".to_owned(), "phone".to_owned()]),
            ("slow".to_owned(), vec!["add".to_owned(), "sleep".to_owned()]),
        ]),
    }
}

fn fixture() -> (MariaDb, Database) {
    let server = MariaDb::start();
    let mut root = server.root();
    for sql in SCHEMA {
        root.query_drop(sql).expect(sql);
    }
    let database = Database::new(settings(&server));
    (server, database)
}

fn call(database: &mut Database, name: &str, parameters: &Value) -> Value {
    let request = json!({ "do": name, "parameters": parameters }).to_string();
    serde_json::from_slice(&database.answer(request.as_bytes())).expect("an answer is JSON")
}

/// Calls, and expects this status; gives the answer.
fn status(database: &mut Database, name: &str, parameters: &Value, wanted: &str) -> Value {
    let answer = call(database, name, parameters);
    assert_eq!(answer["status"], wanted, "{name} {parameters}: {answer}");
    answer
}

#[test]
fn every_status_is_kept_apart() {
    let (_server, mut database) = fixture();
    let db = &mut database;
    // The one statement whose table is not there is told at once, and harms no other.
    let wrong = db.warm_up().expect_err("a table is missing");
    assert!(wrong.len() == 1 && wrong[0].contains("nothere"), "{wrong:?}");
    assert_eq!(
        status(db, "find", &json!(["alice"]), "ok"),
        json!({"status":"ok","columns":["name","uid","photo"],"row":["alice",1000,{"base64":"AP8="}]})
    );
    assert_eq!(
        status(db, "find", &json!(["carol"]), "ok")["row"],
        json!(["carol", 18_446_744_073_709_551_615_u64, null])
    );
    assert_eq!(
        status(db, "all", &json!([]), "ok"),
        json!({"status":"ok","columns":["name"],"rows":[["alice"],["bob"]],"more":true})
    );
    status(db, "find", &json!(["nobody"]), "not-found");
    status(db, "credit", &json!([1, "nobody"]), "not-found");
    assert_eq!(
        status(db, "add", &json!(["dave", 1003]), "ok"),
        json!({"status":"ok","affected":1})
    );
    assert_eq!(
        status(db, "phone", &json!(["dave", "1"]), "ok"),
        json!({"status":"ok","affected":1,"last_id":1})
    );
    assert_eq!(
        status(db, "same", &json!([]), "ok")["affected"],
        4,
        "matched, not changed"
    );
    assert_eq!(status(db, "add", &json!(["dave", 1003]), "exists")["code"], 1062);
    for (name, parameters, code) in [
        ("add", json!(["eve", null]), 1048),
        ("phone", json!(["nobody", "1"]), 1452),
        ("credit", json!([-100, "alice"]), 4025),
        ("add", json!(["much too long", 1]), 1406),
    ] {
        assert_eq!(status(db, name, &parameters, "constraint")["code"], code);
    }
    for parameters in [json!([]), json!(["a", "b"]), json!([1]), json!([null]), json!([["a"]])] {
        status(db, "find", &parameters, "bind-error");
    }
    assert_eq!(status(db, "nothere", &json!(["a"]), "prepare-error")["code"], 1146);
    let failed = status(db, "fails", &json!([]), "execute-error");
    assert_eq!(
        (&failed["code"], &failed["message"]),
        (&json!(31000), &json!("as asked"))
    );
    assert_eq!(
        status(db, "two", &json!([]), "ok"),
        json!({"status":"ok","columns":["one"],"rows":[[1]]}),
        "of several results the first"
    );
    status(db, "large", &json!([99_000]), "ok");
    status(db, "large", &json!([101_000]), "too-large");
    status(db, "DROP TABLE person", &json!([]), "invalid");
    status(db, "ping", &json!([]), "ok");
    status(db, "find", &json!(["alice' OR '1'='1"]), "not-found");
}

#[test]
fn values_come_back_as_they_were_stored() {
    let (_server, mut database) = fixture();
    let stored = json!([
        "naïve 🦀", i64::MIN, u64::MAX, -1.0049302831896567e-116, 0.1, true, {"base64":"AP+A"}, "2024-02-29", "-838:59:59.999999",
        "2026-11-23T18:00:00.5", "-12345678901234567890.1234", "{\"a\": [1, 2]}", 4095, "blue", 2026
    ]);
    status(&mut database, "store", &stored, "ok");
    let mut wanted = stored;
    wanted[5] = json!(1);
    wanted[8] = json!("-838:59:59.999999");
    assert_eq!(status(&mut database, "kinds", &json!([]), "ok")["row"], wanted);
    // The same in CBOR, where bytes are bytes.
    let request = b"\xa1\x62do\x65kinds";
    let answer: ciborium::Value = ciborium::from_reader(database.answer(request).as_slice()).expect("CBOR");
    let row = answer
        .as_map()
        .and_then(|members| members.iter().find(|(key, _)| key.as_text() == Some("row")));
    let row = row.and_then(|(_, row)| row.as_array()).expect("a row");
    assert_eq!(row[6], ciborium::Value::Bytes(vec![0, 255, 128]));
    assert_eq!(row[2], ciborium::Value::from(u64::MAX));
    let error: ciborium::Value =
        ciborium::from_reader(database.answer(b"\xa1\x62do\x61x").as_slice()).expect("an error is CBOR too");
    assert!(format!("{error:?}").contains("invalid"), "{error:?}");
}

#[test]
fn a_transaction_is_done_whole_or_not_at_all() {
    let (server, mut database) = fixture();
    let db = &mut database;
    let credits = || -> Vec<Option<i64>> {
        let sql = "SELECT credit FROM person WHERE name IN ('alice', 'bob') ORDER BY name";
        server.root().query(sql).expect(sql)
    };
    let done = status(db, "move", &json!([[-5, "alice"], [5, "bob"]]), "ok");
    assert_eq!(done, json!({"status":"ok","results":[{"affected":1},{"affected":1}]}));
    assert_eq!(credits(), [Some(5), Some(15)]);
    let refused = status(db, "move", &json!([[5, "bob"], [-50, "alice"]]), "constraint");
    assert_eq!((&refused["statement"], &refused["code"]), (&json!(1), &json!(4025)));
    assert_eq!(
        status(db, "move", &json!([[-1, "alice"], [1, "nobody"]]), "not-found")["statement"],
        1
    );
    assert_eq!(
        status(db, "move", &json!([[-1, "alice"], [1]]), "bind-error")["statement"],
        1
    );
    status(db, "move", &json!([[-1, "alice"]]), "bind-error");
    status(db, "move", &json!([[-1, "alice"], "bob"]), "bind-error");
    assert_eq!(credits(), [Some(5), Some(15)], "nothing of the refused ones was done");
    assert_eq!(
        status(db, "enter", &json!([["erin", 7], ["erin", null]]), "ok")["results"][1]["last_id"],
        1
    );
    // Two that wait for each other's row: the server ends one, and says that it may be tried again.
    let mut other = server.root();
    other.query_drop("START TRANSACTION").expect("begins");
    other
        .query_drop("UPDATE person SET credit = 100 WHERE name = 'bob'")
        .expect("locks bob");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| call(db, "move", &json!([[-1, "alice"], [1, "bob"]])));
        let until = Instant::now() + Duration::from_secs(10);
        let mut root = server.root();
        let waits = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'";
        while root.query_first::<u32, _>(waits).expect(waits) != Some(1) {
            assert!(Instant::now() < until, "it waits for bob");
            // The server renews this table only for those who have not read it for 100 ms.
            std::thread::sleep(Duration::from_millis(120));
        }
        let mine = other.query_drop("UPDATE person SET credit = 100 WHERE name = 'alice'");
        let _ = other.query_drop("ROLLBACK");
        let answer = waiting.join().expect("no panic");
        match mine {
            Ok(()) => assert_eq!(
                (&answer["code"], &answer["retry"]),
                (&json!(1213), &json!(true)),
                "{answer}"
            ),
            Err(_) => assert_eq!(answer["status"], "ok", "the other was chosen: {answer}"),
        }
    });
}

#[test]
fn a_lost_connection_is_never_mistaken_for_a_verdict() {
    let (mut server, mut database) = fixture();
    let kill_others = |server: &MariaDb, word: &str| {
        let mut root = server.root();
        let list = format!(
            "SELECT id FROM information_schema.processlist WHERE user = '{}'",
            USER.0
        );
        for id in root.query::<u64, _>(list).expect("the list") {
            // One may have gone by itself since it was listed.
            match root.query_drop(format!("KILL {word} {id}")) {
                Ok(()) => {}
                Err(mysql::Error::MySqlError(error)) if error.code == 1094 => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    status(&mut database, "add", &json!(["frank", 1]), "ok");
    // Lost while idle, not noticed before use: what only reads is done again, the other is not.
    kill_others(&server, "CONNECTION");
    status(&mut database, "find", &json!(["frank"]), "ok");
    status(&mut database, "add", &json!(["bernd", 1]), "ok");
    kill_others(&server, "CONNECTION");
    status(&mut database, "add", &json!(["grace", 1]), "unknown");
    status(&mut database, "add", &json!(["grace", 1]), "ok");
    kill_others(&server, "CONNECTION");
    status(&mut database, "ping", &json!([]), "ok");
    // Begun on a lost connection, a transaction is begun once more.
    kill_others(&server, "CONNECTION");
    status(&mut database, "enter", &json!([["heidi", 1], ["heidi", null]]), "ok");
    // Idle for longer than is trusted, it is asked first.
    let mut careful = Database::new(Settings {
        idle_check_ms: 0,
        ..settings(&server)
    });
    status(&mut careful, "add", &json!(["ivan", 1]), "ok");
    kill_others(&server, "CONNECTION");
    status(&mut careful, "add", &json!(["judy", 1]), "ok");
    // Lost within a transaction: rolled back, and said so.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| call(&mut database, "slow", &json!([["kim", 1], [20.0]])));
        until_asleep(&server);
        kill_others(&server, "CONNECTION");
        let answer = waiting.join().expect("no panic");
        assert_eq!(
            (&answer["status"], &answer["code"]),
            (&json!("unavailable"), &Value::Null),
            "{answer}"
        );
    });
    status(&mut database, "find", &json!(["kim"]), "not-found");
    // A server that dies under a statement, is away, and comes back.
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| call(&mut database, "slowadd", &json!(["leo", 20.0])));
        until_asleep(&server);
        server.crash();
        assert_eq!(waiting.join().expect("no panic")["status"], "unknown");
    });
    let begun = Instant::now();
    status(&mut database, "find", &json!(["alice"]), "unavailable");
    status(&mut database, "ping", &json!([]), "unavailable");
    assert!(begun.elapsed() < Duration::from_secs(1), "told at once");
    server.run();
    while call(&mut database, "find", &json!(["alice"]))["status"] != "ok" {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is found again");
        std::thread::sleep(Duration::from_millis(20));
    }
    // A wrong password is no verdict about a call either.
    std::fs::write(server.password_file(), "wrong").expect("our own file");
    let mut locked_out = Database::new(settings(&server));
    assert_eq!(
        status(&mut locked_out, "find", &json!(["alice"]), "unavailable")["code"],
        1045
    );
}

fn until_asleep(server: &MariaDb) {
    let mut root = server.root();
    let until = Instant::now() + Duration::from_secs(10);
    let asleep = "SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'User sleep'";
    while root.query_first::<u32, _>(asleep).expect(asleep) != Some(1) {
        assert!(Instant::now() < until, "a statement sleeps");
    }
}

#[test]
fn an_interrupt_stops_the_statement_it_is_meant_for_and_no_other() {
    let (server, mut database) = fixture();
    let (running, kill) = (database.running(), database.killer());
    status(&mut database, "ping", &json!([]), "ok");
    assert_eq!(running.kill(|| true, &kill), Ok(false), "nothing runs");
    for (name, parameters) in [
        ("sleep", json!([30.0])),
        ("slowadd", json!(["mallory", 30.0])),
        ("slow", json!([["mallory", 1], [30.0]])),
    ] {
        let begun = Instant::now();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| call(&mut database, name, &parameters));
            until_asleep(&server);
            assert_eq!(running.kill(|| false, &kill), Ok(false), "not wanted");
            assert_eq!(running.kill(|| true, &kill), Ok(true));
            assert_eq!(running.kill(|| true, &kill), Ok(false), "once is enough");
            assert_eq!(waiting.join().expect("no panic")["status"], "interrupted", "{name}");
        });
        assert!(begun.elapsed() < Duration::from_secs(10), "{name}");
        status(&mut database, "find", &json!(["mallory"]), "not-found");
    }
    // Kills at any moment: whatever they meet, a call that was not killed is answered rightly.
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = running.kill(|| true, &kill);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let begun = Instant::now();
        let (mut answered, mut interrupted) = (0, 0);
        while begun.elapsed() < Duration::from_secs(2) {
            let answer = call(&mut database, "sleep", &json!([0.001]));
            match answer["status"].as_str() {
                Some("ok") => answered += 1,
                Some("interrupted") => interrupted += 1,
                other => panic!("{other:?}: {answer}"),
            }
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(
            answered > 0 && interrupted > 0,
            "{answered} answered, {interrupted} interrupted"
        );
    });
    for _ in 0..100 {
        status(&mut database, "count", &json!([]), "ok");
    }
}
