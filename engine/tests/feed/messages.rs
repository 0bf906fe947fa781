//! Messages of a provider, as bytes: what the consumer is told goes through the real decoder.

use wire::ldap::envelope::{self, peek, tag};
use wire::ldap::message;
use wire::ldap::result;
use wire::ldap::sync::{PhaseEnd, State, SyncDone, SyncIdSet, SyncInfo, SyncState, Uuids, write_uuids};

pub(crate) type Attributes = Vec<(String, Vec<Vec<u8>>)>;

pub(crate) fn entry(state: State, uuid: [u8; 16], dn: &str, attributes: &Attributes, cookie: Option<&str>) -> Vec<u8> {
    let mut op = Vec::new();
    let listed = attributes
        .iter()
        .map(|(name, values)| (name.as_bytes(), values.iter().map(Vec::as_slice)));
    message::write_entry(&mut op, 2, dn.as_bytes(), listed);
    let mut control = Vec::new();
    let state = SyncState {
        state,
        uuid,
        cookie: cookie.map(str::as_bytes),
    };
    state.write_control(&mut control);
    with_control(&op, &control)
}

pub(crate) fn refresh_delete(cookie: Option<&str>, refresh_done: bool) -> Vec<u8> {
    let cookie = cookie.map(str::as_bytes);
    info(&SyncInfo::RefreshDelete(PhaseEnd { cookie, refresh_done }))
}

pub(crate) fn refresh_present(cookie: Option<&str>, refresh_done: bool) -> Vec<u8> {
    let cookie = cookie.map(str::as_bytes);
    info(&SyncInfo::RefreshPresent(PhaseEnd { cookie, refresh_done }))
}

pub(crate) fn id_set(refresh_deletes: bool, uuids: &[[u8; 16]], cookie: Option<&str>) -> Vec<u8> {
    let mut set = Vec::new();
    write_uuids(&mut set, uuids.iter().copied());
    info(&SyncInfo::SyncIdSet(SyncIdSet {
        cookie: cookie.map(str::as_bytes),
        refresh_deletes,
        uuids: Uuids::new(&set).unwrap(),
    }))
}

pub(crate) fn new_cookie(cookie: &str) -> Vec<u8> {
    info(&SyncInfo::NewCookie(cookie.as_bytes()))
}

pub(crate) fn done(code: u32, text: &str, sync: Option<(Option<&str>, bool)>) -> Vec<u8> {
    let mut op = Vec::new();
    result::write_result(&mut op, 2, tag::SEARCH_DONE, code, b"", text);
    let mut control = Vec::new();
    if let Some((cookie, refresh_deletes)) = sync {
        let cookie = cookie.map(str::as_bytes);
        SyncDone {
            cookie,
            refresh_deletes,
        }
        .write_control(&mut control);
    }
    with_control(&op, &control)
}

fn info(info: &SyncInfo<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    info.write_message(&mut out, 2);
    out
}

fn with_control(message: &[u8], control: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    envelope::write(&mut out, 2, peek(message).unwrap().op, &[], control);
    out
}
