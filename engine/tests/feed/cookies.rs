//! Which cookie is kept, when it counts, and what becomes of one that is refused.

use engine::feed::consumer::{Again, Over, Step};
use engine::feed::settings::Profile;
use wire::ldap::sync::{Mode, State};

use crate::messages;
use crate::script::{C1, C2, K1, K2, Script, settings};

const SERVER_2: &str = "20260101000009.000000Z#000000#002#000000";

#[test]
fn a_cookie_counts_when_the_refresh_is_done() {
    let mut script = Script::new(settings());
    assert_eq!(script.begin(), None);
    script.say(State::Add, 1, "dc=x", &[("dc", "x")], Some(C1));
    script.tell(&messages::new_cookie(C1));
    script.events();
    // Broken off: what came is kept, the cookie is not.
    script.crash();
    assert_eq!(script.begin(), None);
    script.add(1, "dc=x");
    assert_eq!(script.end(C1), Step::Refreshed);
    script.events();
    script.crash();
    assert_eq!(script.begin().as_deref(), Some(K1));
}

#[test]
fn cookies_of_several_servers_are_merged_and_the_providers_id_is_not_sent_back() {
    let mut script = Script::with(settings(), &["dc=x"]);
    let other = format!("rid=000,sid=002,csn={SERVER_2}");
    script.say(State::Modify, 1, "dc=x", &[("cn", "2")], Some(&other));
    assert_eq!(script.cookie(), format!("{K1};{SERVER_2}"));
    // With many writers some come without: they say nothing.
    script.say(State::Modify, 1, "dc=x", &[("cn", "3")], Some("rid=000"));
    script.say(State::Modify, 1, "dc=x", &[("cn", "4")], Some(C2));
    assert_eq!(script.cookie(), format!("{K2};{SERVER_2}"));
}

#[test]
fn a_refresh_without_a_change_and_without_a_cookie_keeps_the_old_one() {
    let mut only = settings();
    only.mode = Mode::RefreshOnly;
    let mut script = Script::new(only);
    script.begin();
    script.add(1, "dc=x");
    let over = script.tell(&messages::done(0, "", Some((Some(C1), true))));
    assert_eq!(over, Step::Over(Over::Refreshed));
    script.events();
    assert_eq!(script.begin().as_deref(), Some(K1));
    let over = script.tell(&messages::done(0, "", Some((None, true))));
    assert_eq!(over, Step::Over(Over::Refreshed));
    assert_eq!(script.events(), ["refresh-done 1"]);
    assert_eq!(script.begin().as_deref(), Some(K1));
}

#[test]
fn refresh_required_ends_in_a_full_comparison_and_not_in_a_loop() {
    let mut script = Script::with(settings(), &["dc=x", "cn=a,dc=x"]);
    assert_eq!(script.begin().as_deref(), Some(K1));
    let step = script.tell(&messages::done(4096, "", None));
    assert_eq!(step, Step::Over(Over::Again(Again::RefreshRequired)));
    assert!(script.events().is_empty(), "nothing is deleted by a refusal");
    script.crash();
    assert_eq!(script.begin(), None);
    let step = script.tell(&messages::done(4096, "", None));
    assert_eq!(
        step,
        Step::Over(Over::Failed { code: 4096 }),
        "nothing more can be dropped"
    );
    script.begin();
    script.add(1, "dc=x");
    script.end(C2);
    assert_eq!(script.events(), ["delete cn=a,dc=x", "refresh-done 1"]);
    assert_eq!(script.cookie(), K2);
}

#[test]
fn a_future_cookie_is_dropped_and_not_merged_into_the_next() {
    let mut script = Script::with(settings(), &["dc=x"]);
    script.say(State::Modify, 1, "dc=x", &[("cn", "2")], Some(C2));
    script.events();
    assert_eq!(script.begin().as_deref(), Some(K2));
    // The provider was restored from a backup.
    let step = script.tell(&messages::done(53, "consumer state is newer than provider!", None));
    assert_eq!(step, Step::Over(Over::Again(Again::CookieRefused)));
    assert_eq!(script.begin(), None);
    script.add(1, "dc=x");
    script.end(C1);
    assert_eq!(script.events(), ["modify dc=x", "refresh-done 1"]);
    assert_eq!(script.cookie(), K1, "the future one is gone");
}

#[test]
fn other_failures_change_nothing() {
    for (code, text) in [(53, "no global superior knowledge"), (32, ""), (51, "busy"), (2, "")] {
        let mut script = Script::with(settings(), &["dc=x", "cn=a,dc=x"]);
        script.begin();
        script.add(1, "dc=x");
        let step = script.tell(&messages::done(code, text, None));
        assert_eq!(step, Step::Over(Over::Failed { code }));
        assert!(script.events().is_empty());
        assert_eq!(script.begin().as_deref(), Some(K1));
    }
    // Success without saying that the content is complete: this was no synchronisation.
    let mut script = Script::with(settings(), &["dc=x", "cn=a,dc=x"]);
    script.begin();
    let step = script.tell(&messages::done(0, "", None));
    assert_eq!(step, Step::Over(Over::Failed { code: 0 }));
    assert!(script.events().is_empty());
}

#[test]
fn a_garbage_cookie_gives_full_content_and_an_empty_cookie_is_none() {
    let mut script = Script::new(settings());
    script.begin();
    script.add(1, "dc=x");
    script.end("garbage");
    script.events();
    assert_eq!(script.begin().as_deref(), Some("garbage"));
    // Full content, as for none, and at the end an empty cookie: what is kept stays.
    script.add(1, "dc=x");
    script.end_present("");
    assert_eq!(script.events(), ["refresh-done 1"]);
    assert_eq!(script.cookie(), "garbage");
    // The same without saying what is there: then it is asked again, with no cookie, and that comparison deletes.
    script.begin();
    script.add(2, "cn=2,dc=x");
    assert_eq!(script.end(""), Step::Over(Over::Again(Again::Unsure)));
    script.events();
    assert_eq!(script.begin(), None);
    script.add(2, "cn=2,dc=x");
    script.end("");
    assert_eq!(script.events(), ["delete dc=x", "refresh-done 1"]);
    script.consumer.reload();
    assert_eq!(script.begin(), None);
    script.add(1, "dc=x");
    script.end("");
    script.events();
    assert_eq!(script.begin(), None, "none was said");
}

#[test]
fn a_persist_search_may_end_and_go_on() {
    for code in [0, 4096] {
        let mut script = Script::with(settings(), &["dc=x"]);
        let step = script.tell(&messages::done(code, "", Some((Some(C2), false))));
        assert_eq!(step, Step::Over(Over::Ended));
        assert!(script.events().is_empty(), "no present phase, nothing deleted");
        assert_eq!(script.begin().as_deref(), Some(K2));
    }
}

#[test]
fn another_fingerprint_compares_everything_and_wipes_nothing() {
    let mut script = Script::with(settings(), &["dc=x", "cn=a,dc=x", "cn=b,dc=x"]);
    script.settings.fingerprint = [2; 16];
    script.crash();
    assert_eq!(script.begin(), None);
    script.add(1, "dc=x");
    script.say(State::Add, 2, "cn=a,dc=x", &[("cn", "2")], None);
    script.end(C2);
    assert_eq!(
        script.events(),
        ["modify cn=a,dc=x", "delete cn=b,dc=x", "refresh-done 2"]
    );
    script.crash();
    assert_eq!(script.begin().as_deref(), Some(K2));
}

#[test]
fn a_389_server_that_never_says_what_is_gone_is_understood() {
    let mut only = settings();
    only.mode = Mode::RefreshOnly;
    only.profile = Profile::Ds389;
    let mut script = Script::new(only);
    script.begin();
    script.add(1, "dc=x");
    script.add(2, "cn=a,dc=x");
    script.add(3, "cn=b,dc=x");
    let cookie = "server:389#cn=feed:dc=x:(objectClass=*)#7";
    script.tell(&messages::done(0, "", Some((Some(cookie), false))));
    script.events();
    assert_eq!(script.begin().as_deref(), Some(cookie));
    // Only what changed, and refreshDeletes FALSE all the same: the standard would delete the rest.
    script.gone(3, "cn=b,dc=x");
    script.say(State::Modify, 2, "cn=a,dc=x", &[("cn", "2")], None);
    let newer = "server:389#cn=feed:dc=x:(objectClass=*)#9";
    let over = script.tell(&messages::done(0, "", Some((Some(newer), false))));
    assert_eq!(over, Step::Over(Over::Refreshed));
    assert_eq!(
        script.events(),
        ["modify cn=a,dc=x", "delete cn=b,dc=x", "refresh-done 2"]
    );
    assert_eq!(script.begin().as_deref(), Some(newer));
}
