//! An organisation of believable people, for the demo, tests and measurements: the same seed gives the same text.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use wire::ldap::dn;

use crate::password;

/// LDIF of an organisation of `n` people below `base`: `ou=people`, `ou=groups` and `ou=services`.
///
/// People have the classes inetOrgPerson and posixAccount, and names from many places, some not ASCII (those in base64).
/// Groups are posixGroups for departments (by `memberUid`) and groupOfNames for teams (by `member`), in the same
/// `ou=groups`. **Everybody's password is the uid followed by `-demo`** (`ada` has `ada-demo`), stored as `{SSHA}`;
/// the services are `cn=usherd`, a balancer's account, and `cn=reader`, with the passwords `usherd-demo` and
/// `reader-demo`. These passwords are public: never serve this to a network that matters.
///
/// `base` must be an RFC 4514 name that begins with `dc=`, `o=` or `ou=`; any other is taken for an `o=`.
#[must_use]
pub fn people(n: usize, base: &str, seed: u64) -> String {
    let mut dice = Dice(seed);
    let mut out = String::with_capacity(n.saturating_mul(900).saturating_add(8192));
    out.push_str("# Made by usherd for its demo. Everybody's password is the uid followed by \"-demo\".\n");
    push_base(&mut out, base);
    for (ou, what) in [
        ("people", "Everybody"),
        ("groups", "Departments and teams"),
        ("services", "Programs' accounts"),
    ] {
        let _ = writeln!(
            out,
            "dn: ou={ou},{base}\nobjectClass: organizationalUnit\nou: {ou}\ndescription: {what}\n"
        );
    }
    for service in ["usherd", "reader"] {
        let password = password::ssha(format!("{service}-demo").as_bytes(), dice.salt());
        let _ = writeln!(
            out,
            "dn: cn={service},ou=services,{base}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n\
             cn: {service}\nuserPassword: {password}\n"
        );
    }
    let domain = domain(base);
    let staff: Vec<Person> = (0..n).map(|at| Person::new(at, &mut dice)).collect();
    for (at, person) in staff.iter().enumerate() {
        // Eight report to one, down from the first.
        let manager = at.checked_sub(1).and_then(|above| staff.get(above / 8));
        push_person(&mut out, person, manager, base, &domain, &mut dice);
    }
    push_groups(&mut out, &staff, base);
    out
}

const GIVEN: &[&str] = &[
    "Ada",
    "Alan",
    "Amara",
    "Anita",
    "Barbara",
    "Björn",
    "Carlos",
    "Chiara",
    "Chen",
    "Claude",
    "Dana",
    "Edsger",
    "Élodie",
    "Emeka",
    "Fatima",
    "Frances",
    "Grace",
    "Hana",
    "Hedy",
    "Ines",
    "Ivan",
    "Jana",
    "Jean",
    "José",
    "Joan",
    "Katherine",
    "Kofi",
    "Lena",
    "Leslie",
    "Linus",
    "Lucía",
    "Mei",
    "Margaret",
    "Miriam",
    "Mohammed",
    "Niklaus",
    "Noor",
    "Olga",
    "Óscar",
    "Paul",
    "Priya",
    "Radia",
    "Rosalind",
    "Sofia",
    "Søren",
    "Stephen",
    "Tomasz",
    "Ursula",
    "Wei",
    "Yukihiro",
    "Zoë",
    "Zuzana",
];
const FAMILY: &[&str] = &[
    "Adeyemi",
    "Allen",
    "Almeida",
    "Andersson",
    "Bauer",
    "Borg",
    "Brown",
    "Chowdhury",
    "Costa",
    "Díaz",
    "Dijkstra",
    "Dubois",
    "Eriksen",
    "Fischer",
    "Fontaine",
    "García",
    "Goldberg",
    "Haddad",
    "Hamilton",
    "Hopper",
    "Ibrahim",
    "Jansen",
    "Jensen",
    "Johnson",
    "Kaur",
    "Kelly",
    "Kim",
    "Kowalski",
    "Kumar",
    "Lamarr",
    "Li",
    "Liskov",
    "Lovelace",
    "Martin",
    "Meyer",
    "Moreau",
    "Müller",
    "Nakamura",
    "Nguyen",
    "Novák",
    "Núñez",
    "O'Brien",
    "Okafor",
    "Olsen",
    "Patel",
    "Perlman",
    "Petrov",
    "Popescu",
    "Rossi",
    "Santos",
    "Sato",
    "Schmidt",
    "Silva",
    "Singh",
    "Smith",
    "Suzuki",
    "Tanaka",
    "Thompson",
    "Turing",
    "van den Berg",
    "Wagner",
    "Wang",
    "Wirth",
    "Wiśniewski",
    "Yılmaz",
    "Zhang",
];
const DEPARTMENTS: &[(&str, &[&str])] = &[
    (
        "engineering",
        &[
            "Engineer",
            "Senior Engineer",
            "Staff Engineer",
            "Site Reliability Engineer",
        ],
    ),
    ("research", &["Researcher", "Data Scientist", "Research Engineer"]),
    (
        "operations",
        &["Systems Administrator", "Network Engineer", "Operations Manager"],
    ),
    ("finance", &["Accountant", "Controller", "Financial Analyst"]),
    ("sales", &["Account Manager", "Sales Engineer", "Sales Representative"]),
    ("support", &["Support Engineer", "Customer Advocate"]),
    ("people", &["Recruiter", "People Partner"]),
    ("legal", &["Counsel", "Compliance Officer"]),
];
const TEAMS: &[&str] = &[
    "on-call",
    "vpn-users",
    "badge-admins",
    "book-club",
    "first-aid",
    "release-managers",
];
const PLACES: &[(&str, &str)] = &[
    ("Zürich", "+41 44 555"),
    ("London", "+44 20 7946"),
    ("New York", "+1 212 555"),
    ("São Paulo", "+55 11 5550"),
    ("Tokyo", "+81 3 5550"),
    ("Nairobi", "+254 20 555"),
];

struct Person {
    number: usize,
    uid: String,
    given: &'static str,
    family: &'static str,
    department: usize,
    title: &'static str,
    place: (&'static str, &'static str),
}

impl Person {
    fn new(number: usize, dice: &mut Dice) -> Self {
        let given = dice.pick(GIVEN, "Ada");
        let family = dice.pick(FAMILY, "Lovelace");
        // Departments shrink from the first to the last, as they do.
        let department = dice.below(DEPARTMENTS.len()).min(dice.below(DEPARTMENTS.len()));
        let titles = DEPARTMENTS
            .get(department)
            .map(|(_, titles)| *titles)
            .unwrap_or_default();
        let title = if number == 0 {
            "Chief Executive Officer"
        } else {
            dice.pick(titles, "Engineer")
        };
        // The number keeps it unique; the first of a name could do without, but then order would matter.
        let initial = ascii(given).chars().take(1).collect::<String>();
        let uid = format!("{initial}{}{}", ascii(family), number + 1);
        Self {
            number,
            uid,
            given,
            family,
            department,
            title,
            place: dice.pick(PLACES, ("London", "+44 20 7946")),
        }
    }

    fn dn(&self, base: &str) -> String {
        format!("uid={},ou=people,{base}", self.uid)
    }
}

fn push_base(out: &mut String, base: &str) {
    let first = dn::avas(base.as_bytes()).next().and_then(Result::ok);
    let value = first
        .map(|ava| String::from_utf8_lossy(&ava.value.bytes()).into_owned())
        .unwrap_or_default();
    line(out, "dn", base);
    match first.map(|ava| ava.attribute.to_ascii_lowercase()).as_deref() {
        Some(b"dc") => {
            out.push_str("objectClass: organization\nobjectClass: dcObject\no: Example Works\n");
            line(out, "dc", &value);
        }
        Some(b"ou") => {
            out.push_str("objectClass: organizationalUnit\n");
            line(out, "ou", &value);
        }
        _ => {
            out.push_str("objectClass: organization\n");
            line(out, "o", &value);
        }
    }
    out.push('\n');
}

fn push_person(out: &mut String, person: &Person, manager: Option<&Person>, base: &str, domain: &str, dice: &mut Dice) {
    let Person {
        number,
        uid,
        given,
        family,
        title,
        ..
    } = person;
    line(out, "dn", &person.dn(base));
    out.push_str("objectClass: inetOrgPerson\nobjectClass: posixAccount\n");
    line(out, "uid", uid);
    line(out, "cn", &format!("{given} {family}"));
    line(out, "sn", family);
    line(out, "givenName", given);
    line(out, "displayName", &format!("{given} {family}"));
    line(
        out,
        "mail",
        &format!("{}.{}{}@{domain}", ascii(given), ascii(family), number + 1),
    );
    line(out, "title", title);
    if number.is_multiple_of(7) {
        line(out, "title;lang-de", &format!("{title} (Vertretung)"));
    }
    line(out, "departmentNumber", &(person.department + 100).to_string());
    line(out, "employeeNumber", &(10_000 + number).to_string());
    line(
        out,
        "employeeType",
        if number % 11 == 10 { "contractor" } else { "permanent" },
    );
    line(out, "l", person.place.0);
    line(
        out,
        "telephoneNumber",
        &format!("{} {:04}", person.place.1, dice.below(10_000)),
    );
    if number.is_multiple_of(3) {
        line(out, "mobile", &format!("{} {:04}", person.place.1, dice.below(10_000)));
    }
    line(out, "uidNumber", &(20_000 + number).to_string());
    line(out, "gidNumber", &(30_000 + person.department).to_string());
    line(out, "homeDirectory", &format!("/home/{uid}"));
    line(
        out,
        "loginShell",
        if number % 5 == 4 { "/bin/zsh" } else { "/bin/bash" },
    );
    line(
        out,
        "gecos",
        &format!("{} {}", capitalised(&ascii(given)), capitalised(&ascii(family))),
    );
    if let Some(manager) = manager {
        line(out, "manager", &manager.dn(base));
    }
    line(
        out,
        "userPassword",
        &password::ssha(format!("{uid}-demo").as_bytes(), dice.salt()),
    );
    out.push('\n');
}

fn push_groups(out: &mut String, staff: &[Person], base: &str) {
    for (at, (department, _)) in DEPARTMENTS.iter().enumerate() {
        let _ = writeln!(
            out,
            "dn: cn={department},ou=groups,{base}\nobjectClass: posixGroup\ncn: {department}\ngidNumber: {}",
            30_000 + at
        );
        for person in staff.iter().filter(|person| person.department == at) {
            line(out, "memberUid", &person.uid);
        }
        out.push('\n');
    }
    for (at, team) in TEAMS.iter().enumerate() {
        let members: Vec<_> = staff
            .iter()
            .filter(|person| person.number % (at + 4) == at % 4)
            .collect();
        // A groupOfNames has at least one member.
        if members.is_empty() {
            continue;
        }
        let _ = writeln!(
            out,
            "dn: cn={team},ou=groups,{base}\nobjectClass: groupOfNames\ncn: {team}"
        );
        for person in members {
            line(out, "member", &person.dn(base));
        }
        out.push('\n');
    }
}

/// One line, in base64 where RFC 2849 asks for it.
fn line(out: &mut String, name: &str, value: &str) {
    let plain =
        value.is_ascii() && !value.starts_with([' ', ':', '<']) && !value.ends_with(' ') && !value.contains('\n');
    // Writing to a String cannot fail.
    let _ = if plain {
        writeln!(out, "{name}: {value}")
    } else {
        writeln!(out, "{name}:: {}", STANDARD.encode(value))
    };
}

/// `dc=example,dc=com` is example.com.
fn domain(base: &str) -> String {
    let parts: Vec<_> = dn::avas(base.as_bytes())
        .map_while(Result::ok)
        .filter(|ava| ava.attribute.eq_ignore_ascii_case(b"dc"))
        .map(|ava| String::from_utf8_lossy(&ava.value.bytes()).into_owned())
        .collect();
    if parts.is_empty() {
        "example.com".to_owned()
    } else {
        parts.join(".")
    }
}

/// In lower case, only a to z, with the nearest letter for the others that occur above.
fn ascii(name: &str) -> String {
    let nearest = |c| match c {
        'á' | 'ã' => 'a',
        'é' | 'ë' | 'É' => 'e',
        'í' | 'ı' => 'i',
        'ñ' => 'n',
        'ó' | 'ö' | 'ø' | 'Ó' => 'o',
        'ś' => 's',
        'ú' | 'ü' => 'u',
        other => other,
    };
    name.chars()
        .map(nearest)
        .filter(char::is_ascii_alphabetic)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

fn capitalised(name: &str) -> String {
    let mut rest = name.chars();
    rest.next()
        .map(|first| first.to_ascii_uppercase().to_string() + rest.as_str())
        .unwrap_or_default()
}

/// SplitMix64: enough to look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        let n = u64::try_from(n).unwrap_or(1).max(1);
        usize::try_from(self.roll() % n).unwrap_or(0)
    }

    fn pick<T: Copy>(&mut self, all: &[T], otherwise: T) -> T {
        all.get(self.below(all.len())).copied().unwrap_or(otherwise)
    }

    fn salt(&mut self) -> [u8; 8] {
        self.roll().to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Directory;
    use super::*;

    #[test]
    fn one_seed_one_organisation() {
        assert_eq!(people(20, "dc=example,dc=com", 7), people(20, "dc=example,dc=com", 7));
        assert_ne!(people(20, "dc=example,dc=com", 7), people(20, "dc=example,dc=com", 8));
    }

    #[test]
    fn any_size_and_base_loads() {
        for n in [0, 1, 2, 300] {
            for base in ["dc=example,dc=com", "o=Müller \\+ Söhne", "ou=a,o=b"] {
                let text = people(n, base, 1);
                let directory =
                    Directory::load(text.as_bytes(), "people.ldif", Some(base), 0).unwrap_or_else(|e| panic!("{e}"));
                assert!(directory.entries() >= n + 14, "{base} {n}");
            }
        }
        assert!(
            !people(300, "dc=x", 1).contains(": Björn"),
            "what is not ASCII is in base64"
        );
    }

    #[test]
    fn uids_and_mail_addresses_are_plain() {
        assert_eq!(ascii("van den Berg"), "vandenberg");
        let letters = |name: &&str| name.chars().filter(|c| c.is_alphabetic()).count();
        assert!(
            GIVEN
                .iter()
                .chain(FAMILY)
                .all(|name| ascii(name).len() == letters(name)),
            "every letter has a nearest"
        );
    }
}
