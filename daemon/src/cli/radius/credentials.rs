//! What shows a RADIUS server that somebody knows a password: each method's attributes, for those who ask.

use clap::ValueEnum;
use engine::password::nt;
use engine::radius::mschap as responses;
use wire::radius::{Full, Packet, Secret, Writer, chap_response, mschap, number};
use zeroize::Zeroizing;

/// How a password is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Method {
    /// The password itself, hidden with the shared secret
    Pap,
    /// An MD5 over a challenge and the password (RFC 2865)
    Chap,
    /// MS-CHAP (RFC 2433)
    Mschap,
    /// MS-CHAP version 2 (RFC 2759)
    Mschapv2,
}

impl Method {
    pub(in crate::cli) fn name(self) -> &'static str {
        match self {
            Method::Pap => "pap",
            Method::Chap => "chap",
            Method::Mschap => "mschap",
            Method::Mschapv2 => "mschapv2",
        }
    }
}

/// What goes into a request. But for PAP, whose hiding depends on the request, it is computed once.
pub(in crate::cli) enum Proof {
    Pap(Zeroizing<Vec<u8>>),
    Chap {
        challenge: [u8; 16],
        /// The identifier and the answer.
        answer: [u8; 17],
    },
    MsChap {
        challenge: [u8; 8],
        response: [u8; 50],
    },
    MsChap2 {
        challenge: [u8; 16],
        response: [u8; 50],
        /// What a server says that knows the password, too.
        expected: [u8; 20],
    },
}

/// Octets that nobody can foretell, as many as any method needs: identifier, challenge, the peer's challenge.
pub(in crate::cli) type Fresh = [u8; 33];

impl Proof {
    /// # Errors
    /// The method cannot take such a password.
    pub(in crate::cli) fn new(method: Method, user: &[u8], password: &[u8], fresh: &Fresh) -> Result<Proof, String> {
        let [ident, rest @ ..] = *fresh;
        let [challenge, peer] = halves(&rest);
        Ok(match method {
            Method::Pap if password.len() > 128 => {
                return Err(format!(
                    "a password of {} octets; PAP takes at most 128",
                    password.len()
                ));
            }
            Method::Pap => Proof::Pap(Zeroizing::new(password.to_vec())),
            Method::Chap => Proof::Chap {
                challenge,
                answer: joined(&[&[ident], &chap_response(ident, password, &challenge)]),
            },
            Method::Mschap => {
                let challenge: [u8; 8] = joined(&[&challenge]);
                let answer = responses::response(&challenge, &nt_hash(password)?);
                // Flags: the NT response counts, and there is no LM response (RFC 2548 section 2.1.3).
                let response = joined(&[&[ident, 1], &[0; 24], &answer]);
                Proof::MsChap { challenge, response }
            }
            Method::Mschapv2 => {
                let hash = nt_hash(password)?;
                let both = responses::challenge_hash(&peer, &challenge, responses::without_domain(user));
                let answer = responses::response(&both, &hash);
                Proof::MsChap2 {
                    challenge,
                    response: joined(&[&[ident, 0], &peer, &[0; 8], &answer]),
                    expected: responses::authenticator_response(&hash, &answer, &both),
                }
            }
        })
    }

    /// Adds the method's attributes.
    pub(in crate::cli) fn write(&self, writer: &mut Writer<'_>, secret: &Secret) -> Result<(), Full> {
        match self {
            Proof::Pap(password) => writer.user_password(password, secret),
            Proof::Chap { challenge, answer } => {
                writer.attribute(number::CHAP_CHALLENGE, challenge)?;
                writer.attribute(number::CHAP_PASSWORD, answer)
            }
            Proof::MsChap { challenge, response } => {
                writer.vendor(mschap::VENDOR, mschap::CHALLENGE, challenge)?;
                writer.vendor(mschap::VENDOR, mschap::RESPONSE, response)
            }
            Proof::MsChap2 {
                challenge, response, ..
            } => {
                writer.vendor(mschap::VENDOR, mschap::CHALLENGE, challenge)?;
                writer.vendor(mschap::VENDOR, mschap::RESPONSE_2, response)
            }
        }
    }

    /// Whether a server that accepts has shown that it knows the password, too, where the method wants that (RFC 2759
    /// section 5).
    pub(in crate::cli) fn is_mutual(&self, accept: &Packet<'_>) -> bool {
        let Proof::MsChap2 { response, expected, .. } = self else {
            return true;
        };
        let Some([said_ident, said @ ..]) = accept.find_vendor(mschap::VENDOR, mschap::SUCCESS_2) else {
            return false;
        };
        let right = expected
            .iter()
            .fold("S=".to_string(), |text, octet| format!("{text}{octet:02X}"));
        response.first() == Some(said_ident) && said.get(..right.len()) == Some(right.as_bytes())
    }
}

fn nt_hash(password: &[u8]) -> Result<nt::Hash, String> {
    nt::hash(password).ok_or_else(|| "the password is no UTF-8, which MS-CHAP needs".to_string())
}

fn halves(octets: &[u8; 32]) -> [[u8; 16]; 2] {
    let (one, other) = octets.split_at(16);
    [joined(&[one]), joined(&[other])]
}

/// The parts one after the other, as many octets as are wanted.
fn joined<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut whole = [0; N];
    let octets = parts.iter().flat_map(|part| part.iter());
    whole.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
    whole
}

#[cfg(test)]
mod tests {
    use wire::radius::Code;

    use super::*;

    fn request(method: Method, user: &[u8], password: &[u8]) -> (Vec<u8>, Proof) {
        let proof = Proof::new(method, user, password, &[7; 33]).unwrap();
        let (mut out, secret) = (Vec::new(), Secret::new(b"secret"));
        let mut writer = Writer::request(&mut out, Code::ACCESS_REQUEST, 1, &[3; 16]);
        proof.write(&mut writer, &secret).unwrap();
        writer.finish(&secret).unwrap();
        (out, proof)
    }

    #[test]
    fn pap_and_chap_are_what_a_server_checks() {
        let (octets, _) = request(Method::Pap, b"bob", b"hello");
        let shown = Packet::parse(&octets).unwrap().user_password(&Secret::new(b"secret"));
        assert_eq!(shown.unwrap().as_bytes(), b"hello");
        let (octets, _) = request(Method::Chap, b"bob", b"hello");
        let chap = Packet::parse(&octets).unwrap().chap().unwrap();
        assert!(chap.check(b"hello") && !chap.check(b"hallo"));
        assert!(Proof::new(Method::Pap, b"bob", &[b'x'; 129], &[7; 33]).is_err());
    }

    #[test]
    fn ms_chap_is_what_a_server_checks_and_its_own_proof_is_looked_at() {
        let hash = nt::hash(b"hello").unwrap();
        let (octets, _) = request(Method::Mschap, b"bob", b"hello");
        let packet = Packet::parse(&octets).unwrap();
        let challenge = packet.find_vendor(mschap::VENDOR, mschap::CHALLENGE).unwrap();
        let found = mschap::Response::parse(packet.find_vendor(mschap::VENDOR, mschap::RESPONSE).unwrap()).unwrap();
        assert!(found.flags == 1 && responses::check(challenge.try_into().unwrap(), &hash, found.nt));

        let (octets, proof) = request(Method::Mschapv2, b"CORP\\bob", b"hello");
        let packet = Packet::parse(&octets).unwrap();
        let challenge = packet.find_vendor(mschap::VENDOR, mschap::CHALLENGE).unwrap();
        let found = mschap::Response2::parse(packet.find_vendor(mschap::VENDOR, mschap::RESPONSE_2).unwrap()).unwrap();
        let both = responses::challenge_hash(found.peer_challenge, challenge.try_into().unwrap(), b"bob");
        assert!(responses::check(&both, &hash, found.response));

        let success = |shown: &[u8; 20], ident: u8| {
            let mut out = Vec::new();
            let mut writer = Writer::reply(&mut out, Code::ACCESS_ACCEPT, &packet);
            writer.ms_chap2_success(ident, shown).unwrap();
            writer.finish(&Secret::new(b"secret")).unwrap();
            out
        };
        let shown = responses::authenticator_response(&hash, found.response, &both);
        assert!(proof.is_mutual(&Packet::parse(&success(&shown, found.ident)).unwrap()));
        assert!(!proof.is_mutual(&Packet::parse(&success(&shown, found.ident + 1)).unwrap()));
        assert!(!proof.is_mutual(&Packet::parse(&success(&[0; 20], found.ident)).unwrap()));
        assert!(!proof.is_mutual(&packet));
        assert!(Proof::new(Method::Mschapv2, b"bob", b"\xff", &[7; 33]).is_err());
    }
}
