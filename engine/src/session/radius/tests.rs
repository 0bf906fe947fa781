use super::plan::{Backend, Chain, Form, Kind, Link, Mode, Service, Settings, Unavailable};
use super::*;
use crate::core::time::Span;
use crate::radius::clients::{Client, Clients, Network};
use std::sync::OnceLock;

use wire::radius::{Dictionary, Secret, Writer, number};

mod backends;
mod changes;
mod clocks;
mod devices;
mod lives;
mod methods;
mod rules;
mod services;
mod world;

/// Made once: it takes longer than any of these tests' lives.
fn dictionary() -> Arc<Dictionary> {
    static DICTIONARY: OnceLock<Arc<Dictionary>> = OnceLock::new();
    Arc::clone(DICTIONARY.get_or_init(|| Arc::new(Dictionary::standard())))
}

fn plan(unavailable: Unavailable, mode: Mode, services: usize) -> Arc<Plan> {
    let mut clients = Clients::default();
    clients
        .add(Client::new("c", b"s"), &[Network::read("10.0.0.1").unwrap()])
        .unwrap();
    let service = |pool: usize| Backend {
        name: pool.to_string(),
        kind: Kind::Service(Service {
            pool,
            form: Form::Winbind,
        }),
    };
    Arc::new(Plan {
        backends: (0..services).map(service).collect(),
        chains: vec![Chain {
            name: "all".into(),
            mode,
            links: (0..services).map(|backend| Link { backend, unavailable }).collect(),
        }],
        accounting: Accounting::Write,
        ..Plan::new(Port::Both, Arc::new(clients), dictionary())
    })
}

fn path(port: u16) -> Path {
    Path {
        from: std::net::SocketAddr::from(([10, 0, 0, 1], port)),
        to: None,
    }
}

fn request(code: Code, identifier: u8, variant: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = Writer::request(&mut out, code, identifier, &[variant; 16]);
    writer.attribute(number::USER_NAME, &[b'u', b'0' + variant]).unwrap();
    if code == Code::ACCESS_REQUEST {
        writer.user_password(b"secret", &Secret::new(b"s")).unwrap();
    }
    writer.finish(&Secret::new(b"s")).unwrap();
    out
}

/// What came of one request when its services answered so, one after the other; none: silence.
fn verdict(unavailable: Unavailable, mode: Mode, answers: &[&str]) -> Option<Code> {
    let mut front = Front::new(plan(unavailable, mode, answers.len()), 1);
    let (mut now, mut out) = (Instant::from_secs(9), Vec::new());
    front.received(&request(Code::ACCESS_REQUEST, 1, 1), &path(1), now, now, &mut out);
    let mut asked = 0;
    loop {
        match front.effect() {
            Some(Effect::Ask {
                request,
                pool,
                question,
                ..
            }) => {
                assert_eq!(pool, asked, "in their order");
                let answer = format!("{{\"status\":\"{}\"}}", answers[asked]);
                asked += 1;
                front.told(request, question.id, &Event::Answer(answer.as_bytes()), now, &mut out);
            }
            Some(Effect::Send { .. }) => {
                let secret = Secret::new(b"s");
                let reply = Packet::parse(&out).unwrap();
                assert!(reply.check_response(&secret, &[1; 16]));
                assert_eq!(front.waiting(), 0);
                return Some(reply.code());
            }
            Some(Effect::Dropped { why, .. }) => {
                assert_eq!(why, Dropped::Unavailable);
                return None;
            }
            Some(other) => panic!("{other:?}"),
            None => {
                now = front.wake_at().expect("it waits for something");
                front.tick(now, &mut out);
            }
        }
    }
}

#[test]
fn a_chain_means_what_it_says() {
    use Mode::{All, FallThrough, First};
    use Unavailable::{Next, Reject, Silence};
    let (yes, no) = (Some(Code::ACCESS_ACCEPT), Some(Code::ACCESS_REJECT));
    for (unavailable, mode, answers, expected) in [
        (Silence, First, &["ok"] as &[&str], yes),
        (Silence, First, &["wrong-password", "ok"], no),
        (Silence, First, &["not-found", "ok"], yes),
        (Silence, First, &["not-found", "not-found"], no),
        (Silence, First, &["unavailable", "ok"], None),
        (Silence, First, &["garbage"], None),
        (Reject, First, &["unavailable", "ok"], no),
        (Next, First, &["unavailable", "ok"], yes),
        (Next, First, &["unavailable", "not-found"], None),
        (Next, First, &["unavailable", "wrong-password"], no),
        (Next, First, &["unavailable", "unavailable"], None),
        (Silence, FallThrough, &["wrong-password", "ok"], yes),
        (Silence, FallThrough, &["wrong-password", "not-found"], no),
        (Silence, All, &["ok", "ok"], yes),
        (Silence, All, &["ok", "wrong-password"], no),
        (Silence, All, &["not-found", "ok"], no),
        (Next, All, &["unavailable", "ok"], None),
        (Next, All, &["ok", "unavailable"], None),
    ] {
        assert_eq!(
            verdict(unavailable, mode, answers),
            expected,
            "{unavailable:?} {mode:?} {answers:?}"
        );
    }
}

#[test]
fn status_is_answered_at_once_and_accounting_after_the_write() {
    let mut front = Front::new(plan(Unavailable::Silence, Mode::First, 1), 1);
    let (now, mut out) = (Instant::from_secs(9), Vec::new());
    front.received(&request(Code::STATUS_SERVER, 1, 1), &path(1), now, now, &mut out);
    assert!(matches!(front.effect(), Some(Effect::Send { .. })));
    assert_eq!(out[0], Code::ACCESS_ACCEPT.0);
    out.clear();
    front.received(&request(Code::ACCOUNTING_REQUEST, 2, 1), &path(1), now, now, &mut out);
    let Some(Effect::Record { request: id }) = front.effect() else {
        panic!("no record")
    };
    assert_eq!(front.record(id).unwrap().client, "c");
    assert!(out.is_empty());
    front.written(id, true, now, &mut out);
    assert_eq!(out[0], Code::ACCOUNTING_RESPONSE.0);
    assert!(front.record(id).is_none());
}
