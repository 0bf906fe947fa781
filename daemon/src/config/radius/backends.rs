//! Who is asked by a RADIUS listener: directories, services, lists of users.

use std::sync::Arc;

use engine::ask::Scope;
use engine::ask::template::Template;
use engine::radius::users::Users;
use engine::session::radius::plan::{
    Backend, Chain, Check, DN_PLACE, Directory, Form, GroupSearch, Groups, Kind, Link, Mode, ReplyMap, Service,
    USER_NAME_PLACE, Unavailable,
};
use wire::radius::Dictionary;

use super::super::check::named;
use super::super::check_nss::names_of_bases;
use super::super::diagnostic::{At, Place, Problems};
use super::super::files::{Folder, nowhere};
use super::super::plan::Behind;
use super::super::raw::Raw;
use super::super::raw_service::Helper;
use super::super::suggest;
use super::raw::{self, Word};
use super::users;

/// What finds a user unless something else is written.
const USER_DEFAULT: &str = "(uid={User-Name})";
/// What finds the groups of a user where only a base is written.
const GROUPS_DEFAULT: &str = "(|(member={dn})(uniqueMember={dn})(memberUid={User-Name}))";
/// Groups of one user at most.
const GROUPS_MAX: usize = 1_000;

/// What the names of a listener's back ends lead to, while they are gathered.
pub(in crate::config) struct Gathered<'a> {
    pub(super) raw: &'a Raw,
    pub(super) folder: &'a Folder,
    pub(super) dictionary: Arc<Dictionary>,
    pub(super) backends: Vec<Backend>,
    pub(super) targets: Vec<Behind>,
    /// Files that were read already.
    pub(super) users: Vec<(String, Arc<Users>)>,
}

impl Gathered<'_> {
    pub(in crate::config) fn chain(
        &mut self,
        p: &mut Problems,
        name: &str,
        written: &raw::Chain,
        place: &Place,
    ) -> Option<Chain> {
        if written.backends.is_empty() {
            if p.absent(place, "authenticate") {
                p.error(place, "nobody is asked whether a password is right").help(
                    "add authenticate = { directory = \"NAME\", user = \"(uid={User-Name})\" }, \
                     { users_file = \"users.toml\" } or { service = \"NAME\" }; or answer = \"accounting\"",
                );
            }
            return None;
        }
        let mut links = Vec::with_capacity(written.backends.len());
        for one in &written.backends {
            let Some((kind, default)) = self.backend(p, one) else {
                continue;
            };
            links.push(Link {
                backend: self.backends.len(),
                unavailable: one.unavailable.as_ref().map_or(Unavailable::Silence, |at| at.value),
            });
            let name = self.free_name(one.name.as_ref().map_or(default, |at| at.value.clone()));
            self.backends.push(Backend { name, kind });
        }
        Some(Chain {
            name: name.to_owned(),
            mode: written.mode.as_ref().map_or(Mode::First, |at| at.value),
            links,
        })
    }

    /// Figures are kept by name: a second one of a name has a number.
    fn free_name(&self, name: String) -> String {
        let taken = |name: &str| self.backends.iter().any(|other| other.name == name);
        if !taken(&name) {
            return name;
        }
        let mut numbered = (2..).map(|number| format!("{name}-{number}"));
        numbered.find(|name| !taken(name)).unwrap_or(name)
    }

    /// A back end, and what it is called where it has no name.
    fn backend(&mut self, p: &mut Problems, one: &raw::Backend) -> Option<(Kind, String)> {
        let named = [&one.directory, &one.service, &one.users_file];
        let mut named = named.into_iter().flatten();
        let Some(first) = named.next() else {
            let keys = ["directory", "service", "users_file"];
            if keys.iter().all(|key| p.absent(&one.place, key)) {
                p.error(&one.place, "nobody is named here")
                    .help("add directory = \"NAME\", service = \"NAME\" or users_file = \"FILE\"");
            }
            return None;
        };
        if let Some(second) = named.next() {
            p.error(&second.place, "only one can be asked at a time")
                .label("second here")
                .also(&first.place, "first here")
                .help("write a list, [{ … }, { … }], and say with `ask` what it means");
            return None;
        }
        refuse_others(p, one);
        if let Some(name) = &one.directory {
            Some((self.directory(p, one, name)?, name.value.clone()))
        } else if let Some(name) = &one.service {
            Some((self.service(p, one, name)?, name.value.clone()))
        } else {
            let file = one.users_file.as_ref()?;
            Some((Kind::Users(self.users(p, file)?), "users".to_owned()))
        }
    }

    fn users(&mut self, p: &mut Problems, file: &At<String>) -> Option<Arc<Users>> {
        if let Some((_, known)) = self.users.iter().find(|(name, _)| *name == file.value) {
            return Some(Arc::clone(known));
        }
        let users = Arc::new(users::users(p, self.folder, file, &self.dictionary)?);
        self.users.push((file.value.clone(), Arc::clone(&users)));
        Some(users)
    }

    fn target(&mut self, behind: Behind) -> usize {
        match self.targets.iter().position(|other| *other == behind) {
            Some(at) => at,
            None => {
                self.targets.push(behind);
                self.targets.len() - 1
            }
        }
    }

    fn directory(&mut self, p: &mut Problems, one: &raw::Backend, name: &At<String>) -> Option<Kind> {
        let names: Vec<&str> = self
            .raw
            .directories
            .iter()
            .map(|(name, _)| name.value.as_str())
            .collect();
        if !named(p, "directory", &names, name) {
            return None;
        }
        let bases = self.bases(p, one.base.as_ref(), name, &one.place);
        let written = one.user.clone().unwrap_or_else(|| nowhere(USER_DEFAULT.to_owned()));
        let filter = template(p, &written, "user", &[USER_NAME_PLACE], USER_DEFAULT);
        let fetch = one.fetch.as_ref().is_some_and(|at| at.value);
        let attribute = |written: &Option<At<String>>| written.as_ref().map(|at| at.value.clone());
        if !fetch {
            for (key, written) in [
                ("password_attribute", &one.password_attribute),
                ("nt_attribute", &one.nt_attribute),
            ] {
                if let Some(written) = written {
                    p.error(&written.place, format!("`{key}` is for check = \"fetch\""))
                        .label("a bind shows no password")
                        .help("add check = \"fetch\", or remove it");
                }
            }
        }
        let check = if fetch {
            Check::Fetch {
                password: attribute(&one.password_attribute).unwrap_or_else(|| "userPassword".to_owned()),
                nt: attribute(&one.nt_attribute),
            }
        } else {
            Check::Bind
        };
        let groups = match &one.groups {
            Some(written) => Some(self.groups(p, written, name, one.base.as_ref())?),
            None => None,
        };
        let reply = self.reply(p, one);
        Some(Kind::Directory(Directory {
            pool: self.target(Behind::Directory(name.value.clone())),
            bases: bases?,
            scope: Scope::Subtree,
            filter: filter?,
            check,
            groups,
            reply,
        }))
    }

    /// What is written, else the directory's.
    fn bases(
        &self,
        p: &mut Problems,
        written: Option<&At<Vec<At<String>>>>,
        directory: &At<String>,
        place: &Place,
    ) -> Option<Vec<String>> {
        if let Some(written) = written {
            return names_of_bases(p, written);
        }
        let mut all = self.raw.directories.iter();
        let found = all.find(|(name, _)| name.value == directory.value);
        let base = found.and_then(|(_, directory)| directory.base.as_ref());
        if base.is_none() {
            p.error(place, "it is not known below which entry to search")
                .help("add base = [\"dc=example,dc=com\"] here, or `base` to the directory");
        }
        Some(vec![base?.value.clone()])
    }

    fn groups(
        &self,
        p: &mut Problems,
        written: &raw::Groups,
        directory: &At<String>,
        base: Option<&At<Vec<At<String>>>>,
    ) -> Option<Groups> {
        let searches = written.base.is_some() || written.filter.is_some() || written.name.is_some();
        if written.attribute.is_none() && !searches {
            p.error(&written.place, "it is not said where groups are found").help(
                "add attribute = \"memberOf\", or base = [\"ou=groups,dc=example,dc=com\"] and \
                 filter = \"(member={dn})\"",
            );
            return None;
        }
        let search = if searches {
            let bases = self.bases(p, written.base.as_ref().or(base), directory, &written.place);
            let filter = written.filter.clone();
            let filter = filter.unwrap_or_else(|| nowhere(GROUPS_DEFAULT.to_owned()));
            let places = [DN_PLACE, USER_NAME_PLACE];
            let filter = template(
                p,
                &filter,
                "filter",
                &places,
                "(&(objectClass=groupOfNames)(member={dn}))",
            );
            Some(GroupSearch {
                bases: bases?,
                scope: Scope::Subtree,
                filter: filter?,
                name: written
                    .name
                    .as_ref()
                    .map_or_else(|| "cn".to_owned(), |at| at.value.clone()),
            })
        } else {
            None
        };
        let nested = written.nested.as_ref().map_or(0, |at| at.value);
        Some(Groups {
            attribute: written.attribute.as_ref().map(|at| at.value.clone()),
            search,
            nested: u8::try_from(nested).unwrap_or(u8::MAX),
            groups_max: written.groups_max.as_ref().map_or(GROUPS_MAX, |at| at.value),
        })
    }

    fn reply(&self, p: &mut Problems, one: &raw::Backend) -> Vec<(String, ReplyMap)> {
        let mut maps = Vec::new();
        for (attribute, to) in one.reply.iter().flat_map(|at| &at.value) {
            if to.value == "*" {
                maps.push((attribute.value.clone(), ReplyMap::List));
                continue;
            }
            let (name, tag) = match to.value.rsplit_once(':').map(|(name, tag)| (name, tag.parse::<u8>())) {
                Some((name, Ok(tag))) => (name, Some(tag)),
                _ => (to.value.as_str(), None),
            };
            match self.dictionary.named(name) {
                Some(found)
                    if !found.internal && !found.data_type.is_container() && (tag.is_none() || found.has_tag) =>
                {
                    maps.push((attribute.value.clone(), ReplyMap::Attribute { path: found.path, tag }));
                }
                Some(found) => {
                    let why = if tag.is_some() && !found.has_tag {
                        "it has no tag"
                    } else {
                        "it is not sent, or has no value of its own"
                    };
                    p.error(&to.place, format!("`{}` cannot be part of an answer", to.value))
                        .label(why);
                }
                None => {
                    let problem = p.error(&to.place, format!("unknown RADIUS attribute `{name}`"));
                    problem.label("not in the dictionary");
                    match suggest::nearest(name, self.dictionary.suggestions(name)) {
                        Some(near) => problem.help(format!("did you mean \"{near}\"?")),
                        None => problem.help("name it in `dictionary_files`, or write \"*\" for lists of attributes"),
                    };
                }
            }
        }
        maps
    }

    fn service(&mut self, p: &mut Problems, one: &raw::Backend, name: &At<String>) -> Option<Kind> {
        let names: Vec<&str> = self.raw.services.iter().map(|(name, _)| name.value.as_str()).collect();
        if !named(p, "service", &names, name) {
            return None;
        }
        let found = self.raw.services.iter().find(|(other, _)| other.value == name.value);
        let helper = found
            .and_then(|(_, service)| service.helper.as_ref())
            .map(|at| at.value);
        let word = one.form.as_ref().map_or_else(
            || match helper {
                Some(Helper::Winbind) => Word::Winbind,
                Some(Helper::Pam) => Word::Pam,
                _ => Word::Json,
            },
            |at| at.value,
        );
        if let (Some(written), Word::Winbind | Word::Json) = (&one.pam_service, word) {
            p.error(&written.place, "`pam_service` is for form = \"pam\"")
                .help("remove it");
        }
        let form = match word {
            Word::Winbind => Form::Winbind,
            Word::Pam => Form::Pam {
                service: one.pam_service.as_ref().map(|at| at.value.clone()),
            },
            Word::Json => Form::Json,
        };
        Some(Kind::Service(Service {
            pool: self.target(Behind::Service(name.value.clone())),
            form,
        }))
    }
}

/// Settings that mean nothing for what is named.
fn refuse_others(p: &mut Problems, one: &raw::Backend) {
    fn at<T>(written: &Option<At<T>>) -> Option<&Place> {
        written.as_ref().map(|at| &at.place)
    }
    let (directory, service) = (one.directory.is_some(), one.service.is_some());
    for (key, place, fits) in [
        ("base", at(&one.base), directory),
        ("user", at(&one.user), directory),
        ("check", at(&one.fetch), directory),
        ("password_attribute", at(&one.password_attribute), directory),
        ("nt_attribute", at(&one.nt_attribute), directory),
        ("groups", one.groups.as_ref().map(|groups| &groups.place), directory),
        ("reply", at(&one.reply), directory),
        ("form", at(&one.form), service),
        ("pam_service", at(&one.pam_service), service),
        ("unavailable", at(&one.unavailable), directory || service),
    ] {
        if let (Some(place), false) = (place, fits) {
            let whose = match key {
                "form" | "pam_service" => "services",
                "unavailable" => "who can be out of reach",
                _ => "directories",
            };
            p.error(place, format!("`{key}` is for {whose}")).help("remove it");
        }
    }
}

/// A filter with places, written `{Name}`.
fn template(p: &mut Problems, written: &At<String>, key: &str, places: &[&str], right: &str) -> Option<Template> {
    match Template::braces(&written.value, places) {
        Ok(template) => Some(template),
        Err(why) => {
            p.error(&written.place, format!("`{key}` is not a filter"))
                .label(why)
                .help(format!("write it like \"{right}\" (RFC 4515)"));
            None
        }
    }
}
