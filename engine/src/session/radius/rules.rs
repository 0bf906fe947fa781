//! Where the rules of a listener ([`crate::radius::policy`]) meet a request: before anybody is asked, and after a yes.

use std::borrow::Cow;

use wire::radius::Item;

use super::asking::{Asking, Cx, Step, Why};
use crate::radius::policy::{After, Asked, Before, Note};

impl Asking {
    /// The first round: which chain is asked. None: the request is rejected.
    pub(super) fn before(&mut self, cx: &Cx<'_>) -> Option<usize> {
        let mut lines = Vec::new();
        let traced = self.trace.is_some();
        let mut note = |note: Note<'_>| {
            if traced {
                lines.push(format!("rule {note}"));
            }
        };
        let before = cx.plan.policy.before(&self.asked(cx), &mut note);
        lines.into_iter().for_each(|line| self.note(|| line));
        match before {
            // A device is asked of its own chain: another one would let it in by its name only, too.
            Before::Go { chain, .. } if !self.by_name_only() => Some(chain.unwrap_or(cx.plan.chain)),
            Before::Go { .. } => Some(cx.plan.mac.map_or(cx.plan.chain, |mac| mac.chain)),
            Before::Reject { message, .. } => {
                self.message = message.map(Into::into);
                None
            }
        }
    }

    /// The second round, of who is let in: the answer is changed, or becomes a reject.
    pub(super) fn after(&mut self, cx: &Cx<'_>) -> Step {
        if cx.plan.policy.rules().is_empty() {
            return Step::Accept;
        }
        if cx.plan.needs_groups {
            self.listed_groups(cx);
        }
        let mut lines = Vec::new();
        let traced = self.trace.is_some();
        let mut note = |note: Note<'_>| {
            if traced {
                lines.push(format!("rule {note}"));
            }
        };
        let mut is_in = |group: &str| self.groups.has(group);
        let after = cx.plan.policy.after(&self.asked(cx), &mut is_in, &mut note);
        lines.into_iter().for_each(|line| self.note(|| line));
        match after {
            After::Accept(edits) if edits.is_empty() => Step::Accept,
            After::Accept(edits) => {
                let items = std::mem::take(&mut self.items);
                let listed = self.listed(cx.packet, cx.plan).into_iter().map(Cow::Borrowed);
                let mut reply: Vec<Cow<'_, Item>> = listed.chain(items.into_iter().map(Cow::Owned)).collect();
                edits.apply(&mut reply);
                let reply = reply.into_iter().map(Cow::into_owned).collect();
                self.replace_reply(reply);
                Step::Accept
            }
            After::Reject { message, .. } => {
                self.message = message.map(Into::into);
                self.granted = None;
                self.reject(Why::Rule)
            }
        }
    }

    fn asked<'c>(&'c self, cx: &'c Cx<'_>) -> Asked<'c> {
        Asked {
            packet: cx.packet,
            client: &cx.client.name,
            tags: &cx.client.tags,
            user: self.name(cx),
            moment: cx.moment,
            dictionary: &cx.plan.dictionary,
        }
    }
}
