//! `usherd helper sql`: serves calls, or answers one by hand, with the statements of a configuration file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use helpers::sql;
use helpers::sql::database::Database;
use helpers::sql::settings::Settings;

use crate::config;
use crate::config::plan::{Builtin, ServiceKind};

/// `usherd helper sql`.
#[derive(Args, Debug)]
pub struct SqlArgs {
    /// Database and statements, as the daemon hands them over
    #[arg(long, value_name = "JSON", conflicts_with_all = ["config", "service"])]
    pub settings: Option<String>,
    /// Take them from this configuration file instead
    #[arg(short, long, value_name = "FILE", default_value = super::CONFIG_DEFAULT, help_heading = "By hand")]
    pub config: PathBuf,
    /// The service of that file whose statements are meant
    #[arg(long, value_name = "NAME", requires = "call", help_heading = "By hand")]
    pub service: Option<String>,
    /// Answer this one request on standard output, and end; `-` reads it from standard input
    #[arg(long, value_name = "JSON", help_heading = "By hand")]
    pub call: Option<String>,
}

/// Serves, or answers one call.
pub(super) fn run(args: &SqlArgs) -> Result<ExitCode, String> {
    let settings = match (&args.settings, &args.service) {
        (Some(text), _) => text.clone(),
        (None, Some(service)) => settings_of(&args.config, service)?,
        (None, None) => {
            return Err("this is the helper `sql`: the daemon starts it for a service with helper = \"sql\", with a socket as \
                        its standard input. By hand: usherd helper sql -c FILE --service NAME --call '{\"do\":\"ping\"}'"
                .to_owned());
        }
    };
    let settings: Settings = serde_json::from_str(&settings).map_err(|error| format!("--settings: {error}"))?;
    let Some(request) = &args.call else {
        return sql::serve(settings)
            .map(|()| ExitCode::SUCCESS)
            .map_err(|error| error.to_string());
    };
    let request = super::call::payload(request)?;
    let answer = Database::new(settings).answer(&request);
    super::print(&answer)?;
    super::print(b"\n").map(|()| ExitCode::SUCCESS)
}

/// What the daemon would hand to the helpers of this service.
fn settings_of(file: &Path, name: &str) -> Result<String, String> {
    let (plan, _) = config::load(file).map_err(|found| config::render(&found, false))?;
    let service = plan
        .services
        .get(name)
        .ok_or_else(|| format!("{} has no service `{name}`", file.display()))?;
    let is_sql = matches!(
        service.kind,
        ServiceKind::Helper {
            builtin: Some(Builtin::Sql),
            ..
        }
    );
    let settings = service.program.last().filter(|_| is_sql);
    settings
        .cloned()
        .ok_or_else(|| format!("the service `{name}` is not one with helper = \"sql\""))
}
