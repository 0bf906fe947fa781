//! What the library gives, copied into values of our own.

use std::ffi::{CStr, c_char, c_void};
use std::ptr::NonNull;

use crate::identity::{Group, User};
use crate::winbind::backend::Failure;

/// Something that the library has allocated: freed by the library, once.
pub(super) struct Owned<T> {
    pointer: NonNull<T>,
    free: unsafe extern "C" fn(*mut c_void),
}

impl<T> Owned<T> {
    /// None for null.
    ///
    /// # Safety
    ///
    /// `pointer` is null, or was allocated by the library, is valid as a `T`, and is freed by nobody else; `free` frees it.
    pub(super) unsafe fn new(pointer: *mut T, free: unsafe extern "C" fn(*mut c_void)) -> Option<Owned<T>> {
        NonNull::new(pointer).map(|pointer| Owned { pointer, free })
    }

    pub(super) fn as_ptr(&self) -> *mut T {
        self.pointer.as_ptr()
    }

    pub(super) fn get(&self) -> &T {
        // SAFETY: valid as a `T` by the promise of `new`, and alive until `self` is dropped.
        unsafe { self.pointer.as_ref() }
    }

    pub(super) fn get_mut(&mut self) -> &mut T {
        // SAFETY: as `get`; `&mut self` makes it the only reference.
        unsafe { self.pointer.as_mut() }
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: the promise of `new`.
        unsafe { (self.free)(self.pointer.as_ptr().cast()) }
    }
}

/// A text, copied; none for null or for bytes that are no UTF-8.
///
/// # Safety
///
/// `from` is null or ends with a zero byte.
pub(super) unsafe fn optional_text(from: *const c_char) -> Option<String> {
    if from.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(from) };
    bytes.to_str().ok().map(str::to_owned)
}

/// A text that must be there.
///
/// # Safety
///
/// As [`optional_text`].
pub(super) unsafe fn text(from: *const c_char) -> Result<String, Failure> {
    // SAFETY: the caller's promise.
    unsafe { optional_text(from) }.ok_or(Failure::Unreadable("a name that is not UTF-8"))
}

/// A text for people, where what is no UTF-8 does no harm.
unsafe fn lossy(from: *const c_char) -> String {
    if from.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise, as for `optional_text`.
    unsafe { CStr::from_ptr(from) }.to_string_lossy().into_owned()
}

/// A `struct passwd`.
///
/// # Safety
///
/// `from` points to one whose texts are null or end with zero.
pub(super) unsafe fn read_user(from: *const libc::passwd) -> Result<User, Failure> {
    // SAFETY: the caller's promise, for this and for the texts.
    unsafe {
        let from = &*from;
        Ok(User {
            name: text(from.pw_name)?,
            uid: from.pw_uid,
            gid: from.pw_gid,
            gecos: lossy(from.pw_gecos),
            dir: text(from.pw_dir)?,
            shell: text(from.pw_shell)?,
        })
    }
}

/// A `struct group`.
///
/// # Safety
///
/// `from` points to one whose texts end with zero and whose list of members ends with null.
pub(super) unsafe fn read_group(from: *const libc::group) -> Result<Group, Failure> {
    // SAFETY: the caller's promise.
    let from = unsafe { &*from };
    let mut members = Vec::new();
    let mut at = from.gr_mem;
    // SAFETY: steps through the list no further than its null.
    unsafe {
        while !at.is_null() && !(*at).is_null() && members.len() < super::ENTRIES_MAX {
            members.push(text(*at)?);
            at = at.add(1);
        }
    }
    Ok(Group {
        // SAFETY: the caller's promise.
        name: unsafe { text(from.gr_name) }?,
        gid: from.gr_gid,
        members,
    })
}

/// `count` texts.
///
/// # Safety
///
/// `names` is null, or `count` pointers stand behind it, each null or to a text that ends with zero.
pub(super) unsafe fn name_list(names: *const *const c_char, count: usize) -> Result<Vec<String>, Failure> {
    if names.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: the caller's promise.
    let names = unsafe { std::slice::from_raw_parts(names, count) };
    // SAFETY: likewise.
    names.iter().map(|name| unsafe { text(*name) }).collect()
}
