//! The two entries that stand outside the tree: the root DSE (RFC 4512 section 5.1), which says what this server can do,
//! and the subschema subentry (section 4.2), which says which types it knows.

use wire::ldap::control::oid as control_oid;
use wire::ldap::message::oid::{PASSWORD_MODIFY, WHO_AM_I};

use super::entry::{self, Draft, Entry, push_made};
use super::schema::Schema;

/// The name of the subschema subentry.
pub const SUBSCHEMA_DN: &str = "cn=Subschema";
/// [`SUBSCHEMA_DN`] in normal form.
pub(super) const SUBSCHEMA_NORMAL_DN: &[u8] = b"cn=subschema";
/// All operational attributes by `+` (RFC 3673), and true and false filters (RFC 4526).
const FEATURES: [&str; 2] = ["1.3.6.1.4.1.4203.1.5.1", "1.3.6.1.4.1.4203.1.5.3"];
/// Modify's increment (RFC 4525).
const INCREMENT: &str = "1.3.6.1.1.14";

pub(super) fn root_dse(schema: &Schema, suffix: &[u8], writable: bool) -> Entry {
    let mut drafts = Vec::new();
    push(&mut drafts, schema, "objectClass", &["top", "extensibleObject"]);
    push_made(&mut drafts, schema, "namingContexts", vec![suffix.to_vec()]);
    push(&mut drafts, schema, "supportedLDAPVersion", &["3"]);
    let extensions: &[&str] = if writable {
        &[WHO_AM_I, PASSWORD_MODIFY]
    } else {
        &[WHO_AM_I]
    };
    push(&mut drafts, schema, "supportedExtension", extensions);
    push(
        &mut drafts,
        schema,
        "supportedControl",
        &[
            control_oid::PROXIED_AUTHORIZATION,
            control_oid::MANAGE_DSA_IT,
            control_oid::SYNC_REQUEST,
        ],
    );
    let mut features = FEATURES.to_vec();
    features.extend(writable.then_some(INCREMENT));
    push(&mut drafts, schema, "supportedFeatures", &features);
    push(&mut drafts, schema, "vendorName", &["usherd"]);
    push(&mut drafts, schema, "vendorVersion", &[env!("CARGO_PKG_VERSION")]);
    push(&mut drafts, schema, "subschemaSubentry", &[SUBSCHEMA_DN]);
    push(&mut drafts, schema, "entryDN", &[""]);
    // Far below 4 GiB, so it can be laid out.
    entry::build(b"", b"", drafts, Vec::new()).unwrap_or_default()
}

pub(super) fn subschema(schema: &Schema, loaded_at: &str) -> Entry {
    let mut drafts = Vec::new();
    push(
        &mut drafts,
        schema,
        "objectClass",
        &["top", "subentry", "subschema", "extensibleObject"],
    );
    push(&mut drafts, schema, "cn", &["Subschema"]);
    let described = |all: &mut dyn Iterator<Item = String>| all.map(String::into_bytes).collect();
    push_made(
        &mut drafts,
        schema,
        "objectClasses",
        described(&mut Schema::class_descriptions()),
    );
    push_made(
        &mut drafts,
        schema,
        "attributeTypes",
        described(&mut Schema::attribute_descriptions()),
    );
    push(&mut drafts, schema, "createTimestamp", &[loaded_at]);
    push(&mut drafts, schema, "modifyTimestamp", &[loaded_at]);
    push(&mut drafts, schema, "entryDN", &[SUBSCHEMA_DN]);
    push(&mut drafts, schema, "subschemaSubentry", &[SUBSCHEMA_DN]);
    entry::build(SUBSCHEMA_DN.as_bytes(), SUBSCHEMA_NORMAL_DN, drafts, Vec::new()).unwrap_or_default()
}

fn push(drafts: &mut Vec<Draft>, schema: &Schema, name: &str, values: &[&str]) {
    push_made(
        drafts,
        schema,
        name,
        values.iter().map(|value| value.as_bytes().to_vec()).collect(),
    );
}
