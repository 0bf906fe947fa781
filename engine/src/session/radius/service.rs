//! How a service is asked about a user: winbind and PAM by the identity calls (docs/identity-calls.md), any other with the request's
//! attributes as JSON (docs/radius-service.md).
//!
//! An answer that cannot be read is no answer: it says nothing about the user.

use serde_json::{Map, Value};
use wire::radius::{Content, Dictionary, Event as Step, Item, Pair, Reveal, text};
use zeroize::Zeroizing;

use super::asking::{Asking, Cx, Judged, Next, Said, Why};
use super::method::{Known, Method, Offer};
use super::plan::{Form, Service};
use super::reply;
use crate::ask::{Event, Object};
use crate::password::nt;

/// SIDs that are asked for in one call (docs/identity-calls.md).
const SIDS_MAX: usize = 500;
/// SIDs of one user, at most; whoever has more cannot be judged.
const GROUPS_MAX: usize = 10_000;
/// A request's attributes as JSON: twice a packet, and names.
const JSON_BYTES: usize = 48 << 10;

/// How far a service's turn is.
#[derive(Debug, Default)]
pub(super) struct Turn {
    stage: Stage,
    /// SIDs of groups whose names are not known yet.
    sids: Vec<Value>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Stage {
    #[default]
    Calling,
    /// A new password first.
    Changing,
    Sids,
    Names,
}

pub(super) const NO_TEXT: &str = "name or password is no UTF-8, which the service takes only";

impl Asking {
    /// The service's turn begins.
    pub(super) fn call(&mut self, service: &Service, cx: &Cx<'_>) -> Next {
        self.service = Turn::default();
        self.pool = service.pool;
        let called = match &service.form {
            Form::Json => self.json_call(cx).map_err(Said::NotFound),
            Form::Winbind => self.winbind_call(cx),
            Form::Pam { service } => self.pam_call(service.as_deref(), cx).map_err(Said::NotFound),
        };
        match called {
            Ok(payload) => {
                self.open = self.asks.call(payload);
                Next::Wait
            }
            Err(said) => Next::Said(said),
        }
    }

    fn pam_call(&self, service: Option<&str>, cx: &Cx<'_>) -> Result<Zeroizing<Vec<u8>>, &'static str> {
        let (Offer::Password(password), false) = (cx.offer, self.by_name_only()) else {
            return Err("PAM judges nothing but passwords");
        };
        let mut call = Object::new("authenticate");
        if !call.bytes("name", self.name(cx)) || !call.bytes("password", password.as_bytes()) {
            return Err(NO_TEXT);
        }
        if let Some(service) = service {
            call.text("service", service);
        }
        Ok(call.end())
    }

    fn winbind_call(&mut self, cx: &Cx<'_>) -> Result<Zeroizing<Vec<u8>>, Said> {
        if self.by_name_only() {
            return Err(Said::NotFound("winbind lets nobody in by a name alone"));
        }
        if self.method == Method::Change {
            let call = self.winbind_change(cx)?;
            self.service.stage = Stage::Changing;
            return Ok(call);
        }
        self.winbind_authenticate(cx).map_err(Said::NotFound)
    }

    fn winbind_authenticate(&self, cx: &Cx<'_>) -> Result<Zeroizing<Vec<u8>>, &'static str> {
        let mut call = Object::new("authenticate");
        if !call.bytes("name", self.name(cx)) {
            return Err(NO_TEXT);
        }
        match cx.offer {
            Offer::Password(password) if call.bytes("password", password.as_bytes()) => {}
            Offer::Password(_) => return Err(NO_TEXT),
            Offer::MsChap { response, .. } if response.flags & 1 == 0 => {
                return Err("the MS-CHAP response is made with the LM hash only, which is not taken");
            }
            Offer::MsChap { .. } | Offer::MsChap2 { .. } | Offer::Change { .. } | Offer::Change2 { .. } => {
                let Some((challenge, response)) = cx.offer.answered(self.name(cx)) else {
                    return Err("winbind judges passwords and MS-CHAP only");
                };
                call.text("challenge", &hex(&challenge));
                call.text("nt_response", &hex(&response));
            }
            Offer::Nothing | Offer::Chap(_) => return Err("winbind judges passwords and MS-CHAP only"),
        }
        Ok(call.end())
    }

    fn json_call(&self, cx: &Cx<'_>) -> Result<Zeroizing<Vec<u8>>, &'static str> {
        let mut call = Object::with_room("radius", JSON_BYTES);
        if !call.bytes("name", self.name(cx)) {
            return Err("the name is no UTF-8, which the service takes only");
        }
        call.text("method", self.method.label());
        call.text("client", &cx.client.name);
        call.text("listener", &cx.plan.listener);
        call.json("attributes", |out| write_attributes(out, cx));
        Ok(call.end())
    }

    pub(super) fn service_told(&mut self, service: &Service, event: &Event<'_>, cx: &mut Cx<'_>) -> Next {
        let Event::Answer(answer) = event else {
            return Next::Said(Said::Nothing("no answer"));
        };
        let answer = match serde_json::from_slice::<Value>(answer) {
            Ok(Value::Object(answer)) => answer,
            _ => return Next::Said(Said::Nothing("the answer is no JSON object")),
        };
        match self.service.stage {
            Stage::Calling => self.answered(service, answer, cx),
            Stage::Changing => self.winbind_changed(&answer, cx),
            Stage::Sids => self.sids(&answer),
            Stage::Names => self.names(&answer),
        }
    }

    fn answered(&mut self, service: &Service, mut answer: Map<String, Value>, cx: &mut Cx<'_>) -> Next {
        // Taken out, so that it is wiped.
        let mut secret = |key| match answer.remove(key) {
            Some(Value::String(text)) => Some(Zeroizing::new(text)),
            _ => None,
        };
        let (password, hash, key) = (secret("password"), secret("nt_hash"), secret("session_key"));
        let said = status(&answer);
        if let (Said::Yes | Said::No(_), Some(message)) = (said, answer.get("message").and_then(Value::as_str))
            && service.form == Form::Json
        {
            self.message = Some(message.into());
        }
        if said != Said::Yes {
            return Next::Said(said);
        }
        let hashed = key.as_ref().and_then(|key| nt::from_hex(key.as_bytes()));
        if let Form::Winbind = service.form {
            if self.method != Method::Pap {
                let Some(hashed) = hashed else {
                    return Next::Said(Said::Nothing("the answer has no session_key"));
                };
                self.granted = cx.offer.granted(self.name(cx), &hashed, None);
            }
            return self.winbind_right(&answer, cx);
        }
        if service.form != Form::Json {
            return Next::Said(Said::Yes);
        }
        match items(&answer, &cx.plan.dictionary) {
            Ok(items) => self.items.extend(items),
            Err(why) => {
                self.note(|| why);
                return Next::Said(Said::Nothing("the answer's `reply` cannot be understood"));
            }
        }
        let groups = answer.get("groups").and_then(Value::as_array);
        for group in groups.into_iter().flatten().filter_map(Value::as_str).take(GROUPS_MAX) {
            self.groups.add(group.as_bytes());
        }
        if self.by_name_only() {
            return Next::Said(Said::Yes);
        }
        let hash = hash.as_ref().map(|hash| nt::from_hex(hash.as_bytes()));
        if hash.as_ref().is_some_and(Option::is_none) {
            return Next::Said(Said::Nothing("the answer's nt_hash is not 32 hexadecimal digits"));
        }
        let hash = hash.flatten();
        if password.is_none() && hash.is_none() {
            return self.service_judged(hashed.as_ref(), cx);
        }
        let known = Known {
            stored: password.as_ref().map(|password| password.as_bytes()),
            nt: hash.as_ref(),
        };
        match self.judge(std::iter::once(known), cx) {
            Judged::Right => Next::Said(Said::Yes),
            Judged::Wrong => Next::Said(Said::No(Why::Wrong)),
            Judged::Later => Next::Wait,
            Judged::Cannot(why) => Next::Said(Said::NotFound(why)),
        }
    }

    /// The service says ok and gives nothing to compare with: it has judged by itself. For MS-CHAP there must be what the
    /// user's side and the keys need.
    fn service_judged(&mut self, hashed: Option<&nt::Hash>, cx: &Cx<'_>) -> Next {
        match (cx.offer, hashed) {
            (Offer::Password(_) | Offer::Chap(_), _) => Next::Said(Said::Yes),
            (Offer::MsChap { .. } | Offer::MsChap2 { .. }, Some(hashed)) => {
                self.granted = cx.offer.granted(self.name(cx), hashed, None);
                Next::Said(Said::Yes)
            }
            (Offer::MsChap { .. } | Offer::MsChap2 { .. }, None) => Next::Said(Said::NotFound(
                "for MS-CHAP the answer needs nt_hash, password or session_key",
            )),
            (Offer::Change { .. } | Offer::Change2 { .. }, _) => {
                Next::Said(Said::NotFound(super::method::CANNOT_CHANGE))
            }
            // Whoever shows nothing is let in by nobody.
            (Offer::Nothing, _) => Next::Said(Said::No(Why::Denied)),
        }
    }

    /// Winbind has said what became of a new password. Proof and keys come from the controller, too, for whoever shows that new
    /// password: it is not known here.
    fn winbind_changed(&mut self, answer: &Map<String, Value>, cx: &Cx<'_>) -> Next {
        match status(answer) {
            Said::Yes => {}
            Said::No(Why::Restricted | Why::PasswordExpired | Why::MustChange) => {
                self.message = answer.get("message").and_then(Value::as_str).map(Into::into);
                return Next::Said(Said::No(Why::CannotChange));
            }
            said => return Next::Said(said),
        }
        self.note(|| "the password is changed; the response is judged by the new one".to_owned());
        self.service.stage = Stage::Calling;
        match self.winbind_authenticate(cx) {
            Ok(call) => {
                self.open = self.asks.call(call);
                Next::Wait
            }
            Err(why) => Next::Said(Said::Nothing(why)),
        }
    }

    /// A Windows user's groups, if somebody wants them.
    fn winbind_right(&mut self, answer: &Map<String, Value>, cx: &Cx<'_>) -> Next {
        if !cx.plan.needs_groups {
            return Next::Said(Said::Yes);
        }
        let Some(sid) = answer.get("sid").and_then(Value::as_str) else {
            return Next::Said(Said::Nothing("the answer has no sid, by which groups are found"));
        };
        let mut call = Object::new("user-sids");
        call.text("sid", sid);
        self.open = self.asks.call(call.end());
        self.service.stage = Stage::Sids;
        Next::Wait
    }

    fn sids(&mut self, answer: &Map<String, Value>) -> Next {
        match (status(answer), answer.get("sids").and_then(Value::as_array)) {
            (Said::Yes, Some(sids)) if sids.len() <= GROUPS_MAX => {
                self.service.sids.clone_from(sids);
                self.ask_names()
            }
            _ => Next::Said(Said::Nothing("the user's groups are not told")),
        }
    }

    fn ask_names(&mut self) -> Next {
        let sids = &mut self.service.sids;
        if sids.is_empty() {
            return Next::Said(Said::Yes);
        }
        let some = sids.split_off(sids.len().saturating_sub(SIDS_MAX));
        let mut call = Object::with_room("sids-to-names", 64 << 10);
        call.value("sids", &Value::Array(some));
        self.open = self.asks.call(call.end());
        self.service.stage = Stage::Names;
        Next::Wait
    }

    fn names(&mut self, answer: &Map<String, Value>) -> Next {
        let (Said::Yes, Some(entries)) = (status(answer), answer.get("entries").and_then(Value::as_array)) else {
            return Next::Said(Said::Nothing("the names of the user's groups are not told"));
        };
        for entry in entries {
            let text = |key| entry.get(key).and_then(Value::as_str).unwrap_or_default();
            let (domain, name) = (text("domain"), text("name"));
            if !name.is_empty() {
                self.groups.add(name.as_bytes());
                self.groups.add(format!("{domain}\\{name}").as_bytes());
            }
            self.groups.add(text("sid").as_bytes());
        }
        self.ask_names()
    }
}

/// What a service's answer says (docs/identity-calls.md).
fn status(answer: &Map<String, Value>) -> Said {
    match answer.get("status").and_then(Value::as_str) {
        Some("ok") => Said::Yes,
        Some("not-found") => Said::NotFound("no such user"),
        Some("wrong-password") => Said::No(Why::Wrong),
        Some("disabled") => Said::No(Why::Disabled),
        Some("expired") => Said::No(Why::Expired),
        Some("password-expired") => Said::No(Why::PasswordExpired),
        Some("must-change") => Said::No(Why::MustChange),
        Some("locked-out") => Said::No(Why::LockedOut),
        Some("restricted") => Said::No(Why::Restricted),
        Some("denied") => Said::No(Why::Denied),
        _ => Said::Nothing("the service could not judge"),
    }
}

/// The attributes that an answer gives.
///
/// # Errors
/// Which one is wrong, and what would be right.
fn items(answer: &Map<String, Value>, dictionary: &Dictionary) -> Result<Vec<Item>, String> {
    let reply = match answer.get("reply") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(reply)) => reply,
        Some(_) => return Err("`reply` is an object of attributes".to_owned()),
    };
    let mut items = Vec::new();
    for (key, value) in reply {
        let (name, tag) = match key.split_once(':') {
            Some((name, tag)) => (
                name,
                tag.parse()
                    .map(Some)
                    .map_err(|_| format!("{key}: the tag is a number"))?,
            ),
            None => (key.as_str(), None),
        };
        let known = dictionary
            .named(name)
            .ok_or_else(|| format!("there is no attribute {name}"))?;
        let values = match value {
            Value::Array(values) => values.as_slice(),
            one => std::slice::from_ref(one),
        };
        for value in values {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) => number.to_string(),
                _ => return Err(format!("{key}: a value is a text or a number")),
            };
            let item = reply::item(known, tag, &text).map_err(|right| format!("{key}: right is {right}"))?;
            debug_assert!(matches!(item.content, Content::Value(_)));
            items.push(item);
        }
    }
    Ok(items)
}

/// `{"Name": value, "Other:1": [value, value]}`, in the order of the attributes' numbers. What the dictionary does not know is left
/// out, as is what belongs to the packet and not to the user.
fn write_attributes(out: &mut Vec<u8>, cx: &Cx<'_>) {
    let reveal = Reveal {
        secret: &cx.client.secret,
        authenticator: cx.packet.authenticator(),
    };
    let walk = cx.packet.walk(&cx.plan.dictionary, Some(reveal));
    let mut pairs: Vec<Pair<'_, '_>> = walk
        .filter_map(|event| match event {
            Step::Pair(pair) if pair.definition.is_some() && !is_packets(&pair) => Some(pair),
            _ => None,
        })
        .collect();
    pairs.sort_by(|a, b| (a.path.numbers(), a.tag).cmp(&(b.path.numbers(), b.tag)));
    out.push(b'{');
    for (at, same) in pairs.chunk_by(|a, b| (a.path, a.tag) == (b.path, b.tag)).enumerate() {
        let Some((first, more)) = same.split_first() else {
            continue;
        };
        if at > 0 {
            out.push(b',');
        }
        let name = first.definition.map_or("", |known| &known.name);
        let key = match first.tag {
            Some(tag) => format!("{name}:{tag}"),
            None => name.to_owned(),
        };
        // Writing into memory cannot fail.
        let _ = serde_json::to_writer(&mut *out, &key);
        out.push(b':');
        if !more.is_empty() {
            out.push(b'[');
        }
        for (at, pair) in same.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            write_value(out, pair);
        }
        if !more.is_empty() {
            out.push(b']');
        }
    }
    out.push(b'}');
}

fn is_packets(pair: &Pair<'_, '_>) -> bool {
    use wire::radius::number::{MESSAGE_AUTHENTICATOR, PROXY_STATE};
    matches!(*pair.path.numbers(), [top] if top == u32::from(MESSAGE_AUTHENTICATOR) || top == u32::from(PROXY_STATE))
}

/// A number that has no name is a number, text that is UTF-8 is a text, and the rest is written as everywhere.
fn write_value(out: &mut Vec<u8>, pair: &Pair<'_, '_>) {
    use wire::radius::Value as Typed;
    let value = pair.value();
    let name = value.number().and_then(|number| pair.definition?.value_name(number));
    let shown = match (name, value) {
        (Some(name), _) => Zeroizing::new(name.to_owned()),
        (None, Typed::Unsigned(number)) => {
            out.extend_from_slice(number.to_string().as_bytes());
            return;
        }
        (None, Typed::Signed(number)) => {
            out.extend_from_slice(number.to_string().as_bytes());
            return;
        }
        (None, Typed::Text(octets) | Typed::Octets(octets)) if is_text(pair, octets) => {
            // The text is borrowed: nothing secret is copied but into the buffer that is wiped.
            let _ = serde_json::to_writer(out, std::str::from_utf8(octets).unwrap_or_default());
            return;
        }
        (None, Typed::Text(octets) | Typed::Octets(octets)) => Zeroizing::new(format!("0x{}", hex(octets))),
        (None, _) => {
            let mut shown = Zeroizing::new(String::new());
            let _ = text::print_value(&mut *shown, pair);
            Zeroizing::new(shown.trim_matches('"').to_owned())
        }
    };
    let _ = serde_json::to_writer(out, shown.as_str());
}

/// Passwords are octets by the dictionary, and texts to everybody.
fn is_text(pair: &Pair<'_, '_>, octets: &[u8]) -> bool {
    let is_text = matches!(pair.value(), wire::radius::Value::Text(_))
        || pair.definition.is_some_and(|known| known.hiding.is_some());
    is_text && std::str::from_utf8(octets).is_ok()
}

pub(super) fn hex(octets: &[u8]) -> String {
    use std::fmt::Write as _;
    octets
        .iter()
        .fold(String::with_capacity(octets.len() * 2), |mut out, octet| {
            // Writing into memory cannot fail.
            let _ = write!(out, "{octet:02x}");
            out
        })
}
