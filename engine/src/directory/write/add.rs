//! Add (RFC 4511 section 4.7).

use wire::ldap::dn;
use wire::ldap::grammar::AddRequest;
use wire::ldap::result::code;

use super::super::entry::uuid_text;
use super::super::{Directory, root, time};
use super::rename::{add_naming_values, canonical_rdn};
use super::work::{Work, describe, read_values};
use super::{Moment, Refusal, Who, Writing};

impl Directory {
    pub(super) fn add(
        &mut self,
        who: &Who,
        request: &AddRequest<'_>,
        writing: &Writing,
        moment: &Moment,
    ) -> Result<(), Refusal> {
        let normal_dn = self.normal(request.entry)?;
        if normal_dn.is_empty() || normal_dn == root::SUBSCHEMA_NORMAL_DN {
            return Err(Refusal::new(
                code::ENTRY_ALREADY_EXISTS,
                "this entry is made by the server",
            ));
        }
        let mut work = Work::new(request.entry.to_vec(), normal_dn);
        for attribute in request.attributes {
            let of = describe(&self.schema, attribute.name)?;
            let (values, forms) = read_values(&self.schema, &of, attribute.values)?;
            if work.draft(&of).is_some() {
                let why = "an attribute is given twice";
                return Err(Refusal::new(code::ATTRIBUTE_OR_VALUE_EXISTS, why));
            }
            work.edit(&of, |draft| {
                draft.values = values;
                draft.forms = forms;
            });
        }
        // What names the entry need not be said twice (RFC 4511 section 4.7).
        add_naming_values(&self.schema, &mut work, request.entry)?;
        let suffix = self.entry(self.suffix).map(|entry| entry.normal_dn.clone());
        if !dn::is_within(&work.normal_dn, &suffix.unwrap_or_default()) {
            return Err(Refusal::new(code::UNWILLING_TO_PERFORM, "no global superior knowledge"));
        }
        work.check(&self.schema)?;
        work.structural(&self.schema)?;
        if self.find(&work.normal_dn).is_some() {
            return Err(Refusal::new(code::ENTRY_ALREADY_EXISTS, ""));
        }
        let parent = dn::normal_parent(&work.normal_dn).unwrap_or_default();
        let Some((parent, node)) = self.find(parent) else {
            return Err(self.no_such_object(&work.normal_dn));
        };
        if self.entries >= writing.entries_max {
            let why = "the directory has as many entries as it may";
            return Err(Refusal::new(code::ADMIN_LIMIT_EXCEEDED, why));
        }
        let rdn = canonical_rdn(request.entry);
        work.dn = [&rdn, b",".as_slice(), &node.entry.dn].concat();
        self.complete(&mut work, who, moment);
        let entry = work.build(&self.schema)?;
        self.check_bytes(entry.bytes(), writing)?;
        self.insert(parent, entry);
        Ok(())
    }

    /// The operational attributes of a new entry.
    fn complete(&self, work: &mut Work, who: &Who, moment: &Moment) {
        let csn = self.next_csn(moment);
        let mut octets = [0; 16];
        for (at, (octet, random)) in octets.iter_mut().zip(moment.random).enumerate() {
            // Version 4 of RFC 9562.
            *octet = match at {
                6 => random & 0x0f | 0x40,
                8 => random & 0x3f | 0x80,
                _ => random,
            };
        }
        let dn = work.dn.clone();
        for (name, value) in [
            ("entryUUID", uuid_text(&octets).as_bytes()),
            ("createTimestamp", time::format(csn.unix_seconds()).as_bytes()),
            ("creatorsName", &who.dn),
            ("entryDN", &dn),
            ("hasSubordinates", b"FALSE"),
            ("subschemaSubentry", root::SUBSCHEMA_DN.as_bytes()),
        ] {
            work.set(&self.schema, name, value);
        }
        work.stamp(&self.schema, who, csn);
    }
}
