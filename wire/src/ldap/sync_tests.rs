use super::*;
use crate::ldap::envelope::{self, peek};
use crate::ldap::result;
use proptest::prelude::*;

const UUID: [u8; 16] = *b"0123456789abcdef";

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

#[test]
fn the_request_is_written_as_the_rfc_has_it() {
    let request = SyncRequest {
        mode: Mode::RefreshAndPersist,
        cookie: Some(b"abc"),
        reload_hint: true,
    };
    assert_eq!(
        written(|out| request.write(out)),
        b"\x30\x0b\x0a\x01\x03\x04\x03abc\x01\x01\xff"
    );
    let bare = SyncRequest {
        mode: Mode::RefreshOnly,
        cookie: None,
        reload_hint: false,
    };
    assert_eq!(written(|out| bare.write(out)), b"\x30\x03\x0a\x01\x01");
    assert_eq!(SyncRequest::read(b"\x30\x03\x0a\x01\x01"), Ok(bare));
    // As OpenLDAP's own consumer writes it: with lengths of its liking.
    assert_eq!(SyncRequest::read(b"\x30\x84\0\0\0\x03\x0a\x01\x01"), Ok(bare));
    for wrong in [
        &b""[..],
        b"\x30\x00",
        b"\x30\x03\x0a\x01\x02",
        b"\x30\x03\x0a\x01\x01\x00",
        b"\x30\x05\x0a\x01\x01\x05\x00",
    ] {
        assert!(SyncRequest::read(wrong).is_err(), "{wrong:02x?}");
    }
}

#[test]
fn defaults_are_what_the_rfc_says() {
    // refreshDone is true, refreshDeletes is false where nothing is said.
    let SyncInfo::RefreshDelete(end) = SyncInfo::read(b"\xa1\x00").unwrap() else {
        panic!("refreshDelete")
    };
    assert!(end.refresh_done && end.cookie.is_none());
    let SyncInfo::RefreshPresent(end) = SyncInfo::read(b"\xa2\x03\x01\x01\x00").unwrap() else {
        panic!("refreshPresent")
    };
    assert!(!end.refresh_done);
    let SyncInfo::SyncIdSet(set) = SyncInfo::read(b"\xa3\x02\x31\x00").unwrap() else {
        panic!("syncIdSet")
    };
    assert!(!set.refresh_deletes && set.uuids.count() == 0);
    assert_eq!(SyncDone::read(b"\x30\x00"), Ok(SyncDone::default()));
}

#[test]
fn a_uuid_has_sixteen_octets() {
    assert!(SyncState::read(b"\x30\x07\x0a\x01\x01\x04\x02ab").is_err());
    assert!(SyncInfo::read(b"\xa3\x06\x31\x04\x04\x02ab").is_err());
    assert_eq!(Uuids::new(&[]).unwrap().next(), None);
}

#[test]
fn every_message_of_a_session_is_read() {
    let entry = written(|out| message::write_entry(out, 2, b"cn=a", [(&b"cn"[..], [&b"a"[..]])]));
    let state = SyncState {
        state: State::Add,
        uuid: UUID,
        cookie: Some(b"c"),
    };
    let control = written(|out| state.write_control(out));
    let with_state = written(|out| envelope::write(out, 2, peek(&entry).unwrap().op, &[], &control));
    match read_message(&peek(&with_state).unwrap()).unwrap() {
        SyncMessage::Entry { state: read, entry } => assert_eq!((read, entry.dn), (state, &b"cn=a"[..])),
        other => panic!("{other:?}"),
    }
    // An entry without it: the request was not understood.
    assert!(read_message(&peek(&entry).unwrap()).is_err());

    let reference = written(|out| message::write_search_reference(out, 2, [&b"ldap://x/"[..]]));
    assert!(matches!(
        read_message(&peek(&reference).unwrap()),
        Ok(SyncMessage::Reference { state: None, .. })
    ));

    let info = written(|out| SyncInfo::NewCookie(b"c").write_message(out, 2));
    assert!(matches!(
        read_message(&peek(&info).unwrap()),
        Ok(SyncMessage::Info(SyncInfo::NewCookie(b"c")))
    ));
    let other = written(|out| message::write_intermediate(out, 2, Some("1.2.3"), None));
    assert!(matches!(read_message(&peek(&other).unwrap()), Ok(SyncMessage::Other)));

    let result = written(|out| result::write_result(out, 2, tag::SEARCH_DONE, 0, b"", ""));
    assert!(matches!(
        read_message(&peek(&result).unwrap()),
        Ok(SyncMessage::Done { done: None, .. })
    ));
    let control = written(|out| {
        SyncDone {
            cookie: None,
            refresh_deletes: true,
        }
        .write_control(out)
    });
    let with_done = written(|out| envelope::write(out, 2, peek(&result).unwrap().op, &[], &control));
    match read_message(&peek(&with_done).unwrap()).unwrap() {
        SyncMessage::Done { done: Some(done), .. } => assert!(done.refresh_deletes),
        other => panic!("{other:?}"),
    }

    let bind = written(|out| result::write_bind(out, 2, 0, "", None));
    assert!(matches!(
        read_message(&peek(&bind).unwrap()),
        Err(Malformed::BadOperation)
    ));
}

fn cookie() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..200))
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        cookie in cookie(),
        flag in any::<bool>(),
        uuid in any::<[u8; 16]>(),
        uuids in prop::collection::vec(any::<[u8; 16]>(), 0..300),
        state in 0..4usize,
    ) {
        let cookie = cookie.as_deref();
        let mode = if flag { Mode::RefreshOnly } else { Mode::RefreshAndPersist };
        let request = SyncRequest { mode, cookie, reload_hint: flag };
        let bytes = written(|out| request.write(out));
        prop_assert_eq!(SyncRequest::read(&bytes), Ok(request));
        let state = [State::Present, State::Add, State::Modify, State::Delete][state];
        let state = SyncState { state, uuid, cookie };
        let bytes = written(|out| state.write(out));
        prop_assert_eq!(SyncState::read(&bytes), Ok(state));
        let done = SyncDone { cookie, refresh_deletes: flag };
        let bytes = written(|out| done.write(out));
        prop_assert_eq!(SyncDone::read(&bytes), Ok(done));
        let end = PhaseEnd { cookie, refresh_done: flag };
        let set = written(|out| write_uuids(out, uuids.iter().copied()));
        let set = SyncIdSet { cookie, refresh_deletes: flag, uuids: Uuids::new(&set).unwrap() };
        for info in [
            SyncInfo::NewCookie(cookie.unwrap_or_default()),
            SyncInfo::RefreshDelete(end),
            SyncInfo::RefreshPresent(end),
            SyncInfo::SyncIdSet(set),
        ] {
            let bytes = written(|out| info.write(out));
            let again = SyncInfo::read(&bytes).unwrap();
            prop_assert_eq!(format!("{again:?}"), format!("{info:?}"));
            prop_assert_eq!(written(|out| again.write(out)), bytes);
        }
        prop_assert_eq!(set.uuids.collect::<Vec<_>>(), uuids);
    }
}
