//! PAM's questions, answered by a directory: find the user, bind as the user, look at the account.
//!
//! Nothing here is decided by a failure to ask: that ends the answer ([`Step::Broken`]), and the module says "cannot be
//! asked". An empty password is never sent, for a server would take it for nobody's and say yes (RFC 4513 section 5.1.2). Where
//! two entries have the name, neither is let in.

use wire::nslcd::{self, Key, Map, Pam, Request, Who};
use zeroize::Zeroizing;

use super::aging::{Check, check};
use super::entries::{self, Aging};
use super::lookup::{condition, is_whole, search};
use super::maps::{Maps, Schema, is_name};
use super::{Context, Step};
use crate::ask::{Bound, ChangeSpec, Entry, Event, Final, Search, To, Verdict, bind_verdict, code, code_name};

/// Told to a user of whom there are two.
const AMBIGUOUS: &[u8] = b"more than one entry has this name";

/// A question of PAM's that waits for the directory.
#[derive(Debug)]
pub(super) struct Asking {
    stage: Stage,
    base: usize,
    filter: Vec<u8>,
    user: Option<User>,
    ambiguous: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Finding,
    Binding,
    /// The filter of `authorize` with this number is asked; whether it has found something.
    Authorizing(usize, bool),
    Changing,
    /// The day of the last change is written down; how that ends is of no account.
    Noting,
}

#[derive(Debug)]
struct User {
    dn: Vec<u8>,
    name: Vec<u8>,
    aging: Aging,
}

impl Asking {
    pub(super) fn begin(request: &Request<'_>, cx: &mut Context<'_>) -> Result<Asking, Step> {
        let who = match request {
            Request::Authc { who, password } => {
                if who.user.is_empty() {
                    return Err(administrator(password, cx));
                }
                if password.is_empty() {
                    nslcd::authc(cx.out, Pam::AuthError, who.user, Pam::Success, b"");
                    return Err(Step::Whole);
                }
                who
            }
            Request::Authz(who) => who,
            Request::PasswordModify { who, as_root, old, new } => {
                if let Some(why) = refusal(*as_root, old, new, cx) {
                    nslcd::verdict(cx.out, Pam::PermissionDenied, why.as_bytes());
                    return Err(Step::Whole);
                }
                who
            }
            _ => return Err(Step::Broken),
        };
        if !is_name(who.user) {
            return Err(Step::Whole);
        }
        let condition = condition(cx.maps, Map::Passwd, &Key::Name(who.user)).ok_or(Step::Whole)?;
        let mut asking = Asking {
            stage: Stage::Finding,
            base: 0,
            filter: cx.maps.filter(Map::Passwd, &condition),
            user: None,
            ambiguous: false,
        };
        match asking.find(request, cx) {
            Step::Wait => Ok(asking),
            over => Err(over),
        }
    }

    fn find(&mut self, request: &Request<'_>, cx: &mut Context<'_>) -> Step {
        let mut wanted = vec![cx.maps.names.user.as_str(), cx.maps.names.uid.as_str()];
        wanted.extend(entries::attributes(cx.maps, Map::Shadow));
        if search(cx.asks, cx.maps, Map::Passwd, self.base, &self.filter, &wanted).is_some() {
            return Step::Wait;
        }
        self.found_all(request, cx)
    }

    pub(super) fn told(&mut self, request: &Request<'_>, event: &Event<'_>, cx: &mut Context<'_>) -> Step {
        match (self.stage, event) {
            (Stage::Finding, Event::Entry(entry)) => {
                self.found(request, entry, cx.maps);
                Step::Wait
            }
            (Stage::Finding, Event::Done(end)) if is_whole(end) => {
                self.base += 1;
                self.find(request, cx)
            }
            (Stage::Binding, Event::Done(end)) => match request {
                Request::PasswordModify { old, new, .. } => self.bound_to_change(end, old, new, cx),
                _ => self.bound(end, cx),
            },
            (Stage::Authorizing(number, _), Event::Entry(_)) => {
                self.stage = Stage::Authorizing(number, true);
                Step::Wait
            }
            (Stage::Authorizing(number, found), Event::Done(end)) => self.authorized(request, number, found, end, cx),
            (Stage::Changing, Event::Done(end)) => self.changed(request, end, cx),
            (Stage::Noting, Event::Done(_) | Event::Failed) => {
                nslcd::verdict(cx.out, Pam::Success, b"");
                Step::Whole
            }
            _ => Step::Broken,
        }
    }

    fn found(&mut self, request: &Request<'_>, entry: &Entry<'_>, maps: &Maps) {
        let asked = match request {
            Request::Authc { who, .. } | Request::Authz(who) | Request::PasswordModify { who, .. } => who.user,
            _ => return,
        };
        let mut names = entries::values(entry, &maps.names.user).into_iter().flatten();
        // The directory has compared as it compares; the module is told the name as the directory has it.
        let name = names.find(|name| name.eq_ignore_ascii_case(asked) && is_name(name));
        let (Some(name), Some(_)) = (name, entries::uid(maps, entry)) else {
            return;
        };
        if self.user.as_ref().is_some_and(|user| user.dn != entry.dn) {
            self.ambiguous = true;
        }
        self.user = Some(User {
            dn: entry.dn.to_vec(),
            name: name.to_vec(),
            aging: entries::aging(entry),
        });
    }

    /// All bases have been searched.
    fn found_all(&mut self, request: &Request<'_>, cx: &mut Context<'_>) -> Step {
        let Some(user) = &self.user else {
            // No result: the module says that there is no such user.
            return Step::Whole;
        };
        match request {
            Request::Authc { .. } if self.ambiguous => {
                nslcd::authc(cx.out, Pam::AuthError, &user.name, Pam::PermissionDenied, AMBIGUOUS);
                Step::Whole
            }
            _ if self.ambiguous => {
                nslcd::verdict(cx.out, Pam::PermissionDenied, AMBIGUOUS);
                Step::Whole
            }
            Request::Authc { password, .. } => {
                self.stage = Stage::Binding;
                cx.asks.bind(To::Bind, &user.dn, password);
                Step::Wait
            }
            Request::Authz(who) => {
                let (verdict, why) = check(&user.aging, cx.today, Check::Account);
                if verdict != Pam::Success {
                    nslcd::verdict(cx.out, verdict, why.as_bytes());
                    return Step::Whole;
                }
                self.base = 0;
                self.authorize(who, 0, cx)
            }
            Request::PasswordModify { as_root, old, new, .. } => self.change(*as_root, old, new, cx),
            _ => Step::Broken,
        }
    }

    /// The user's bind has ended.
    fn bound(&mut self, end: &Final<'_>, cx: &mut Context<'_>) -> Step {
        let Some(user) = &self.user else { return Step::Broken };
        let verdict = bind_verdict(end);
        let (password, why) = match verdict {
            Verdict::Right(bound) => {
                let (account, why) = account(&user.aging, &bound, cx.today);
                nslcd::authc(cx.out, Pam::Success, &user.name, account, why.as_bytes());
                return Step::Whole;
            }
            Verdict::Unavailable => return Step::Broken,
            Verdict::Wrong => (Pam::AuthError, ""),
            Verdict::PasswordExpired => (Pam::AuthTokenExpired, "the password has expired"),
            Verdict::MustChange => (Pam::NewAuthTokenRequired, "the password must be changed"),
            Verdict::LockedOut => (Pam::MaxTries, "the account is locked after too many wrong passwords"),
            Verdict::Disabled => (Pam::AccountExpired, "the account is disabled"),
            Verdict::Expired => (Pam::AccountExpired, "the account has expired"),
            Verdict::Restricted => (Pam::PermissionDenied, "not now, or not from here"),
            Verdict::Denied => (Pam::PermissionDenied, "refused by the directory"),
        };
        let account = if why.is_empty() { Pam::Success } else { password };
        nslcd::authc(cx.out, password, &user.name, account, why.as_bytes());
        Step::Whole
    }

    /// Asks for the entry that a filter of `authorize` wants; once all are found the user is let in.
    fn authorize(&mut self, who: &Who<'_>, number: usize, cx: &mut Context<'_>) -> Step {
        let (maps, Some(user)) = (cx.maps, &self.user) else {
            return Step::Broken;
        };
        let Some(template) = maps.authorize.get(number) else {
            let (verdict, why) = check(&user.aging, cx.today, Check::Account);
            nslcd::verdict(cx.out, verdict, why.as_bytes());
            return Step::Whole;
        };
        let filter = template.fill(|place| match place {
            "username" | "uid" => &user.name,
            "service" => who.service,
            "ruser" => who.ruser,
            "rhost" => who.rhost,
            "tty" => who.tty,
            "hostname" => maps.hostname.as_bytes(),
            _ => &user.dn,
        });
        let place = maps.place(Map::Passwd);
        let base = place.and_then(|place| place.bases.get(self.base));
        let (Some(filter), Some(place), Some(base)) = (filter, place, base) else {
            return Step::Broken;
        };
        self.stage = Stage::Authorizing(number, false);
        cx.asks.search(&Search {
            base: base.as_bytes(),
            scope: place.scope,
            filter: &filter,
            attributes: &["1.1"],
            size_limit: 1,
        });
        Step::Wait
    }

    fn authorized(
        &mut self,
        request: &Request<'_>,
        number: usize,
        found: bool,
        end: &Final<'_>,
        cx: &mut Context<'_>,
    ) -> Step {
        let Request::Authz(who) = request else {
            return Step::Broken;
        };
        if found {
            self.base = 0;
            return self.authorize(who, number + 1, cx);
        }
        if !is_whole(end) {
            return Step::Broken;
        }
        self.base += 1;
        let bases = cx.maps.place(Map::Passwd).map_or(0, |place| place.bases.len());
        if self.base < bases {
            return self.authorize(who, number, cx);
        }
        nslcd::verdict(
            cx.out,
            Pam::PermissionDenied,
            b"the directory does not let this user in here",
        );
        Step::Whole
    }

    fn change(&mut self, as_root: bool, old: &[u8], new: &[u8], cx: &mut Context<'_>) -> Step {
        let Some(user) = &self.user else { return Step::Broken };
        if as_root {
            self.stage = Stage::Changing;
            ask_change(cx, To::Shared, &user.dn, None, new);
            return Step::Wait;
        }
        let (verdict, why) = check(&user.aging, cx.today, Check::Change);
        if verdict != Pam::Success {
            nslcd::verdict(cx.out, verdict, why.as_bytes());
            return Step::Whole;
        }
        self.stage = Stage::Binding;
        cx.asks.bind(To::Own, &user.dn, old);
        Step::Wait
    }

    fn bound_to_change(&mut self, end: &Final<'_>, old: &[u8], new: &[u8], cx: &mut Context<'_>) -> Step {
        let Some(user) = &self.user else { return Step::Broken };
        let why = match bind_verdict(end) {
            Verdict::Right(_) => {
                self.stage = Stage::Changing;
                ask_change(cx, To::Own, &user.dn, Some(old), new);
                return Step::Wait;
            }
            Verdict::Unavailable => return Step::Broken,
            Verdict::Wrong => "the old password is wrong",
            Verdict::PasswordExpired | Verdict::MustChange => "the old password has expired: ask an administrator",
            Verdict::LockedOut => "the account is locked after too many wrong passwords",
            Verdict::Disabled | Verdict::Expired => "the account is disabled or has expired",
            Verdict::Restricted | Verdict::Denied => "refused by the directory",
        };
        nslcd::verdict(cx.out, Pam::PermissionDenied, why.as_bytes());
        Step::Whole
    }

    fn changed(&mut self, request: &Request<'_>, end: &Final<'_>, cx: &mut Context<'_>) -> Step {
        let Some(user) = &self.user else { return Step::Broken };
        let told = String::from_utf8_lossy(end.diagnostic);
        let verdict = match end.code {
            code::SUCCESS => {
                let noted = user.aging.last_change >= 0 && cx.maps.schema != Schema::ActiveDirectory;
                if !noted {
                    nslcd::verdict(cx.out, Pam::Success, b"");
                    return Step::Whole;
                }
                let today = cx.today.to_string();
                let replace = ChangeSpec {
                    operation: 2,
                    name: b"shadowLastChange",
                    values: &[today.as_bytes()],
                };
                let as_root = matches!(request, Request::PasswordModify { as_root: true, .. });
                let to = if as_root { To::Shared } else { To::Own };
                self.stage = Stage::Noting;
                cx.asks.modify(to, &user.dn, &[replace]);
                return Step::Wait;
            }
            code::CONSTRAINT_VIOLATION => Pam::AuthTokenError,
            code::UNWILLING_TO_PERFORM
            | code::INSUFFICIENT_ACCESS_RIGHTS
            | code::INVALID_CREDENTIALS
            | code::NO_SUCH_OBJECT
            | code::PROTOCOL_ERROR
            | code::CONFIDENTIALITY_REQUIRED
            | code::STRONGER_AUTH_REQUIRED => Pam::PermissionDenied,
            _ => return Step::Broken,
        };
        let why = if told.is_empty() {
            code_name(end.code).into()
        } else {
            told
        };
        nslcd::verdict(
            cx.out,
            verdict,
            format!("the password was not changed: {why}").as_bytes(),
        );
        Step::Whole
    }
}

/// What is known of the account of somebody whose password is right.
fn account(aging: &Aging, bound: &Bound, today: i64) -> (Pam, String) {
    if bound.must_change {
        return (Pam::NewAuthTokenRequired, "the password must be changed".to_owned());
    }
    if let Some(left) = bound.grace {
        let why = format!("the password has expired; it can be used {left} times more");
        return (Pam::NewAuthTokenRequired, why);
    }
    let (verdict, why) = check(aging, today, Check::Password);
    if verdict == Pam::Success
        && let Some(secs) = bound.expires_secs
    {
        return (verdict, format!("the password expires in {}", span(secs)));
    }
    (verdict, why)
}

fn span(secs: u32) -> String {
    match secs {
        172_800.. => format!("{} days", secs / 86_400),
        7_200.. => format!("{} hours", secs / 3_600),
        _ => format!("{} minutes", secs / 60),
    }
}

/// The module asks whether it may change passwords as the administrator: root may, without a password, where that is set.
fn administrator(password: &[u8], cx: &mut Context<'_>) -> Step {
    let may = password.is_empty() && cx.uid == Some(0) && cx.maps.root_changes_passwords;
    let verdict = if may { Pam::Success } else { Pam::PermissionDenied };
    nslcd::authc(cx.out, verdict, b"", verdict, b"");
    Step::Whole
}

/// Why a password is not changed, whoever the user is.
fn refusal(as_root: bool, old: &[u8], new: &[u8], cx: &Context<'_>) -> Option<String> {
    if let Some(why) = cx.prohibited {
        return Some(why.to_owned());
    }
    if new.is_empty() {
        return Some("the new password is empty".to_owned());
    }
    if !as_root {
        return old.is_empty().then(|| "the old password is empty".to_owned());
    }
    let may = old.is_empty() && cx.uid == Some(0) && cx.maps.root_changes_passwords;
    (!may).then(|| "only root may change the passwords of others, and only where that is set".to_owned())
}

/// Active Directory knows no Password Modify: there a password is an attribute, in quotes and UTF-16.
fn ask_change(cx: &mut Context<'_>, to: To, dn: &[u8], old: Option<&[u8]>, new: &[u8]) {
    if cx.maps.schema != Schema::ActiveDirectory {
        cx.asks.password_modify(to, dn, old, new);
        return;
    }
    let change = |operation, value: &[u8], list: &mut Vec<(i32, Zeroizing<Vec<u8>>)>| {
        let text = Zeroizing::new(format!("\"{}\"", String::from_utf8_lossy(value)));
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() * 2));
        bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
        list.push((operation, bytes));
    };
    let mut list = Vec::new();
    match old {
        Some(old) => {
            change(1, old, &mut list);
            change(0, new, &mut list);
        }
        None => change(2, new, &mut list),
    }
    let values: Vec<(i32, [&[u8]; 1])> = list.iter().map(|(op, bytes)| (*op, [bytes.as_slice()])).collect();
    let changes: Vec<ChangeSpec<'_>> = values
        .iter()
        .map(|(operation, values)| ChangeSpec {
            operation: *operation,
            name: b"unicodePwd",
            values,
        })
        .collect();
    cx.asks.modify(to, dn, &changes);
}
