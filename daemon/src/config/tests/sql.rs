//! `[service.NAME.sql]`: what the helper is told, and one mistake at a time.

use super::*;
use crate::config::plan::{Builtin, ServiceKind, Transport};

const BEFORE: &str = "[[listen]]\nprotocol = \"rpc\"\naddress = \"unix:rpc.sock\"\n[service.users]\nhelper = \"sql\"\n";
const URL: &str = "url = \"mysql://usherd@unix(/run/mysqld/mysqld.sock)/users\"\n";
const FIND: &str =
    "[service.users.sql.statement.find]\nsql = \"SELECT uid FROM person WHERE name = ?\"\nparameters = [\"string\"]\n";

/// The lines of `[service.users.sql]` stand from line 7 on.
fn with(lines: &str) -> String {
    format!("{BEFORE}[service.users.sql]\n{lines}\n")
}

#[test]
fn the_helper_is_told_everything_by_its_arguments() {
    let fixture = Fixture::new("sql");
    let text = format!(
        "{URL}password_file = \"secret\"\nidle_check = 0\ninit = [\"SET time_zone = '+00:00'\"]\n{FIND}result = \"row\"\nread_only = true\n\
         [service.users.sql.statement.add]\nsql = \"INSERT INTO person VALUES (?, ?)\"\nparameters = [\"string\", \"unsigned?\"]\n\
         result = \"count\"\nrows_min = 1\n[service.users.sql.transaction.two]\nstatements = [\"add\", \"add\"]\n"
    );
    let plan = fixture.plan(&with(&text));
    let service = &plan.services["users"];
    let expected = ServiceKind::Helper {
        transport: Transport::Seqpacket,
        builtin: Some(Builtin::Sql),
    };
    assert_eq!(service.kind, expected);
    let [_, helper, name, flag, settings] = service.program.as_slice() else {
        panic!("{:?}", service.program);
    };
    assert_eq!(
        (helper.as_str(), name.as_str(), flag.as_str()),
        ("helper", "sql", "--settings")
    );
    let told: serde_json::Value = serde_json::from_str(settings).unwrap();
    let expected = serde_json::json!({
        "target": {"unix": "/run/mysqld/mysqld.sock"},
        "user": "usherd",
        "password_file": fixture.0.join("secret"),
        "database": "users",
        "connect_timeout_ms": 5000,
        "idle_check_ms": 0,
        "answer_bytes_max": 16 << 20,
        "init": ["SET time_zone = '+00:00'"],
        "statements": {
            "find": {"sql": "SELECT uid FROM person WHERE name = ?", "parameters": ["string"], "result": "row",
                     "rows_max": 1000, "rows_min": 0, "read_only": true},
            "add": {"sql": "INSERT INTO person VALUES (?, ?)", "parameters": ["string", "unsigned?"], "result": "count",
                    "rows_max": 1000, "rows_min": 1, "read_only": false},
        },
        "transactions": {"two": ["add", "add"]},
    });
    assert_eq!(told, expected);
    assert!(!settings.contains("s3cret"));
}

/// Everything found, with place, label and help.
fn told(fixture: &Fixture, text: &str) -> Vec<String> {
    let list = match fixture.read(text) {
        Ok((_, warnings)) => warnings,
        Err(found) => found,
    };
    list.iter().map(ToString::to_string).collect()
}

fn find(lines: &str) -> String {
    with(&format!("{URL}{FIND}{lines}"))
}

#[track_caller]
fn each(fixture: &Fixture, cases: &[(String, &[&str])]) {
    for (text, expected) in cases {
        let found = told(fixture, text);
        assert!(
            found.iter().any(|one| expected.iter().all(|part| one.contains(part))),
            "{expected:?} in {found:#?} of\n{text}"
        );
        assert!(!found.iter().any(|one| one.contains("hunter2")), "{found:?}");
    }
}

#[test]
fn mistakes_about_databases() {
    let fixture = Fixture::new("sql-mistakes");
    let cases: &[(String, &[&str])] = &[
        (
            BEFORE.to_owned(),
            &[":5:10: the helper `sql` needs a database and statements"],
        ),
        (with(FIND), &["the database has no `url`"]),
        (with(URL), &["no statement can be called"]),
        (
            with(&format!("url = \"mysql://a:hunter2@h/d\"\n{FIND}")),
            &[":7:7: this is not the URL of a database", "password_file"],
        ),
        (
            with(&format!("{URL}password = \"hunter2\"\n{FIND}")),
            &[":8:1: `password` in [service.users.sql]: a secret does not stand in this file"],
        ),
        (
            with(&format!("{URL}init = [\"SET autocommit = 0\"]\n{FIND}")),
            &[":8:9: `init` cannot change autocommit"],
        ),
        (
            find("result = \"rowz\""),
            &[
                ":11:10: unknown result \"rowz\" in [service.users.sql.statement.find]",
                "did you mean",
            ],
        ),
        (
            find("rows_max = 5\nresult = \"row\""),
            &[":11:12: `rows_max` is for result = \"rows\""],
        ),
    ];
    each(&fixture, cases);
}

#[test]
fn mistakes_about_statements() {
    let fixture = Fixture::new("sql-statements");
    let cases: &[(String, &[&str])] = &[
        (
            find("[service.users.sql.statement.ping]\nsql = \"SELECT 1\""),
            &["`ping` is a call that every database has"],
        ),
        (
            find("[service.users.sql.statement.bad]\nsql = \"SELECT ?, ?\"\nparameters = [\"string\"]"),
            &[
                ":12:7: the statement `bad` cannot be prepared",
                "2 placeholders (?) and 1 parameter",
            ],
        ),
        (
            find("[service.users.sql.statement.bad]\nsql = \"SELECT ?\"\nparameters = [\"strng?\"]"),
            &[
                ":13:15: unknown type of a parameter \"strng?\"",
                "did you mean \"string\"?",
            ],
        ),
        (
            find("[service.users.sql.transaction.both]\nstatements = [\"fnd\"]"),
            &[":12:15: there is no statement `fnd`", "did you mean \"find\"?"],
        ),
        (
            find("[service.users.sql.transaction.find]\nstatements = [\"find\"]"),
            &["`find` is a statement already"],
        ),
        (
            find("[service.users.sql.transaction.none]\nstatements = []"),
            &["a transaction has 1 to 100 statements"],
        ),
        (
            with(&format!("url = \"mysql://usherd@db.example.com/users\"\n{FIND}")),
            &["7:7: what the database answers travels in plain text"],
        ),
        (
            format!(
                "{}[service.upper.sql]\n{URL}",
                BEFORE.replace("users]\nhelper = \"sql\"", "upper]\nprogram = [\"tr\"]")
            ),
            &[":6:1: the table `sql` is for helper = \"sql\""],
        ),
    ];
    each(&fixture, cases);
    let long = format!("sql = \"SELECT '{}'\"", "x".repeat(130_000));
    let found = told(&fixture, &find(&format!("[service.users.sql.statement.long]\n{long}")));
    assert!(
        found.len() == 1 && found[0].contains("too long together"),
        "{}",
        found.len()
    );
    // On this machine nothing travels far.
    let local = with(&format!("url = \"mysql://usherd@127.0.0.1/users\"\n{FIND}"));
    assert_eq!(fixture.found(&local), [] as [&str; 0]);
}
