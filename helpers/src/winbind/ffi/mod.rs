//! The one place where winbind is asked for real: libwbclient by dlopen, behind a safe face.
//!
//! - A context (`wbcContext`) is a connection to winbindd. One serves every call; a listing has one of its own, because winbindd
//!   keeps how far it has come with the connection. Neither outlives the [`Library`] that made it.
//! - What the library allocates is owned by [`Owned`] and freed exactly once; strings are copied out before that.
//! - What is longer than winbindd's own fields (255 bytes) is refused here: the library would cut it silently, and ask about
//!   somebody else.

mod asked;
mod convert;
mod functions;
mod layout;
mod logon;
mod many;

use std::ffi::{CString, c_char};
use std::ptr::{self, NonNull};
use std::rc::Rc;

use zeroize::Zeroizing;

use self::convert::{Owned, name_list, optional_text, read_group, read_user, text};
use self::functions::{Code, Functions};
use self::layout::{
    AuthErrorInfo, AuthPassword, AuthResponse, AuthUserInfo, AuthUserParams, ChangePassword, ChangePasswordParams,
    ChangeResponse, Context, PasswordPolicy, Sid,
};
use super::backend::{Account, Backend, Details, Failure, Ids, Listing, LoggedOn, Proof, Reject, Wanted};
use super::status::{AUTH_ERROR, DOMAIN_NOT_FOUND, INVALID_SID, PASSWORD_CHANGE_FAILED, SUCCESS};
use crate::CannotStart;
use crate::identity::{Domain, Group, GroupKey, Trust, UnixId, User, UserKey};

/// winbindd's fields for names and passwords have 256 bytes with the final zero.
const TEXT_BYTES_MAX: usize = 255;
/// Most entries that are believed of one answer.
const ENTRIES_MAX: usize = 1 << 20;

const LEVEL_PLAIN: u32 = 1;
const LEVEL_RESPONSE: u32 = 3;
/// The numbers of `wbcChangePasswordLevel` are its own.
const LEVEL_CHANGE_RESPONSE: u32 = 2;
/// Server and workstation accounts, and MS-CHAPv2 where a controller takes NTLMv1 for nothing else: 802.1X needs all three.
const RESPONSE_CONTROL: u32 = 0x0000_0020 | 0x0000_0800 | 0x0001_0000;

const DOMAIN_NATIVE: u32 = 1;
const DOMAIN_AD: u32 = 2;
const DOMAIN_PRIMARY: u32 = 4;
const DOMAIN_OFFLINE: u32 = 8;

/// The library, with its connections.
pub struct Library {
    // Dropped in this order: contexts before the functions that free them.
    main: Option<Connection>,
    listing: Option<Connection>,
    /// What is being listed there.
    listed: Option<Listing>,
    functions: Rc<Functions>,
}

/// One context.
struct Connection {
    context: NonNull<Context>,
    functions: Rc<Functions>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: made by `ctx_create`, freed only here, and nobody holds it: it is lent out by `&mut Library` alone.
        unsafe { (self.functions.ctx_free)(self.context.as_ptr()) }
    }
}

impl Library {
    /// Loads libwbclient. winbindd need not run: that is found out by each call.
    ///
    /// # Errors
    ///
    /// The library is not there, or too old.
    pub fn load() -> Result<Library, CannotStart> {
        Ok(Library {
            main: None,
            listing: None,
            listed: None,
            functions: Rc::new(Functions::load()?),
        })
    }

    fn connect(functions: &Rc<Functions>, place: &mut Option<Connection>) -> Result<*mut Context, Failure> {
        if place.is_none() {
            // SAFETY: takes nothing; gives a context that is ours to free, or null when memory is short.
            let made = unsafe { (functions.ctx_create)() };
            let context = NonNull::new(made).ok_or(Failure::Unreadable("no memory for a context"))?;
            *place = Some(Connection {
                context,
                functions: Rc::clone(functions),
            });
        }
        place
            .as_ref()
            .map(|connection| connection.context.as_ptr())
            .ok_or(Failure::Unreadable("no context"))
    }

    fn context(&mut self) -> Result<*mut Context, Failure> {
        Self::connect(&self.functions, &mut self.main)
    }

    /// The library's error, unless `code` is success.
    fn check(&self, code: Code) -> Result<(), Failure> {
        if code == SUCCESS {
            return Ok(());
        }
        // SAFETY: gives a text that is part of the library for every number, unknown ones included.
        let said = unsafe { optional_text((self.functions.error_string)(code)) };
        Err(Failure::Library {
            code,
            text: said.unwrap_or_default(),
        })
    }

    fn owned<T>(&self, pointer: *mut T) -> Option<Owned<T>> {
        // SAFETY: every caller passes what the library has just allocated for us, or null.
        unsafe { Owned::new(pointer, self.functions.free_memory) }
    }

    fn sid(&self, text: &str) -> Result<Sid, Failure> {
        let text = bounded(text, "sid")?;
        let mut sid = Sid::default();
        // SAFETY: reads a text that ends with zero, writes one SID into ours.
        let code = unsafe { (self.functions.string_to_sid)(text.as_ptr(), &raw mut sid) };
        // It has more than one way to say so.
        self.check(if code == SUCCESS { SUCCESS } else { INVALID_SID })?;
        Ok(sid)
    }

    fn sid_text(&self, sid: &Sid) -> Result<String, Failure> {
        let mut made: *mut c_char = ptr::null_mut();
        // SAFETY: reads one SID, of which `auths` may say more than there is room for: it is checked first.
        if usize::from(sid.auths) > sid.sub_auths.len() {
            return Err(Failure::Unreadable("a SID with more parts than a SID has"));
        }
        // SAFETY: as above; gives an allocated text on success.
        self.check(unsafe { (self.functions.sid_to_string)(sid, &raw mut made) })?;
        let made = self.owned(made).ok_or(Failure::Unreadable("no SID"))?;
        // SAFETY: the library wrote a text that ends with zero.
        unsafe { text(made.as_ptr()) }
    }

    fn sid_texts(&self, sids: &[Sid]) -> Result<Vec<String>, Failure> {
        sids.iter().map(|sid| self.sid_text(sid)).collect()
    }

    /// What a controller said, where it said something; else the library's own error.
    fn logon_failure(&self, code: Code, error: *mut AuthErrorInfo, reject: Option<Reject>) -> Failure {
        let said = self.owned(error);
        let library = self
            .check(code)
            .err()
            .unwrap_or(Failure::Unreadable("an error that is none"));
        match said {
            Some(error) if matches!(code, AUTH_ERROR | PASSWORD_CHANGE_FAILED) => {
                let error = error.get();
                // SAFETY: both are null or texts that end with zero, alive as long as `said`.
                let (display, name) = unsafe { (optional_text(error.display_string), optional_text(error.nt_string)) };
                Failure::Logon {
                    nt_status: error.nt_status,
                    text: display.or(name).unwrap_or_default(),
                    reject,
                }
            }
            _ => library,
        }
    }

    fn entry<T, V>(
        &self,
        code: Code,
        entry: *mut T,
        read: unsafe fn(*const T) -> Result<V, Failure>,
    ) -> Result<V, Failure> {
        let entry = self.owned(entry);
        self.check(code)?;
        let entry = entry.ok_or(Failure::Unreadable("no entry"))?;
        // SAFETY: on success the library gives one entry with all its texts, freed when `entry` is dropped; `read` copies.
        unsafe { read(entry.as_ptr()) }
    }

    fn next<T, V>(
        &mut self,
        call: fn(&Functions) -> unsafe extern "C" fn(*mut Context, *mut *mut T) -> Code,
        read: unsafe fn(*const T) -> Result<V, Failure>,
    ) -> Result<Option<V>, Failure> {
        let context = Self::connect(&self.functions, &mut self.listing)?;
        let mut entry = ptr::null_mut();
        // SAFETY: a live context; writes one pointer.
        let code = unsafe { call(&self.functions)(context, &raw mut entry) };
        if code == DOMAIN_NOT_FOUND {
            return Ok(None);
        }
        self.entry(code, entry, read).map(Some)
    }

    fn list(
        &mut self,
        call: fn(
            &Functions,
        )
            -> unsafe extern "C" fn(*mut Context, *const c_char, *mut u32, *mut *mut *const c_char) -> Code,
        domain: Option<&str>,
    ) -> Result<Vec<String>, Failure> {
        let context = self.context()?;
        let domain = domain.map(|domain| bounded(domain, "domain")).transpose()?;
        let (mut count, mut names) = (0, ptr::null_mut());
        let domain = domain.as_ref().map_or(ptr::null(), |domain| domain.as_ptr());
        // SAFETY: a live context, a text or null; writes a number and a pointer.
        let code = unsafe { call(&self.functions)(context, domain, &raw mut count, &raw mut names) };
        let names = self.owned(names);
        self.check(code)?;
        let names = names.as_ref().map_or(ptr::null(), |names| names.as_ptr().cast_const());
        // SAFETY: on success there are `count` texts behind it, alive until it is freed after this.
        unsafe { name_list(names, (count as usize).min(ENTRIES_MAX)) }
    }
}

/// A text for the library, unless winbindd's field is too short for it.
fn bounded(text: &str, what: &'static str) -> Result<CString, Failure> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(Failure::TooLong { what });
    }
    CString::new(text).map_err(|_| Failure::TooLong { what })
}

/// Likewise, wiped afterwards.
fn secret(text: &str, what: &'static str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if text.len() > TEXT_BYTES_MAX || text.contains('\0') {
        return Err(Failure::TooLong { what });
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() + 1));
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    Ok(bytes)
}

/// `count` values behind what the library gave.
///
/// # Safety
///
/// If `from` is something, `count` valid values stand there.
unsafe fn slice<T>(from: Option<&Owned<T>>, count: u32) -> &[T] {
    // SAFETY: the caller's promise.
    from.map_or(&[], |from| unsafe { raw_slice(from.as_ptr(), count) })
}

/// # Safety
///
/// `from` is null, or `count` valid values stand there for as long as `'a`.
unsafe fn raw_slice<'a, T>(from: *const T, count: u32) -> &'a [T] {
    if from.is_null() {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(from, (count as usize).min(ENTRIES_MAX)) }
}
