//! Any bytes as a message of a synchronisation, as each of its values, and as cookies: what is read is written and read
//! again as the same, and merging cookies takes nothing back.

use wire::frame::Step;
use wire::ldap::envelope::{peek, split};
use wire::ldap::sync::cookie::{OpenLdap, merge};
use wire::ldap::sync::{SyncDone, SyncInfo, SyncMessage, SyncRequest, SyncState, read_message};

pub(crate) fn run(data: &[u8]) {
    if let Step::Frame { len } = split(data, 1 << 20)
        && let Some(frame) = data.get(..len)
        && let Ok(envelope) = peek(frame)
        && let Ok(SyncMessage::Entry { entry, .. }) = read_message(&envelope)
    {
        for attribute in entry.attributes {
            assert!(attribute.whole.len() > attribute.name.len());
            attribute.values.for_each(drop);
        }
    }
    if let Ok(request) = SyncRequest::read(data) {
        let bytes = written(|out| request.write(out));
        assert_eq!(SyncRequest::read(&bytes), Ok(request));
    }
    if let Ok(state) = SyncState::read(data) {
        let bytes = written(|out| state.write(out));
        assert_eq!(SyncState::read(&bytes), Ok(state));
    }
    if let Ok(done) = SyncDone::read(data) {
        let bytes = written(|out| done.write(out));
        assert_eq!(SyncDone::read(&bytes), Ok(done));
    }
    if let Ok(info) = SyncInfo::read(data) {
        let bytes = written(|out| info.write(out));
        let again = SyncInfo::read(&bytes).expect("what was written");
        assert_eq!(written(|out| again.write(out)), bytes);
    }
    cookies(data);
}

fn cookies(data: &[u8]) {
    let half = data.iter().position(|byte| *byte == b'|').unwrap_or(data.len());
    let (kept, new) = data.split_at(half);
    let new = new.strip_prefix(b"|").unwrap_or(new);
    let Some(merged) = merge(kept, new) else { return };
    assert_ne!(merged, kept);
    assert_eq!(merge(&merged, new), None, "said once more it says nothing");
    if let (Some(before), Some(after), Some(_)) =
        (OpenLdap::parse(kept), OpenLdap::parse(&merged), OpenLdap::parse(new))
    {
        for csn in before.csns() {
            let now = after.csns().iter().find(|now| now.server == csn.server);
            assert!(now.is_some_and(|now| now.text >= csn.text), "taken back: {csn:?}");
        }
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}
