//! The same questions, answered by a service: one JSON object for each (`docs/identity-calls.md`), more only where a list
//! comes in pieces.

use super::Step;
use super::maps::is_name;
use crate::ask::{Asks, Event, Object};
use serde_json::Value;
use wire::nslcd::{self, Key, Map, Pam, Passwd, Request, Shadow, Who};

/// Pieces of one list, at most.
const PIECES_MAX: usize = 100_000;

/// A call that is under way.
#[derive(Debug)]
pub(super) struct Calling {
    pieces: usize,
}

/// What is asked of this service, and where its answer goes.
pub(super) struct Context<'c> {
    pub(super) asks: &'c mut Asks,
    pub(super) out: &'c mut Vec<u8>,
    pub(super) uid: Option<u32>,
    pub(super) session: u64,
    pub(super) prohibited: Option<&'c str>,
}

impl Calling {
    pub(super) fn begin(request: &Request<'_>, cx: &mut Context<'_>) -> Result<Calling, Step> {
        let call = match request {
            Request::Look { map, key } => look(*map, key, cx.uid),
            Request::Authc { who, .. } if who.user.is_empty() => {
                nslcd::authc(cx.out, Pam::PermissionDenied, b"", Pam::PermissionDenied, b"");
                None
            }
            Request::Authc { who, password } => {
                if password.is_empty() {
                    nslcd::authc(cx.out, Pam::AuthError, who.user, Pam::Success, b"");
                    return Err(Step::Whole);
                }
                about("authenticate", who).and_then(|call| with(call, "password", password))
            }
            Request::Authz(who) => about("account", who),
            Request::SessionOpen(who) => about("open-session", who),
            Request::SessionClose { who, session } => {
                about("close-session", who).and_then(|call| with(call, "session", session))
            }
            Request::PasswordModify { who, as_root, old, new } => {
                let why = match cx.prohibited {
                    Some(why) => Some(why),
                    None if *as_root => Some("this service changes passwords for their owners only"),
                    None if old.is_empty() || new.is_empty() => Some("a password is empty"),
                    None => None,
                };
                if let Some(why) = why {
                    nslcd::verdict(cx.out, Pam::PermissionDenied, why.as_bytes());
                    return Err(Step::Whole);
                }
                about("change-password", who)
                    .and_then(|call| with(call, "old_password", old))
                    .and_then(|call| with(call, "new_password", new))
            }
            Request::ConfigGet(_) | Request::UserModify { .. } => None,
        };
        let call = call.ok_or(Step::Whole)?;
        cx.asks.call(call.end());
        Ok(Calling { pieces: 0 })
    }

    pub(super) fn told(&mut self, request: &Request<'_>, event: &Event<'_>, cx: &mut Context<'_>) -> Step {
        let Event::Answer(answer) = event else {
            return Step::Broken;
        };
        let Ok(answer) = serde_json::from_slice::<Value>(answer) else {
            return Step::Broken;
        };
        let text = |key: &str| answer.get(key).and_then(Value::as_str);
        let Some(status) = text("status") else {
            return Step::Broken;
        };
        let message = text("message").unwrap_or_default();
        match request {
            Request::Look { map, key } => match status {
                "ok" => self.entries(*map, key, &answer, cx),
                "not-found" | "unsupported" | "denied" => Step::Whole,
                _ => Step::Broken,
            },
            Request::Authc { who, .. } => authenticated(who, status, text("name"), message, cx),
            Request::Authz(_) => match verdict(status) {
                Some(Pam::UserUnknown) => Step::Whole,
                Some(verdict) => {
                    nslcd::verdict(cx.out, verdict, message.as_bytes());
                    Step::Whole
                }
                // A service that knows no accounts has none to refuse.
                None if status == "unsupported" => {
                    nslcd::verdict(cx.out, Pam::Success, b"");
                    Step::Whole
                }
                None => Step::Broken,
            },
            Request::SessionOpen(_) => match (status, text("session")) {
                ("ok", Some(session)) => {
                    nslcd::text(cx.out, session.as_bytes());
                    Step::Whole
                }
                // No result at all: the module passes to the next one, as for other users that are not known.
                ("not-found", _) => Step::Whole,
                ("ok" | "unsupported", _) => {
                    nslcd::text(cx.out, super::session_id(cx.session).as_bytes());
                    Step::Whole
                }
                _ => Step::Broken,
            },
            Request::SessionClose { .. } => match status {
                "not-found" => Step::Whole,
                "ok" | "unsupported" => {
                    nslcd::nothing(cx.out);
                    Step::Whole
                }
                _ => Step::Broken,
            },
            Request::PasswordModify { .. } => match verdict(status) {
                Some(Pam::UserUnknown) => Step::Whole,
                Some(verdict) => {
                    let verdict = match (verdict, status) {
                        (_, "restricted") => Pam::AuthTokenError,
                        (Pam::Success, _) => Pam::Success,
                        _ => Pam::PermissionDenied,
                    };
                    let message = if message.is_empty() && verdict != Pam::Success {
                        status
                    } else {
                        message
                    };
                    nslcd::verdict(cx.out, verdict, message.as_bytes());
                    Step::Whole
                }
                None if status == "unsupported" => {
                    nslcd::verdict(cx.out, Pam::PermissionDenied, b"this service cannot change passwords");
                    Step::Whole
                }
                None => Step::Broken,
            },
            Request::ConfigGet(_) | Request::UserModify { .. } => Step::Broken,
        }
    }

    fn entries(&mut self, map: Map, key: &Key<'_>, answer: &Value, cx: &mut Context<'_>) -> Step {
        if let Key::Member(_) = key {
            let Some(gids) = answer.get("gids").and_then(Value::as_array) else {
                return Step::Broken;
            };
            for gid in gids.iter().filter_map(number) {
                // Of these the module reads the number only.
                nslcd::group(cx.out, gid.to_string().as_bytes(), b"*", gid, std::iter::empty());
            }
            return Step::Whole;
        }
        // What cannot be read is not "there is none".
        let Some(entries) = answer.get("entries").and_then(Value::as_array) else {
            return Step::Broken;
        };
        for entry in entries {
            if !matches!(key, Key::All) && !is_whole(map, entry) {
                return Step::Broken;
            }
            let _ = match map {
                Map::Passwd => account(entry, cx.out),
                Map::Shadow => shadow(entry, cx.out),
                _ => group(entry, cx.out),
            };
        }
        self.pieces += 1;
        match answer.get("cursor").filter(|cursor| !cursor.is_null()) {
            Some(_) if self.pieces >= PIECES_MAX => Step::Broken,
            Some(cursor) if matches!(key, Key::All) => {
                let mut call = Object::new(word(map));
                call.value("cursor", cursor);
                cx.asks.call(call.end());
                Step::Wait
            }
            _ => Step::Whole,
        }
    }
}

/// What a status is to PAM; none: it is no verdict.
fn verdict(status: &str) -> Option<Pam> {
    Some(match status {
        "ok" => Pam::Success,
        "not-found" => Pam::UserUnknown,
        "wrong-password" => Pam::AuthError,
        "disabled" | "expired" => Pam::AccountExpired,
        "password-expired" | "must-change" => Pam::NewAuthTokenRequired,
        "locked-out" => Pam::MaxTries,
        "restricted" | "denied" => Pam::PermissionDenied,
        _ => return None,
    })
}

fn authenticated(who: &Who<'_>, status: &str, name: Option<&str>, message: &str, cx: &mut Context<'_>) -> Step {
    let name = name.map_or(who.user, str::as_bytes);
    let Some(verdict) = verdict(status) else {
        return Step::Broken;
    };
    let (password, account) = match verdict {
        Pam::UserUnknown => return Step::Whole,
        // The password is right; it is changed when the account is looked at.
        Pam::NewAuthTokenRequired => (Pam::Success, verdict),
        Pam::AuthError => (verdict, Pam::Success),
        _ => (verdict, verdict),
    };
    nslcd::authc(cx.out, password, name, account, message.as_bytes());
    Step::Whole
}

fn look(map: Map, key: &Key<'_>, uid: Option<u32>) -> Option<Object> {
    if !matches!(map, Map::Passwd | Map::Group | Map::Shadow) || (map == Map::Shadow && uid != Some(0)) {
        return None;
    }
    let mut call = Object::new(if matches!(key, Key::Member(_)) {
        "initgroups"
    } else {
        word(map)
    });
    match key {
        Key::All => {}
        Key::Name(name) | Key::Member(name) if is_name(name) => {
            call.bytes("name", name);
        }
        Key::Id(id) if map == Map::Group => call.value("gid", &Value::from(*id)),
        Key::Id(id) => call.value("uid", &Value::from(*id)),
        _ => return None,
    }
    Some(call)
}

fn word(map: Map) -> &'static str {
    if map == Map::Group { "group" } else { "passwd" }
}

fn about(what: &str, who: &Who<'_>) -> Option<Object> {
    if !is_name(who.user) {
        return None;
    }
    let mut call = Object::new(what);
    for (key, value) in [
        ("name", who.user),
        ("service", who.service),
        ("host", who.rhost),
        ("tty", who.tty),
    ] {
        if !value.is_empty() && !call.bytes(key, value) {
            return None;
        }
    }
    if what == "authenticate" && !who.ruser.is_empty() && !call.bytes("user", who.ruser) {
        return None;
    }
    Some(call)
}

/// A member more; none: it cannot be said in JSON.
fn with(mut call: Object, key: &str, value: &[u8]) -> Option<Object> {
    call.bytes(key, value).then_some(call)
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

fn account(entry: &Value, out: &mut Vec<u8>) -> Option<()> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().as_bytes();
    nslcd::passwd(
        out,
        &Passwd {
            name: Some(text("name")).filter(|name| is_name(name))?,
            password: b"*",
            uid: number(entry.get("uid")?)?,
            gid: number(entry.get("gid")?)?,
            gecos: text("gecos"),
            home: text("dir"),
            shell: text("shell"),
        },
    );
    Some(())
}

/// Whether an entry has what an entry of this map must have.
fn is_whole(map: Map, entry: &Value) -> bool {
    let numbers: &[&str] = match map {
        Map::Shadow => &[],
        Map::Passwd => &["uid", "gid"],
        _ => &["gid"],
    };
    let has = |key: &&str| entry.get(*key).and_then(number).is_some();
    entry.get("name").is_some_and(Value::is_string) && numbers.iter().all(has)
}

fn shadow(entry: &Value, out: &mut Vec<u8>) -> Option<()> {
    let name = entry.get("name")?.as_str()?.as_bytes();
    nslcd::shadow(
        out,
        &Shadow {
            name: Some(name).filter(|name| is_name(name))?,
            password: b"*",
            last_change: -1,
            min: -1,
            max: -1,
            warn: -1,
            inactive: -1,
            expire: -1,
            flag: -1,
        },
    );
    Some(())
}

fn group(entry: &Value, out: &mut Vec<u8>) -> Option<()> {
    let name = entry.get("name")?.as_str()?.as_bytes();
    let members = entry.get("members").and_then(Value::as_array).into_iter().flatten();
    let members: Vec<&[u8]> = members
        .filter_map(|member| member.as_str().map(str::as_bytes))
        .filter(|member| is_name(member))
        .collect();
    let name = Some(name).filter(|name| is_name(name))?;
    nslcd::group(out, name, b"*", number(entry.get("gid")?)?, members.into_iter());
    Some(())
}
