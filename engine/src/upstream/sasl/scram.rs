//! SCRAM (RFC 5802, RFC 7677), the client's side, without channel binding.
//!
//! [`Client`] has sent its first message; the server's challenge turns it into a [`Proof`], which knows what the server must
//! answer in the end. Both are consumed, so no message is taken twice. Whatever a server sends, the work is bounded: by the
//! length of a message, and by the iterations that the account allows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::CHANCE;
use super::account::{Account, Who};

/// A longer message of a server is refused.
const MESSAGE_MAX: usize = 4_096;

/// Which hash function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hash {
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// Why a message of a server ends the exchange.
pub type Fault = &'static str;

type Secret = Zeroizing<Vec<u8>>;

const LONG: Fault = "the server's SCRAM message is too long";
const BROKEN: Fault = "the server's SCRAM message is malformed";
const EXTENDED: Fault = "the server demands an extension of SCRAM that is not known";
const NONCE: Fault = "the server's nonce does not extend ours: it answers somebody else's exchange, or replays one";
const ITERATIONS: Fault =
    "the server's number of SCRAM iterations is out of bounds (at least 4,096; bind_iterations_max)";
const FORGED: Fault = "the server could not prove that it knows the password: it is not to be trusted";

/// What comes of a password, for one salt: all that an exchange needs.
#[derive(Clone)]
pub struct Keys {
    hash: Hash,
    salt: Vec<u8>,
    iterations: u32,
    client: Secret,
    server: Secret,
}

impl Keys {
    pub(super) fn are_for(&self, hash: Hash, salt: &[u8], iterations: u32) -> bool {
        (self.hash, self.iterations) == (hash, iterations) && self.salt == salt
    }

    pub(super) fn derive(hash: Hash, password: &[u8], salt: &[u8], iterations: u32) -> Option<Keys> {
        let salted = match hash {
            Hash::Sha1 => {
                let mut salted = Zeroizing::new(vec![0; 20]);
                pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, iterations, &mut salted);
                salted
            }
            Hash::Sha256 => {
                let mut salted = Zeroizing::new(vec![0; 32]);
                pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut salted);
                salted
            }
        };
        Some(Keys {
            hash,
            salt: salt.to_vec(),
            iterations,
            client: mac(hash, &salted, b"Client Key")?,
            server: mac(hash, &salted, b"Server Key")?,
        })
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({:?}, {} iterations)", self.hash, self.iterations)
    }
}

/// The first message is sent.
#[derive(Debug)]
pub struct Client {
    hash: Hash,
    /// What says that there is no channel binding, and as whom to act.
    header: Vec<u8>,
    bare: Vec<u8>,
    nonce: String,
}

/// The last message is sent.
pub struct Proof {
    /// The server's signature.
    expected: Secret,
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proof")
    }
}

impl Client {
    /// Begins; also the first message.
    #[must_use]
    pub fn begin(hash: Hash, who: &Who, chance: &[u8; CHANCE]) -> (Client, Vec<u8>) {
        Client::with_nonce(hash, who, STANDARD.encode(chance))
    }

    fn with_nonce(hash: Hash, who: &Who, nonce: String) -> (Client, Vec<u8>) {
        let mut header = b"n,".to_vec();
        if !who.authzid.is_empty() {
            header.extend_from_slice(b"a=");
            name(&mut header, &who.authzid);
        }
        header.push(b',');
        let mut bare = b"n=".to_vec();
        name(&mut bare, &who.authcid);
        bare.extend_from_slice(b",r=");
        bare.extend_from_slice(nonce.as_bytes());
        let first = [&header[..], &bare].concat();
        let client = Client {
            hash,
            header,
            bare,
            nonce,
        };
        (client, first)
    }

    /// The server's challenge has come: our proof, and what to hold the server's answer against.
    ///
    /// # Errors
    /// The challenge is malformed, not for us, or asks for too little or too much.
    pub fn challenged(self, challenge: &[u8], account: &Account) -> Result<(Vec<u8>, Proof), Fault> {
        let (nonce, salt, iterations) = read_challenge(challenge)?;
        let ours = self.nonce.as_bytes();
        if !nonce.starts_with(ours) || nonce.len() == ours.len() {
            return Err(NONCE);
        }
        let keys = account.keys(self.hash, &salt, iterations).ok_or(ITERATIONS)?;
        let mut last = b"c=".to_vec();
        last.extend_from_slice(STANDARD.encode(&self.header).as_bytes());
        last.extend_from_slice(b",r=");
        last.extend_from_slice(nonce);
        let all = [&self.bare[..], challenge, &last].join(&b',');
        let stored = digest(self.hash, &keys.client);
        // An HMAC takes a key of any length, so there always are three.
        let signed = mac(self.hash, &stored, &all).zip(mac(self.hash, &keys.server, &all));
        let (signature, expected) = signed.ok_or(BROKEN)?;
        let proof: Secret = Zeroizing::new(signature.iter().zip(keys.client.iter()).map(|(a, b)| a ^ b).collect());
        last.extend_from_slice(b",p=");
        last.extend_from_slice(STANDARD.encode(&proof).as_bytes());
        Ok((last, Proof { expected }))
    }
}

impl Proof {
    /// The server's last message.
    ///
    /// # Errors
    /// It does not prove that the server knows the password.
    pub fn verify(self, said: &[u8]) -> Result<(), Fault> {
        let first = attributes(said)?.next().unwrap_or_default();
        let signature = match first.split_first_chunk() {
            Some((b"v=", signature)) => STANDARD.decode(signature).map_err(|_| BROKEN)?,
            Some((b"e=", error)) => return Err(server_error(error)),
            _ => return Err(BROKEN),
        };
        if bool::from(signature.ct_eq(&self.expected)) {
            Ok(())
        } else {
            Err(FORGED)
        }
    }
}

/// Nonce, salt and iterations. What follows them is passed over (RFC 5802 section 5.1).
fn read_challenge(said: &[u8]) -> Result<(&[u8], Vec<u8>, u32), Fault> {
    let mut all = attributes(said)?;
    let mut next = |key: &[u8; 2]| match all.next().unwrap_or_default().split_first_chunk() {
        Some((found, value)) if found == key => Ok(value),
        Some((b"m=", _)) => Err(EXTENDED),
        Some((b"e=", error)) => Err(server_error(error)),
        _ => Err(BROKEN),
    };
    let nonce = next(b"r=")?;
    let salt = STANDARD.decode(next(b"s=")?).map_err(|_| BROKEN)?;
    let digits = next(b"i=")?;
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) && !digits.starts_with(b"0");
    if !is_number || salt.is_empty() || !nonce.iter().all(u8::is_ascii_graphic) {
        return Err(BROKEN);
    }
    let text = std::str::from_utf8(digits).map_err(|_| BROKEN)?;
    // More than fits is more than anybody allows.
    Ok((nonce, salt, text.parse().unwrap_or(u32::MAX)))
}

fn attributes(said: &[u8]) -> Result<impl Iterator<Item = &[u8]>, Fault> {
    if said.len() > MESSAGE_MAX {
        return Err(LONG);
    }
    Ok(said.split(|octet| *octet == b','))
}

/// `server-error-value` of RFC 5802 section 7.
fn server_error(value: &[u8]) -> Fault {
    match value {
        b"invalid-proof" => "the server says invalid-proof: the password is wrong",
        b"unknown-user" => "the server says unknown-user: it does not know bind_authcid",
        b"invalid-encoding" => "the server says invalid-encoding",
        b"invalid-username-encoding" => "the server says invalid-username-encoding",
        b"extensions-not-supported" => "the server says extensions-not-supported",
        b"channel-bindings-dont-match" => "the server says channel-bindings-dont-match",
        b"server-does-support-channel-binding" => "the server says server-does-support-channel-binding",
        b"no-resources" => "the server says no-resources",
        _ => "the server ended the exchange with an error of SCRAM",
    }
}

/// A name within a message (`saslname`).
fn name(out: &mut Vec<u8>, name: &str) {
    for octet in name.bytes() {
        match octet {
            b',' => out.extend_from_slice(b"=2C"),
            b'=' => out.extend_from_slice(b"=3D"),
            other => out.push(other),
        }
    }
}

fn digest(hash: Hash, content: &[u8]) -> Secret {
    Zeroizing::new(match hash {
        Hash::Sha1 => Sha1::digest(content).to_vec(),
        Hash::Sha256 => Sha256::digest(content).to_vec(),
    })
}

fn mac(hash: Hash, key: &[u8], content: &[u8]) -> Option<Secret> {
    match hash {
        Hash::Sha1 => {
            let mut mac = Hmac::<Sha1>::new_from_slice(key).ok()?;
            mac.update(content);
            Some(Zeroizing::new(mac.finalize().into_bytes().to_vec()))
        }
        Hash::Sha256 => {
            let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
            mac.update(content);
            Some(Zeroizing::new(mac.finalize().into_bytes().to_vec()))
        }
    }
}

#[cfg(test)]
mod tests;
