//! What is written of a RADIUS listener.

use std::time::Duration;

use engine::session::radius::plan::{Mode, Port, Unavailable};

use super::super::diagnostic::{At, Place, Problems};
use super::super::keys::Kind;
use super::super::reader::Section;
use super::super::values::DURATION_MAX;
use super::raw_accounting::{self, Accounting};
use super::raw_rules;

/// The settings that only these listeners have, in the order of [`Radius::places`].
pub const KEYS: [&str; 18] = [
    "answer",
    "clients_file",
    "dictionary_files",
    "authenticate",
    "ask",
    "chain",
    "mac",
    "rule",
    "request_timeout",
    "patience",
    "reject_delay",
    "rejects_delayed_max",
    "cleanup_delay",
    "requests_max",
    "duplicates_bytes_max",
    "receive_buffer_bytes",
    "moderation",
    "accounting",
];

/// Who is asked, and in which order.
#[derive(Debug, Default)]
pub struct Chain {
    /// `authenticate`.
    pub backends: Vec<Backend>,
    /// `ask`.
    pub mode: Option<At<Mode>>,
}

/// `mac`.
#[derive(Debug)]
pub struct Mac {
    /// The table.
    pub place: Place,
    /// `chain`.
    pub chain: Option<At<String>>,
    /// `format`.
    pub format: Option<At<String>>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Radius {
    /// `answer`.
    pub answer: Option<At<Port>>,
    /// `clients_file`.
    pub clients_file: Option<At<String>>,
    /// `dictionary_files`.
    pub dictionary_files: Option<At<Vec<At<String>>>>,
    /// `authenticate` and `ask`.
    pub chain: Chain,
    /// `[listen.chain.NAME]`.
    pub chains: Vec<(At<String>, Chain)>,
    /// `mac`.
    pub mac: Option<Mac>,
    /// `[[listen.rule]]`.
    pub rules: Vec<raw_rules::Rule>,
    /// See `plan::Settings` of the engine's session, as those below.
    pub request_timeout: Option<At<Duration>>,
    /// As above.
    pub patience: Option<At<Duration>>,
    /// As above.
    pub reject_delay: Option<At<Duration>>,
    /// As above.
    pub rejects_delayed_max: Option<At<usize>>,
    /// Of the table of duplicates.
    pub cleanup_delay: Option<At<Duration>>,
    /// See `plan::Settings`.
    pub requests_max: Option<At<usize>>,
    /// Of the table of duplicates.
    pub duplicates_bytes_max: Option<At<usize>>,
    /// Of each socket.
    pub receive_buffer_bytes: Option<At<usize>>,
    /// See `plan::Radius`.
    pub moderation: Option<At<Duration>>,
    /// `accounting`.
    pub accounting: Option<Accounting>,
    /// Where each of [`KEYS`] is written.
    pub places: [Option<Place>; KEYS.len()],
}

impl Radius {
    /// All that are asked, in whatever chain.
    pub fn backends(&self) -> impl Iterator<Item = &Backend> {
        let others = self.chains.iter().flat_map(|(_, chain)| &chain.backends);
        self.chain.backends.iter().chain(others)
    }
}

/// `groups` of one of those who are asked.
#[derive(Debug)]
pub struct Groups {
    /// The table.
    pub place: Place,
    /// `attribute`.
    pub attribute: Option<At<String>>,
    /// `base`.
    pub base: Option<At<Vec<At<String>>>>,
    /// `filter`.
    pub filter: Option<At<String>>,
    /// `name`.
    pub name: Option<At<String>>,
    /// `nested`.
    pub nested: Option<At<usize>>,
    /// `groups_max`.
    pub groups_max: Option<At<usize>>,
}

/// The words of `form`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Word {
    /// As the helper `winbind` is called.
    Winbind,
    /// As the helper `pam` is called.
    Pam,
    /// With the request's attributes.
    Json,
}

/// A table of texts.
pub type Pairs = Vec<(At<String>, At<String>)>;

/// One of those who are asked.
#[derive(Debug)]
pub struct Backend {
    /// The table.
    pub place: Place,
    /// `name`.
    pub name: Option<At<String>>,
    /// `directory`.
    pub directory: Option<At<String>>,
    /// `service`.
    pub service: Option<At<String>>,
    /// `users_file`.
    pub users_file: Option<At<String>>,
    /// `base`.
    pub base: Option<At<Vec<At<String>>>>,
    /// `user`: the filter that finds the one entry.
    pub user: Option<At<String>>,
    /// `check`: true to fetch and compare.
    pub fetch: Option<At<bool>>,
    /// `password_attribute`.
    pub password_attribute: Option<At<String>>,
    /// `nt_attribute`.
    pub nt_attribute: Option<At<String>>,
    /// `groups`.
    pub groups: Option<Groups>,
    /// `reply`: an attribute of the entry, and of RADIUS.
    pub reply: Option<At<Pairs>>,
    /// `form`.
    pub form: Option<At<Word>>,
    /// `pam_service`.
    pub pam_service: Option<At<String>>,
    /// `unavailable`.
    pub unavailable: Option<At<Unavailable>>,
}

impl Backend {
    /// Nobody is named yet.
    pub fn nobody(place: Place) -> Backend {
        Backend {
            place,
            name: None,
            directory: None,
            service: None,
            users_file: None,
            base: None,
            user: None,
            fetch: None,
            password_attribute: None,
            nt_attribute: None,
            groups: None,
            reply: None,
            form: None,
            pam_service: None,
            unavailable: None,
        }
    }
}

const HOUR: Duration = Duration::from_secs(3600);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Reads the settings out of the listener's section.
pub fn read(p: &mut Problems, section: &mut Section<'_>) -> Radius {
    const PORTS: [(&str, Port); 3] = [
        ("both", Port::Both),
        ("authentication", Port::Authentication),
        ("accounting", Port::Accounting),
    ];
    let places = KEYS.map(|key| section.has(key).then(|| section.place_of(key)));
    let chains = section.named(p, "chain", Kind::Chain);
    let mac = section.section(p, "mac", Kind::Mac);
    let rules = section.sections(p, "rule", Kind::RadiusRule);
    Radius {
        answer: section.choice(p, "answer", &PORTS, &[]),
        clients_file: section.string(p, "clients_file"),
        dictionary_files: section.strings(p, "dictionary_files"),
        chain: chain(p, section),
        chains: chains
            .into_iter()
            .map(|(name, mut section)| {
                let chain = chain(p, &mut section);
                section.finish(p);
                (name, chain)
            })
            .collect(),
        mac: mac.map(|mut section| {
            let mac = Mac {
                place: section.place.clone(),
                chain: section.string(p, "chain"),
                format: section.string(p, "format"),
            };
            section.finish(p);
            mac
        }),
        rules: rules.into_iter().map(|section| raw_rules::read(p, section)).collect(),
        request_timeout: section.duration(p, "request_timeout", 10 * MILLISECOND, HOUR),
        patience: section.duration(p, "patience", 10 * MILLISECOND, HOUR),
        reject_delay: section.duration(p, "reject_delay", Duration::ZERO, Duration::from_secs(60)),
        rejects_delayed_max: section.count(p, "rejects_delayed_max", 0, 10_000_000),
        cleanup_delay: section.duration(p, "cleanup_delay", Duration::ZERO, DURATION_MAX.min(HOUR)),
        requests_max: section.count(p, "requests_max", 1, 10_000_000),
        duplicates_bytes_max: section.size(p, "duplicates_bytes_max", 64 << 10, 16 << 30),
        receive_buffer_bytes: section.size(p, "receive_buffer_bytes", 64 << 10, 1 << 30),
        moderation: section.duration(p, "moderation", Duration::ZERO, 10 * MILLISECOND),
        accounting: raw_accounting::read(p, section),
        places,
    }
}

fn chain(p: &mut Problems, section: &mut Section<'_>) -> Chain {
    const MODES: [(&str, Mode); 3] = [
        ("first", Mode::First),
        ("all", Mode::All),
        ("fall-through", Mode::FallThrough),
    ];
    let backends = section.one_or_more(p, "authenticate", Kind::Authenticate);
    Chain {
        mode: section.choice(p, "ask", &MODES, &[]),
        backends: backends.into_iter().map(|section| backend(p, section)).collect(),
    }
}

fn backend(p: &mut Problems, mut section: Section<'_>) -> Backend {
    const WORDS: [(&str, Unavailable); 3] = [
        ("silence", Unavailable::Silence),
        ("reject", Unavailable::Reject),
        ("next", Unavailable::Next),
    ];
    const CHECKS: [(&str, bool); 2] = [("bind", false), ("fetch", true)];
    const FORMS: [(&str, Word); 3] = [("winbind", Word::Winbind), ("pam", Word::Pam), ("json", Word::Json)];
    let groups = section.section(p, "groups", Kind::AuthenticateGroups);
    let reply_at = section.place_of("reply");
    let backend = Backend {
        place: section.place.clone(),
        name: section.string(p, "name"),
        directory: section.string(p, "directory"),
        service: section.string(p, "service"),
        users_file: section.string(p, "users_file"),
        base: section.strings(p, "base"),
        user: section.string(p, "user"),
        fetch: section.choice(p, "check", &CHECKS, &[]),
        password_attribute: section.string(p, "password_attribute"),
        nt_attribute: section.string(p, "nt_attribute"),
        groups: groups.map(|section| self::groups(p, section)),
        reply: section.string_table(p, "reply").map(|pairs| At::new(pairs, reply_at)),
        form: section.choice(p, "form", &FORMS, &[]),
        pam_service: section.string(p, "pam_service"),
        unavailable: section.choice(p, "unavailable", &WORDS, &[]),
    };
    section.finish(p);
    backend
}

fn groups(p: &mut Problems, mut section: Section<'_>) -> Groups {
    let groups = Groups {
        place: section.place.clone(),
        attribute: section.string(p, "attribute"),
        base: section.strings(p, "base"),
        filter: section.string(p, "filter"),
        name: section.string(p, "name"),
        nested: section.count(p, "nested", 0, 32),
        groups_max: section.count(p, "groups_max", 1, 100_000),
    };
    section.finish(p);
    groups
}
