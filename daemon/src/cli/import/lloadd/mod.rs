//! `usherd import lloadd`: a configuration of OpenLDAP's load balancer in our own form.
//!
//! One rule decides how what has no counterpart is told: where nobody is the worse for its absence it is a notice, where
//! somebody would be let in, or an operation would end otherwise, a fault, and the command ends with 1.

mod bindconf;
mod decide;
mod lex;
mod listeners;
mod model;
mod sasl;
mod servers;
mod settings;
mod told;
mod write;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use self::model::Model;
use self::told::{At, Told};
use self::write::Body;
use super::super::{print, say, show};
use super::write::Files;
use crate::config;

/// `usherd import lloadd`.
#[derive(Args, Debug)]
pub struct Lloadd {
    /// Its configuration, lloadd.conf
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Where it listens: what it is given with -h; without, what the file says, else every address
    #[arg(long, value_name = "URLS")]
    listen: Option<String>,
    /// The file to write; the password of bindconf goes beside it, its name ending in .password. Without it, standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The control socket that is written into it
    #[arg(long, value_name = "PATH")]
    control: Option<String>,
    /// Replace files that are there
    #[arg(long, requires = "out")]
    force: bool,
}

impl Lloadd {
    /// Does it.
    pub fn run(&self) -> Result<ExitCode, String> {
        let file = self.file.display().to_string();
        let mut told = Told::default();
        let mut model = Model::default();
        for line in lex::read(&self.file, &mut told)? {
            settings::take(&mut model, &line, &mut told);
        }
        let (urls, at) = match (&self.listen, &model.urls) {
            (Some(urls), _) => (Some(urls.clone()), None),
            (None, Some((urls, at))) => (Some(urls.clone()), Some(at.clone())),
            (None, None) => (None, None),
        };
        let listeners = listeners::listeners(urls.as_deref(), at.as_ref(), &mut told);
        let body = write::body(&mut model, &listeners, self.control.as_deref(), &file, &mut told);
        if model.tiers.iter().all(|tier| tier.servers.is_empty()) {
            let nowhere = At {
                file: file.as_str().into(),
                line: 0,
            };
            told.fault(&nowhere, "there is no backend-server", "at least one");
        }
        let is_right = match &self.out {
            Some(out) => self.write(out, &file, &model, &body, &told)?,
            None => {
                print(body.text(&file, "usherd.password", &told).as_bytes())?;
                if body.has_password {
                    say(
                        "usherd: the password of bindconf is not shown: write it into usherd.password, or give --out FILE",
                    );
                }
                true
            }
        };
        for fault in told.faults.iter().chain(&told.notices) {
            say(&format!("usherd: {fault}"));
        }
        if told.faults.is_empty() && is_right {
            return Ok(ExitCode::SUCCESS);
        }
        say("usherd: not everything could be translated; what is missing is named above, and in what was written");
        Ok(ExitCode::FAILURE)
    }

    /// Writes all files, or none. Whether the daemon would start with them.
    fn write(&self, out: &Path, file: &str, model: &Model, body: &Body, told: &Told) -> Result<bool, String> {
        let is_name = |name: &&str| !name.is_empty();
        let name = out.file_name().and_then(|name| name.to_str()).filter(is_name);
        let name = name.ok_or_else(|| format!("--out {}: this is no name of a file", out.display()))?;
        let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let secret = format!("{}.password", name.strip_suffix(".toml").unwrap_or(name));
        let mut files = Files::new(folder, self.force)?;
        // What is checked names the file with the password as long as that has not got its name.
        let mut beside = secret.clone();
        if let Some(password) = model.bind.password.as_ref().filter(|_| body.has_password) {
            let line = zeroize::Zeroizing::new([password.as_bytes(), b"\n"].concat());
            beside = files.put(&secret, &line)?.display().to_string();
        }
        files.put(name, body.text(file, &secret, told).as_bytes())?;
        let checked = config::from_text(&body.text(file, &beside, told), out);
        for path in files.finish()? {
            say(&format!("usherd: wrote {}", path.display()));
        }
        let is_right = checked.is_ok();
        let found = match checked {
            Ok((_, doubts)) => doubts,
            Err(found) => found,
        };
        show(&found);
        Ok(is_right)
    }
}

#[cfg(test)]
mod tests;
