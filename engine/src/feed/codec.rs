//! The few forms that the feed's own binary records are made of: fixed fields, and lengths as 32 bits before bytes, all
//! little-endian. Read with an answer for every damage, because what a disk gives back may be anything.

use super::event::Damaged;

/// Appends a length and the bytes. A field never comes near 4 GiB: what is in it came in one LDAP message, whose bound is
/// far below; one that did would be cut, and be found damaged, rather than shift what follows.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// As [`put_bytes`], and nothing at all where there is nothing: a flag elsewhere says which.
pub(super) fn put_optional(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    if let Some(bytes) = bytes {
        put_bytes(out, bytes);
    }
}

/// Reads what the functions above write.
pub(super) struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (field, rest) = self.rest.split_first_chunk().ok_or(CUT)?;
        self.rest = rest;
        Ok(*field)
    }

    pub(super) fn number(&mut self) -> Result<u64, Damaged> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Damaged> {
        let len = u32::from_le_bytes(self.array()?);
        let len = usize::try_from(len).map_err(|_| CUT)?;
        let (field, rest) = self.rest.split_at_checked(len).ok_or(CUT)?;
        self.rest = rest;
        Ok(field)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Damaged> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Damaged("a text is not UTF-8"))
    }

    pub(super) fn optional<T>(
        &mut self,
        present: bool,
        read: impl FnOnce(&mut Self) -> Result<T, Damaged>,
    ) -> Result<Option<T>, Damaged> {
        present.then(|| read(self)).transpose()
    }

    pub(super) fn finish(&self) -> Result<(), Damaged> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Damaged("bytes are left behind a record"))
        }
    }
}

const CUT: Damaged = Damaged("a record is cut short");
