//! The rules of a RADIUS listener: what was written, checked, as they are followed.

use std::collections::HashMap;

use engine::radius::policy::{Action, Condition, Edit, Pattern, Policy, Round, Rule, Times, Why, Written, attribute};
use wire::radius::Dictionary;
use wire::radius::dictionary::{AttributeId, Definition};

use super::super::diagnostic::{At, Diagnostic, Place, Problems};
use super::super::suggest::nearest;
use super::raw_rules::{Attribute, Rule as Raw, Scalar, Texts, Values};

/// Rules of one listener, at most: each is looked at for each request.
const RULES_MAX: usize = 1000;
/// Letters of a rule's name, at most.
const NAME_MAX: usize = 64;
/// Octets of one Reply-Message (RFC 2865 section 5.18).
const MESSAGE_BYTES_MAX: usize = 253;

/// The rules of a listener. Without a mistake, that is all of them; what is wrong is told.
pub fn rules(p: &mut Problems, written: &[Raw], dictionary: &Dictionary, chains: &[&str]) -> Policy {
    let mut names: HashMap<&str, &Place> = HashMap::new();
    let mut rules = Vec::with_capacity(written.len());
    if let Some(raw) = written.get(RULES_MAX) {
        p.error(&raw.place, format!("the listener has {} rules", written.len()))
            .help(format!("it may have {RULES_MAX}: each is looked at for each request"));
    }
    for raw in written.iter().take(RULES_MAX) {
        if let Some(name) = &raw.name
            && let Some(first) = names.insert(&name.value, &name.place)
        {
            p.error(&name.place, format!("there are two rules `{}`", name.value))
                .also(first, "the first one")
                .help("give each a name of its own: traces say which rule decided");
        }
        let mut reader = Reader {
            p: &mut *p,
            raw,
            dictionary,
            chains,
            is_secret: holds_secret(raw, dictionary),
            is_right: true,
        };
        let rule = reader.rule();
        if reader.is_right {
            rules.push(rule);
        }
    }
    let is_whole = rules.len() == written.len();
    let policy = Policy::new(rules);
    // A rule that could not be read may be what keeps the others apart.
    if is_whole {
        idle(p, written, &policy);
    }
    policy
}

/// Tells the rules that are of no use.
fn idle(p: &mut Problems, written: &[Raw], policy: &Policy) {
    for idle in policy.idle() {
        let (Some(raw), Some(rule)) = (written.get(idle.rule), policy.rules().get(idle.rule)) else {
            continue;
        };
        let at = raw.name.as_ref().map_or(&raw.place, |name| &name.place);
        match idle.why {
            Why::Contradicts => {
                p.error(at, format!("the rule `{}` never holds", rule.name))
                    .help("`not` refuses what `match` asks for: remove one of them");
            }
            Why::Behind { rule: by, round } => {
                let part = match (round, rule.acts(Round::Before) && rule.acts(Round::After)) {
                    (_, false) => "",
                    (Round::Before, true) => "`authenticate` of ",
                    (Round::After, true) => "`set` and `remove` of ",
                };
                let before = written.get(by).and_then(|raw| raw.name.as_ref());
                let found = p.error(at, format!("{part}the rule `{}` is never reached", rule.name));
                if let Some(before) = before {
                    found.also(&before.place, "this one holds whenever it does, and ends there");
                }
                found.help("put it above that rule, or write continue = true there if it does not reject");
            }
        }
    }
}

struct Reader<'r> {
    p: &'r mut Problems,
    raw: &'r Raw,
    dictionary: &'r Dictionary,
    chains: &'r [&'r str],
    /// A secret stands in the rule, where it should not: none of its lines is shown.
    is_secret: bool,
    is_right: bool,
}

impl<'r> Reader<'r> {
    fn wrong(&mut self, at: &Place, message: impl Into<String>) -> &mut Diagnostic {
        self.is_right = false;
        let problem = self.p.error(at, message);
        problem.secret = self.is_secret;
        problem
    }

    fn title(&self) -> String {
        let name = self.raw.name.as_ref().filter(|name| !name.value.is_empty());
        name.map_or_else(|| "the rule".into(), |name| format!("the rule `{}`", name.value))
    }

    fn rule(&mut self) -> Rule {
        let raw = self.raw;
        let mut rule = Rule::new(self.name());
        rule.clients = self.patterns("client", &raw.client);
        rule.tags = self.patterns("tag", &raw.tag);
        rule.users = self.patterns("user", &raw.user);
        rule.groups = self.groups("group", &raw.group);
        rule.not_groups = self.groups("not_group", &raw.not_group);
        rule.times = self.times();
        rule.wanted = self.conditions("match", &raw.wanted);
        rule.refused = self.conditions("not", &raw.refused);
        rule.continues = raw.continues.as_ref().is_some_and(|at| at.value);
        self.refuse_together();
        rule.action = match &raw.reject {
            Some(message) => Action::Reject(self.message(message)),
            None => Action::Go {
                chain: self.chain(),
                edit: self.edit(),
            },
        };
        rule
    }

    fn name(&mut self) -> &'r str {
        let raw = self.raw;
        match &raw.name {
            Some(name) if (1..=NAME_MAX).contains(&name.value.chars().count()) => return &name.value,
            Some(name) => {
                self.wrong(&name.place, "`name` of a rule is no name")
                    .help(format!("it may have 1 to {NAME_MAX} letters"));
            }
            None => {
                self.is_right = false;
                if self.p.absent(&raw.place, "name") {
                    self.wrong(&raw.place, "the rule has no `name`")
                        .help("write name = \"guests\": traces say which rule decided");
                }
            }
        }
        ""
    }

    /// The texts of a list. One that is empty would be a condition that nothing meets, and is none.
    fn texts(&mut self, key: &str, texts: &'r Texts) -> &'r [At<String>] {
        let Some(texts) = texts else { return &[] };
        if texts.value.is_empty() {
            let message = format!("`{key}` of {} is empty", self.title());
            self.wrong(&texts.place, message)
                .help("name what is meant, or remove it");
        }
        &texts.value
    }

    fn patterns(&mut self, key: &str, texts: &'r Texts) -> Vec<Pattern> {
        let mut all = Vec::new();
        for text in self.texts(key, texts) {
            match Pattern::read(&text.value) {
                Ok(pattern) => all.push(pattern),
                Err(right) => {
                    let message = format!("`{key}` of {} has something that is no pattern", self.title());
                    self.wrong(&text.place, message)
                        .label(format!("found \"{}\"", text.value))
                        .help(format!("write {right}"));
                }
            }
        }
        all
    }

    fn groups(&mut self, key: &str, texts: &'r Texts) -> Vec<Box<str>> {
        let texts = self.texts(key, texts);
        for text in texts
            .iter()
            .filter(|text| text.value.is_empty() || text.value.contains('*'))
        {
            let message = format!("`{key}` of {} has something that is no group's name", self.title());
            self.wrong(&text.place, message)
                .label(format!("found \"{}\"", text.value))
                .help("write whole names, as the back end has them: patterns are for client, tag and user");
        }
        texts.iter().map(|text| text.value.as_str().into()).collect()
    }

    fn times(&mut self) -> Times {
        let mut times = Times::default();
        for text in self.texts("time", &self.raw.time) {
            if let Err(right) = times.add(&text.value) {
                let message = format!("`time` of {} has something that is no time", self.title());
                self.wrong(&text.place, message)
                    .label(format!("found \"{}\"", text.value))
                    .help(format!("write {right}"));
            }
        }
        times
    }

    fn conditions(&mut self, key: &'static str, written: &'r [Attribute]) -> Vec<Condition> {
        let mut known = HashMap::new();
        let mut all = Vec::new();
        for one in written {
            let Some((definition, tag)) = self.definition(key, &one.name, &one.name.value) else {
                continue;
            };
            self.once(key, &mut known, (definition.id, tag), &one.name);
            match &one.values {
                Values::Present(is_there) => match Condition::presence(definition, tag, *is_there) {
                    Ok(condition) => all.push(condition),
                    Err(right) => self.no_value(key, definition, &one.name.place, None, &right),
                },
                Values::AnyOf(values) => match Condition::any_of(definition, tag, &scalars(values)) {
                    Ok(condition) => all.push(condition),
                    Err(wrong) => self.no_values(key, definition, values, &wrong),
                },
            }
        }
        all
    }

    fn definition(&mut self, key: &str, at: &At<String>, name: &str) -> Option<(&'r Definition, Option<u8>)> {
        match attribute(self.dictionary, name) {
            Ok(found) => Some(found),
            Err((found, right)) => {
                let message = format!("{found} in `{key}` of {}", self.title());
                self.wrong(&at.place, message).help(right);
                None
            }
        }
    }

    /// An attribute is named once in a table, in whatever spelling.
    fn once(
        &mut self,
        key: &str,
        known: &mut HashMap<(AttributeId, Option<u8>), &'r Place>,
        which: (AttributeId, Option<u8>),
        name: &'r At<String>,
    ) {
        if let Some(first) = known.insert(which, &name.place) {
            let message = format!("`{}` is twice in `{key}` of {}", name.value, self.title());
            self.wrong(&name.place, message)
                .also(first, "the first time")
                .help("write all of its values as a list");
        }
    }

    fn no_values(&mut self, key: &str, definition: &Definition, values: &[At<Scalar>], wrong: &[(usize, String)]) {
        for (at, right) in wrong {
            if let Some(value) = values.get(*at) {
                self.no_value(key, definition, &value.place, Some(&value.value), right);
            }
        }
    }

    fn no_value(&mut self, key: &str, definition: &Definition, at: &Place, value: Option<&Scalar>, right: &str) {
        let message = format!("`{}` in `{key}` of {} cannot be this", definition.name, self.title());
        let is_secret = self.is_secret;
        let problem = self.wrong(at, message);
        if let Some(value) = value.filter(|_| !is_secret) {
            problem.label(match value.written() {
                Written::Text(text) if text.chars().count() > 40 => "found a long text".to_owned(),
                Written::Text(text) => format!("found \"{text}\""),
                Written::Number(number) => format!("found {number}"),
            });
        }
        problem.help(format!("it may be {right}"));
    }

    /// What does not go together, and what does nothing.
    fn refuse_together(&mut self) {
        let raw = self.raw;
        let at = |key: &str| {
            raw.actions
                .iter()
                .find(|(known, _)| *known == key)
                .map(|(_, place)| place)
        };
        if raw.actions.is_empty() {
            let message = format!("{} does nothing", self.title());
            self.wrong(&raw.place, message)
                .help("add one of authenticate, reject, set, remove");
        }
        if let Some(reject) = at("reject") {
            for (key, place) in raw.actions.iter().filter(|(key, _)| *key != "reject") {
                let message = format!("{} has `reject` and `{key}`", self.title());
                self.wrong(place, message)
                    .also(reject, "rejected here")
                    .help("a reject carries its message only: make two rules of it");
            }
            if let Some(continues) = raw.continues.as_ref().filter(|at| at.value) {
                let message = format!("{} has `reject`, and goes on", self.title());
                self.wrong(&continues.place, message)
                    .also(reject, "rejected here")
                    .help("remove `continue`: a reject is the end");
            }
        }
        let groups = [("group", &raw.group), ("not_group", &raw.not_group)];
        let groups = groups.into_iter().find_map(|(key, texts)| Some((key, texts.as_ref()?)));
        if let (Some(place), Some((key, group))) = (at("authenticate"), groups) {
            let message = format!("{} has `authenticate` and `{key}`", self.title());
            self.wrong(place, message)
                .also(&group.place, "groups are known only after somebody was asked")
                .help("choose by client, tag, user, time or attributes");
        }
    }

    fn message(&mut self, message: &At<String>) -> Option<Box<str>> {
        let bytes = message.value.len();
        if bytes > MESSAGE_BYTES_MAX {
            let message_of = format!("`reject` of {} is too long", self.title());
            self.wrong(&message.place, message_of)
                .label(format!("found {bytes} octets"))
                .help(format!("a Reply-Message has at most {MESSAGE_BYTES_MAX}"));
        }
        (bytes > 0).then(|| message.value.as_str().into())
    }

    fn chain(&mut self) -> Option<usize> {
        let wanted = self.raw.authenticate.as_ref()?;
        let found = self.chains.iter().position(|name| *name == wanted.value);
        if found.is_none() {
            let near = nearest(&wanted.value, self.chains.iter().copied());
            let all = self.chains.join(", ");
            let message = format!(
                "{} wants to ask `{}`, which is no chain of the listener",
                self.title(),
                wanted.value
            );
            let problem = self.wrong(&wanted.place, message);
            problem.help(near.map_or_else(
                || format!("there are {all}"),
                |near| format!("did you mean \"{near}\"?"),
            ));
        }
        found
    }

    fn edit(&mut self) -> Edit {
        let mut edit = Edit::default();
        for name in self.texts("remove", &self.raw.remove) {
            if let Some((definition, tag)) = self.definition("remove", name, &name.value)
                && let Err(right) = edit.remove(definition, tag)
            {
                self.no_value("remove", definition, &name.place, None, &right);
            }
        }
        let mut known = HashMap::new();
        for one in &self.raw.set {
            let Values::AnyOf(values) = &one.values else { continue };
            let added = one.name.value.strip_prefix('+');
            let Some((definition, tag)) = self.definition("set", &one.name, added.unwrap_or(&one.name.value)) else {
                continue;
            };
            self.once("set", &mut known, (definition.id, tag), &one.name);
            match edit.add(self.dictionary, definition, tag, &scalars(values)) {
                Err(wrong) => self.no_values("set", definition, values, &wrong),
                Ok(()) if added.is_none() => {
                    if let Err(right) = edit.remove(definition, tag) {
                        self.no_value("set", definition, &one.name.place, None, &right);
                    }
                }
                Ok(()) => {}
            }
        }
        if !edit.fits(self.dictionary) {
            let at = self.raw.set.first().map_or(&self.raw.place, |one| &one.name.place);
            let message = format!("`set` of {} is more than a packet can hold", self.title());
            self.wrong(at, message).help("a packet has at most 4096 octets");
        }
        edit
    }
}

/// Whether a value is written of an attribute that is hidden, or that seems to be meant by a name that is none.
fn holds_secret(raw: &Raw, dictionary: &Dictionary) -> bool {
    let hides = |name: &str| {
        dictionary
            .named(name)
            .is_some_and(|known| known.hiding.is_some() || known.secret)
    };
    let all = raw.wanted.iter().chain(&raw.refused).chain(&raw.set);
    all.filter(|one| matches!(one.values, Values::AnyOf(_))).any(|one| {
        let name = one.name.value.trim_start_matches('+');
        let name = name.split(':').next().unwrap_or(name);
        let is_known = dictionary.named(name).is_some();
        hides(name) || (!is_known && dictionary.suggestions(name).into_iter().any(hides))
    })
}

fn scalars(values: &[At<Scalar>]) -> Vec<Written<'_>> {
    values.iter().map(|value| value.value.written()).collect()
}
