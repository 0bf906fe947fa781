//! Who a client must be after what it did: a model that knows nothing but that, and a client that does it.

use crate::ber::{boolean, int, seq, text};
use crate::certificates::certificates;
use crate::client::{Client, Message, PATIENCE, Target, with_controls};
use crate::ops;
use crate::recorder::{Account, GROUPS, PROXIED_V1, RETAIN_IDENTITY, SLOW, authzid};
use crate::slapd::{EDITOR, USHERD};
use crate::usherd::{Setup, Usherd, listener_tls, server};

/// Who there is. The first is the one with privileges, whom the others would like to be.
pub(crate) type Accounts = &'static [Account];

const fn account(typed: &'static str, password: &'static str, is: &'static str, sasl: &'static str) -> Account {
    Account {
        typed,
        password,
        is,
        sasl,
    }
}

pub(crate) const ROOT: &str = "cn=root,dc=example,dc=com";

/// For the recorder, to which names are octets: whoever takes two of these for the same gives somebody's rights away.
pub(crate) const ODD: Accounts = &[
    account(ROOT, "p-root", ROOT, "root"),
    account("uid=ada,dc=example,dc=com", "p-ada", "uid=ada,dc=example,dc=com", "ada"),
    account(
        "cn=Root,dc=example,dc=com",
        "p-case",
        "cn=Root,dc=example,dc=com",
        "Root",
    ),
    account(
        "cn=root,dc=example,dc=com ",
        "p-space",
        "cn=root,dc=example,dc=com ",
        "root ",
    ),
    account(
        "cn=root,dc=example,dc=com\0x",
        "p-nul",
        "cn=root,dc=example,dc=com\0x",
        "root.x",
    ),
    // The server has another name for them: what they typed is not who they are.
    account(
        "dn:cn=root,dc=example,dc=com",
        "p-alias",
        "uid=mallory,dc=example,dc=com",
        "dn:cn=root",
    ),
];

pub(crate) const USER1: &str = "uid=user1,ou=people,dc=example,dc=com";
pub(crate) const USER2: &str = "uid=user2,ou=people,dc=example,dc=com";
pub(crate) const USER10: &str = "uid=user10,ou=people,dc=example,dc=com";

/// For slapd, which knows DNs: the editor may write everywhere, user1 may read what nobody else may.
pub(crate) const REAL: Accounts = &[
    account(EDITOR.0, EDITOR.1, EDITOR.0, ""),
    account(USER1, "password-1", USER1, "user1"),
    account(USER10, "password-10", USER10, "user10"),
    account("UID=User2 ,  ou=PEOPLE,dc=Example,dc=COM", "password-2", USER2, "user2"),
];

/// One thing that a client does. Numbers are places in the list of accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Bind(usize),
    WrongPassword(usize),
    EmptyPassword(usize),
    Anonymous,
    /// Not waited for: what follows comes while the bind is under way.
    Slow(usize, bool),
    StartTls,
    External,
    Plain(usize, bool),
    /// With the password of the second, as the first.
    PlainFor(usize, usize),
    Scram(usize, bool),
    /// One step of two.
    Half(usize),
    UnknownMechanism,
    WithProxied(usize),
    WithRetain(usize),
}

/// Where a client can come in.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    pub(crate) name: &'static str,
    pub(crate) target: Target,
    pub(crate) header: &'static [u8],
    /// Who the connection itself says that they are.
    pub(crate) external: Option<String>,
}

/// Who a client must be after what it did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) who: String,
    /// Between two steps of a bind nothing is done for it.
    pub(crate) half: bool,
    /// It has a connection of its own.
    pub(crate) own: bool,
}

impl Standing {
    /// The model: what RFC 4511 4.2.1, RFC 4513 4, 5.1.2, 5.2 and 6.3 and docs/ldap.md say. Whether the event must succeed.
    pub(crate) fn after(&mut self, event: Event, accounts: Accounts, door: &Door, pinned: bool) -> bool {
        if event == Event::StartTls && pinned && self.own {
            return false;
        }
        let refused_here = match event {
            Event::EmptyPassword(_) | Event::UnknownMechanism | Event::WithProxied(_) | Event::WithRetain(_) => true,
            Event::External => pinned,
            _ => false,
        };
        let (who, success) = match event {
            Event::Bind(of) | Event::Slow(of, true) | Event::Plain(of, true) | Event::Scram(of, true) => {
                (authzid(accounts[of].is), true)
            }
            Event::External if door.external.is_some() && !pinned => (door.external.clone().unwrap_or_default(), true),
            Event::Anonymous | Event::StartTls => (String::new(), true),
            _ => (String::new(), false),
        };
        self.who = who;
        self.half = matches!(event, Event::Half(_)) && !pinned;
        self.own = pinned && !refused_here && event != Event::StartTls;
        success
    }
}

/// What clients did before: of `me`, and of somebody else.
pub(crate) fn histories(me: usize, real: bool) -> Vec<Vec<Event>> {
    let other = if me == 1 { 0 } else { 1 };
    let mut all = vec![
        vec![],
        vec![Event::Bind(me)],
        vec![Event::Bind(other), Event::Bind(me)],
        vec![Event::Bind(me), Event::WrongPassword(me)],
        vec![Event::Bind(me), Event::WrongPassword(0)],
        vec![Event::Bind(me), Event::EmptyPassword(0)],
        vec![Event::Bind(me), Event::Anonymous],
        vec![Event::Bind(me), Event::External],
        vec![Event::External],
        vec![Event::Bind(other), Event::Plain(me, true)],
        vec![Event::Bind(me), Event::Plain(me, false)],
        vec![Event::Bind(me), Event::PlainFor(0, 1)],
        vec![Event::Bind(me), Event::UnknownMechanism],
        vec![Event::Bind(me), Event::StartTls],
        vec![Event::StartTls, Event::Bind(me)],
        vec![Event::External, Event::StartTls],
        vec![Event::Bind(me), Event::WithProxied(me)],
    ];
    if !real {
        all.extend([
            vec![Event::Bind(other), Event::Slow(me, true)],
            vec![Event::Bind(me), Event::Slow(0, false)],
            vec![Event::Bind(other), Event::Scram(me, true)],
            vec![Event::Bind(me), Event::Scram(0, false)],
            vec![Event::Bind(me), Event::Half(0)],
            vec![Event::Bind(me), Event::Half(0), Event::Bind(me)],
            vec![Event::Bind(me), Event::Half(0), Event::External],
            vec![Event::Bind(0), Event::WithRetain(me)],
            vec![Event::WithRetain(me)],
        ]);
    }
    all
}

/// What a client adds to an operation.
pub(crate) struct Addition {
    pub(crate) name: &'static str,
    pub(crate) controls: Vec<(&'static str, bool, Option<Vec<u8>>)>,
    /// Octets that are no controls, in their place.
    pub(crate) octets: Vec<u8>,
    /// The code of what is refused on shared connections.
    pub(crate) refused: Option<i64>,
    /// On a connection of the client's own it is the server's to judge.
    pub(crate) own: bool,
}

pub(crate) fn additions(accounts: Accounts, me: usize) -> Vec<Addition> {
    let claim = |of: usize| authzid(accounts[of].is).into_bytes();
    let proxied = |critical, value: Vec<u8>| (ops::OID_PROXIED, critical, Some(value));
    let tracking = seq(
        0x30,
        &[
            text("192.0.2.1"),
            text("x"),
            text("1.3.6.1.4.1.21008.108.63.1.3"),
            text(claim(0)),
        ],
    );
    let tracking = ("1.3.6.1.4.1.21008.108.63.1", false, Some(tracking));
    let manage = ("2.16.840.1.113730.3.4.2", true, None);
    let paged = seq(0x30, &[int(0x02, 5), text("")]);
    let refused = |name, controls| Addition {
        name,
        controls,
        octets: Vec::new(),
        refused: Some(53),
        own: true,
    };
    let plain = |name, controls| Addition {
        refused: None,
        ..refused(name, controls)
    };
    let malformed = |name, controls| Addition {
        refused: Some(2),
        own: false,
        ..refused(name, controls)
    };
    let nameless = seq(0xA0, &[seq(0x30, &[boolean(true), text(claim(0))])]);
    vec![
        plain("nothing", vec![]),
        refused("a critical one", vec![proxied(true, claim(0))]),
        refused("one that is not critical", vec![proxied(false, claim(0))]),
        refused("its own", vec![proxied(true, claim(me))]),
        refused("nobody's", vec![proxied(true, Vec::new())]),
        refused("one without a value", vec![(ops::OID_PROXIED, true, None)]),
        refused("the daemon's", vec![proxied(true, authzid(USHERD.0).into_bytes())]),
        refused("two", vec![proxied(true, claim(me)), proxied(true, claim(0))]),
        refused(
            "two, the other way round",
            vec![proxied(true, claim(0)), proxied(false, claim(me))],
        ),
        refused(
            "one behind others",
            vec![manage.clone(), tracking.clone(), proxied(false, claim(0))],
        ),
        refused(
            "the old one",
            vec![(PROXIED_V1, true, Some(seq(0x30, &[text(accounts[0].is)])))],
        ),
        refused(
            "the groups of another",
            vec![(GROUPS, true, Some(seq(0x30, &[text(accounts[0].is)])))],
        ),
        malformed(
            "one with a zero",
            vec![("2.16.840.1.113730.3.4.018", true, Some(claim(0)))],
        ),
        malformed(
            "one with a space",
            vec![("2.16.840.1.113730.3.4.18 ", true, Some(claim(0)))],
        ),
        Addition {
            octets: nameless,
            ..malformed("one without a name", vec![])
        },
        plain("session tracking", vec![tracking]),
        plain("relax", vec![("1.3.6.1.4.1.4203.666.5.12", false, None)]),
        plain("manageDsaIT", vec![manage]),
        plain("pages", vec![("1.2.840.113556.1.4.319", false, Some(paged))]),
    ]
}

impl Addition {
    pub(crate) fn to(&self, op: &[u8]) -> Vec<u8> {
        if !self.octets.is_empty() {
            return [op, &self.octets].concat();
        }
        if self.controls.is_empty() {
            return op.to_vec();
        }
        with_controls(op, &self.controls)
    }

    /// The proxied authorization controls in it.
    pub(crate) fn claims(&self) -> Vec<String> {
        let is = |oid: &str| [ops::OID_PROXIED, PROXIED_V1, GROUPS].contains(&oid);
        let claims = self.controls.iter().filter(|(oid, _, _)| is(oid));
        claims
            .map(|(_, _, value)| String::from_utf8_lossy(value.as_deref().unwrap_or_default()).into_owned())
            .collect()
    }
}

/// A client in the middle of its history.
pub(crate) struct Actor<'a> {
    door: &'a Door,
    accounts: Accounts,
    pinned: bool,
    pub(crate) client: Client,
    pub(crate) standing: Standing,
    /// A bind that was not waited for, and whether it must succeed.
    owed: Option<(i64, bool)>,
}

impl<'a> Actor<'a> {
    /// Comes in and does what its history says, all of which must end as the model says.
    pub(crate) fn with(door: &'a Door, accounts: Accounts, pinned: bool, history: &[Event]) -> Self {
        let mut client = Client::connect(&door.target);
        if !door.header.is_empty() {
            client.send_raw(door.header).expect("a new connection takes it");
        }
        let mut actor = Self {
            door,
            accounts,
            pinned,
            client,
            standing: Standing::default(),
            owed: None,
        };
        history.iter().for_each(|event| actor.does(*event));
        actor
    }

    fn does(&mut self, event: Event) {
        let success = self.standing.after(event, self.accounts, self.door, self.pinned);
        let accounts = self.accounts;
        let code = match event {
            Event::Bind(of) => self.bind(accounts[of].typed, accounts[of].password, &[]),
            Event::WrongPassword(of) => self.bind(accounts[of].typed, "wrong", &[]),
            Event::EmptyPassword(of) => self.bind(accounts[of].typed, "", &[]),
            Event::Anonymous => self.bind("", "", &[]),
            Event::Slow(of, right) => {
                let password = if right { accounts[of].password } else { "wrong" };
                let op = ops::bind(accounts[of].typed, &format!("{SLOW}{password}"));
                self.owed = Some((self.client.send(&op), success));
                return;
            }
            Event::StartTls => {
                let code = self.client.one(&ops::start_tls()).code();
                if code == 0 {
                    self.client.protect(&certificates().ca()).expect("a handshake");
                }
                code
            }
            Event::External => self.sasl("EXTERNAL", b""),
            Event::Plain(of, right) => {
                let password = if right { accounts[of].password } else { "wrong" };
                self.sasl("PLAIN", format!("\0{}\0{password}", accounts[of].sasl).as_bytes())
            }
            Event::PlainFor(whom, of) => {
                let claim = authzid(accounts[whom].is);
                let shown = format!("{claim}\0{}\0{}", accounts[of].sasl, accounts[of].password);
                self.sasl("PLAIN", shown.as_bytes())
            }
            Event::Scram(of, right) => {
                assert_eq!(self.sasl("SCRAM-SHA-256", accounts[of].sasl.as_bytes()), 14);
                let password = if right { accounts[of].password } else { "wrong" };
                self.sasl("SCRAM-SHA-256", password.as_bytes())
            }
            Event::Half(of) => self.sasl("SCRAM-SHA-256", accounts[of].sasl.as_bytes()),
            Event::UnknownMechanism => self.sasl("GSSAPI", b"x"),
            Event::WithProxied(of) => {
                let control = (ops::OID_PROXIED, true, Some(authzid(accounts[0].is).into_bytes()));
                self.bind(accounts[of].typed, accounts[of].password, &[control])
            }
            Event::WithRetain(of) => {
                let control = (RETAIN_IDENTITY, false, None);
                self.bind(accounts[of].typed, accounts[of].password, &[control])
            }
        };
        assert_eq!(code == 0, success, "{event:?} at {}: {code}", self.door.name);
    }

    fn bind(&mut self, name: &str, password: &str, controls: &[(&str, bool, Option<Vec<u8>>)]) -> i64 {
        let op = ops::bind(name, password);
        let op = if controls.is_empty() {
            op
        } else {
            with_controls(&op, controls)
        };
        self.client.one(&op).code()
    }

    fn sasl(&mut self, mechanism: &str, shown: &[u8]) -> i64 {
        let credentials = seq(0xA3, &[text(mechanism), text(shown)]);
        self.client
            .one(&seq(0x60, &[int(0x02, 3), text(""), credentials]))
            .code()
    }

    /// The end of an operation, and before it that of the bind that is owed.
    pub(crate) fn ask(&mut self, op: &[u8]) -> Vec<Message> {
        let id = self.client.send(op);
        if let Some((bind, success)) = self.owed.take() {
            let answer = self.client.collect(bind, PATIENCE).expect("the bind is answered first");
            assert_eq!(answer[0].code() == 0, success, "{answer:?}");
        }
        self.client.collect(id, PATIENCE).expect("an answer")
    }
}

/// The ways into one daemon.
pub(crate) struct House {
    pub(crate) usherd: Usherd,
    pub(crate) doors: Vec<Door>,
}

pub(crate) fn house(lines: &str, url: &str, external: &str) -> House {
    let tls = listener_tls();
    let with_tls = format!("directory = \"corp\"\nstarttls = true\n{tls}");
    let usherd = Setup::new()
        .directory("corp", lines, &[server(url, "")])
        .listen("ldap", "127.0.0.1:0", &with_tls)
        .listen("ldaps", "127.0.0.1:0", &format!("directory = \"corp\"\n{tls}"))
        .listen("ldap", "unix:ldapi", "directory = \"corp\"")
        .listen(
            "ldap",
            "127.0.0.1:0",
            &format!("{with_tls}\nproxy_protocol = \"v1\"\nproxy_from = [\"127.0.0.1\"]"),
        )
        .start();
    let door = |name, target| Door {
        name,
        target,
        header: b"",
        external: None,
    };
    let doors = vec![
        door("ldap", usherd.plain(0)),
        door("ldaps", usherd.ldaps(1)),
        Door {
            external: Some(external.to_owned()),
            ..door("ldapi", Target::Unix(usherd.unix("ldapi")))
        },
        Door {
            header: b"PROXY TCP4 192.0.2.7 192.0.2.1 49152 389\r\n",
            ..door("behind a PROXY header", usherd.plain(3))
        },
    ];
    House { usherd, doors }
}

/// StartTLS is for those who come in clear over TCP.
pub(crate) fn fits(history: &[Event], door: &Door) -> bool {
    !history.contains(&Event::StartTls) || matches!(door.name, "ldap" | "behind a PROXY header")
}
