//! What a feed asks its directory.

use engine::feed::settings::Settings;
use engine::feed::shape;
use wire::ldap::control::{self, oid};
use wire::ldap::envelope;
use wire::ldap::message::{self, SearchSpec};
use wire::ldap::sync::{Mode, SyncRequest};

use crate::config::plan::{self, FeedMode};

/// The filter that is true of every entry.
const EVERY: &str = "(objectClass=*)";

/// What the consumer is told of a plan. `identity`: as whom the directory is asked.
pub(in crate::feed) fn settings(plan: &plan::Feed, identity: &str, partitions: u16) -> Settings {
    let scope = format!("{:?}", plan.scope);
    let parts = [
        plan.base.as_str(),
        &scope,
        plan.filter.as_str(),
        &plan.shape.describe(),
        identity,
    ];
    Settings {
        base: plan.base.clone(),
        mode: mode(plan),
        profile: plan.profile,
        whole: plan.filter.eq_ignore_ascii_case(EVERY),
        shards: partitions,
        before: plan.before,
        initial: plan.initial,
        max_deletes: plan.max_deletes,
        fingerprint: shape::fingerprint(&parts),
        shape: plan.shape.clone(),
    }
}

fn mode(plan: &plan::Feed) -> Mode {
    match plan.mode {
        FeedMode::Persist => Mode::RefreshAndPersist,
        FeedMode::Poll(_) => Mode::RefreshOnly,
    }
}

/// The whole request. Referral objects are wanted as the entries they are (RFC 3296).
pub(in crate::feed) fn request(plan: &plan::Feed, ask: &SyncRequest<'_>) -> Vec<u8> {
    let asked = plan.shape.asked();
    let search = SearchSpec {
        base: plan.base.as_bytes(),
        scope: plan.scope,
        filter: &plan.filter_encoded,
        attributes: &asked,
        deref: 0,
        size_limit: 0,
        time_limit: 0,
        types_only: false,
    };
    let (mut bare, mut controls, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    message::write_search(&mut bare, 1, &search);
    ask.write_control(&mut controls, true);
    control::write_control(&mut controls, oid::MANAGE_DSA_IT, false, None);
    if let Ok(env) = envelope::peek(&bare) {
        envelope::write(&mut whole, 1, env.op, env.controls, &controls);
    }
    whole
}
