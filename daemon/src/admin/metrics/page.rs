//! Figures, family by family; and the Prometheus text format, version 0.0.4, in which every family has HELP and TYPE.

use crate::admin::snapshot::{Count, Seconds};

/// See the module.
#[derive(Default)]
pub(super) struct Page {
    families: Vec<Family>,
}

struct Family {
    name: String,
    kind: &'static str,
    help: &'static str,
    figures: Vec<Figure>,
}

/// One figure.
pub(super) struct Figure {
    /// Its name, which is its family's, or begins so.
    pub(super) name: String,
    /// Of what it is the figure.
    pub(super) labels: Vec<(&'static str, String)>,
    /// How much.
    pub(super) value: Value,
}

/// See [`Figure`].
#[derive(Clone, Copy)]
pub(super) enum Value {
    /// So many.
    Count(u64),
    /// So many microseconds.
    Micros(u64),
}

impl Page {
    pub(super) fn family(&mut self, name: &str, kind: &'static str, help: &'static str) {
        self.families.push(Family {
            name: name.to_owned(),
            kind,
            help,
            figures: Vec::new(),
        });
    }

    /// A figure of the latest family.
    pub(super) fn line(&mut self, name: &str, labels: &[(&'static str, &str)], value: u64) {
        let labels = labels.iter().map(|(label, text)| (*label, (*text).to_owned()));
        self.push(name.to_owned(), labels.collect(), Value::Count(value));
    }

    pub(super) fn counts(
        &mut self,
        name: &str,
        fixed: Option<(&'static str, &str)>,
        label: &'static str,
        counts: &[Count],
    ) {
        for one in counts {
            let mut labels = Vec::from_iter(fixed);
            labels.push((label, &one.label));
            self.line(name, &labels, one.count);
        }
    }

    pub(super) fn histogram(&mut self, name: &str, of: (&'static str, &str), seconds: &Seconds) {
        let bucket = format!("{name}_bucket");
        let mut below = 0;
        for (bound_us, count) in seconds.bounds_us.iter().zip(&seconds.buckets) {
            below += count;
            self.line(&bucket, &[of, ("le", &in_seconds(*bound_us))], below);
        }
        let all = seconds.buckets.iter().sum();
        self.line(&bucket, &[of, ("le", "+Inf")], all);
        let labels = vec![(of.0, of.1.to_owned())];
        self.push(format!("{name}_sum"), labels, Value::Micros(seconds.sum_us));
        self.line(&format!("{name}_count"), &[of], all);
    }

    fn push(&mut self, name: String, labels: Vec<(&'static str, String)>, value: Value) {
        if let Some(family) = self.families.last_mut() {
            family.figures.push(Figure { name, labels, value });
        }
    }

    /// All figures.
    pub(super) fn figures(&self) -> impl Iterator<Item = &Figure> {
        self.families.iter().flat_map(|family| &family.figures)
    }

    /// The page for Prometheus.
    pub(super) fn text(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        for family in &self.families {
            let name = &family.name;
            text.push_str(&format!(
                "# HELP {name} {}\n# TYPE {name} {}\n",
                family.help, family.kind
            ));
            for figure in &family.figures {
                figure.write(&mut text);
            }
        }
        text
    }
}

impl Figure {
    fn write(&self, out: &mut String) {
        out.push_str(&self.name);
        if !self.labels.is_empty() {
            out.push('{');
            for (index, (label, text)) in self.labels.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                out.push_str(label);
                out.push_str("=\"");
                escape(out, text);
                out.push('"');
            }
            out.push('}');
        }
        match self.value {
            Value::Count(count) => out.push_str(&format!(" {count}\n")),
            Value::Micros(micros) => out.push_str(&format!(" {}\n", in_seconds(micros))),
        }
    }
}

/// Microseconds as decimal seconds without superfluous zeros, exactly.
fn in_seconds(us: u64) -> String {
    let text = format!("{}.{:06}", us / 1_000_000, us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Backslash, quote and newline are what a label value may not contain as they are.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}
