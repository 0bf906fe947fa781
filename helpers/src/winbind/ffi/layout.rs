//! What libwbclient's functions take and give, laid out as its public header (wbclient.h, interface 0.15) says.
//!
//! The structures that winbindd itself speaks change from version to version and are the library's alone. These here are its
//! stable interface, and a test has a C compiler compare every size and offset with the header of libwbclient-dev.

use std::ffi::{c_char, c_int};

/// `struct wbcContext`: only ever pointed to.
#[repr(C)]
pub(super) struct Context {
    _opaque: [u8; 0],
}

/// `struct wbcDomainSid`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct Sid {
    pub(super) revision: u8,
    pub(super) auths: u8,
    pub(super) authority: [u8; 6],
    pub(super) sub_auths: [u32; 15],
}

/// `struct wbcSidWithAttr`.
#[repr(C)]
pub(super) struct SidWithAttributes {
    pub(super) sid: Sid,
    pub(super) attributes: u32,
}

/// `struct wbcInterfaceDetails`.
#[repr(C)]
pub(super) struct InterfaceDetails {
    pub(super) interface_version: u32,
    pub(super) winbind_version: *mut c_char,
    pub(super) separator: c_char,
    pub(super) netbios_name: *mut c_char,
    pub(super) netbios_domain: *mut c_char,
    pub(super) dns_domain: *mut c_char,
}

/// `struct wbcDomainInfo`.
#[repr(C)]
pub(super) struct DomainInfo {
    pub(super) short_name: *mut c_char,
    pub(super) dns_name: *mut c_char,
    pub(super) sid: Sid,
    pub(super) domain_flags: u32,
    pub(super) trust_flags: u32,
    pub(super) trust_type: u32,
    pub(super) trust_routing: *mut c_char,
}

/// `struct wbcAuthUserParams`.
#[repr(C)]
pub(super) struct AuthUserParams {
    pub(super) account_name: *const c_char,
    pub(super) domain_name: *const c_char,
    pub(super) workstation_name: *const c_char,
    pub(super) flags: u32,
    pub(super) parameter_control: u32,
    pub(super) level: u32,
    pub(super) password: AuthPassword,
}

/// Its `password`: which member holds is said by `level`.
#[repr(C)]
pub(super) union AuthPassword {
    pub(super) plaintext: *const c_char,
    pub(super) response: AuthResponse,
    pub(super) pac: Blob,
}

/// `password.response`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct AuthResponse {
    pub(super) challenge: [u8; 8],
    pub(super) nt_length: u32,
    pub(super) nt_data: *const u8,
    pub(super) lm_length: u32,
    pub(super) lm_data: *const u8,
}

/// `struct wbcBlob`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Blob {
    pub(super) data: *mut u8,
    pub(super) length: usize,
}

/// `struct wbcNamedBlob`.
#[repr(C)]
pub(super) struct NamedBlob {
    pub(super) name: *const c_char,
    pub(super) flags: u32,
    pub(super) blob: Blob,
}

/// `struct wbcLogonUserParams`.
#[repr(C)]
pub(super) struct LogonUserParams {
    pub(super) username: *const c_char,
    pub(super) password: *const c_char,
    pub(super) num_blobs: usize,
    pub(super) blobs: *mut NamedBlob,
}

/// `struct wbcLogonUserInfo`.
#[repr(C)]
pub(super) struct LogonUserInfo {
    pub(super) info: *mut AuthUserInfo,
    pub(super) num_blobs: usize,
    pub(super) blobs: *mut NamedBlob,
}

/// `struct wbcLogoffUserParams`.
#[repr(C)]
pub(super) struct LogoffUserParams {
    pub(super) username: *const c_char,
    pub(super) num_blobs: usize,
    pub(super) blobs: *mut NamedBlob,
}

/// `struct wbcTranslatedName`.
#[repr(C)]
pub(super) struct TranslatedName {
    pub(super) kind: c_int,
    pub(super) name: *mut c_char,
    pub(super) domain_index: c_int,
}

/// `struct wbcAuthUserInfo`.
#[repr(C)]
pub(super) struct AuthUserInfo {
    pub(super) user_flags: u32,
    pub(super) account_name: *mut c_char,
    pub(super) user_principal: *mut c_char,
    pub(super) full_name: *mut c_char,
    pub(super) domain_name: *mut c_char,
    pub(super) dns_domain_name: *mut c_char,
    pub(super) acct_flags: u32,
    pub(super) user_session_key: [u8; 16],
    pub(super) lm_session_key: [u8; 8],
    pub(super) logon_count: u16,
    pub(super) bad_password_count: u16,
    pub(super) logon_time: u64,
    pub(super) logoff_time: u64,
    pub(super) kickoff_time: u64,
    pub(super) pass_last_set_time: u64,
    pub(super) pass_can_change_time: u64,
    pub(super) pass_must_change_time: u64,
    pub(super) logon_server: *mut c_char,
    pub(super) logon_script: *mut c_char,
    pub(super) profile_path: *mut c_char,
    pub(super) home_directory: *mut c_char,
    pub(super) home_drive: *mut c_char,
    pub(super) num_sids: u32,
    pub(super) sids: *mut SidWithAttributes,
}

/// `struct wbcAuthErrorInfo`.
#[repr(C)]
pub(super) struct AuthErrorInfo {
    pub(super) nt_status: u32,
    pub(super) nt_string: *mut c_char,
    pub(super) pam_error: i32,
    pub(super) display_string: *mut c_char,
    pub(super) authoritative: u8,
}

/// `struct wbcChangePasswordParams`.
#[repr(C)]
pub(super) struct ChangePasswordParams {
    pub(super) account_name: *const c_char,
    pub(super) domain_name: *const c_char,
    pub(super) flags: u32,
    pub(super) level: u32,
    pub(super) old_password: ChangePassword,
    pub(super) new_password: ChangePassword,
}

/// Its two passwords, which have the same shape.
#[repr(C)]
pub(super) union ChangePassword {
    pub(super) plaintext: *const c_char,
    pub(super) response: ChangeResponse,
}

/// `old_password.response` and `new_password.response`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct ChangeResponse {
    pub(super) nt_length: u32,
    pub(super) nt_data: *mut u8,
    pub(super) lm_length: u32,
    pub(super) lm_data: *mut u8,
}

/// `struct wbcUserPasswordPolicyInfo`.
#[repr(C)]
pub(super) struct PasswordPolicy {
    pub(super) min_length: u32,
    pub(super) history: u32,
    pub(super) properties: u32,
    pub(super) expire: u64,
    pub(super) min_age: u64,
}

/// `struct wbcUnixId`: which id, and the id.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct UnixId {
    pub(super) kind: c_int,
    pub(super) id: u32,
}

#[cfg(test)]
mod tests;
