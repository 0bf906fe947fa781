//! libpam, found at run time.

use std::ffi::{c_char, c_int, c_void};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use crate::CannotStart;

/// The library's name.
const LIBRARY: &str = "libpam.so.0";

/// `pam_handle_t`: only ever pointed to.
#[repr(C)]
pub(super) struct Handle {
    _opaque: [u8; 0],
}

/// `struct pam_message`.
#[repr(C)]
pub(super) struct Message {
    pub(super) style: c_int,
    pub(super) text: *const c_char,
}

/// `struct pam_response`.
#[repr(C)]
pub(super) struct Response {
    pub(super) text: *mut c_char,
    pub(super) code: c_int,
}

/// `struct pam_conv`.
#[repr(C)]
pub(super) struct Conv {
    pub(super) conv: extern "C" fn(c_int, *mut *const Message, *mut *mut Response, *mut c_void) -> c_int,
    pub(super) data: *mut c_void,
}

type Act = unsafe extern "C" fn(*mut Handle, c_int) -> c_int;

/// The functions, each with the type that `pam_appl.h` gives it.
pub(super) struct Functions {
    pub(super) start: unsafe extern "C" fn(*const c_char, *const c_char, *const Conv, *mut *mut Handle) -> c_int,
    pub(super) end: Act,
    pub(super) set_item: unsafe extern "C" fn(*mut Handle, c_int, *const c_void) -> c_int,
    pub(super) get_item: unsafe extern "C" fn(*const Handle, c_int, *mut *const c_void) -> c_int,
    pub(super) getenvlist: unsafe extern "C" fn(*mut Handle) -> *mut *mut c_char,
    pub(super) strerror: unsafe extern "C" fn(*mut Handle, c_int) -> *const c_char,
    pub(super) authenticate: Act,
    pub(super) acct_mgmt: Act,
    pub(super) chauthtok: Act,
    pub(super) open_session: Act,
    pub(super) close_session: Act,
    /// Last, so that they are unloaded after everything that points into them.
    _libraries: (Library, Library),
}

impl Functions {
    /// Loads the library as a program that is linked to it would have it: its functions are there for modules that are not linked
    /// to it themselves, and the functions found are those of the whole program, so that a wrapper (`LD_PRELOAD`) takes effect.
    pub(super) fn load() -> Result<Functions, CannotStart> {
        let absent = |error: libloading::Error| {
            CannotStart(format!(
                "pam: {LIBRARY} cannot be loaded: install the package libpam0g. {error}"
            ))
        };
        // SAFETY: what runs at loading are the initialisers of libpam and of what it is linked to, which ask nothing of the program
        // that loads it and change nothing that Rust relies on.
        let library = unsafe { Library::open(Some(LIBRARY), RTLD_NOW | RTLD_GLOBAL) }.map_err(absent)?;
        let program = Library::this();
        // SAFETY: each name is asked for with the type that pam_appl.h declares for it. The function pointers are kept beside
        // the libraries and dropped before them.
        unsafe {
            Ok(Functions {
                start: symbol(&program, "pam_start")?,
                end: symbol(&program, "pam_end")?,
                set_item: symbol(&program, "pam_set_item")?,
                get_item: symbol(&program, "pam_get_item")?,
                getenvlist: symbol(&program, "pam_getenvlist")?,
                strerror: symbol(&program, "pam_strerror")?,
                authenticate: symbol(&program, "pam_authenticate")?,
                acct_mgmt: symbol(&program, "pam_acct_mgmt")?,
                chauthtok: symbol(&program, "pam_chauthtok")?,
                open_session: symbol(&program, "pam_open_session")?,
                close_session: symbol(&program, "pam_close_session")?,
                _libraries: (program, library),
            })
        }
    }
}

/// One function.
///
/// # Safety
///
/// `T` must be the pointer type of the function called `name`, and must not be used after `library` is dropped.
unsafe fn symbol<T: Copy>(library: &Library, name: &str) -> Result<T, CannotStart> {
    // SAFETY: the caller's promise about `T`.
    match unsafe { library.get::<T>(name) } {
        Ok(found) => Ok(*found),
        Err(_) => Err(CannotStart(format!(
            "pam: {LIBRARY} has no function {name}: it is not Linux-PAM's"
        ))),
    }
}
