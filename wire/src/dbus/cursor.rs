//! Walks marshalled values. Alignment counts from where the cursor began, which is the beginning of a message or of a body.

use crate::frame::Malformed;

pub(super) struct Cursor<'a> {
    all: &'a [u8],
    at: usize,
    little_endian: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(all: &'a [u8], little_endian: bool) -> Self {
        Cursor {
            all,
            at: 0,
            little_endian,
        }
    }

    /// Bytes walked so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Nothing is left.
    pub(super) fn end(&self) -> Result<(), Malformed> {
        if self.at == self.all.len() {
            Ok(())
        } else {
            Err(Malformed::TrailingBytes)
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(Malformed::Truncated)?;
        let taken = self.all.get(self.at..end).ok_or(Malformed::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    pub(super) fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        self.take(count).map(|_| ())
    }

    /// Up to the next multiple of `to`; what lies between is zero.
    pub(super) fn align(&mut self, to: usize) -> Result<(), Malformed> {
        let padding = self.take(self.at.next_multiple_of(to) - self.at)?;
        if padding.iter().all(|byte| *byte == 0) {
            Ok(())
        } else {
            Err(Malformed::BadValue("padding of zeroes"))
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        self.take(1)?.first().copied().ok_or(Malformed::Truncated)
    }

    /// `u`, and `b` before it is looked at.
    pub(super) fn number(&mut self) -> Result<u32, Malformed> {
        self.align(4)?;
        let bytes = *self.take(4)?.first_chunk::<4>().ok_or(Malformed::Truncated)?;
        Ok(if self.little_endian {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        })
    }

    /// `ay`.
    pub(super) fn array(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.number()? as usize;
        if len > super::ARRAY_BYTES_MAX {
            return Err(Malformed::TooLarge);
        }
        self.take(len)
    }

    /// `s` and `o`.
    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        let len = self.number()? as usize;
        self.terminated(len)
    }

    /// `g`.
    pub(super) fn signature(&mut self) -> Result<&'a str, Malformed> {
        let len = usize::from(self.byte()?);
        self.terminated(len)
    }

    fn terminated(&mut self, len: usize) -> Result<&'a str, Malformed> {
        const RIGHT: Malformed = Malformed::BadValue("UTF-8 without zero bytes, and one behind it");
        let bytes = self.take(len)?;
        if self.byte()? != 0 || bytes.contains(&0) {
            return Err(RIGHT);
        }
        std::str::from_utf8(bytes).map_err(|_| RIGHT)
    }

    /// Walks past one value of the one type that `types` is.
    pub(super) fn pass_over(&mut self, types: &str, depth: u32) -> Result<(), Malformed> {
        let rest = self.pass_one(types.as_bytes(), depth)?;
        if rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed::BadTag)
        }
    }

    /// Walks past a value of the first complete type; the types behind it.
    fn pass_one<'t>(&mut self, types: &'t [u8], depth: u32) -> Result<&'t [u8], Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed::TooDeep)?;
        let (first, behind) = types.split_first().ok_or(Malformed::BadTag)?;
        match first {
            b'y' => self.skip(1)?,
            b'n' | b'q' => self.sized(2)?,
            b'b' | b'i' | b'u' | b'h' => self.sized(4)?,
            b'x' | b't' | b'd' => self.sized(8)?,
            b's' | b'o' => {
                self.text()?;
            }
            b'g' => {
                self.signature()?;
            }
            b'v' => {
                let inner = self.signature()?;
                self.pass_over(inner, depth)?;
            }
            b'a' => {
                let rest = complete(behind, depth)?;
                let len = self.number()? as usize;
                self.align(alignment(behind.first().copied()))?;
                self.skip(len)?;
                return Ok(rest);
            }
            b'(' => {
                self.align(8)?;
                let mut rest = behind;
                while rest.first() != Some(&b')') {
                    rest = self.pass_one(rest, depth)?;
                }
                return rest.get(1..).ok_or(Malformed::BadTag);
            }
            _ => return Err(Malformed::BadTag),
        }
        Ok(behind)
    }

    fn sized(&mut self, bytes: usize) -> Result<(), Malformed> {
        self.align(bytes)?;
        self.skip(bytes)
    }
}

fn alignment(first: Option<u8>) -> usize {
    match first {
        Some(b'n' | b'q') => 2,
        Some(b'b' | b'i' | b'u' | b'h' | b's' | b'o' | b'a') => 4,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 1,
    }
}

/// What is behind the first complete type.
fn complete(types: &[u8], depth: u32) -> Result<&[u8], Malformed> {
    let depth = depth.checked_sub(1).ok_or(Malformed::TooDeep)?;
    let (first, behind) = types.split_first().ok_or(Malformed::BadTag)?;
    let close = match first {
        b'a' => return complete(behind, depth),
        b'(' => b')',
        b'{' => b'}',
        b'y' | b'n' | b'q' | b'b' | b'i' | b'u' | b'h' | b'x' | b't' | b'd' | b's' | b'o' | b'g' | b'v' => {
            return Ok(behind);
        }
        _ => return Err(Malformed::BadTag),
    };
    let mut rest = behind;
    while rest.first() != Some(&close) {
        rest = complete(rest, depth)?;
    }
    rest.get(1..).ok_or(Malformed::BadTag)
}
