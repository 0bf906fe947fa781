//! Searches.

use wire::ber;
use wire::ldap::control;
use wire::ldap::filter;
use wire::ldap::grammar::Scope;
use wire::ldap::message::{self, SearchSpec};
use wire::ldap::result::{code, read_result};

use super::super::Bounds;
use super::{ADA, BASE, Client, GRACE, PEOPLE, attribute_names, messages};

/// Filters, and the first values of the names they find in the tests' file.
const FILTERS: &[(&str, &[&str])] = &[
    ("(uid=ADA)", &["ada"]),
    ("(0.9.2342.19200300.100.1.1=ada)", &["ada"]),
    ("(userid=ada)", &["ada"]),
    ("(cn=ada lovelace)", &["ada"]),
    ("(cn=  ada   LOVELACE )", &["ada"]),
    ("(name=hopper)", &["grace"]),
    ("(cn;lang-de=*)", &["ada"]),
    ("(cn;lang-fr=*)", &[]),
    ("(cn=Ada von Lovelace)", &["ada"]),
    ("(objectClass=person)", &["ada", "grace"]),
    ("(objectClass=2.5.6.6)", &["ada", "grace"]),
    (
        "(objectClass=*)",
        &["example", "people", "ada", "grace", "nested, comma"],
    ),
    ("(mail=ada@example.com)", &["ada"]),
    ("(telephoneNumber=+442079460000)", &["ada"]),
    ("(telephoneNumber=*7946*)", &["ada"]),
    ("(uidNumber>=1000)", &["ada"]),
    ("(uidNumber<=999)", &["grace"]),
    ("(uidNumber=01000)", &[]),
    ("(hasSubordinates=true)", &[]),
    ("(!(objectClass=nosuch))", &[]),
    (
        "(!(objectClass=1.2.3.4))",
        &["example", "people", "ada", "grace", "nested, comma"],
    ),
    ("(uidNumber=abc)", &[]),
    ("(!(uidNumber=abc))", &[]),
    ("(!(uidNumber=999))", &["example", "people", "ada", "nested, comma"]),
    ("(!(nosuch=x))", &[]),
    ("(|(nosuch=x)(uid=ada))", &["ada"]),
    ("(&(nosuch=x)(uid=ada))", &[]),
    (
        "(!(&(nosuch=x)(uid=ada)))",
        &["example", "people", "grace", "nested, comma"],
    ),
    ("(sn=*o*e*)", &["ada", "grace"]),
    ("(sn=h*r)", &["grace"]),
    ("(sn=*ce)", &["ada"]),
    ("(cn=ada *)", &["ada"]),
    ("(uid=*a*a*)", &["ada"]),
    ("(uid=a*ada)", &[]),
    ("(cn~=GRACE hopper)", &["grace"]),
    ("(manager=uid=grace,ou=people,dc=example,dc=com)", &["ada"]),
    ("(cn=nested\\2c comma)", &["nested, comma"]),
    ("(favouriteNumber=42)", &["grace"]),
    ("(&)", &["example", "people", "ada", "grace", "nested, comma"]),
    ("(|)", &[]),
    ("(cn:caseExactMatch:=Grace Hopper)", &["grace"]),
    ("(cn:caseExactMatch:=grace hopper)", &[]),
    ("(cn:=grace hopper)", &["grace"]),
    ("(:caseIgnoreMatch:=hopper)", &["grace"]),
    ("(ou:dn:=people)", &["people", "ada", "grace", "nested, comma"]),
    ("(:dn:caseIgnoreMatch:=grace)", &["grace", "nested, comma"]),
    ("(uidNumber:1.2.840.113556.1.4.803:=8)", &["ada"]),
    ("(uidNumber:nosuchMatch:=8)", &[]),
    ("(uidNumber:caseExactMatch:=1000)", &[]),
    (
        "(entryDN:dnSubtreeMatch:=uid=grace,ou=people,dc=example,dc=com)",
        &["grace", "nested, comma"],
    ),
    ("(entryUUID=597AE2F6-16A6-1027-98F4-D28B5365DC14)", &["ada"]),
    ("(hasSubordinates=TRUE)", &["example", "people", "grace"]),
    (
        "(createTimestamp>=20261121040000Z)",
        &["example", "people", "ada", "grace", "nested, comma"],
    ),
    ("(createTimestamp>=20261121040001Z)", &[]),
    ("(entryDN=uid=ADA,ou=people,dc=example,dc=com)", &["ada"]),
    ("(userPassword=*)", &[]),
    ("(!(userPassword=*))", &[]),
    ("(userPassword=secret)", &[]),
    ("(homeDirectory=/HOME/ada)", &[]),
    ("(&(objectClass=person)(|(uid=ada)(uid=grace))(!(uid=ada)))", &["grace"]),
];

#[test]
fn filters_of_every_kind() {
    let mut client = Client::new();
    for (filter, expected) in FILTERS {
        assert_eq!(client.names(filter), *expected, "{filter}");
    }
}

#[test]
fn scopes() {
    let mut client = Client::new();
    let mut names = |base: &str, scope, filter: &str| {
        let (code, found) = client.search(base, scope, filter, &["1.1"]);
        assert_eq!(code, 0);
        found.len()
    };
    // The first filter is answered by walking, the second by the index.
    for filter in ["(cn=*)", "(|(objectClass=person)(objectClass=device))"] {
        assert_eq!(names(PEOPLE, Scope::Base, filter), 0);
        assert_eq!(names(PEOPLE, Scope::One, filter), 2);
        assert_eq!(names(PEOPLE, Scope::Subtree, filter), 3);
        assert_eq!(names(GRACE, Scope::Subtree, filter), 2);
        assert_eq!(names(GRACE, Scope::Subordinate, filter), 1);
        assert_eq!(names(ADA, Scope::Subtree, filter), 1);
        assert_eq!(names(ADA, Scope::One, filter), 0);
    }
}

#[test]
fn the_attributes_asked_for() {
    let mut client = Client::new();
    let mut asked = |attributes: &[&str]| {
        let (_, mut found) = client.search(ADA, Scope::Base, "(objectClass=*)", attributes);
        found.pop().unwrap()
    };
    let all = asked(&[]);
    assert!(attribute_names(&all).contains(&"cn") && attribute_names(&all).contains(&"description;lang-de"));
    assert!(!attribute_names(&all).contains(&"entryUUID") && !attribute_names(&all).contains(&"userPassword"));
    assert_eq!(asked(&["*"]), all);
    let plus = asked(&["+"]);
    assert!(attribute_names(&plus).contains(&"entryUUID") && !attribute_names(&plus).contains(&"cn"));
    assert_eq!(asked(&["*", "+"]).1.len(), all.1.len() + plus.1.len());
    assert!(asked(&["1.1"]).1.is_empty());
    assert_eq!(attribute_names(&asked(&["1.1", "sn"])), ["sn"]);
    assert_eq!(attribute_names(&asked(&["SN", "nosuch", "sn", "userPassword"])), ["sn"]);
    assert_eq!(
        attribute_names(&asked(&["description"])),
        ["description", "description;lang-de"]
    );
    assert_eq!(
        attribute_names(&asked(&["description;lang-de"])),
        ["description;lang-de"]
    );
    assert_eq!(attribute_names(&asked(&["name"])), ["cn", "cn;lang-de", "sn"]);
    assert_eq!(
        attribute_names(&asked(&["2.5.4.3", "entryUUID"])),
        ["cn", "cn;lang-de", "entryUUID"]
    );
    let cn = asked(&["commonName"]);
    assert_eq!(
        cn.1[0],
        ("cn".to_owned(), vec!["Ada  Lovelace".to_owned()]),
        "values come back as they were written"
    );
    let spec = SearchSpec {
        base: ADA.as_bytes(),
        scope: Scope::Base,
        deref: 0,
        size_limit: 0,
        time_limit: 0,
        types_only: true,
        filter: &filter::parse("(uid=*)").unwrap(),
        attributes: &["sn", "cn"],
    };
    let (_, found) = client.search_spec(&spec);
    assert_eq!(attribute_names(&found[0]), ["cn", "cn;lang-de", "sn"]);
    assert!(found[0].1.iter().all(|(_, values)| values.is_empty()));
}

#[test]
fn limits() {
    let mut client = Client::new();
    let filter = filter::parse("(objectClass=*)").unwrap();
    let spec = |size_limit| SearchSpec {
        base: BASE.as_bytes(),
        scope: Scope::Subtree,
        deref: 0,
        size_limit,
        time_limit: 0,
        types_only: false,
        filter: &filter,
        attributes: &[],
    };
    let mut outcome = |bounds: Bounds, size_limit| {
        client.bounds = bounds;
        let (code, found) = client.search_spec(&spec(size_limit));
        (code, found.len())
    };
    let free = Bounds::default();
    assert_eq!(outcome(free, 0), (code::SUCCESS, 5));
    assert_eq!(outcome(free, 5), (code::SUCCESS, 5));
    assert_eq!(outcome(free, 4), (code::SIZE_LIMIT_EXCEEDED, 4));
    assert_eq!(
        outcome(Bounds { entries_max: 2, ..free }, 4),
        (code::SIZE_LIMIT_EXCEEDED, 2)
    );
    assert_eq!(
        outcome(Bounds { entries_max: 4, ..free }, 2),
        (code::SIZE_LIMIT_EXCEEDED, 2)
    );
    assert_eq!(outcome(Bounds { steps_max: 2, ..free }, 0).0, code::TIME_LIMIT_EXCEEDED);
    let (code, count) = outcome(
        Bounds {
            out_bytes_max: 300,
            ..free
        },
        0,
    );
    assert_eq!(code, code::ADMIN_LIMIT_EXCEEDED);
    assert!((1..5).contains(&count));
}

#[test]
fn names_that_lead_nowhere() {
    let mut client = Client::new();
    let mut matched = |base: &str| {
        let mut frame = Vec::new();
        let filter = filter::parse("(a=*)").unwrap();
        let spec = SearchSpec {
            base: base.as_bytes(),
            scope: Scope::Subtree,
            deref: 0,
            size_limit: 0,
            time_limit: 0,
            types_only: false,
            filter: &filter,
            attributes: &[],
        };
        message::write_search(&mut frame, 77, &spec);
        let (_, out) = client.ask(&frame);
        let result = read_result(messages(&out)[0].1).unwrap();
        (result.code, String::from_utf8_lossy(result.matched_dn).into_owned())
    };
    assert_eq!(matched("a=1,b=2,ou=people,dc=example,dc=com"), (32, PEOPLE.to_owned()));
    assert_eq!(matched("uid=nobody,dc=example,dc=com"), (32, BASE.to_owned()));
    assert_eq!(matched("dc=com"), (32, String::new()));
    assert_eq!(matched("dc=elsewhere"), (32, String::new()));
    assert_eq!(matched(""), (32, String::new()));
    assert_eq!(matched("rubbish").0, code::INVALID_DN_SYNTAX);
}

#[test]
fn the_root_dse_and_the_subschema() {
    let mut client = Client::new();
    let (code, found) = client.search("", Scope::Base, "(objectClass=*)", &["+"]);
    assert_eq!((code, found.len()), (0, 1));
    let value = |name: &str| {
        found[0]
            .1
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.clone())
            .unwrap_or_default()
    };
    assert_eq!(value("namingContexts"), [BASE]);
    assert_eq!(value("supportedLDAPVersion"), ["3"]);
    assert!(value("supportedControl").contains(&control::oid::PROXIED_AUTHORIZATION.to_owned()));
    assert!(value("supportedFeatures").contains(&"1.3.6.1.4.1.4203.1.5.1".to_owned()));
    let subschema = value("subschemaSubentry")[0].clone();
    let (code, found) = client.search(&subschema, Scope::Base, "(objectClass=subschema)", &["attributeTypes"]);
    assert_eq!((code, found.len()), (0, 1));
    assert!(
        found[0].1[0]
            .1
            .iter()
            .any(|text| text.contains("NAME ( 'cn' 'commonName' ) SUP name"))
    );
    assert_eq!(client.search("", Scope::Base, "(objectClass=nothing)", &[]).1.len(), 0);
}

#[test]
fn a_deep_filter_is_answered_without_recursion() {
    let mut client = Client::new();
    let mut filter = filter::parse("(uid=ada)").unwrap();
    for _ in 0..2000 {
        let mut outer = Vec::new();
        ber::write_bytes(&mut outer, 0xa2, &filter);
        filter = outer;
    }
    let spec = SearchSpec {
        base: BASE.as_bytes(),
        scope: Scope::Subtree,
        deref: 0,
        size_limit: 0,
        time_limit: 0,
        types_only: false,
        filter: &filter,
        attributes: &["1.1"],
    };
    let (code, found) = client.search_spec(&spec);
    assert_eq!((code, found.len()), (0, 1));
}
