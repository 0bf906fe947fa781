//! Listings in pages. winbindd keeps the place in a listing with the connection, so the helper keeps one listing open, and how
//! many entries it has given. A cursor is that number: this helper goes on if it stands just there; else the listing is begun
//! anew and so many entries are passed over. What changes meanwhile may be missed or come twice, as with getpwent(3).

use super::backend::{Backend, Failure, Listing};
use super::status::{Attempt, answer};
use crate::identity::{Group, Refusal, Status, User};

/// A page ends after so many bytes of names, whatever its entries: a group may have very many members.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// The listing that is open.
#[derive(Default)]
pub(super) struct Listings {
    open: Option<(Listing, u64)>,
}

/// A page, and the cursor of the next one.
type Page<T> = Result<(Vec<T>, Option<String>), Refusal>;

impl Listings {
    pub(super) fn users(&mut self, backend: &mut dyn Backend, cursor: Option<&str>, entries_max: usize) -> Page<User> {
        let bytes = |user: &User| user.name.len() + user.gecos.len() + user.dir.len() + user.shell.len() + 64;
        self.page(
            backend,
            Listing::Users,
            cursor,
            entries_max,
            |backend| backend.next_user(),
            bytes,
        )
    }

    pub(super) fn groups(
        &mut self,
        backend: &mut dyn Backend,
        cursor: Option<&str>,
        entries_max: usize,
    ) -> Page<Group> {
        let bytes =
            |group: &Group| group.name.len() + group.members.iter().map(|name| name.len() + 3).sum::<usize>() + 64;
        self.page(
            backend,
            Listing::Groups,
            cursor,
            entries_max,
            |backend| backend.next_group(),
            bytes,
        )
    }

    fn page<T>(
        &mut self,
        backend: &mut dyn Backend,
        listing: Listing,
        cursor: Option<&str>,
        entries_max: usize,
        next: impl Fn(&mut dyn Backend) -> Result<Option<T>, Failure>,
        bytes: impl Fn(&T) -> usize,
    ) -> Page<T> {
        let failed = |failure: Failure| answer(&failure, Attempt::Lookup);
        let wrong = || Refusal::new(Status::Invalid, "`cursor` is not one that an answer gave");
        let wanted: u64 = cursor.map_or(Ok(0), str::parse).map_err(|_| wrong())?;
        let mut at = match self.open.take() {
            Some((open, at)) if open == listing && at == wanted && at > 0 => at,
            _ => {
                backend.begin(listing).map_err(failed)?;
                0
            }
        };
        let (mut entries, mut total) = (Vec::new(), 0);
        while entries.len() < entries_max.max(1) && total < PAGE_BYTES_MAX {
            let entry = match next(backend) {
                // An entry that cannot be passed on does not hide the others.
                Err(Failure::Unreadable(_)) => None,
                Ok(None) => {
                    backend.end();
                    return Ok((entries, None));
                }
                Err(failure) => {
                    let refusal = failed(failure);
                    // A winbindd that does not answer is not asked once more: its connections are forgotten.
                    if refusal.status != Status::Unavailable {
                        backend.end();
                    }
                    return Err(refusal);
                }
                Ok(entry) => entry,
            };
            at += 1;
            let Some(entry) = entry else { continue };
            if at > wanted {
                total += bytes(&entry);
                entries.push(entry);
            }
        }
        self.open = Some((listing, at));
        Ok((entries, Some(at.to_string())))
    }
}
