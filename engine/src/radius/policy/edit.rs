//! What a rule makes of the answer's attributes.

use std::borrow::Cow;

use wire::radius::dictionary::{Definition, Path};
use wire::radius::{Code, Content, DataType, Dictionary, Item, Unwritable, Writer, number, text};
use zeroize::Zeroizing;

use super::Written;
use super::condition::octets;

/// Attributes that are taken away, and then attributes that are added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    gone: Vec<Gone>,
    new: Vec<Item>,
}

/// Without a tag, whatever tag it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gone {
    path: Path,
    tag: Option<u8>,
}

impl Edit {
    /// Whether nothing is changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.new.is_empty()
    }

    /// All attributes of this kind are taken away: those of this tag if one is given.
    ///
    /// # Errors
    /// What would be right.
    pub fn remove(&mut self, definition: &Definition, tag: Option<u8>) -> Result<(), String> {
        changed_by_rules(definition)?;
        let (path, tag) = (definition.path, tag.filter(|tag| *tag != 0));
        self.gone.push(Gone { path, tag });
        Ok(())
    }

    /// An attribute is added with each of these values.
    ///
    /// # Errors
    /// Which of them are wrong, and what would be right. Nothing is added then.
    pub fn add(
        &mut self,
        dictionary: &Dictionary,
        definition: &Definition,
        tag: Option<u8>,
        values: &[Written<'_>],
    ) -> Result<(), Vec<(usize, String)>> {
        let refused = changed_by_rules(definition).err();
        let refused = refused.or(values.is_empty().then(|| definition.expected()));
        if let Some(right) = refused {
            return Err(vec![(0, right)]);
        }
        let (mut items, mut wrong) = (Vec::with_capacity(values.len()), Vec::new());
        for (at, value) in values.iter().enumerate() {
            match item(dictionary, definition, tag, *value) {
                Ok(item) => items.push(item),
                Err(right) => wrong.push((at, right)),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        items
            .into_iter()
            .for_each(|item| text::add(dictionary, &mut self.new, item));
        Ok(())
    }

    /// Whether one packet can hold all that is added.
    #[must_use]
    pub fn fits(&self, dictionary: &Dictionary) -> bool {
        write(dictionary, &self.new).is_ok()
    }

    pub(super) fn apply<'p>(&'p self, reply: &mut Vec<Cow<'p, Item>>) {
        for gone in &self.gone {
            reply.retain_mut(|item| gone.leaves(item));
        }
        reply.extend(self.new.iter().map(Cow::Borrowed));
    }
}

impl Gone {
    /// Takes away what is meant from inside a tlv. False: all of the item goes.
    fn leaves(self, item: &mut Cow<'_, Item>) -> bool {
        if self.is(item) {
            return false;
        }
        if self.is_inside(item) {
            self.take(item.to_mut());
        }
        !matches!(&item.content, Content::Inside(items) if items.is_empty())
    }

    fn is(self, item: &Item) -> bool {
        item.path == self.path && (self.tag.is_none() || item.tag == self.tag)
    }

    fn is_inside(self, item: &Item) -> bool {
        match &item.content {
            Content::Inside(items) => items.iter().any(|item| self.is(item) || self.is_inside(item)),
            _ => false,
        }
    }

    /// Tlvs are as deep as a path at most.
    fn take(self, item: &mut Item) {
        if let Content::Inside(items) = &mut item.content {
            items.iter_mut().for_each(|item| self.take(item));
            items.retain(|item| !self.is(item) && !matches!(&item.content, Content::Inside(items) if items.is_empty()));
        }
    }
}

fn item(dictionary: &Dictionary, definition: &Definition, tag: Option<u8>, value: Written<'_>) -> Result<Item, String> {
    if definition.data_type.is_container() {
        return Err("an attribute with a value: those inside this one have names of their own".into());
    }
    let octets = octets(definition, &value.to_string())?;
    if octets.is_empty() {
        return Err(format!("a value, not nothing: {}", definition.expected()));
    }
    let always = definition.data_type == DataType::Integer;
    let item = Item {
        path: definition.path,
        tag: tag.filter(|tag| *tag != 0 || !always),
        content: Content::Value(Zeroizing::new(octets)),
    };
    match write(dictionary, std::slice::from_ref(&item)) {
        Ok(()) => Ok(item),
        Err(Unwritable::Full(_)) => {
            Err("a value that one attribute can hold: 253 octets, or what its headers leave of them".into())
        }
        Err(why) => Err(format!("an attribute that can be sent: {why}")),
    }
}

fn write(dictionary: &Dictionary, items: &[Item]) -> Result<(), Unwritable> {
    let mut out = Vec::new();
    let mut writer = Writer::bare(&mut out, Code::ACCESS_ACCEPT, 0, &[0; 16]);
    items
        .iter()
        .try_for_each(|item| writer.item(dictionary, item, None, &mut || 0))
}

/// What the conversation itself is made of, and secrets, are no matter of rules.
fn changed_by_rules(definition: &Definition) -> Result<(), String> {
    const OURS: [u8; 7] = [
        number::USER_PASSWORD,
        number::CHAP_PASSWORD,
        number::CHAP_CHALLENGE,
        number::STATE,
        number::PROXY_STATE,
        number::EAP_MESSAGE,
        number::MESSAGE_AUTHENTICATOR,
    ];
    let right = match definition.path.numbers() {
        [number] if OURS.iter().any(|ours| u32::from(*ours) == *number) => {
            "an attribute that says what the client should do: this one belongs to the conversation itself"
        }
        _ if definition.internal => "an attribute of answers: this one is a name for use inside, and is never sent",
        _ if definition.hiding.is_some() || definition.secret => {
            "another attribute: this one is a secret, and does not stand in this file; the list of users may have it"
        }
        _ => return Ok(()),
    };
    Err(right.into())
}
