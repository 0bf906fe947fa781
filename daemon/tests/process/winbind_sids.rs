//! The helper `winbind` against a real winbindd: many SIDs or ids at once, aliases, and logons with what they leave.

use serde_json::{Value, json};

use crate::winbind::{DOMAIN, PASSWORD};
use crate::winbind_calls::Ask;

fn domain_of(user: &str) -> &str {
    user.rsplit_once('-').expect("a SID").0
}

/// Domain Users are in one alias of the machine's domain; a user's own SID is in none.
pub(crate) fn aliases(ask: Ask<'_>, user: &str) {
    let domain = domain_of(user);
    let of = |sid: &str, domain: &str| ask(&json!({"do": "sid-aliases", "sid": sid, "domain": domain}));
    let found = of(&format!("{domain}-513"), domain);
    assert_eq!(found, json!({"status": "ok", "sids": [format!("{domain}-3000")]}));
    assert_eq!(of(user, domain), json!({"status": "ok", "sids": []}));
    assert_eq!(of("no SID", domain)["status"], "invalid");
    assert_eq!(ask(&json!({"do": "sid-aliases", "sid": user}))["status"], "ok");
}

/// In the order of the question, what nobody knows among them.
pub(crate) fn many_at_once(ask: Ask<'_>, user: &str) {
    let domain = domain_of(user);
    let (group, nobody) = (format!("{domain}-513"), format!("{domain}-77777"));
    let sids = [group.as_str(), nobody.as_str(), user];
    assert_eq!(
        ask(&json!({"do": "sids-to-names", "sids": sids})),
        json!({"status": "ok", "entries": [
            {"sid": group, "domain": DOMAIN, "name": "Domain Users", "type": "group"},
            {"sid": nobody, "domain": "", "name": "", "type": "unknown"},
            {"sid": user, "domain": DOMAIN, "name": "alice", "type": "user"},
        ]})
    );
    assert_eq!(
        ask(&json!({"do": "sids-to-ids", "sids": sids})),
        json!({"status": "ok", "entries": [{"sid": group, "gid": 100}, {"sid": nobody}, {"sid": user, "uid": 5001}]})
    );
    assert_eq!(
        ask(&json!({"do": "ids-to-sids", "uids": [5001, 7777], "gids": [100]})),
        json!({"status": "ok", "entries": [{"sid": user, "uid": 5001}, {"uid": 7777}, {"sid": group, "gid": 100}]})
    );
    for what in ["sids-to-names", "sids-to-ids"] {
        let wrong = ask(&json!({"do": what, "sids": [user, "no SID"]}));
        assert_eq!(wrong["status"], "invalid", "{wrong}");
    }
}

/// A machine in no domain has no Kerberos: it is asked for, and the verdict comes without a ticket.
pub(crate) fn logons_begin_and_end(ask: Ask<'_>, user: &str) {
    let alice = format!("{DOMAIN}\\alice");
    let ok = json!({"status": "ok", "name": alice, "sid": user});
    let logon = |name: &str, password: &str, more: &Value| {
        let mut request = json!({"do": "logon", "name": name, "password": password});
        for (member, value) in more.as_object().into_iter().flatten() {
            request[member] = value.clone();
        }
        ask(&request)
    };
    for more in [
        json!({}),
        json!({"cached": true}),
        json!({"kerberos": true}),
        json!({"kerberos": true, "krb5_cache": "FILE"}),
    ] {
        assert_eq!(logon(&alice, PASSWORD, &more), ok, "{more}");
        assert_eq!(logon(&alice, "wrong", &more)["status"], "wrong-password", "{more}");
    }
    let none = json!({});
    let carol = logon(&format!("{DOMAIN}\\carol"), PASSWORD, &none);
    assert_eq!(carol["status"], "disabled", "{carol}");
    let nobody = logon(&format!("{DOMAIN}\\nobody-here"), "x", &none);
    assert_eq!(nobody["status"], "not-found", "{nobody}");
    // The account is locked after three wrong passwords in a row: the last one was right.
    assert_eq!(logon(&alice, PASSWORD, &none), ok);
    let off = |more: Value| ask(&more)["status"].clone();
    assert_eq!(off(json!({"do": "logoff", "name": alice})), "ok");
    assert_eq!(off(json!({"do": "logoff", "name": "BOX\\nobody-here"})), "not-found");
}
