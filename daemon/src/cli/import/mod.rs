//! `usherd import …`: what somebody has for another program, in our own form.
//!
//! Files are whole or not there: all are written beside their places, read back, and only then given their names.

mod clients;
mod lloadd;
mod text;
mod users;
mod write;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use wire::radius::Dictionary;
use wire::radius::dictionary::Fault;
use zeroize::Zeroizing;

use self::lloadd::Lloadd;
use self::write::Files;
use super::{print, say, show};
use crate::config::diagnostic::{At, Place, Problems};
use crate::config::files::{Folder, plain};
use crate::config::radius;

/// `usherd import …`.
#[derive(Debug, Subcommand)]
pub enum Import {
    /// Translate the clients and users of a FreeRADIUS 3
    ///
    /// What has no meaning here is named with its file and line, on standard error and in what is written. Exit code 0: all has its
    /// counterpart, or changes nothing where it is left out; 1: something is missing, or nothing was written.
    #[command(after_help = "Examples:
  usherd import freeradius --clients /etc/freeradius/3.0/clients.conf --users /etc/freeradius/3.0/users --out /etc/usherd
  usherd import freeradius --users users")]
    Freeradius(Freeradius),
    /// Translate the configuration of OpenLDAP's lloadd
    ///
    /// What has no meaning here is named with its file and line, on standard error and in what is written. Exit code 0: all has its
    /// counterpart, or nobody is the worse for its absence; 1: something is missing, or nothing was written.
    #[command(after_help = "Examples:
  usherd import lloadd /etc/ldap/lloadd.conf --listen 'ldap:/// ldaps:///' --out /etc/usherd/usherd.toml
  usherd import lloadd lloadd.conf")]
    Lloadd(Lloadd),
}

impl Import {
    /// Does it.
    pub fn run(&self) -> Result<ExitCode, String> {
        match self {
            Import::Freeradius(args) => args.run(),
            Import::Lloadd(args) => args.run(),
        }
    }
}

/// `usherd import freeradius`.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["clients", "users"]))]
pub struct Freeradius {
    /// Its clients.conf
    #[arg(long, value_name = "FILE")]
    clients: Option<PathBuf>,
    /// Its users file, mods-config/files/authorize
    #[arg(long, value_name = "FILE")]
    users: Option<PathBuf>,
    /// A dictionary of its own, on top of the one that is built in; may be given several times
    #[arg(long, value_name = "FILE")]
    dictionary: Vec<PathBuf>,
    /// The folder for clients.toml, users.toml and, where both are given, usherd.toml; without it, what is asked for goes to
    /// standard output, and only one may be
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace files that are there
    #[arg(long, requires = "out")]
    force: bool,
}

/// A translation.
struct Translated {
    /// Our form.
    text: Zeroizing<String>,
    /// What is missing in it.
    faults: Vec<Fault>,
    /// What was left out, and changes nothing.
    notices: Vec<Fault>,
}

impl Freeradius {
    fn run(&self) -> Result<ExitCode, String> {
        if self.clients.is_some() && self.users.is_some() && self.out.is_none() {
            say("usherd: two files do not go to standard output; give --out DIR, or only one of --clients and --users");
            return Ok(ExitCode::from(2));
        }
        for path in self.clients.iter().chain(&self.users) {
            let opened = std::fs::File::open(path);
            opened.map_err(|error| format!("{} cannot be read: {}", path.display(), plain(&error)))?;
        }
        let mut problems = Problems::new(None);
        let here = Folder::new(Path::new(""));
        let files: Vec<At<String>> = self.dictionary.iter().map(|path| at(path)).collect();
        let Some(dictionary) = radius::sources::dictionary(&mut problems, &here, &files) else {
            return Ok(refused(problems));
        };
        let clients = self.clients.as_deref().map(|path| clients::translate(&shown(path)));
        let users = self
            .users
            .as_deref()
            .map(|path| users::translate(&shown(path), &dictionary));
        let mut is_whole = true;
        for translated in clients.iter().chain(&users) {
            for fault in translated.faults.iter().chain(&translated.notices) {
                say(&format!("usherd: {fault}"));
            }
            is_whole &= translated.faults.is_empty();
        }
        match &self.out {
            None => {
                let one = clients.or(users).ok_or("nothing to translate")?;
                print(one.text.as_bytes())?;
            }
            Some(folder) => {
                if let Some(code) = self.write(folder, clients, users, &dictionary)? {
                    return Ok(code);
                }
            }
        }
        if is_whole {
            return Ok(ExitCode::SUCCESS);
        }
        say("usherd: not everything could be translated; what is missing is named above, and in what was written");
        Ok(ExitCode::FAILURE)
    }

    /// Writes all files, or none. A code: none was, and why was told.
    fn write(
        &self,
        folder: &Path,
        clients: Option<Translated>,
        users: Option<Translated>,
        dictionary: &Arc<Dictionary>,
    ) -> Result<Option<ExitCode>, String> {
        let mut files = Files::new(folder, self.force)?;
        let is_both = clients.is_some() && users.is_some();
        let mut problems = Problems::new(None);
        let within = Folder::new(folder);
        let mut is_right = true;
        if let Some(clients) = clients {
            let beside = files.put("clients.toml", clients.text.as_bytes())?;
            is_right &= radius::clients::clients(&mut problems, &within, &at(&beside)).is_some();
        }
        if let Some(users) = users {
            let beside = files.put("users.toml", users.text.as_bytes())?;
            is_right &= radius::users::users(&mut problems, &within, &at(&beside), dictionary).is_some();
        }
        if !is_right {
            return Ok(Some(refused(problems)));
        }
        if is_both {
            let dictionaries = self.dictionary.iter().map(std::path::absolute);
            let dictionaries: Result<Vec<PathBuf>, _> = dictionaries.collect();
            let dictionaries = dictionaries.map_err(|error| format!("the dictionary: {error}"))?;
            files.put("usherd.toml", text::configuration(&dictionaries).as_bytes())?;
        }
        for path in files.finish()? {
            say(&format!("usherd: wrote {}", path.display()));
        }
        Ok(None)
    }
}

fn refused(problems: Problems) -> ExitCode {
    show(&problems.into_list());
    ExitCode::FAILURE
}

fn at(path: &Path) -> At<String> {
    At::new(path.display().to_string(), Place::Nowhere)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests;
