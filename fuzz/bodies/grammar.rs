//! Any bytes as a message: what the guard lets through can be seen in every part, and no reader panics on the rest.

use wire::ldap::control::controls;
use wire::ldap::envelope::{Envelope, peek, tag, write};
use wire::ldap::grammar::{self, Limits, check_filter, check_request};
use wire::ldap::message::{read_entry, read_intermediate, read_search_reference};
use wire::ldap::result::{read_result, result_code};

pub(crate) fn run(data: &[u8]) {
    let _ = check_filter(data, 100);
    let Ok(envelope) = peek(data) else { return };
    let Envelope { op, .. } = envelope;
    // Readers of responses, on whatever it is.
    if let Ok(result) = read_result(op) {
        assert_eq!(result_code(op), Some(result.code));
        let _ = result.referral.map(Iterator::count);
    }
    if let Ok(entry) = read_entry(op) {
        entry
            .attributes
            .for_each(|attribute| assert!(attribute.values.count() <= op.len()));
    }
    let _ = read_search_reference(op).map(Iterator::count);
    let _ = read_intermediate(op);
    let _ = grammar::target(&envelope);
    if check_request(&envelope, &Limits::default()).is_err() {
        return;
    }
    views(&envelope);
    let mut again = Vec::new();
    write(&mut again, 1, op, envelope.controls, b"");
    let again = peek(&again).expect("what was written is a message");
    assert_eq!(check_request(&again, &Limits::default()), Ok(()));
}

/// Every view of a request that passed can be made and walked.
fn views(envelope: &Envelope<'_>) {
    let op = envelope.op;
    let made = match envelope.tag {
        tag::BIND_REQUEST => grammar::bind(op).is_ok(),
        tag::SEARCH_REQUEST => grammar::search(op).is_ok_and(|search| search.attributes.count() <= op.len()),
        tag::MODIFY_REQUEST => grammar::modify(op)
            .is_ok_and(|modify| modify.changes.map(|change| change.values.count() + 1).sum::<usize>() <= op.len()),
        tag::ADD_REQUEST => grammar::add(op).is_ok_and(|add| add.attributes.count() <= op.len()),
        tag::DELETE_REQUEST => grammar::delete(op).is_ok(),
        tag::MODIFY_DN_REQUEST => grammar::modify_dn(op).is_ok(),
        tag::COMPARE_REQUEST => grammar::compare(op).is_ok(),
        tag::EXTENDED_REQUEST => {
            let extended = grammar::extended(op);
            // The value is opaque to the guard; reading it as a Cancel's must only not panic.
            let _ = extended.map(|extended| extended.value.map(grammar::cancel_id));
            extended.is_ok()
        }
        // A number that cannot be an id abandons nothing, and is no fault.
        tag::ABANDON_REQUEST => true,
        _ => envelope.tag == tag::UNBIND_REQUEST,
    };
    assert!(made);
    let has_target = !matches!(
        envelope.tag,
        tag::BIND_REQUEST | tag::UNBIND_REQUEST | tag::ABANDON_REQUEST | tag::EXTENDED_REQUEST
    );
    assert_eq!(grammar::target(envelope).is_some(), has_target);
    assert!(controls(envelope.controls).all(|control| control.is_ok()));
}
