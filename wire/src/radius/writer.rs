//! Writing a packet behind what a buffer already holds, and sealing it.
//!
//! A [`Writer`] that is dropped before [`Writer::finish`] leaves the buffer as it was. The Message-Authenticator is the first
//! attribute where it belongs: in every packet but those of accounting (RFC 3579 section 3.2, and what came after
//! CVE-2024-3596).

use std::fmt;

use super::authenticator::{self, Secret};
use super::hidden;
use super::number;
use super::packet::{Code, HEADER_BYTES, PACKET_BYTES_MAX, Packet};

/// The most octets of one attribute's value.
pub(super) const VALUE_BYTES_MAX: usize = 253;

/// Why something was not written. Nothing of it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Full {
    /// The packet would have more than 4096 octets.
    Packet,
    /// The value has more octets than an attribute can hold.
    Value,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Full::Packet => write!(f, "the packet would have more than {PACKET_BYTES_MAX} octets"),
            Full::Value => write!(f, "the value has more octets than one attribute can hold"),
        }
    }
}

impl std::error::Error for Full {}

/// A packet that is being written.
#[derive(Debug)]
pub struct Writer<'v> {
    out: &'v mut Vec<u8>,
    start: usize,
    /// Where the value of the Message-Authenticator begins, from `start`.
    message_authenticator: Option<usize>,
    finished: bool,
}

impl<'v> Writer<'v> {
    /// Begins the answer to a request, with a Message-Authenticator unless it is an Accounting-Response to an
    /// Accounting-Request.
    #[must_use]
    pub fn reply(out: &'v mut Vec<u8>, code: Code, request: &Packet<'_>) -> Self {
        let mut writer = Self::bare(out, code, request.identifier(), request.authenticator());
        if code != Code::ACCOUNTING_RESPONSE || request.code() == Code::STATUS_SERVER {
            writer.reserve_message_authenticator();
        }
        writer
    }

    /// Begins a request, with a Message-Authenticator unless it is an Accounting-Request. `authenticator`: 16 octets that
    /// nobody can foretell, of an Access-Request or Status-Server; the others' is a hash, and it is not looked at.
    #[must_use]
    pub fn request(out: &'v mut Vec<u8>, code: Code, identifier: u8, authenticator: &[u8; 16]) -> Self {
        let mut writer = Self::bare(out, code, identifier, authenticator);
        if code != Code::ACCOUNTING_REQUEST {
            writer.reserve_message_authenticator();
        }
        writer
    }

    /// Begins a packet and adds nothing to it. `authenticator` as in [`Writer::request`], or of the request for a reply.
    #[must_use]
    pub fn bare(out: &'v mut Vec<u8>, code: Code, identifier: u8, authenticator: &[u8; 16]) -> Self {
        let start = out.len();
        out.extend_from_slice(&[code.0, identifier, 0, 0]);
        out.extend_from_slice(if code.is_signed_request() {
            &[0; 16]
        } else {
            authenticator
        });
        Writer {
            out,
            start,
            message_authenticator: None,
            finished: false,
        }
    }

    /// Octets of the packet so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.out.len().saturating_sub(self.start)
    }

    /// The Authenticator by which values in this packet are hidden.
    #[must_use]
    pub fn hiding_authenticator(&self) -> [u8; 16] {
        let header = self.out.get(self.start + 4..self.start + HEADER_BYTES);
        header.and_then(|octets| octets.try_into().ok()).unwrap_or_default()
    }

    /// Adds an attribute.
    ///
    /// # Errors
    /// It does not fit.
    pub fn attribute(&mut self, number: u8, value: &[u8]) -> Result<(), Full> {
        self.attribute_with(number, |out| {
            out.extend_from_slice(value);
            true
        })
    }

    /// Adds an attribute whose value is appended by `write`, which says whether it could.
    ///
    /// # Errors
    /// It does not fit, or `write` could not.
    pub fn attribute_with(&mut self, number: u8, write: impl FnOnce(&mut Vec<u8>) -> bool) -> Result<(), Full> {
        let at = self.out.len();
        self.out.extend_from_slice(&[number, 0]);
        let written = write(self.out);
        let length = self.out.len().saturating_sub(at);
        let fault = match u8::try_from(length) {
            Ok(length) if written && self.bytes() <= PACKET_BYTES_MAX => {
                if let Some(place) = self.out.get_mut(at + 1) {
                    *place = length;
                }
                return Ok(());
            }
            Ok(_) if written => Full::Packet,
            _ => Full::Value,
        };
        self.out.truncate(at);
        Err(fault)
    }

    /// Adds a vendor's attribute, with one octet each for its type and length (RFC 2865 section 5.26).
    ///
    /// # Errors
    /// It does not fit.
    pub fn vendor(&mut self, vendor: u32, number: u8, value: &[u8]) -> Result<(), Full> {
        self.vendor_with(vendor, number, |out| {
            out.extend_from_slice(value);
            true
        })
    }

    /// Adds a vendor's attribute whose value is appended by `write`, which says whether it could.
    ///
    /// # Errors
    /// It does not fit, or `write` could not.
    pub fn vendor_with(
        &mut self,
        vendor: u32,
        number: u8,
        write: impl FnOnce(&mut Vec<u8>) -> bool,
    ) -> Result<(), Full> {
        self.attribute_with(number::VENDOR_SPECIFIC, |out| {
            out.extend_from_slice(&vendor.to_be_bytes());
            let at = out.len();
            out.extend_from_slice(&[number, 0]);
            let written = write(out);
            let length = u8::try_from(out.len().saturating_sub(at));
            match (length, out.get_mut(at + 1)) {
                (Ok(length), Some(place)) => *place = length,
                _ => return false,
            }
            written
        })
    }

    /// Adds as many attributes as the value needs, of 253 octets each but the last: EAP-Message, and whatever else the
    /// dictionary calls concat (RFC 8044 section 3.6). An empty value is one empty attribute.
    ///
    /// # Errors
    /// It does not fit.
    pub fn concat(&mut self, number: u8, value: &[u8]) -> Result<(), Full> {
        let before = self.out.len();
        let mut rest = value;
        loop {
            let (part, behind) = rest.split_at_checked(VALUE_BYTES_MAX).unwrap_or((rest, &[]));
            if let Err(fault) = self.attribute(number, part) {
                self.out.truncate(before);
                return Err(fault);
            }
            if behind.is_empty() {
                return Ok(());
            }
            rest = behind;
        }
    }

    /// Copies all Proxy-States of the request, in order (RFC 2865 section 5.33).
    ///
    /// # Errors
    /// They do not fit.
    pub fn proxy_states(&mut self, request: &Packet<'_>) -> Result<(), Full> {
        if !request.has_proxy_state() {
            return Ok(());
        }
        let before = self.out.len();
        for value in request.all(number::PROXY_STATE) {
            if let Err(fault) = self.attribute(number::PROXY_STATE, value) {
                self.out.truncate(before);
                return Err(fault);
            }
        }
        Ok(())
    }

    /// Adds a Message-Authenticator here, to be filled in at the end. There is at most one: a second call changes nothing.
    ///
    /// # Errors
    /// It does not fit.
    pub fn message_authenticator(&mut self) -> Result<(), Full> {
        if self.message_authenticator.is_some() {
            return Ok(());
        }
        let at = self.bytes() + 2;
        self.attribute(number::MESSAGE_AUTHENTICATOR, &[0; 16])?;
        self.message_authenticator = Some(at);
        Ok(())
    }

    /// Adds a User-Password.
    ///
    /// # Errors
    /// It does not fit, or has more than 128 octets.
    pub fn user_password(&mut self, password: &[u8], secret: &Secret) -> Result<(), Full> {
        let authenticator = self.hiding_authenticator();
        self.attribute_with(number::USER_PASSWORD, |out| {
            hidden::hide_password(out, password, secret, &authenticator)
        })
    }

    /// Adds a vendor's attribute hidden with a salt: MS-MPPE-Send-Key and its kin. The salts of a packet differ.
    ///
    /// # Errors
    /// It does not fit, or has more than 239 octets.
    pub fn vendor_salted(
        &mut self,
        vendor: u32,
        number: u8,
        plain: &[u8],
        salt: u16,
        secret: &Secret,
    ) -> Result<(), Full> {
        let authenticator = self.hiding_authenticator();
        self.vendor_with(vendor, number, |out| {
            hidden::hide_salted(out, plain, salt, secret, &authenticator)
        })
    }

    /// Writes length, Message-Authenticator and Authenticator. The answer is the packet's length in octets; it lies at the
    /// end of the buffer.
    ///
    /// # Errors
    /// The packet has more than 4096 octets. Then the buffer is as it was.
    pub fn finish(mut self, secret: &Secret) -> Result<usize, Full> {
        let bytes = self.bytes();
        let length = u16::try_from(bytes).map_err(|_| Full::Packet)?;
        if bytes > PACKET_BYTES_MAX {
            return Err(Full::Packet);
        }
        let packet = self.out.get_mut(self.start..).unwrap_or_default();
        if let Some(place) = packet.get_mut(2..4) {
            place.copy_from_slice(&length.to_be_bytes());
        }
        authenticator::seal(packet, self.message_authenticator, secret);
        self.finished = true;
        Ok(bytes)
    }

    /// Writes the length, and an Authenticator that is already known, with what else lies there as it is: for one that has no
    /// secret.
    ///
    /// # Errors
    /// As [`Writer::finish`].
    pub fn finish_unsealed(mut self, authenticator: &[u8; 16]) -> Result<usize, Full> {
        let bytes = self.bytes();
        let length = u16::try_from(bytes)
            .ok()
            .filter(|_| bytes <= PACKET_BYTES_MAX)
            .ok_or(Full::Packet)?;
        let header = self
            .out
            .get_mut(self.start + 2..self.start + HEADER_BYTES)
            .unwrap_or_default();
        let written = length.to_be_bytes().into_iter().chain(authenticator.iter().copied());
        header.iter_mut().zip(written).for_each(|(to, from)| *to = from);
        self.finished = true;
        Ok(bytes)
    }

    /// Forgets what was added since the packet had so many octets.
    pub(super) fn truncate(&mut self, bytes: usize) {
        self.out.truncate(self.start + bytes);
    }

    /// The first attribute of a packet that has none yet: there is room.
    fn reserve_message_authenticator(&mut self) {
        self.message_authenticator = Some(self.bytes() + 2);
        self.out.extend_from_slice(&[number::MESSAGE_AUTHENTICATOR, 18]);
        self.out.extend_from_slice(&[0; 16]);
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.out.truncate(self.start);
        }
    }
}
