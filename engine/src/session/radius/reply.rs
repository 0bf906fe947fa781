//! What an answer carries beside its verdict: attributes of lists, directories and services, what MS-CHAP shows and gives, and
//! what a person is told.

use wire::radius::dictionary::{Definition, Path};
use wire::radius::{Content, Dictionary, Full, Item, Packet, Secret, Unwritable, Writer, mschap, number, text};
use zeroize::Zeroizing;

use super::asking::Why;
use super::chance::Chance;
use super::method::{Granted, Offer};

/// What of an accept the values of an attribute of a user's entry are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReplyMap {
    /// Values of this attribute, as a person writes them.
    Attribute {
        /// Where the dictionary has it.
        path: Path,
        /// Its tag.
        tag: Option<u8>,
    },
    /// Each value is a list of attributes: `Session-Timeout = 60, Tunnel-Type:1 = VLAN`.
    List,
}

impl ReplyMap {
    /// The attributes that a value means.
    ///
    /// # Errors
    /// What would be right: it is none of them.
    pub(super) fn items(&self, dictionary: &Dictionary, value: &[u8]) -> Result<Vec<Item>, String> {
        let Ok(text) = std::str::from_utf8(value) else {
            return Err("text in UTF-8".to_owned());
        };
        match self {
            ReplyMap::List => text::parse_list(dictionary, text).map_err(|mistake| mistake.right),
            ReplyMap::Attribute { path, tag } => {
                let known = dictionary.at(path.numbers());
                let definition = known.ok_or_else(|| "an attribute of the dictionary".to_owned())?;
                item(definition, *tag, text).map(|item| vec![item])
            }
        }
    }
}

/// An attribute with the value that a text says.
///
/// # Errors
/// What would be right.
pub(super) fn item(definition: &Definition, tag: Option<u8>, value: &str) -> Result<Item, String> {
    if definition.internal || definition.data_type.is_container() {
        return Err("an attribute that is sent and has a value of its own".to_owned());
    }
    let value = definition.parse(value)?;
    Ok(Item {
        path: definition.path,
        tag: tag.filter(|_| definition.has_tag),
        content: Content::Value(Zeroizing::new(value)),
    })
}

/// Whether this is the attribute `number` at the top.
pub(super) fn is_top(item: &Item, number: u8) -> bool {
    item.path.numbers() == [u32::from(number)]
}

/// What is sealed or copied by the writer itself, or belongs to a conversation that nobody has: never from outside.
fn is_ours(item: &Item) -> bool {
    [number::MESSAGE_AUTHENTICATOR, number::PROXY_STATE, number::EAP_MESSAGE]
        .into_iter()
        .any(|number| is_top(item, number))
}

/// Everything that an accept carries.
pub(super) struct Accept<'a> {
    pub(super) items: &'a [&'a Item],
    pub(super) granted: Option<&'a Granted>,
    pub(super) message: Option<&'a str>,
}

impl Accept<'_> {
    pub(super) fn write(
        &self,
        writer: &mut Writer<'_>,
        dictionary: &Dictionary,
        secret: &Secret,
        chance: &mut Chance,
    ) -> Result<(), Unwritable> {
        let mut salt = Salts { chance, last: None };
        for item in self.items.iter().filter(|item| !is_ours(item)) {
            match (&item.content, item.tag) {
                // The usual attribute needs no buffer of its own.
                (Content::Value(octets), tag) if let Some(known) = dictionary.at(item.path.numbers()) => {
                    let hide = known.hiding.map(|_| wire::radius::Hide {
                        secret,
                        salt: salt.next(),
                    });
                    writer.pair(dictionary, known, tag, octets, hide)?;
                }
                _ => writer.item(dictionary, item, Some(secret), &mut || salt.next())?,
            }
        }
        if let Some(message) = self.message {
            reply_message(writer, message)?;
        }
        if let Some(granted) = self.granted {
            self.grant(granted, writer, secret, &mut salt)?;
        }
        Ok(())
    }

    fn grant(
        &self,
        granted: &Granted,
        writer: &mut Writer<'_>,
        secret: &Secret,
        salt: &mut Salts<'_>,
    ) -> Result<(), Full> {
        match granted {
            Granted::One { keys } => {
                let authenticator = writer.hiding_authenticator();
                writer.vendor_with(mschap::VENDOR, mschap::MPPE_KEYS, |out| {
                    // 24 octets, padded to 32 by the hiding (RFC 2548 section 2.4.1).
                    wire::radius::hide_password(out, &**keys, secret, &authenticator)
                })?;
            }
            Granted::Two { ident, response, keys } => {
                writer.ms_chap2_success(*ident, response)?;
                writer.vendor_salted(mschap::VENDOR, mschap::MPPE_SEND_KEY, &*keys.send, salt.next(), secret)?;
                let receive = &*keys.receive;
                writer.vendor_salted(mschap::VENDOR, mschap::MPPE_RECV_KEY, receive, salt.next(), secret)?;
            }
        }
        // Encryption is allowed, with keys of 40 or 128 bits (RFC 2548 sections 2.4.4 and 2.4.5), unless the user's own say otherwise.
        for (number, value) in [
            (mschap::MPPE_ENCRYPTION_POLICY, 1_u32),
            (mschap::MPPE_ENCRYPTION_TYPES, 6),
        ] {
            let path = [number::VENDOR_SPECIFIC.into(), mschap::VENDOR, number.into()];
            if self.items.iter().all(|item| item.path.numbers() != path) {
                writer.vendor(mschap::VENDOR, number, &value.to_be_bytes())?;
            }
        }
        Ok(())
    }
}

/// Salts that differ within one packet (RFC 2868 section 3.5).
struct Salts<'c> {
    chance: &'c mut Chance,
    last: Option<u16>,
}

impl Salts<'_> {
    fn next(&mut self) -> u16 {
        let next = match self.last {
            Some(last) => last.wrapping_add(1),
            None => {
                let [high, low, ..] = self.chance.octets();
                u16::from_be_bytes([high, low])
            }
        };
        self.last = Some(next);
        next
    }
}

/// What a person is told, in as many attributes as it needs.
pub(super) fn reply_message(writer: &mut Writer<'_>, message: &str) -> Result<(), Full> {
    if message.is_empty() {
        return Ok(());
    }
    writer.concat(number::REPLY_MESSAGE, message.as_bytes())
}

/// `E=691 R=1 C=… V=3 M=…` (RFC 2433 section 6, RFC 2759 section 6). The challenge is a fresh one, for another try or a change of
/// the password.
pub(super) fn ms_chap_error(
    writer: &mut Writer<'_>,
    offer: &Offer<'_>,
    why: Why,
    message: Option<&str>,
    chance: &mut Chance,
) -> Result<(), Full> {
    use std::fmt::Write as _;
    let Some((ident, two)) = offer.ms_chap() else {
        return Ok(());
    };
    let (code, text) = why.ms_chap();
    // Who is not there may try again like who is: nobody learns from it which names there are.
    let again = matches!(why, Why::Wrong | Why::NotFound);
    let retry = u8::from(again && !matches!(offer, Offer::Change { .. } | Offer::Change2 { .. }));
    let mut said = format!("E={code} R={retry} C=");
    let octets = chance.octets();
    for octet in octets.iter().take(if two { 16 } else { 8 }) {
        // Writing into memory cannot fail.
        let _ = write!(said, "{octet:02X}");
    }
    said.push_str(if two { " V=3 M=" } else { " V=2" });
    if two {
        said.push_str(message.unwrap_or(text));
    }
    let end = said.floor_char_boundary(ERROR_BYTES_MAX);
    writer.ms_chap_error(ident, said.get(..end).unwrap_or_default().as_bytes())
}

/// What fits one of a vendor's attributes.
const ERROR_BYTES_MAX: usize = 240;

/// Attributes as a person reads them; what is hidden or proves a password is not shown.
pub(super) fn shown(packet: &Packet<'_>, dictionary: &Dictionary) -> String {
    let mut out = String::new();
    for event in packet.walk(dictionary, None) {
        let wire::radius::Event::Pair(pair) = event else {
            continue;
        };
        let numbers = pair.path.numbers();
        if matches!(numbers, [top] if [number::MESSAGE_AUTHENTICATOR, number::PROXY_STATE].iter().any(|of| u32::from(*of) == *top))
        {
            continue;
        }
        if !out.is_empty() {
            out.push_str(", ");
        }
        let known = pair.definition.or_else(|| dictionary.at(numbers));
        match known {
            Some(known) if known.hiding.is_some() || known.secret || is_proof(numbers) => {
                out.push_str(&known.name);
                out.push_str(" = (not shown)");
            }
            // Writing into memory cannot fail.
            _ => drop(text::print_pair(&mut out, &pair)),
        }
    }
    out
}

/// What a password can be guessed by.
fn is_proof(numbers: &[u32]) -> bool {
    match *numbers {
        [top] => top == u32::from(number::USER_PASSWORD) || top == u32::from(number::CHAP_PASSWORD),
        [_, mschap::VENDOR, inner] => {
            let proofs = [
                mschap::RESPONSE,
                mschap::RESPONSE_2,
                mschap::CPW_1,
                mschap::CPW_2,
                mschap::CPW_2_2,
                mschap::LM_ENC_PW,
                mschap::NT_ENC_PW,
                mschap::SUCCESS_2,
                mschap::MPPE_KEYS,
                mschap::MPPE_SEND_KEY,
                mschap::MPPE_RECV_KEY,
            ];
            proofs.iter().any(|proof| u32::from(*proof) == inner)
        }
        _ => false,
    }
}
