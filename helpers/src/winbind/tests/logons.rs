//! Many SIDs and ids at once, logons with tickets, encrypted changes, and listings that fail.

use super::*;

#[test]
fn many_sids_and_ids_are_answered_in_their_order() {
    let trusts = vec![Trust {
        short_name: "FAR".into(),
        dns_name: String::new(),
        sid: "S-1-5-21-2".into(),
        offline: true,
    }];
    let mut helper = fresh(Fake {
        trusts,
        sids: BTreeMap::from([("S-1-5-21-1-512".to_owned(), ("admins".to_owned(), 2))]),
        ..Fake::default()
    });
    let sids = ["S-1-5-21-1-512", "S-1-5-21-1-999"];
    assert_eq!(
        say(&mut helper, json!({"do": "sids-to-names", "sids": sids})),
        json!({"status": "ok", "entries": [
            {"sid": sids[0], "domain": "CORP", "name": "admins", "type": "group"},
            {"sid": sids[1], "domain": "", "name": "", "type": "unknown"},
        ]})
    );
    assert_eq!(
        say(&mut helper, json!({"do": "sids-to-ids", "sids": sids})),
        json!({"status": "ok", "entries": [{"sid": sids[0], "uid": 5, "gid": 5}, {"sid": sids[1]}]})
    );
    assert_eq!(
        say(&mut helper, json!({"do": "ids-to-sids", "gids": [7], "uids": [5, 9]})),
        json!({"status": "ok", "entries": [{"sid": "S-1-22-1-5", "uid": 5}, {"uid": 9}, {"sid": "S-1-22-1-5", "gid": 7}]})
    );
    let far = json!(["S-1-5-21-1-512", "S-1-5-21-2-500"]);
    for what in ["sids-to-names", "sids-to-ids"] {
        let answer = say(&mut helper, json!({"do": what, "sids": far}));
        assert_eq!(answer["status"], "unavailable", "one domain is out of reach: {answer}");
    }
    helper.backend.trusts[0].short_name = "CORP".into();
    let answer = say(&mut helper, json!({"do": "ids-to-sids", "uids": [9]}));
    assert_eq!(answer["status"], "unavailable", "{answer}");
    assert_eq!(
        say(&mut helper, json!({"do": "sid-aliases", "sid": "S-1-5-21-1-513"}))["sids"],
        json!(["S-1-5-32-545"])
    );
    helper.backend.fails = Some(Failure::Missing("wbcCtxUnixIdsToSids"));
    let answer = say(&mut helper, json!({"do": "ids-to-sids", "uids": [5]}));
    assert_eq!(answer["status"], "unsupported");
    assert!(
        answer["message"].as_str().unwrap().contains("wbcCtxUnixIdsToSids"),
        "{answer}"
    );
}

#[test]
fn a_logon_keeps_a_ticket_for_winbinds_own_uid_and_who_may_not_log_on_keeps_none() {
    let account = || {
        Some(Account {
            name: "user5".into(),
            domain: "CORP".into(),
            sids: vec!["S-1-5-21-1-1005".into()],
            ..Account::default()
        })
    };
    let mut helper = fresh(Fake {
        users: vec![user(5)],
        account: account(),
        ..Fake::default()
    });
    let request = json!({
        "do": "logon", "name": "CORP\\user5", "password": "secret", "kerberos": true, "krb5_cache": "FILE",
    });
    assert_eq!(
        say(&mut helper, &request),
        json!({"status": "ok", "name": "CORP+user5", "sid": "S-1-5-21-1-1005", "krb5_cache": "FILE:/tmp/krb5cc_5"})
    );
    assert_eq!(
        helper.backend.asked[1],
        "CORP+user5 secret Wanted { kerberos: true, cached: false, ticket: Some((File, 5)) }"
    );
    helper.backend.account = account();
    let cached = json!({"do": "logon", "name": "CORP\\user5", "password": "secret", "cached": true});
    assert_eq!(
        say(&mut helper, &cached),
        json!({"status": "ok", "name": "CORP+user5", "sid": "S-1-5-21-1-1005", "cached": true})
    );
    let off = json!({"do": "logoff", "name": "CORP\\user5", "krb5_cache": "FILE:/tmp/krb5cc_5"});
    assert_eq!(say(&mut helper, off), json!({"status": "ok"}));
    let ended = "log off CORP+user5 5 Some(\"FILE:/tmp/krb5cc_5\")";
    assert_eq!(helper.backend.asked.pop().as_deref(), Some(ended));
    helper.options.require_membership = vec!["S-1-5-21-1-512".into()];
    helper.backend.account = account();
    assert_eq!(say(&mut helper, &request)["status"], "restricted");
    assert_eq!(
        helper.backend.asked.pop().as_deref(),
        Some(ended),
        "its ticket is taken away"
    );
    let nobody = json!({"do": "logoff", "name": "CORP\\nobody"});
    assert_eq!(say(&mut helper, nobody)["status"], "not-found");
    helper.backend.fails = logon(0xC000_0022);
    assert_eq!(say(&mut helper, cached)["status"], "unavailable");
}

#[test]
fn a_listing_that_fails_is_ended_and_one_that_winbindd_leaves_is_forgotten() {
    let fails = |code| {
        Some(Failure::Library {
            code,
            text: String::new(),
        })
    };
    let mut helper = fresh(Fake {
        users: (1..=7).map(user).collect(),
        ..Fake::default()
    });
    say(&mut helper, json!({"do": "passwd"}));
    helper.backend.listing_fails = fails(1);
    let next = json!({"do": "passwd", "cursor": "3"});
    assert_eq!(say(&mut helper, &next)["status"], "unsupported");
    assert_eq!(helper.backend.asked, ["begin Users", "end"]);
    helper.backend.listing_fails = fails(6);
    assert_eq!(say(&mut helper, &next)["status"], "unavailable");
    assert_eq!((helper.backend.asked.len(), helper.backend.forgotten), (3, 1));
}

#[test]
fn an_encrypted_change_is_asked_for_by_the_name_that_a_controller_stores() {
    let request = |name: &str| {
        let new = format!("ab{}cd", "00".repeat(514));
        json!({"do": "change-password", "name": name, "new_nt_encrypted": new, "old_nt_hash_encrypted": "ef".repeat(16)})
    };
    let sids = BTreeMap::from([
        ("al@corp.example.com".to_owned(), ("S-1-5-21-1-1000".to_owned(), 1)),
        ("S-1-5-21-1-1000".to_owned(), ("alice".to_owned(), 1)),
    ]);
    let mut helper = fresh(Fake {
        sids,
        ..Fake::default()
    });
    for (name, asked) in [
        ("OTHER\\alice", "change OTHER/alice by ab…cd ef…"),
        ("OTHER+alice", "change OTHER/alice by ab…cd ef…"),
        ("alice", "change CORP/alice by ab…cd ef…"),
        ("al@corp.example.com", "change CORP/alice by ab…cd ef…"),
    ] {
        assert_eq!(say(&mut helper, request(name)), json!({"status": "ok"}), "{name}");
        assert_eq!(helper.backend.asked.pop().as_deref(), Some(asked), "{name}");
    }
    let mut other = request("alice");
    other["domain"] = "OTHER".into();
    say(&mut helper, other);
    assert_eq!(
        helper.backend.asked.pop().as_deref(),
        Some("change OTHER/alice by ab…cd ef…")
    );
    assert_eq!(say(&mut helper, request("no@corp.example.com"))["status"], "not-found");
    for (nt_status, status) in [
        (0xC000_006A, "wrong-password"),
        (0xC000_006C, "restricted"),
        (0xC000_025B, "restricted"),
        (0xC000_0022, "restricted"),
        (0xC000_0234, "locked-out"),
        (0xC000_0064, "not-found"),
        (0xC000_0001, "unavailable"),
        (0xC000_005E, "unavailable"),
    ] {
        helper.backend.fails = logon(nt_status);
        assert_eq!(say(&mut helper, request("alice"))["status"], status, "{nt_status:#x}");
    }
    assert_eq!(helper.backend.forgotten, 2);
    let mut home = at_home(Fake::default());
    say(&mut home, request("alice"));
    assert_eq!(home.backend.asked, ["change corp/alice by ab…cd ef…"]);
}
