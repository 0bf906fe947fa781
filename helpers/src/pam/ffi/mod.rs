//! The one place where PAM is asked for real: libpam by dlopen, behind a safe face.
//!
//! - A handle (`pam_handle_t`) lives for one transaction, on the stack of [`Library::transact`], and is ended there.
//! - The conversation function is called by modules in the middle of a step, on the same thread; what it is given points to
//!   a [`Link`] on the same stack, which outlives the handle. No panic leaves it.
//! - Answers are handed over in memory of the C library's allocator, because the modules free them; they wipe them too.

mod functions;

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use zeroize::Zeroizing;

use self::functions::{Conv, Functions, Handle, Message, Response};
use super::backend::{Backend, Failed, Outcome, Prompt, Step, Style, Talk, Transaction};
use super::status::{BUF_ERR, CONV_ERR, NEW_AUTHTOK_REQD, SUCCESS, SYSTEM_ERR};
use crate::CannotStart;

const ITEM_USER: c_int = 2;
const ITEM_TTY: c_int = 3;
const ITEM_RHOST: c_int = 4;
const ITEM_RUSER: c_int = 8;
const DISALLOW_NULL_AUTHTOK: c_int = 1;
/// To `pam_end`: what lasts beyond the transaction is to be kept.
const DATA_SILENT: c_int = 0x4000_0000;
/// `PAM_MAX_NUM_MSG`.
const MESSAGES_MAX: usize = 32;
const TEXT_BYTES_MAX: usize = 1024;
/// Most variables that are believed.
const ENVIRONMENT_MAX: usize = 1024;

/// The library.
pub struct Library {
    functions: Functions,
}

/// What the conversation function works with.
struct Link<'a> {
    talk: &'a mut dyn Talk,
    step: Step,
}

/// A transaction that has begun; ended when dropped.
struct Open<'f> {
    handle: *mut Handle,
    functions: &'f Functions,
    /// The last code, which `pam_end` is told.
    code: c_int,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        // SAFETY: begun by `pam_start`, ended only here.
        unsafe { (self.functions.end)(self.handle, self.code) };
    }
}

impl Library {
    /// Loads libpam.
    ///
    /// # Errors
    ///
    /// The library is not there.
    pub fn load() -> Result<Library, CannotStart> {
        Functions::load().map(|functions| Library { functions })
    }

    fn text(&self, handle: *mut Handle, code: c_int) -> String {
        // SAFETY: gives a text that is part of the library, for every number; the handle is not looked at.
        let text = unsafe { (self.functions.strerror)(handle, code) };
        // SAFETY: as above.
        unsafe { lossy(text) }
    }

    fn failed(&self, handle: *mut Handle, step: Option<Step>, code: c_int) -> Outcome {
        Outcome {
            failed: Some(Failed {
                step,
                code,
                text: self.text(handle, code),
            }),
            ..Outcome::default()
        }
    }

    fn step(&self, handle: *mut Handle, step: Step) -> c_int {
        let functions = &self.functions;
        // SAFETY: a transaction that has begun; the conversation that it may call outlives it.
        unsafe {
            match step {
                Step::Authenticate => (functions.authenticate)(handle, DISALLOW_NULL_AUTHTOK),
                Step::Account | Step::AccountToChange => (functions.acct_mgmt)(handle, DISALLOW_NULL_AUTHTOK),
                Step::ChangePassword => (functions.chauthtok)(handle, 0),
                Step::OpenSession => (functions.open_session)(handle, 0),
                Step::CloseSession => (functions.close_session)(handle, 0),
            }
        }
    }

    fn items(&self, handle: *mut Handle, transaction: &Transaction<'_>) -> Result<(), c_int> {
        let items = [
            (ITEM_RHOST, transaction.host),
            (ITEM_TTY, transaction.tty),
            (ITEM_RUSER, transaction.remote_user),
        ];
        for (item, text) in items {
            let Some(text) = text else { continue };
            let text = CString::new(text).map_err(|_| SYSTEM_ERR)?;
            // SAFETY: a transaction that has begun, and a text, of which the library keeps a copy.
            let code = unsafe { (self.functions.set_item)(handle, item, text.as_ptr().cast()) };
            if code != SUCCESS {
                return Err(code);
            }
        }
        Ok(())
    }

    fn user(&self, handle: *mut Handle) -> Option<String> {
        let mut item: *const c_void = ptr::null();
        // SAFETY: a transaction that has begun; gives a pointer to something of its own.
        let code = unsafe { (self.functions.get_item)(handle, ITEM_USER, &raw mut item) };
        if code != SUCCESS || item.is_null() {
            return None;
        }
        // SAFETY: this item is a text that ends with zero, alive as long as the transaction.
        let user = unsafe { CStr::from_ptr(item.cast()) };
        user.to_str().ok().map(str::to_owned)
    }

    /// What the modules put into the user's environment.
    fn environment(&self, handle: *mut Handle) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        // SAFETY: a transaction that has begun; gives an allocated list of allocated texts, ended by null, that is ours.
        let list = unsafe { (self.functions.getenvlist)(handle) };
        if list.is_null() {
            return environment;
        }
        for at in 0..ENVIRONMENT_MAX {
            // SAFETY: no further than the null at its end.
            let variable = unsafe { *list.add(at) };
            if variable.is_null() {
                break;
            }
            // SAFETY: a text of the list.
            if let Some((name, value)) = unsafe { lossy(variable) }.split_once('=') {
                environment.insert(name.to_owned(), value.to_owned());
            }
            // SAFETY: allocated by the library with malloc, handed to us, freed once.
            unsafe { libc::free(variable.cast()) };
        }
        // SAFETY: likewise.
        unsafe { libc::free(list.cast()) };
        environment
    }
}

impl Backend for Library {
    fn transact(&mut self, transaction: &Transaction<'_>, talk: &mut dyn Talk) -> Outcome {
        let mut link = Link {
            talk,
            step: Step::Authenticate,
        };
        // Everything reaches it through this pointer from here on, the conversation function too.
        let link = &raw mut link;
        let conversation = Conv {
            conv: converse,
            data: link.cast(),
        };
        let (Ok(service), Ok(user)) = (CString::new(transaction.service), CString::new(transaction.user)) else {
            return self.failed(ptr::null_mut(), None, SYSTEM_ERR);
        };
        let mut handle: *mut Handle = ptr::null_mut();
        // SAFETY: two texts and a conversation, of which the library keeps copies; `link` outlives the transaction, which `open`
        // ends before this function returns.
        let code = unsafe {
            (self.functions.start)(
                service.as_ptr(),
                user.as_ptr(),
                &raw const conversation,
                &raw mut handle,
            )
        };
        if code != SUCCESS || handle.is_null() {
            return self.failed(ptr::null_mut(), None, if code == SUCCESS { SYSTEM_ERR } else { code });
        }
        let mut open = Open {
            handle,
            functions: &self.functions,
            code: SUCCESS,
        };
        if let Err(code) = self.items(handle, transaction) {
            open.code = code;
            return self.failed(handle, None, code);
        }
        for step in transaction.steps {
            // SAFETY: no module runs now, so nobody else uses it.
            unsafe { (*link).step = *step };
            let code = self.step(handle, *step);
            open.code = code;
            let no_obstacle = *step == Step::AccountToChange && code == NEW_AUTHTOK_REQD;
            if code != SUCCESS && !no_obstacle {
                return self.failed(handle, Some(*step), code);
            }
        }
        let outcome = Outcome {
            failed: None,
            user: self.user(handle),
            environment: self.environment(handle),
        };
        if transaction.steps.contains(&Step::OpenSession) {
            open.code |= DATA_SILENT;
        }
        outcome
    }
}

/// The conversation function: `pam_conv(3)`.
extern "C" fn converse(
    count: c_int,
    messages: *mut *const Message,
    responses: *mut *mut Response,
    data: *mut c_void,
) -> c_int {
    let talked = catch_unwind(AssertUnwindSafe(|| {
        let count = usize::try_from(count).unwrap_or(0);
        if count == 0 || count > MESSAGES_MAX || messages.is_null() || responses.is_null() || data.is_null() {
            return CONV_ERR;
        }
        let mut prompts = Vec::with_capacity(count);
        for at in 0..count {
            // SAFETY: a module gives as many pointers to messages as it says (pam_conv(3), as Linux-PAM reads it).
            let message = unsafe { *messages.add(at) };
            if message.is_null() {
                return CONV_ERR;
            }
            // SAFETY: as above; its text is null or ends with zero.
            let (style, text) = unsafe { ((*message).style, lossy((*message).text)) };
            let style = match style {
                1 => Style::Hidden,
                2 => Style::Visible,
                3 => Style::Error,
                4 => Style::Info,
                _ => return CONV_ERR,
            };
            prompts.push(Prompt { style, text });
        }
        // SAFETY: the pointer that `transact` gave, to a `Link` that lives until after the transaction; while a step runs only
        // this function uses it, and a module has one conversation at a time.
        let link = unsafe { &mut *data.cast::<Link<'_>>() };
        let Ok(answers) = link.talk.answer(link.step, &prompts) else {
            return CONV_ERR;
        };
        // SAFETY: a place for one pointer, checked above.
        unsafe { hand_over(&answers, count, responses) }
    }));
    talked.unwrap_or(CONV_ERR)
}

/// Gives the answers in memory that the module frees.
///
/// # Safety
///
/// `responses` can be written to.
unsafe fn hand_over(answers: &[Option<Zeroizing<String>>], count: usize, responses: *mut *mut Response) -> c_int {
    // SAFETY: asks for zeroed memory; null is checked.
    let made = unsafe { libc::calloc(count, size_of::<Response>()) }.cast::<Response>();
    if made.is_null() {
        return BUF_ERR;
    }
    for (at, answer) in answers.iter().take(count).enumerate() {
        let Some(answer) = answer else { continue };
        // SAFETY: one byte more than the text, zeroed, so that it ends with zero.
        let text = unsafe { libc::calloc(answer.len() + 1, 1) }.cast::<u8>();
        if text.is_null() {
            // SAFETY: what was made so far, none of which the module has seen.
            unsafe { take_back(made, count) };
            return BUF_ERR;
        }
        // SAFETY: room for the text, which does not overlap; `at` is below `count`.
        unsafe {
            ptr::copy_nonoverlapping(answer.as_ptr(), text, answer.len());
            (*made.add(at)).text = text.cast();
        }
    }
    // SAFETY: the caller's promise.
    unsafe { *responses = made };
    SUCCESS
}

/// # Safety
///
/// `made` are `count` responses, each without a text or with one from `calloc`, used by nobody.
unsafe fn take_back(made: *mut Response, count: usize) {
    for at in 0..count {
        // SAFETY: the caller's promise; each text is wiped up to its zero, and freed once.
        unsafe {
            let text = (*made.add(at)).text;
            if !text.is_null() {
                let length = libc::strlen(text);
                ptr::write_bytes(text, 0, length);
                libc::free(text.cast());
            }
        }
    }
    // SAFETY: from `calloc`, freed once.
    unsafe { libc::free(made.cast()) };
}

/// A text for people, of bounded length.
///
/// # Safety
///
/// `from` is null or ends with a zero byte.
unsafe fn lossy(from: *const c_char) -> String {
    if from.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(from) }.to_bytes();
    String::from_utf8_lossy(bytes.get(..TEXT_BYTES_MAX).unwrap_or(bytes)).into_owned()
}
