//! Any bytes as a name: what is a name has a normal form that is a name, stays the same, and lies below its parents.

use wire::ldap::dn::{self, CaseIgnore};

pub(crate) fn run(data: &[u8]) {
    let _ = dn::parent(data);
    let mut normal = b"kept".to_vec();
    let read = dn::normalize(data, &CaseIgnore, &mut normal);
    assert!(normal.starts_with(b"kept"));
    let normal = &normal["kept".len()..];
    match read {
        Ok(()) => whole(data, normal),
        Err(error) => {
            assert!(error.at <= data.len() + 1, "{error}");
            assert!(normal.is_empty());
            assert!(dn::avas(data).any(|ava| ava.is_err()));
        }
    }
}

fn whole(data: &[u8], normal: &[u8]) {
    let mut again = Vec::new();
    dn::normalize(normal, &CaseIgnore, &mut again).expect("a normal form is a name");
    assert_eq!(again, normal);
    let avas: Vec<_> = dn::avas(data).collect::<Result<_, _>>().expect("it was a name");
    assert_eq!(dn::normal_depth(normal), avas.iter().filter(|ava| ava.ends_rdn).count());
    for ava in avas {
        // Written anew, a value reads back as itself.
        let written = format!("cn={}", dn::escape(&ava.value.bytes()));
        let read = dn::avas(written.as_bytes())
            .next()
            .expect("one assertion")
            .expect("well formed");
        assert_eq!(read.value.bytes(), ava.value.bytes());
        assert!(read.ends_rdn);
    }
    let mut above = normal;
    while let Some(parent) = dn::normal_parent(above) {
        assert!(dn::is_within(normal, parent));
        assert!(!dn::is_within(parent, above));
        above = parent;
    }
}
