//! Modify (RFC 4511 section 4.6, increment of RFC 4525).

use wire::ldap::grammar::{Change, ModifyRequest};
use wire::ldap::result::code;

use super::super::Directory;
use super::super::rules::{Part, Rule};
use super::super::schema::Schema;
use super::work::{Described, Work, describe, has_equality, read_values};
use super::{Moment, Refusal, Who, Writing};

impl Directory {
    pub(super) fn modify(
        &mut self,
        who: &Who,
        request: &ModifyRequest<'_>,
        writing: &Writing,
        moment: &Moment,
    ) -> Result<(), Refusal> {
        self.normal(request.object)?;
        // What is wrong with the request itself comes before what it is about.
        for change in request.changes {
            let of = describe(&self.schema, change.name)?;
            read_values(&self.schema, &of, change.values)?;
        }
        let (id, entry) = self.target(request.object)?;
        let mut work = Work::of(&self.schema, &entry);
        let mut classes_change = false;
        for change in request.changes {
            let of = describe(&self.schema, change.name)?;
            classes_change |= of.kind == Schema::OBJECT_CLASS;
            apply(&self.schema, &mut work, &change, &of)?;
        }
        work.drafts.retain(|draft| !draft.values.is_empty());
        work.check(&self.schema)?;
        if classes_change {
            let before = Work::of(&self.schema, &entry).structural(&self.schema);
            let after = work.structural(&self.schema)?;
            if let (Ok(Some(before)), Some(after)) = (before, after)
                && before != after
            {
                let why = "the structural object class cannot be changed";
                return Err(Refusal::new(code::OBJECT_CLASS_MODS_PROHIBITED, why));
            }
        }
        if !work.is_named_right(&self.schema) {
            // RFC 4511 has notAllowedOnRDN (67) for it; clients know what slapd says.
            let why = "a value that names the entry cannot be taken from it";
            return Err(Refusal::new(code::NAMING_VIOLATION, why));
        }
        work.stamp(&self.schema, who, self.next_csn(moment));
        let new = work.build(&self.schema)?;
        self.check_bytes(new.bytes().saturating_sub(entry.bytes()), writing)?;
        self.put(id, new);
        Ok(())
    }
}

fn apply(schema: &Schema, work: &mut Work, change: &Change<'_>, of: &Described<'_>) -> Result<(), Refusal> {
    const ADD: i32 = 0;
    const DELETE: i32 = 1;
    const REPLACE: i32 = 2;
    let (values, forms) = read_values(schema, of, change.values)?;
    match change.operation {
        ADD if values.is_empty() => Err(Refusal::new(code::PROTOCOL_ERROR, "no values given to add")),
        ADD => add(work, of, values, forms),
        DELETE => delete(work, of, &forms),
        REPLACE => {
            work.edit(of, |draft| {
                draft.values = values;
                draft.forms = forms;
            });
            Ok(())
        }
        _ => increment(schema, work, of, &values),
    }
}

fn add(work: &mut Work, of: &Described<'_>, values: Vec<Vec<u8>>, forms: Vec<Vec<u8>>) -> Result<(), Refusal> {
    work.edit(of, |draft| {
        if draft.forms.iter().any(|form| forms.contains(form)) {
            return Err(Refusal::new(
                code::ATTRIBUTE_OR_VALUE_EXISTS,
                "a value is there already",
            ));
        }
        draft.values.extend(values);
        draft.forms.extend(forms);
        Ok(())
    })
}

fn delete(work: &mut Work, of: &Described<'_>, forms: &[Vec<u8>]) -> Result<(), Refusal> {
    if !forms.is_empty() && !has_equality(of.known) {
        let why = "the attribute has no equality matching rule";
        return Err(Refusal::new(code::INAPPROPRIATE_MATCHING, why));
    }
    let draft = work.draft(of).filter(|draft| !draft.values.is_empty());
    let Some(draft) = draft else {
        return Err(Refusal::new(code::NO_SUCH_ATTRIBUTE, "no such attribute"));
    };
    if forms.is_empty() {
        draft.values.clear();
        draft.forms.clear();
    }
    for form in forms {
        let Some(at) = draft.forms.iter().position(|has| has == form) else {
            return Err(Refusal::new(code::NO_SUCH_ATTRIBUTE, "no such value"));
        };
        draft.forms.remove(at);
        draft.values.remove(at);
    }
    Ok(())
}

fn increment(schema: &Schema, work: &mut Work, of: &Described<'_>, by: &[Vec<u8>]) -> Result<(), Refusal> {
    let [by] = by else {
        return Err(Refusal::new(code::PROTOCOL_ERROR, "an increment takes one value"));
    };
    if of.known.rule != Rule::Integer {
        let why = "the attribute is no integer";
        return Err(Refusal::new(code::CONSTRAINT_VIOLATION, why));
    }
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.trim().parse::<i64>().ok();
    let draft = work.draft(of).filter(|draft| !draft.values.is_empty());
    let Some(draft) = draft else {
        return Err(Refusal::new(code::NO_SUCH_ATTRIBUTE, "no such attribute"));
    };
    for (value, form) in draft.values.iter_mut().zip(&mut draft.forms) {
        let sum = number(value)
            .zip(number(by))
            .and_then(|(value, by)| value.checked_add(by));
        let Some(sum) = sum else {
            let why = "the sum does not fit into 64 bits";
            return Err(Refusal::new(code::CONSTRAINT_VIOLATION, why));
        };
        *value = sum.to_string().into_bytes();
        form.clear();
        // A number is of the syntax of numbers.
        let _ = schema.normalize(of.kind, value, Part::Whole, form);
    }
    Ok(())
}
