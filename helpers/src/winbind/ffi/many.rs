//! Questions about many SIDs or ids at once, and about aliases.

use std::ffi::c_int;
use std::ptr;

use super::layout::{DomainInfo, Sid, UnixId as WbcUnixId};
use super::{ENTRIES_MAX, Failure, Ids, Library, Owned, optional_text, slice};
use crate::identity::UnixId;

/// `enum wbcIdType`.
const TYPE_UID: c_int = 1;
const TYPE_GID: c_int = 2;
const TYPE_BOTH: c_int = 3;

impl Library {
    pub(super) fn names_of(&mut self, sids: &[String]) -> Result<Vec<(String, String, i32)>, Failure> {
        let ask = self.functions.lookup_sids.get()?;
        let context = self.context()?;
        let sids = self.sids(sids)?;
        let asked = c_int::try_from(sids.len()).map_err(|_| Failure::TooLong { what: "sids" })?;
        let (mut domains, mut unsaid, mut names) = (ptr::null_mut(), 0, ptr::null_mut());
        // SAFETY: a live context and `asked` SIDs of ours; writes two pointers and a number.
        let code = unsafe {
            ask(
                context,
                sids.as_ptr(),
                asked,
                &raw mut domains,
                &raw mut unsaid,
                &raw mut names,
            )
        };
        let (domains, names) = (self.owned(domains), self.owned(names));
        self.check(code)?;
        // SAFETY: on success there is one name for each SID, and a list of domains that ends with one without a name, until
        // they are dropped.
        let (domains, names) = unsafe { (ended(domains.as_ref()), slice(names.as_ref(), asked.unsigned_abs())) };
        if names.len() != sids.len() {
            return Err(Failure::Unreadable("fewer names than SIDs"));
        }
        let named = |index: c_int| {
            let domain = usize::try_from(index).ok().and_then(|index| domains.get(index));
            // SAFETY: null or a text that ends with zero, alive as long as `domains`.
            domain.and_then(|domain| unsafe { optional_text(domain.short_name) })
        };
        let all = names.iter().map(|name| {
            // SAFETY: likewise, as long as `names`.
            let text = unsafe { optional_text(name.name) };
            (
                named(name.domain_index).unwrap_or_default(),
                text.unwrap_or_default(),
                name.kind,
            )
        });
        Ok(all.collect())
    }

    pub(super) fn ids_of(&mut self, sids: &[String]) -> Result<Vec<Ids>, Failure> {
        let context = self.context()?;
        let sids = self.sids(sids)?;
        let asked = count(sids.len(), "sids")?;
        let mut found = vec![WbcUnixId::default(); sids.len()];
        // SAFETY: a live context; reads `asked` SIDs, writes as many ids.
        let code = unsafe { (self.functions.sids_to_unix_ids)(context, sids.as_ptr(), asked, found.as_mut_ptr()) };
        self.check(code)?;
        let all = found.iter().map(|found| match found.kind {
            TYPE_UID => (Some(found.id), None),
            TYPE_GID => (None, Some(found.id)),
            TYPE_BOTH => (Some(found.id), Some(found.id)),
            _ => (None, None),
        });
        Ok(all.collect())
    }

    pub(super) fn sids_of(&mut self, ids: &[UnixId]) -> Result<Vec<Option<String>>, Failure> {
        let ask = self.functions.unix_ids_to_sids.get()?;
        let context = self.context()?;
        let ids: Vec<WbcUnixId> = ids
            .iter()
            .map(|id| match *id {
                UnixId::Uid(id) => WbcUnixId { kind: TYPE_UID, id },
                UnixId::Gid(id) => WbcUnixId { kind: TYPE_GID, id },
            })
            .collect();
        let asked = count(ids.len(), "uids")?;
        let mut found = vec![Sid::default(); ids.len()];
        // SAFETY: a live context; reads `asked` ids, writes as many SIDs.
        let code = unsafe { ask(context, ids.as_ptr(), asked, found.as_mut_ptr()) };
        self.check(code)?;
        // An id without a SID has the null SID, or is left as it was.
        let all = found.iter().map(|sid| match sid.auths {
            0 => Ok(None),
            _ => self.sid_text(sid).map(Some),
        });
        all.collect()
    }

    pub(super) fn aliases_of(&mut self, sid: &str, domain: &str) -> Result<Vec<String>, Failure> {
        let ask = self.functions.sid_aliases.get()?;
        let context = self.context()?;
        let (mut sid, of) = (self.sid(sid)?, self.sid(domain)?);
        let (mut count, mut rids) = (0, ptr::null_mut());
        // SAFETY: a live context and two SIDs, one of them a list of one; writes a pointer and a number.
        let code = unsafe { ask(context, &raw const of, &raw mut sid, 1, &raw mut rids, &raw mut count) };
        let rids = self.owned(rids);
        self.check(code)?;
        // SAFETY: on success `count` numbers stand there, until `rids` is dropped.
        let numbers = unsafe { slice(rids.as_ref(), count) };
        Ok(numbers.iter().map(|rid: &u32| format!("{domain}-{rid}")).collect())
    }

    fn sids(&self, texts: &[String]) -> Result<Vec<Sid>, Failure> {
        texts.iter().map(|text| self.sid(text)).collect()
    }
}

/// The library has a place for the number of domains and leaves it as it was (4.17); it knows the end of the list as here.
///
/// # Safety
///
/// `domains` is none, or a list that ends with an entry whose `short_name` is null.
unsafe fn ended(domains: Option<&Owned<DomainInfo>>) -> &[DomainInfo] {
    let Some(domains) = domains else { return &[] };
    let first = domains.as_ptr();
    let mut count: u32 = 0;
    // SAFETY: reads no further than the end that the caller promises.
    unsafe {
        while (count as usize) < ENTRIES_MAX && !(*first.add(count as usize)).short_name.is_null() {
            count += 1;
        }
        slice(Some(domains), count)
    }
}

fn count(of: usize, what: &'static str) -> Result<u32, Failure> {
    u32::try_from(of).map_err(|_| Failure::TooLong { what })
}
