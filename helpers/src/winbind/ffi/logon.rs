//! Logons to a domain as pam_winbind makes them: with a Kerberos ticket, or by what the last logon left.
//!
//! What is wanted goes to the library as named blobs. Their names, and the flags, are those that pam_winbind uses.

use std::ffi::CStr;
use std::ptr;

use super::layout::{Blob, LogoffUserParams, LogonUserInfo, LogonUserParams, NamedBlob};
use super::{Failure, Library, LoggedOn, SUCCESS, Wanted, bounded, raw_slice, secret};
use crate::identity::TicketCache;

/// `WBFLAG_PAM_CONTACT_TRUSTDOM`: a ticket comes from the user's own domain.
const CONTACT_TRUSTED: u32 = 0x0000_0010;
/// `WBFLAG_PAM_KRB5`.
const KERBEROS: u32 = 0x0000_2000;
/// `WBFLAG_PAM_FALLBACK_AFTER_KRB5`: by NTLM where the domain has no Kerberos.
const FALLBACK: u32 = 0x0000_4000;
/// `WBFLAG_PAM_CACHED_LOGIN`.
const CACHED: u32 = 0x0000_8000;
/// `NETLOGON_CACHED_ACCOUNT` (MS-NRPC 2.2.1.4.11, user flags): the verdict is the cache's.
const VERDICT_OF_THE_CACHE: u32 = 0x0000_0004;

impl Library {
    pub(super) fn logon(&mut self, name: &str, password: &str, wanted: &Wanted) -> Result<LoggedOn, Failure> {
        let ask = self.functions.log_on.get()?;
        let context = self.context()?;
        let (name, password) = (bounded(name, "name")?, secret(password, "password")?);
        let mut flags = 0;
        if wanted.kerberos {
            flags |= KERBEROS | FALLBACK | CONTACT_TRUSTED;
        }
        if wanted.cached {
            flags |= CACHED;
        }
        let mut flags = flags.to_ne_bytes();
        let (mut place, mut uid) = (Vec::new(), [0; 4]);
        if let Some((cache, of)) = wanted.ticket {
            place = match cache {
                TicketCache::File => b"FILE\0".to_vec(),
                TicketCache::Keyring => b"KEYRING\0".to_vec(),
                TicketCache::Kcm => b"KCM\0".to_vec(),
            };
            uid = of.to_ne_bytes();
        }
        let mut blobs = vec![blob(c"flags", &mut flags)];
        if !place.is_empty() {
            blobs.push(blob(c"krb5_cc_type", &mut place));
            blobs.push(blob(c"user_uid", &mut uid));
        }
        let parameters = LogonUserParams {
            username: name.as_ptr(),
            password: password.as_ptr().cast(),
            num_blobs: blobs.len(),
            blobs: blobs.as_mut_ptr(),
        };
        let (mut info, mut error, mut policy) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
        // SAFETY: a live context; every pointer in `parameters` is to something of ours that outlives the call; writes three
        // pointers, each null or allocated for us.
        let code = unsafe {
            ask(
                context,
                &raw const parameters,
                &raw mut info,
                &raw mut error,
                &raw mut policy,
            )
        };
        drop(self.owned(policy));
        let info = self.owned(info);
        if code != SUCCESS {
            return Err(self.logon_failure(code, error, None));
        }
        drop(self.owned(error));
        let info = info.ok_or(Failure::Unreadable("no logon"))?;
        self.logged_on(info.get())
    }

    fn logged_on(&self, logon: &LogonUserInfo) -> Result<LoggedOn, Failure> {
        // SAFETY: null or one account that the logon owns and nobody else looks at, alive as long as `logon`.
        let info = unsafe { logon.info.as_mut() }.ok_or(Failure::Unreadable("no account"))?;
        let cached = info.user_flags & VERDICT_OF_THE_CACHE != 0;
        let count = u32::try_from(logon.num_blobs).unwrap_or(0);
        // SAFETY: `num_blobs` of them stand there, alive as long as `logon`, with names that end with zero.
        let found = unsafe { raw_slice(logon.blobs.cast_const(), count) };
        let cache = found.iter().find(|blob| {
            // SAFETY: likewise.
            !blob.name.is_null() && unsafe { CStr::from_ptr(blob.name) } == c"krb5ccname"
        });
        Ok(LoggedOn {
            account: self.account(info)?,
            // SAFETY: likewise.
            krb5_cache: cache.and_then(|cache| unsafe { blob_text(&cache.blob) }),
            cached,
        })
    }

    pub(super) fn logoff(&mut self, name: &str, uid: u32, krb5_cache: Option<&str>) -> Result<(), Failure> {
        let ask = self.functions.log_off.get()?;
        let context = self.context()?;
        let name = bounded(name, "name")?;
        let (mut flags, mut uid) = (KERBEROS.to_ne_bytes(), uid.to_ne_bytes());
        let mut place = krb5_cache
            .map(|cache| bounded(cache, "krb5_cache").map(|text| text.into_bytes_with_nul()))
            .transpose()?;
        let mut blobs = vec![blob(c"user_uid", &mut uid)];
        if let Some(place) = &mut place {
            blobs.push(blob(c"ccfilename", place));
            blobs.push(blob(c"flags", &mut flags));
        }
        let parameters = LogoffUserParams {
            username: name.as_ptr(),
            num_blobs: blobs.len(),
            blobs: blobs.as_mut_ptr(),
        };
        let mut error = ptr::null_mut();
        // SAFETY: as for `logon`; writes one pointer.
        let code = unsafe { ask(context, &raw const parameters, &raw mut error) };
        if code != SUCCESS {
            return Err(self.logon_failure(code, error, None));
        }
        drop(self.owned(error));
        Ok(())
    }
}

/// A value of ours under a name; it must not outlive them.
fn blob(name: &'static CStr, value: &mut [u8]) -> NamedBlob {
    NamedBlob {
        name: name.as_ptr(),
        flags: 0,
        blob: Blob {
            data: value.as_mut_ptr(),
            length: value.len(),
        },
    }
}

/// A blob that is a text, with its zero or without.
///
/// # Safety
///
/// `length` bytes stand behind its `data`, or it is null.
unsafe fn blob_text(blob: &Blob) -> Option<String> {
    let length = u32::try_from(blob.length).ok()?;
    // SAFETY: the caller's promise.
    let bytes = unsafe { raw_slice(blob.data.cast_const(), length) };
    let text = CStr::from_bytes_until_nul(bytes).map_or(bytes, CStr::to_bytes);
    std::str::from_utf8(text)
        .ok()
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}
