//! Replays the fuzzing corpora through the fuzz targets' own bodies, on any compiler, in every test run.
//!
//! The files named `seed-*` are written by our encoders: `USHERD_WRITE_SEEDS=1 cargo test -p usherd-wire --test corpus`
//! writes them anew. All others were found by fuzzing, or are inputs that once broke something; they stay.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::PathBuf;
use std::{env, fs};

use wire::ber;
use wire::dbus::{self, Kind, Message};
use wire::helper::{self, Call, Payload, Welcome};
use wire::ldap::control::{self, write_control};
use wire::ldap::grammar::{Limits, Scope, check_request, filter_tag};
use wire::ldap::message::{self, ChangeSpec, SearchSpec, oid};
use wire::ldap::{envelope, result};
use wire::rpc;

#[path = "../../fuzz/bodies/dbus.rs"]
mod dbus_body;
#[path = "../../fuzz/bodies/dn.rs"]
mod dn_body;
#[path = "../../fuzz/bodies/envelope.rs"]
mod envelope_body;
#[path = "../../fuzz/bodies/filter.rs"]
mod filter_body;
#[path = "../../fuzz/bodies/grammar.rs"]
mod grammar_body;
#[path = "../../fuzz/bodies/helper.rs"]
mod helper_body;
#[path = "../../fuzz/bodies/ldif.rs"]
mod ldif_body;
#[path = "../../fuzz/bodies/nslcd.rs"]
mod nslcd_body;
#[path = "../../fuzz/bodies/proxy_header.rs"]
mod proxy_header_body;
#[path = "seeds/proxy_header.rs"]
mod proxy_seeds;
#[path = "../../fuzz/bodies/python_connection.rs"]
mod python_connection_body;
#[path = "../../fuzz/bodies/radius_packet.rs"]
mod radius_packet_body;
#[path = "seeds/radius.rs"]
mod radius_seeds;
#[path = "../../fuzz/bodies/radius_text.rs"]
mod radius_text_body;
#[path = "../../fuzz/bodies/rpc.rs"]
mod rpc_body;
#[path = "../../fuzz/bodies/saslauthd.rs"]
mod saslauthd_body;
#[path = "../../fuzz/bodies/sync.rs"]
mod sync_body;
#[path = "../../fuzz/bodies/url.rs"]
mod url_body;

#[test]
fn envelope() {
    replay("envelope", &[requests(), responses()].concat(), envelope_body::run);
}

#[test]
fn grammar() {
    replay("grammar", &[requests(), responses()].concat(), grammar_body::run);
}

#[test]
fn dn() {
    replay("dn", &names(), dn_body::run);
}

#[test]
fn filter() {
    replay("filter", &filters(), filter_body::run);
}

#[test]
fn ldif() {
    replay("ldif", &files(), ldif_body::run);
}

#[test]
fn helper() {
    replay("helper", &datagrams(), helper_body::run);
}

#[test]
fn dbus_streams() {
    replay("dbus", &streams(), dbus_body::run);
}

#[test]
fn radius_packet() {
    replay("radius_packet", &radius_seeds::packets(), radius_packet_body::run);
}

#[test]
fn radius_text() {
    replay("radius_text", &radius_seeds::texts(), radius_text_body::run);
}

#[test]
fn rpc_frames() {
    replay("rpc", &frames(), rpc_body::run);
}

#[test]
fn python_connection() {
    replay("python_connection", &[], python_connection_body::run);
}

#[test]
fn nslcd() {
    replay("nslcd", &nslcd_requests(), nslcd_body::run);
}

#[test]
fn saslauthd() {
    let request = wire::saslauthd::Request {
        login: b"alice",
        password: b"secret",
        service: b"imap",
        realm: b"example.com",
    };
    replay("saslauthd", &[written(|out| request.write(out))], saslauthd_body::run);
}

#[test]
fn proxy_header() {
    replay("proxy_header", &proxy_seeds::all(), proxy_header_body::run);
}

#[test]
fn sync() {
    replay("sync", &synchronisations(), sync_body::run);
}

#[test]
fn url() {
    replay("url", &urls(), url_body::run);
}

/// The seeds on disk are what the encoders write today, and every file of the corpus goes through the target; so do all
/// beginnings of it and all single-bit changes, which costs little and needs no fuzzer.
fn replay(target: &str, seeds: &[Vec<u8>], run: fn(&[u8])) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/corpus")
        .join(target);
    for (number, seed) in seeds.iter().enumerate() {
        let path = folder.join(format!("seed-{number:02}"));
        if env::var_os("USHERD_WRITE_SEEDS").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, seed).unwrap();
        }
        let kept = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(
            &kept,
            seed,
            "{} is not what is written today; see the head of this file",
            path.display()
        );
    }
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        count += 1;
        run(&bytes);
        for cut in 0..bytes.len().min(2048) {
            run(&bytes[..cut]);
        }
        let mut changed = bytes.clone();
        for at in 0..bytes.len().min(2048) {
            for bit in 0..8 {
                changed[at] ^= 1 << bit;
                run(&changed);
                changed[at] ^= 1 << bit;
            }
        }
    }
    assert!(count >= seeds.len());
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn search(filter: &[u8], scope: Scope, attributes: &[&str]) -> Vec<u8> {
    let spec = SearchSpec {
        base: b"ou=people,dc=example,dc=com",
        scope,
        deref: 0,
        size_limit: 500,
        time_limit: 60,
        types_only: false,
        filter,
        attributes,
    };
    written(|out| message::write_search(out, 2, &spec))
}

/// `(&(|(cn=Ad*a)(sn~=Lo))(!(objectClass=*))(:caseIgnoreMatch:dn:=up)(age>=1))`, nearly.
fn compound_filter() -> Vec<u8> {
    let items: [&[u8]; 5] = [
        b"\xa4\x0d\x04\x02cn\x30\x07\x80\x02Ad\x82\x01a",
        b"\xa8\x08\x04\x02sn\x04\x02Lo",
        b"\xa2\x0d\x87\x0bobjectClass",
        b"\xa9\x0f\x81\x062.5.13\x83\x02up\x84\x01\xff".as_slice(),
        b"\xa5\x08\x04\x03age\x04\x011",
    ];
    written(|out| {
        ber::nest(out, filter_tag::AND, |out| {
            ber::nest(out, filter_tag::OR, |out| {
                items[..2].iter().for_each(|item| out.extend_from_slice(item))
            });
            items[2..].iter().for_each(|item| out.extend_from_slice(item));
        });
    })
}

fn requests() -> Vec<Vec<u8>> {
    let dn = b"uid=ada,ou=people,dc=example,dc=com";
    let equality = b"\xa3\x0a\x04\x03uid\x04\x03ada";
    let filter = compound_filter();
    let plain = search(equality, Scope::Subtree, &["cn", "mail"]);
    let mut with_controls = Vec::new();
    let mut paged = Vec::new();
    write_control(
        &mut paged,
        control::oid::PAGED_RESULTS,
        true,
        Some(b"\x30\x05\x02\x01\x64\x04\x00"),
    );
    write_control(&mut paged, control::oid::MANAGE_DSA_IT, false, None);
    let mut proxied = Vec::new();
    control::proxied_authorization(&mut proxied, b"dn:uid=ada,ou=people,dc=example,dc=com");
    envelope::write(
        &mut with_controls,
        70_000,
        envelope::peek(&plain).unwrap().op,
        &paged,
        &proxied,
    );
    let all = vec![
        written(|out| message::write_simple_bind(out, 1, dn, b"secret")),
        written(|out| message::write_simple_bind(out, 1, b"", b"")),
        written(|out| message::write_sasl_bind(out, 1, b"", "PLAIN", Some(b"\0ada\0secret"))),
        written(|out| message::write_sasl_bind(out, 1, b"", "EXTERNAL", None)),
        written(|out| message::write_unbind(out, 3)),
        plain,
        search(&filter, Scope::One, &[]),
        search(b"\xa0\x00", Scope::Base, &["*", "+"]),
        search(message::FILTER_ANY_ENTRY, Scope::Subordinate, &["1.1"]),
        with_controls,
        written(|out| message::write_compare(out, 4, dn, b"cn", b"Ada")),
        written(|out| message::write_add(out, 5, dn, &[(b"cn", &[b"Ada", b"Ada L"]), (b"sn", &[b"Lovelace"])])),
        written(|out| {
            let changes = [
                ChangeSpec {
                    operation: 2,
                    name: b"mail",
                    values: &[b"ada@example.com"],
                },
                ChangeSpec {
                    operation: 1,
                    name: b"title",
                    values: &[],
                },
            ];
            message::write_modify(out, 6, dn, &changes);
        }),
        written(|out| message::write_delete(out, 7, dn)),
        written(|out| message::write_modify_dn(out, 8, dn, b"uid=countess", true, Some(b"dc=example,dc=com"))),
        written(|out| message::write_abandon(out, 9, 2)),
        written(|out| message::write_cancel(out, 10, 2)),
        written(|out| message::write_extended_request(out, 11, oid::WHO_AM_I, None)),
        written(|out| message::write_password_modify(out, 12, None, Some(b"old"), Some(b"new"))),
    ];
    for request in &all {
        let envelope = envelope::peek(request).unwrap();
        assert_eq!(check_request(&envelope, &Limits::default()), Ok(()), "{request:02x?}");
    }
    all
}

fn responses() -> Vec<Vec<u8>> {
    use envelope::tag;
    vec![
        written(|out| result::write_result(out, 1, tag::BIND_RESPONSE, 49, b"", "no")),
        written(|out| result::write_bind(out, 1, 14, "", Some(b"challenge"))),
        written(|out| result::write_result(out, 2, tag::SEARCH_DONE, 32, b"dc=com", "no such object")),
        written(|out| result::write_extended(out, 11, 0, "", None, Some(b"dn:uid=ada"))),
        written(|out| result::write_notice_of_disconnection(out, 52, "draining")),
        written(|out| {
            let attributes: [(&[u8], &[&[u8]]); 2] = [(b"cn", &[b"Ada", b"Ada L"]), (b"mail", &[])];
            message::write_entry(
                out,
                2,
                b"uid=ada",
                attributes.map(|(name, values)| (name, values.iter().copied())),
            );
        }),
        written(|out| message::write_search_reference(out, 2, [&b"ldap://other.example.com/"[..]])),
        written(|out| message::write_intermediate(out, 2, Some(oid::SYNC_INFO), Some(b"\x80\x03abc"))),
        b"\x30\x0c\x02\x01\x02\x65\x07\x0a\x01\x0a\x04\x00\x04\x00".to_vec(),
        b"\x30\x84\x00\x00\x00\x05\x02\x01\x03\x42\x00".to_vec(),
    ]
}

fn frames() -> Vec<Vec<u8>> {
    vec![
        written(|out| rpc::write_hello(out, 1 << 20, "usherd/1")),
        written(|out| rpc::write_call(out, 1, 2000, "upper", b"hello").unwrap()),
        written(|out| rpc::write_reply_part(out, 1, b"HEL").unwrap()),
        written(|out| rpc::write_reply_done(out, 1, b"LO").unwrap()),
        written(|out| rpc::write_error(out, 2, rpc::ErrorCode::Crashed { status: -9 }, "helper ended")),
        written(|out| rpc::write_error(out, 0, rpc::ErrorCode::Protocol, "")),
        written(|out| rpc::write_cancel(out, 3).unwrap()),
        b"\xd5\x01\x02\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x01\x00\x08\x00\x00\x00\x01s\x01\x00\x02ab\x80\x00\x00x"
            .to_vec(),
        written(|out| rpc::write_hello_token(out, 1 << 20, "usherd/1", b"open sesame").unwrap()),
        written(|out| rpc::write_ask(out, 4, b"{\"prompts\":[]}").unwrap()),
        written(|out| rpc::write_input(out, 4, b"{\"answers\":[]}").unwrap()),
        written(|out| rpc::write_call_direct(out, 5, 0, "dump", b"all").unwrap()),
        written(|out| rpc::write_error(out, 6, rpc::ErrorCode::Failed { code: 1 }, "no such table")),
    ]
}

/// Each behind the byte that says how much memory is shared.
fn datagrams() -> Vec<Vec<u8>> {
    let call = Call {
        call: 7,
        deadline_ms: 2000,
        whole_bytes: 5,
        more: false,
        descriptor: false,
        payload: Payload::Inline(b"hello"),
    };
    let large = Call {
        whole_bytes: 5000,
        payload: Payload::Shared { offset: 0, bytes: 5000 },
        ..call
    };
    let welcome = Welcome {
        message_bytes_max: 131_072,
        shared_bytes: 131_072,
        call_bytes_max: 16 << 20,
        answer_bytes_max: 16 << 20,
        service: "upper",
    };
    let answer = Payload::Shared {
        offset: 32_640,
        bytes: 100,
    };
    let said = [
        written(|out| helper::write_welcome(out, &welcome).unwrap()),
        written(|out| {
            helper::write_welcome(
                out,
                &Welcome {
                    shared_bytes: 0,
                    ..welcome
                },
            )
            .unwrap()
        }),
        written(|out| helper::write_call(out, &call).unwrap()),
        written(|out| {
            helper::write_call(
                out,
                &Call {
                    whole_bytes: 6,
                    more: true,
                    ..call
                },
            )
            .unwrap()
        }),
        written(|out| {
            helper::write_call(
                out,
                &Call {
                    descriptor: true,
                    ..large
                },
            )
            .unwrap()
        }),
        written(|out| helper::write_interrupt(out, 7).unwrap()),
        written(|out| helper::write_input(out, 7, b"123456").unwrap()),
        written(helper::write_goodbye),
        written(|out| helper::write_ready(out, 1, "upper/1").unwrap()),
        written(|out| helper::write_part(out, 7, Payload::Inline(b"HEL")).unwrap()),
        written(|out| helper::write_done(out, 7, answer).unwrap()),
        written(|out| helper::write_error(out, 7, 1, "stopped").unwrap()),
        written(|out| helper::write_interrupted(out, 7).unwrap()),
        written(|out| helper::write_ask(out, 7, Payload::Inline(b"token?")).unwrap()),
    ];
    said.map(|datagram| [&[127], &datagram[..]].concat()).to_vec()
}

/// What helpers say over D-Bus: handshakes, and messages.
fn streams() -> Vec<Vec<u8>> {
    let ready = Message {
        path: Some("/org/usherd/Helper1"),
        interface: Some("org.usherd.Helper1"),
        member: Some("Ready"),
        signature: "usb",
        body: b"\x04\0\0\0\x07\0\0\0upper/1\0\x01\0\0\0",
        ..Message::new(Kind::Signal, 1)
    };
    let answer = Message {
        reply_serial: Some(16384),
        signature: "ay",
        body: b"\x05\0\0\0HELLO",
        ..Message::new(Kind::Return, 2)
    };
    let error = Message {
        reply_serial: Some(16384),
        error: Some("org.usherd.Error.Failed.Code7"),
        signature: "s",
        body: b"\x03\0\0\0why\0",
        ..Message::new(Kind::Error, 3)
    };
    let all = [ready, answer, error].map(|message| written(|out| dbus::write_message(out, &message).unwrap()));
    vec![
        b"\0AUTH EXTERNAL 30\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n".to_vec(),
        b"\0AUTH\r\nAUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n".to_vec(),
        b"\0ERROR there is no such user\r\n".to_vec(),
        all[0].clone(),
        all[1].clone(),
        all[2].clone(),
        all.concat(),
    ]
}

fn nslcd_requests() -> Vec<Vec<u8>> {
    use wire::nslcd::{Key, Map, Request, Who};
    let who = Who {
        user: b"alice",
        service: b"login",
        ruser: b"root",
        rhost: b"gate",
        tty: b"pts/0",
    };
    let look = |map, key| Request::Look { map, key };
    let requests = [
        Request::ConfigGet(1),
        look(Map::Passwd, Key::Name(b"alice")),
        look(Map::Passwd, Key::Id(1000)),
        look(Map::Group, Key::Member(b"alice")),
        look(Map::Shadow, Key::All),
        look(Map::Host, Key::Address(2, &[127, 0, 0, 1])),
        look(Map::Ether, Key::Ether([0, 1, 2, 3, 4, 5])),
        look(Map::Service, Key::ServiceName(b"ssh", b"tcp")),
        look(Map::Service, Key::ServicePort(22, b"")),
        Request::Authc {
            who,
            password: b"secret",
        },
        Request::Authz(who),
        Request::SessionOpen(who),
        Request::SessionClose { who, session: b"1" },
        Request::PasswordModify {
            who,
            as_root: false,
            old: b"secret",
            new: b"better",
        },
    ];
    let mut all: Vec<Vec<u8>> = requests
        .iter()
        .map(|request| written(|out| request.write(out)))
        .collect();
    all.push(b"\0\0\0\x02\0\x0e\0\x01\0\0\0\x01a\0\0\0\0\0\0\0\x01p\0\0\0\x08\0\0\0\x02sh\0\0\0\0".to_vec());
    all
}

fn synchronisations() -> Vec<Vec<u8>> {
    use wire::ldap::sync::{Mode, PhaseEnd, State, SyncDone, SyncIdSet, SyncInfo, SyncRequest, SyncState, Uuids};
    let csn = "20261126192216.123456Z#000001#001#000000";
    let cookie = format!("rid=001,sid=001,csn={csn};20261126192216.000000Z#000000#00a#000000");
    let cookie = Some(cookie.as_bytes());
    let request = SyncRequest {
        mode: Mode::RefreshAndPersist,
        cookie,
        reload_hint: true,
    };
    let state = SyncState {
        state: State::Add,
        uuid: *b"0123456789abcdef",
        cookie,
    };
    let done = SyncDone {
        cookie: None,
        refresh_deletes: true,
    };
    let end = PhaseEnd {
        cookie: Some(b"opaque"),
        refresh_done: false,
    };
    let set = written(|out| wire::ldap::sync::write_uuids(out, [state.uuid, [0xff; 16]]));
    let set = SyncIdSet {
        cookie: None,
        refresh_deletes: true,
        uuids: Uuids::new(&set).unwrap(),
    };
    let op = search_entry();
    let control = written(|out| state.write_control(out));
    let ended = written(|out| result::write_result(out, 2, envelope::tag::SEARCH_DONE, 0, b"", ""));
    let done_control = written(|out| done.write_control(out));
    vec![
        written(|out| request.write(out)),
        written(|out| state.write(out)),
        written(|out| done.write(out)),
        written(|out| SyncInfo::NewCookie(b"rid=000").write(out)),
        written(|out| SyncInfo::RefreshDelete(end).write(out)),
        written(|out| SyncInfo::RefreshPresent(end).write(out)),
        written(|out| SyncInfo::SyncIdSet(set).write(out)),
        written(|out| SyncInfo::SyncIdSet(set).write_message(out, 2)),
        written(|out| envelope::write(out, 2, envelope::peek(&op).unwrap().op, &[], &control)),
        written(|out| envelope::write(out, 2, envelope::peek(&ended).unwrap().op, &[], &done_control)),
        format!("rid=001,csn={csn}|rid=000,sid=002,csn=20261126192217.000000Z#000000#002#000000").into_bytes(),
        b"ldap.example.com:389#cn=feed:dc=x:(objectClass=*)#42|rid=000".to_vec(),
    ]
}

fn search_entry() -> Vec<u8> {
    let attributes: [(&[u8], &[&[u8]]); 2] = [(b"cn", &[b"Ada", b"Ada L"]), (b"mail", &[])];
    let attributes = attributes.map(|(name, values)| (name, values.iter().copied()));
    written(|out| message::write_entry(out, 2, b"uid=ada", attributes))
}

fn urls() -> Vec<Vec<u8>> {
    [
        "ldap://",
        "ldaps://[2001:db8::7]:6360/",
        "ldapi://%2Frun%2Fslapd%2Fldapi",
        "ldap://127.0.0.1:1389",
        "ldap://ldap1.example.net:6666/o=University%20of%20Michigan,c=US??sub?(cn=Babs%20Jensen)",
        "ldap:///dc=example?cn,mail?one??!e-bindname=cn=Manager%2cdc=example,x",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn names() -> Vec<Vec<u8>> {
    [
        "uid=ada,ou=people,dc=example,dc=com",
        "OU=Sales + CN=J.  Smith , DC=example",
        "CN=James \\\"Jim\\\" Smith\\, III,DC=net",
        "CN=Before\\0dAfter,DC=example",
        "1.3.6.1.4.1.1466.0=#04024869",
        "CN=Lu\\C4\\8Di\\C4\\87,O=\\20a\\20,C=\\#x",
        "o=Müller & Söhne",
        "cn=",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

fn filters() -> Vec<Vec<u8>> {
    let texts = [
        "(&(objectClass=Person)(|(sn=Jensen)(cn=Babs J*)))",
        "(o=univ*of*mich*)",
        "(!(cn=Tim Howes))",
        "(sn:dn:2.4.6.8.10:=Barney Rubble)",
        "(:dn:caseExactMatch:=Dino)",
        "(o=Parens \\28\\29\\2a\\5c\\00\\ff)",
        "(uidNumber>=1)",
        "(uidNumber<=1)",
        "(cn~=é)",
        "(&)",
        "(cn;lang-de=*)",
    ];
    let encoded = texts.map(|text| wire::ldap::filter::parse(text).unwrap());
    texts
        .map(|text| text.as_bytes().to_vec())
        .into_iter()
        .chain(encoded)
        .collect()
}

fn files() -> Vec<Vec<u8>> {
    [
        "version: 1\n# comment\n  goes on\ndn: dc=x\nobjectClass: domain\ndc: x\n\ndn:: dWlkPWFkYSxkYz14\nuid: a\n da\n",
        "dn: a=1\r\nchangetype: add\r\na: 1\r\n",
        "dn: a=1\nchangetype: delete\n",
        "dn: a=1\nchangetype: modify\nadd: b\nb: 1\nb:: Mg==\n-\ndelete: c\n-\nreplace: d\n",
        "dn: a=1\nchangetype: modrdn\nnewrdn: a=2\ndeleteoldrdn: 1\nnewsuperior: b=1\n",
        "dn: a=1\nphoto:< file:///x\n",
        "dn: a=1\ntitle;lang-de: é\n\n\n\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
