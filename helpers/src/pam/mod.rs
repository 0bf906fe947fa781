//! `pam`: whatever PAM is configured to ask: passwords, accounts, sessions, with conversations of any length.
//!
//! [`Pam`] is the pure part: a request becomes steps of one PAM transaction, and what came of them an answer. [`Library`] is the backend that
//! asks libpam.
//!
//! - `change-password` authenticates first, always: a helper that runs as root could otherwise change any password without
//!   knowing the old one, because modules trust root.
//! - A session is opened in one transaction and closed in another one, perhaps in another helper: what modules keep in the
//!   process does not last, what they record outside of it does. Credentials are not set: they would be the helper's.
//! - Which file of `/etc/pam.d` is followed is the administrator's choice, not the caller's: see [`Options::services`].

mod backend;
mod conversation;
mod ffi;
mod status;
#[cfg(test)]
mod tests;

pub use self::backend::{Backend, Failed, NoAnswer, Outcome, Prompt, Step, Style, Talk, Transaction};
use self::conversation::{Brought, Conversation, Unanswered};
pub use self::ffi::Library;
use crate::identity::{Answer, Body, Invalid, Place, Refusal, Request, Status, Subject, read};
use crate::{Caller, Reply};

/// What PAM takes as an answer: `PAM_MAX_RESP_SIZE` with its final zero.
const PASSWORD_BYTES_MAX: usize = 511;

/// The settings of `[service.NAME.pam]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The PAM service of requests that name none.
    pub service: String,
    /// PAM services that a request may name; another one is refused. Empty: all requests get `service`, whatever they name.
    pub services: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            service: "login".to_owned(),
            services: Vec::new(),
        }
    }
}

/// The helper: settings and a backend.
pub struct Pam<B> {
    options: Options,
    backend: B,
}

/// A transaction that did not get what was asked.
enum Not {
    Done(Refusal),
    Wanted,
}

impl From<Refusal> for Not {
    fn from(refusal: Refusal) -> Not {
        Not::Done(refusal)
    }
}

impl<B: Backend> Pam<B> {
    /// A helper that has asked nothing yet.
    pub fn new(options: Options, backend: B) -> Self {
        Pam { options, backend }
    }

    /// Answers one call.
    pub fn call(&mut self, payload: &[u8], caller: &mut dyn Caller) -> Reply {
        let answer = match read(payload) {
            Ok(request) => self.attempt(request, caller),
            Err(Invalid(why)) => Err(Refusal::new(Status::Invalid, why).into()),
        };
        if caller.interrupted() {
            return Reply::Interrupted;
        }
        match answer {
            Ok(answer) => Reply::Answer(answer.to_json()),
            Err(Not::Done(refusal)) => Reply::Answer(Answer::from(refusal).to_json()),
            Err(Not::Wanted) => Reply::Interrupted,
        }
    }

    fn attempt(&mut self, request: Request, caller: &mut dyn Caller) -> Result<Answer, Not> {
        match request {
            Request::Authenticate(login) => {
                let brought = match &login.password {
                    Some(password) => Brought::Password(bounded(password, "password")?),
                    None => Brought::Nothing,
                };
                let steps = [Step::Authenticate, Step::Account];
                let (outcome, message) = self.transact(&login.subject, &steps, brought, caller)?;
                let body = Body::Authenticated {
                    name: outcome.user.or(Some(login.subject.name)),
                    sid: None,
                    session_key: None,
                    lm_key: None,
                };
                Ok(Answer::ok(body).saying(message))
            }
            Request::Account(subject) => {
                let (_, message) = self.transact(&subject, &[Step::Account], Brought::Nothing, caller)?;
                Ok(Answer::ok(Body::Nothing {}).saying(message))
            }
            Request::ChangePassword(change) => {
                let brought = Brought::Change {
                    old: bounded(&change.old, "old_password")?,
                    new: bounded(&change.new, "new_password")?,
                };
                let steps = [Step::Authenticate, Step::AccountToChange, Step::ChangePassword];
                let subject = Subject {
                    name: change.name,
                    place: change.place,
                };
                let (_, message) = self.transact(&subject, &steps, brought, caller)?;
                Ok(Answer::ok(Body::Nothing {}).saying(message))
            }
            Request::OpenSession(subject) => {
                let session = self.service(&subject.place)?;
                let (outcome, message) = self.transact(&subject, &[Step::OpenSession], Brought::Nothing, caller)?;
                let body = Body::Session {
                    session,
                    environment: outcome.environment,
                };
                Ok(Answer::ok(body).saying(message))
            }
            Request::CloseSession { subject, session } => {
                if session != self.service(&subject.place)? {
                    return Err(Refusal::new(Status::Invalid, "`session` is not what `open-session` answered").into());
                }
                let (_, message) = self.transact(&subject, &[Step::CloseSession], Brought::Nothing, caller)?;
                Ok(Answer::ok(Body::Nothing {}).saying(message))
            }
            // PAM cannot be asked without a user: that the library is there is all that can be said.
            Request::Ping { domain: None } => Ok(Answer::ok(Body::Nothing {})),
            _ => Err(Refusal::new(Status::Unsupported, "PAM cannot do that").into()),
        }
    }

    /// Makes the steps; all done, or why not.
    fn transact(
        &mut self,
        subject: &Subject,
        steps: &[Step],
        brought: Brought<'_>,
        caller: &mut dyn Caller,
    ) -> Result<(Outcome, String), Not> {
        let service = self.service(&subject.place)?;
        let transaction = Transaction {
            service: &service,
            user: &subject.name,
            host: subject.place.host.as_deref(),
            tty: subject.place.tty.as_deref(),
            remote_user: subject.place.user.as_deref(),
            steps,
        };
        let mut conversation = Conversation::new(brought, caller);
        let outcome = self.backend.transact(&transaction, &mut conversation);
        let message = conversation.message();
        let Some(failed) = &outcome.failed else {
            return Ok((outcome, message));
        };
        Err(match conversation.unanswered {
            Some(Unanswered::Gone) => Not::Wanted,
            Some(Unanswered::Malformed) => {
                Refusal::new(Status::Invalid, "the input is not {\"answers\": [one for each prompt]}").into()
            }
            Some(Unanswered::Unable(question)) => {
                let why = format!("the caller cannot be asked, and PAM wants to know: {question}");
                Refusal::new(Status::Denied, why).into()
            }
            Some(Unanswered::Endless) => Refusal::new(Status::Denied, "PAM's questions have no end").into(),
            None => {
                let mut refusal = status::refusal(failed);
                if !message.is_empty() {
                    refusal.message = format!("{}: {message}", refusal.message);
                }
                refusal.into()
            }
        })
    }

    /// The PAM service of a request.
    fn service(&self, place: &Place) -> Result<String, Refusal> {
        match &place.service {
            Some(named) if !self.options.services.is_empty() => {
                if self.options.services.contains(named) || *named == self.options.service {
                    return Ok(named.clone());
                }
                let named = named.escape_debug();
                Err(Refusal::new(
                    Status::Restricted,
                    format!("the PAM service `{named}` may not be asked here: `services` does not name it"),
                ))
            }
            _ => Ok(self.options.service.clone()),
        }
    }
}

fn bounded<'a>(password: &'a str, what: &str) -> Result<&'a str, Refusal> {
    if password.len() > PASSWORD_BYTES_MAX {
        let why = format!("`{what}` has more than {PASSWORD_BYTES_MAX} bytes, which PAM does not take");
        return Err(Refusal::new(Status::Invalid, why));
    }
    Ok(password)
}
