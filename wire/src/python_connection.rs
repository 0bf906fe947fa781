//! Python's `multiprocessing.connection`, the client's side: frames, the mutual challenge in both its dialects, and the
//! part of pickle that plain data needs.
//!
//! A frame is a length (`!i`; above 2 GiB the length -1 and then `!Q`) and so many bytes. The listener challenges first:
//!
//! ```text
//! listener → #CHALLENGE# + message      up to 3.11: 20 bytes; from 3.12: {sha256} and 40 bytes
//! client   → HMAC of the message        up to 3.11: MD5, bare; from 3.12: {sha256} and the HMAC
//! listener → #WELCOME# or #FAILURE#
//! ```
//!
//! and then the same with the roles exchanged. The message covers everything behind `#CHALLENGE#`, the digest's name
//! included. What a peer sends is never unpickled: an acknowledgement is a frame of eight bytes (`send_bytes`).

use std::fmt;

use hmac::{Hmac, KeyInit, Mac, SimpleHmac};
use md5::Md5;
use sha2::{Sha256, Sha384};
use sha3::{Sha3_256, Sha3_384};

use crate::frame::{Malformed, Step};

/// Frames of the handshake are no longer than this.
pub const HANDSHAKE_FRAME_BYTES_MAX: usize = 256;
/// The random bytes of our own challenge, as Python 3.12 has them.
pub const NONCE_BYTES: usize = 40;

const CHALLENGE: &[u8] = b"#CHALLENGE#";
const WELCOME: &[u8] = b"#WELCOME#";
const FAILURE: &[u8] = b"#FAILURE#";
/// A challenge, or an answer, of these lengths has no digest's name and means MD5.
const LEGACY_LENGTHS: [usize; 2] = [16, 20];

/// Finds the first frame of a buffer. A peer that announces more than `max` bytes is malformed.
#[must_use]
pub fn split(buffer: &[u8], max: usize) -> Step {
    let Some((short, rest)) = buffer.split_first_chunk::<4>() else {
        return Step::NeedMore { total: None };
    };
    let (header, length) = match i32::from_be_bytes(*short) {
        -1 => {
            let Some((long, _)) = rest.split_first_chunk::<8>() else {
                return Step::NeedMore { total: None };
            };
            (12, usize::try_from(u64::from_be_bytes(*long)).unwrap_or(usize::MAX))
        }
        length => match usize::try_from(length) {
            Ok(length) => (4, length),
            Err(_) => return Step::Malformed(Malformed::BadValue("a length of 0 or more, or -1")),
        },
    };
    if length > max {
        return Step::Malformed(Malformed::TooLarge);
    }
    let whole = length.saturating_add(header);
    if buffer.len() < whole {
        return Step::NeedMore { total: Some(whole) };
    }
    Step::Frame { len: whole }
}

/// The payload of a whole frame, as [`split`] found it.
#[must_use]
pub fn payload(frame: &[u8]) -> &[u8] {
    let header = if frame.starts_with(&[0xFF; 4]) { 12 } else { 4 };
    frame.get(header..).unwrap_or_default()
}

/// Appends a frame around what `write` appends.
pub fn put_frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let length = out.len() - start - 4;
    match i32::try_from(length) {
        Ok(length) => {
            if let Some(header) = out.get_mut(start..start + 4) {
                header.copy_from_slice(&length.to_be_bytes());
            }
        }
        Err(_) => {
            let long = u64::try_from(length).unwrap_or(u64::MAX).to_be_bytes();
            out.splice(start..start + 4, (-1i32).to_be_bytes().into_iter().chain(long));
        }
    }
}

/// A digest that the handshake may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// `md5`.
    Md5,
    /// `sha256`.
    Sha256,
    /// `sha384`.
    Sha384,
    /// `sha3_256`.
    Sha3_256,
    /// `sha3_384`.
    Sha3_384,
}

impl Digest {
    fn named(name: &[u8]) -> Option<Digest> {
        Some(match name {
            b"md5" => Digest::Md5,
            b"sha256" => Digest::Sha256,
            b"sha384" => Digest::Sha384,
            b"sha3_256" => Digest::Sha3_256,
            b"sha3_384" => Digest::Sha3_384,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Digest::Md5 => "md5",
            Digest::Sha256 => "sha256",
            Digest::Sha384 => "sha384",
            Digest::Sha3_256 => "sha3_256",
            Digest::Sha3_384 => "sha3_384",
        }
    }

    /// The HMAC of a message.
    #[must_use]
    pub fn mac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        match self {
            Digest::Md5 => whole(Hmac::<Md5>::new_from_slice(key), message),
            Digest::Sha256 => whole(Hmac::<Sha256>::new_from_slice(key), message),
            Digest::Sha384 => whole(Hmac::<Sha384>::new_from_slice(key), message),
            Digest::Sha3_256 => whole(SimpleHmac::<Sha3_256>::new_from_slice(key), message),
            Digest::Sha3_384 => whole(SimpleHmac::<Sha3_384>::new_from_slice(key), message),
        }
    }

    /// Whether this is the HMAC of the message, in constant time.
    fn verify(self, key: &[u8], message: &[u8], mac: &[u8]) -> bool {
        match self {
            Digest::Md5 => same(Hmac::<Md5>::new_from_slice(key), message, mac),
            Digest::Sha256 => same(Hmac::<Sha256>::new_from_slice(key), message, mac),
            Digest::Sha384 => same(Hmac::<Sha384>::new_from_slice(key), message, mac),
            Digest::Sha3_256 => same(SimpleHmac::<Sha3_256>::new_from_slice(key), message, mac),
            Digest::Sha3_384 => same(SimpleHmac::<Sha3_384>::new_from_slice(key), message, mac),
        }
    }
}

/// HMAC takes a key of any length: the error cannot be.
fn whole<M: Mac>(mac: Result<M, hmac::digest::InvalidLength>, message: &[u8]) -> Vec<u8> {
    let mac = mac.map(|mac| mac.chain_update(message).finalize().into_bytes().to_vec());
    mac.unwrap_or_default()
}

fn same<M: Mac>(mac: Result<M, hmac::digest::InvalidLength>, message: &[u8], found: &[u8]) -> bool {
    mac.is_ok_and(|mac| mac.chain_update(message).verify_slice(found).is_ok())
}

/// What is wrong with a handshake. None of them is mended by trying again with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The listener does not accept our answer: the keys differ.
    WrongKey,
    /// The listener's answer to our challenge is wrong: the keys differ.
    WrongAnswer,
    /// It asks with, or answers by, a digest that is none of the five, or a weaker one than it asked with.
    Digest,
    /// What it says is not this protocol. A listener without a key begins with nothing, and needs none here.
    Protocol,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::WrongKey => "the listener refuses our key",
            Refusal::WrongAnswer => "the listener does not know our key",
            Refusal::Digest => "the listener uses a digest that is not known here",
            Refusal::Protocol => "what the listener says is not multiprocessing.connection",
        })
    }
}

/// What is to be done after a frame of the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// Payloads of frames to send, in order.
    pub send: Vec<Vec<u8>>,
    /// Both sides have shown that they know the key.
    pub done: bool,
}

enum State {
    Challenge,
    Verdict,
    Answer,
    Over,
}

/// The client's side of the handshake, told the payload of each frame.
pub struct Handshake<'k> {
    key: &'k [u8],
    message: Vec<u8>,
    state: State,
    legacy: bool,
}

impl<'k> Handshake<'k> {
    /// With this key and random bytes of our own.
    #[must_use]
    pub fn new(key: &'k [u8], nonce: &[u8; NONCE_BYTES]) -> Handshake<'k> {
        let mut message = b"{sha256}".to_vec();
        message.extend_from_slice(nonce);
        Handshake {
            key,
            message,
            state: State::Challenge,
            legacy: false,
        }
    }

    /// The listener sent this.
    ///
    /// # Errors
    /// The connection is of no use. `Refusal::WrongAnswer` should be told to the peer by sending [`failure`] first.
    pub fn receive(&mut self, payload: &[u8]) -> Result<Next, Refusal> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Challenge => {
                let message = payload.strip_prefix(CHALLENGE).ok_or(Refusal::Protocol)?;
                let answer = self.answer(message)?;
                self.state = State::Verdict;
                Ok(Next {
                    send: vec![answer],
                    done: false,
                })
            }
            State::Verdict if payload == WELCOME => {
                self.state = State::Answer;
                Ok(Next {
                    send: vec![[CHALLENGE, &self.message].concat()],
                    done: false,
                })
            }
            State::Verdict if payload == FAILURE => Err(Refusal::WrongKey),
            State::Answer => {
                self.check(payload)?;
                Ok(Next {
                    send: vec![WELCOME.to_vec()],
                    done: true,
                })
            }
            State::Verdict | State::Over => Err(Refusal::Protocol),
        }
    }

    fn answer(&mut self, message: &[u8]) -> Result<Vec<u8>, Refusal> {
        match digest(message)? {
            (None, _) => {
                self.legacy = true;
                Ok(Digest::Md5.mac(self.key, message))
            }
            (Some(digest), _) => {
                let mut answer = format!("{{{}}}", digest.name()).into_bytes();
                answer.extend_from_slice(&digest.mac(self.key, message));
                Ok(answer)
            }
        }
    }

    /// A peer of the old dialect answers with MD5 whatever it was asked; one of the new may not fall back to it.
    fn check(&self, answer: &[u8]) -> Result<(), Refusal> {
        let (digest, mac) = match digest(answer)? {
            (None, mac) if self.legacy => (Digest::Md5, mac),
            (Some(digest), mac) if digest != Digest::Md5 || self.legacy => (digest, mac),
            _ => return Err(Refusal::Digest),
        };
        if digest.verify(self.key, &self.message, mac) {
            Ok(())
        } else {
            Err(Refusal::WrongAnswer)
        }
    }
}

/// What tells the listener that its answer is wrong.
#[must_use]
pub fn failure() -> &'static [u8] {
    FAILURE
}

/// The digest that a message names, none where it is of the old dialect, and what stands behind its name.
fn digest(message: &[u8]) -> Result<(Option<Digest>, &[u8]), Refusal> {
    if LEGACY_LENGTHS.contains(&message.len()) {
        return Ok((None, message));
    }
    let named = message.strip_prefix(b"{").ok_or(Refusal::Digest)?;
    let end = named.iter().position(|byte| *byte == b'}').ok_or(Refusal::Digest)?;
    let (name, rest) = named.split_at_checked(end).ok_or(Refusal::Digest)?;
    let digest = Digest::named(name).ok_or(Refusal::Digest)?;
    Ok((Some(digest), rest.get(1..).unwrap_or_default()))
}

/// Writes plain data as a pickle of protocol 3, without memo and frames: what `recv()` of Python 3.0 and later reads.
///
/// The caller keeps the order: `begin`, one value, `end`; between `dict` and `dict_end` keys and values in turn.
pub struct Pickle<'o>(&'o mut Vec<u8>);

impl<'o> Pickle<'o> {
    /// Begins a pickle at the end of `out`.
    pub fn begin(out: &'o mut Vec<u8>) -> Pickle<'o> {
        out.extend_from_slice(&[0x80, 3]);
        Pickle(out)
    }

    /// Ends it.
    pub fn end(self) {
        self.0.push(b'.');
    }

    /// `None`.
    pub fn none(&mut self) {
        self.0.push(b'N');
    }

    /// `True` or `False`.
    pub fn boolean(&mut self, yes: bool) {
        self.0.push(if yes { 0x88 } else { 0x89 });
    }

    /// An `int`.
    pub fn integer(&mut self, number: u64) {
        if let Ok(small) = u8::try_from(number) {
            self.0.extend_from_slice(&[b'K', small]);
        } else if let Ok(small) = u16::try_from(number) {
            self.0.push(b'M');
            self.0.extend_from_slice(&small.to_le_bytes());
        } else if let Ok(middle) = i32::try_from(number) {
            self.0.push(b'J');
            self.0.extend_from_slice(&middle.to_le_bytes());
        } else {
            // Two's complement: a leading zero byte where the highest bit is set.
            self.0.extend_from_slice(&[0x8A, 9]);
            self.0.extend_from_slice(&number.to_le_bytes());
            self.0.push(0);
        }
    }

    /// A `str`.
    pub fn text(&mut self, text: &str) {
        self.0.push(b'X');
        self.counted(text.as_bytes());
    }

    /// A `bytes`.
    pub fn bytes(&mut self, bytes: &[u8]) {
        if let Ok(short) = u8::try_from(bytes.len()) {
            self.0.extend_from_slice(&[b'C', short]);
            self.0.extend_from_slice(bytes);
        } else {
            self.0.push(b'B');
            self.counted(bytes);
        }
    }

    /// A `dict` begins.
    pub fn dict(&mut self) {
        self.0.extend_from_slice(b"}(");
    }

    /// It ends.
    pub fn dict_end(&mut self) {
        self.0.push(b'u');
    }

    /// A `list` begins.
    pub fn list(&mut self) {
        self.0.extend_from_slice(b"](");
    }

    /// It ends.
    pub fn list_end(&mut self) {
        self.0.push(b'e');
    }

    /// Values of a directory are bounded far below 4 GiB; what is longer is cut rather than misread.
    fn counted(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_le_bytes());
        let kept = bytes
            .get(..usize::try_from(length).unwrap_or(usize::MAX))
            .unwrap_or(bytes);
        self.0.extend_from_slice(kept);
    }
}

#[cfg(test)]
#[path = "python_connection_tests.rs"]
mod tests;
