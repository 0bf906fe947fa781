//! `[[listen.rule]]` of a RADIUS listener, as written.

use engine::radius::policy::Written;
use toml::Spanned;
use toml::de::DeValue;

use super::super::diagnostic::{At, Diagnostic, Place, Problems};
use super::super::reader::{Section, integer, place};

/// A list of texts, if it is written.
pub type Texts = Option<At<Vec<At<String>>>>;

/// One rule as written.
#[derive(Debug)]
pub struct Rule {
    /// Its header.
    pub place: Place,
    /// `name`.
    pub name: Option<At<String>>,
    /// `client`.
    pub client: Texts,
    /// `tag`.
    pub tag: Texts,
    /// `user`.
    pub user: Texts,
    /// `group`.
    pub group: Texts,
    /// `not_group`.
    pub not_group: Texts,
    /// `time`.
    pub time: Texts,
    /// `match`.
    pub wanted: Vec<Attribute>,
    /// `not`.
    pub refused: Vec<Attribute>,
    /// `authenticate`.
    pub authenticate: Option<At<String>>,
    /// `reject`.
    pub reject: Option<At<String>>,
    /// `set`.
    pub set: Vec<Attribute>,
    /// `remove`.
    pub remove: Texts,
    /// `continue`.
    pub continues: Option<At<bool>>,
    /// Which of the settings that do something are written, rightly or wrongly.
    pub actions: Vec<(&'static str, Place)>,
}

/// An attribute of a table.
#[derive(Debug)]
pub struct Attribute {
    /// As it is named.
    pub name: At<String>,
    /// What stands behind it.
    pub values: Values,
}

/// See [`Attribute`].
#[derive(Debug)]
pub enum Values {
    /// `{ present = true }`
    Present(bool),
    /// One value, or several.
    AnyOf(Vec<At<Scalar>>),
}

/// Text or a number.
#[derive(Debug)]
pub enum Scalar {
    /// `"text"`
    Text(String),
    /// `1`
    Number(i64),
}

impl Scalar {
    /// As the engine reads it.
    pub fn written(&self) -> Written<'_> {
        match self {
            Scalar::Text(text) => Written::Text(text),
            Scalar::Number(number) => Written::Number(*number),
        }
    }
}

/// Reads one rule.
pub fn read(p: &mut Problems, mut section: Section<'_>) -> Rule {
    let written = ["authenticate", "reject", "set", "remove"]
        .into_iter()
        .filter(|key| section.has(key));
    let actions = written.map(|key| (key, section.place_of(key))).collect();
    let rule = Rule {
        place: section.place.clone(),
        name: section.string(p, "name"),
        client: section.strings(p, "client"),
        tag: section.strings(p, "tag"),
        user: section.strings(p, "user"),
        group: section.strings(p, "group"),
        not_group: section.strings(p, "not_group"),
        time: section.strings(p, "time"),
        wanted: attributes(p, &mut section, "match"),
        refused: attributes(p, &mut section, "not"),
        authenticate: section.string(p, "authenticate"),
        reject: section.string(p, "reject"),
        set: attributes(p, &mut section, "set"),
        remove: section.strings(p, "remove"),
        continues: section.boolean(p, "continue"),
        actions,
    };
    section.finish(p);
    rule
}

/// A table of attributes, in the order of the file.
fn attributes(p: &mut Problems, section: &mut Section<'_>, key: &'static str) -> Vec<Attribute> {
    let Some((value, at)) = section.value(key) else {
        return Vec::new();
    };
    let DeValue::Table(table) = value.get_ref() else {
        p.error(
            &at,
            format!("`{key}` in {} must be a table of attributes", section.title),
        )
        .help(format!("write {key} = {{ Service-Type = \"Framed-User\" }}"));
        return Vec::new();
    };
    // What is hidden the dictionary says later; until then the name does, even with a slip in it.
    let seems_secret = |name: &str| ["pas", "secret", "key"].iter().any(|part| name.contains(part));
    let mut names = table.iter().map(|(name, _)| name.get_ref().to_ascii_lowercase());
    let is_secret = names.any(|name| seems_secret(&name));
    let mut all = Vec::with_capacity(table.len());
    for (name, value) in table.iter() {
        let name = At::new(name.get_ref().to_string(), Place::Text(name.span()));
        let items = match value.get_ref() {
            DeValue::Array(items) => items.iter().collect(),
            DeValue::Table(inner) => {
                let present = inner
                    .get("present")
                    .filter(|_| inner.len() == 1)
                    .map(|value| value.get_ref());
                match present {
                    Some(DeValue::Boolean(is_there)) if key != "set" => {
                        let values = Values::Present(*is_there);
                        all.push(Attribute { name, values });
                    }
                    _ => no_value(p, &place(value), &section.title, key, &name.value).secret = is_secret,
                }
                continue;
            }
            _ => vec![value],
        };
        let scalar = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
            DeValue::String(text) => Ok(At::new(Scalar::Text(text.to_string()), place(value))),
            DeValue::Integer(number) => integer(number)
                .map(|number| At::new(Scalar::Number(number), place(value)))
                .ok_or_else(|| place(value)),
            _ => Err(place(value)),
        };
        let mut values = Vec::with_capacity(items.len());
        for item in &items {
            match scalar(item) {
                Ok(value) => values.push(value),
                Err(at) => no_value(p, &at, &section.title, key, &name.value).secret = is_secret,
            }
        }
        if items.is_empty() {
            no_value(p, &place(value), &section.title, key, &name.value).secret = is_secret;
        } else if values.len() == items.len() {
            let values = Values::AnyOf(values);
            all.push(Attribute { name, values });
        }
    }
    // The table is in the order of its names.
    all.sort_by_key(|attribute| match &attribute.name.place {
        Place::Text(span) => span.start,
        Place::Flag(_) | Place::Nowhere => 0,
    });
    all
}

fn no_value<'p>(p: &'p mut Problems, at: &Place, title: &str, key: &str, name: &str) -> &'p mut Diagnostic {
    let help = match key {
        "set" => "write a text in quotes, a number, or a list of those",
        _ => "write a text in quotes, a number, a list of those, or { present = true }",
    };
    p.error(at, format!("`{name}` in `{key}` of {title} has no such value"))
        .help(help)
}
