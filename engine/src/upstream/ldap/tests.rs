//! What a server hears and how its words are understood.

use super::super::sasl;
use super::*;
use crate::core::arena::Handle;
use wire::frame::Step as Split;
use wire::ldap::envelope::{peek, split, write};
use wire::ldap::grammar;

const BIND: Option<Own<'static>> = Some(Own::Simple {
    dn: b"cn=usherd",
    password: b"secret",
});

fn ticket(n: u64) -> Ticket {
    Ticket(Handle::from_bits(n))
}

/// What was written: id, tag and operation of each message.
fn heard(out: &mut Vec<u8>) -> Vec<(i32, u8, Vec<u8>)> {
    let bytes = std::mem::take(out);
    let mut rest = &bytes[..];
    let mut all = Vec::new();
    while !rest.is_empty() {
        let Split::Frame { len } = split(rest, 1 << 20) else {
            panic!("{rest:02x?} is no message")
        };
        let env = peek(&rest[..len]).unwrap();
        all.push((env.id, env.tag, env.op.to_vec()));
        rest = &rest[len..];
    }
    all
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn answer(id: i32, tag: u8, code: u32) -> Vec<u8> {
    written(|out| result::write_result(out, id, tag, code, b"", ""))
}

fn search(id: i32) -> Vec<u8> {
    let spec = SearchSpec {
        base: b"dc=example",
        scope: Scope::Base,
        filter: message::FILTER_ANY_ENTRY,
        attributes: &[],
        deref: 0,
        size_limit: 0,
        time_limit: 0,
        types_only: false,
    };
    written(|out| message::write_search(out, id, &spec))
}

fn simple_bind(id: i32) -> Vec<u8> {
    written(|out| message::write_simple_bind(out, id, b"cn=ada", b"secret"))
}

fn entry(id: i32) -> Vec<u8> {
    written(|out| message::write_entry_with(out, id, b"cn=ada", |_| {}))
}

fn ready() -> Connection {
    let mut machine = Connection::new(Security::Plain);
    assert_eq!(machine.connected(None, &mut Vec::new()), Step::Ready);
    assert!(machine.is_ready());
    machine
}

fn send(machine: &mut Connection, n: u64, frame: &[u8]) -> i32 {
    machine.send(ticket(n), &peek(frame).unwrap(), b"", &mut Vec::new())
}

fn receive(machine: &mut Connection, frame: &[u8]) -> Result<Event, Malformed> {
    machine.receive(&peek(frame).unwrap(), &mut Vec::new())
}

fn done(n: u64, verdict: Verdict) -> Result<Event, Malformed> {
    Ok(Event::Reply {
        ticket: ticket(n),
        settlement: Settlement::Done(verdict),
    })
}

fn part(n: u64) -> Result<Event, Malformed> {
    Ok(Event::Reply {
        ticket: ticket(n),
        settlement: Settlement::Part,
    })
}

#[test]
fn a_plain_connection_binds_as_us_where_we_have_a_name() {
    let (mut machine, mut out) = (Connection::new(Security::Plain), Vec::new());
    assert_eq!(machine.connected(BIND, &mut out), Step::Wait);
    assert!(!machine.is_ready());
    let asked = heard(&mut out);
    let bind = grammar::bind(&asked[0].2).unwrap();
    assert_eq!((bind.name, bind.auth), (&b"cn=usherd"[..], Auth::Simple(b"secret")));
    // What is not ours is not waited for.
    let stray = answer(asked[0].0 + 1, tag::BIND_RESPONSE, 49);
    assert_eq!(machine.handshake(&peek(&stray).unwrap(), BIND, &mut out), Step::Wait);
    let yes = answer(asked[0].0, tag::BIND_RESPONSE, 0);
    assert_eq!(machine.handshake(&peek(&yes).unwrap(), BIND, &mut out), Step::Ready);
    assert!(machine.is_ready());
}

#[test]
fn a_server_that_refuses_us_or_answers_out_of_turn_is_no_use() {
    for (frame, refused) in [
        (answer(1, tag::BIND_RESPONSE, 49), Some(49)),
        (answer(1, tag::SEARCH_DONE, 0), None),
        (answer(0, tag::EXTENDED_RESPONSE, 0), None),
    ] {
        let mut machine = Connection::new(Security::Plain);
        machine.connected(BIND, &mut Vec::new());
        match machine.handshake(&peek(&frame).unwrap(), BIND, &mut Vec::new()) {
            Step::Refused(_, code) => assert_eq!(Some(code), refused),
            step => assert!(matches!(step, Step::Failed(_)) && refused.is_none(), "{step:?}"),
        }
        assert!(!machine.is_ready());
    }
}

#[test]
fn tls_comes_before_our_password() {
    let (mut machine, mut out) = (Connection::new(Security::Ldaps), Vec::new());
    assert_eq!(machine.connected(BIND, &mut out), Step::Tls);
    assert!(machine.expects_tls() && out.is_empty());
    assert_eq!(machine.tls_done(BIND, &mut out), Step::Wait);
    assert_eq!(heard(&mut out)[0].1, tag::BIND_REQUEST);

    for security in [Security::StartTlsRequired, Security::StartTlsTried] {
        let mut machine = Connection::new(security);
        assert_eq!(machine.connected(BIND, &mut out), Step::Wait);
        let asked = heard(&mut out);
        assert_eq!(grammar::extended(&asked[0].2).unwrap().oid, oid::START_TLS.as_bytes());
        assert!(!machine.expects_tls());
        let yes = answer(asked[0].0, tag::EXTENDED_RESPONSE, 0);
        assert_eq!(machine.handshake(&peek(&yes).unwrap(), BIND, &mut out), Step::Tls);
        assert!(machine.expects_tls() && out.is_empty());
        assert_eq!(machine.tls_done(None, &mut out), Step::Ready);
        assert!(!machine.expects_tls());
    }
}

#[test]
fn a_refused_starttls_is_borne_only_where_it_was_merely_tried() {
    for (security, goes_on) in [(Security::StartTlsRequired, false), (Security::StartTlsTried, true)] {
        let (mut machine, mut out) = (Connection::new(security), Vec::new());
        machine.connected(BIND, &mut out);
        out.clear();
        let no = answer(1, tag::EXTENDED_RESPONSE, 2);
        let step = machine.handshake(&peek(&no).unwrap(), BIND, &mut out);
        assert_eq!(matches!(step, Step::Refused(_, 2)), !goes_on);
        assert_eq!(
            heard(&mut out).first().map(|asked| asked.1),
            goes_on.then_some(tag::BIND_REQUEST)
        );
    }
}

#[test]
fn answers_find_their_tickets_in_any_order() {
    let mut machine = ready();
    let (first, second) = (send(&mut machine, 1, &search(7)), send(&mut machine, 2, &search(7)));
    assert_ne!(first, second);
    assert_eq!(receive(&mut machine, &entry(second)), part(2));
    assert_eq!(receive(&mut machine, &entry(first)), part(1));
    assert_eq!(
        receive(&mut machine, &answer(second, tag::SEARCH_DONE, 0)),
        done(2, Verdict::Well)
    );
    assert_eq!(
        receive(&mut machine, &answer(first, tag::SEARCH_DONE, 32)),
        done(1, Verdict::Well)
    );
    // Twice is once.
    assert_eq!(
        receive(&mut machine, &answer(first, tag::SEARCH_DONE, 0)),
        Ok(Event::Nothing)
    );
    assert_eq!(receive(&mut machine, &entry(second)), Ok(Event::Nothing));
}

#[test]
fn busy_and_unavailable_speak_against_the_server() {
    let mut machine = ready();
    for (code, verdict) in [
        (0, Verdict::Well),
        (49, Verdict::Well),
        (51, Verdict::Unwell),
        (52, Verdict::Unwell),
    ] {
        let id = send(&mut machine, 1, &search(1));
        assert_eq!(
            receive(&mut machine, &answer(id, tag::SEARCH_DONE, code)),
            done(1, verdict)
        );
    }
}

#[test]
fn a_request_is_sent_as_it_was_but_for_its_id_and_our_control() {
    let mut machine = ready();
    let own = written(|out| wire::ldap::control::proxied_authorization(out, b"u:ada"));
    let frame = {
        let plain = search(77);
        let env = peek(&plain).unwrap();
        written(|out| write(out, 77, env.op, b"\x30\x05\x04\x031.1", b""))
    };
    let (env, mut out) = (peek(&frame).unwrap(), Vec::new());
    let id = machine.send(ticket(1), &env, &own, &mut out);
    let sent = peek(&out).unwrap();
    assert_eq!((sent.id, sent.op), (id, env.op));
    assert_eq!(sent.controls, [b"\x30\x05\x04\x031.1", &own[..]].concat());
    // Binds take nothing of ours with them.
    let (bind, mut out) = (simple_bind(5), Vec::new());
    let env = peek(&bind).unwrap();
    let id = machine.send_bind(ticket(2), &env, Ask::Never, &[], &mut out);
    assert_eq!(heard(&mut out), [(id, tag::BIND_REQUEST, env.op.to_vec())]);
}

#[test]
fn an_answer_of_the_wrong_kind_breaks_the_protocol() {
    let compare = written(|out| message::write_compare(out, 1, b"cn=x", b"cn", b"x"));
    for request in [&search(1), &compare] {
        let mut machine = ready();
        let id = send(&mut machine, 1, request);
        assert_eq!(
            receive(&mut machine, &answer(id, tag::ADD_RESPONSE, 0)),
            Err(Malformed::BadOperation)
        );
    }
    let mut machine = ready();
    let id = send(&mut machine, 1, &compare);
    assert_eq!(receive(&mut machine, &entry(id)), Err(Malformed::BadOperation));
    // Any operation may have intermediate responses.
    let more = written(|out| message::write_intermediate(out, id, None, None));
    assert_eq!(receive(&mut machine, &more), part(1));
    // A final response without a code that can be read.
    let empty = written(|out| write(out, id, b"\x6f\x00", b"", b""));
    assert!(receive(&mut machine, &empty).is_err());
    // Servers ask nothing.
    assert_eq!(receive(&mut machine, &search(99)), Err(Malformed::BadOperation));
    let mut machine = ready();
    let bind = simple_bind(1);
    let id = machine.send_bind(ticket(1), &peek(&bind).unwrap(), Ask::First, &[], &mut Vec::new());
    assert_eq!(
        receive(&mut machine, &answer(id, tag::SEARCH_DONE, 0)),
        Err(Malformed::BadOperation)
    );
}

#[test]
fn who_am_i_is_asked_once_a_bind_has_succeeded() {
    for known in [true, false] {
        let (mut machine, bind, mut out) = (ready(), simple_bind(1), Vec::new());
        let id = machine.send_bind(ticket(1), &peek(&bind).unwrap(), Ask::First, &[], &mut out);
        out.clear();
        let yes = answer(id, tag::BIND_RESPONSE, 0);
        assert_eq!(
            machine.receive(&peek(&yes).unwrap(), &mut out),
            Ok(Event::BindHeld { ticket: ticket(1) })
        );
        let asked = heard(&mut out);
        assert_eq!(grammar::extended(&asked[0].2).unwrap().oid, oid::WHO_AM_I.as_bytes());
        // The bind's own answer does not come twice.
        assert_eq!(receive(&mut machine, &yes), Ok(Event::Nothing));
        let code = if known { 0 } else { code::PROTOCOL_ERROR };
        let said = written(|out| result::write_extended(out, asked[0].0, code, "", None, Some(b"u:ada")));
        assert_eq!(
            receive(&mut machine, &said),
            Ok(Event::BindIdentity {
                ticket: ticket(1),
                known
            })
        );
        assert_eq!(receive(&mut machine, &said), Ok(Event::Nothing));
    }
}

/// The bind's answer is not held back, and the question comes when it is wanted.
#[test]
fn who_am_i_can_be_asked_later() {
    let (mut machine, bind, mut out) = (ready(), simple_bind(1), Vec::new());
    let id = machine.send_bind(ticket(1), &peek(&bind).unwrap(), Ask::Later, &[], &mut out);
    out.clear();
    let yes = answer(id, tag::BIND_RESPONSE, 0);
    let event = machine.receive(&peek(&yes).unwrap(), &mut out);
    assert_eq!(event, Ok(Event::BindKept { ticket: ticket(1) }));
    assert_eq!(out, b"", "nothing is asked yet");
    machine.ask_whoami(ticket(1), &mut out);
    let asked = heard(&mut out);
    assert_eq!(grammar::extended(&asked[0].2).unwrap().oid, oid::WHO_AM_I.as_bytes());
    let said = written(|out| result::write_extended(out, asked[0].0, 0, "", None, Some(b"u:ada")));
    let named = Event::BindIdentity {
        ticket: ticket(1),
        known: true,
    };
    assert_eq!(receive(&mut machine, &said), Ok(named));
}

#[test]
fn only_another_final_answer_says_who_it_is_not() {
    let (mut machine, bind, mut out) = (ready(), simple_bind(1), Vec::new());
    let id = machine.send_bind(ticket(1), &peek(&bind).unwrap(), Ask::First, &[], &mut out);
    out.clear();
    let yes = answer(id, tag::BIND_RESPONSE, 0);
    machine.receive(&peek(&yes).unwrap(), &mut out).unwrap();
    let asked = heard(&mut out)[0].0;
    let more = written(|out| message::write_intermediate(out, asked, None, None));
    assert_eq!(receive(&mut machine, &more), Ok(Event::Nothing));
    let said = written(|out| result::write_extended(out, asked, 0, "", None, Some(b"u:ada")));
    let event = receive(&mut machine, &said);
    assert_eq!(
        event,
        Ok(Event::BindIdentity {
            ticket: ticket(1),
            known: true
        })
    );
}

#[test]
fn nobody_is_asked_after_a_bind_that_failed_or_whose_name_is_known() {
    for (ask, code) in [(Ask::First, 49), (Ask::Later, 49), (Ask::Never, 0), (Ask::Never, 49)] {
        let (mut machine, bind) = (ready(), simple_bind(1));
        let id = machine.send_bind(ticket(1), &peek(&bind).unwrap(), ask, &[], &mut Vec::new());
        let mut out = Vec::new();
        let event = machine.receive(&peek(&answer(id, tag::BIND_RESPONSE, code)).unwrap(), &mut out);
        assert_eq!((event, out), (done(1, Verdict::Well), vec![]));
    }
}

#[test]
fn an_abandoned_request_s_late_answers_come_to_nothing() {
    let (mut machine, mut out) = (ready(), Vec::new());
    let id = send(&mut machine, 1, &search(1));
    machine.abandon(id, &mut out);
    let told = heard(&mut out);
    let frame = written(|out| write(out, told[0].0, &told[0].2, b"", b""));
    assert_eq!(grammar::abandon_id(&peek(&frame).unwrap()), Some(id));
    assert_ne!(told[0].0, id);
    assert_eq!(receive(&mut machine, &entry(id)), Ok(Event::Nothing));
    assert_eq!(
        receive(&mut machine, &answer(id, tag::SEARCH_DONE, 0)),
        Ok(Event::Nothing)
    );
    machine.abandon(id, &mut out);
    assert_eq!(out, b"");
}

/// A request that was sent elsewhere under this number must not take another's with it.
#[test]
fn an_id_stands_for_one_ticket_alone() {
    let mut machine = ready();
    let id = send(&mut machine, 1, &search(1));
    assert!(machine.stands_for(id, ticket(1)));
    assert!(!machine.stands_for(id, ticket(2)) && !machine.stands_for(id + 1, ticket(1)));
    machine.abandon(id, &mut Vec::new());
    assert!(!machine.stands_for(id, ticket(1)));
}

#[test]
fn binds_and_probes_are_not_abandoned() {
    let (mut machine, mut out) = (ready(), Vec::new());
    let bind = simple_bind(1);
    let id = machine.send_bind(ticket(3), &peek(&bind).unwrap(), Ask::Never, &[], &mut Vec::new());
    machine.abandon(id, &mut out);
    machine.probe(&mut Vec::new());
    machine.abandon(id + 1, &mut out);
    assert_eq!(out, b"");
    assert_eq!(
        receive(&mut machine, &answer(id, tag::BIND_RESPONSE, 49)),
        done(3, Verdict::Well)
    );
    assert_eq!(
        receive(&mut machine, &answer(id + 1, tag::SEARCH_DONE, 0)),
        Ok(Event::Probe)
    );
}

#[test]
fn probes_ask_for_the_root_and_end_with_a_final_answer() {
    let (mut machine, mut out) = (ready(), Vec::new());
    machine.probe(&mut out);
    let asked = heard(&mut out);
    let search = grammar::search(&asked[0].2).unwrap();
    assert_eq!((search.base, search.scope), (&b""[..], Scope::Base));
    assert_eq!(receive(&mut machine, &entry(asked[0].0)), Ok(Event::Nothing));
    assert_eq!(
        receive(&mut machine, &answer(asked[0].0, tag::SEARCH_DONE, 50)),
        Ok(Event::Probe)
    );
    assert_eq!(
        receive(&mut machine, &answer(asked[0].0, tag::SEARCH_DONE, 0)),
        Ok(Event::Nothing)
    );
}

#[test]
fn only_a_notice_of_disconnection_is_one() {
    let mut machine = ready();
    let notice = written(|out| result::write_notice_of_disconnection(out, 52, ""));
    assert_eq!(receive(&mut machine, &notice), Ok(Event::Disconnection));
    let other = written(|out| result::write_extended(out, 0, 0, "", Some(oid::TRANSACTION_ABORTED), None));
    assert_eq!(receive(&mut machine, &other), Ok(Event::Nothing));
    assert_eq!(
        receive(&mut machine, &answer(0, tag::SEARCH_DONE, 0)),
        Ok(Event::Nothing)
    );
    // What is pending may still be answered.
    let id = send(&mut machine, 1, &search(1));
    assert_eq!(receive(&mut machine, &notice), Ok(Event::Disconnection));
    assert_eq!(
        receive(&mut machine, &answer(id, tag::SEARCH_DONE, 0)),
        done(1, Verdict::Well)
    );
}

fn account(mechanisms: &[sasl::Mechanism]) -> Arc<Account> {
    let who = sasl::Who {
        authcid: "usherd".into(),
        authzid: String::new(),
    };
    Arc::new(Account::new(mechanisms, &who, b"secret".to_vec().into(), 4096).unwrap())
}

fn by_sasl(account: &Arc<Account>) -> Option<Own<'_>> {
    Some(Own::Sasl {
        account,
        is_safe: false,
        chance: [1; CHANCE],
    })
}

/// The mechanism and the credentials of the last bind that was written.
fn asked(out: &mut Vec<u8>) -> (i32, Vec<u8>, Vec<u8>) {
    let (id, _, op) = heard(out).pop().unwrap();
    match grammar::bind(&op).unwrap() {
        grammar::BindRequest {
            name: b"",
            auth: Auth::Sasl { mechanism, credentials },
            ..
        } => (id, mechanism.to_vec(), credentials.unwrap().to_vec()),
        other => panic!("{other:?}"),
    }
}

fn step(
    machine: &mut Connection,
    (id, code, said): (i32, u32, Option<&[u8]>),
    bind: Option<Own<'_>>,
) -> (Step, Vec<u8>) {
    let mut out = Vec::new();
    let frame = written(|out| result::write_bind(out, id, code, "", said));
    let step = machine.handshake(&peek(&frame).unwrap(), bind, &mut out);
    (step, out)
}

#[test]
fn our_bind_by_sasl_goes_on_step_by_step() {
    let account = account(&[sasl::Mechanism::ScramSha256, sasl::Mechanism::External]);
    let bind = by_sasl(&account);
    let (mut machine, mut out) = (Connection::new(Security::Plain), Vec::new());
    assert_eq!(machine.connected(bind, &mut out), Step::Wait);
    let (id, mechanism, first) = asked(&mut out);
    assert_eq!(
        (mechanism.as_slice(), &first[..11]),
        (&b"SCRAM-SHA-256"[..], &b"n,,n=usherd"[..])
    );
    let nonce = String::from_utf8(first).unwrap().split_once("r=").unwrap().1.to_owned();
    let challenge = format!("r={nonce}x,s=AAAA,i=4096");
    // Its account may be gone by a reload meanwhile.
    let (next, mut out) = step(&mut machine, (id, 14, Some(challenge.as_bytes())), None);
    assert_eq!(next, Step::Wait);
    let (id, _, last) = asked(&mut out);
    assert!(last.starts_with(b"c=biws,r=") && !machine.is_ready());
    let (next, _) = step(&mut machine, (id, 0, Some(b"v=AAAA")), bind);
    assert!(
        matches!(next, Step::Failed(why) if why.contains("could not prove")),
        "{next:?}"
    );
    assert!(!machine.is_ready());

    let mut machine = Connection::new(Security::Plain);
    assert_eq!(machine.connected(bind, &mut out), Step::Wait);
    let (id, ..) = asked(&mut out);
    let (next, mut out) = step(&mut machine, (id, 7, None), bind);
    assert_eq!(next, Step::Wait);
    let (id, mechanism, credentials) = asked(&mut out);
    assert_eq!((mechanism.as_slice(), credentials.len()), (&b"EXTERNAL"[..], 0));
    assert_eq!(step(&mut machine, (id, 0, None), bind).0, Step::Ready);
    assert!(machine.is_ready());

    let mut machine = Connection::new(Security::Plain);
    machine.connected(bind, &mut out);
    let (id, ..) = asked(&mut out);
    let (next, _) = step(&mut machine, (id, 49, None), bind);
    assert_eq!(next, Step::Refused("our bind with SCRAM-SHA-256", 49));
}

#[test]
fn plain_waits_for_tls() {
    let account = account(&[sasl::Mechanism::Plain]);
    let bind = by_sasl(&account);
    let (mut machine, mut out) = (Connection::new(Security::Ldaps), Vec::new());
    assert_eq!(machine.connected(bind, &mut out), Step::Tls);
    assert!(out.is_empty());
    assert_eq!(machine.tls_done(bind, &mut out), Step::Wait);
    assert_eq!(asked(&mut out).2, b"\0usherd\0secret");
    // Where TLS was merely tried, and refused.
    let mut machine = Connection::new(Security::StartTlsTried);
    assert_eq!(machine.connected(bind, &mut out), Step::Wait);
    let no = answer(heard(&mut out)[0].0, tag::EXTENDED_RESPONSE, 2);
    let step = machine.handshake(&peek(&no).unwrap(), bind, &mut out);
    assert!(
        matches!(step, Step::Failed(why) if why.contains("PLAIN is not used")),
        "{step:?}"
    );
    assert!(out.is_empty());
    let mut machine = Connection::new(Security::Plain);
    let safe = Some(Own::Sasl {
        account: &account,
        is_safe: true,
        chance: [1; CHANCE],
    });
    assert_eq!(machine.connected(safe, &mut out), Step::Wait);
}

#[test]
fn gss_is_asked_elsewhere_and_the_bind_goes_on_with_what_it_answers() {
    use sasl::gssapi::{Context, Reply, Request};
    let account = account(&[sasl::Mechanism::Gssapi]);
    let bind = by_sasl(&account);
    let (mut machine, mut out) = (Connection::new(Security::Plain), Vec::new());
    assert_eq!(machine.connected(bind, &mut out), Step::Gss);
    assert!(out.is_empty(), "there is nothing to say yet");
    assert_eq!(machine.gss_request(), Some(Request::Initiate(None)));
    assert_eq!(machine.gss_request(), None, "once");
    // A server that speaks before it was spoken to is not listened to.
    assert_eq!(step(&mut machine, (1, 0, None), bind).0, Step::Wait);
    let initiated = |token: &[u8], context| Reply::Initiated {
        token: token.to_vec(),
        context,
    };
    assert_eq!(
        machine.gss_replied(initiated(b"token", Context::Begun), &mut out),
        Step::Wait
    );
    let (id, mechanism, said) = asked(&mut out);
    assert_eq!((mechanism.as_slice(), said.as_slice()), (&b"GSSAPI"[..], &b"token"[..]));
    assert_eq!(step(&mut machine, (id, 14, Some(b"proof")), None).0, Step::Gss);
    assert_eq!(machine.gss_request(), Some(Request::Initiate(Some(b"proof".to_vec()))));
    assert!(!machine.is_ready());
    // An answer that nothing was asked for.
    let mut machine = Connection::new(Security::Plain);
    machine.connected(None, &mut out);
    assert!(matches!(
        machine.gss_replied(Reply::Wrapped(Vec::new()), &mut out),
        Step::Failed(_)
    ));
}
