//! Who asks: everybody's name and what shows their password, computed before the load begins.

use std::path::Path;

use wire::radius::Code;
use zeroize::Zeroizing;

use super::super::pace::Random;
use super::{RadiusArgs, Verdict};
use crate::cli::radius::credentials::{Method, Proof};
use crate::cli::radius::{random, secret_octets};

/// What stands for the number.
const MARK: &str = "{n}";
/// Users at most: what they show is kept in memory.
const USERS_MAX: usize = 1_000_000;

/// One of them.
pub(super) struct User {
    pub(super) name: Box<[u8]>,
    /// None: nothing is asked about the user.
    pub(super) proof: Option<Proof>,
    /// What is the right answer.
    pub(super) right: Code,
}

/// All of them; there is at least one.
pub(super) struct Users {
    first: User,
    others: Vec<User>,
}

impl Users {
    /// # Errors
    /// A sentence for the user: a file that is not there or not as it should be, with the line.
    pub(super) fn read(args: &RadiusArgs) -> Result<Users, String> {
        // The draws are to be the same each time; challenges are not.
        let mut random = Random::new(u64::from_be_bytes(random()?), 0);
        let mut users = match (&args.users_file, &args.user) {
            (Some(file), _) => listed(file, args, &mut random)?,
            (None, Some(user)) => marked(user, args, &mut random)?,
            (None, None) => Vec::new(),
        };
        let first = users
            .pop()
            .ok_or("there are no users; --user or --users-file is right")?;
        Ok(Users { first, others: users })
    }

    /// Any of them.
    pub(super) fn drawn(&self, random: &mut Random) -> &User {
        let count = u32::try_from(self.others.len()).unwrap_or(u32::MAX - 1) + 1;
        let at = usize::try_from(random.below(count)).unwrap_or(0);
        self.others.get(at).unwrap_or(&self.first)
    }
}

fn marked(user: &str, args: &RadiusArgs, random: &mut Random) -> Result<Vec<User>, String> {
    let password = match &args.password_file {
        Some(file) => Some(text(file, "a password")?),
        None if args.accounting => None,
        None => return Err("--user asks with a password; --password-file is right".to_string()),
    };
    let (first, last) = if user.contains(MARK) { args.range } else { (1, 1) };
    if usize::try_from(last - first).is_ok_and(|more| more >= USERS_MAX) {
        return Err(format!("--range: at most {USERS_MAX} users"));
    }
    (first..=last)
        .map(|number| {
            let replaced = |text: &str| Zeroizing::new(text.replace(MARK, &number.to_string()));
            let password = password.as_ref().map(|password| replaced(password));
            made(
                &replaced(user),
                password.as_ref().map(|text| text.as_str()),
                args.expect,
                args.method,
                random,
            )
        })
        .collect()
}

fn listed(file: &Path, args: &RadiusArgs, random: &mut Random) -> Result<Vec<User>, String> {
    let text = text(file, "a line of NAME,PASSWORD for each user")?;
    let mut users = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // A line holds a password: no message shows it.
        let told = |what: &str| format!("{}:{}: {what}", file.display(), at + 1);
        let (name, rest) = line
            .split_once(',')
            .ok_or_else(|| told("no comma; NAME,PASSWORD is right"))?;
        let (password, verdict) = match rest.rsplit_once(',') {
            Some((password, "accept")) => (password, Verdict::Accept),
            Some((password, "reject")) => (password, Verdict::Reject),
            _ => (rest, args.expect),
        };
        if name.is_empty() {
            return Err(told("no name before the comma; NAME,PASSWORD is right"));
        }
        if users.len() >= USERS_MAX {
            return Err(told(&format!("one user more; at most {USERS_MAX} are right")));
        }
        let password = (!args.accounting).then_some(password);
        users.push(made(name, password, verdict, args.method, random).map_err(|what| told(&what))?);
    }
    Ok(users)
}

fn made(
    name: &str,
    password: Option<&str>,
    verdict: Verdict,
    method: Method,
    random: &mut Random,
) -> Result<User, String> {
    if name.len() > 253 {
        return Err(format!("a name of {} octets; at most 253 fit User-Name", name.len()));
    }
    let mut fresh = [0; 33];
    for chunk in fresh.chunks_mut(8) {
        let octets = random.next().to_be_bytes();
        chunk.iter_mut().zip(octets).for_each(|(to, from)| *to = from);
    }
    let proof = password
        .map(|password| Proof::new(method, name.as_bytes(), password.as_bytes(), &fresh))
        .transpose()?;
    let right = match (&proof, verdict) {
        (None, _) => Code::ACCOUNTING_RESPONSE,
        (Some(_), Verdict::Accept) => Code::ACCESS_ACCEPT,
        (Some(_), Verdict::Reject) => Code::ACCESS_REJECT,
    };
    Ok(User {
        name: name.as_bytes().into(),
        proof,
        right,
    })
}

fn text(file: &Path, right: &str) -> Result<Zeroizing<String>, String> {
    let octets = secret_octets(file, right)?;
    match std::str::from_utf8(&octets) {
        Ok(text) => Ok(Zeroizing::new(text.to_string())),
        Err(_) => Err(format!("{}: no UTF-8; {right} is right", file.display())),
    }
}
