//! libgssapi_krb5 and libkrb5, found at run time: usherd is built without their headers, and runs where they are absent.
//!
//! Both are MIT's, whose interface has been the same since 1.11. They are loaded when the first bind asks for them and are never
//! unloaded: they leave destructors with the threads that they have run on.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};

/// The libraries' names.
const GSSAPI: &str = "libgssapi_krb5.so.2";
const KRB5: &str = "libkrb5.so.3";

/// `gss_buffer_desc`.
#[repr(C)]
pub(super) struct Buffer {
    pub(super) length: usize,
    pub(super) value: *mut c_void,
}

impl Buffer {
    pub(super) const EMPTY: Buffer = Buffer {
        length: 0,
        value: ptr::null_mut(),
    };

    /// One from which the library reads; what it points to must live as long as it is used.
    pub(super) fn of(bytes: &[u8]) -> Buffer {
        Buffer {
            length: bytes.len(),
            value: bytes.as_ptr().cast_mut().cast(),
        }
    }
}

/// `gss_OID_desc`.
#[repr(C)]
pub(super) struct Oid {
    pub(super) length: u32,
    pub(super) elements: *const c_void,
}

/// `gss_OID_set_desc`.
#[repr(C)]
pub(super) struct OidSet {
    pub(super) count: usize,
    pub(super) elements: *const Oid,
}

/// `gss_key_value_element_desc`.
#[repr(C)]
pub(super) struct KeyValue {
    pub(super) key: *const c_char,
    pub(super) value: *const c_char,
}

/// `gss_key_value_set_desc`.
#[repr(C)]
pub(super) struct KeyValues {
    pub(super) count: u32,
    pub(super) elements: *const KeyValue,
}

/// `gss_name_t`, `gss_cred_id_t`, `gss_ctx_id_t`, `krb5_context`, `krb5_principal`, `krb5_ccache`: only ever pointed to.
pub(super) type Opaque = *mut c_void;

type Release = unsafe extern "C" fn(*mut u32, *mut Opaque) -> u32;

/// The functions, each with the type that `gssapi.h`, `gssapi_ext.h` or `krb5.h` gives it.
pub(super) struct Functions {
    pub(super) import_name: unsafe extern "C" fn(*mut u32, *mut Buffer, *const Oid, *mut Opaque) -> u32,
    pub(super) release_name: Release,
    pub(super) acquire_cred_from: unsafe extern "C" fn(
        *mut u32,
        Opaque,
        u32,
        *const OidSet,
        c_int,
        *const KeyValues,
        *mut Opaque,
        *mut *mut OidSet,
        *mut u32,
    ) -> u32,
    pub(super) release_cred: Release,
    pub(super) init_sec_context: unsafe extern "C" fn(
        *mut u32,
        Opaque,
        *mut Opaque,
        Opaque,
        *const Oid,
        u32,
        u32,
        *const c_void,
        *mut Buffer,
        *mut *const Oid,
        *mut Buffer,
        *mut u32,
        *mut u32,
    ) -> u32,
    pub(super) delete_sec_context: unsafe extern "C" fn(*mut u32, *mut Opaque, *mut Buffer) -> u32,
    pub(super) wrap: unsafe extern "C" fn(*mut u32, Opaque, c_int, u32, *mut Buffer, *mut c_int, *mut Buffer) -> u32,
    pub(super) unwrap: unsafe extern "C" fn(*mut u32, Opaque, *mut Buffer, *mut Buffer, *mut c_int, *mut u32) -> u32,
    pub(super) release_buffer: unsafe extern "C" fn(*mut u32, *mut Buffer) -> u32,
    pub(super) display_status: unsafe extern "C" fn(*mut u32, u32, c_int, *const Oid, *mut u32, *mut Buffer) -> u32,
    pub(super) init_context: unsafe extern "C" fn(*mut Opaque) -> i32,
    pub(super) free_context: unsafe extern "C" fn(Opaque),
    pub(super) sname_to_principal: unsafe extern "C" fn(Opaque, *const c_char, *const c_char, i32, *mut Opaque) -> i32,
    pub(super) unparse_name: unsafe extern "C" fn(Opaque, Opaque, *mut *mut c_char) -> i32,
    pub(super) free_unparsed_name: unsafe extern "C" fn(Opaque, *mut c_char),
    pub(super) free_principal: unsafe extern "C" fn(Opaque, Opaque),
    pub(super) cc_resolve: unsafe extern "C" fn(Opaque, *const c_char, *mut Opaque) -> i32,
    pub(super) cc_destroy: unsafe extern "C" fn(Opaque, Opaque) -> i32,
    pub(super) get_error_message: unsafe extern "C" fn(Opaque, i32) -> *const c_char,
    pub(super) free_error_message: unsafe extern "C" fn(Opaque, *const c_char),
}

/// The functions, loaded by whoever asks first. What failed once is not tried again before a restart.
pub(super) fn functions() -> Result<&'static Functions, String> {
    static LOADED: OnceLock<Result<Functions, String>> = OnceLock::new();
    LOADED.get_or_init(load).as_ref().map_err(Clone::clone)
}

fn load() -> Result<Functions, String> {
    let (gssapi, krb5) = (open(GSSAPI)?, open(KRB5)?);
    // SAFETY: each name is asked for with the type that the header of its library declares for it, and `open` never unloads.
    unsafe {
        Ok(Functions {
            import_name: symbol(&gssapi, "gss_import_name")?,
            release_name: symbol(&gssapi, "gss_release_name")?,
            acquire_cred_from: symbol(&gssapi, "gss_acquire_cred_from")?,
            release_cred: symbol(&gssapi, "gss_release_cred")?,
            init_sec_context: symbol(&gssapi, "gss_init_sec_context")?,
            delete_sec_context: symbol(&gssapi, "gss_delete_sec_context")?,
            wrap: symbol(&gssapi, "gss_wrap")?,
            unwrap: symbol(&gssapi, "gss_unwrap")?,
            release_buffer: symbol(&gssapi, "gss_release_buffer")?,
            display_status: symbol(&gssapi, "gss_display_status")?,
            init_context: symbol(&krb5, "krb5_init_context")?,
            free_context: symbol(&krb5, "krb5_free_context")?,
            sname_to_principal: symbol(&krb5, "krb5_sname_to_principal")?,
            unparse_name: symbol(&krb5, "krb5_unparse_name")?,
            free_unparsed_name: symbol(&krb5, "krb5_free_unparsed_name")?,
            free_principal: symbol(&krb5, "krb5_free_principal")?,
            cc_resolve: symbol(&krb5, "krb5_cc_resolve")?,
            cc_destroy: symbol(&krb5, "krb5_cc_destroy")?,
            get_error_message: symbol(&krb5, "krb5_get_error_message")?,
            free_error_message: symbol(&krb5, "krb5_free_error_message")?,
        })
    }
}

/// A library that stays until the process ends.
fn open(name: &str) -> Result<std::mem::ManuallyDrop<Library>, String> {
    // SAFETY: what runs at loading are the initialisers of MIT's Kerberos and of what it is linked to, which ask nothing of the
    // program that loads it and change nothing that Rust relies on.
    let opened = unsafe { Library::open(Some(name), RTLD_NOW | RTLD_LOCAL) };
    opened.map(std::mem::ManuallyDrop::new).map_err(|error| {
        format!(
            "{name} cannot be loaded: install MIT Kerberos (the Debian package libgssapi-krb5-2), and restart. {error}"
        )
    })
}

/// One function.
///
/// # Safety
///
/// `T` must be the pointer type of the function called `name`, and must not be used after `library` is unloaded.
unsafe fn symbol<T: Copy>(library: &Library, name: &str) -> Result<T, String> {
    // SAFETY: the caller's promise about `T`.
    match unsafe { library.get::<T>(name) } {
        Ok(found) => Ok(*found),
        Err(_) => Err(format!(
            "the Kerberos library has no function {name}: it is not MIT's, or too old"
        )),
    }
}
