//! The helper `winbind` against a real winbindd: every status it can be made to give, and what becomes of it when winbindd is
//! stuck or gone.

use std::time::Duration;

use engine::password::nt;
use engine::radius::mschap as computed;
use serde_json::{Value, json};

use crate::proc::{run_with, shown};
use crate::usherd::BINARY;
use crate::winbind::{DOMAIN, PASSWORD, Winbind};
use crate::winbind_sids::{aliases, logons_begin_and_end, many_at_once};

/// The response to this challenge by [`PASSWORD`] (RFC 2433), and the key of that session: MD4 of the NT hash.
const CHALLENGE: &str = "0123456789abcdef";
const RESPONSE: &str = "11b5ee981f5e1036f41a2ede4c0630b12f01d7401d8775b4";
const SESSION_KEY: &str = "9edc32569299583ed5b370c6d89b5a06";

pub(crate) type Ask<'a> = &'a dyn Fn(&Value) -> Value;

/// One call to a helper run by hand.
fn by_hand(winbind: &Winbind, flags: &[&str], request: &Value) -> Value {
    let variables = winbind.variables();
    let environment: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let request = request.to_string();
    let args = [&["helper", "winbind", "--call", &request], flags].concat();
    let output = run_with(BINARY, &args, &environment, Duration::from_secs(20));
    assert!(output.status.success(), "{}", shown(&output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", shown(&output)))
}

fn status(ask: Ask<'_>, request: &Value) -> String {
    ask(request)["status"].as_str().unwrap_or_default().to_owned()
}

pub(crate) fn authenticate(name: &str, password: &str) -> Value {
    json!({"do": "authenticate", "name": format!("{DOMAIN}\\{name}"), "password": password})
}

fn change(name: &str, old: &str, new: &str) -> Value {
    json!({"do": "change-password", "name": format!("{DOMAIN}\\{name}"), "old_password": old, "new_password": new})
}

pub(crate) fn passwords_are_told_apart(ask: Ask<'_>) {
    let answer = ask(&authenticate("alice", PASSWORD));
    assert_eq!(
        (answer["status"].as_str(), answer["name"].as_str()),
        (Some("ok"), Some("BOX\\alice")),
        "{answer}"
    );
    assert!(
        answer["sid"].as_str().is_some_and(|sid| sid.starts_with("S-1-5-21-")),
        "{answer}"
    );
    for (request, expected) in [
        (authenticate("alice", "wrong"), "wrong-password"),
        (authenticate("nobody-here", "x"), "not-found"),
        (authenticate("carol", PASSWORD), "disabled"),
        (authenticate("dave", PASSWORD), "must-change"),
        (authenticate("erin", "1"), "wrong-password"),
        (authenticate("erin", "2"), "wrong-password"),
        (authenticate("erin", "3"), "wrong-password"),
        (authenticate("erin", PASSWORD), "locked-out"),
        (change("frank", "wrong", "Another-456"), "wrong-password"),
        (change("frank", PASSWORD, "x"), "restricted"),
        (change("frank", PASSWORD, "Another-456"), "ok"),
        (authenticate("frank", "Another-456"), "ok"),
        (authenticate("frank", PASSWORD), "wrong-password"),
        (authenticate("alice", &"x".repeat(256)), "invalid"),
        (json!({"do": "authenticate", "name": "alice"}), "invalid"),
        (json!({"do": "hosts"}), "invalid"),
    ] {
        let answer = ask(&request);
        assert_eq!(answer["status"], expected, "{request}: {answer}");
        assert!(expected == "ok" || answer["message"].is_string(), "{answer}");
    }
}

pub(crate) fn responses_bring_a_session_key(ask: Ask<'_>) {
    let response = |challenge: &str| json!({"do": "authenticate", "name": "alice", "domain": DOMAIN, "challenge": challenge, "nt_response": RESPONSE});
    let answer = ask(&response(CHALLENGE));
    assert_eq!(
        (answer["status"].as_str(), answer["session_key"].as_str()),
        (Some("ok"), Some(SESSION_KEY)),
        "{answer}"
    );
    assert_eq!(status(ask, &response("0123456789abcdee")), "wrong-password");
}

/// RC4, by which a new password is encrypted with the old one's hash.
fn rc4(key: &[u8], octets: &mut [u8]) {
    let mut state: Vec<u8> = (0..=255).collect();
    let mut j = 0_u8;
    for i in 0..256 {
        j = j.wrapping_add(state[i]).wrapping_add(key[i % key.len()]);
        state.swap(i, j.into());
    }
    let (mut i, mut j) = (0_u8, 0_u8);
    for octet in octets {
        i = i.wrapping_add(1);
        j = j.wrapping_add(state[usize::from(i)]);
        state.swap(i.into(), j.into());
        *octet ^= state[usize::from(state[usize::from(i)].wrapping_add(state[usize::from(j)]))];
    }
}

/// A change as MS-CHAP says it (RFC 2759 sections 8.9 and 8.12).
fn encrypted_change(name: &str, old: &str, new: &str) -> Value {
    let hash = |text: &str| nt::hash(text.as_bytes()).expect("text");
    let (old, new_hash) = (hash(old), hash(new));
    let text: Vec<u8> = new.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut whole = vec![0x5a; 512 - text.len()];
    whole.extend(&text);
    whole.extend(u32::try_from(text.len()).expect("it is short").to_le_bytes());
    rc4(old.as_bytes(), &mut whole);
    // A response is three blocks, each by seven octets of the hash: so is this, two and without the last.
    let block = |at: usize| {
        let half = old.as_bytes()[8 * at..8 * at + 8].try_into().expect("eight octets");
        computed::response(half, &new_hash)[8 * at..8 * at + 8].to_vec()
    };
    let hex = |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    json!({
        "do": "change-password", "name": name, "domain": DOMAIN,
        "new_nt_encrypted": hex(&whole), "old_nt_hash_encrypted": hex(&[block(0), block(1)].concat()),
    })
}

/// Dave must change the password, and does so by MS-CHAP.
pub(crate) fn encrypted_changes_are_told_apart(ask: Ask<'_>) {
    const NEW: &str = "N\u{e9}w-456";
    let with = |key: &str, value: Value| {
        let mut request = encrypted_change("dave", PASSWORD, NEW);
        request[key] = value;
        request
    };
    for (request, expected) in [
        (authenticate("dave", PASSWORD), "must-change"),
        (encrypted_change("dave", "wrong", NEW), "wrong-password"),
        (with("old_nt_hash_encrypted", json!("00".repeat(16))), "wrong-password"),
        (encrypted_change("nobody-here", PASSWORD, NEW), "not-found"),
        (with("domain", json!("FAR")), "not-found"),
        (encrypted_change("dave", PASSWORD, "x"), "restricted"),
        (with("new_nt_encrypted", json!("00".repeat(515))), "invalid"),
        (authenticate("dave", PASSWORD), "must-change"),
        (encrypted_change("dave", PASSWORD, NEW), "ok"),
        (authenticate("dave", NEW), "ok"),
        (authenticate("dave", PASSWORD), "wrong-password"),
        (encrypted_change("dave", PASSWORD, "Third-789"), "wrong-password"),
    ] {
        let answer = ask(&request);
        assert_eq!(answer["status"], expected, "{request}: {answer}");
        assert!(expected == "ok" || answer["message"].is_string(), "{answer}");
    }
    let mut named = encrypted_change("BOX\\dave", NEW, "Third-789");
    named["domain"] = Value::Null;
    assert_eq!(ask(&named), json!({"status": "ok"}));
}

pub(crate) fn look_ups_answer(ask: Ask<'_>) {
    let name = format!("{DOMAIN}\\alice");
    let alice = json!({
        "name": name, "uid": 5001, "gid": 100, "gecos": "alice of the test", "dir": "/home/BOX/alice", "shell": "/bin/false",
    });
    let found = |request: Value| ask(&request)["entries"][0].clone();
    assert_eq!(found(json!({"do": "passwd", "name": name})), alice);
    assert_eq!(found(json!({"do": "passwd", "uid": 5001})), alice);
    let sid = ask(&json!({"do": "name-to-sid", "name": name}));
    assert_eq!(
        (sid["status"].as_str(), sid["type"].as_str()),
        (Some("ok"), Some("user")),
        "{sid}"
    );
    let sid = sid["sid"].as_str().expect("a SID").to_owned();
    assert_eq!(found(json!({"do": "passwd", "sid": sid})), alice);
    assert_eq!(ask(&json!({"do": "id-to-sid", "uid": 5001}))["sid"], *sid);
    assert_eq!(ask(&json!({"do": "sid-to-id", "sid": sid}))["uid"], 5001);
    assert_eq!(ask(&json!({"do": "sid-to-name", "sid": sid}))["name"], "alice");
    let sids = ask(&json!({"do": "user-sids", "sid": sid}));
    assert!(
        sids["sids"].as_array().is_some_and(|all| all.contains(&json!(sid))),
        "{sids}"
    );
    many_at_once(ask, &sid);
    aliases(ask, &sid);
    logons_begin_and_end(ask, &sid);
    let group = found(json!({"do": "group", "gid": 100}));
    assert_eq!(
        (&group["name"], &group["gid"]),
        (&json!("BOX\\domain users"), &json!(100))
    );
    assert_eq!(found(json!({"do": "group", "name": "BOX\\Domain Users"}))["gid"], 100);
    assert_eq!(ask(&json!({"do": "initgroups", "name": name}))["gids"][0], 100);
    let users = ask(&json!({"do": "users"}));
    assert!(
        users["names"].as_array().is_some_and(|all| all.contains(&json!(name))),
        "{users}"
    );
    assert_eq!(status(ask, &json!({"do": "groups"})), "ok");
    // winbindd lists no users of the machine itself: a listing that is empty, and done.
    assert_eq!(ask(&json!({"do": "passwd"})), json!({"status": "ok", "entries": []}));
    assert_eq!(ask(&json!({"do": "group"})), json!({"status": "ok", "entries": []}));
    let domain = ask(&json!({"do": "domain-info"}));
    assert_eq!(
        (&domain["short_name"], &domain["active_directory"]),
        (&json!("BOX"), &json!(false)),
        "{domain}"
    );
    assert_eq!(ask(&json!({"do": "trusts"})), json!({"status": "ok", "domains": []}));
    assert_eq!(ask(&json!({"do": "ping"})), json!({"status": "ok"}));
    assert_eq!(status(ask, &json!({"do": "ping", "domain": DOMAIN})), "ok");
    assert_eq!(status(ask, &json!({"do": "ping", "domain": "FAR"})), "unavailable");
    assert_eq!(status(ask, &json!({"do": "account", "name": name})), "ok");
    for request in [
        json!({"do": "passwd", "name": "BOX\\nobody-here"}),
        json!({"do": "passwd", "uid": 4_000_000_000_u32}),
        json!({"do": "passwd", "sid": "S-1-5-21-1-2-3-500"}),
        json!({"do": "group", "name": "BOX\\nothing"}),
        json!({"do": "sid-to-name", "sid": "S-1-5-21-1-2-3-500"}),
        json!({"do": "account", "name": "BOX\\nobody-here"}),
    ] {
        assert_eq!(status(ask, &request), "not-found", "{request}");
    }
    assert_eq!(status(ask, &json!({"do": "sid-to-id", "sid": "no SID"})), "invalid");
}

#[test]
fn a_winbind_helper_by_hand_answers_rightly_and_a_winbind_that_is_gone_is_no_verdict() {
    let mut winbind = Winbind::start();
    passwords_are_told_apart(&|request| by_hand(&winbind, &[], request));
    responses_bring_a_session_key(&|request| by_hand(&winbind, &[], request));
    encrypted_changes_are_told_apart(&|request| by_hand(&winbind, &[], request));
    look_ups_answer(&|request| by_hand(&winbind, &[], request));
    let log = std::fs::read(winbind.path("log/winbindd")).expect("winbindd's log");
    let log = String::from_utf8_lossy(&log);
    for ended in ["endpwent", "endgrent"] {
        assert!(log.contains(ended), "a listing was not ended ({ended})\n{log}");
    }
    let at_home = |request: Value| by_hand(&winbind, &["--domain", DOMAIN, "--use-default-domain"], &request);
    assert_eq!(
        at_home(json!({"do": "passwd", "name": "alice"}))["entries"][0]["name"],
        "alice"
    );
    assert_eq!(
        at_home(json!({"do": "authenticate", "name": "bob", "password": PASSWORD}))["name"],
        "bob"
    );
    let only = |group: &str| {
        let request = authenticate("bob", PASSWORD);
        by_hand(&winbind, &["--require-membership", group], &request)["status"].clone()
    };
    assert_eq!(only("BOX\\Domain Users"), "ok");
    assert_eq!(only("S-1-5-32-544"), "restricted");
    assert_eq!(only("BOX\\No Such Group"), "unavailable");
    winbind.kill();
    for request in [
        authenticate("alice", PASSWORD),
        authenticate("alice", "wrong"),
        json!({"do": "passwd", "name": "BOX\\alice"}),
        json!({"do": "passwd", "name": "BOX\\nobody-here"}),
        json!({"do": "ping"}),
        change("alice", "wrong", "x"),
        encrypted_change("alice", PASSWORD, "Another-456"),
    ] {
        assert_eq!(by_hand(&winbind, &[], &request)["status"], "unavailable", "{request}");
    }
    winbind.revive();
    assert_eq!(by_hand(&winbind, &[], &authenticate("alice", PASSWORD))["status"], "ok");
    winbind.signal_domain_child(DOMAIN, "STOP");
    std::thread::scope(|scope| {
        let stuck = scope.spawn(|| by_hand(&winbind, &[], &authenticate("alice", PASSWORD)));
        assert_eq!(
            by_hand(&winbind, &[], &json!({"do": "ping"}))["status"],
            "ok",
            "winbindd itself is not stuck"
        );
        assert!(!stuck.is_finished(), "what goes through the stopped process waits");
        winbind.signal_domain_child(DOMAIN, "CONT");
        assert_eq!(stuck.join().expect("a call")["status"], "ok");
    });
}

#[test]
fn a_helper_by_hand_without_a_request_says_how_it_is_used() {
    for name in ["winbind", "pam"] {
        let output = run_with(BINARY, &["helper", name], &[], Duration::from_secs(5));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
        assert!(
            said.contains(&format!("helper = \"{name}\"")) && said.contains("--call"),
            "{said}"
        );
    }
}

#[test]
fn check_doubts_a_winbindd_that_asks_one_thing_at_a_time() {
    let winbind = Winbind::start();
    let folder = crate::proc::Folder::new("check");
    let check = |service: &str, samba: &str| {
        let file = folder.write(
            "usherd.toml",
            format!("{service}\n[[listen]]\nprotocol = \"rpc\"\naddress = \"unix:rpc\"\n"),
        );
        let output = run_with(
            BINARY,
            &["check", "-c", &file],
            &[("SMB_CONF_PATH", samba)],
            Duration::from_secs(20),
        );
        assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let samba = winbind.path("smb.conf").display().to_string();
    let service = format!("[service.w]\nhelper = \"winbind\"\nmax = 4\n{}", winbind.environment());
    let said = check(&service, &samba);
    assert!(said.contains("winbind max domain connections = 4"), "{said}");
    let said = check("[service.w]\nhelper = \"winbind\"\nmax = 1", &samba);
    assert!(!said.contains("domain connections"), "{said}");
    let more = folder.write(
        "smb.conf",
        std::fs::read_to_string(&samba).expect("it is ours") + "winbind max domain connections = 8\n",
    );
    let said = check("[service.w]\nhelper = \"winbind\"\nmax = 4", &more);
    assert!(!said.contains("domain connections"), "{said}");
    let said = check(
        "[service.p]\nhelper = \"pam\"\n[service.p.pam]\nservice = \"no-such-stack\"",
        &samba,
    );
    assert!(said.contains("no-such-stack"), "{said}");
}
