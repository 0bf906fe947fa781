//! Rules that stand between a request and its answer: whether it is asked at all and of whom, and what the answer carries.
//!
//! There are two rounds. *Before* a back end is asked, the rules count that choose one or that reject without knowing the user's
//! groups; *after* a yes, those that change the answer or that reject by groups. In a round rules are looked at in their order; the
//! first that holds is done and ends the round, unless it goes on. What holds later changes what earlier rules have left.
//!
//! A rule never turns a no into a yes: the second round is only for who was let in. Nothing is parsed or allocated for a request
//! until a rule that changes the answer holds.

mod condition;
mod edit;
mod note;
mod pattern;
mod reach;
#[cfg(test)]
mod tests;
mod time;

use std::borrow::Cow;

use wire::radius::{Dictionary, Item, Packet};

pub use condition::{Condition, Written, attribute};
pub use edit::Edit;
pub use note::{Fails, Note};
pub use pattern::Pattern;
pub use reach::{Idle, Why};
pub use time::{Moment, Times};

/// When a rule is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Round {
    /// Before a back end is asked.
    Before,
    /// After it has said yes.
    After,
}

/// One rule. It holds if each of its conditions does; a list that is empty is no condition.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name in messages and traces; no other rule has it.
    pub name: Box<str>,
    /// The client's name is one of these.
    pub clients: Vec<Pattern>,
    /// One of the client's tags is one of these.
    pub tags: Vec<Pattern>,
    /// The User-Name is one of these.
    pub users: Vec<Pattern>,
    /// The user is in one of these groups. With groups a rule is looked at after a yes only.
    pub groups: Vec<Box<str>>,
    /// The user is in none of these; as with groups, looked at after a yes only.
    pub not_groups: Vec<Box<str>>,
    /// It is one of these times.
    pub times: Times,
    /// What the request's attributes must be.
    pub wanted: Vec<Condition>,
    /// What none of them may be.
    pub refused: Vec<Condition>,
    /// What is done.
    pub action: Action,
    /// Whether the rules behind it are looked at as well.
    pub continues: bool,
}

/// What a rule does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// The request is rejected, perhaps with a message for the user.
    Reject(Option<Box<str>>),
    /// It goes on.
    Go {
        /// Another chain of back ends is asked; of no meaning in a rule with groups.
        chain: Option<usize>,
        /// The answer's attributes are changed.
        edit: Edit,
    },
}

/// All rules, in their order. Without any, everything goes on as it is.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    rules: Vec<Rule>,
}

/// A request, as far as rules look at it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The request.
    pub packet: &'a Packet<'a>,
    /// The client's name.
    pub client: &'a str,
    /// The client's tags.
    pub tags: &'a [String],
    /// Whose it is: the User-Name, or what it is taken for.
    pub user: &'a [u8],
    /// The local time; not looked at unless [`Policy::needs_time`].
    pub moment: Moment,
    /// The one by which the rules were read.
    pub dictionary: &'a Dictionary,
}

/// What becomes of a request that nobody was asked about yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Before<'p> {
    /// It is asked.
    Go {
        /// Of this chain; none: of the listener's own.
        chain: Option<usize>,
        /// The rule that chose the chain.
        rule: Option<&'p str>,
    },
    /// It is rejected.
    Reject {
        /// For the user.
        message: Option<&'p str>,
        /// The rule.
        rule: &'p str,
    },
}

/// What becomes of a request to which a back end has said yes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum After<'p> {
    /// It is accepted, and the answer changed.
    Accept(Edits<'p>),
    /// It is rejected.
    Reject {
        /// For the user.
        message: Option<&'p str>,
        /// The rule.
        rule: &'p str,
    },
}

/// What rules make of an answer, in their order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Edits<'p> {
    all: Vec<(&'p str, &'p Edit)>,
}

impl<'p> Edits<'p> {
    /// Changes the attributes that the back end gave.
    pub fn apply(&self, reply: &mut Vec<Cow<'p, Item>>) {
        self.all.iter().for_each(|(_, edit)| edit.apply(reply));
    }

    /// The rules that change something.
    pub fn rules(&self) -> impl Iterator<Item = &'p str> {
        self.all.iter().map(|(rule, _)| *rule)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl Policy {
    /// These rules.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Policy {
        Policy { rules }
    }

    /// The rules.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether some rule asks for the time.
    #[must_use]
    pub fn needs_time(&self) -> bool {
        self.rules.iter().any(|rule| !rule.times.is_empty())
    }

    /// Whether some rule asks for groups: the back ends must know them then.
    #[must_use]
    pub fn needs_groups(&self) -> bool {
        self.groups_named().next().is_some()
    }

    /// The groups that rules ask for; one may come several times.
    pub fn groups_named(&self) -> impl Iterator<Item = &str> {
        self.rules
            .iter()
            .flat_map(|rule| rule.groups.iter().chain(&rule.not_groups).map(|group| &**group))
    }

    /// The first round. `notes` is told each rule that is looked at.
    pub fn before<'p>(&'p self, asked: &Asked<'_>, notes: &mut dyn FnMut(Note<'_>)) -> Before<'p> {
        let (mut chain, mut chosen_by) = (None, None);
        // There are no groups before a back end has answered; nor does a rule of this round ask for any.
        for rule in self.holding(Round::Before, asked, &mut |_| false, notes) {
            match &rule.action {
                Action::Reject(message) => {
                    return Before::Reject {
                        message: message.as_deref(),
                        rule: &rule.name,
                    };
                }
                Action::Go { chain: chosen, .. } => (chain, chosen_by) = (*chosen, Some(&*rule.name)),
            }
        }
        Before::Go { chain, rule: chosen_by }
    }

    /// The second round. `is_in` says whether the user is in a group of this name; it must not be asked before that is known. `notes` is
    /// told each rule that is looked at.
    pub fn after<'p>(
        &'p self,
        asked: &Asked<'_>,
        is_in: &mut dyn FnMut(&str) -> bool,
        notes: &mut dyn FnMut(Note<'_>),
    ) -> After<'p> {
        let mut edits = Edits::default();
        for rule in self.holding(Round::After, asked, is_in, notes) {
            match &rule.action {
                Action::Reject(message) => {
                    return After::Reject {
                        message: message.as_deref(),
                        rule: &rule.name,
                    };
                }
                Action::Go { edit, .. } => edits.all.push((&rule.name, edit)),
            }
        }
        After::Accept(edits)
    }

    /// The rules of a round that hold, up to the one that ends it.
    fn holding<'p>(
        &'p self,
        round: Round,
        asked: &Asked<'_>,
        is_in: &mut dyn FnMut(&str) -> bool,
        notes: &mut dyn FnMut(Note<'_>),
    ) -> impl Iterator<Item = &'p Rule> {
        let mut rules = self.rules.iter().filter(move |rule| rule.acts(round));
        let mut is_over = false;
        std::iter::from_fn(move || {
            while !is_over {
                let rule = rules.next()?;
                let fails = rule.fails(asked, is_in);
                notes(Note {
                    rule,
                    round,
                    fails,
                    asked,
                });
                if fails.is_none() {
                    is_over = !rule.continues;
                    return Some(rule);
                }
            }
            None
        })
    }
}

impl Rule {
    /// Without conditions, and with nothing that it does.
    #[must_use]
    pub fn new(name: &str) -> Rule {
        Rule {
            name: name.into(),
            clients: Vec::new(),
            tags: Vec::new(),
            users: Vec::new(),
            groups: Vec::new(),
            not_groups: Vec::new(),
            times: Times::default(),
            wanted: Vec::new(),
            refused: Vec::new(),
            action: Action::Go {
                chain: None,
                edit: Edit::default(),
            },
            continues: false,
        }
    }

    /// Whether it has something to do in a round.
    #[must_use]
    pub fn acts(&self, round: Round) -> bool {
        let knows_groups = !self.groups.is_empty() || !self.not_groups.is_empty();
        match (round, &self.action) {
            (Round::Before, Action::Reject(_)) => !knows_groups,
            (Round::After, Action::Reject(_)) => knows_groups,
            (Round::Before, Action::Go { chain, .. }) => chain.is_some() && !knows_groups,
            (Round::After, Action::Go { edit, .. }) => !edit.is_empty(),
        }
    }

    /// The first condition that does not hold, the dearest last.
    fn fails(&self, asked: &Asked<'_>, is_in: &mut dyn FnMut(&str) -> bool) -> Option<Fails<'_>> {
        let misses =
            |patterns: &[Pattern], text: &[u8]| !patterns.is_empty() && !patterns.iter().any(|one| one.matches(text));
        if !self.times.is_empty() && !self.times.holds(asked.moment) {
            return Some(Fails::Time);
        }
        if misses(&self.clients, asked.client.as_bytes()) {
            return Some(Fails::Client);
        }
        if !self.tags.is_empty() && asked.tags.iter().all(|tag| misses(&self.tags, tag.as_bytes())) {
            return Some(Fails::Tag);
        }
        if misses(&self.users, asked.user) {
            return Some(Fails::User);
        }
        let holds = |one: &&Condition| one.holds(asked.packet, asked.dictionary);
        if let Some(one) = self.wanted.iter().find(|one| !holds(one)) {
            return Some(Fails::Match(one));
        }
        if let Some(one) = self.refused.iter().find(holds) {
            return Some(Fails::Not(one));
        }
        let is_outside = !self.groups.is_empty() && !self.groups.iter().any(|group| is_in(group));
        if is_outside {
            return Some(Fails::Group);
        }
        let inside = self.not_groups.iter().find(|group| is_in(group));
        inside.map(|group| Fails::NotGroup(group))
    }
}
