//! The examples of the RFCs, and what becomes of servers that do not keep to them.

use proptest::prelude::*;

use super::super::Mechanism;
use super::*;

fn account(password: &str, iterations_max: u32) -> Account {
    let who = Who {
        authcid: "user".into(),
        authzid: String::new(),
    };
    let mechanisms = [Mechanism::ScramSha256, Mechanism::ScramSha1];
    let password = password.as_bytes().to_vec().into();
    Account::new(&mechanisms, &who, password, iterations_max).unwrap()
}

/// RFC 5802 section 5, RFC 7677 section 3: nonce, challenge, last message, signature.
const EXAMPLES: [(Hash, &str, &str, &str, &str); 2] = [
    (
        Hash::Sha1,
        "fyko+d2lbbFgONRv9qkxdawL",
        "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
        "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
    ),
    (
        Hash::Sha256,
        "rOprNGfwEbeRWgbNEkqO",
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
        "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
    ),
];

fn begun(hash: Hash, account: &Account, nonce: &str) -> Client {
    Client::with_nonce(hash, account.who(), nonce.to_owned()).0
}

#[test]
fn the_examples_of_the_rfcs() {
    let pencil = account("pencil", 4096);
    for (hash, nonce, challenge, last, signature) in EXAMPLES {
        let (client, first) = Client::with_nonce(hash, pencil.who(), nonce.to_owned());
        assert_eq!(first, format!("n,,n=user,r={nonce}").as_bytes());
        let (said, proof) = client.challenged(challenge.as_bytes(), &pencil).unwrap();
        assert_eq!(String::from_utf8(said).unwrap(), last);
        assert_eq!(proof.verify(signature.as_bytes()), Ok(()));
        // Extensions behind what is known are passed over.
        let more = format!("{challenge},x=y,z=");
        let (_, proof) = begun(hash, &pencil, nonce)
            .challenged(more.as_bytes(), &pencil)
            .unwrap();
        assert_eq!(proof.verify(signature.as_bytes()), Err(FORGED), "they are signed, too");
    }
    assert_eq!(pencil.keys_kept(), 2, "once for each hash, and then kept");
}

#[test]
fn names_are_escaped_and_prepared() {
    let who = Who {
        authcid: "a=b,c\u{AD}\u{2168}".into(),
        authzid: "dn:cn=x,dc=y".into(),
    };
    let account = Account::new(&[Mechanism::ScramSha1], &who, b"x".to_vec().into(), 4096).unwrap();
    let (client, first) = Client::begin(Hash::Sha1, account.who(), &[7; CHANCE]);
    let nonce = STANDARD.encode([7; CHANCE]);
    assert_eq!(
        String::from_utf8(first).unwrap(),
        format!("n,a=dn:cn=3Dx=2Cdc=3Dy,n=a=3Db=2CcIX,r={nonce}")
    );
    let challenge = format!("r={nonce}x,s=AAAA,i=4096");
    let (last, _) = client.challenged(challenge.as_bytes(), &account).unwrap();
    let header = STANDARD.encode("n,a=dn:cn=3Dx=2Cdc=3Dy,");
    assert!(last.starts_with(format!("c={header},r={nonce}x,p=").as_bytes()));
}

#[test]
fn a_password_is_prepared() {
    // RFC 4013 section 3: both are IX.
    let [ix, soft, roman] = ["IX", "I\u{AD}X", "\u{2168}"].map(|password| {
        let account = account(password, 4096);
        account.keys(Hash::Sha1, b"salt", 4096).unwrap().client
    });
    assert!(ix == soft && ix == roman);
}

#[test]
fn iterations_are_bounded_before_anything_is_derived() {
    let pencil = account("pencil", 100_000);
    for (written, fault) in [
        ("1", ITERATIONS),
        ("4095", ITERATIONS),
        ("100001", ITERATIONS),
        ("4000000000", ITERATIONS),
        ("99999999999999999999999", ITERATIONS),
        ("0", BROKEN),
        ("04096", BROKEN),
        ("-4096", BROKEN),
        ("+4096", BROKEN),
        ("4096 ", BROKEN),
        ("", BROKEN),
    ] {
        let challenge = format!("r=abcdef,s=AAAA,i={written}");
        let found = begun(Hash::Sha256, &pencil, "abc").challenged(challenge.as_bytes(), &pencil);
        assert_eq!(found.err(), Some(fault), "{written}");
    }
    assert_eq!(pencil.keys_kept(), 0);
}

#[test]
fn challenges_that_are_not_for_us_or_none_at_all() {
    let pencil = account("pencil", 4096);
    let long = format!("r=abcdef,s={},i=4096", "A".repeat(MESSAGE_MAX));
    for (challenge, fault) in [
        ("r=abc,s=AAAA,i=4096", NONCE),
        ("r=xabcdef,s=AAAA,i=4096", NONCE),
        ("r=ABCdef,s=AAAA,i=4096", NONCE),
        ("r=,s=AAAA,i=4096", NONCE),
        ("r=abcd\u{7},s=AAAA,i=4096", BROKEN),
        ("r=abcdef,s=,i=4096", BROKEN),
        ("r=abcdef,s=A,i=4096", BROKEN),
        ("r=abcdef,s=AA*A,i=4096", BROKEN),
        ("r=abcdef,i=4096,s=AAAA", BROKEN),
        ("r=abcdef,s=AAAA", BROKEN),
        ("", BROKEN),
        ("m=x,r=abcdef,s=AAAA,i=4096", EXTENDED),
        ("r=abcdef,s=AAAA,m=x,i=4096", EXTENDED),
        (
            "e=unknown-user",
            "the server says unknown-user: it does not know bind_authcid",
        ),
        (&long, LONG),
    ] {
        let found = begun(Hash::Sha1, &pencil, "abc").challenged(challenge.as_bytes(), &pencil);
        assert_eq!(found.err(), Some(fault), "{challenge}");
    }
    assert_eq!(pencil.keys_kept(), 0, "nothing was worth the work");
}

#[test]
fn a_server_that_does_not_know_the_password_is_not_believed() {
    let pencil = account("pencil", 4096);
    let (hash, nonce, challenge, _, signature) = EXAMPLES[1];
    let verify = |said: &[u8]| {
        let (_, proof) = begun(hash, &pencil, nonce)
            .challenged(challenge.as_bytes(), &pencil)
            .unwrap();
        proof.verify(said)
    };
    for (said, fault) in [
        ("v=rmF9pqV8S7suAoZWja4dJRkFsKQ=", FORGED),
        ("v=", FORGED),
        ("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4", BROKEN),
        ("x=y,v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", BROKEN),
        ("", BROKEN),
        (
            "e=invalid-proof",
            "the server says invalid-proof: the password is wrong",
        ),
        ("e=whatever", "the server ended the exchange with an error of SCRAM"),
    ] {
        assert_eq!(verify(said.as_bytes()), Err(fault), "{said}");
    }
    let mut octets = signature.as_bytes().to_vec();
    for at in 0..octets.len() {
        octets[at] ^= 1;
        assert!(verify(&octets).is_err(), "octet {at}");
        octets[at] ^= 1;
    }
    assert_eq!(verify(&octets), Ok(()));
    assert_eq!(pencil.keys_kept(), 1);
}

#[test]
fn what_was_derived_is_kept_within_bounds_and_never_taken_for_another() {
    let pencil = account("pencil", 5000);
    let keys = |hash, salt: &[u8], iterations| pencil.keys(hash, salt, iterations).unwrap().client;
    let first = keys(Hash::Sha1, b"salt", 4096);
    assert!(first == keys(Hash::Sha1, b"salt", 4096));
    assert_eq!(pencil.keys_kept(), 1);
    assert!(first != keys(Hash::Sha1, b"salt", 4097));
    assert!(first != keys(Hash::Sha1, b"Salt", 4096));
    assert!(first != keys(Hash::Sha256, b"salt", 4096));
    assert_eq!(pencil.keys_kept(), 4);
    for salt in 0..20_u8 {
        keys(Hash::Sha1, &[salt], 4096);
    }
    assert_eq!(pencil.keys_kept(), 8);
}

proptest! {
    #[test]
    fn no_challenge_panics(said in proptest::collection::vec(any::<u8>(), 0..200)) {
        let pencil = account("pencil", 4096);
        let _ = begun(Hash::Sha256, &pencil, "").challenged(&said, &pencil);
    }

    #[test]
    fn no_challenge_of_the_right_letters_panics(said in "[rsimea=,0-9A-Z+/]{0,60}") {
        let pencil = account("pencil", 4096);
        let _ = begun(Hash::Sha1, &pencil, "").challenged(said.as_bytes(), &pencil);
    }

    #[test]
    fn nothing_but_the_signature_is_believed(said in prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        "[ve]=[0-9A-Za-z+/]{0,44}=?".prop_map(String::into_bytes),
    ]) {
        let proof = Proof { expected: Zeroizing::new(vec![0xA5; 32]) };
        prop_assert!(proof.verify(&said).is_err());
    }
}
