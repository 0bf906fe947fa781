//! What is in the content, what is gone, and under which names: the nasty cases, one by one.

use engine::feed::consumer::{Again, Confirmed, Over, Phase, Step};
use engine::feed::event::Op;
use engine::feed::settings::MaxDeletes;
use engine::feed::shape::Shape;
use wire::ldap::sync::State;

use crate::messages;
use crate::script::{C1, C2, K1, K2, Script, settings, uuid};

const TREE: [&str; 5] = ["dc=x", "ou=a,dc=x", "ou=b,dc=x", "cn=1,ou=a,dc=x", "cn=2,ou=b,dc=x"];

#[test]
fn what_a_present_phase_does_not_mention_is_gone_at_its_end_and_not_before() {
    let mut script = Script::with(settings(), &TREE);
    script.begin();
    script.tell(&messages::id_set(false, &[uuid(1), uuid(3)], None));
    script.say(State::Present, 4, "cn=1,ou=a,dc=x", &[], None);
    script.say(State::Add, 2, "ou=a,dc=x", &[("cn", "2")], None);
    script.tell(&messages::refresh_present(None, false));
    assert_eq!(script.events(), ["modify ou=a,dc=x"]);
    assert_eq!(script.end(C2), Step::Refreshed);
    assert_eq!(script.events(), ["delete cn=2,ou=b,dc=x", "refresh-done 4"]);
    let counts = script.counts();
    assert_eq!((counts.modified, counts.deleted, counts.unchanged), (1, 1, 3));
}

#[test]
fn a_refresh_that_breaks_off_deletes_nothing() {
    for ended in [false, true] {
        let mut script = Script::with(settings(), &TREE);
        script.begin();
        script.tell(&messages::id_set(false, &[uuid(1)], None));
        script.tell(&messages::id_set(true, &[uuid(4)], None));
        script.tell(&messages::refresh_present(Some(C2), false));
        if ended {
            script.crash();
        } else {
            script.consumer.lost();
        }
        assert!(script.events().is_empty());
        assert_eq!(script.begin().as_deref(), Some(K1));
        assert_eq!(script.end(C2), Step::Refreshed);
        assert_eq!(script.events(), ["refresh-done 5"]);
    }
}

#[test]
fn a_delete_phase_deletes_what_it_says() {
    let mut script = Script::with(settings(), &TREE);
    script.begin();
    script.tell(&messages::id_set(true, &[uuid(4)], None));
    script.tell(&messages::id_set(true, &[uuid(77)], None));
    script.say(State::Add, 6, "cn=6,ou=b,dc=x", &[], None);
    assert_eq!(script.events(), ["add cn=6,ou=b,dc=x"]);
    script.end(C2);
    assert_eq!(script.events(), ["delete cn=1,ou=a,dc=x", "refresh-done 5"]);
}

#[test]
fn entries_that_are_as_kept_cost_nothing_and_are_not_told() {
    let mut script = Script::with(settings(), &TREE);
    script.consumer.reload();
    script.begin();
    let writes = script.memory.writes;
    for (number, dn) in (1..).zip(TREE) {
        script.add(number, dn);
    }
    assert_eq!(script.memory.writes, writes);
    script.end(C2);
    assert_eq!(script.events(), ["refresh-done 5"]);
    assert_eq!(script.counts().unchanged, 5);
}

#[test]
fn an_entry_may_come_before_its_parents() {
    let mut script = Script::new(settings());
    script.begin();
    for (number, dn) in [
        (3, "cn=1,OU=A,dc=X"),
        (2, "ou=a, dc=x"),
        (1, "dc=x"),
        (4, "cn=2,ou=a,dc=x"),
    ] {
        script.add(number, dn);
    }
    script.end(C1);
    assert!(script.memory.rows().all(|row| row.uuid.is_some()), "no glue is left");
    script.events();
    script.say(State::Modify, 2, "ou=b,dc=x", &[("cn", "1")], None);
    assert_eq!(
        script.sorted_events(),
        [
            "move cn=1,ou=a, dc=x > cn=1,ou=b,dc=x",
            "move cn=2,ou=a, dc=x > cn=2,ou=b,dc=x",
            "move ou=a,dc=x > ou=b,dc=x",
        ]
        .map(|line| line.replace("ou=a, dc=x", "ou=a,dc=x"))
    );
}

#[test]
fn a_name_that_was_deleted_and_added_again_is_another_entry() {
    let mut script = Script::with(settings(), &TREE);
    script.begin();
    script.tell(&messages::id_set(true, &[uuid(2)], None));
    script.tell(&messages::id_set(true, &[uuid(4)], None));
    // The new container's child comes before it.
    script.add(9, "cn=9,ou=a,dc=x");
    script.add(8, "ou=a,dc=x");
    script.end(C2);
    assert_eq!(
        script.events(),
        [
            "add cn=9,ou=a,dc=x",
            "add ou=a,dc=x",
            "delete cn=1,ou=a,dc=x",
            "delete ou=a,dc=x",
            "refresh-done 5"
        ]
    );
    script.say(State::Modify, 8, "ou=z,dc=x", &[("cn", "1")], None);
    assert_eq!(
        script.events(),
        ["move ou=a,dc=x > ou=z,dc=x", "move cn=9,ou=a,dc=x > cn=9,ou=z,dc=x"]
    );
}

#[test]
fn containers_that_were_swapped_while_away_keep_what_is_theirs() {
    for first in [2, 3] {
        let mut script = Script::with(settings(), &TREE);
        script.begin();
        for number in [first, 5 - first] {
            script.add(number, if number == 2 { "ou=b,dc=x" } else { "ou=a,dc=x" });
        }
        script.end(C2);
        let told = script.sorted_events();
        assert_eq!(
            told,
            [
                "move cn=1,ou=a,dc=x > cn=1,ou=b,dc=x",
                "move cn=2,ou=b,dc=x > cn=2,ou=a,dc=x",
                "move ou=a,dc=x > ou=b,dc=x",
                "move ou=b,dc=x > ou=a,dc=x",
                "refresh-done 5",
            ]
        );
    }
}

#[test]
fn an_entry_said_by_its_new_name_is_not_carried_off_with_its_old_container() {
    // ou=a became ou=c, ou=b became ou=a, and cn=1 went from the one to the other: so its name is as it was.
    let mut script = Script::with(settings(), &TREE);
    script.begin();
    script.say(State::Add, 4, "cn=1,ou=a,dc=x", &[("cn", "2")], None);
    script.add(2, "ou=c,dc=x");
    script.add(3, "ou=a,dc=x");
    script.end(C2);
    assert_eq!(
        script.events(),
        [
            "modify cn=1,ou=a,dc=x",
            "move ou=a,dc=x > ou=c,dc=x",
            "move ou=b,dc=x > ou=a,dc=x",
            "move cn=2,ou=b,dc=x > cn=2,ou=a,dc=x",
            "refresh-done 5",
        ]
    );
    script.gone(3, "ou=elsewhere,dc=y");
    assert_eq!(
        script.sorted_events(),
        ["delete cn=1,ou=a,dc=x", "delete cn=2,ou=a,dc=x", "delete ou=a,dc=x"]
    );
}

#[test]
fn three_names_go_round() {
    let mut script = Script::with(settings(), &["dc=x", "cn=a,dc=x", "cn=b,dc=x"]);
    for (number, dn) in [(2, "cn=t,dc=x"), (3, "cn=a,dc=x"), (2, "cn=b,dc=x")] {
        script.say(State::Modify, number, dn, &[("cn", "1")], None);
    }
    assert_eq!(
        script.events(),
        [
            "move cn=a,dc=x > cn=t,dc=x",
            "move cn=b,dc=x > cn=a,dc=x",
            "move cn=t,dc=x > cn=b,dc=x"
        ]
    );
}

#[test]
fn what_moves_out_of_the_base_takes_all_along_children_first() {
    let mut script = Script::with(
        settings(),
        &["dc=x", "ou=a,dc=x", "ou=b,ou=a,dc=x", "cn=1,ou=b,ou=a,dc=x"],
    );
    script.gone(2, "ou=a,dc=elsewhere");
    assert_eq!(
        script.events(),
        [
            "delete cn=1,ou=b,ou=a,dc=x",
            "delete ou=b,ou=a,dc=x",
            "delete ou=a,dc=x"
        ]
    );
    // In a delete phase the same is said by the uuid alone.
    let mut script = Script::with(settings(), &TREE);
    script.begin();
    script.tell(&messages::id_set(true, &[uuid(2)], None));
    script.end(C2);
    assert_eq!(
        script.events(),
        ["delete cn=1,ou=a,dc=x", "delete ou=a,dc=x", "refresh-done 3"]
    );
}

#[test]
fn a_container_that_moves_in_with_others_below_makes_a_full_comparison() {
    let mut script = Script::with(settings(), &["dc=x"]);
    let csn = "20260101000009.000000Z#000000#001#000000";
    let new = [
        ("entryCSN", csn),
        ("createTimestamp", "20260101000009Z"),
        ("hasSubordinates", "FALSE"),
    ];
    assert_eq!(script.say(State::Add, 2, "ou=a,dc=x", &new, None), Step::Continue);
    let moved = [
        ("entryCSN", csn),
        ("createTimestamp", "20250101000000Z"),
        ("hasSubordinates", "TRUE"),
    ];
    let step = script.say(State::Add, 3, "ou=b,dc=x", &moved, Some(C2));
    assert_eq!(step, Step::Over(Over::Again(Again::Unsure)));
    assert_eq!(script.events(), ["add ou=a,dc=x", "add ou=b,dc=x"]);
    script.crash();
    assert_eq!(script.begin(), None);
    // Made, filled and moved within one second.
    let mut script = Script::with(settings(), &["dc=x"]);
    let quick = [
        ("entryCSN", csn),
        ("createTimestamp", "20260101000009Z"),
        ("hasSubordinates", "TRUE"),
    ];
    let step = script.say(State::Add, 2, "ou=a,dc=x", &quick, Some(C2));
    assert_eq!(step, Step::Over(Over::Again(Again::Unsure)));
    // The same of a leaf means nothing.
    let mut script = Script::with(settings(), &["dc=x"]);
    let leaf = [("createTimestamp", "20250101000000Z"), ("hasSubordinates", "FALSE")];
    assert_eq!(script.say(State::Add, 3, "cn=b,dc=x", &leaf, Some(C2)), Step::Continue);
}

#[test]
fn an_entry_said_to_be_there_and_not_known_makes_a_full_comparison() {
    let mut script = Script::with(settings(), &["dc=x"]);
    script.begin();
    let step = script.tell(&messages::id_set(false, &[uuid(1), uuid(2)], None));
    assert_eq!(step, Step::Over(Over::Again(Again::Unsure)));
    assert_eq!(script.begin(), None);
}

#[test]
fn a_container_that_leaves_the_filter_leaves_what_is_below() {
    let mut filtered = settings();
    filtered.whole = false;
    let mut script = Script::with(filtered.clone(), &TREE);
    script.gone(2, "ou=a,dc=x");
    assert_eq!(script.events(), ["delete ou=a,dc=x"]);
    script.say(State::Modify, 4, "cn=1,ou=a,dc=x", &[("cn", "2")], None);
    assert_eq!(script.events(), ["modify cn=1,ou=a,dc=x"]);
    // Renamed, and with that out of the filter: what is below moved along.
    script.gone(3, "ou=c,dc=x");
    assert_eq!(
        script.events(),
        ["move cn=2,ou=b,dc=x > cn=2,ou=c,dc=x", "delete ou=b,dc=x"]
    );
    // By the uuid alone it cannot be known.
    let mut script = Script::with(filtered, &TREE);
    script.begin();
    script.tell(&messages::id_set(true, &[uuid(2)], None));
    assert_eq!(script.end(C2), Step::Over(Over::Again(Again::Unsure)));
    assert_eq!(script.events(), ["delete ou=a,dc=x"]);
    assert_eq!(script.begin(), None);
}

#[test]
fn ten_thousand_below_a_renamed_container_are_told() {
    let mut script = Script::new(settings());
    script.begin();
    script.add(1, "dc=x");
    script.add(2, "ou=a,dc=x");
    for number in 0_u32..10_000 {
        let mut uuid = [9; 16];
        uuid[..4].copy_from_slice(&number.to_be_bytes());
        let dn = format!("uid={number},ou=a,dc=x");
        script.tell(&messages::entry(State::Add, uuid, &dn, &Vec::new(), None));
    }
    script.end(C1);
    script.events();
    let writes = script.memory.writes;
    script.say(State::Modify, 2, "ou=b,dc=x", &[("cn", "1")], None);
    let mut moves = 0;
    script.each(|event| {
        assert_eq!(event.op, Op::Move);
        assert!(event.dn.ends_with("ou=b,dc=x") && event.old_dn.unwrap().ends_with("ou=a,dc=x"));
        moves += 1;
    });
    assert_eq!(moves, 10_001);
    assert_eq!(script.memory.writes - writes, 10_002, "an event for each, and one row");
}

#[test]
fn odd_names_are_found_again() {
    let names = [
        "ou=a\\, b,dc=x",
        "ou=c\\2Cd,dc=x",
        "ou=\\20e\\20,dc=x",
        "ou=\\#f,dc=x",
        "ou=Ü+cn=g,dc=x",
        "ou=h\\+i,dc=x",
    ];
    let mut script = Script::with(settings(), &["dc=x"]);
    for (number, dn) in (10..).step_by(2).zip(names) {
        script.add(number, dn);
        script.add(number + 1, &format!("cn=1,{dn}"));
        script.events();
        script.say(State::Modify, number, "ou=z,dc=x", &[("cn", "1")], None);
        assert_eq!(
            script.events(),
            [
                format!("move {dn} > ou=z,dc=x"),
                format!("move cn=1,{dn} > cn=1,ou=z,dc=x")
            ]
        );
        script.gone(number, "dc=y");
        script.events();
    }
}

#[test]
fn too_many_deletes_wait_for_an_operator() {
    let mut guarded = settings();
    guarded.max_deletes = MaxDeletes {
        count: Some(1),
        percent: None,
    };
    let mut script = Script::with(guarded, &TREE);
    // A list that was cut short.
    script.begin();
    script.tell(&messages::id_set(false, &[uuid(1), uuid(2), uuid(3)], None));
    assert_eq!(script.end_present(C2), Step::Held);
    // Later changes are applied; nothing is deleted, and the cookie stays.
    script.say(State::Modify, 4, "cn=1,ou=a,dc=x", &[("cn", "2")], Some(C2));
    assert_eq!(script.events(), ["modify cn=1,ou=a,dc=x"]);
    assert_eq!(script.cookie(), K1);
    let held = script.consumer.held().unwrap();
    assert_eq!((held.deletes, held.entries, held.since_ms), (2, 5, 1000));
    let confirmed = script.consumer.confirm(&mut script.memory, 2000).unwrap();
    assert_eq!(confirmed, Confirmed::Now(Step::Refreshed));
    // What came back meanwhile is there.
    assert_eq!(script.events(), ["delete cn=2,ou=b,dc=x", "refresh-done 4"]);
    assert_eq!((script.cookie().as_str(), script.consumer.held()), (K2, None));
}

#[test]
fn a_held_refresh_survives_and_may_be_rejected() {
    let mut guarded = settings();
    guarded.max_deletes = MaxDeletes {
        count: None,
        percent: Some(30),
    };
    let mut script = Script::with(guarded, &TREE);
    let refresh = |script: &mut Script| {
        script.begin();
        script.tell(&messages::id_set(false, &[uuid(1), uuid(2), uuid(3)], None));
        let step = script.end_present(C2);
        script.events();
        step
    };
    assert_eq!(refresh(&mut script), Step::Held);
    assert!(script.consumer.reject());
    assert_eq!((script.consumer.phase(), script.consumer.held()), (Phase::Idle, None));
    assert_eq!(refresh(&mut script), Step::Held);
    script.crash();
    assert!(script.consumer.held().is_some());
    let confirmed = script.consumer.confirm(&mut script.memory, 2000).unwrap();
    assert_eq!(confirmed, Confirmed::NextRefresh);
    script.events();
    script.crash();
    script.begin();
    script.tell(&messages::id_set(false, &[uuid(1), uuid(2), uuid(3)], None));
    assert_eq!(script.end_present(C2), Step::Refreshed);
    assert_eq!(
        script.sorted_events(),
        ["delete cn=1,ou=a,dc=x", "delete cn=2,ou=b,dc=x", "refresh-done 3"]
    );
    // The leave was for once.
    script.begin();
    script.tell(&messages::id_set(false, &[uuid(1)], None));
    assert_eq!(script.end_present(C2), Step::Held);
}

#[test]
fn the_first_content_may_be_kept_and_not_told() {
    let mut quiet = settings();
    quiet.initial = false;
    let mut script = Script::new(quiet);
    script.begin();
    script.add(1, "dc=x");
    script.events();
    script.crash();
    script.begin();
    script.add(1, "dc=x");
    script.add(2, "cn=a,dc=x");
    script.end(C1);
    assert_eq!(script.events(), ["refresh-done 2"]);
    script.say(State::Modify, 2, "cn=b,dc=x", &[("cn", "1")], None);
    assert_eq!(script.events(), ["move cn=a,dc=x > cn=b,dc=x"]);
}

#[test]
fn old_values_renamed_and_redacted_attributes() {
    let mut shaped = settings();
    shaped.before = true;
    let rename = [("mail".to_string(), "email".to_string())];
    shaped.shape = Shape::new(&[], &rename, &["userPassword".to_string()]).unwrap();
    let mut script = Script::new(shaped);
    script.begin();
    let old = [
        ("mail", "a@x"),
        ("userPassword", "secret"),
        ("cn;lang-de", "1"),
        ("entryCSN", "77"),
    ];
    script.say(State::Add, 1, "dc=x", &old, None);
    let new = [
        ("mail", "b@x"),
        ("userPassword", "another"),
        ("cn;lang-de", "1"),
        ("entryCSN", "78"),
    ];
    script.say(State::Add, 1, "dc=x", &new, None);
    let mut lines = Vec::new();
    script.each(|event| {
        let mut line = Vec::new();
        engine::feed::json::write(&mut line, "f", event);
        lines.push(String::from_utf8(line).unwrap());
    });
    let shard = engine::feed::shards::shard_of(&uuid(1), 7);
    let uuid = "01010101-0101-0101-0101-010101010101";
    assert_eq!(
        lines,
        [
            format!(
                "{{\"seq\":1,\"feed\":\"f\",\"shard\":{shard},\"op\":\"add\",\"uuid\":\"{uuid}\",\"dn\":\"dc=x\",\
                 \"attributes\":{{\"email\":[\"a@x\"],\"userPassword\":[{{\"redacted\":true}}],\"cn;lang-de\":[\"1\"]}},\
                 \"csn\":\"77\",\"time\":\"1970-01-01T00:00:01.000Z\"}}"
            ),
            format!(
                "{{\"seq\":2,\"feed\":\"f\",\"shard\":{shard},\"op\":\"modify\",\"uuid\":\"{uuid}\",\"dn\":\"dc=x\",\
                 \"attributes\":{{\"email\":[\"b@x\"],\"userPassword\":[{{\"redacted\":true}}],\"cn;lang-de\":[\"1\"]}},\
                 \"changed\":[\"email\",\"userPassword\"],\
                 \"before\":{{\"email\":[\"a@x\"],\"userPassword\":[{{\"redacted\":true}}]}},\
                 \"csn\":\"78\",\"time\":\"1970-01-01T00:00:01.000Z\"}}"
            ),
        ]
    );
    assert!(
        !format!("{:?}", script.memory).contains(&format!("{:?}", b"secret")[1..20]),
        "no secret is kept"
    );
}

#[test]
fn a_replay_tells_what_is_under_new_numbers() {
    let mut script = Script::with(settings(), &TREE);
    script.consumer.replay(&mut script.memory, &uuid(4), "", 5).unwrap();
    script
        .consumer
        .replay(&mut script.memory, &uuid(99), "cn=gone,dc=x", 5)
        .unwrap();
    let mut seqs = Vec::new();
    script.each(|event| seqs.push((event.seq, crate::script::told(event))));
    let expected = ["add cn=1,ou=a,dc=x", "delete cn=gone,dc=x"];
    let expected: Vec<_> = (7..).zip(expected.map(str::to_string)).collect();
    assert_eq!(seqs, expected);
}
