//! What an operator says, carried out.

use engine::feed::consumer::Confirmed;
use engine::feed::event::{Event, Uuid};
use engine::feed::json;
use serde_json::{Value, json};

use super::work::{Work, now_ms};
use crate::feed::command::Verb;
use crate::feed::store::{Dead, StoreError};

/// Dead letters that are shown, or replayed, at once.
const DEAD_MAX: usize = 1000;
/// Entries that are told again in one transaction.
const REPLAY_PAGE: usize = 1024;

type Answer = Result<Value, String>;

impl Work<'_> {
    /// Does it; what is to be said to the operator.
    pub(super) fn command(&mut self, verb: &Verb) -> Result<Answer, StoreError> {
        match verb {
            Verb::Replay { .. } | Verb::ReplayDead { .. } if self.kept.following.is_some() => {
                Ok(Err("this daemon follows: say it to the one that leads".to_owned()))
            }
            Verb::Confirm => self.confirm(),
            Verb::Reject => {
                self.transaction()?;
                let was_held = self.consumer.reject();
                if !was_held {
                    return Ok(Err("nothing is held".to_owned()));
                }
                self.again();
                self.commit()?;
                Ok(Ok(
                    json!({ "done": "rejected; the next refresh begins at the kept cookie" }),
                ))
            }
            Verb::Reset => self.reset(),
            Verb::Pause | Verb::Resume => {
                self.transaction()?;
                self.paused = *verb == Verb::Pause;
                self.kept.set_flag("paused", self.paused)?;
                self.commit()?;
                let done = if self.paused { "paused" } else { "delivering" };
                Ok(Ok(json!({ "done": done })))
            }
            Verb::Replay { from } => self.replay(*from),
            Verb::ReplayDead { seq } => self.replay_dead(*seq),
            // Whoever asks for that does it, and the writer only looks.
            Verb::Verify(_) => Ok(Err("a comparison is not the writer's".to_owned())),
            Verb::Dead => {
                let dead = self.kept.outbox.dead(DEAD_MAX)?;
                let list: Vec<Value> = dead.iter().map(|dead| show(dead, &self.parts.plan.name)).collect();
                Ok(Ok(json!({ "dead": list })))
            }
        }
    }

    fn confirm(&mut self) -> Result<Answer, StoreError> {
        self.transaction()?;
        let confirmed = self.consumer.confirm(&mut self.kept, now_ms())?;
        let done = match confirmed {
            Confirmed::NothingHeld => return Ok(Err("nothing is held".to_owned())),
            Confirmed::Now(step) => {
                self.step(step);
                "confirmed; the deletes are done"
            }
            Confirmed::NextRefresh => {
                self.again();
                "confirmed; the next refresh may delete as many"
            }
        };
        self.commit()?;
        Ok(Ok(json!({ "done": done })))
    }

    fn reset(&mut self) -> Result<Answer, StoreError> {
        self.close_session("reset");
        self.commit()?;
        self.transaction()?;
        self.kept.reset()?;
        let settings = super::session::settings(
            &self.parts.plan,
            &self.parts.identity,
            u16::try_from(self.lasting.wants.len()).unwrap_or(1),
        );
        self.consumer = engine::feed::consumer::Consumer::new(settings, &mut self.kept)?;
        self.again();
        self.commit()?;
        if self.is_shared() {
            self.follow(u64::MAX)?;
        }
        Ok(Ok(json!({ "done": "reset; the content is fetched anew" })))
    }

    /// What changed since a number is told again, page by page: first what was deleted, then what is there. Everything,
    /// where the number is from before what is known.
    fn replay(&mut self, from: u64) -> Result<Answer, StoreError> {
        let head = self.kept.outbox.head();
        if from >= head.next {
            return Ok(Err(format!(
                "there is no number {from} yet: the next one is {}",
                head.next
            )));
        }
        let first = head.next;
        let known = self.kept.history.known()?;
        let deletes = self.replay_deletes(from, first)?;
        let since = if from < known.changes { 0 } else { from };
        let mut after = None::<Uuid>;
        loop {
            let page = self.kept.history.changed(after, since, first, REPLAY_PAGE)?;
            let Some(last) = page.last() else { break };
            after = Some(*last);
            self.transaction()?;
            for uuid in &page {
                self.consumer.replay(&mut self.kept, uuid, "", now_ms())?;
            }
            self.commit()?;
        }
        let head = self.kept.outbox.head();
        let mut answer = json!({
            "replayed": head.next - first, "deletes": deletes, "first": first,
            "changes_known_from": known.changes, "deletes_known_from": known.deletes,
        });
        let note = if from < known.changes {
            "which entries changed is not known from so far back: all are told, and deletes as far as they are known"
        } else if from < known.deletes {
            "deletes are not known from so far back: those from `deletes_known_from` on are told"
        } else {
            return Ok(Ok(answer));
        };
        if let Some(object) = answer.as_object_mut() {
            object.insert("note".to_owned(), json!(note));
        }
        Ok(Ok(answer))
    }

    /// Deletes with numbers in this range, of entries that are gone still; how many.
    fn replay_deletes(&mut self, from: u64, before: u64) -> Result<u64, StoreError> {
        let (mut after, mut count) = (from.saturating_sub(1), 0);
        loop {
            let page = self.kept.history.gone(after, before, REPLAY_PAGE)?;
            let Some((last, ..)) = page.last() else {
                return Ok(count);
            };
            let told = after + 1;
            after = *last;
            self.transaction()?;
            for (_, uuid, dn) in &page {
                self.consumer.replay(&mut self.kept, uuid, dn, now_ms())?;
                count += 1;
            }
            self.kept.history.told_again(told, after)?;
            self.commit()?;
        }
    }

    fn replay_dead(&mut self, seq: Option<u64>) -> Result<Answer, StoreError> {
        let dead = self.kept.outbox.dead(DEAD_MAX)?;
        self.transaction()?;
        let mut count = 0_u64;
        for one in dead.iter().filter(|one| seq.is_none_or(|seq| seq == one.seq)) {
            let event = Event::decode(one.seq, &one.event)?;
            self.consumer.replay(&mut self.kept, &event.uuid, event.dn, now_ms())?;
            self.kept.outbox.forget(one)?;
            count += 1;
        }
        self.commit()?;
        Ok(match (count, seq) {
            (0, Some(seq)) => Err(format!("there is no dead letter {seq}")),
            (count, _) => Ok(json!({ "replayed": count })),
        })
    }
}

fn show(dead: &Dead, feed: &str) -> Value {
    let mut text = Vec::new();
    if let Ok(event) = Event::decode(dead.seq, &dead.event) {
        json::write(&mut text, feed, &event);
    }
    let event: Value = serde_json::from_slice(&text).unwrap_or(Value::Null);
    json!({ "seq": dead.seq, "shard": dead.shard, "why": dead.why, "time_ms": dead.time_ms, "event": event })
}
