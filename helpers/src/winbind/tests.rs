//! The pure part, with a winbind that answers from a list.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::sids::nothing;
use super::*;
use crate::CannotAsk;
use crate::identity::{Trust, UnixId};

mod logons;

/// What the fake knows, and what it was asked.
#[derive(Default)]
struct Fake {
    users: Vec<User>,
    fails: Option<Failure>,
    listing_fails: Option<Failure>,
    trusts: Vec<Trust>,
    account: Option<Account>,
    sids: BTreeMap<String, (String, i32)>,
    asked: Vec<String>,
    at: usize,
    forgotten: usize,
}

impl Fake {
    fn result<T>(&mut self, asked: String, value: Option<T>) -> Result<T, Failure> {
        self.asked.push(asked);
        match (&self.fails, value) {
            (Some(failure), _) => Err(failure.clone()),
            (None, Some(value)) => Ok(value),
            (None, None) => Err(nothing()),
        }
    }
}

impl Backend for Fake {
    fn details(&mut self) -> Result<Details, Failure> {
        Ok(Details {
            separator: '+',
            domain: "CORP".into(),
            host: "BOX".into(),
        })
    }
    fn ping(&mut self) -> Result<(), Failure> {
        self.result("ping".into(), Some(()))
    }
    fn ping_controller(&mut self, domain: &str) -> Result<String, Failure> {
        self.result(format!("ping {domain}"), Some("dc1".into()))
    }
    fn user(&mut self, key: &UserKey) -> Result<User, Failure> {
        let found = self.users.iter().find(|user| match key {
            UserKey::Name(name) => user.name == *name,
            UserKey::Uid(uid) => user.uid == *uid,
            UserKey::Sid(_) => false,
        });
        let found = found.cloned();
        self.result(format!("{key:?}"), found)
    }
    fn group(&mut self, key: &GroupKey) -> Result<Group, Failure> {
        let members = vec!["CORP+alice".into(), "OTHER+bob".into()];
        self.result(
            format!("{key:?}"),
            Some(Group {
                name: "CORP+staff".into(),
                gid: 7,
                members,
            }),
        )
    }
    fn groups_of(&mut self, name: &str) -> Result<Vec<u32>, Failure> {
        self.result(format!("groups of {name}"), Some(vec![7, 8]))
    }
    fn begin(&mut self, listing: Listing) -> Result<(), Failure> {
        self.at = 0;
        self.result(format!("begin {listing:?}"), Some(()))
    }
    fn next_user(&mut self) -> Result<Option<User>, Failure> {
        self.at += 1;
        if let Some(failure) = &self.listing_fails {
            return Err(failure.clone());
        }
        Ok(self.users.get(self.at - 1).cloned())
    }
    fn next_group(&mut self) -> Result<Option<Group>, Failure> {
        Ok(None)
    }
    fn end(&mut self) {
        self.asked.push("end".into());
    }
    fn users(&mut self, domain: Option<&str>) -> Result<Vec<String>, Failure> {
        self.result(
            format!("users {domain:?}"),
            Some(vec!["CORP+alice".into(), "OTHER+bob".into()]),
        )
    }
    fn groups(&mut self, domain: Option<&str>) -> Result<Vec<String>, Failure> {
        self.result(format!("groups {domain:?}"), Some(vec![]))
    }
    fn name_to_sid(&mut self, domain: &str, name: &str) -> Result<(String, i32), Failure> {
        let found = self.sids.get(name).cloned();
        self.result(format!("sid of {domain}/{name}"), found)
    }
    fn sid_to_name(&mut self, sid: &str) -> Result<(String, String, i32), Failure> {
        let found = self.sids.get(sid).cloned();
        self.result(sid.into(), found.map(|(name, kind)| ("CORP".into(), name, kind)))
    }
    fn sids_to_names(&mut self, sids: &[String]) -> Result<Vec<(String, String, i32)>, Failure> {
        let named = sids.iter().map(|sid| match self.sids.get(sid) {
            Some((name, kind)) => ("CORP".into(), name.clone(), *kind),
            None => (String::new(), "500".into(), 8),
        });
        let named = named.collect();
        self.result(format!("names of {}", sids.join(" ")), Some(named))
    }
    fn sids_to_ids(&mut self, sids: &[String]) -> Result<Vec<Ids>, Failure> {
        let ids = sids.iter().map(|sid| match self.sids.get(sid) {
            Some(_) => (Some(5), Some(5)),
            None => (None, None),
        });
        let ids = ids.collect();
        self.result(format!("ids of {}", sids.join(" ")), Some(ids))
    }
    fn ids_to_sids(&mut self, ids: &[UnixId]) -> Result<Vec<Option<String>>, Failure> {
        let sids = ids
            .iter()
            .map(|id| (*id != UnixId::Uid(9)).then(|| "S-1-22-1-5".into()));
        self.result(format!("{ids:?}"), Some(sids.collect()))
    }
    fn id_to_sid(&mut self, id: UnixId) -> Result<String, Failure> {
        self.result(format!("{id:?}"), Some("S-1-22-1-5".into()))
    }
    fn user_sids(&mut self, sid: &str) -> Result<Vec<String>, Failure> {
        self.result(sid.into(), Some(vec![]))
    }
    fn sid_aliases(&mut self, sid: &str, domain: &str) -> Result<Vec<String>, Failure> {
        self.result(format!("{sid} in {domain}"), Some(vec![format!("{domain}-545")]))
    }
    fn authenticate(&mut self, name: &str, domain: &str, proof: &Proof<'_>) -> Result<Account, Failure> {
        let proof = match proof {
            Proof::Password(password) => format!("password {password}"),
            Proof::Response { nt, .. } => format!("response of {}", nt.len()),
        };
        let account = self.account.take();
        self.result(format!("{domain}/{name} {proof}"), account)
    }
    fn log_on(&mut self, name: &str, password: &str, wanted: &Wanted) -> Result<LoggedOn, Failure> {
        let logged_on = self.account.take().map(|account| LoggedOn {
            account,
            krb5_cache: wanted.ticket.map(|(_, uid)| format!("FILE:/tmp/krb5cc_{uid}")),
            cached: wanted.cached,
        });
        self.result(format!("{name} {password} {wanted:?}"), logged_on)
    }
    fn log_off(&mut self, name: &str, uid: u32, krb5_cache: Option<&str>) -> Result<(), Failure> {
        self.result(format!("log off {name} {uid} {krb5_cache:?}"), Some(()))
    }
    fn change_password(&mut self, name: &str, _: &str, _: &str) -> Result<(), Failure> {
        self.result(format!("change {name}"), Some(()))
    }
    fn change_encrypted(
        &mut self,
        name: &str,
        domain: &str,
        new: &[u8; 516],
        old_hash: &[u8; 16],
    ) -> Result<(), Failure> {
        let asked = format!(
            "change {domain}/{name} by {:x}…{:x} {:x}…",
            new[0], new[515], old_hash[0]
        );
        self.result(asked, Some(()))
    }
    fn domain(&mut self, domain: &str) -> Result<crate::identity::Domain, Failure> {
        self.result(format!("domain {domain}"), None)
    }
    fn trusts(&mut self) -> Result<Vec<Trust>, Failure> {
        Ok(self.trusts.clone())
    }
    fn forget(&mut self) {
        self.forgotten += 1;
    }
}

/// A caller who cannot be asked, and who may have gone.
struct Nobody(bool);

impl Caller for Nobody {
    fn ask(&mut self, _: &[u8]) -> Result<Vec<u8>, CannotAsk> {
        Err(CannotAsk::Unable)
    }
    fn interrupted(&mut self) -> bool {
        self.0
    }
}

fn user(number: u32) -> User {
    let name = format!("CORP+user{number}");
    User {
        name,
        uid: number,
        gid: 1,
        gecos: String::new(),
        dir: "/".into(),
        shell: "/bin/sh".into(),
    }
}

fn fresh(backend: Fake) -> Winbind<Fake> {
    Winbind::new(
        Options {
            page_entries: 3,
            ..Options::default()
        },
        backend,
    )
}

fn at_home(backend: Fake) -> Winbind<Fake> {
    let options = Options {
        domain: Some("corp".into()),
        use_default_domain: true,
        ..Options::default()
    };
    Winbind::new(options, backend)
}

fn say(helper: &mut Winbind<Fake>, request: impl std::borrow::Borrow<Value>) -> Value {
    match helper.call(request.borrow().to_string().as_bytes(), &mut Nobody(false)) {
        Reply::Answer(answer) => serde_json::from_slice(&answer).unwrap(),
        Reply::Interrupted => panic!("nobody interrupted"),
    }
}

fn logon(nt_status: u32) -> Option<Failure> {
    Some(Failure::Logon {
        nt_status,
        text: String::new(),
        reject: None,
    })
}

#[test]
fn names_get_winbinds_separator_and_the_default_domain() {
    let mut helper = at_home(Fake::default());
    for name in [
        "alice",
        "CORP\\alice",
        "corp+alice",
        "alice@corp.example.com",
        "OTHER\\bob",
    ] {
        say(&mut helper, json!({"do": "initgroups", "name": name}));
    }
    let expected = [
        "corp+alice",
        "CORP+alice",
        "corp+alice",
        "alice@corp.example.com",
        "OTHER+bob",
    ];
    let expected: Vec<String> = expected.iter().map(|name| format!("groups of {name}")).collect();
    assert_eq!(helper.backend.asked, expected);
    let mut helper = fresh(Fake::default());
    say(&mut helper, json!({"do": "initgroups", "name": "alice"}));
    assert_eq!(
        helper.backend.asked,
        ["groups of alice"],
        "without a default domain winbindd decides"
    );
}

#[test]
fn the_default_domains_names_are_given_without_it_everywhere() {
    let mut helper = at_home(Fake {
        users: vec![User {
            name: "corp+alice".into(),
            ..user(5)
        }],
        ..Fake::default()
    });
    assert_eq!(
        say(&mut helper, json!({"do": "passwd", "name": "alice"}))["entries"][0]["name"],
        "alice"
    );
    let group = say(&mut helper, json!({"do": "group", "gid": 7}));
    assert_eq!(
        group["entries"][0],
        json!({"name": "staff", "gid": 7, "members": ["alice", "OTHER+bob"]})
    );
    assert_eq!(
        say(&mut helper, json!({"do": "users"}))["names"],
        json!(["alice", "OTHER+bob"])
    );
    let mut helper = fresh(Fake::default());
    assert_eq!(
        say(&mut helper, json!({"do": "users"}))["names"],
        json!(["CORP+alice", "OTHER+bob"])
    );
}

#[test]
fn a_listing_goes_on_where_it_stands_or_begins_anew() {
    let users = || (1..=7).map(user).collect::<Vec<_>>();
    let mut helper = fresh(Fake {
        users: users(),
        ..Fake::default()
    });
    let uids = |page: &Value| {
        page["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|user| user["uid"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    let first = say(&mut helper, json!({"do": "passwd"}));
    assert_eq!((uids(&first), first["cursor"].as_str()), (vec![1, 2, 3], Some("3")));
    let second = say(&mut helper, json!({"do": "passwd", "cursor": "3"}));
    assert_eq!((uids(&second), second["cursor"].as_str()), (vec![4, 5, 6], Some("6")));
    assert_eq!(helper.backend.asked, ["begin Users"], "one listing, asked for once");
    // Another helper has not begun, and one that stands elsewhere begins anew.
    let mut other = fresh(Fake {
        users: users(),
        ..Fake::default()
    });
    assert_eq!(
        uids(&say(&mut other, json!({"do": "passwd", "cursor": "3"}))),
        [4, 5, 6]
    );
    let third = say(&mut other, json!({"do": "passwd", "cursor": "6"}));
    assert_eq!((uids(&third), third.get("cursor")), (vec![7], None));
    assert_eq!(other.backend.asked, ["begin Users", "end"]);
    assert_eq!(
        uids(&say(&mut helper, json!({"do": "passwd", "cursor": "1"}))),
        [2, 3, 4]
    );
    assert_eq!(
        say(&mut helper, json!({"do": "passwd", "cursor": "x"}))["status"],
        "invalid"
    );
    let past = say(&mut helper, json!({"do": "passwd", "cursor": "100"}));
    assert_eq!((uids(&past), past.get("cursor")), (vec![], None));
}

#[test]
fn nothing_found_is_believed_only_of_a_domain_that_is_online() {
    let trust = |name: &str, sid: &str, offline| Trust {
        short_name: name.into(),
        dns_name: format!("{name}.example.com"),
        sid: sid.into(),
        offline,
    };
    let trusts = vec![trust("CORP", "S-1-5-21-1", false), trust("FAR", "S-1-5-21-2", true)];
    let mut helper = fresh(Fake {
        trusts,
        ..Fake::default()
    });
    let mut status = |request: Value| say(&mut helper, request)["status"].as_str().unwrap().to_owned();
    assert_eq!(status(json!({"do": "passwd", "name": "nobody"})), "not-found");
    assert_eq!(status(json!({"do": "passwd", "name": "CORP\\nobody"})), "not-found");
    assert_eq!(status(json!({"do": "passwd", "name": "FAR\\nobody"})), "unavailable");
    assert_eq!(status(json!({"do": "passwd", "uid": 5})), "not-found");
    assert_eq!(
        status(json!({"do": "sid-to-name", "sid": "S-1-5-21-1-500"})),
        "not-found"
    );
    assert_eq!(
        status(json!({"do": "sid-to-name", "sid": "S-1-5-21-2-500"})),
        "unavailable"
    );
    assert_eq!(
        status(json!({"do": "sid-to-id", "sid": "S-1-5-21-2-500"})),
        "unavailable"
    );
    assert_eq!(
        status(json!({"do": "sid-to-id", "sid": "S-1-5-21-22-500"})),
        "not-found"
    );
}

#[test]
fn a_logon_says_the_canonical_name_and_when_the_password_expires() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let account = |days: u64| Account {
        name: "Alice".into(),
        domain: "CORP".into(),
        sids: vec!["S-1-5-21-1-1000".into(), "S-1-5-21-1-513".into()],
        password_must_change: now + days * 86_400 + 60,
        ..Account::default()
    };
    let request = json!({"do": "authenticate", "name": "alice", "password": "secret"});
    let mut helper = at_home(Fake {
        account: Some(account(3)),
        ..Fake::default()
    });
    assert_eq!(
        say(&mut helper, request.clone()),
        json!({"status": "ok", "message": "the password expires in 3 days", "name": "Alice", "sid": "S-1-5-21-1-1000"})
    );
    assert_eq!(helper.backend.asked, ["/corp+alice password secret"]);
    helper.backend.account = Some(account(300));
    assert_eq!(say(&mut helper, request.clone()).get("message"), None);
    assert_eq!(
        say(&mut helper, json!({"do": "authenticate", "name": "alice"}))["status"],
        "invalid"
    );
    helper.options.require_membership = vec!["S-1-5-21-1-512".into(), "vpn".into()];
    helper
        .backend
        .sids
        .insert("corp+vpn".into(), ("S-1-5-21-1-513".into(), 2));
    helper.backend.account = Some(account(300));
    assert_eq!(say(&mut helper, request.clone())["status"], "ok");
    helper.required = Some(vec!["S-1-5-21-1-512".into()]);
    helper.backend.account = Some(account(300));
    assert_eq!(say(&mut helper, request.clone())["status"], "restricted");
    helper.required = None;
    helper.backend.sids.clear();
    helper.backend.account = Some(account(300));
    assert_eq!(
        say(&mut helper, request)["status"],
        "unavailable",
        "a group that cannot be found is no verdict"
    );
}

#[test]
fn a_response_brings_the_session_key() {
    let account = Account {
        name: "alice".into(),
        domain: "CORP".into(),
        session_key: Zeroizing::new([0xab; 16]),
        ..Account::default()
    };
    let mut helper = fresh(Fake {
        account: Some(account),
        ..Fake::default()
    });
    let nt = "11".repeat(24);
    let request =
        json!({"do": "authenticate", "name": "CORP\\alice", "challenge": "0011223344556677", "nt_response": nt});
    assert_eq!(
        say(&mut helper, request),
        json!({"status": "ok", "name": "CORP+alice", "session_key": "ab".repeat(16)})
    );
    assert_eq!(helper.backend.asked, ["CORP/alice response of 24"]);
}

#[test]
fn refusals_keep_their_names_and_unavailable_forgets_the_connections() {
    let mut helper = fresh(Fake {
        fails: logon(0xC000_0234),
        ..Fake::default()
    });
    let request = json!({"do": "authenticate", "name": "alice", "password": "secret"});
    assert_eq!(say(&mut helper, request.clone())["status"], "locked-out");
    assert_eq!(helper.backend.forgotten, 0);
    helper.backend.fails = logon(0xC000_005E);
    assert_eq!(say(&mut helper, request.clone())["status"], "unavailable");
    assert_eq!(helper.backend.forgotten, 1);
    helper.backend.fails = Some(nothing());
    assert_eq!(
        say(&mut helper, json!({"do": "ping", "domain": "FAR"}))["status"],
        "unavailable"
    );
    helper.backend.fails = None;
    assert_eq!(say(&mut helper, json!({"do": "ping"})), json!({"status": "ok"}));
    assert_eq!(
        say(&mut helper, json!({"do": "ping", "domain": "CORP"}))["controller"],
        "dc1"
    );
    assert_eq!(
        say(&mut helper, json!({"do": "open-session", "name": "a"}))["session"],
        "winbind"
    );
    assert_eq!(
        say(
            &mut helper,
            json!({"do": "close-session", "name": "a", "session": "winbind"})
        ),
        json!({"status": "ok"})
    );
    assert_eq!(
        say(&mut helper, json!({"do": "close-session", "name": "a", "session": "x"}))["status"],
        "invalid"
    );
    let interrupted = helper.call(request.to_string().as_bytes(), &mut Nobody(true));
    assert!(
        matches!(interrupted, Reply::Interrupted),
        "what comes after an interrupt is no verdict"
    );
}
