//! The writer's part in a feed that several daemons share: what it makes of what another has published, and the take-over.

use std::time::{Duration, Instant};

use engine::feed::consumer::Phase;
use engine::feed::standby::State;

use super::work::{Work, now_ms};
use crate::feed::lead::{Lead, Told};
use crate::feed::sink::takeover::Published;
use crate::feed::store::StoreError;

/// A directory that has said nothing for so long while a take-over waits for news is asked anew.
const ASK_ANEW: Duration = Duration::from_millis(250);

/// A take-over under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taking {
    /// The stream's highest number.
    seq: u64,
    since: Instant,
    is_asked: bool,
    /// With so many refreshes completed, one of them has begun since.
    enough: u64,
}

impl Work<'_> {
    pub(super) fn is_shared(&self) -> bool {
        self.parts.told.is_some()
    }

    /// Another daemon delivers, or may: what is said is read again from where it was last written down.
    pub(super) fn follow(&mut self, at_most: u64) -> Result<(), StoreError> {
        self.commit()?;
        self.taking = None;
        self.lasting.wants.fill(None);
        self.transaction()?;
        self.kept.follow(at_most)?;
        self.commit()?;
        let read = self.kept.following.as_ref().map_or(0, |following| following.read());
        if let Some(told) = &self.parts.told {
            told.send_modify(|told| {
                *told = Told {
                    generation: told.generation + 1,
                    read,
                    leads: false,
                    has_room: true,
                }
            });
        }
        Ok(())
    }

    pub(super) fn lead(&mut self, lead: Lead) -> Result<(), StoreError> {
        let generation = self.parts.told.as_ref().map_or(0, |told| told.borrow().generation);
        match lead {
            Lead::Seen { of, messages } if of == generation => self.seen(&messages),
            Lead::TakeOver { of, seq } if of == generation => {
                // A refresh that is under way may have passed what the stream says meanwhile.
                let under_way = u64::from(self.consumer.phase() == Phase::Refresh);
                self.taking = Some(Taking {
                    seq,
                    since: Instant::now(),
                    is_asked: false,
                    enough: self.consumer.facts().refreshes + 1 + under_way,
                });
                Ok(())
            }
            Lead::Follow { is_fenced } => {
                let at_most = if is_fenced { self.lasting.taken_at } else { u64::MAX };
                self.follow(at_most)
            }
            // Said before the writer began anew.
            Lead::Seen { .. } | Lead::TakeOver { .. } => Ok(()),
        }
    }

    fn seen(&mut self, messages: &[Published]) -> Result<(), StoreError> {
        self.transaction()?;
        for message in messages {
            let kept = match &message.entry {
                Some((uuid, _)) => self.consumer.state_of(&mut self.kept, uuid)?,
                None => State::Gone,
            };
            self.kept.seen(message, kept)?;
        }
        if let (Some(told), Some(following)) = (&self.parts.told, &self.kept.following) {
            let has_room = following.noted() as u64 <= self.parts.plan.outbox_events_max;
            told.send_modify(|told| (told.read, told.has_room) = (following.read(), has_room));
        }
        Ok(())
    }

    /// When a take-over that waits is to be looked at.
    pub(super) fn taking_due(&self) -> Option<Instant> {
        let taking = self.taking.as_ref().filter(|taking| !taking.is_asked)?;
        // What a refresh tells wakes the writer by itself.
        (self.consumer.phase() != Phase::Refresh).then(|| taking.since + ASK_ANEW)
    }

    /// Takes over, when the content is as new as what the stream says: by its cookie, or because a refresh that began
    /// since has told what there is. Then what still differs, differs for good.
    pub(super) fn take_over(&mut self) -> Result<(), StoreError> {
        let (Some(taking), Some(following)) = (&mut self.taking, &self.kept.following) else {
            return Ok(());
        };
        let facts = self.consumer.facts();
        if !following.is_covered_by(&facts.cookie) && facts.refreshes < taking.enough {
            let is_late = !taking.is_asked && taking.since.elapsed() >= ASK_ANEW;
            if is_late && self.consumer.phase() != Phase::Refresh {
                taking.is_asked = true;
                self.commit()?;
                self.again();
            }
            return Ok(());
        }
        let (seq, read) = (taking.seq, following.read());
        let waited_ms = taking.since.elapsed().as_millis();
        self.taking = None;
        // What was read last is written down as read, and only then forgotten.
        self.transaction()?;
        self.commit()?;
        self.transaction()?;
        let differing = match self.kept.following.take() {
            Some(mut following) => following.settle(&mut self.kept.outbox)?,
            None => Vec::new(),
        };
        let mut said_again = 0_u64;
        for (uuid, said) in &differing {
            if self.consumer.state_of(&mut self.kept, uuid)? != said.state {
                self.consumer.replay(&mut self.kept, uuid, &said.dn, now_ms())?;
                said_again += 1;
            }
        }
        self.kept.outbox.above(seq)?;
        self.lasting.wants.fill(None);
        self.lasting.taken_at = read;
        self.commit()?;
        let waiting = self.kept.outbox.head().rows;
        tracing::info!(
            feed = self.parts.plan.name,
            waiting,
            said_again,
            waited_ms,
            "this daemon delivers from now on"
        );
        if let Some(told) = &self.parts.told {
            told.send_modify(|told| told.leads = true);
        }
        Ok(())
    }
}
