//! Rules for controls and extended operations.

use super::*;

const TRANSACTION: [(&str, &str); 3] = [
    ("extended", "1.3.6.1.1.21.1"),
    ("control", "1.3.6.1.1.21.2"),
    ("extended", "1.3.6.1.1.21.3"),
];

fn directory(identity: &str, rule: &str) -> String {
    format!(
        "{LISTEN}[directory.corp]\nbind_dn = \"cn=usherd\"\nbind_password_file = \"secret\"\nidentity = \"{identity}\"\n\
         server = [{{ url = \"ldaps://localhost\" }}]\n[directory.corp.restrict]\n{rule}\n"
    )
}

#[test]
fn a_transaction_is_not_kept_to_a_connection_that_others_use() {
    let fixture = Fixture::new("rules");
    for (table, oid) in TRANSACTION {
        let rule = |word: &str| format!("{table} = {{ \"{oid}\" = \"{word}\" }}");
        let column = table.len() + oid.len() + 11;
        for word in ["connection", "backend", "write"] {
            let mistake = format!(
                "11:{column} rule \"{word}\" for {oid} in restrict.{table}: a transaction needs a connection that is its client's \
                 alone"
            );
            assert_eq!(fixture.found(&directory("proxied", &rule(word))), [mistake]);
            // There every client has a connection of its own.
            assert_eq!(fixture.found(&directory("pinned", &rule(word))), [""; 0]);
        }
        for word in ["isolate", "reject", "ignore"] {
            assert_eq!(fixture.found(&directory("proxied", &rule(word))), [""; 0]);
        }
    }
    let other = "control = { \"1.2.840.113556.1.4.319\" = \"connection\", \"1.1\" = \"connection\" }";
    assert_eq!(fixture.found(&directory("proxied", other)), [""; 0]);
}
