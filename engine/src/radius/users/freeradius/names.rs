//! The attributes of FreeRADIUS's own that stand among the checks of its lists, and mean nothing here.

/// Checks that keep somebody out, and that are not made here. Left out, they would let that user in.
pub(super) fn refused(name: &str) -> Option<&'static str> {
    let all: [(&[&str], &str); 6] = [
        (
            &["User-Password", "Password", "CHAP-Password"],
            "the known password as Cleartext-Password := \"…\"",
        ),
        (
            &["LM-Password"],
            "NT-Password: an LM hash protects nothing, and no request is compared with one",
        ),
        (
            &["Simultaneous-Use"],
            "no such check: sessions are not counted here; let the network's own equipment bound them",
        ),
        (
            &["Login-Time", "Current-Time", "Time-Of-Day", "Expiration"],
            "a rule of the policy with a time",
        ),
        (
            &[
                "Group",
                "Group-Name",
                "Ldap-Group",
                "LDAP-Group",
                "SQL-Group",
                "Unix-Group",
                "Huntgroup-Name",
            ],
            "a rule of the policy that matches groups or clients",
        ),
        (
            &[
                "Prefix",
                "Suffix",
                "Hint",
                "Strip-User-Name",
                "Stripped-User-Name",
                "Realm",
                "Proxy-To-Realm",
            ],
            "the name as the request has it: names are not taken apart here",
        ),
    ];
    let known = |(names, _): &&(&[&str], &str)| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    all.iter().find(known).map(|(_, right)| *right)
}

/// What keeps nobody out.
pub(super) const LEFT_OUT: [(&str, &str); 7] = [
    ("Pool-Name", "addresses are not given out here"),
    ("Autz-Type", "there are no such sections here"),
    ("Acct-Type", "there are no such sections here"),
    ("Session-Type", "there are no such sections here"),
    ("Post-Auth-Type", "there are no such sections here"),
    ("Pre-Acct-Type", "there are no such sections here"),
    ("Fall-Through", "it belongs to the answer, on a line of its own below"),
];
