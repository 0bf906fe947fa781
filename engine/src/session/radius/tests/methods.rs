//! Every method against a list of users, by the vectors of the RFCs.

use super::world::{World, users};
use super::*;
use crate::password::nt;
use crate::radius::mschap as computed;
use wire::radius::mschap;

const LIST: &str = r#"
steve   Cleartext-Password := "testing"
        Framed-IP-Address = 172.16.3.33, Tunnel-Type:1 = VLAN, Tunnel-Password:1 = "hidden", Reply-Message = "Hello"
hashed  Password-With-Header := "{SSHA}YrGuHHs52ZfpQNycA4/aDh0nGmNOYUNsNTY3OA=="
dear    Crypt-Password := "$5$saltstring$C3o4O1TC6aRHF4FI.QSZMXtHbaj2gSXr4sUc/3NcUi."
        Session-Timeout = 60
User    Cleartext-Password := "clientPass"
nt      NT-Password := "0x44EBBA8D5312B8D611474411F56989AE"
gone    Auth-Type := Reject
        Reply-Message = "Your account has been disabled."
open    Auth-Type := Accept
        Session-Timeout = 1
bare
        Framed-MTU = 1500
"#;

fn world() -> World {
    World::new(vec![users(LIST)])
}

fn hex<const N: usize>(text: &str) -> [u8; N] {
    let octets: Vec<u8> = (0..N)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    octets.try_into().unwrap()
}

const YES: Option<Code> = Some(Code::ACCESS_ACCEPT);
const NO: Option<Code> = Some(Code::ACCESS_REJECT);

#[test]
fn a_password_is_compared_in_line_or_elsewhere_by_what_it_costs() {
    let mut world = world();
    for (user, password, expected) in [
        ("steve", "testing", YES),
        ("steve", "testin", NO),
        ("steve", "testing ", NO),
        ("hashed", "secret", YES),
        ("hashed", "Secret", NO),
        ("dear", "secret", YES),
        ("dear", "Secret", NO),
        ("nt", "clientPass", YES),
        ("nt", "clientpass", NO),
        ("gone", "any", NO),
        ("open", "any", YES),
        ("bare", "any", NO),
        ("nobody", "any", NO),
    ] {
        let came = world.ask(&format!("User-Name = {user}, User-Password = \"{password}\""));
        assert_eq!(came.code, expected, "{user} {password}");
        assert_eq!(
            came.asked,
            if user == "dear" { vec!["compare"] } else { vec![] },
            "{user}"
        );
        let shown = came.shown(&world.dictionary);
        match (user, expected) {
            ("steve", YES) => assert_eq!(
                shown,
                "Framed-IP-Address = 172.16.3.33, Tunnel-Type:1 = VLAN, Tunnel-Password:1 = \"hidden\", Reply-Message = \"Hello\""
            ),
            ("dear", YES) => assert_eq!(shown, "Session-Timeout = 60"),
            ("gone", _) => assert_eq!(shown, "Reply-Message = \"Your account has been disabled.\""),
            (_, NO) => assert_eq!(shown, ""),
            _ => {}
        }
    }
    let pap = world.front.figures().method(Method::Pap);
    assert_eq!((pap.accepts, pap.rejects), (5, 8));
    assert_eq!(world.front.figures().backends[0].not_found, 2);
}

#[test]
fn an_empty_password_or_none_shows_nothing() {
    let mut world = World::new(vec![users(
        "empty Cleartext-Password := \"\"\nopen Auth-Type := Accept\n",
    )]);
    assert_eq!(world.ask("User-Name = empty, User-Password = \"\"").code, NO);
    assert_eq!(world.ask("User-Name = empty").code, NO);
    assert_eq!(world.ask("User-Name = open").code, YES);
    assert_eq!(world.ask("User-Password = x").code, NO);
}

#[test]
fn two_methods_or_one_twice_are_refused() {
    let mut world = world();
    let chap = format!("CHAP-Password = 0x01{}", "00".repeat(16));
    for attributes in [
        "User-Password = testing, User-Password = testing".to_owned(),
        format!("User-Password = testing, {chap}"),
        "User-Password = testing, EAP-Message = 0x0200000501".to_owned(),
        format!("User-Password = testing, MS-CHAP-Response = 0x{}", "00".repeat(50)),
    ] {
        assert_eq!(
            world.ask(&format!("User-Name = steve, {attributes}")).code,
            NO,
            "{attributes}"
        );
        let open = world.ask(&format!("User-Name = open, {attributes}"));
        assert_eq!(open.code, NO, "not even for whom any password is right");
    }
    assert_eq!(world.ask("User-Name = steve, EAP-Message = 0x0200000501").code, NO);
    assert_eq!(world.front.figures().method(Method::Eap).rejects, 1);
}

#[test]
fn chap_answers_the_challenge_or_the_authenticator() {
    use md5::{Digest as _, Md5};
    let mut world = world();
    let chap = |user: &str, password: &str, challenge: Option<&[u8]>, world: &mut World| {
        // The request's authenticator is its identifier, sixteen times.
        let probe = world.request("User-Name = x", &[]);
        let next = probe[1].wrapping_add(1);
        let asked = challenge.map_or(vec![next; 16], <[u8]>::to_vec);
        let digest = Md5::new()
            .chain_update([7])
            .chain_update(password)
            .chain_update(&asked)
            .finalize();
        let shown: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
        let mut attributes = format!("User-Name = {user}, CHAP-Password = 0x07{shown}");
        if let Some(challenge) = challenge {
            let digits: String = challenge.iter().map(|octet| format!("{octet:02x}")).collect();
            attributes.push_str(&format!(", CHAP-Challenge = 0x{digits}"));
        }
        world.ask(&attributes).code
    };
    assert_eq!(chap("steve", "testing", None, &mut world), YES);
    assert_eq!(chap("steve", "testing", Some(b"any challenge"), &mut world), YES);
    assert_eq!(chap("steve", "other", Some(b"any challenge"), &mut world), NO);
    assert_eq!(chap("hashed", "secret", None, &mut world), NO);
    assert_eq!(
        world.front.figures().backends[0].not_found,
        1,
        "a hash cannot judge CHAP"
    );
    assert_eq!(world.ask("User-Name = steve, CHAP-Password = 0x0700").code, NO);
}

const ASKED: &str = "5B5D7C7D7B3F2F3E3C2C602132262628";
const PEER: &str = "21402324255E262A28295F2B3A337C7E";

fn version_2(world: &mut World, user: &str, response: &[u8; 24]) -> world::Came {
    let value = [&[9, 0][..], &hex::<16>(PEER), &[0; 8], response].concat();
    let asked = hex::<16>(ASKED);
    let microsoft = [(mschap::CHALLENGE, &asked[..]), (mschap::RESPONSE_2, &value[..])];
    let request = world.request(&format!("User-Name = \"{user}\""), &microsoft);
    world.play(request, &mut |_| panic!("nobody is to be asked"))
}

#[test]
fn ms_chap_2_answers_as_rfc_2759_and_rfc_3079_have_it() {
    let mut world = world();
    let right = hex::<24>("82309ECD8D708B5EA08FAA3981CD83544233114A3D85D6DF");
    let came = version_2(&mut world, "User", &right);
    assert_eq!(came.code, YES);
    let dictionary = Arc::clone(&world.dictionary);
    let success = came.find(&dictionary, "MS-CHAP2-Success").unwrap();
    assert_eq!(success, b"\x09S=407A5589115FD0D6209F510FE9C04566932CDA56");
    let send = came.find(&dictionary, "MS-MPPE-Send-Key").unwrap();
    assert_eq!(send, hex::<16>("8B7CDC149B993A1BA118CB153F56DCCB"));
    let keys = computed::keys(&nt::hash(b"clientPass").unwrap(), &right);
    assert_eq!(came.find(&dictionary, "MS-MPPE-Recv-Key").unwrap(), *keys.receive);
    assert_eq!(
        came.find(&dictionary, "MS-MPPE-Encryption-Policy").unwrap(),
        [0, 0, 0, 1]
    );
    assert_eq!(
        came.find(&dictionary, "MS-MPPE-Encryption-Types").unwrap(),
        [0, 0, 0, 6]
    );
    assert_eq!(came.find(&dictionary, "MS-CHAP-MPPE-Keys"), None);

    let wrong = version_2(&mut world, "User", &[1; 24]);
    assert_eq!(wrong.code, NO);
    let error = wrong.find(&dictionary, "MS-CHAP-Error").unwrap();
    let error = String::from_utf8(error[1..].to_vec()).unwrap();
    assert!(
        error.starts_with("E=691 R=1 C=") && error.contains(" V=3 M="),
        "{error}"
    );
    let challenge = error.split(' ').nth(2).unwrap();
    assert_eq!(challenge.len(), 34);
    let again = version_2(&mut world, "User", &[1; 24]);
    let other = String::from_utf8(again.find(&dictionary, "MS-CHAP-Error").unwrap()).unwrap();
    assert!(!other.contains(challenge), "a challenge is never given twice");

    let barred = version_2(&mut world, "gone", &right);
    let error = barred.find(&dictionary, "MS-CHAP-Error").unwrap();
    assert!(error[1..].starts_with(b"E=647 R=0"), "{error:?}");
    assert_eq!(version_2(&mut world, "hashed", &right).code, NO);
    let method = world.front.figures().method(Method::MsChap2);
    assert_eq!((method.accepts, method.rejects), (1, 4));
}

#[test]
fn ms_chap_2_hashes_the_name_without_its_domain_and_takes_a_stored_hash() {
    let list =
        "\"EX\\\\User\" NT-Password := \"44EBBA8D5312B8D611474411F56989AE\"\n        MS-MPPE-Encryption-Policy = 2\n";
    let mut world = World::new(vec![users(list)]);
    let right = hex::<24>("82309ECD8D708B5EA08FAA3981CD83544233114A3D85D6DF");
    let came = version_2(&mut world, "EX\\\\User", &right);
    assert_eq!(came.code, YES);
    let dictionary = Arc::clone(&world.dictionary);
    assert_eq!(
        came.find(&dictionary, "MS-MPPE-Encryption-Policy").unwrap(),
        [0, 0, 0, 2]
    );
    assert_eq!(
        came.shown(&dictionary).matches("Encryption-Policy").count(),
        1,
        "the list's own"
    );
}

#[test]
fn ms_chap_1_answers_as_rfc_2433_has_it_and_gives_both_keys() {
    let mut world = World::new(vec![users("u Cleartext-Password := MyPw\n")]);
    let asked = hex::<8>("102DB5DF085D3041");
    let nt = hex::<24>("4E9D3C8F9CFD385D5BF4D3246791956CA4C351AB409A3D61");
    let ask = |flags: u8, nt: &[u8; 24], world: &mut World| {
        let value = [&[3, flags][..], &[0; 24], nt].concat();
        let microsoft = [(mschap::CHALLENGE, &asked[..]), (mschap::RESPONSE, &value[..])];
        let request = world.request("User-Name = u", &microsoft);
        world.play(request, &mut |_| panic!("nobody is to be asked"))
    };
    let came = ask(1, &nt, &mut world);
    assert_eq!(came.code, YES);
    let dictionary = Arc::clone(&world.dictionary);
    // RFC 3079 section 3.5: the LM hash's first half, and the hash of the NT hash.
    let hash = nt::hash(b"MyPw").unwrap();
    let lm = computed::lm_hash(b"MyPw").unwrap();
    let mut keys = [&lm[..8], hash.hashed().as_bytes()].concat();
    let found = came.find(&dictionary, "MS-CHAP-MPPE-Keys").unwrap();
    keys.resize(found.len(), 0);
    assert_eq!(found, keys);
    assert_eq!(ask(1, &[0; 24], &mut world).code, NO);
    let lm_only = ask(0, &nt, &mut world);
    assert_eq!(lm_only.code, NO, "the LM response is not taken");
    let error = lm_only.find(&dictionary, "MS-CHAP-Error").unwrap();
    assert!(
        error.starts_with(b"\x03E=691 R=1 C=") && error.ends_with(b" V=2"),
        "{error:?}"
    );
}

#[test]
fn an_accept_that_does_not_fit_a_packet_is_none() {
    let long = "x".repeat(240);
    let mut list = "big Cleartext-Password := p\n".to_owned();
    for at in 0..20 {
        list.push_str(if at == 0 { "        " } else { ",\n        " });
        list.push_str(&format!("Reply-Message += \"{long}\""));
    }
    list.push('\n');
    let mut world = World::new(vec![users(&list)]);
    let came = world.ask("User-Name = big, User-Password = p");
    assert_eq!((came.code, world.front.figures().unwritable), (NO, 1));
    assert_eq!(came.shown(&world.dictionary), "");
}
