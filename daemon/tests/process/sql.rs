//! `helper = "sql"`: named statements on a real MariaDB, through the daemon. What each status is for is tested with the
//! helper itself (helpers/tests/sql); here is what the daemon adds: deadlines, reloads, servers that go and come.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use serde_json::{Value, json};

use crate::mariadb::{MariaDb, USER};
use crate::proc::{Folder, run, run_reading, shown, wait_for};
use crate::usherd::{BINARY, Setup, Usherd};

const SCHEMA: [&str; 2] = [
    "CREATE TABLE person (name VARCHAR(20) PRIMARY KEY, uid INT UNSIGNED, photo BLOB)",
    "INSERT INTO person VALUES ('alice', 1000, x'00ff'), ('bob', 1001, NULL)",
];

/// The service `users`, with one helper so that it is known which one a call meets.
fn section(server: &MariaDb, sql: &str) -> String {
    format!(
        "[service.users]\nhelper = \"sql\"\nmin = 1\nmax = 1\ngrace = \"5s\"\n\
         [service.users.sql]\nurl = \"mysql://{user}@unix({socket})/users\"\npassword_file = \"{password}\"\n\
         [service.users.sql.statement.find]\nsql = \"{sql}\"\nparameters = [\"string\"]\nresult = \"row\"\nread_only = true\n\
         [service.users.sql.statement.add]\nsql = \"INSERT INTO person (name, uid) VALUES (?, ?)\"\n\
         parameters = [\"string\", \"unsigned\"]\nresult = \"count\"\n\
         [service.users.sql.statement.sleep]\nsql = \"SELECT SLEEP(?)\"\nparameters = [\"float\"]\n\
         [service.users.sql.transaction.two]\nstatements = [\"add\", \"add\"]\n",
        user = USER.0,
        socket = server.socket().display(),
        password = server.password_file().display(),
    )
}

const FIND: &str = "SELECT name, uid, photo FROM person WHERE name = ?";
const RPC: &str = "[[listen]]\nprotocol = \"rpc\"\naddress = \"unix:rpc\"\n";

fn fixture() -> (MariaDb, Usherd) {
    let server = MariaDb::start();
    let mut root = server.root();
    for sql in SCHEMA {
        root.query_drop(sql).expect(sql);
    }
    let usherd = Setup::new()
        .listen("rpc", "unix:rpc", "")
        .section(&section(&server, FIND))
        .start();
    (server, usherd)
}

fn call_bytes(usherd: &Usherd, request: &[u8], timeout: &str) -> Output {
    let folder = Folder::new("input");
    let input = folder.write("input", request);
    let socket = format!("unix:{}", usherd.unix("rpc").display());
    let args = ["call", "--connect", &socket, "--timeout", timeout, "users"];
    run_reading(BINARY, &args, &[], Path::new(&input), Duration::from_secs(30))
}

fn call(usherd: &Usherd, name: &str, parameters: &Value) -> Value {
    let request = json!({ "do": name, "parameters": parameters }).to_string();
    let output = call_bytes(usherd, request.as_bytes(), "20s");
    assert_eq!(output.status.code(), Some(0), "{name}: {}", shown(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", shown(&output)))
}

fn asleep(server: &MariaDb) -> u32 {
    let sleeping = "SELECT COUNT(*) FROM information_schema.processlist WHERE state = 'User sleep'";
    server.root().query_first(sleeping).expect("the list").expect("a count")
}

/// The process of the one helper.
fn helper(usherd: &Usherd) -> u64 {
    usherd.status()["services"][0]["helpers"][0]["pid"]
        .as_u64()
        .expect("one helper runs")
}

#[test]
fn statements_are_called_by_name() {
    let (_server, usherd) = fixture();
    assert_eq!(
        call(&usherd, "find", &json!(["alice"])),
        json!({"status":"ok","columns":["name","uid","photo"],"row":["alice",1000,{"base64":"AP8="}]})
    );
    assert_eq!(call(&usherd, "find", &json!(["nobody"]))["status"], "not-found");
    assert_eq!(call(&usherd, "add", &json!(["alice", 1]))["status"], "exists");
    assert_eq!(call(&usherd, "find", &json!([1]))["status"], "bind-error");
    assert_eq!(call(&usherd, "drop", &json!([]))["status"], "invalid");
    let both = call(&usherd, "two", &json!([["carol", 1], ["alice", 2]]));
    assert_eq!((&both["status"], &both["statement"]), (&json!("exists"), &json!(1)));
    assert_eq!(
        call(&usherd, "find", &json!(["carol"]))["status"],
        "not-found",
        "rolled back"
    );
    // CBOR: {"do": "find", "parameters": ["alice"]}, where bytes are bytes.
    let output = call_bytes(&usherd, b"\xa2\x62do\x64find\x6aparameters\x81\x65alice", "20s");
    let row = b"\x63row\x83\x65alice\x19\x03\xe8\x42\x00\xff";
    assert!(
        output.stdout.windows(row.len()).any(|window| window == row),
        "{}",
        shown(&output)
    );
    // By hand, without the daemon.
    let file = usherd.folder.file("usherd.toml");
    let request = "{\"do\":\"find\",\"parameters\":[\"bob\"]}";
    let args = ["helper", "sql", "-c", &file, "--service", "users", "--call", request];
    let output = run(BINARY, &args, Duration::from_secs(20));
    let answer: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", shown(&output)));
    assert_eq!(answer["row"], json!(["bob", 1001, null]));
    usherd.stop();
}

#[test]
fn a_deadline_stops_the_statement_and_keeps_the_helper() {
    let (server, usherd) = fixture();
    let pid = helper(&usherd);
    for _ in 0..3 {
        let begun = Instant::now();
        let output = call_bytes(&usherd, b"{\"do\":\"sleep\",\"parameters\":[25]}", "500ms");
        assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("deadline"),
            "{}",
            shown(&output)
        );
        assert!(begun.elapsed() < Duration::from_secs(10), "the caller is told in time");
        wait_for("the statement is stopped", Duration::from_secs(4), || {
            (asleep(&server) == 0).then_some(())
        });
        assert_eq!(
            call(&usherd, "find", &json!(["alice"]))["status"],
            "ok",
            "the next call is not hit"
        );
    }
    assert_eq!(
        helper(&usherd),
        pid,
        "the helper heeds its interrupts and is not replaced"
    );
    usherd.stop();
}

#[test]
fn a_server_that_goes_and_comes_is_unavailable_meanwhile() {
    let (mut server, usherd) = fixture();
    let pid = helper(&usherd);
    assert_eq!(call(&usherd, "find", &json!(["alice"]))["status"], "ok");
    server.crash();
    for _ in 0..5 {
        assert_eq!(call(&usherd, "find", &json!(["alice"]))["status"], "unavailable");
        assert_eq!(call(&usherd, "ping", &json!([]))["status"], "unavailable");
    }
    server.run();
    wait_for("it is found again", Duration::from_secs(10), || {
        (call(&usherd, "find", &json!(["alice"]))["status"] == "ok").then_some(())
    });
    assert_eq!(
        helper(&usherd),
        pid,
        "a database that is away is no crash of the helper"
    );
    usherd.stop();
}

#[test]
fn a_reload_takes_up_changed_statements() {
    let (server, usherd) = fixture();
    assert_eq!(call(&usherd, "find", &json!(["alice"]))["columns"][0], "name");
    let changed = FIND.replace("SELECT name,", "SELECT UPPER(name) AS who,");
    usherd.rewrite(&format!("{RPC}{}", section(&server, &changed)));
    let output = usherd.command(&["reload"]);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    wait_for("the new statement answers", Duration::from_secs(10), || {
        let answer = call(&usherd, "find", &json!(["alice"]));
        assert_eq!(answer["status"], "ok", "no call is refused meanwhile: {answer}");
        (answer["columns"][0] == "who" && answer["row"][0] == "ALICE").then_some(())
    });
    usherd.rewrite(&format!("{RPC}{}", section(&server, "SELECT name FROM person")));
    let output = usherd.command(&["reload"]);
    assert_eq!(
        output.status.code(),
        Some(1),
        "a placeholder is missing: {}",
        shown(&output)
    );
    assert_eq!(call(&usherd, "find", &json!(["alice"]))["columns"][0], "who");
    usherd.stop();
}
