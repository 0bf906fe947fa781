//! What PAM is asked, in our own words: the pure part speaks to this, and so can be tested without PAM.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

/// PAM, asked one transaction at a time.
pub trait Backend {
    /// Begins a transaction, makes its steps until one fails, and ends it. Every prompt goes through `talk`.
    fn transact(&mut self, transaction: &Transaction<'_>, talk: &mut dyn Talk) -> Outcome;
}

/// Answers what modules ask.
pub trait Talk {
    /// One answer for each prompt, none for those that only tell something.
    ///
    /// # Errors
    ///
    /// Nobody can answer: the step fails.
    fn answer(&mut self, step: Step, prompts: &[Prompt]) -> Result<Vec<Option<Zeroizing<String>>>, NoAnswer>;
}

/// Nobody can answer a prompt.
#[derive(PartialEq, Eq, Debug)]
pub struct NoAnswer;

/// One transaction. No text in it has a zero byte.
#[derive(Debug)]
pub struct Transaction<'a> {
    /// The PAM service: which file of `/etc/pam.d` is followed.
    pub service: &'a str,
    /// Who.
    pub user: &'a str,
    /// `PAM_RHOST`.
    pub host: Option<&'a str>,
    /// `PAM_TTY`.
    pub tty: Option<&'a str>,
    /// `PAM_RUSER`.
    pub remote_user: Option<&'a str>,
    /// What is done, in this order.
    pub steps: &'a [Step],
}

/// What can be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// `pam_authenticate`.
    Authenticate,
    /// `pam_acct_mgmt`.
    Account,
    /// `pam_acct_mgmt`, where a password that must be changed is no obstacle.
    AccountToChange,
    /// `pam_chauthtok`.
    ChangePassword,
    /// `pam_open_session`; what modules keep for its close stays when the transaction ends.
    OpenSession,
    /// `pam_close_session`.
    CloseSession,
}

/// What a module says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prompt {
    /// How.
    pub style: Style,
    /// Its text, cut at 1,024 bytes.
    pub text: String,
}

/// How a module says something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    /// A question whose answer is not shown.
    Hidden,
    /// A question whose answer is shown.
    Visible,
    /// Something to be shown.
    Info,
    /// An error to be shown.
    Error,
}

/// How a transaction went.
#[derive(Default, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The step that failed, with PAM's code and text; none: all is done.
    pub failed: Option<Failed>,
    /// The user's name as the modules left it.
    pub user: Option<String>,
    /// The environment that the modules made.
    pub environment: BTreeMap<String, String>,
}

/// A failure.
#[derive(PartialEq, Eq, Debug)]
pub struct Failed {
    /// None: the transaction could not begin.
    pub step: Option<Step>,
    /// PAM's return code.
    pub code: i32,
    /// For people.
    pub text: String,
}
