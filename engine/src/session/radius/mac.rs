//! Devices that are let in by their address: the name is a MAC address, and so is the password, or there is none and the request
//! is a Call-Check.
//!
//! An address is no secret. So what is asked here is a chain of its own, and whoever offers another password than the address is
//! a user like any other, asked of the ordinary chain, where nobody is let in for a name alone.

use wire::radius::{Chap, Packet, number};

use super::method::Offer;
use crate::radius::mac::{Format, parse};

/// Service-Type Call-Check (RFC 2865 section 5.6).
const CALL_CHECK: &[u8] = &[0, 0, 0, 10];

/// How devices are let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mac {
    /// Index of the chain that knows the devices. A back end says yes when it knows the name.
    pub chain: usize,
    /// How the address is written as a name.
    pub format: Format,
}

/// The address of the device that asks to be let in by it.
pub(super) fn asked(packet: &Packet<'_>, offer: &Offer<'_>) -> Option<[u8; 6]> {
    let name = packet.find(number::USER_NAME)?;
    let octets = parse(name)?;
    let shown = match offer {
        Offer::Nothing => packet.find(number::SERVICE_TYPE) == Some(CALL_CHECK),
        Offer::Password(password) => parse(password.as_bytes()) == Some(octets),
        Offer::Chap(chap) => answers(chap, name, &octets),
        Offer::MsChap { .. } | Offer::MsChap2 { .. } | Offer::Change { .. } | Offer::Change2 { .. } => false,
    };
    shown.then_some(octets)
}

/// Whether a CHAP response is made with the address, in any form.
fn answers(chap: &Chap<'_>, name: &[u8], octets: &[u8; 6]) -> bool {
    let separators = [None, Some('-'), Some(':'), Some('.'), Some(' ')];
    let mut forms = separators.into_iter().flat_map(|separator| {
        let groups: &[usize] = if separator.is_none() { &[2] } else { &[2, 4, 6] };
        let with = move |upper| {
            groups.iter().map(move |digits| Format {
                separator,
                digits: *digits,
                upper,
            })
        };
        with(false).chain(with(true))
    });
    chap.check(name) || forms.any(|form| chap.check(form.write(octets).as_bytes()))
}
