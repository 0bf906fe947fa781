//! The members of a request, each taken once, with its type checked.

use serde_json::{Map, Value};
use zeroize::{Zeroize, Zeroizing};

use super::request::{Invalid, UnixId};

/// Most SIDs or ids in one request: winbindd takes 128 KiB of them at once, and a SID may have 190 bytes.
const ENTRIES_PER_REQUEST_MAX: usize = 500;

/// The members that nobody has taken yet (null is as good as absent); texts are wiped, because one may be a password.
pub(super) struct Members(pub(super) Map<String, Value>);

impl Drop for Members {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(all) => all.iter_mut().for_each(wipe),
        Value::Object(all) => all.values_mut().for_each(wipe),
        _ => {}
    }
}

impl Members {
    /// Whether it is there and not taken.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A text, moved out.
    pub(super) fn optional_text(&mut self, name: &str) -> Result<Option<String>, Invalid> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.contains('\0') => Ok(Some(text)),
            Some(mut other) => {
                wipe(&mut other);
                Err(Invalid(format!("`{name}` must be a text without a zero byte")))
            }
        }
    }

    pub(super) fn text(&mut self, name: &str) -> Result<String, Invalid> {
        self.optional_text(name)?
            .ok_or_else(|| Invalid(format!("`{name}` is missing")))
    }

    pub(super) fn name(&mut self) -> Result<String, Invalid> {
        let name = self.text("name")?;
        if name.is_empty() {
            return Err(Invalid("`name` is empty".into()));
        }
        Ok(name)
    }

    pub(super) fn optional_id(&mut self, name: &str) -> Result<Option<u32>, Invalid> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(value) => value
                .as_u64()
                .and_then(|id| u32::try_from(id).ok())
                .map(Some)
                .ok_or_else(|| Invalid(format!("`{name}` must be a whole number from 0 to 4294967295"))),
        }
    }

    /// True or false; absent is false.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, Invalid> {
        match self.0.remove(name) {
            None => Ok(false),
            Some(Value::Bool(value)) => Ok(value),
            Some(mut other) => {
                wipe(&mut other);
                Err(Invalid(format!("`{name}` must be true or false")))
            }
        }
    }

    /// A list, each entry of it read by `one`; an absent one is empty.
    fn list<T>(&mut self, name: &str, each: &str, one: fn(Value) -> Option<T>) -> Result<Vec<T>, Invalid> {
        let wrong = || {
            Invalid(format!(
                "`{name}` must be a list of at most {ENTRIES_PER_REQUEST_MAX} {each}"
            ))
        };
        match self.0.remove(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(all)) if all.len() <= ENTRIES_PER_REQUEST_MAX => {
                all.into_iter().map(|value| one(value).ok_or_else(wrong)).collect()
            }
            Some(mut other) => {
                wipe(&mut other);
                Err(wrong())
            }
        }
    }

    pub(super) fn sids(&mut self) -> Result<Vec<String>, Invalid> {
        let sids = self.list("sids", "SIDs", |value| match value {
            Value::String(text) if !text.contains('\0') => Some(text),
            _ => None,
        })?;
        if sids.is_empty() {
            return Err(Invalid("`sids` is missing, or empty".into()));
        }
        Ok(sids)
    }

    pub(super) fn ids(&mut self) -> Result<Vec<UnixId>, Invalid> {
        let number = |value: Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let uids = self.list("uids", "whole numbers from 0 to 4294967295", number)?;
        let gids = self.list("gids", "whole numbers from 0 to 4294967295", number)?;
        let ids: Vec<UnixId> = uids
            .into_iter()
            .map(UnixId::Uid)
            .chain(gids.into_iter().map(UnixId::Gid))
            .collect();
        match ids.len() {
            0 => Err(Invalid("`ids-to-sids` needs `uids` or `gids`".into())),
            1..=ENTRIES_PER_REQUEST_MAX => Ok(ids),
            _ => Err(Invalid(format!(
                "`uids` and `gids` are at most {ENTRIES_PER_REQUEST_MAX} together"
            ))),
        }
    }

    pub(super) fn bytes(&mut self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Invalid> {
        let Some(text) = self.optional_text(name)?.map(Zeroizing::new) else {
            return Ok(None);
        };
        unhex(&text)
            .map(Some)
            .ok_or_else(|| Invalid(format!("`{name}` must be hex, two digits for each byte")))
    }
}

fn unhex(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() / 2));
    for pair in text.as_bytes().chunks(2) {
        let &[high, low] = pair else { return None };
        bytes.push(digit(high)? << 4 | digit(low)?);
    }
    Some(bytes)
}
