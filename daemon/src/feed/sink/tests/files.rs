//! A file, torn, rotated, moved away, full.

use std::fs;
use std::time::Duration;

use super::{Folder, adds, batch, run, sinks};
use crate::feed::sink::{Delivered, FilePlan, Sink, SinkKind};

fn file(folder: &Folder, rotate_bytes: u64, keep: usize) -> SinkKind {
    SinkKind::File(FilePlan {
        path: folder.path("feed"),
        fsync: true,
        rotate_bytes,
        rotate_age: Duration::ZERO,
        keep,
    })
}

async fn deliver(sink: &mut Sink, range: std::ops::RangeInclusive<u64>, shard: u16) -> u64 {
    let Delivered { upto } = sink.deliver(&batch(&adds(range, shard))).await.unwrap();
    upto
}

#[test]
fn the_last_whole_line_tells_and_a_torn_one_is_cut() {
    let folder = Folder::new("torn");
    run(async {
        let sinks_ = sinks(file(&folder, 0, 0));
        let (mut zero, mut one) = (sinks_.connect(0).await.unwrap(), sinks_.connect(1).await.unwrap());
        assert_eq!((zero.last(), one.last()), (None, None));
        deliver(&mut zero, 1..=3, 0).await;
        assert_eq!(deliver(&mut one, 4..=5, 1).await, 5);
        assert_eq!(one.last(), Some(5));
    });
    let whole = fs::read(folder.path("feed")).unwrap();
    assert_eq!(whole.iter().filter(|byte| **byte == b'\n').count(), 5);
    // A crash in the middle of a line, longer than what is read of the end at once.
    let torn = [
        whole.as_slice(),
        b"{\"seq\":6,\"feed\":\"people\",\"shard\":0,\"x\":\"",
        &[b'x'; 200_000],
    ]
    .concat();
    fs::write(folder.path("feed"), torn).unwrap();
    run(async {
        let sinks_ = sinks(file(&folder, 0, 0));
        let mut zero = sinks_.connect(0).await.unwrap();
        assert_eq!(
            (zero.last(), sinks_.connect(1).await.unwrap().last()),
            (Some(3), Some(5))
        );
        assert_eq!(sinks_.connect(2).await.unwrap().last(), None);
        deliver(&mut zero, 6..=6, 0).await;
    });
    let now = fs::read(folder.path("feed")).unwrap();
    assert!(now.starts_with(&whole) && now.ends_with(b"\n"));
    assert_eq!(now.iter().filter(|byte| **byte == b'\n').count(), 6);
}

#[test]
fn files_are_put_away_by_size_and_still_tell_the_last_number() {
    let folder = Folder::new("rotate");
    run(async {
        let shared = sinks(file(&folder, 300, 2));
        let (mut zero, mut one) = (shared.connect(0).await.unwrap(), shared.connect(1).await.unwrap());
        deliver(&mut one, 1..=1, 1).await;
        for seq in 2..=8 {
            deliver(&mut zero, seq..=seq, 0).await;
        }
    });
    let mut names: Vec<_> = fs::read_dir(&folder.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["feed", "feed.1", "feed.2"]);
    run(async {
        let again = sinks(file(&folder, 300, 2));
        assert_eq!(again.connect(0).await.unwrap().last(), Some(8));
        let kept = ["feed", "feed.1", "feed.2"]
            .map(|name| fs::read_to_string(folder.path(name)).unwrap())
            .concat();
        let expected = kept.contains("\"shard\":1").then_some(1);
        assert_eq!(again.connect(1).await.unwrap().last(), expected);
    });
}

#[test]
fn a_file_that_is_moved_away_is_noticed() {
    let folder = Folder::new("moved");
    run(async {
        let shared = sinks(file(&folder, 0, 0));
        let mut zero = shared.connect(0).await.unwrap();
        deliver(&mut zero, 1..=1, 0).await;
        fs::rename(folder.path("feed"), folder.path("elsewhere")).unwrap();
        deliver(&mut zero, 2..=2, 0).await;
    });
    assert!(
        fs::read_to_string(folder.path("elsewhere"))
            .unwrap()
            .starts_with("{\"seq\":1,")
    );
    assert!(
        fs::read_to_string(folder.path("feed"))
            .unwrap()
            .starts_with("{\"seq\":2,")
    );
}

#[test]
fn a_full_disk_is_tried_again() {
    run(async {
        let full = SinkKind::File(FilePlan {
            path: "/dev/full".into(),
            fsync: false,
            rotate_bytes: 0,
            rotate_age: Duration::ZERO,
            keep: 0,
        });
        let mut sink = sinks(full).connect(0).await.unwrap();
        let error = sink.deliver(&batch(&adds(1..=2, 0))).await.unwrap_err();
        assert!(error.text.contains("No space left"), "{error}");
        assert!(matches!(error.failure, crate::feed::sink::Failure::Retry { .. }));
    });
}
