//! What is asked about SIDs, ids and domains.

use super::status::{Attempt, DOMAIN_NOT_FOUND, answer};
use super::{Backend, Failure, Winbind, lookup};
use crate::identity::{Body, Mapping, NamedSid, Refusal, Request, Status, Trust, UnixId};

/// The domain of the local groups that every machine has.
const BUILTIN: &str = "S-1-5-32";
/// `WBC_SID_NAME_UNKNOWN`.
const UNKNOWN: i32 = 8;

impl<B: Backend> Winbind<B> {
    pub(super) fn sids_and_domains(&mut self, request: Request) -> Result<Body, Refusal> {
        Ok(match request {
            Request::NameToSid { name, domain } => {
                let (domain, name) = match domain {
                    Some(domain) => (domain, name),
                    None => (String::new(), self.full_name(&name)?),
                };
                let found = self.backend.name_to_sid(&domain, &name);
                let (sid, kind) = found.map_err(|failure| self.not_found(&failure, Some(&name)))?;
                Body::Sid {
                    sid,
                    kind: Some(kind_name(kind)),
                }
            }
            Request::SidToName { sid } => {
                let found = self.backend.sid_to_name(&sid);
                let (domain, name, kind) = found.map_err(|failure| self.not_found_sid(&failure, &sid))?;
                Body::Name {
                    domain,
                    name,
                    kind: kind_name(kind),
                }
            }
            Request::SidToId { sid } => self.id_of(&sid)?,
            Request::SidsToNames { sids } => self.names_of(sids)?,
            Request::SidsToIds { sids } => self.ids_of(sids)?,
            Request::IdsToSids { ids } => self.sids_of(&ids)?,
            Request::IdToSid(id) => {
                let sid = self.backend.id_to_sid(id);
                Body::Sid {
                    sid: sid.map_err(|failure| self.not_found(&failure, None))?,
                    kind: None,
                }
            }
            Request::UserSids { sid } => {
                let sids = self.backend.user_sids(&sid);
                Body::Sids {
                    sids: sids.map_err(|failure| self.not_found_sid(&failure, &sid))?,
                }
            }
            Request::SidAliases { sid, domain } => {
                let domain = domain.unwrap_or_else(|| BUILTIN.to_owned());
                let sids = self.backend.sid_aliases(&sid, &domain);
                Body::Sids {
                    sids: sids.map_err(|failure| self.not_found_sid(&failure, &sid))?,
                }
            }
            Request::DomainInfo { domain } => self.domain_info(domain)?,
            Request::Trusts => self.trusted()?,
            _ => return Err(Refusal::new(Status::Unsupported, "winbind cannot do that")),
        })
    }

    fn id_of(&mut self, sid: &str) -> Result<Body, Refusal> {
        let found = self.backend.sids_to_ids(&[sid.to_owned()]);
        let found = found.map_err(|failure| lookup(&failure))?;
        match found.first() {
            Some(&(uid, gid)) if uid.or(gid).is_some() => Ok(Body::Id { uid, gid }),
            _ => Err(self.not_found_sid(&nothing(), sid)),
        }
    }

    fn names_of(&mut self, sids: Vec<String>) -> Result<Body, Refusal> {
        let found = self.backend.sids_to_names(&sids).map_err(|failure| lookup(&failure))?;
        let unknown = sids.iter().zip(&found).filter(|(_, (.., kind))| *kind == UNKNOWN);
        let unknown: Vec<&String> = unknown.map(|(sid, _)| sid).collect();
        self.believe(&unknown)?;
        let entries = sids.into_iter().zip(found).map(|(sid, (domain, name, kind))| {
            // Of what it does not know the library gives the number as a name.
            let (domain, name) = if kind == UNKNOWN {
                Default::default()
            } else {
                (domain, name)
            };
            NamedSid {
                sid,
                domain,
                name,
                kind: kind_name(kind),
            }
        });
        Ok(Body::NamesOfSids {
            entries: entries.collect(),
        })
    }

    fn ids_of(&mut self, sids: Vec<String>) -> Result<Body, Refusal> {
        let found = self.backend.sids_to_ids(&sids).map_err(|failure| lookup(&failure))?;
        let unknown = sids.iter().zip(&found).filter(|(_, ids)| **ids == (None, None));
        let unknown: Vec<&String> = unknown.map(|(sid, _)| sid).collect();
        self.believe(&unknown)?;
        let entries = sids.into_iter().zip(found).map(|(sid, (uid, gid))| Mapping {
            sid: Some(sid),
            uid,
            gid,
        });
        Ok(Body::Mappings {
            entries: entries.collect(),
        })
    }

    fn sids_of(&mut self, ids: &[UnixId]) -> Result<Body, Refusal> {
        let found = self.backend.ids_to_sids(ids).map_err(|failure| lookup(&failure))?;
        if found.iter().any(Option::is_none) {
            let refusal = self.not_found(&nothing(), None);
            if refusal.status != Status::NotFound {
                return Err(refusal);
            }
        }
        let entries = ids.iter().zip(found).map(|(id, sid)| match *id {
            UnixId::Uid(uid) => Mapping {
                sid,
                uid: Some(uid),
                gid: None,
            },
            UnixId::Gid(gid) => Mapping {
                sid,
                uid: None,
                gid: Some(gid),
            },
        });
        Ok(Body::Mappings {
            entries: entries.collect(),
        })
    }

    /// That nobody knows these SIDs is believed unless one is of a domain that is out of reach.
    fn believe(&mut self, unknown: &[&String]) -> Result<(), Refusal> {
        if unknown.is_empty() {
            return Ok(());
        }
        let said = lookup(&nothing());
        let refusal = self.unless_offline(said, |trust| unknown.iter().any(|sid| is_of(sid, trust)));
        match refusal.status {
            Status::NotFound => Ok(()),
            _ => Err(refusal),
        }
    }

    fn domain_info(&mut self, domain: Option<String>) -> Result<Body, Refusal> {
        let (domain, else_this) = match domain {
            Some(domain) => (domain, None),
            None => self.details().map(|details| (details.domain, Some(details.host)))?,
        };
        let found = self.backend.domain(&domain);
        // A machine that is in no domain has one of its own, by its own name.
        let found = match (found, else_this) {
            (Err(failure), Some(host)) if lookup(&failure).status == Status::NotFound => self.backend.domain(&host),
            (found, _) => found,
        };
        Ok(Body::Domain(found.map_err(|failure| lookup(&failure))?))
    }

    fn trusted(&mut self) -> Result<Body, Refusal> {
        let own = self.details()?;
        let all = self.backend.trusts().map_err(|failure| lookup(&failure))?;
        let not_foreign = [own.domain.as_str(), own.host.as_str(), "BUILTIN"];
        let foreign = |trust: &Trust| {
            !not_foreign
                .iter()
                .any(|name| trust.short_name.eq_ignore_ascii_case(name))
        };
        Ok(Body::Trusts {
            domains: all.into_iter().filter(foreign).collect(),
        })
    }

    pub(super) fn not_found_sid(&mut self, failure: &Failure, sid: &str) -> Refusal {
        let said = answer(failure, Attempt::Lookup);
        if said.status != Status::NotFound {
            return said;
        }
        self.unless_offline(said, |trust| is_of(sid, trust))
    }
}

fn is_of(sid: &str, domain: &Trust) -> bool {
    sid.strip_prefix(&domain.sid).is_some_and(|rest| rest.starts_with('-'))
}

pub(super) fn nothing() -> Failure {
    Failure::Library {
        code: DOMAIN_NOT_FOUND,
        text: String::new(),
    }
}

/// `enum wbcSidType`, in the contract's words.
fn kind_name(kind: i32) -> &'static str {
    match kind {
        1 => "user",
        2 => "group",
        3 => "domain",
        4 => "alias",
        5 => "well-known-group",
        6 => "deleted",
        7 => "invalid",
        9 => "computer",
        10 => "label",
        _ => "unknown",
    }
}
