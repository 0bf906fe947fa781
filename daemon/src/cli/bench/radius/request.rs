//! The requests of the load: each has an Authenticator, and in accounting a session, that no other has.

use wire::radius::{Code, Full, Packet, Writer, number};

use super::super::pace::Random;
use super::Plan;
use super::users::User;

/// What the client calls itself.
const NAS_IDENTIFIER: &[u8] = b"usherd-bench";

/// Makes requests.
pub(super) struct Requests {
    draws: Random,
    /// Of Authenticators: other ones in each run, so that no run's requests are duplicates of another's.
    chance: Random,
    run: u32,
    number: u32,
}

impl Requests {
    pub(super) fn new(seed: u64, chance: [u8; 8]) -> Requests {
        let [a, b, c, d, ..] = chance;
        Requests {
            draws: Random::new(seed, 0),
            chance: Random::new(u64::from_be_bytes(chance), 1),
            run: u32::from_be_bytes([a, b, c, d]),
            number: 0,
        }
    }

    /// Appends one. The answer is the user that it is about, and its Authenticator.
    pub(super) fn write<'p>(
        &mut self,
        plan: &'p Plan,
        identifier: u8,
        out: &mut Vec<u8>,
    ) -> Result<(&'p User, [u8; 16]), Full> {
        let user = plan.users.drawn(&mut self.draws);
        let start = out.len();
        self.number = self.number.wrapping_add(1);
        let code = if plan.accounting {
            Code::ACCOUNTING_REQUEST
        } else {
            Code::ACCESS_REQUEST
        };
        let mut writer = Writer::request(out, code, identifier, &self.authenticator());
        writer.attribute(number::USER_NAME, &user.name)?;
        if let Some(proof) = &user.proof {
            proof.write(&mut writer, &plan.secret)?;
        }
        writer.attribute(number::NAS_IDENTIFIER, NAS_IDENTIFIER)?;
        writer.attribute(number::NAS_PORT, &self.number.to_be_bytes())?;
        if plan.accounting {
            // Start (RFC 2866 section 5.1).
            writer.attribute(number::ACCT_STATUS_TYPE, &[0, 0, 0, 1])?;
            let session = (u64::from(self.run) << 32) | u64::from(self.number);
            writer.attribute(number::ACCT_SESSION_ID, &hex(session))?;
        }
        writer.finish(&plan.secret)?;
        let packet = Packet::parse(out.get(start..).unwrap_or_default());
        Ok((user, packet.map_or([0; 16], |packet| *packet.authenticator())))
    }

    fn authenticator(&mut self) -> [u8; 16] {
        (u128::from(self.chance.next()) << 64 | u128::from(self.chance.next())).to_be_bytes()
    }
}

/// Sixteen digits, without allocating.
fn hex(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    for (at, digit) in (0..16_u32).rev().zip(digits.iter_mut()) {
        let nibble = (number >> (4 * at)) & 15;
        *digit =
            char::from_digit(u32::try_from(nibble).unwrap_or(0), 16).map_or(b'0', |c| u8::try_from(c).unwrap_or(b'0'));
    }
    digits
}

#[cfg(test)]
mod tests {
    #[test]
    fn sessions_are_sixteen_digits() {
        assert_eq!(&super::hex(0x0123_4567_89ab_cdef), b"0123456789abcdef");
    }
}
