//! Requests that may not go everywhere: which servers are considered for them, and how they wait.
//!
//! They wait in a list of their own. In the common queue one that waits for a busy server would hold up all behind it; here each
//! is asked about whenever something has become free, those for whom there was no room just before aside.

use super::dispatch::Choice;
use super::*;
use crate::core::request::Route;

/// Kinds of request that are remembered as without room during one look at those that wait.
const WITHOUT_ROOM_MAX: usize = 16;

/// The servers that are considered for one request.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    avoid: Option<usize>,
    marks: u8,
    only: Option<usize>,
}

impl Wanted {
    #[inline]
    pub(super) fn takes(&self, index: usize, server: &Server) -> bool {
        Some(index) != self.avoid && server.has_marks(self.marks) && self.only.is_none_or(|only| only == index)
    }
}

impl<T: Copy> Pool<T> {
    /// What a ticket's request wants, as things are now.
    #[inline]
    pub(super) fn wanted(&self, entry: &Entry<T>) -> Wanted {
        let route = entry.request.route;
        if route.is_open() && entry.avoid.is_none() {
            return Wanted {
                avoid: None,
                marks: 0,
                only: None,
            };
        }
        self.narrowed(route, entry.avoid)
    }

    fn narrowed(&self, route: Route, avoid: Option<usize>) -> Wanted {
        let mut wanted = Wanted {
            avoid,
            marks: route.needs,
            only: None,
        };
        if avoid.is_some() && !self.any_usable(&wanted) {
            wanted.avoid = None;
        }
        let stays = route.stays.and_then(|key| {
            self.servers.iter().position(|server| {
                server
                    .as_ref()
                    .is_some_and(|server| server.config.key == key && !server.retiring)
            })
        });
        let only = Wanted { only: stays, ..wanted };
        if stays.is_some() && self.any_usable(&only) {
            return only;
        }
        let preferred = Wanted {
            marks: route.needs | route.prefers,
            ..wanted
        };
        if route.prefers != 0 && self.any_usable(&preferred) {
            return preferred;
        }
        wanted
    }

    fn any_usable(&self, wanted: &Wanted) -> bool {
        let mut servers = self.servers.iter().enumerate();
        servers.any(|(index, server)| {
            server
                .as_ref()
                .is_some_and(|server| wanted.takes(index, server) && server.usable())
        })
    }

    /// It was given back, and is nobody's.
    pub(super) fn is_unowned(&self, handle: Handle) -> bool {
        let upstream = self.upstreams.get(handle);
        upstream.is_some_and(|upstream| {
            let server = self.servers.get(upstream.server).and_then(Option::as_ref);
            let fleet = server.and_then(|server| server.fleets.get(upstream.lane as usize));
            fleet.is_some_and(|fleet| fleet.unowned.contains(&handle))
        })
    }

    /// One that was given back becomes a client's again.
    pub(super) fn take_unowned(&mut self, server: usize, lane: u8) -> Option<Handle> {
        loop {
            let fleet = self.server_at(server)?.fleets.get_mut(lane as usize)?;
            let handle = fleet.unowned.pop()?;
            let ready = |upstream: &Upstream| upstream.state == UpstreamState::Ready;
            if self.upstreams.get(handle).is_some_and(ready) {
                return Some(handle);
            }
        }
    }

    /// Sends what can be sent of those that may not go everywhere.
    pub(super) fn pump_picky(&mut self, lane: usize, now: Instant, effects: &mut Vec<Effect<T>>) {
        let mut without: [Option<(Route, Option<usize>)>; WITHOUT_ROOM_MAX] = [None; WITHOUT_ROOM_MAX];
        let mut kinds = 0;
        let mut at = self.lanes.get(lane).and_then(|lane| lane.picky.front());
        while let Some(handle) = at {
            if self.is_closing() || kinds == WITHOUT_ROOM_MAX {
                return;
            }
            at = List::next(&self.tickets, handle);
            let Some(kind) = self.tickets.get(handle).map(|entry| (entry.request.route, entry.avoid)) else {
                return;
            };
            if without.contains(&Some(kind)) {
                continue;
            }
            match self.choose(handle, 0, now, effects) {
                Choice::Now(upstream) => {
                    self.unlink(handle);
                    self.send(handle, upstream, now, effects);
                }
                Choice::Nobody => {
                    self.unlink(handle);
                    self.fail_loose(handle, Reason::Unavailable, effects);
                }
                Choice::Wait => {
                    if let Some(place) = without.get_mut(kinds) {
                        *place = Some(kind);
                    }
                    kinds += 1;
                    self.note_saturation(lane);
                }
            }
        }
    }
}
