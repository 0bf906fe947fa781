//! Trials of what is not there.

use crate::proc::shown;
use crate::radius_commands::{err, test, with_rules};

#[test]
fn a_trial_of_what_is_not_there_says_what_there_is() {
    let usherd = with_rules();
    let unknown = test(&usherd, &["ada", "--client", "hear"]);
    assert!(
        err(&unknown).contains("no client is called \"hear\"; there are: other, here"),
        "{}",
        shown(&unknown)
    );
    assert_eq!(unknown.status.code(), Some(1), "{}", shown(&unknown));
    let unknown = test(&usherd, &["ada", "--listener", "127.0.0.1:1"]);
    assert!(
        err(&unknown).contains("no radius listener has the address"),
        "{}",
        shown(&unknown)
    );
    let unknown = test(&usherd, &["ada", "--attribute", "NAS-Port-Typ = Ethernet"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", shown(&unknown));
    assert!(err(&unknown).contains("NAS-Port-Type"), "{}", shown(&unknown));
    usherd.stop();
}
