//! A container was renamed: what is below it has another name too, and the provider says nothing about it.
//!
//! All of it is gone through, containers before what is in them, in pages, and told as moves; kept names need no change.
//!
//! In a refresh one thing is different, because messages come in no order: what is below may have been said *before*, with
//! the name it has now, by which it was put below the container that bore that name until now. Such an entry (`named`) is
//! not moved along: it stays at the name that was said, below whatever bears that name, which is glue until it comes.
//! Glue becomes one with what it stands for only after the walk: it may hold up what was said by a *new* name, and that must
//! not be met on the way and taken for something that was said by an old one.

use super::{Consumer, Phase};
use crate::feed::emitter::attributes;
use crate::feed::event::{Event, Op};
use crate::feed::store::{Content, Id, Row};
use crate::feed::tree::{Children, Spot, Who};

/// A row on the way down.
struct Level {
    id: Id,
    rdn: Vec<u8>,
    old_dn: Vec<u8>,
    new_dn: Vec<u8>,
    is_glue: bool,
    /// The row that bears its old name now, once there is need of one.
    home: Option<Id>,
    children: Children,
}

impl Consumer {
    /// `row` is as it was before; it bears the new name already. At the end it is one with the glue that held its place.
    pub(super) fn follow<C: Content>(
        &mut self,
        content: &mut C,
        row: &Row,
        old_dn: &[u8],
        new_dn: &[u8],
        time_ms: i64,
    ) -> Result<(), C::Error> {
        let stays = self.phase == Phase::Refresh && !self.named.has(row.id);
        let mut levels = vec![Level {
            id: row.id,
            rdn: row.rdn.clone(),
            old_dn: old_dn.to_vec(),
            new_dn: new_dn.to_vec(),
            is_glue: false,
            home: None,
            children: Children::new(row.id),
        }];
        let mut stayed = Vec::new();
        let mut child = Row::default();
        while let Some(level) = levels.last_mut() {
            let Some(id) = level.children.next(content)? else {
                let glue = level.is_glue.then_some(level.id);
                levels.pop();
                if let Some(glue) = glue {
                    self.tree.prune(content, glue)?;
                }
                continue;
            };
            if !content.by_id(id, &mut child)? {
                continue;
            }
            if stays && self.named.has(id) {
                let home = self.home(content, row, &mut levels)?;
                let spot = Spot {
                    parent: home,
                    rdn: &child.rdn,
                };
                self.tree.put(content, &child, spot)?;
                if self.tree.has_glue(home, child.name) {
                    stayed.push(id);
                }
                continue;
            }
            let next = Level {
                id,
                rdn: child.rdn.clone(),
                old_dn: below(&child.rdn, &level.old_dn),
                new_dn: below(&child.rdn, &level.new_dn),
                is_glue: child.uuid.is_none(),
                home: None,
                children: Children::new(id),
            };
            self.tell_move(content, &child, &next, time_ms)?;
            levels.push(next);
        }
        for id in stayed.into_iter().chain([row.id]) {
            if content.place(id, &mut child)? {
                let spot = Spot {
                    parent: child.parent,
                    rdn: &child.rdn,
                };
                self.tree.absorb(content, id, spot)?;
            }
        }
        Ok(())
    }

    fn tell_move<C: Content>(
        &mut self,
        content: &mut C,
        child: &Row,
        level: &Level,
        time_ms: i64,
    ) -> Result<(), C::Error> {
        let Some(uuid) = child.uuid else { return Ok(()) };
        let dn = String::from_utf8_lossy(&level.new_dn);
        let old_dn = String::from_utf8_lossy(&level.old_dn);
        let event = Event {
            old_dn: Some(&old_dn),
            attributes: attributes(&child.attributes),
            before: self.out.before(&[]),
            ..Event::new(Op::Move, uuid, &dn, time_ms)
        };
        self.out.emit(content, &event)
    }

    /// The row that bears the old name of the last of `levels`, the first of which is `row`. It is never below `row`, whose
    /// new place may be on that way: what stays must not be met again.
    fn home<C: Content>(&mut self, content: &mut C, row: &Row, levels: &mut [Level]) -> Result<Id, C::Error> {
        let mut parent = row.parent;
        for level in levels {
            parent = match level.home {
                Some(home) => home,
                None => {
                    let who = Who {
                        not: Some(row.id),
                        named: &self.named,
                        doomed: &self.doomed,
                    };
                    self.tree.find_or_glue(content, parent, &level.rdn, &who)?
                }
            };
            level.home = Some(parent);
        }
        Ok(parent)
    }
}

/// The name of what is below `parent`.
fn below(rdn: &[u8], parent: &[u8]) -> Vec<u8> {
    if parent.is_empty() {
        rdn.to_vec()
    } else {
        [rdn, b",", parent].concat()
    }
}
