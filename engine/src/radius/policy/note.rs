//! Why a rule holds or does not, for people: nothing is put into words unless somebody reads it.

use std::fmt;

use super::condition::Condition;
use super::{Asked, Round, Rule};

/// A rule that was looked at.
#[derive(Clone, Copy, Debug)]
pub struct Note<'n> {
    /// Which.
    pub rule: &'n Rule,
    /// When.
    pub round: Round,
    /// The first of its conditions that does not hold; none: all do.
    pub fails: Option<Fails<'n>>,
    pub(super) asked: &'n Asked<'n>,
}

/// A condition that does not hold.
#[derive(Clone, Copy, Debug)]
pub enum Fails<'n> {
    /// `time`
    Time,
    /// `client`
    Client,
    /// `tag`
    Tag,
    /// `user`
    User,
    /// `match`
    Match(&'n Condition),
    /// `not`
    Not(&'n Condition),
    /// `group`
    Group,
    /// `not_group`: the user is in this one
    NotGroup(&'n str),
}

impl fmt::Display for Note<'_> {
    /// `guests: no, NAS-Port is 77, and not 1-48`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rule, asked) = (self.rule, self.asked);
        write!(f, "{}: ", rule.name)?;
        let Some(fails) = self.fails else {
            return f.write_str("holds");
        };
        f.write_str("no, ")?;
        match fails {
            Fails::Time => write!(f, "it is {}, and not {}", asked.moment, rule.times),
            Fails::Client => write!(f, "the client is {}, and not {}", asked.client, Or(&rule.clients)),
            Fails::Tag if asked.tags.is_empty() => write!(f, "the client has no tag, and not {}", Or(&rule.tags)),
            Fails::Tag => write!(
                f,
                "the client's tags are {}, and not {}",
                Or(asked.tags),
                Or(&rule.tags)
            ),
            Fails::User => {
                write!(
                    f,
                    "the user is {}, and not {}",
                    asked.user.escape_ascii(),
                    Or(&rule.users)
                )
            }
            Fails::Match(condition) => {
                write!(f, "asked is {condition}; it ")?;
                condition.show_found(f, asked.packet, asked.dictionary)
            }
            Fails::Not(condition) => {
                write!(f, "refused is {condition}; it ")?;
                condition.show_found(f, asked.packet, asked.dictionary)
            }
            Fails::Group => write!(f, "the user is not in {}", Or(&rule.groups)),
            Fails::NotGroup(group) => write!(f, "the user is in {group}"),
        }
    }
}

/// `a, b or c`.
struct Or<'n, T>(&'n [T]);

impl<T: fmt::Display> fmt::Display for Or<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, one) in self.0.iter().enumerate() {
            let between = match at {
                0 => "",
                at if at + 1 == self.0.len() => " or ",
                _ => ", ",
            };
            write!(f, "{between}{one}")?;
        }
        Ok(())
    }
}
