//! GSSAPI: each step in its turn, which layers are taken, and servers that leave the way early.

use super::super::{Account, CHANCE, Exchange, Mechanism, Turn, Who};
use super::*;
use std::sync::Arc;

const PROVED: Context = Context::Established {
    is_mutual: true,
    has_integrity: true,
};

fn begin(mechanisms: &[Mechanism]) -> (Exchange, Turn) {
    let who = Who {
        authcid: "user".into(),
        authzid: "u:other".into(),
    };
    let account = Account::new(mechanisms, &who, b"pencil".to_vec().into(), 4096).unwrap();
    Exchange::begin(&Arc::new(account), true, [9; CHANCE])
}

fn asked(turn: Turn) -> Request {
    match turn {
        Turn::Ask(request) => request,
        other => panic!("{other:?}"),
    }
}

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

fn token(token: &[u8], context: Context) -> Reply {
    Reply::Initiated {
        token: token.to_vec(),
        context,
    }
}

/// The first token is sent.
fn begun() -> Exchange {
    let (mut exchange, turn) = begin(&[Mechanism::Gssapi]);
    assert_eq!(asked(turn), Request::Initiate(None));
    let said = sent(exchange.replied(token(b"first", Context::Begun)));
    assert_eq!(said, ("GSSAPI", b"first".to_vec()));
    exchange
}

/// The context is established, and the server is to name its layers.
fn established() -> Exchange {
    let mut exchange = begun();
    let request = asked(exchange.answered(14, Some(b"proof")));
    assert_eq!(request, Request::Initiate(Some(b"proof".to_vec())));
    assert_eq!(sent(exchange.replied(token(b"", PROVED))).1, b"");
    exchange
}

/// What comes of a server's layers.
fn offered(layers: &[u8]) -> (Exchange, Turn) {
    let mut exchange = established();
    let request = asked(exchange.answered(14, Some(b"sealed")));
    assert_eq!(request, Request::Unwrap(b"sealed".to_vec()));
    let turn = exchange.replied(Reply::Unwrapped(layers.to_vec()));
    (exchange, turn)
}

/// Our choice is sent.
fn chosen() -> Exchange {
    let (mut exchange, turn) = offered(&[7, 1, 0, 0]);
    assert_eq!(asked(turn), Request::Wrap(b"\x01\0\0\0u:other".to_vec()));
    assert_eq!(sent(exchange.replied(Reply::Wrapped(b"choice".to_vec()))).1, b"choice");
    exchange
}

#[test]
fn a_bind_is_a_success_at_the_end_of_the_way() {
    assert!(matches!(chosen().answered(0, None), Turn::Bound));
    assert!(matches!(chosen().answered(0, Some(b"")), Turn::Bound));
    // The last token may be ours.
    let (mut exchange, _) = begin(&[Mechanism::Gssapi]);
    assert_eq!(sent(exchange.replied(token(b"all", PROVED))).1, b"all");
    let request = asked(exchange.answered(14, Some(b"sealed")));
    assert_eq!(request, Request::Unwrap(b"sealed".to_vec()));
}

#[test]
fn success_before_the_end_is_none() {
    for mut exchange in [begun(), established()] {
        assert_eq!(failed(exchange.answered(0, None)), UNPROVED);
    }
    assert_eq!(failed(begun().answered(0, Some(b"proof"))), UNPROVED);
    assert_eq!(failed(chosen().answered(0, Some(b"more"))), TALKATIVE);
}

#[test]
fn a_server_that_has_not_proved_itself_is_not_answered() {
    for (is_mutual, has_integrity) in [(false, true), (true, false), (false, false)] {
        let mut exchange = begun();
        asked(exchange.answered(14, Some(b"proof")));
        let context = Context::Established {
            is_mutual,
            has_integrity,
        };
        assert_eq!(failed(exchange.replied(token(b"", context))), NOT_MUTUAL);
    }
}

#[test]
fn only_no_layer_is_taken() {
    for layers in [[2, 1, 0, 0], [6, 0, 255, 0], [4, 0, 0, 0], [0, 0, 0, 0]] {
        assert_eq!(failed(offered(&layers).1), LAYER_WANTED, "{layers:?}");
    }
    for layers in [&[1, 0, 0, 1][..], &[1, 0, 0], &[1, 0, 0, 0, 0], &[]] {
        assert_eq!(failed(offered(layers).1), MALFORMED, "{layers:?}");
    }
    for layers in [[1, 0, 0, 0], [3, 0, 255, 255], [7, 1, 0, 0]] {
        asked(offered(&layers).1);
    }
}

#[test]
fn tokens_have_something_in_them_and_are_bounded_in_number() {
    for start in [begun, established, chosen] {
        assert_eq!(failed(start().answered(14, None)), NO_TOKEN);
        assert_eq!(failed(start().answered(14, Some(b""))), NO_TOKEN);
    }
    assert_eq!(failed(chosen().answered(14, Some(b"x"))), super::super::MORE_STEPS);
    let mut exchange = begun();
    for _ in 1..TOKENS_MAX {
        asked(exchange.answered(14, Some(b"x")));
        sent(exchange.replied(token(b"again", Context::Begun)));
    }
    asked(exchange.answered(14, Some(b"x")));
    assert_eq!(failed(exchange.replied(token(b"again", Context::Begun))), TOO_MANY);
}

#[test]
fn the_next_mechanism_is_for_servers_without_gssapi() {
    let two = || {
        let (mut exchange, _) = begin(&[Mechanism::Gssapi, Mechanism::Plain]);
        sent(exchange.replied(token(b"first", Context::Begun)));
        exchange
    };
    assert_eq!(sent(two().answered(7, None)).0, "PLAIN");
    assert!(matches!(
        two().answered(49, None),
        Turn::Refused("our bind with GSSAPI", 49)
    ));
    // Not half-way.
    let mut exchange = two();
    asked(exchange.answered(14, Some(b"proof")));
    sent(exchange.replied(token(b"", PROVED)));
    assert!(matches!(
        exchange.answered(7, None),
        Turn::Refused("our bind with GSSAPI", 7)
    ));
    assert!(matches!(
        chosen().answered(50, None),
        Turn::Refused("our bind with GSSAPI", 50)
    ));
}

#[test]
fn answers_out_of_turn_end_it() {
    let (mut exchange, _) = begin(&[Mechanism::Gssapi]);
    assert_eq!(failed(exchange.answered(14, Some(b"early"))), OUT_OF_TURN);
    assert_eq!(failed(begun().replied(Reply::Wrapped(Vec::new()))), OUT_OF_TURN);
    let (mut exchange, _) = begin(&[Mechanism::Gssapi]);
    assert_eq!(failed(exchange.replied(token(b"", Context::Begun))), OUT_OF_TURN);
    let (mut exchange, _) = begin(&[Mechanism::Plain]);
    assert!(failed(exchange.replied(Reply::Wrapped(Vec::new()))).contains("not asked"));
}
