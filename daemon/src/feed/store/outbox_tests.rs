use engine::feed::event::Op;
use engine::feed::store::Content;

use super::super::fresh::FRESH_BYTES_MAX;
use super::super::{Kept, Lock};
use super::*;
use crate::feed::sink::tests::Folder;

fn emit(kept: &mut Kept<'_>, shard: u16, dn: &str) {
    let event = Event {
        shard,
        ..Event::new(Op::Add, [7; 16], dn, 0)
    };
    kept.emit(&event).unwrap();
}

/// All that a shard is given behind a number.
fn given(kept: &mut Kept<'_>, shard: u16, after: u64) -> Vec<u64> {
    let mut all = Vec::new();
    loop {
        let batch = kept.outbox.next(shard, all.last().copied().unwrap_or(after)).unwrap();
        assert!(batch.len() <= BATCH_EVENTS_MAX, "{}", batch.len());
        match batch.last() {
            None => return all,
            Some(_) => all.extend(batch.iter().map(|(seq, _)| seq)),
        }
    }
}

#[test]
fn while_a_transaction_is_open_only_what_was_committed_is_given() {
    let folder = Folder::new("outbox-open");
    let file = Lock::take(&folder.path("state")).unwrap().open(1).unwrap();
    let mut kept = Kept::new(&file.connection, 1).unwrap();
    kept.begin().unwrap();
    (0..3).for_each(|_| emit(&mut kept, 0, "cn=a"));
    kept.commit().unwrap();
    kept.begin().unwrap();
    (0..3).for_each(|_| emit(&mut kept, 0, "cn=b"));
    // Out of the table, as after every start.
    assert_eq!(given(&mut kept, 0, 0), [1, 2, 3]);
    emit(&mut kept, 0, "cn=b");
    kept.commit().unwrap();
    assert_eq!(given(&mut kept, 0, 3), [4, 5, 6, 7]);
    // Out of memory, now that it has caught up.
    kept.begin().unwrap();
    (0..2000).for_each(|_| emit(&mut kept, 0, "cn=c"));
    kept.commit().unwrap();
    kept.begin().unwrap();
    emit(&mut kept, 0, "cn=d");
    assert!(!kept.outbox.shards[0].behind);
    assert_eq!(given(&mut kept, 0, 7), (8..=2007).collect::<Vec<_>>());
    kept.rollback();
    assert_eq!(given(&mut kept, 0, 2007), [0_u64; 0], "what was rolled back is not");
    kept.begin().unwrap();
    emit(&mut kept, 0, "cn=e");
    kept.commit().unwrap();
    assert_eq!(given(&mut kept, 0, 2007), [2008]);
    assert_eq!(kept.outbox.shards[0].bytes, 0);
}

#[test]
fn a_shard_that_nobody_reads_takes_its_part_of_memory_and_no_more() {
    let folder = Folder::new("outbox-part");
    let shards = 4;
    let file = Lock::take(&folder.path("state")).unwrap().open(shards).unwrap();
    let mut kept = Kept::new(&file.connection, shards).unwrap();
    for shard in 0..shards {
        assert!(given(&mut kept, shard, 0).is_empty());
    }
    let long = format!("cn={}", "x".repeat(64 * 1024));
    let part = FRESH_BYTES_MAX / usize::from(shards);
    let mut count = 0;
    while !kept.outbox.shards[2].behind {
        kept.begin().unwrap();
        emit(&mut kept, 2, &long);
        emit(&mut kept, 3, "cn=short");
        kept.commit().unwrap();
        count += 1;
        assert!(kept.outbox.shards[2].bytes <= part);
        assert!(count < 1000);
    }
    assert_eq!(kept.outbox.shards[2].bytes, 0);
    assert!(!kept.outbox.shards[3].behind, "the others go on");
    assert_eq!(given(&mut kept, 3, 0).len(), count);
    // Memory is begun anew, and caught up with while a transaction is open.
    kept.begin().unwrap();
    emit(&mut kept, 2, "cn=later");
    kept.commit().unwrap();
    kept.begin().unwrap();
    emit(&mut kept, 2, "cn=later still");
    let all = given(&mut kept, 2, 0);
    assert_eq!(all.len(), count + 1, "all of it is in the table");
    assert!(!kept.outbox.shards[2].behind);
    kept.commit().unwrap();
    assert_eq!(given(&mut kept, 2, all[count]).len(), 1);
    // Rolled back in the transaction in which memory was begun anew, its numbers are given again.
    kept.begin().unwrap();
    (0..=count).for_each(|_| emit(&mut kept, 2, &long));
    assert!(kept.outbox.shards[2].behind);
    kept.rollback();
    kept.begin().unwrap();
    emit(&mut kept, 2, "cn=at last");
    kept.commit().unwrap();
    assert_eq!(given(&mut kept, 2, all[count] + 1), [kept.outbox.head().next - 1]);
}

#[test]
fn a_file_with_the_pages_of_an_older_usherd_goes_on() {
    let folder = Folder::new("outbox-pages");
    let lock = Lock::take(&folder.path("state")).unwrap();
    let file = lock.open(1).unwrap();
    let mut kept = Kept::new(&file.connection, 1).unwrap();
    kept.begin().unwrap();
    emit(&mut kept, 0, "cn=a");
    kept.commit().unwrap();
    drop(kept);
    file.connection
        .execute_batch("PRAGMA journal_mode = DELETE; PRAGMA page_size = 4096; VACUUM")
        .unwrap();
    drop(file);
    let file = lock.open(1).unwrap();
    let pages: i64 = file
        .connection
        .query_row("PRAGMA page_size", [], |row| row.get(0))
        .unwrap();
    assert_eq!(pages, 4096);
    let mut kept = Kept::new(&file.connection, 1).unwrap();
    kept.begin().unwrap();
    emit(&mut kept, 0, "cn=b");
    kept.commit().unwrap();
    assert_eq!(given(&mut kept, 0, 0), [1, 2]);
}
