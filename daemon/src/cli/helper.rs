//! `usherd helper NAME`: a built-in helper, as the daemon starts it; by hand, one call at a time with `--call`.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use helpers::pam::{self, Pam};
use helpers::winbind::{self, Winbind};
use helpers::{Caller, CannotAsk, CannotStart, Reply};
use usherd_sdk::helper as sdk;
use zeroize::Zeroizing;

/// The built-in helpers.
#[derive(Debug, Subcommand)]
pub enum Helper {
    /// Users, groups and passwords of Windows domains, asked of Samba's winbindd
    Winbind(WinbindArgs),
    /// Passwords, accounts and sessions, asked of PAM
    Pam(PamArgs),
    /// Named statements on MySQL or MariaDB
    Sql(super::helper_sql::SqlArgs),
}

/// How a helper is tried by hand.
#[derive(Args, Debug)]
pub struct ByHand {
    /// Answer this one request on standard output, and end; `-` reads it from standard input
    #[arg(long, value_name = "JSON", help_heading = "By hand")]
    pub call: Option<String>,
}

/// `usherd helper winbind`.
#[derive(Args, Debug)]
pub struct WinbindArgs {
    /// The domain of names that say none
    #[arg(long, value_name = "NAME")]
    pub domain: Option<String>,
    /// Give names of that domain without it
    #[arg(long)]
    pub use_default_domain: bool,
    /// A group (SID or name) that may log on; without any, all users may
    #[arg(long, value_name = "GROUP")]
    pub require_membership: Vec<String>,
    /// Entries in one page of a listing
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub page_entries: u32,
    /// Tell about passwords that expire sooner than this
    #[arg(long, value_name = "DURATION", default_value = "14d", value_parser = super::duration)]
    pub password_warning: Duration,
    /// By hand.
    #[command(flatten)]
    pub by_hand: ByHand,
}

/// `usherd helper pam`.
#[derive(Args, Debug)]
pub struct PamArgs {
    /// The PAM service of requests that name none
    #[arg(long, value_name = "NAME", default_value = "login")]
    pub service: String,
    /// A PAM service that requests may name; without any, all get the one above
    #[arg(long, value_name = "NAME")]
    pub allow: Vec<String>,
    /// By hand.
    #[command(flatten)]
    pub by_hand: ByHand,
}

/// Serves, or answers one call.
pub(super) fn run(helper: &Helper) -> Result<ExitCode, String> {
    match helper {
        Helper::Winbind(args) => serve("winbind", &args.by_hand, || {
            let mut helper = Winbind::new(winbind_options(args), winbind::Library::load()?);
            Ok(move |payload: &[u8], caller: &mut dyn Caller| helper.call(payload, caller))
        }),
        Helper::Pam(args) => serve("pam", &args.by_hand, || {
            let options = pam::Options {
                service: args.service.clone(),
                services: args.allow.clone(),
            };
            let mut helper = Pam::new(options, pam::Library::load()?);
            Ok(move |payload: &[u8], caller: &mut dyn Caller| helper.call(payload, caller))
        }),
        Helper::Sql(args) => super::helper_sql::run(args),
    }
}

fn winbind_options(args: &WinbindArgs) -> winbind::Options {
    winbind::Options {
        domain: args.domain.clone(),
        use_default_domain: args.use_default_domain,
        require_membership: args.require_membership.clone(),
        page_entries: usize::try_from(args.page_entries).unwrap_or(500),
        password_warning: args.password_warning,
    }
}

/// A helper for the daemon whose socket is standard input, or for one call.
fn serve<C: FnMut(&[u8], &mut dyn Caller) -> Reply>(
    name: &str,
    by_hand: &ByHand,
    make: impl FnOnce() -> Result<C, CannotStart>,
) -> Result<ExitCode, String> {
    if let Some(request) = &by_hand.call {
        let request = super::call::payload(request)?;
        let mut call = make().map_err(|error| error.to_string())?;
        return match call(&request, &mut Terminal) {
            Reply::Answer(answer) => super::print(&[&answer, b"\n".as_slice()].concat()).map(|()| ExitCode::SUCCESS),
            Reply::Interrupted => Err("interrupted".into()),
        };
    }
    let daemon = match sdk::Helper::connect() {
        Ok(daemon) => daemon,
        Err(sdk::Error::NotStartedByUsherd) => {
            return Err(format!(
                "this is the helper `{name}`: the daemon starts it for a service with helper = \"{name}\", with a socket as \
                 its standard input. By hand: usherd helper {name} --call '{{\"do\":\"ping\"}}'"
            ));
        }
        Err(error) => return Err(error.to_string()),
    };
    let mut call = match make() {
        Ok(call) => call,
        Err(CannotStart(why)) => return Err(daemon.unable(&why).to_string()),
    };
    let software = format!("{name}/{}", env!("CARGO_PKG_VERSION"));
    let served = daemon.serve(&software, |from| {
        let mut caller = Asked::new(from);
        // Wiped when it is dropped, and asked about by nobody while the call is open.
        let request = Zeroizing::new(caller.0.payload().to_vec());
        match call(&request, &mut caller) {
            Reply::Answer(answer) => Ok(answer),
            Reply::Interrupted => Err(sdk::Failure::new(sdk::CODE_FAILED, "interrupted")),
        }
    });
    served.map(|()| ExitCode::SUCCESS).map_err(|error| error.to_string())
}

/// Whoever made a call of the daemon.
struct Asked<'c, 'h>(&'c mut sdk::Call<'h>);

impl<'c, 'h> Asked<'c, 'h> {
    fn new(call: &'c mut sdk::Call<'h>) -> Self {
        Self(call)
    }
}

impl Caller for Asked<'_, '_> {
    fn ask(&mut self, payload: &[u8]) -> Result<Vec<u8>, CannotAsk> {
        match self.0.ask(payload) {
            // What a caller sends who has no answer to any question (docs/identity-calls.md).
            Ok(input) if input.is_empty() => Err(CannotAsk::Unable),
            Ok(mut input) => Ok(std::mem::take(&mut *input)),
            Err(sdk::Stop::TooLarge) => Err(CannotAsk::Unable),
            Err(_) => Err(CannotAsk::Gone),
        }
    }

    fn interrupted(&mut self) -> bool {
        self.0.interrupted()
    }
}

/// A person at a terminal, who can be asked.
struct Terminal;

impl Caller for Terminal {
    fn ask(&mut self, payload: &[u8]) -> Result<Vec<u8>, CannotAsk> {
        let mut input = super::call::ask_person(payload);
        if input.is_empty() {
            return Err(CannotAsk::Unable);
        }
        Ok(std::mem::take(&mut *input))
    }

    fn interrupted(&mut self) -> bool {
        false
    }
}
