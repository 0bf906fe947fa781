//! A client as it knows itself: what it waits for, and who it is. It sees nothing but what it sent, as far as that was
//! taken, and what it hears.

use super::frames::token;
use engine::core::time::Instant;
use engine::session::ldap::Settings;
use std::collections::BTreeMap;
use wire::frame::Malformed;
use wire::ldap::control::{controls, oid as control_oid};
use wire::ldap::envelope::{self, Envelope, tag};
use wire::ldap::grammar::{self, Auth};
use wire::ldap::message::{self, oid};
use wire::ldap::result;

/// A request that has not been answered.
#[derive(Debug)]
struct Asked {
    tag: u8,
    token: Vec<u8>,
    /// None: it may take for ever.
    deadline: Option<Instant>,
    /// Who the client is if this succeeds.
    becomes: Option<Vec<u8>>,
    /// It may not be answered with success: its code is one of these.
    refused: Option<&'static [u32]>,
    oid: Vec<u8>,
    cancels: Option<i32>,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    open: BTreeMap<i32, Asked>,
    /// Authorization identity; empty for anonymous.
    pub(crate) identity: Vec<u8>,
    draining: bool,
    noticed: bool,
    /// A notice must come.
    outlawed: bool,
    /// The connection may end without a notice.
    leaves: bool,
}

impl Model {
    /// The client's message was taken. `pinned`: it has a connection of its own.
    pub(crate) fn takes(&mut self, env: &Envelope<'_>, settings: &Settings, pinned: bool, now: Instant) {
        let checked = grammar::check_request(env, &settings.limits);
        if checked.is_err_and(|fault| fault != Malformed::BadControls) {
            self.outlawed = true;
            return;
        }
        match env.tag {
            tag::UNBIND_REQUEST => self.leaves = true,
            tag::ABANDON_REQUEST => {
                let target = grammar::abandon_id(env);
                self.open
                    .retain(|id, asked| Some(*id) != target || asked.tag == tag::BIND_REQUEST);
            }
            _ if env.id == 0 || self.open.contains_key(&env.id) => self.outlawed = true,
            _ => {
                let asked = self.asked(env, settings, pinned, checked.is_err(), now);
                if env.tag == tag::BIND_REQUEST && !self.draining {
                    // RFC 4511 4.2.1, RFC 4513 4.
                    self.open.clear();
                    self.identity.clear();
                }
                self.open.insert(env.id, asked);
            }
        }
    }

    fn asked(&mut self, env: &Envelope<'_>, settings: &Settings, pinned: bool, malformed: bool, now: Instant) -> Asked {
        let has = |oids: &[&str]| {
            let mut all = controls(env.controls).flatten();
            all.any(|control| oids.iter().any(|oid| oid.as_bytes() == control.oid))
        };
        let authorization = has(&[
            control_oid::PROXIED_AUTHORIZATION,
            control_oid::PROXIED_AUTHORIZATION_V1,
        ]);
        let endless = has(&[
            control_oid::PERSISTENT_SEARCH,
            control_oid::SYNC_REQUEST,
            control_oid::CHANGE_NOTIFICATION,
        ]);
        let search = env.tag == tag::SEARCH_REQUEST;
        let timeout = if search {
            settings.search_timeout
        } else {
            settings.operation_timeout
        };
        let extended = grammar::extended(env.op).ok();
        let mut asked = Asked {
            tag: env.tag,
            token: token(env.tag, env.op),
            deadline: (!(search && endless)).then_some(now + timeout),
            becomes: None,
            refused: None,
            oid: extended.map_or(Vec::new(), |extended| extended.oid.to_vec()),
            cancels: extended
                .filter(|extended| extended.oid == oid::CANCEL.as_bytes())
                .and_then(|extended| grammar::cancel_id(extended.value?).ok()),
        };
        if let Ok(bind) = grammar::bind(env.op) {
            match bind.auth {
                _ if bind.version != 3 => {
                    asked.refused = Some(&[2]);
                    self.leaves = true;
                }
                Auth::Simple(b"") if bind.name.is_empty() || settings.allow_unauthenticated_bind => {
                    asked.becomes = Some(Vec::new());
                }
                Auth::Simple(b"") => asked.refused = Some(&[53]),
                Auth::Simple(_) => asked.becomes = Some(identity_of(bind.name, settings.proxied)),
                _ => asked.refused = Some(&[7]),
            }
        }
        if malformed {
            asked.refused = Some(&[2]);
        } else if authorization && (settings.proxied || !pinned) {
            asked.refused = Some(&[53]);
        }
        if self.draining {
            asked.refused = Some(&[52]);
        }
        asked
    }

    /// Everything that a client reads comes here.
    pub(crate) fn hears(&mut self, env: &Envelope<'_>) {
        assert!(!self.noticed, "{env:?} follows the notice of disconnection");
        if env.id == 0 {
            let result = result::read_result(env.op).expect("an unsolicited message of ours is whole");
            assert!(result::is_notice_of_disconnection(0, &result));
            self.noticed = true;
            return;
        }
        assert!(!self.outlawed, "{env:?} instead of a notice of disconnection");
        let Some(asked) = self.open.get(&env.id) else {
            panic!("{env:?} answers nothing that is waited for")
        };
        if Some(env.tag) != envelope::response_tag(asked.tag) {
            let entry = matches!(env.tag, tag::SEARCH_ENTRY | tag::SEARCH_REFERENCE);
            assert!((entry && asked.tag == tag::SEARCH_REQUEST) || env.tag == tag::INTERMEDIATE_RESPONSE);
            if let Ok(entry) = message::read_entry(env.op) {
                asked.is_mine(entry.dn);
            }
            return;
        }
        if let Some(asked) = self.open.remove(&env.id) {
            self.ends(env, &asked);
        }
    }

    fn ends(&mut self, env: &Envelope<'_>, asked: &Asked) {
        let code = result::result_code(env.op);
        if let Some(codes) = asked.refused {
            assert!(code.is_some_and(|code| codes.contains(&code)), "{code:?} for {asked:?}");
            return;
        }
        let Ok(result) = result::read_result(env.op) else {
            // A server's; whoever bound by it is judged by its code alone.
            if code == Some(0)
                && let Some(becomes) = &asked.becomes
            {
                self.identity.clone_from(becomes);
            }
            return;
        };
        asked.is_mine(result.matched_dn);
        asked.is_mine(result.value.unwrap_or_default());
        if result.code != 0 {
            return;
        }
        if let Some(becomes) = &asked.becomes {
            self.identity.clone_from(becomes);
        }
        match &asked.oid {
            oid if oid == oid::START_TLS.as_bytes() => self.identity.clear(),
            oid if oid == oid::WHO_AM_I.as_bytes() && result.value.is_some() => {
                assert_eq!(result.value, Some(&*self.identity), "who the client is");
            }
            oid if oid == oid::CANCEL.as_bytes() => {
                let of = asked.cancels.expect("a Cancel that was understood");
                assert!(!self.open.contains_key(&of), "cancelled, and not ended");
            }
            _ => {}
        }
    }

    pub(crate) fn drains(&mut self) {
        self.draining = true;
    }

    /// The stream cannot be followed any more.
    pub(crate) fn outlawed(&mut self) {
        self.outlawed = true;
    }

    /// The connection ends now.
    pub(crate) fn closed(&mut self) {
        assert!(self.noticed || self.leaves, "closed without a word");
        self.open.clear();
    }

    pub(crate) fn waits_for(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn nth_open(&self, n: usize) -> Option<i32> {
        self.open.keys().nth(n.checked_rem(self.open.len())?).copied()
    }

    /// Nothing waits past its deadline.
    pub(crate) fn is_in_time(&self, now: Instant, grace: engine::core::time::Span) {
        for (id, asked) in &self.open {
            let late = asked.deadline.is_some_and(|deadline| deadline + grace < now);
            assert!(!late, "message {id} waits past its deadline: {asked:?}");
        }
    }
}

impl Asked {
    /// An answer that shows what it is about is about this.
    fn is_mine(&self, shown: &[u8]) {
        if shown.starts_with(b"t=") {
            assert_eq!(shown, self.token, "an answer to somebody else's request");
        }
    }
}

/// Who a name is. Servers say so for every other one; on connections of the clients' own they are not asked.
pub(crate) fn identity_of(name: &[u8], proxied: bool) -> Vec<u8> {
    match says_who(name) {
        Some(identity) if proxied => identity,
        _ if name.is_empty() => Vec::new(),
        _ => [b"dn:", name].concat(),
    }
}

/// What a server answers to Who am I? after a bind with this name; none: it does not say.
pub(crate) fn says_who(name: &[u8]) -> Option<Vec<u8>> {
    let last = name.last()?;
    last.is_multiple_of(2).then(|| [b"u:", name].concat())
}
