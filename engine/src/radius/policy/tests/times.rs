use proptest::prelude::*;

use super::*;

const WEEK: usize = 7 * 24 * 60;
const NAMES: [&str; 7] = ["Mo", "tue", "Wednesday", "TH", "Fri", "sa", "Sun"];

fn every_minute() -> impl Iterator<Item = Moment> {
    (0..7).flat_map(|day| (0..1440).map(move |minute| Moment::new(day, minute).unwrap()))
}

/// All minutes of the week, as they are told one by one.
fn minutes(times: &Times) -> Vec<bool> {
    every_minute().map(|moment| times.holds(moment)).collect()
}

/// Walks from the first minute on until the clock shows the end.
fn walk(held: &mut [bool], from: usize, ends: impl Fn(usize) -> bool) {
    let mut at = from;
    loop {
        held[at % WEEK] = true;
        at += 1;
        if ends(at % WEEK) {
            return;
        }
    }
}

fn clock(minute: usize) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

#[derive(Clone, Debug)]
enum Spec {
    Hours {
        days: Option<(usize, usize)>,
        from: usize,
        to: usize,
    },
    Days(Vec<usize>),
    Span {
        from: usize,
        to: usize,
    },
}

impl Spec {
    fn text(&self) -> String {
        match self {
            Spec::Hours { days, from, to } => {
                let days = days.map_or(String::new(), |(a, b)| match a == b {
                    true => format!("{} ", NAMES[a]),
                    false => format!("{} - {}  ", NAMES[a], NAMES[b]),
                });
                format!("{days}{}-{}", clock(*from), clock(*to))
            }
            Spec::Days(days) => days.iter().map(|day| NAMES[*day]).collect::<Vec<_>>().join(", "),
            Spec::Span { from, to } => {
                let show = |minute: usize| format!("{} {}", NAMES[minute / 1440], clock(minute % 1440));
                format!("{} - {}", show(*from), show(*to))
            }
        }
    }

    fn model(&self, held: &mut [bool]) {
        match self {
            Spec::Hours { days, from, to } => {
                let (first, last) = days.unwrap_or((0, 6));
                let mut day = first;
                loop {
                    walk(held, day * 1440 + from, |at| at % 1440 == to % 1440);
                    if day == last {
                        return;
                    }
                    day = (day + 1) % 7;
                }
            }
            Spec::Days(days) => {
                for day in days {
                    walk(held, day * 1440, |at| at % 1440 == 0);
                }
            }
            Spec::Span { from, to } => walk(held, *from, |at| at == *to),
        }
    }
}

fn specs() -> impl Strategy<Value = Vec<Spec>> {
    let hours = (
        proptest::option::of((0..7usize, 0..7usize)),
        0..1440usize,
        0..=1440usize,
    )
        .prop_filter("an end", |(_, from, to)| from != to)
        .prop_map(|(days, from, to)| Spec::Hours { days, from, to });
    let days = proptest::collection::vec(0..7usize, 1..4).prop_map(Spec::Days);
    let span = (0..WEEK, 0..WEEK)
        .prop_filter("an end", |(from, to)| from != to)
        .prop_map(|(from, to)| Spec::Span { from, to });
    proptest::collection::vec(prop_oneof![hours, days, span], 1..4)
}

fn read(specs: &[Spec]) -> (Times, Vec<bool>) {
    let mut held = vec![false; WEEK];
    specs.iter().for_each(|spec| spec.model(&mut held));
    let texts: Vec<String> = specs.iter().map(Spec::text).collect();
    (times(&texts.iter().map(String::as_str).collect::<Vec<_>>()), held)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn times_hold_minute_by_minute(specs in specs(), others in specs()) {
        let (own, held) = read(&specs);
        prop_assert_eq!(&minutes(&own), &held, "{}", own);
        prop_assert_eq!(own.is_always(), held.iter().all(|held| *held));
        let (other, others) = read(&others);
        let inside = held.iter().zip(&others).all(|(own, other)| *own || !*other);
        prop_assert_eq!(own.covers(&other), inside, "{} and {}", own, other);
    }
}

#[test]
fn times_as_they_are_written() {
    let held = |text: &str, day, minute| times(&[text]).holds(Moment::new(day, minute).unwrap());
    assert!(held("Mo-Fr 08:00-18:00", 0, 480) && held("Mo-Fr 08:00-18:00", 4, 1079));
    assert!(!held("Mo-Fr 08:00-18:00", 4, 1080) && !held("Mo-Fr 08:00-18:00", 5, 600));
    assert!(held("Su 22:00-06:00", 0, 359) && !held("Su 22:00-06:00", 0, 360) && !held("Su 22:00-06:00", 6, 0));
    assert!(held("Mo,We 9:00-12:00,13:00-17:00", 2, 780) && !held("Mo,We 9:00-12:00,13:00-17:00", 2, 720));
    assert!(held("Fr 18:00-Mo 06:00", 6, 0) && !held("Fr 18:00-Mo 06:00", 0, 360));
    assert!(times(&["Mo-Su"]).is_always() && times(&["00:00-12:00", "12:00-24:00"]).is_always());
    assert!(Moment::new(7, 0).is_none() && Moment::new(0, 1440).is_none());
    assert_eq!(Moment::new(6, 61).unwrap().to_string(), "Su 01:01");
}

#[test]
fn what_is_no_time_is_refused_with_what_would_be_right() {
    for (text, right) in [
        ("", "days and hours"),
        ("Mo 08:00", "days and hours"),
        ("Montag 08:00-18:00", "one of Mo, Tu"),
        ("M 08:00-18:00", "one of Mo, Tu"),
        ("08:00-18:00 Mo", "days and hours"),
        ("Mo 8-18", "hours and minutes from 00:00 to 23:59, not `8`"),
        ("Mo 24:00-06:00", "23:59, not `24:00`"),
        ("Mo 08:00-24:01", "to 24:00, not `24:01`"),
        ("Mo 08:60-18:00", "not `08:60`"),
        ("Mo 08:00-18:0", "not `18:0`"),
        ("Mo 08:00-08:00", "00:00-24:00 is a whole day"),
        ("Mo 08:00-Mo 08:00", "a whole week"),
        ("Mo-Fr 08:00-18:00 Sa", "one of Mo"),
        ("Mo Tu We Th", "days and hours"),
    ] {
        let found = Times::default().add(text).unwrap_err();
        assert!(found.contains(right), "{text}: {found}");
    }
}
