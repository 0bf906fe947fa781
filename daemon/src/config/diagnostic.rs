//! What is wrong with a configuration, and where: one [`Diagnostic`] per mistake, all of them shown at once.
//!
//! A mistake has a place: a span of the file, a flag of the command line, or nowhere in particular. Showing it
//! prints the file, line, column, the source line with carets, and what would be right. A line that may hold a secret
//! is never shown.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but probably not as meant, or not safely.
    Warning,
}

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Bytes of the configuration file.
    Text(Range<usize>),
    /// A flag of the command line, as typed (`--server`).
    Flag(&'static str),
    /// Nowhere in particular: the file as a whole, or a default.
    Nowhere,
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub place: Place,
}

impl<T> At<T> {
    /// A value at a place.
    pub fn new(value: T, place: Place) -> At<T> {
        At { value, place }
    }

    /// Another value that stands at the same place.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> At<U> {
        At {
            value: change(self.value),
            place: self.place,
        }
    }
}

/// A configuration text and the name it is shown under.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// File name as given by the user.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// One mistake or doubt.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// Where.
    pub place: Place,
    /// Said under the carets: what was found.
    pub label: Option<String>,
    /// Other places that matter ("first listened on here").
    pub also: Vec<(Range<usize>, String)>,
    /// What would be right.
    pub help: Vec<String>,
    /// The source line may hold a secret: only its position is shown.
    pub secret: bool,
    source: Option<Arc<Source>>,
}

impl Diagnostic {
    /// An error without a place: a file that cannot be read, say.
    pub fn error(message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Error, message.into(), Place::Nowhere, None)
    }

    /// A doubt without a place: about the machine, say.
    pub fn warning(message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Warning, message.into(), Place::Nowhere, None)
    }

    fn new(severity: Severity, message: String, place: Place, source: Option<Arc<Source>>) -> Diagnostic {
        Diagnostic {
            severity,
            message,
            place,
            label: None,
            also: Vec::new(),
            help: Vec::new(),
            secret: false,
            source,
        }
    }

    /// Adds what is said under the carets.
    pub fn label(&mut self, text: impl Into<String>) -> &mut Self {
        self.label = Some(text.into());
        self
    }

    /// Adds a line of what would be right.
    pub fn help(&mut self, text: impl Into<String>) -> &mut Self {
        self.help.push(text.into());
        self
    }

    /// Points at a second place of the same file.
    pub fn also(&mut self, place: &Place, text: impl Into<String>) -> &mut Self {
        if let Place::Text(span) = place {
            self.also.push((span.clone(), text.into()));
        }
        self
    }

    /// Line and column (in characters), both from 1; none when the mistake is not in a file.
    pub fn position(&self) -> Option<(usize, usize)> {
        let (Place::Text(span), Some(source)) = (&self.place, &self.source) else {
            return None;
        };
        let before = source.text.get(..span.start)?;
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
        Some((line, column))
    }

    fn order(&self) -> (usize, Severity) {
        let start = match &self.place {
            Place::Text(span) => span.start,
            Place::Flag(_) | Place::Nowhere => usize::MAX,
        };
        (start, self.severity)
    }
}

impl fmt::Display for Diagnostic {
    /// One line, for logs: `usherd.toml:3:7: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, &self.source, self.position()) {
            (Place::Flag(flag), _, _) => write!(f, "{flag}: ")?,
            (_, Some(source), Some((line, column))) => write!(f, "{}:{line}:{column}: ", source.name)?,
            (_, Some(source), None) => write!(f, "{}: ", source.name)?,
            (_, None, _) => {}
        }
        f.write_str(&self.message)?;
        if let Some(label) = &self.label {
            write!(f, " ({label})")?;
        }
        for help in &self.help {
            write!(f, "; {help}")?;
        }
        Ok(())
    }
}

/// Collects what is wrong while a configuration is read: nothing stops at the first mistake.
#[derive(Debug, Default)]
pub struct Problems {
    source: Option<Arc<Source>>,
    list: Vec<Diagnostic>,
    /// Of files that this one names.
    others: Vec<Diagnostic>,
    spoilt: Vec<(Place, &'static str)>,
}

impl Problems {
    /// A collector for mistakes in this source; none: the command line.
    pub fn new(source: Option<Arc<Source>>) -> Problems {
        Problems {
            source,
            list: Vec::new(),
            others: Vec::new(),
            spoilt: Vec::new(),
        }
    }

    /// Records an error and returns it, for labels and help.
    pub fn error(&mut self, place: &Place, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Error, place, message.into())
    }

    /// Records a warning.
    pub fn warning(&mut self, place: &Place, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Severity::Warning, place, message.into())
    }

    /// Takes over what was found in another file, or by other means.
    pub fn take(&mut self, found: impl IntoIterator<Item = Diagnostic>) {
        self.others.extend(found);
    }

    /// Shows no line of this file: any may hold a secret.
    pub fn hide_lines(&mut self) {
        self.list.iter_mut().for_each(|found| found.secret = true);
    }

    /// Notes that a setting of the section at `section` is written, though unusable.
    pub fn spoil(&mut self, section: &Place, key: &'static str) {
        self.spoilt.push((section.clone(), key));
    }

    /// Whether a setting that has no value is really absent, and not written wrongly and reported already.
    pub fn absent(&self, section: &Place, key: &str) -> bool {
        !self
            .spoilt
            .iter()
            .any(|(place, spoilt)| place == section && *spoilt == key)
    }

    /// Forgets everything but what stands before `end`: what follows a broken piece of TOML may have been misread.
    pub fn keep_before(&mut self, end: usize) {
        self.list
            .retain(|found| matches!(&found.place, Place::Text(span) if span.start < end));
    }

    /// How many errors have been recorded.
    pub fn errors(&self) -> usize {
        let all = self.list.iter().chain(&self.others);
        all.filter(|found| found.severity == Severity::Error).count()
    }

    /// Whether an error has been recorded.
    pub fn has_errors(&self) -> bool {
        let mut all = self.list.iter().chain(&self.others);
        all.any(|found| found.severity == Severity::Error)
    }

    /// Everything found, in the order of the file; then what was found in others.
    pub fn into_list(mut self) -> Vec<Diagnostic> {
        self.list.sort_by_key(Diagnostic::order);
        self.list.append(&mut self.others);
        self.list
    }

    fn push(&mut self, severity: Severity, place: &Place, message: String) -> &mut Diagnostic {
        let found = Diagnostic::new(severity, message, place.clone(), self.source.clone());
        self.list.push_mut(found)
    }
}

/// All of them as text for a terminal, each with its source line and carets, and a last line that counts them.
/// `colour`: with ANSI colours.
pub fn render(found: &[Diagnostic], colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let mut text = String::new();
    for one in found {
        text.push_str(&renderer.render(&[group(one)]));
        text.push_str("\n\n");
    }
    let errors = found.iter().filter(|one| one.severity == Severity::Error).count();
    let warnings = found.len() - errors;
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    match (errors, warnings) {
        (0, 0) => {}
        (0, _) => text.push_str(&format!("{}\n", count(warnings, "warning"))),
        (_, 0) => text.push_str(&format!("{}\n", count(errors, "error"))),
        (_, _) => text.push_str(&format!("{}, {}\n", count(errors, "error"), count(warnings, "warning"))),
    }
    text
}

fn group(one: &Diagnostic) -> annotate_snippets::Group<'_> {
    let level = match one.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = match &one.place {
        Place::Flag(flag) => format!("{flag}: {}", one.message),
        Place::Text(_) | Place::Nowhere => one.message.clone(),
    };
    let mut group = annotate_snippets::Group::with_title(level.primary_title(title));
    match (&one.place, &one.source) {
        (Place::Text(_), Some(source)) if one.secret => {
            let mut origin = annotate_snippets::Origin::path(source.name.as_str());
            if let Some((line, column)) = one.position() {
                origin = origin.line(line).char_column(column);
            }
            group = group.element(origin);
        }
        (Place::Text(span), Some(source)) => {
            let primary = AnnotationKind::Primary.span(span.clone()).label(one.label.as_deref());
            let others = one
                .also
                .iter()
                .map(|(span, text)| AnnotationKind::Context.span(span.clone()).label(text));
            let snippet = Snippet::source(source.text.as_str()).path(source.name.as_str());
            group = group.element(snippet.annotation(primary).annotations(others));
        }
        (Place::Nowhere, Some(source)) => group = group.element(annotate_snippets::Origin::path(source.name.as_str())),
        (_, _) => {}
    }
    if let Some(label) = &one.label
        && (one.secret || !matches!(one.place, Place::Text(_)))
    {
        group = group.element(Level::NOTE.message(label.as_str()));
    }
    group.elements(one.help.iter().map(|text| Level::HELP.message(text.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Problems {
        Problems::new(Some(Arc::new(Source {
            name: "usherd.toml".into(),
            text: text.into(),
        })))
    }

    #[test]
    fn a_mistake_is_shown_with_its_line_and_carets() {
        let mut found = problems("[server]\nwrokers = 2\n");
        found
            .error(&Place::Text(9..16), "unknown setting `wrokers` in [server]")
            .label("not a setting")
            .help("did you mean `workers`?");
        let text = render(&found.into_list(), false);
        assert_eq!(
            text,
            "error: unknown setting `wrokers` in [server]\n \
             --> usherd.toml:2:1\n  |\n\
             2 | wrokers = 2\n  | ^^^^^^^ not a setting\n  |\n  \
             = help: did you mean `workers`?\n\n1 error\n"
        );
    }

    #[test]
    fn columns_count_characters_and_the_order_is_that_of_the_file() {
        let mut found = problems("é = 1\nüx = 2\n");
        found.warning(&Place::Text(9..10), "second");
        found.error(&Place::Text(0..2), "first");
        let list = found.into_list();
        assert_eq!(list[0].message, "first");
        assert_eq!(list[1].position(), Some((2, 2)));
        assert_eq!(list[1].to_string(), "usherd.toml:2:2: second");
    }

    #[test]
    fn a_secret_line_is_not_shown() {
        let mut found = problems("bind_password = \"hunter2\"\n");
        found.error(&Place::Text(0..13), "not here").secret = true;
        let text = render(&found.into_list(), false);
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("usherd.toml:1:1"), "{text}");
    }

    #[test]
    fn a_flag_is_named() {
        let mut found = Problems::new(None);
        found
            .error(&Place::Flag("--server"), "no scheme")
            .help("write ldap://host");
        assert!(render(&found.into_list(), false).starts_with("error: --server: no scheme\n"));
    }
}
