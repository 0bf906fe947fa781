//! New passwords by MS-CHAP.

use super::backends::{NO, YES, directory, fetching, one, service};
use super::world::{Answer, Asked, Came, World, users};
use super::*;
use crate::password::nt;
use crate::radius::mschap as computed;
use wire::radius::mschap;

const OLD: &str = "old secret";
const NEW: &str = "n\u{e9}w secret";

/// A change from one password to another; `meant` is what the user takes for the old one.
fn request(world: &mut World, two: bool, meant: &str, broken: bool) -> Vec<u8> {
    let hash = |text: &str| nt::hash(text.as_bytes()).unwrap();
    let (whole, proof) = computed::encrypted(NEW, &hash(meant), 0x5a);
    let (peer, asked) = ([3; 16], [4; 16]);
    let value = if two {
        let challenge = computed::challenge_hash(&peer, &asked, b"bob");
        let response = computed::response(&challenge, &hash(NEW));
        [&[7, 5][..], &proof, &peer, &[0; 8], &response, &[0, 0]].concat()
    } else {
        let response = computed::response(&[4; 8], &hash(NEW));
        [&[6, 5][..], &proof, &[0; 16], &[0; 24], &response, &[0, 1]].concat()
    };
    let pieces: Vec<Vec<u8>> = whole
        .chunks(243)
        .zip(1_u8..)
        .map(|(octets, at)| [&[6, 5, 0, at][..], octets].concat())
        .collect();
    let mut microsoft: Vec<(u8, &[u8])> = vec![
        (mschap::CHALLENGE, if two { &asked[..] } else { &asked[..8] }),
        (if two { mschap::CPW_2_2 } else { mschap::CPW_2 }, &value),
    ];
    microsoft.extend(
        pieces
            .iter()
            .skip(usize::from(broken))
            .map(|piece| (mschap::NT_ENC_PW, &piece[..])),
    );
    world.request("User-Name = bob", &microsoft)
}

fn error(came: &Came, world: &World) -> String {
    String::from_utf8(came.find(&world.dictionary, "MS-CHAP-Error").unwrap()[1..].to_vec()).unwrap()
}

#[test]
fn a_list_of_users_cannot_be_changed_and_says_so_only_to_who_knows_the_password() {
    for two in [true, false] {
        let mut world = World::new(vec![users(&format!("bob Cleartext-Password := \"{OLD}\"\n"))]);
        for (meant, broken, code) in [
            (OLD, false, "E=709 R=0"),
            ("other", false, "E=691 R=0"),
            (OLD, true, "E=709 R=0"),
        ] {
            let request = request(&mut world, two, meant, broken);
            let came = world.play(request, &mut |_| panic!("nobody is to be asked"));
            assert_eq!(came.code, NO);
            assert!(error(&came, &world).starts_with(code), "{meant} {broken}");
        }
        assert_eq!(world.front.figures().method(Method::Change).rejects, 3);
    }
}

#[test]
fn a_directory_changes_a_password_and_the_hash_beside_it() {
    let hash: String = nt::hash(OLD.as_bytes())
        .unwrap()
        .as_bytes()
        .iter()
        .map(|octet| format!("{octet:02X}"))
        .collect();
    let new_hash = nt::hash(NEW.as_bytes()).unwrap();
    let digits: String = new_hash.as_bytes().iter().map(|octet| format!("{octet:02X}")).collect();
    let done = Answer::Ldap(vec![], 0);
    let by_hash = one(&[
        ("userPassword", &["{SSHA}YrGuHHs52ZfpQNycA4/aDh0nGmNOYUNsNTY3OA=="]),
        ("sambaNTPassword", &[&hash]),
    ]);
    for (entry, answers, expected, questions) in [
        (by_hash.clone(), vec![done.clone(), done.clone()], Ok(()), 3),
        (one(&[("userPassword", &[OLD])]), vec![done.clone()], Ok(()), 2),
        (by_hash.clone(), vec![Answer::Ldap(vec![], 19)], Err("E=709 R=0"), 2),
        (
            by_hash.clone(),
            vec![done, Answer::Ldap(vec![], 50)],
            Err("E=709 R=0"),
            3,
        ),
        (by_hash, vec![Answer::Failed], Err(""), 2),
        (
            one(&[("userPassword", &["{SSHA}YrGuHHs52ZfpQNycA4/aDh0nGmNOYUNsNTY3OA=="])]),
            vec![],
            Err("E=691 R=0"),
            1,
        ),
        (one(&[("userPassword", &["other"])]), vec![], Err("E=691 R=0"), 1),
    ] {
        let mut world = World::new(vec![Kind::Directory(fetching())]);
        let request = request(&mut world, true, OLD, false);
        let mut answers = std::iter::once(entry).chain(answers);
        let mut sent = Vec::new();
        let came = world.play(request, &mut |asked| {
            let Asked::Ldap(question) = asked else { panic!() };
            sent.push(question.bytes.to_vec());
            answers.next().expect("nothing more is asked")
        });
        assert_eq!(sent.len(), questions);
        let holds = |octets: &[u8], what: &[u8]| octets.windows(what.len()).any(|window| window == what);
        match expected {
            Ok(()) => {
                assert_eq!(came.code, YES);
                assert!(holds(&sent[1], NEW.as_bytes()), "the new password");
                assert!(questions < 3 || holds(&sent[2], digits.as_bytes()), "the new hash");
                let shown = came.find(&world.dictionary, "MS-CHAP2-Success").unwrap();
                let challenge = computed::challenge_hash(&[3; 16], &[4; 16], b"bob");
                let response = computed::response(&challenge, &new_hash);
                let proof = computed::authenticator_response(&new_hash, &response, &challenge);
                let proof: String = proof.iter().map(|octet| format!("{octet:02X}")).collect();
                assert_eq!(shown, [&b"\x05S="[..], proof.as_bytes()].concat());
                assert!(came.find(&world.dictionary, "MS-MPPE-Send-Key").is_some());
            }
            Err("") => assert_eq!(came.code, None),
            Err(code) => {
                assert_eq!(came.code, NO);
                assert!(
                    error(&came, &world).starts_with(code),
                    "{code} {}",
                    error(&came, &world)
                );
            }
        }
    }
}

#[test]
fn who_only_binds_or_asks_pam_changes_nothing() {
    let pam = service(Form::Pam { service: None });
    for kind in [Kind::Directory(directory()), pam] {
        let mut world = World::new(vec![kind]);
        let request = request(&mut world, true, OLD, false);
        let came = world.play(request, &mut |_| panic!("nobody is to be asked"));
        assert_eq!(came.code, NO);
    }
}

fn octets(text: &serde_json::Value) -> Vec<u8> {
    let pairs = text.as_str().unwrap().as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

#[test]
fn winbind_passes_a_change_on_and_the_new_password_is_what_is_proved() {
    let (old, new) = (nt::hash(OLD.as_bytes()).unwrap(), nt::hash(NEW.as_bytes()).unwrap());
    let key: String = new
        .hashed()
        .as_bytes()
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    for two in [true, false] {
        let mut world = World::new(vec![service(Form::Winbind)]);
        let request = request(&mut world, two, OLD, false);
        let challenge = if two {
            computed::challenge_hash(&[3; 16], &[4; 16], b"bob")
        } else {
            [4; 8]
        };
        let mut calls = ["change-password", "authenticate"].into_iter();
        let came = world.play(request, &mut |asked| {
            let Asked::Call(call) = asked else { panic!() };
            assert_eq!((call["do"].as_str(), &call["name"]), (calls.next(), &"bob".into()));
            if call["do"] == "authenticate" {
                assert_eq!(octets(&call["challenge"]), challenge);
                assert_eq!(octets(&call["nt_response"]), computed::response(&challenge, &new));
                return Answer::Text(format!(r#"{{"status":"ok","session_key":"{key}"}}"#));
            }
            let whole = octets(&call["new_nt_encrypted"]).try_into().unwrap();
            let read = computed::new_password(&whole, &old).unwrap();
            assert_eq!((read.text.as_str(), &read.hash), (NEW, &new));
            let proof = octets(&call["old_nt_hash_encrypted"]).try_into().unwrap();
            assert!(computed::proves_old(&proof, &old, &new));
            Answer::Text(r#"{"status":"ok"}"#.into())
        });
        assert_eq!((came.code, calls.next()), (YES, None));
        if !two {
            assert!(came.find(&world.dictionary, "MS-CHAP-MPPE-Keys").is_some());
            continue;
        }
        let response = computed::response(&challenge, &new);
        let proof = computed::authenticator_response(&new, &response, &challenge);
        let proof: String = proof.iter().map(|octet| format!("{octet:02X}")).collect();
        let shown = came.find(&world.dictionary, "MS-CHAP2-Success").unwrap();
        assert_eq!(shown, [&b"\x05S="[..], proof.as_bytes()].concat());
        let sent = came.find(&world.dictionary, "MS-MPPE-Send-Key").unwrap();
        assert_eq!(sent, computed::keys(&new, &response).send.to_vec());
    }
}

#[test]
fn what_winbind_says_of_a_change_is_told_apart() {
    let policy = r#"{"status":"restricted","message":"the new password was used before"}"#;
    let changed = r#"{"status":"ok"}"#;
    for (answers, expected) in [
        (vec![policy], Some("E=709 R=0")),
        (vec![r#"{"status":"must-change"}"#], Some("E=709 R=0")),
        (vec![r#"{"status":"wrong-password","message":"x"}"#], Some("E=691 R=0")),
        (vec![r#"{"status":"not-found"}"#], Some("E=691 R=0")),
        (vec![r#"{"status":"locked-out"}"#], Some("E=647 R=0")),
        (vec![r#"{"status":"unavailable"}"#], None),
        (vec![r#"{"status":"unsupported"}"#], None),
        (vec!["[]"], None),
        (vec![changed, r#"{"status":"wrong-password"}"#], Some("E=691 R=0")),
        (
            vec![changed, r#"{"status":"restricted","message":"x"}"#],
            Some("E=646 R=0"),
        ),
        (vec![changed, r#"{"status":"unavailable"}"#], None),
        (vec![changed, changed], None),
    ] {
        let mut world = World::new(vec![service(Form::Winbind)]);
        let request = request(&mut world, true, OLD, false);
        let mut left = answers.iter();
        let came = world.play(request, &mut |_| {
            Answer::Text((*left.next().expect("nothing more is asked")).into())
        });
        assert_eq!(
            (came.code, left.len()),
            (if expected.is_some() { NO } else { None }, 0),
            "{answers:?}"
        );
        let Some(code) = expected else { continue };
        let said = error(&came, &world);
        assert!(said.starts_with(code), "{answers:?} {said}");
        let is_policy = answers == [policy];
        assert_eq!(
            said.ends_with("M=the new password was used before"),
            is_policy,
            "{said}"
        );
        assert_eq!(came.find(&world.dictionary, "Reply-Message").is_some(), is_policy);
    }
    let mut world = World::new(vec![service(Form::Winbind)]);
    let broken = request(&mut world, true, OLD, true);
    let came = world.play(broken, &mut |_| panic!("a piece is missing: nobody is to be asked"));
    assert!(error(&came, &world).starts_with("E=709"));
}
