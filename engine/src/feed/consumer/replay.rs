//! The current state, told again under new sequence numbers: so that it is neither refused as old nor out of order.

use super::Consumer;
use crate::feed::emitter::attributes;
use crate::feed::event::{Event, Op, Uuid};
use crate::feed::standby::State;
use crate::feed::store::{Content, Row};

impl Consumer {
    /// Tells again what an entry is: an add with everything it has, or where it is not there a delete under the name
    /// `last_dn`.
    ///
    /// # Errors
    /// The store's.
    pub fn replay<C: Content>(
        &mut self,
        content: &mut C,
        uuid: &Uuid,
        last_dn: &str,
        time_ms: i64,
    ) -> Result<(), C::Error> {
        let counts = self.out.counts;
        let mut row = Row::default();
        let done = if content.by_uuid(uuid, &mut row)? {
            self.tell_again(content, &row, time_ms)
        } else {
            self.out.emit(content, &Event::new(Op::Delete, *uuid, last_dn, time_ms))
        };
        self.out.counts = counts;
        done
    }

    /// How an entry is kept, as other daemons see it.
    ///
    /// # Errors
    /// The store's.
    pub fn state_of<C: Content>(&mut self, content: &mut C, uuid: &Uuid) -> Result<State, C::Error> {
        let mut row = Row::default();
        if !content.by_uuid(uuid, &mut row)? {
            return Ok(State::Gone);
        }
        let mut dn = Vec::new();
        self.tree.name(content, row.parent, &row.rdn, &mut dn)?;
        Ok(State::kept(&String::from_utf8_lossy(&dn), attributes(&row.attributes)))
    }

    fn tell_again<C: Content>(&mut self, content: &mut C, row: &Row, time_ms: i64) -> Result<(), C::Error> {
        let Some(uuid) = row.uuid else { return Ok(()) };
        let mut dn = Vec::new();
        self.tree.name(content, row.parent, &row.rdn, &mut dn)?;
        let dn = String::from_utf8_lossy(&dn);
        let event = Event {
            attributes: attributes(&row.attributes),
            ..Event::new(Op::Add, uuid, &dn, time_ms)
        };
        self.out.emit(content, &event)
    }
}
