use super::*;

fn read(files: &[(&str, &str)]) -> Loaded {
    load("clients.conf", &mut |_, name| {
        let found = files
            .iter()
            .filter(|(known, _)| *known == name || (name.ends_with('/') && known.starts_with(name)));
        let source = |(name, text): &(&str, &str)| Source {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
        };
        Ok(found.map(source).collect())
    })
}

fn shown(list: &[Fault]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

const FILE: &str = r#"
# comments
client localhost {
	ipaddr = 127.0.0.1   # behind it
	proto = *
	secret = testing123
	require_message_authenticator = no
	nas_type	 = other
	limit {
		max_connections = 16
	}
}
client "old one" { ipaddr = 10.1.2.3; netmask = 16; secret = "a \"b\" \101\\ #{}"; shortname = old }
client 192.0.2.0/24 {
	secret = 'single \' \n'
	limit_proxy_state = auto
}
client everybody {
	ipv6addr = ::
	secret := bare+more/==
	require_message_authenticator = true
	shortname = old
}
$INCLUDE ${confdir}/clients.d/
$-INCLUDE nowhere
"#;

#[test]
fn clients_are_read_in_every_form() {
    let loaded = read(&[
        ("clients.conf", &FILE.replace("bare+more/==", "bare+more/")),
        ("clients.d/a", "client a {\nipaddr = *\nsecret = aaaaaaaa\n}\n"),
        (
            "clients.d/b",
            "client b {\nipv4addr = 198.51.100.7/31\nsecret = \\\n  bbbbbbbb }\n",
        ),
    ]);
    assert_eq!(shown(&loaded.faults), Vec::<String>::new());
    let told: Vec<(String, String, String, usize)> = loaded
        .clients
        .iter()
        .map(|one| {
            let secret = String::from_utf8(one.secret.to_vec()).unwrap();
            (one.name.clone(), one.network.to_string(), secret, one.line)
        })
        .collect();
    let right = [
        ("localhost", "127.0.0.1", "testing123", 3),
        ("old", "10.1.0.0/16", "a \"b\" A\\ #{}", 13),
        ("192.0.2.0/24", "192.0.2.0/24", "single ' \\n", 14),
        ("everybody", "::/0", "bare+more/", 18),
        ("a", "0.0.0.0/0", "aaaaaaaa", 1),
        ("b", "198.51.100.6/31", "bbbbbbbb", 1),
    ];
    let right: Vec<_> = right
        .map(|(a, b, c, d)| (a.to_owned(), b.to_owned(), c.to_owned(), d))
        .into();
    assert_eq!(told, right);
    let demands: Vec<_> = loaded
        .clients
        .iter()
        .map(|one| (one.require_message_authenticator, one.limit_proxy_state))
        .take(4)
        .collect();
    assert_eq!(
        demands,
        [
            (Demand::No, Demand::Yes),
            (Demand::Auto, Demand::Yes),
            (Demand::Auto, Demand::Auto),
            (Demand::Yes, Demand::Yes)
        ]
    );
    let notices = shown(&loaded.notices);
    assert_eq!(notices.len(), 3, "{notices:?}");
    assert!(
        notices[0].starts_with("clients.conf:8: nas_type is left out"),
        "{notices:?}"
    );
    assert!(
        notices[1].starts_with("clients.conf:9: limit { … } is left out"),
        "{notices:?}"
    );
    assert!(
        notices[2].starts_with("clients.conf:18: the short name old is another"),
        "{notices:?}"
    );
}

/// A file, and how what is said about it begins.
const MISTAKES: &[(&str, &str)] = &[
    (
        "client a {\n ipaddr = 10.0.0.1\n}\n",
        "clients.conf:1: the client a has no secret; secret",
    ),
    (
        "client a {\n ipaddr = 10.0.0.1\n secret = \"\"\n}\n",
        "clients.conf:1: the client a has no secret",
    ),
    (
        "client a {\n ipaddr = nas.example.org\n secret = hush1\n}\n",
        "clients.conf:2: ipaddr nas.example.org; an address",
    ),
    (
        "client a {\n ipv4addr = ::1\n secret = hush1\n}\n",
        "clients.conf:2: ipv4addr ::1; an address like 192",
    ),
    (
        "client a {\n ipaddr = 10.0.0.1/33\n secret = hush1\n}\n",
        "clients.conf:1: a prefix of 33 bits; at most 32",
    ),
    (
        "client a {\n secret = hush1\n}\n",
        "clients.conf:1: client a; an address",
    ),
    (
        "client 10.0.0.1 {\n secret = hush1\n secret = hush2\n}\n",
        "clients.conf:3: secret twice; one",
    ),
    (
        "client 10.0.0.1 {\n secret = hush1 hush1\n}\n",
        "clients.conf:2: something behind the value of secret",
    ),
    (
        "client 10.0.0.1 {\n secret = hush1#hush1\n}\n",
        "clients.conf:2: secret: a word with a sign in it; double quotes",
    ),
    (
        "client 10.0.0.1 {\n secret = \"hush1\n}\n",
        "clients.conf:2: secret: a quote that does not end",
    ),
    (
        "client 10.0.0.1 {\n secret = ${hush1}\n}\n",
        "clients.conf:2: secret with an expansion",
    ),
    (
        "client 10.0.0.1 {\n secret = `hush1`\n}\n",
        "clients.conf:2: secret: a value in backquotes",
    ),
    (
        "client 10.0.0.1 {\n secret = hush1\n proto = tcp\n}\n",
        "clients.conf:3: proto = tcp; udp",
    ),
    (
        "client 10.0.0.1 {\n secret = hush1\n virtual_server = x\n}\n",
        "clients.conf:3: virtual_server = x; a listener",
    ),
    (
        "client 10.0.0.1 {\n secret = hush1\n limit_proxy_state = x\n}\n",
        "clients.conf:3: limit_proxy_state = x; one of yes",
    ),
    (
        "client 10.0.0.1 {\n secret = hush1\n",
        "clients.conf:1: a section that does not end",
    ),
    ("client 10.0.0.1\n", "clients.conf:1: no { behind client"),
    ("}\n", "clients.conf:1: a } without a section"),
    (
        "clients x {\n client 10.0.0.1 {\n secret = hush1\n }\n}\n",
        "clients.conf:1: clients x {, a list of one listener",
    ),
    ("\n$INCLUDE none\n", "clients.conf:2: there is no file none"),
    ("$INCLUDE ${other}/x\n", "clients.conf:1: $INCLUDE ${other}/x"),
];

#[test]
fn a_mistake_says_where_it_is_and_shows_no_secret() {
    for (text, right) in MISTAKES {
        let loaded = read(&[("clients.conf", text)]);
        let said = shown(&loaded.faults);
        assert!(said.len() == 1 && said[0].starts_with(right), "{text}: {said:?}");
        assert!(!said[0].contains("hush"), "{said:?}");
        assert!(loaded.clients.is_empty(), "{text}");
    }
    // The others are read all the same.
    let text = "client a {\n ipaddr = x\n}\nclient 10.0.0.1 {\n secret = s\n}\nclient b {\n ipaddr = y\n}\n";
    let loaded = read(&[("clients.conf", text)]);
    assert_eq!((loaded.faults.len(), loaded.clients.len()), (2, 1));
    let loaded = read(&[("clients.conf", "$INCLUDE clients.conf\n$INCLUDE clients.conf\n")]);
    assert!(loaded.faults.len() <= 100 && loaded.faults[0].found.contains("one file too many"));
}

#[test]
fn nothing_that_is_read_makes_it_panic() {
    use proptest::prelude::*;
    let piece = prop::sample::select(vec![
        "client", " ", "\n", "{", "}", "=", ":=", "\"", "'", "\\", "#", ";", "secret", "ipaddr", "10.0.0.1", "::/0",
        "$INCLUDE", "${", "$", "é", "\u{a0}", "\\1", "\\777", "limit", "*", "<", "`",
    ]);
    proptest!(ProptestConfig::with_cases(500), |(pieces in prop::collection::vec(piece, 0..30))| {
        let text = pieces.concat();
        let loaded = read(&[("clients.conf", &text)]);
        prop_assert!(loaded.clients.iter().all(|client| !client.secret.is_empty()));
    });
}
