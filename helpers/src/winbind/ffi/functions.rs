//! libwbclient, found at run time.

use std::ffi::{c_char, c_int};

use libloading::Library;

use super::Failure;
use super::layout::{
    AuthErrorInfo, AuthUserInfo, AuthUserParams, ChangePasswordParams, Context, DomainInfo, InterfaceDetails,
    LogoffUserParams, LogonUserInfo, LogonUserParams, PasswordPolicy, Sid, TranslatedName, UnixId,
};
use crate::CannotStart;

/// The library's name; its major version is 0 as long as its interface stays compatible.
const LIBRARY: &str = "libwbclient.so.0";

/// `wbcErr`.
pub(super) type Code = u32;
type Names = *mut *const c_char;

type GetSidAliases = unsafe extern "C" fn(*mut Context, *const Sid, *mut Sid, u32, *mut *mut u32, *mut u32) -> Code;
type LookupSids = unsafe extern "C" fn(
    *mut Context,
    *const Sid,
    c_int,
    *mut *mut DomainInfo,
    *mut c_int,
    *mut *mut TranslatedName,
) -> Code;
type UnixIdsToSids = unsafe extern "C" fn(*mut Context, *const UnixId, u32, *mut Sid) -> Code;
type LogonUser = unsafe extern "C" fn(
    *mut Context,
    *const LogonUserParams,
    *mut *mut LogonUserInfo,
    *mut *mut AuthErrorInfo,
    *mut *mut PasswordPolicy,
) -> Code;
type LogoffUserEx = unsafe extern "C" fn(*mut Context, *const LogoffUserParams, *mut *mut AuthErrorInfo) -> Code;

/// A function that only one kind of request needs: a library without it serves all others.
pub(super) struct Optional<T> {
    name: &'static str,
    found: Option<T>,
}

impl<T: Copy> Optional<T> {
    /// The function, or its name.
    pub(super) fn get(&self) -> Result<T, Failure> {
        self.found.ok_or(Failure::Missing(self.name))
    }
}

/// The functions, each with the type that the header gives it.
pub(super) struct Functions {
    pub(super) ctx_create: unsafe extern "C" fn() -> *mut Context,
    pub(super) ctx_free: unsafe extern "C" fn(*mut Context),
    pub(super) free_memory: unsafe extern "C" fn(*mut std::ffi::c_void),
    pub(super) error_string: unsafe extern "C" fn(Code) -> *const c_char,
    pub(super) interface_details: unsafe extern "C" fn(*mut Context, *mut *mut InterfaceDetails) -> Code,
    pub(super) sid_to_string: unsafe extern "C" fn(*const Sid, *mut *mut c_char) -> Code,
    pub(super) string_to_sid: unsafe extern "C" fn(*const c_char, *mut Sid) -> Code,
    pub(super) ping: unsafe extern "C" fn(*mut Context) -> Code,
    pub(super) ping_dc:
        unsafe extern "C" fn(*mut Context, *const c_char, *mut *mut AuthErrorInfo, *mut *mut c_char) -> Code,
    pub(super) domain_info: unsafe extern "C" fn(*mut Context, *const c_char, *mut *mut DomainInfo) -> Code,
    pub(super) list_trusts: unsafe extern "C" fn(*mut Context, *mut *mut DomainInfo, *mut usize) -> Code,
    pub(super) getpwnam: unsafe extern "C" fn(*mut Context, *const c_char, *mut *mut libc::passwd) -> Code,
    pub(super) getpwuid: unsafe extern "C" fn(*mut Context, u32, *mut *mut libc::passwd) -> Code,
    pub(super) getpwsid: unsafe extern "C" fn(*mut Context, *mut Sid, *mut *mut libc::passwd) -> Code,
    pub(super) getgrnam: unsafe extern "C" fn(*mut Context, *const c_char, *mut *mut libc::group) -> Code,
    pub(super) getgrgid: unsafe extern "C" fn(*mut Context, u32, *mut *mut libc::group) -> Code,
    pub(super) get_groups: unsafe extern "C" fn(*mut Context, *const c_char, *mut u32, *mut *mut u32) -> Code,
    pub(super) setpwent: unsafe extern "C" fn(*mut Context) -> Code,
    pub(super) getpwent: unsafe extern "C" fn(*mut Context, *mut *mut libc::passwd) -> Code,
    pub(super) endpwent: unsafe extern "C" fn(*mut Context) -> Code,
    pub(super) setgrent: unsafe extern "C" fn(*mut Context) -> Code,
    pub(super) getgrent: unsafe extern "C" fn(*mut Context, *mut *mut libc::group) -> Code,
    pub(super) endgrent: unsafe extern "C" fn(*mut Context) -> Code,
    pub(super) lookup_name:
        unsafe extern "C" fn(*mut Context, *const c_char, *const c_char, *mut Sid, *mut c_int) -> Code,
    pub(super) lookup_sid:
        unsafe extern "C" fn(*mut Context, *const Sid, *mut *mut c_char, *mut *mut c_char, *mut c_int) -> Code,
    pub(super) lookup_user_sids: unsafe extern "C" fn(*mut Context, *const Sid, bool, *mut u32, *mut *mut Sid) -> Code,
    pub(super) list_users: unsafe extern "C" fn(*mut Context, *const c_char, *mut u32, *mut Names) -> Code,
    pub(super) list_groups: unsafe extern "C" fn(*mut Context, *const c_char, *mut u32, *mut Names) -> Code,
    pub(super) sids_to_unix_ids: unsafe extern "C" fn(*mut Context, *const Sid, u32, *mut UnixId) -> Code,
    pub(super) uid_to_sid: unsafe extern "C" fn(*mut Context, u32, *mut Sid) -> Code,
    pub(super) gid_to_sid: unsafe extern "C" fn(*mut Context, u32, *mut Sid) -> Code,
    pub(super) authenticate: unsafe extern "C" fn(
        *mut Context,
        *const AuthUserParams,
        *mut *mut AuthUserInfo,
        *mut *mut AuthErrorInfo,
    ) -> Code,
    pub(super) change_password: unsafe extern "C" fn(
        *mut Context,
        *const ChangePasswordParams,
        *mut *mut AuthErrorInfo,
        *mut c_int,
        *mut *mut PasswordPolicy,
    ) -> Code,
    pub(super) sid_aliases: Optional<GetSidAliases>,
    pub(super) lookup_sids: Optional<LookupSids>,
    pub(super) unix_ids_to_sids: Optional<UnixIdsToSids>,
    pub(super) log_on: Optional<LogonUser>,
    pub(super) log_off: Optional<LogoffUserEx>,
    /// Last, so that it is unloaded after everything that points into it.
    _library: Library,
}

impl Functions {
    /// Loads the library.
    pub(super) fn load() -> Result<Functions, CannotStart> {
        let absent = |error: libloading::Error| {
            CannotStart(format!(
                "winbind: {LIBRARY} cannot be loaded: install the package libwbclient0 (and winbind, which answers it). {error}"
            ))
        };
        // SAFETY: what runs at loading are the initialisers of Samba's client library and of what it is linked to, which
        // ask nothing of the program that loads it and change nothing that Rust relies on.
        let library = unsafe { Library::new(LIBRARY) }.map_err(absent)?;
        // SAFETY: each name is asked for with the type that wbclient.h declares for it; the layouts behind the pointers
        // are those of that header (tested). The function pointers are kept beside the library and dropped before it.
        unsafe {
            Ok(Functions {
                ctx_create: symbol(&library, "wbcCtxCreate")?,
                ctx_free: symbol(&library, "wbcCtxFree")?,
                free_memory: symbol(&library, "wbcFreeMemory")?,
                error_string: symbol(&library, "wbcErrorString")?,
                interface_details: symbol(&library, "wbcCtxInterfaceDetails")?,
                sid_to_string: symbol(&library, "wbcSidToString")?,
                string_to_sid: symbol(&library, "wbcStringToSid")?,
                ping: symbol(&library, "wbcCtxPing")?,
                ping_dc: symbol(&library, "wbcCtxPingDc2")?,
                domain_info: symbol(&library, "wbcCtxDomainInfo")?,
                list_trusts: symbol(&library, "wbcCtxListTrusts")?,
                getpwnam: symbol(&library, "wbcCtxGetpwnam")?,
                getpwuid: symbol(&library, "wbcCtxGetpwuid")?,
                getpwsid: symbol(&library, "wbcCtxGetpwsid")?,
                getgrnam: symbol(&library, "wbcCtxGetgrnam")?,
                getgrgid: symbol(&library, "wbcCtxGetgrgid")?,
                get_groups: symbol(&library, "wbcCtxGetGroups")?,
                setpwent: symbol(&library, "wbcCtxSetpwent")?,
                getpwent: symbol(&library, "wbcCtxGetpwent")?,
                endpwent: symbol(&library, "wbcCtxEndpwent")?,
                setgrent: symbol(&library, "wbcCtxSetgrent")?,
                getgrent: symbol(&library, "wbcCtxGetgrent")?,
                endgrent: symbol(&library, "wbcCtxEndgrent")?,
                lookup_name: symbol(&library, "wbcCtxLookupName")?,
                lookup_sid: symbol(&library, "wbcCtxLookupSid")?,
                lookup_user_sids: symbol(&library, "wbcCtxLookupUserSids")?,
                list_users: symbol(&library, "wbcCtxListUsers")?,
                list_groups: symbol(&library, "wbcCtxListGroups")?,
                sids_to_unix_ids: symbol(&library, "wbcCtxSidsToUnixIds")?,
                uid_to_sid: symbol(&library, "wbcCtxUidToSid")?,
                gid_to_sid: symbol(&library, "wbcCtxGidToSid")?,
                authenticate: symbol(&library, "wbcCtxAuthenticateUserEx")?,
                change_password: symbol(&library, "wbcCtxChangeUserPasswordEx")?,
                sid_aliases: optional(&library, "wbcCtxGetSidAliases"),
                lookup_sids: optional(&library, "wbcCtxLookupSids"),
                unix_ids_to_sids: optional(&library, "wbcCtxUnixIdsToSids"),
                log_on: optional(&library, "wbcCtxLogonUser"),
                log_off: optional(&library, "wbcCtxLogoffUserEx"),
                _library: library,
            })
        }
    }
}

/// One function of the library.
///
/// # Safety
///
/// `T` must be the pointer type of the function called `name`, and must not be used after `library` is dropped.
unsafe fn symbol<T: Copy>(library: &Library, name: &str) -> Result<T, CannotStart> {
    // SAFETY: the caller's promise about `T`.
    match unsafe { library.get::<T>(name) } {
        Ok(found) => Ok(*found),
        Err(_) => Err(CannotStart(format!(
            "winbind: {LIBRARY} has no function {name}: it is too old; install a newer libwbclient0"
        ))),
    }
}

/// One function that the library may lack.
///
/// # Safety
///
/// As [`symbol`].
unsafe fn optional<T: Copy>(library: &Library, name: &'static str) -> Optional<T> {
    // SAFETY: the caller's promise about `T`.
    let found = unsafe { library.get::<T>(name) }.ok().map(|found| *found);
    Optional { name, found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_library_lacks_is_missing_for_its_own_request_only() {
        let functions = Functions::load().unwrap_or_else(|error| panic!("{}", error.0));
        assert!(functions.unix_ids_to_sids.get().is_ok() && functions.lookup_sids.get().is_ok());
        assert!(functions.log_on.get().is_ok() && functions.log_off.get().is_ok());
        // SAFETY: nobody calls it: there is no such function.
        let newer = unsafe { optional::<unsafe extern "C" fn()>(&functions._library, "wbcCtxOfAnotherDay") };
        assert_eq!(newer.get().map(|_| ()), Err(Failure::Missing("wbcCtxOfAnotherDay")));
    }
}
