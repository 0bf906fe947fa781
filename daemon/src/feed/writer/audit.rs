//! The comparison that is made every now and then though nothing seems wrong (`audit_interval`).

use std::sync::Arc;
use std::time::Instant;

use engine::feed::consumer::Phase;

use super::work::{Link, Work};
use crate::feed::store::StoreError;

impl Work<'_> {
    /// When the whole content is to be compared, for names that changed silently: those below a container that the filter
    /// leaves out.
    pub(super) fn audit_due(&self) -> Option<Instant> {
        let interval = self.parts.plan.audit_interval;
        let rests = match self.link {
            Link::Open => self.consumer.phase() == Phase::Persist,
            Link::Closed(_) => false,
        };
        (rests && !interval.is_zero()).then(|| self.audited.0 + interval)
    }

    pub(super) fn audit(&mut self) -> Result<(), StoreError> {
        if self.audit_due().is_none_or(|at| at > Instant::now()) {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.audited, (Instant::now(), Arc::clone(&self.cookie)));
        // As many comparisons as there were changes: with none, nothing can have been renamed.
        if before.1 == self.cookie {
            return Ok(());
        }
        tracing::info!(
            feed = self.parts.plan.name,
            "the content is compared, as audit_interval wants it"
        );
        self.transaction()?;
        self.consumer.reload();
        self.commit()?;
        self.again();
        Ok(())
    }
}
