//! What modules ask, and who answers: what the request brought, else the caller.
//!
//! - `authenticate`: the first hidden prompt gets the password, and so does one with the same text (two modules that each ask
//!   for it); everything else is asked of the caller.
//! - `change-password`: a prompt that speaks of a new password, or of repeating, confirming or retyping one, gets the new one; another hidden
//!   prompt the old one.
//! - What is only told is kept for the answer's `message`, and put before the next question.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::backend::{NoAnswer, Prompt, Step, Style, Talk};
use crate::{Caller, CannotAsk};

/// Most prompts in one call: a module that never stops asking is stopped.
const PROMPTS_MAX: usize = 64;
/// Most that is kept of what modules tell.
const MESSAGE_BYTES_MAX: usize = 1024;

/// The passwords that a request brought.
pub(super) enum Brought<'a> {
    /// None.
    Nothing,
    /// One to be checked.
    Password(&'a str),
    /// One to be changed.
    Change {
        /// That holds.
        old: &'a str,
        /// That is wanted.
        new: &'a str,
    },
}

/// Why a question had no answer.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Unanswered {
    /// The caller cannot be asked this.
    Unable(String),
    /// The caller's input is not what it should be.
    Malformed,
    /// The caller has gone.
    Gone,
    /// The modules ask without end.
    Endless,
}

/// One call's conversation.
pub(super) struct Conversation<'a> {
    brought: Brought<'a>,
    caller: &'a mut dyn Caller,
    /// The prompt that got the password.
    answered: Option<String>,
    /// What was told, and how much of it the caller has not yet seen with a question.
    told: Vec<Prompt>,
    unseen: usize,
    prompts: usize,
    pub(super) unanswered: Option<Unanswered>,
}

#[derive(Serialize)]
struct Question<'a> {
    prompts: Vec<Asked<'a>>,
}

#[derive(Serialize)]
struct Asked<'a> {
    style: &'static str,
    text: &'a str,
}

#[derive(Deserialize)]
struct Input {
    answers: Vec<Option<Zeroizing<String>>>,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(brought: Brought<'a>, caller: &'a mut dyn Caller) -> Self {
        Conversation {
            brought,
            caller,
            answered: None,
            told: Vec::new(),
            unseen: 0,
            prompts: 0,
            unanswered: None,
        }
    }

    /// What the modules told, for people.
    pub(super) fn message(&self) -> String {
        let mut message = String::new();
        for prompt in &self.told {
            if message.len() + prompt.text.len() > MESSAGE_BYTES_MAX {
                break;
            }
            if !message.is_empty() {
                message.push('\n');
            }
            message.push_str(prompt.text.trim_end());
        }
        message
    }

    /// What the request brought for this prompt.
    fn brought(&mut self, step: Step, prompt: &Prompt) -> Option<Zeroizing<String>> {
        match (&self.brought, step, prompt.style) {
            (Brought::Password(password), Step::Authenticate, Style::Hidden) => {
                let same = self.answered.as_ref().is_none_or(|text| *text == prompt.text);
                same.then(|| {
                    self.answered = Some(prompt.text.clone());
                    Zeroizing::new((*password).to_owned())
                })
            }
            (Brought::Change { old, .. }, Step::Authenticate, Style::Hidden) => Some(Zeroizing::new((*old).to_owned())),
            (Brought::Change { old, new }, Step::ChangePassword, Style::Hidden) => {
                let text = prompt.text.to_lowercase();
                let is_new = ["new", "retype", "again", "confirm", "repeat", "re-enter"]
                    .iter()
                    .any(|word| text.contains(word));
                Some(Zeroizing::new(if is_new { *new } else { *old }.to_owned()))
            }
            _ => None,
        }
    }

    /// Asks the caller those of `prompts` that nobody has answered.
    fn ask(&mut self, prompts: &[Prompt], answers: &mut [Option<Zeroizing<String>>]) -> Result<(), Unanswered> {
        let open: Vec<usize> = (0..prompts.len())
            .filter(|at| {
                let question = prompts.get(*at).is_some_and(Prompt::is_question);
                question && answers.get(*at).is_some_and(Option::is_none)
            })
            .collect();
        let Some(first) = open.first().and_then(|at| prompts.get(*at)) else {
            return Ok(());
        };
        let seen = self.told.len().saturating_sub(self.unseen);
        let before = self.told.get(seen..).unwrap_or_default();
        let asked = before.iter().chain(open.iter().filter_map(|at| prompts.get(*at)));
        let question = Question {
            prompts: asked
                .map(|prompt| Asked {
                    style: prompt.style.word(),
                    text: &prompt.text,
                })
                .collect(),
        };
        let payload = serde_json::to_vec(&question).map_err(|_| Unanswered::Malformed)?;
        let input = match self.caller.ask(&payload) {
            Ok(input) => Zeroizing::new(input),
            Err(CannotAsk::Unable) => return Err(Unanswered::Unable(first.text.trim_end().to_owned())),
            Err(CannotAsk::Gone) => return Err(Unanswered::Gone),
        };
        let input: Input = serde_json::from_slice(&input).map_err(|_| Unanswered::Malformed)?;
        if input.answers.len() != question.prompts.len() {
            return Err(Unanswered::Malformed);
        }
        for (at, answer) in open.iter().zip(input.answers.into_iter().skip(before.len())) {
            let answer = answer
                .filter(|text| !text.contains('\0'))
                .ok_or(Unanswered::Malformed)?;
            if let Some(place) = answers.get_mut(*at) {
                *place = Some(answer);
            }
        }
        self.unseen = 0;
        Ok(())
    }
}

impl Talk for Conversation<'_> {
    fn answer(&mut self, step: Step, prompts: &[Prompt]) -> Result<Vec<Option<Zeroizing<String>>>, NoAnswer> {
        self.prompts += prompts.len();
        if self.prompts > PROMPTS_MAX {
            self.unanswered = Some(Unanswered::Endless);
            return Err(NoAnswer);
        }
        let mut answers = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            if prompt.is_question() {
                answers.push(self.brought(step, prompt));
            } else {
                self.told.push(prompt.clone());
                self.unseen += 1;
                answers.push(None);
            }
        }
        match self.ask(prompts, &mut answers) {
            Ok(()) => Ok(answers),
            Err(why) => {
                self.unanswered = Some(why);
                Err(NoAnswer)
            }
        }
    }
}

impl Prompt {
    fn is_question(&self) -> bool {
        matches!(self.style, Style::Hidden | Style::Visible)
    }
}

impl Style {
    /// In the contract's words.
    fn word(self) -> &'static str {
        match self {
            Style::Hidden => "hidden",
            Style::Visible => "visible",
            Style::Info => "info",
            Style::Error => "error",
        }
    }
}
