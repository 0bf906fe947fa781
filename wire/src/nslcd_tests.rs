use proptest::prelude::*;

use super::*;

fn who() -> Who<'static> {
    Who {
        user: b"alice",
        service: b"login",
        ruser: b"",
        rhost: b"gate",
        tty: b"pts/0",
    }
}

fn requests() -> Vec<Request<'static>> {
    let mut all = vec![
        Request::ConfigGet(1),
        Request::Authc {
            who: who(),
            password: b"secret",
        },
        Request::Authz(who()),
        Request::SessionOpen(who()),
        Request::SessionClose {
            who: who(),
            session: b"id",
        },
        Request::PasswordModify {
            who: who(),
            as_root: true,
            old: b"",
            new: b"new",
        },
        Request::UserModify {
            user: b"alice",
            as_root: false,
            password: b"secret",
            changes: Changes {
                rest: b"\0\0\0\x08\0\0\0\x02sh\0\0\0\0",
            },
        },
        Request::Look {
            map: Map::Group,
            key: Key::Member(b"alice"),
        },
        Request::Look {
            map: Map::Ether,
            key: Key::Ether([1, 2, 3, 4, 5, 6]),
        },
        Request::Look {
            map: Map::Service,
            key: Key::ServiceName(b"ssh", b"tcp"),
        },
        Request::Look {
            map: Map::Service,
            key: Key::ServicePort(22, b""),
        },
        Request::Look {
            map: Map::Host,
            key: Key::Address(2, &[127, 0, 0, 1]),
        },
    ];
    for map in Map::ALL {
        all.push(Request::Look { map, key: Key::All });
        if map != Map::Service {
            all.push(Request::Look {
                map,
                key: Key::Name(b"x"),
            });
        }
    }
    for map in [Map::Passwd, Map::Group, Map::Protocol, Map::Rpc] {
        all.push(Request::Look {
            map,
            key: Key::Id(100_000),
        });
    }
    all
}

#[test]
fn what_is_written_is_read_and_every_beginning_waits() {
    for request in requests() {
        let mut bytes = Vec::new();
        request.write(&mut bytes);
        for cut in 0..bytes.len() {
            let step = split(&bytes[..cut], REQUEST_BYTES_MAX);
            assert_eq!(step, Step::NeedMore { total: None }, "{request:?} cut at {cut}");
            assert!(Request::read(&bytes[..cut]).is_err());
        }
        bytes.push(7);
        let len = bytes.len() - 1;
        assert_eq!(split(&bytes, REQUEST_BYTES_MAX), Step::Frame { len }, "{request:?}");
        assert_eq!(Request::read(&bytes), Err(Malformed::TrailingBytes));
        assert_eq!(Request::read(&bytes[..len]), Ok(request));
    }
}

#[test]
fn the_bytes_are_those_of_the_modules() {
    let mut bytes = Vec::new();
    let request = Request::Look {
        map: Map::Passwd,
        key: Key::Name(b"ada"),
    };
    request.write(&mut bytes);
    assert_eq!(bytes, b"\0\0\0\x02\0\x08\0\x01\0\0\0\x03ada");
    let mut answer = Vec::new();
    begin(&mut answer, request.action());
    passwd(
        &mut answer,
        &Passwd {
            name: b"ada",
            password: b"*",
            uid: 1,
            gid: 0xffff_ffff,
            gecos: b"",
            home: b"/",
            shell: b"sh",
        },
    );
    end(&mut answer);
    assert_eq!(
        answer,
        b"\0\0\0\x02\0\x08\0\x01\0\0\0\x01\0\0\0\x03ada\0\0\0\x01*\0\0\0\x01\xff\xff\xff\xff\0\0\0\0\0\0\0\x01/\0\0\0\x02sh\0\0\0\x02"
    );
    let mut answer = Vec::new();
    authc(&mut answer, Pam::Success, b"ada", Pam::NewAuthTokenRequired, b"!");
    assert_eq!(answer, b"\0\0\0\x01\0\0\0\0\0\0\0\x03ada\0\0\0\x0c\0\0\0\x01!");
    let mut answer = Vec::new();
    group(&mut answer, b"g", b"*", 5, [b"a".as_slice(), b"bc"].into_iter());
    assert_eq!(
        answer,
        b"\0\0\0\x01\0\0\0\x01g\0\0\0\x01*\0\0\0\x05\0\0\0\x02\0\0\0\x01a\0\0\0\x02bc"
    );
}

#[test]
fn what_is_no_question_is_refused_at_once() {
    let refused = |bytes: &[u8]| split(bytes, REQUEST_BYTES_MAX);
    assert_eq!(refused(b"\0\0\0\x01"), Step::Malformed(Malformed::BadVersion));
    assert_eq!(
        refused(b"\0\0\0\x02\0\x0f\0\x01"),
        Step::Malformed(Malformed::BadOperation)
    );
    assert_eq!(
        refused(b"\0\0\0\x02\0\x0c\0\x02"),
        Step::Malformed(Malformed::BadOperation),
        "shadow by number"
    );
    assert_eq!(
        refused(b"\0\0\0\x02\0\x08\0\x01\xff\xff\xff\xff"),
        Step::Malformed(Malformed::TooLarge)
    );
    let mut many = b"\0\0\0\x02\0\x0e\0\x01\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    many.extend(b"\0\0\0\x01\0\0\0\0".repeat(CHANGES_MAX + 1));
    assert_eq!(
        refused(&many),
        Step::Malformed(Malformed::TooLarge),
        "changes without end"
    );
    let mut long = Vec::new();
    Request::Authz(Who {
        user: &[b'a'; 40_000],
        service: &[b'a'; 40_000],
        ..Who::default()
    })
    .write(&mut long);
    assert_eq!(refused(&long), Step::Malformed(Malformed::TooLarge));
    assert_eq!(
        refused(&long[..70_000]),
        Step::Malformed(Malformed::TooLarge),
        "before it is whole"
    );
}

proptest! {
    #[test]
    fn any_bytes_have_one_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200), action in 0_usize..40) {
        let mut framed = Vec::new();
        if let Some(request) = requests().get(action) {
            request.write(&mut framed);
            framed.truncate(8);
        }
        framed.extend(bytes);
        match split(&framed, REQUEST_BYTES_MAX) {
            Step::Frame { len } => {
                let mut again = Vec::new();
                Request::read(&framed[..len]).unwrap().write(&mut again);
                prop_assert_eq!(&again, &framed[..len]);
            }
            Step::NeedMore { .. } => prop_assert!(Request::read(&framed).is_err()),
            Step::Malformed(fault) => prop_assert_eq!(Request::read(&framed).err(), Some(fault)),
        }
    }
}
