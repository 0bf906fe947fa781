//! What services are asked, and what their answers mean.

use super::backends::{NO, SSHA, YES, only, service};
use super::world::{Answer, Asked, World};
use super::*;
use wire::radius::mschap;

#[test]
fn winbind_is_asked_for_passwords_and_responses_and_for_groups_by_sid() {
    let mut world = World::with(vec![service(Form::Winbind)], |plan| {
        plan.policy = only("CORP\\vpn", &plan.dictionary);
        plan.needs_groups = true;
    });
    let octets = |text: &str| -> Vec<u8> {
        let pairs = text.as_bytes().chunks(2);
        pairs
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    };
    let response = octets("82309ECD8D708B5EA08FAA3981CD83544233114A3D85D6DF");
    let value = [
        &[9, 0][..],
        &octets("21402324255E262A28295F2B3A337C7E"),
        &[0; 8],
        &response,
    ]
    .concat();
    let asked = octets("5B5D7C7D7B3F2F3E3C2C602132262628");
    let microsoft = [(mschap::CHALLENGE, &asked[..]), (mschap::RESPONSE_2, &value[..])];
    let request = world.request("User-Name = \"CORP\\\\User\"", &microsoft);
    let mut script = |asked: Asked<'_>| {
        let Asked::Call(call) = asked else { panic!() };
        Answer::Text(
            match call["do"].as_str().unwrap() {
                "authenticate" => {
                    assert_eq!(call["name"], "CORP\\User");
                    assert_eq!(call["challenge"], "d02e4386bce91226");
                    assert_eq!(call["nt_response"], "82309ecd8d708b5ea08faa3981cd83544233114a3d85d6df");
                    r#"{"status":"ok","sid":"S-1-5-21-1","session_key":"41c00c584bd2d91c4017a2a12fa59f3f"}"#
                }
                "user-sids" => {
                    assert_eq!(call["sid"], "S-1-5-21-1");
                    r#"{"status":"ok","sids":["S-1-5-21-2","S-1-5-21-9"]}"#
                }
                _ => {
                    assert_eq!(call["sids"].as_array().unwrap().len(), 2);
                    r#"{"status":"ok","entries":[{"sid":"S-1-5-21-2","domain":"CORP","name":"vpn","type":"group"},
                        {"sid":"S-1-5-21-9","domain":"","name":"","type":"unknown"}]}"#
                }
            }
            .to_owned(),
        )
    };
    let came = world.play(request, &mut script);
    assert_eq!((came.code, came.asked.len()), (YES, 3));
    let dictionary = Arc::clone(&world.dictionary);
    assert_eq!(
        came.find(&dictionary, "MS-CHAP2-Success").unwrap(),
        b"\x09S=407A5589115FD0D6209F510FE9C04566932CDA56"
    );
    assert_eq!(
        came.find(&dictionary, "MS-MPPE-Send-Key").unwrap(),
        octets("8B7CDC149B993A1BA118CB153F56DCCB")
    );
    assert_eq!(came.find(&dictionary, "Filter-Id").unwrap(), b"in");

    for (status, code) in [
        ("password-expired", "E=648"),
        ("restricted", "E=646"),
        ("locked-out", "E=647"),
        ("denied", "E=691"),
    ] {
        let request = world.request("User-Name = User", &microsoft);
        let came = world.play(request, &mut |_| Answer::Text(format!("{{\"status\":\"{status}\"}}")));
        let error = came.find(&dictionary, "MS-CHAP-Error").unwrap();
        assert!(error[1..].starts_with(code.as_bytes()), "{status}");
    }
    let request = world.request("User-Name = User", &microsoft);
    let came = world.play(request, &mut |_| Answer::Text(r#"{"status":"ok","sid":"S-1"}"#.into()));
    assert_eq!(came.code, None, "an ok without the key that goes with it is no answer");
    let chap = format!("User-Name = User, CHAP-Password = 0x01{}", "00".repeat(16));
    assert_eq!(world.ask(&chap).code, NO, "it is not asked");
}

#[test]
fn a_service_is_told_the_attributes_and_gives_verdicts_passwords_and_attributes() {
    let mut world = World::new(vec![service(Form::Json)]);
    let asked = "User-Name = bob, User-Password = \"s\\\"cret\", NAS-Port = 7, NAS-Port-Type = Ethernet, Class = 0x00ff, \
                 Framed-IP-Address = 192.0.2.1, Reply-Message = a, Reply-Message = b, Tunnel-Password:1 = \"tell\"";
    let play = |world: &mut World, attributes: &str, answer: &str| {
        let request = world.request(attributes, &[]);
        world.play(request, &mut |_| Answer::Text(answer.to_owned()))
    };
    let came = play(
        &mut world,
        asked,
        r#"{"status":"ok","message":"hi","reply":{"Session-Timeout":60,"Tunnel-Type:1":"VLAN","Filter-Id":["a","b"]}}"#,
    );
    assert_eq!(
        came.asked[0],
        r#"{"attributes":{"Class":"0x00ff","Framed-IP-Address":"192.0.2.1","NAS-Port":7,"NAS-Port-Type":"Ethernet","Reply-Message":["a","b"],"Tunnel-Password:1":"tell","User-Name":"bob","User-Password":"s\"cret"},"client":"nas","do":"radius","listener":"here","method":"pap","name":"bob"}"#
    );
    assert_eq!(came.code, YES);
    assert_eq!(
        came.shown(&world.dictionary),
        "Filter-Id = \"a\", Filter-Id = \"b\", Session-Timeout = 60, Tunnel-Type:1 = VLAN, Reply-Message = \"hi\""
    );
    let bob = "User-Name = bob, User-Password = secret";
    let with = |key: &str, value: &str| format!("{{\"status\":\"ok\",\"{key}\":\"{value}\"}}");
    for (answer, expected) in [
        (with("password", "secret"), YES),
        (with("password", SSHA), YES),
        (with("password", "other"), NO),
        (with("nt_hash", "878D8014606CDA29677A44EFA1353FC7"), YES),
        (with("nt_hash", "44EBBA8D5312B8D611474411F56989AE"), NO),
        (with("nt_hash", "44"), None),
        (r#"{"status":"wrong-password","message":"no"}"#.to_owned(), NO),
        (r#"{"status":"not-found"}"#.to_owned(), NO),
        (r#"{"status":"unavailable"}"#.to_owned(), None),
        (r#"{"status":"fine"}"#.to_owned(), None),
        (r#"["ok"]"#.to_owned(), None),
        (r#"{"status":"ok","reply":{"No-Such":1}}"#.to_owned(), None),
        (r#"{"status":"ok","reply":{"Session-Timeout":"soon"}}"#.to_owned(), None),
        (r#"{"status":"ok","reply":{"Session-Timeout":null}}"#.to_owned(), None),
    ] {
        assert_eq!(play(&mut world, bob, &answer).code, expected, "{answer}");
    }
    assert_eq!(
        play(&mut world, "User-Name = bob", r#"{"status":"ok"}"#).code,
        NO,
        "nothing was shown"
    );
}
