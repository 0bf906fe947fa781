//! Exchanges: what is said, how many steps there are, and whose success counts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

const OCTETS: [u8; CHANCE] = [9; CHANCE];

fn who(authcid: &str, authzid: &str) -> Who {
    Who {
        authcid: authcid.into(),
        authzid: authzid.into(),
    }
}

fn account(mechanisms: &[Mechanism]) -> Arc<Account> {
    Arc::new(Account::new(mechanisms, &who("user", "dn:cn=x"), b"pencil".to_vec().into(), 4096).unwrap())
}

/// What is said.
fn sent(turn: Turn) -> (&'static str, Vec<u8>) {
    match turn {
        Turn::Send { mechanism, credentials } => (mechanism, credentials.to_vec()),
        other => panic!("{other:?}"),
    }
}

fn failed(turn: Turn) -> &'static str {
    match turn {
        Turn::Failed(why) => why,
        other => panic!("{other:?}"),
    }
}

fn refused(turn: Turn) -> (&'static str, u32) {
    match turn {
        Turn::Refused(what, code) => (what, code),
        other => panic!("{other:?}"),
    }
}

/// What a server that knows the password answers to these two messages of SCRAM-SHA-256.
fn signature(first: &[u8], challenge: &str, last: &[u8]) -> Vec<u8> {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let hmac = |key: &[u8], content: &[u8]| {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
        mac.update(content);
        mac.finalize().into_bytes()
    };
    let salt = STANDARD.decode(challenge.split(',').nth(1).unwrap().strip_prefix("s=").unwrap());
    let mut salted = [0; 32];
    pbkdf2::pbkdf2_hmac::<sha2::Sha256>(b"pencil", &salt.unwrap(), 4096, &mut salted);
    let bare = String::from_utf8(first.to_vec()).unwrap();
    let bare = bare.split_once(",n=").map(|(_, rest)| format!("n={rest}")).unwrap();
    let last = String::from_utf8(last.to_vec()).unwrap();
    let without = last.rsplit_once(",p=").unwrap().0;
    let all = format!("{bare},{challenge},{without}");
    format!(
        "v={}",
        STANDARD.encode(hmac(&hmac(&salted, b"Server Key"), all.as_bytes()))
    )
    .into_bytes()
}

/// An exchange whose proof is sent, and what the server has to say to it.
fn proved() -> (Exchange, Vec<u8>) {
    let (mut exchange, turn) = Exchange::begin(&account(&[Mechanism::ScramSha256]), false, OCTETS);
    let (mechanism, first) = sent(turn);
    assert_eq!(mechanism, "SCRAM-SHA-256");
    assert!(first.starts_with(b"n,a=dn:cn=3Dx,n=user,r="));
    let challenge = format!("r={}more,s=c2FsdA==,i=4096", STANDARD.encode(OCTETS));
    let (_, last) = sent(exchange.answered(14, Some(challenge.as_bytes())));
    let signature = signature(&first, &challenge, &last);
    (exchange, signature)
}

#[test]
fn scram_is_a_success_when_the_server_has_proved_itself() {
    let (mut exchange, signature) = proved();
    assert!(matches!(exchange.answered(0, Some(&signature)), Turn::Bound));
    // Some servers say so in a step of its own.
    let (mut exchange, signature) = proved();
    let (mechanism, nothing) = sent(exchange.answered(14, Some(&signature)));
    assert_eq!((mechanism, nothing.len()), ("SCRAM-SHA-256", 0));
    assert!(matches!(exchange.answered(0, None), Turn::Bound));
}

#[test]
fn success_without_proof_is_none() {
    let (mut exchange, _) = Exchange::begin(&account(&[Mechanism::ScramSha1]), false, OCTETS);
    assert_eq!(failed(exchange.answered(0, None)), UNPROVED);
    let (mut exchange, _) = Exchange::begin(&account(&[Mechanism::ScramSha1]), false, OCTETS);
    assert_eq!(failed(exchange.answered(0, Some(b"v=AAAA"))), UNPROVED);
    let (mut exchange, _) = proved();
    assert_eq!(failed(exchange.answered(0, None)), UNPROVED);
    let (mut exchange, _) = proved();
    assert!(failed(exchange.answered(0, Some(b"v=AAAA"))).contains("could not prove"));
    let (mut exchange, _) = proved();
    assert!(failed(exchange.answered(14, Some(b"v=AAAA"))).contains("could not prove"));
}

#[test]
fn no_mechanism_has_more_steps_than_it_has() {
    let (mut exchange, signature) = proved();
    sent(exchange.answered(14, Some(&signature)));
    assert_eq!(failed(exchange.answered(14, Some(b""))), MORE_STEPS);
    let (mut exchange, _) = proved();
    assert_eq!(failed(exchange.answered(14, None)), MORE_STEPS);
    for mechanism in [Mechanism::Plain, Mechanism::External] {
        let (mut exchange, _) = Exchange::begin(&account(&[mechanism]), true, OCTETS);
        assert_eq!(failed(exchange.answered(14, Some(b"x"))), MORE_STEPS);
    }
}

#[test]
fn plain_and_external_say_all_at_once() {
    let (mut exchange, turn) = Exchange::begin(&account(&[Mechanism::Plain]), true, OCTETS);
    assert_eq!(sent(turn), ("PLAIN", b"dn:cn=x\0user\0pencil".to_vec()));
    assert!(matches!(exchange.answered(0, None), Turn::Bound));
    let (mut exchange, turn) = Exchange::begin(&account(&[Mechanism::External]), false, OCTETS);
    assert_eq!(sent(turn), ("EXTERNAL", b"dn:cn=x".to_vec()));
    assert!(matches!(exchange.answered(0, None), Turn::Bound));
    let (_, turn) = Exchange::begin(&account(&[Mechanism::Plain]), false, OCTETS);
    assert_eq!(failed(turn), IN_CLEAR);
}

#[test]
fn the_next_mechanism_is_for_servers_that_do_not_know_the_first() {
    let all = account(&Mechanism::ALL[..4]);
    let (mut exchange, turn) = Exchange::begin(&all, true, OCTETS);
    let (_, first) = sent(turn);
    let (mechanism, second) = sent(exchange.answered(7, None));
    assert_eq!(mechanism, "SCRAM-SHA-1");
    assert_ne!(first, second, "another nonce");
    assert_eq!(sent(exchange.answered(48, None)).0, "PLAIN");
    assert_eq!(sent(exchange.answered(13, None)).0, "EXTERNAL");
    assert_eq!(refused(exchange.answered(7, None)), ("our bind with EXTERNAL", 7));
    // A wrong password is wrong with the next one, too.
    let (mut exchange, _) = Exchange::begin(&all, true, OCTETS);
    assert_eq!(
        refused(exchange.answered(49, None)),
        ("our bind with SCRAM-SHA-256", 49)
    );
    // Nor is the next one tried half-way.
    let (mut exchange, _) = proved();
    assert_eq!(refused(exchange.answered(7, None)), ("our bind with SCRAM-SHA-256", 7));
}

#[test]
fn accounts_that_no_exchange_could_use() {
    let made = |mechanisms: &[Mechanism], who: &Who, password: &[u8]| {
        Account::new(mechanisms, who, password.to_vec().into(), 4096).err()
    };
    let (scram, plain) = ([Mechanism::ScramSha1], [Mechanism::Plain]);
    let user = who("user", "");
    assert_eq!(made(&[], &user, b"x"), Some(Unfit::NoMechanism));
    assert!(matches!(made(&scram, &who("", ""), b"x"), Some(Unfit::Authcid(_))));
    assert!(matches!(made(&plain, &who("a\0b", ""), b"x"), Some(Unfit::Authcid(_))));
    assert!(matches!(made(&plain, &who("a", "b\0"), b"x"), Some(Unfit::Authzid(_))));
    assert!(matches!(
        made(&scram, &who("a\u{7}", ""), b"x"),
        Some(Unfit::Authcid(_))
    ));
    for password in [&b""[..], b"\xff", b"x\0y"] {
        assert!(matches!(made(&plain, &user, password), Some(Unfit::Password(_))));
    }
    // RFC 4013 section 3.
    for password in ["\u{7}", "\u{627}1", "\u{AD}"] {
        assert!(matches!(
            made(&scram, &user, password.as_bytes()),
            Some(Unfit::Password(_))
        ));
        assert_eq!(
            made(&plain, &user, password.as_bytes()),
            None,
            "PLAIN carries it as it is"
        );
    }
    for mechanism in [Mechanism::External, Mechanism::Gssapi] {
        assert_eq!(made(&[mechanism], &who("", ""), b""), None);
    }
}

#[test]
fn nothing_secret_is_shown() {
    let all = account(&Mechanism::ALL);
    let (exchange, _) = proved();
    for shown in [format!("{all:?}"), format!("{exchange:?}")] {
        assert!(!shown.contains("pencil") && !shown.contains("[112"), "{shown}");
    }
}
