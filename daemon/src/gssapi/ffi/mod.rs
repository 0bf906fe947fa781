//! The one place where Kerberos is asked for real: MIT's libgssapi_krb5 by dlopen, behind a safe face.
//!
//! - A [`Session`] is one bind: its credentials, the name of the server, its context. It is used by one thread at a time, whichever
//!   that is (`&mut`), which is what the library asks for.
//! - What the library allocates is copied out and freed here, exactly once; names, credentials and contexts are freed when the
//!   session goes. That asks nobody and does not block; everything else may block for as long as the library pleases.
//! - The library reads the environment (`KRB5_CONFIG`, `KRB5CCNAME`, …). Nobody in this process writes it.
//! - Tickets got with a keytab lie in a cache in memory that belongs to the session, under a name that is never used again.

mod functions;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::upstream::sasl::gssapi::Context;

use self::functions::{Buffer, Functions, KeyValue, KeyValues, Oid, OidSet, Opaque, functions};
use super::{Kerberos, Server};

/// 1.2.840.113554.1.2.2, the mechanism (RFC 1964).
const KERBEROS: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
/// 1.2.840.113554.1.2.2.1, a name as Kerberos writes it (RFC 1964 section 2.1.1).
const PRINCIPAL: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01";

/// `KRB5_NT_UNKNOWN`: with it no DNS is asked for another name of the host; the realm comes from `[domain_realm]`, or the KDC says it.
const NAME_AS_IT_IS: i32 = 0;
/// `GSS_C_INITIATE`.
const INITIATE: c_int = 1;
/// `GSS_C_MUTUAL_FLAG`, `GSS_C_SEQUENCE_FLAG`, `GSS_C_INTEG_FLAG` (RFC 2744 section 5.19; RFC 4752 section 3.1).
const MUTUAL: u32 = 2;
const SEQUENCE: u32 = 8;
const INTEGRITY: u32 = 32;
/// `GSS_S_CONTINUE_NEEDED`.
const CONTINUE_NEEDED: u32 = 1;
/// `GSS_C_GSS_CODE`, `GSS_C_MECH_CODE`.
const OF_GSS: c_int = 1;
const OF_MECHANISM: c_int = 2;
/// Lines of one error, at most.
const LINES_MAX: usize = 8;

/// One bind; see the module.
pub struct Session {
    functions: &'static Functions,
    /// `gss_name_t` of the server.
    server: Opaque,
    /// `gss_cred_id_t`; null: the system's default.
    credentials: Opaque,
    /// `gss_ctx_id_t`; null until the first token.
    context: Opaque,
    /// The cache in memory.
    cache: Option<CString>,
}

// SAFETY: MIT's library has no affinity to threads: its objects may be used by any thread, by one at a time (its documentation,
// "thread safety"), and there is no way to them but `&mut Session` and the drop.
unsafe impl Send for Session {}

impl Session {
    /// Gets credentials, which may ask a KDC.
    ///
    /// # Errors
    /// What Kerberos says: no keytab, a wrong key, no KDC. No secret is in it.
    pub fn begin(kerberos: &Kerberos, server: &Server) -> Result<Session, String> {
        let functions = functions()?;
        // Its own words for a file that is not there lead elsewhere.
        if let Some(file) = kerberos.keytab.as_ref().or(kerberos.ccache.as_ref()) {
            std::fs::File::open(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
        }
        let mut session = Session {
            functions,
            server: ptr::null_mut(),
            credentials: ptr::null_mut(),
            context: ptr::null_mut(),
            cache: None,
        };
        let name = session.server_name(server)?;
        session.server = session.import(name.as_bytes())?;
        session.acquire(kerberos)?;
        Ok(session)
    }

    /// `GSS_Init_sec_context`: takes the server's token, gives ours. The first time a KDC may be asked.
    ///
    /// # Errors
    /// What Kerberos says, for example of a token that is not the server's.
    pub fn initiate(&mut self, said: Option<&[u8]>) -> Result<(Vec<u8>, Context), String> {
        let mechanism = oid(KERBEROS);
        let mut said = Buffer::of(said.unwrap_or_default());
        let (mut minor, mut flags, mut token) = (0, 0, Buffer::EMPTY);
        // SAFETY: `credentials` and `context` are this session's, or null, which stands for none; the mechanism and the server's token
        // outlive the call and are only read; what is written are a number, the context, a buffer that is released below, and flags.
        let major = unsafe {
            (self.functions.init_sec_context)(
                &raw mut minor,
                self.credentials,
                &raw mut self.context,
                self.server,
                &raw const mechanism,
                MUTUAL | SEQUENCE | INTEGRITY,
                0,
                ptr::null(),
                &raw mut said,
                ptr::null_mut(),
                &raw mut token,
                &raw mut flags,
                ptr::null_mut(),
            )
        };
        let token = self.taken(token);
        self.check(major, minor)?;
        let context = if major & CONTINUE_NEEDED == 0 {
            Context::Established {
                is_mutual: flags & MUTUAL != 0,
                has_integrity: flags & INTEGRITY != 0,
            }
        } else {
            Context::Begun
        };
        Ok((token, context))
    }

    /// `GSS_Unwrap`: what is in a message of the server's that the context protects.
    ///
    /// # Errors
    /// It is not the server's, or not whole.
    pub fn unwrap(&mut self, sealed: &[u8]) -> Result<Vec<u8>, String> {
        let (mut minor, mut sealed, mut message) = (0, Buffer::of(sealed), Buffer::EMPTY);
        // SAFETY: a context of this session's (null is refused by the library); reads one buffer, writes a number and a buffer that is
        // released below.
        let major = unsafe {
            (self.functions.unwrap)(
                &raw mut minor,
                self.context,
                &raw mut sealed,
                &raw mut message,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        let message = self.taken(message);
        // Beside errors there are words about messages that come twice or in the wrong order: no such one is taken.
        if major != 0 {
            self.check(major, minor)?;
            return Err("the server's message came twice, or out of order".into());
        }
        Ok(message)
    }

    /// `GSS_Wrap`: a message for the server, protected against changes.
    ///
    /// # Errors
    /// What Kerberos says.
    pub fn wrap(&mut self, message: &[u8]) -> Result<Vec<u8>, String> {
        let (mut minor, mut message, mut sealed) = (0, Buffer::of(message), Buffer::EMPTY);
        // SAFETY: as in `unwrap`.
        let major = unsafe {
            (self.functions.wrap)(
                &raw mut minor,
                self.context,
                0,
                0,
                &raw mut message,
                ptr::null_mut(),
                &raw mut sealed,
            )
        };
        let sealed = self.taken(sealed);
        self.check(major, minor)?;
        Ok(sealed)
    }

    /// The principal of a server: `ldap/host@REALM`, the realm empty where the KDC is to say it.
    fn server_name(&self, server: &Server) -> Result<String, String> {
        let (host, service) = (text(&server.host)?, text(&server.service)?);
        let krb5 = Krb5::begin(self.functions)?;
        let mut principal = ptr::null_mut();
        // SAFETY: a live context and two texts that end with zero; writes a principal, which is freed below.
        let code = unsafe {
            (self.functions.sname_to_principal)(
                krb5.context,
                host.as_ptr(),
                service.as_ptr(),
                NAME_AS_IT_IS,
                &raw mut principal,
            )
        };
        krb5.check(code)?;
        let mut written: *mut c_char = ptr::null_mut();
        // SAFETY: the principal that was just made; writes a text that ends with zero, which is copied and freed below.
        let code = unsafe { (self.functions.unparse_name)(krb5.context, principal, &raw mut written) };
        // SAFETY: it is not used any more.
        unsafe { (self.functions.free_principal)(krb5.context, principal) };
        krb5.check(code)?;
        // SAFETY: on success there is a text that ends with zero; it is copied out before it is freed, once.
        Ok(unsafe {
            let name = CStr::from_ptr(written).to_string_lossy().into_owned();
            (self.functions.free_unparsed_name)(krb5.context, written);
            name
        })
    }

    /// A name as Kerberos writes it; the caller frees it.
    fn import(&self, name: &[u8]) -> Result<Opaque, String> {
        let form = oid(PRINCIPAL);
        let (mut minor, mut name, mut made) = (0, Buffer::of(name), ptr::null_mut());
        // SAFETY: reads the buffer and the form, writes a number and a name.
        let major =
            unsafe { (self.functions.import_name)(&raw mut minor, &raw mut name, &raw const form, &raw mut made) };
        self.check(major, minor)?;
        Ok(made)
    }

    fn acquire(&mut self, kerberos: &Kerberos) -> Result<(), String> {
        let mut principal = match &kerberos.principal {
            Some(principal) => self.import(principal.as_bytes())?,
            None => ptr::null_mut(),
        };
        let place = |file: &std::path::Path| text(&format!("FILE:{}", file.display()));
        let mut store: Vec<(&CStr, CString)> = Vec::new();
        if let Some(file) = &kerberos.keytab {
            static NUMBER: AtomicU64 = AtomicU64::new(0);
            let cache = text(&format!("MEMORY:usherd-{}", NUMBER.fetch_add(1, Ordering::Relaxed)))?;
            store.push((c"client_keytab", place(file)?));
            store.push((c"ccache", cache.clone()));
            self.cache = Some(cache);
        } else if let Some(file) = &kerberos.ccache {
            store.push((c"ccache", place(file)?));
        }
        let elements: Vec<KeyValue> = store
            .iter()
            .map(|(key, value)| KeyValue {
                key: key.as_ptr(),
                value: value.as_ptr(),
            })
            .collect();
        let values = KeyValues {
            count: u32::try_from(elements.len()).unwrap_or(0),
            elements: elements.as_ptr(),
        };
        // An empty one is refused: the system's own places are meant by none.
        let values = if elements.is_empty() {
            ptr::null()
        } else {
            &raw const values
        };
        let mechanism = oid(KERBEROS);
        let mechanisms = OidSet {
            count: 1,
            elements: &raw const mechanism,
        };
        let mut minor = 0;
        // SAFETY: the name is null, which stands for whoever is there, or was just made; the set of mechanisms and the store, with all
        // that they point to, outlive the call and are only read; writes a number and the credentials, which the session frees.
        let major = unsafe {
            (self.functions.acquire_cred_from)(
                &raw mut minor,
                principal,
                0,
                &raw const mechanisms,
                INITIATE,
                values,
                &raw mut self.credentials,
                ptr::null_mut(),
                ptr::null_mut(),
            )
        };
        let outcome = self.check(major, minor);
        // SAFETY: a name of ours, or null, which the library takes for nothing; not used any more.
        unsafe { (self.functions.release_name)(&raw mut minor, &raw mut principal) };
        outcome
    }

    /// What the library wrote into a buffer, which is freed.
    fn taken(&self, mut buffer: Buffer) -> Vec<u8> {
        let bytes = if buffer.value.is_null() {
            Vec::new()
        } else {
            // SAFETY: the library says that so many octets are there; they are copied before they are freed.
            unsafe { std::slice::from_raw_parts(buffer.value.cast::<u8>(), buffer.length) }.to_vec()
        };
        let mut minor = 0;
        // SAFETY: a buffer of the library's, or an empty one, which it takes for nothing.
        unsafe { (self.functions.release_buffer)(&raw mut minor, &raw mut buffer) };
        bytes
    }

    /// What the library says of an error: of the mechanism's where it names one, else of its own.
    fn check(&self, major: u32, minor: u32) -> Result<(), String> {
        // RFC 2744 section 3.9.1: errors of calling and of routines are in the upper octets.
        if major & 0xFFFF_0000 == 0 {
            return Ok(());
        }
        let said = if minor == 0 {
            self.said(major, OF_GSS)
        } else {
            self.said(minor, OF_MECHANISM)
        };
        Err(format!("Kerberos: {said}"))
    }

    fn said(&self, code: u32, kind: c_int) -> String {
        let mechanism = oid(KERBEROS);
        let (mut lines, mut more) = (Vec::new(), 0);
        for _ in 0..LINES_MAX {
            let (mut minor, mut line) = (0, Buffer::EMPTY);
            // SAFETY: reads the mechanism; writes two numbers and a buffer, which `taken` releases.
            let major = unsafe {
                (self.functions.display_status)(
                    &raw mut minor,
                    code,
                    kind,
                    &raw const mechanism,
                    &raw mut more,
                    &raw mut line,
                )
            };
            let line = self.taken(line);
            if major != 0 {
                break;
            }
            lines.push(String::from_utf8_lossy(&line).into_owned());
            if more == 0 {
                break;
            }
        }
        lines.join("; ")
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut minor = 0;
        // SAFETY: each was made by this session or is null, which the library takes for nothing, and none is used after this. Nothing
        // is wanted for the server, so there is no buffer.
        unsafe {
            (self.functions.delete_sec_context)(&raw mut minor, &raw mut self.context, ptr::null_mut());
            (self.functions.release_cred)(&raw mut minor, &raw mut self.credentials);
            (self.functions.release_name)(&raw mut minor, &raw mut self.server);
        }
        let Some(cache) = self.cache.take() else { return };
        let Ok(krb5) = Krb5::begin(self.functions) else { return };
        let mut found = ptr::null_mut();
        // SAFETY: a live context and a text that ends with zero; the cache that is found is given back by destroying it, and nothing
        // else refers to it: the credentials, which did, are gone.
        unsafe {
            if (self.functions.cc_resolve)(krb5.context, cache.as_ptr(), &raw mut found) == 0 {
                (self.functions.cc_destroy)(krb5.context, found);
            }
        }
    }
}

/// A `krb5_context`: what libkrb5 wants for everything, made from the configuration of the system.
struct Krb5 {
    functions: &'static Functions,
    context: Opaque,
}

impl Krb5 {
    fn begin(functions: &'static Functions) -> Result<Krb5, String> {
        let mut context: *mut c_void = ptr::null_mut();
        // SAFETY: writes a context, which is freed when this goes.
        let code = unsafe { (functions.init_context)(&raw mut context) };
        if code != 0 {
            return Err(format!(
                "Kerberos: its configuration (krb5.conf) cannot be read: error {code}"
            ));
        }
        Ok(Krb5 { functions, context })
    }

    fn check(&self, code: i32) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: a live context; gives a text that ends with zero for every number, which is copied and freed, once.
        Err(unsafe {
            let said = (self.functions.get_error_message)(self.context, code);
            let text = CStr::from_ptr(said).to_string_lossy().into_owned();
            (self.functions.free_error_message)(self.context, said);
            format!("Kerberos: {text}")
        })
    }
}

impl Drop for Krb5 {
    fn drop(&mut self) {
        // SAFETY: made by `begin`, freed only here.
        unsafe { (self.functions.free_context)(self.context) }
    }
}

fn oid(bytes: &'static [u8]) -> Oid {
    Oid {
        // Both of them are short.
        length: u32::try_from(bytes.len()).unwrap_or(0),
        elements: bytes.as_ptr().cast(),
    }
}

fn text(text: &str) -> Result<CString, String> {
    CString::new(text).map_err(|_| "a name has a NUL in it".to_owned())
}
