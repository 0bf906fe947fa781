//! Devices that are let in by their address.

use super::super::plan::Mac;
use super::backends::{NO, YES, directory, one};
use super::world::{Answer, Asked, World, users};
use super::*;
use crate::ask::To;
use crate::radius::mac::Format;

/// People in the ordinary chain, and devices in another.
fn world(mac: bool) -> World {
    let devices = users("00-1a-2b-3c-4d-5e\n        Tunnel-Private-Group-Id:1 = 30\n");
    let people =
        users("00-1a-2b-3c-4d-5e Cleartext-Password := other\n001a2b3c4d5e Cleartext-Password := 001a2b3c4d5e\n");
    World::with(vec![people, devices], |plan| {
        plan.chains[0].links.truncate(1);
        plan.chains.push(Chain {
            name: "devices".into(),
            mode: Mode::First,
            links: vec![Link {
                backend: 1,
                unavailable: Unavailable::Silence,
            }],
        });
        plan.mac = mac.then(|| Mac {
            chain: 1,
            format: Format::default(),
        });
    })
}

/// A CHAP-Password without a challenge of its own, in a request that the world makes as its `at`th.
fn chap(password: &str, at: u8) -> String {
    use md5::{Digest as _, Md5};
    let digest = Md5::new()
        .chain_update([7])
        .chain_update(password)
        .chain_update([at; 16])
        .finalize();
    let digits: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
    format!("CHAP-Password = 0x07{digits}")
}

#[test]
fn a_device_is_let_in_by_its_address_and_nobody_else_is() {
    let mut world = world(true);
    let mut judge = |name: &str, shown: &str, expected: Option<Code>, method: Method| {
        let before = world.front.figures().method(method);
        let came = world.ask(&format!("User-Name = {name}{shown}"));
        assert_eq!(came.code, expected, "{name}{shown}");
        let after = world.front.figures().method(method);
        let one_more = before.accepts + before.rejects + 1;
        assert_eq!(after.accepts + after.rejects, one_more, "{name}{shown}");
        let is_device = came.find(&world.dictionary, "Tunnel-Private-Group-Id").is_some();
        assert_eq!(is_device, method == Method::Mac && expected == YES, "{name}{shown}");
    };
    let device = "00-1a-2b-3c-4d-5e";
    judge(
        "001A2B3C4D5E",
        ", User-Password = \"00:1a:2b:3c:4d:5e\"",
        YES,
        Method::Mac,
    );
    judge(device, ", Service-Type = Call-Check", YES, Method::Mac);
    judge(device, "", NO, Method::None);
    judge(
        device,
        ", Service-Type = Call-Check, User-Password = x",
        NO,
        Method::Pap,
    );
    judge(device, ", User-Password = other", YES, Method::Pap);
    judge("00-1a-2b-3c-4d-5f", ", User-Password = 001a2b3c4d5f", NO, Method::Mac);
    judge(device, ", User-Password = 001a2b3c4d5f", NO, Method::Pap);
    let right = chap("00:1A:2B:3C:4D:5E", 8);
    judge("001a.2b3c.4d5e", &format!(", {right}"), YES, Method::Mac);
    judge("001a.2b3c.4d5e", &format!(", {}", chap("other", 9)), NO, Method::Chap);
}

#[test]
fn without_devices_an_address_is_a_name_like_any_other() {
    let mut world = world(false);
    let own = world.ask("User-Name = 001a2b3c4d5e, User-Password = 001a2b3c4d5e");
    assert_eq!(own.code, YES);
    let checked = world.ask("User-Name = 00-1a-2b-3c-4d-5e, Service-Type = Call-Check");
    assert_eq!(checked.code, NO);
}

#[test]
fn a_device_is_one_entry_of_a_directory() {
    let world = || {
        World::with(vec![Kind::Directory(directory())], |plan| {
            plan.mac = Some(Mac {
                chain: 0,
                format: Format::default(),
            });
        })
    };
    let device = "User-Name = 001A2B3C4D5E, User-Password = 001A2B3C4D5E";
    let mut filters = Vec::new();
    for (answer, expected) in [(one(&[]), YES), (Answer::Ldap(vec![], 0), NO), (Answer::Failed, None)] {
        let mut world = world();
        let request = world.request(device, &[]);
        let came = world.play(request, &mut |asked| {
            if let Asked::Ldap(question) = asked {
                assert_eq!(question.to, To::Shared);
                filters.push(String::from_utf8_lossy(&question.bytes).contains("00-1a-2b-3c-4d-5e"));
            }
            answer.clone()
        });
        assert_eq!(came.code, expected);
    }
    assert_eq!(filters, [true; 3]);
}
