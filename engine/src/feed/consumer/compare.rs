//! How what is kept of an entry differs from what a provider says of it. Nothing is changed by asking.

use wire::ldap::message::Entry;

use super::Consumer;
use super::entries::first_rdn;
use crate::feed::emitter::{attributes, names};
use crate::feed::event::Uuid;
use crate::feed::standby::State;
use crate::feed::store::{Content, Id, Row};

/// What a comparison came to.
#[derive(Clone, Debug)]
pub(crate) struct Compared {
    /// The kept row.
    pub(crate) id: Option<Id>,
    /// How it differs; none where it does not.
    pub(crate) difference: Option<Difference>,
}

/// How an entry of the provider's differs from the kept one.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    /// The provider's, as it would be kept.
    pub(crate) theirs: State,
    /// The number of its last change, where the provider sent one.
    pub(crate) csn: Option<String>,
    /// The kept one; gone where there is none.
    pub(crate) ours: State,
    /// The name here; none where there is none.
    pub(crate) name: Option<String>,
    /// Whether the name is another.
    pub(crate) is_renamed: bool,
    /// The attributes that differ.
    pub(crate) changed: Vec<String>,
}

impl Consumer {
    /// Compares an entry of the provider's with the kept one.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn compare<C: Content>(
        &mut self,
        content: &mut C,
        uuid: &Uuid,
        entry: &Entry<'_>,
    ) -> Result<Compared, C::Error> {
        let mut fresh = Vec::new();
        let asides = self.settings.shape.apply(uuid, entry.attributes, &mut fresh);
        let theirs = || State::kept(&String::from_utf8_lossy(entry.dn), attributes(&fresh));
        let mut row = Row::default();
        if !content.by_uuid(uuid, &mut row)? {
            let difference = Difference {
                theirs: theirs(),
                csn: asides.csn.map(str::to_owned),
                ours: State::Gone,
                name: None,
                is_renamed: false,
                changed: Vec::new(),
            };
            return Ok(Compared {
                id: None,
                difference: Some(difference),
            });
        }
        let mut dn = Vec::new();
        self.tree.name(content, row.parent, &row.rdn, &mut dn)?;
        let is_renamed = dn != entry.dn && (!self.tree.is_same(&dn, entry.dn) || first_rdn(&dn) != first_rdn(entry.dn));
        let differs = self.diff.compare(&row.attributes, &fresh);
        let difference = (is_renamed || differs).then(|| {
            let name = String::from_utf8_lossy(&dn).into_owned();
            Difference {
                theirs: theirs(),
                csn: asides.csn.map(str::to_owned),
                ours: State::kept(&name, attributes(&row.attributes)),
                name: Some(name),
                is_renamed,
                changed: names(&self.diff.changed)
                    .map(|name| String::from_utf8_lossy(name).into_owned())
                    .collect(),
            }
        });
        Ok(Compared {
            id: Some(row.id),
            difference,
        })
    }

    /// The name and the state of a kept entry; none where it is not kept.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn kept<C: Content>(
        &mut self,
        content: &mut C,
        uuid: &Uuid,
    ) -> Result<Option<(String, State)>, C::Error> {
        let mut row = Row::default();
        if !content.by_uuid(uuid, &mut row)? {
            return Ok(None);
        }
        let mut dn = Vec::new();
        self.tree.name(content, row.parent, &row.rdn, &mut dn)?;
        let dn = String::from_utf8_lossy(&dn).into_owned();
        let state = State::kept(&dn, attributes(&row.attributes));
        Ok(Some((dn, state)))
    }
}
