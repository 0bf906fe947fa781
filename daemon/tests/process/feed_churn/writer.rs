//! Random writes, and what they make of the names that there are.

use std::collections::{BTreeSet, VecDeque};

use engine::core::rng::Rng;

use super::{AWAY, INSIDE};
use crate::ops;

/// Containers are no more than these, and no deeper.
const CONTAINERS: usize = 14;
const DEPTH: usize = 7;

#[derive(Clone, Debug)]
pub(super) enum Write {
    Add(String, String),
    Modify(String, i64, &'static str, Vec<String>),
    Delete(String),
    Rename(String, String, bool, Option<String>),
}

impl Write {
    pub(super) fn op(&self) -> Vec<u8> {
        match self {
            Self::Add(dn, text) if is_container(dn) => ops::add(
                dn,
                &[("objectClass", &["organizationalUnit"]), ("description", &[text])],
            ),
            Self::Add(dn, text) => ops::add(
                dn,
                &[
                    ("objectClass", &["inetOrgPerson"]),
                    ("sn", &["Person"]),
                    ("description", &[text]),
                ],
            ),
            Self::Modify(dn, kind, name, values) => {
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                ops::modify(dn, &[(*kind, name, &values)])
            }
            Self::Delete(dn) => ops::delete(dn),
            Self::Rename(dn, rdn, delete_old, parent) => ops::rename(dn, rdn, *delete_old, parent.as_deref()),
        }
    }
}

fn is_container(dn: &str) -> bool {
    dn.starts_with("ou=")
}

fn is_inside(dn: &str) -> bool {
    dn.ends_with(INSIDE)
}

/// The name above; a comma in a value is written `\,` or `\2C`.
fn parent(dn: &str) -> &str {
    let escaped = |at: usize| at > 0 && dn.as_bytes()[at - 1] == b'\\';
    let comma = dn.match_indices(',').map(|(at, _)| at).find(|at| !escaped(*at));
    &dn[comma.expect("it is below something") + 1..]
}

fn rdn(dn: &str) -> &str {
    &dn[..dn.len() - parent(dn).len() - 1]
}

pub(super) struct Writer {
    rng: Rng,
    names: BTreeSet<String>,
    next: VecDeque<Write>,
    serial: usize,
}

impl Writer {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed ^ 0x5EED),
            names: BTreeSet::new(),
            next: VecDeque::new(),
            serial: 0,
        }
    }

    /// What there is before the feed begins.
    pub(super) fn first(&mut self, entries: usize) -> Vec<Write> {
        let mut all = vec![
            Write::Add(INSIDE.into(), "in".into()),
            Write::Add(AWAY.into(), "out".into()),
        ];
        let mut containers = vec![INSIDE.to_owned(), AWAY.to_owned()];
        for number in 0..entries {
            let above = containers[self.rng.index(containers.len())].clone();
            let container = number % 15 == 0;
            let dn = format!("{},{above}", if container { self.unit() } else { self.leaf() });
            all.push(Write::Add(dn.clone(), self.text()));
            if container && dn.matches(',').count() < DEPTH {
                containers.push(dn);
            }
        }
        all
    }

    /// What a write has done to the names.
    pub(super) fn done(&mut self, write: &Write, well: bool) {
        if !well {
            return;
        }
        match write {
            Write::Add(dn, _) => _ = self.names.insert(dn.clone()),
            Write::Modify(..) => {}
            Write::Delete(dn) => _ = self.names.remove(dn),
            Write::Rename(dn, rdn, _, above) => {
                let new = format!("{rdn},{}", above.as_deref().unwrap_or_else(|| parent(dn)));
                let below = format!(",{dn}");
                let moved = |name: &String| match name.strip_suffix(&below) {
                    Some(rest) => format!("{rest},{new}"),
                    None if name == dn => new.clone(),
                    None => name.clone(),
                };
                self.names = self.names.iter().map(moved).collect();
            }
        }
    }

    /// The names as the directory has them, after it was killed.
    pub(super) fn found(&mut self, names: impl Iterator<Item = String>) {
        self.names = names.collect();
    }

    pub(super) fn next(&mut self) -> Write {
        loop {
            if let Some(write) = self.next.pop_front() {
                return write;
            }
            self.plan();
        }
    }

    fn unit(&mut self) -> String {
        self.serial += 1;
        format!("ou=unit{}", self.serial)
    }

    fn leaf(&mut self) -> String {
        self.serial += 1;
        let n = self.serial;
        match self.rng.index(10) {
            0 => format!("cn=Last{n}\\, First"),
            1 => format!("cn=\\#{n}"),
            2 => format!("cn=é漢{n}"),
            3 => format!("cn=m{n}+uid=u{n}"),
            4 => format!("cn=plus\\2B{n}"),
            5 => format!("cn=space{n}\\20"),
            _ => format!("cn=e{n}"),
        }
    }

    fn text(&mut self) -> String {
        self.serial += 1;
        format!("text {}", self.serial)
    }

    fn pick(&mut self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let all: Vec<&String> = self.names.iter().filter(|name| wanted(name)).collect();
        (!all.is_empty()).then(|| all[self.rng.index(all.len())].clone())
    }

    fn container(&mut self, inside: bool) -> String {
        self.pick(|dn| is_container(dn) && is_inside(dn) == inside && dn.matches(',').count() < DEPTH)
            .unwrap_or_else(|| if inside { INSIDE } else { AWAY }.to_owned())
    }

    /// A container that is neither of the two at the top.
    fn branch(&mut self, inside: bool) -> Option<String> {
        self.pick(|dn| is_container(dn) && is_inside(dn) == inside && dn != INSIDE && dn != AWAY)
    }

    /// Puts one thing that is to happen into `next`; perhaps nothing, where there is nothing to do it to.
    fn plan(&mut self) {
        let inside = self.rng.chance(9, 10);
        let leaf = self.pick(|dn| !is_container(dn) && is_inside(dn) == inside);
        match (self.rng.index(100), leaf) {
            (0..20, _) => {
                let dn = format!("{},{}", self.leaf(), self.container(inside));
                let text = self.text();
                self.next.push_back(Write::Add(dn, text));
            }
            (20..24, _) if self.names.iter().filter(|name| is_container(name)).count() < CONTAINERS => {
                let dn = format!("{},{}", self.unit(), self.container(inside));
                let text = self.text();
                self.next.push_back(Write::Add(dn, text));
            }
            (24..52, Some(leaf)) => self.modify(leaf),
            (52..62, Some(leaf)) => self.next.push_back(Write::Delete(leaf)),
            (62..75, Some(leaf)) => self.rename(leaf),
            (75..78, Some(leaf)) => self.again(leaf),
            (78..81, Some(leaf)) => {
                if let Some(other) = self.pick(|dn| !is_container(dn) && is_inside(dn) && dn != leaf) {
                    self.swap(&leaf, &other);
                }
            }
            (81..85, Some(leaf)) => {
                let (rdn, above) = (rdn(&leaf).to_owned(), self.container(!inside));
                self.next.push_back(Write::Rename(leaf, rdn, true, Some(above)));
            }
            (85.., _) => self.branches(inside),
            _ => {}
        }
    }

    fn modify(&mut self, leaf: String) {
        let (name, count) = match self.rng.index(5) {
            0 => ("telephoneNumber", self.rng.index(4)),
            1 => ("description;lang-de", 1),
            2 => ("audio", 1),
            3 => ("description", 1 + self.rng.index(3)),
            _ => ("description", 1),
        };
        let values = (0..count).map(|at| match name {
            "telephoneNumber" => format!("+1 {at} {}", self.serial),
            "audio" => format!("\0\u{7f}{}\n", self.serial),
            _ => format!("größer {at} {}", self.serial),
        });
        let write = Write::Modify(leaf, ops::REPLACE, name, values.collect());
        self.serial += 1;
        self.next.push_back(write);
    }

    fn rename(&mut self, leaf: String) {
        let delete_old = self.rng.chance(2, 3);
        let (rdn, above) = match self.rng.index(4) {
            0 => (rdn(&leaf).to_owned(), Some(self.container(is_inside(&leaf)))),
            1 => (self.leaf(), Some(self.container(is_inside(&leaf)))),
            2 => (rdn(&leaf).replace("cn=e", "cn=E").replace("cn=m", "cn=M"), None),
            _ => (self.leaf(), None),
        };
        self.next.push_back(Write::Rename(leaf, rdn, delete_old, above));
    }

    /// Another entry gets the name of one that goes.
    fn again(&mut self, leaf: String) {
        let text = self.text();
        self.next.push_back(Write::Delete(leaf.clone()));
        self.next.push_back(Write::Add(leaf, text));
    }

    /// Two names change places, in three steps.
    fn swap(&mut self, one: &str, other: &str) {
        let between = if is_container(one) { self.unit() } else { self.leaf() };
        let free = format!("{between},{}", parent(one));
        let step = |from: &str, to: &str| Write::Rename(from.into(), rdn(to).into(), true, Some(parent(to).into()));
        self.next
            .extend([step(one, &free), step(other, one), step(&free, other)]);
    }

    fn branches(&mut self, inside: bool) {
        let Some(branch) = self.branch(inside) else { return };
        let below = format!(",{branch}");
        match self.rng.index(8) {
            0 | 1 => {
                let rdn = self.unit();
                self.next.push_back(Write::Rename(branch, rdn, true, None));
            }
            2 => {
                let above = self.container(inside);
                if above != branch && !above.ends_with(&below) {
                    let rdn = rdn(&branch).to_owned();
                    self.next.push_back(Write::Rename(branch, rdn, true, Some(above)));
                }
            }
            3 | 4 => {
                let (rdn, above) = (rdn(&branch).to_owned(), self.container(!inside));
                self.next.push_back(Write::Rename(branch, rdn, true, Some(above)));
            }
            5 | 6 => {
                if let Some(other) = self.branch(inside)
                    && other != branch
                    && !other.ends_with(&below)
                    && !branch.ends_with(&format!(",{other}"))
                {
                    self.swap(&branch, &other);
                }
            }
            _ => {
                let mut gone: Vec<&String> = self.names.iter().filter(|name| name.ends_with(&below)).collect();
                gone.sort_by_key(|name| std::cmp::Reverse(name.len()));
                // A whole branch of many would leave little to write to.
                if gone.len() < 20 {
                    let gone: Vec<Write> = gone.into_iter().cloned().map(Write::Delete).collect();
                    self.next.extend(gone);
                    self.next.push_back(Write::Delete(branch));
                }
            }
        }
    }
}
