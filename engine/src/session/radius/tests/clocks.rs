//! Requests are clocked by themselves: what takes too long is shed before work is spent on it.

use super::*;

/// One request of its own identifier and user; what came of it at once.
fn sent(front: &mut Front, identifier: u8, now: Instant) -> Result<(RequestId, u32), Option<Dropped>> {
    let mut out = Vec::new();
    let packet = request(Code::ACCESS_REQUEST, identifier, 1);
    front.received(&packet, &path(u16::from(identifier)), now, now, &mut out);
    match front.effect() {
        Some(Effect::Ask { request, question, .. }) => Ok((request, question.id)),
        Some(Effect::Dropped { why, .. }) => Err(Some(why)),
        _ => Err(None),
    }
}

fn answer(front: &mut Front, (request, question): (RequestId, u32), now: Instant) {
    let mut out = Vec::new();
    front.told(request, question, &Event::Answer(b"{\"status\":\"ok\"}"), now, &mut out);
    while front.effect().is_some() {}
}

#[test]
fn a_back_end_that_answers_in_time_is_asked_however_many_wait() {
    let mut front = Front::new(plan(Unavailable::Silence, Mode::First, 1), 1);
    let mut now = Instant::from_secs(9);
    for identifier in 0..200 {
        let asked = sent(&mut front, identifier, now).expect("it is asked");
        now += Span::from_millis(100);
        answer(&mut front, asked, now);
    }
    let backend = &front.figures().backends[0];
    assert_eq!((backend.yes, backend.in_flight), (200, 0));
    let estimate = backend.predicted(now);
    assert!(
        (Span::from_millis(90)..Span::from_millis(110)).contains(&estimate),
        "{estimate:?}"
    );
    assert_eq!(front.figures().took.count, 200);
}

#[test]
fn a_stopped_back_end_is_seen_by_its_silence_and_probed_until_it_answers() {
    let mut front = Front::new(plan(Unavailable::Silence, Mode::First, 1), 1);
    let start = Instant::from_secs(9);
    let first = sent(&mut front, 0, start).expect("it is asked");
    let patience = Settings::default().patience;
    let _ = sent(&mut front, 1, start + patience - Span::from_millis(1)).expect("there is hope still");
    // From now on whoever asks would wait in vain: one in half a second is asked all the same.
    let now = start + patience;
    assert!(sent(&mut front, 2, now).is_ok(), "the first probe");
    assert_eq!(sent(&mut front, 3, now), Err(Some(Dropped::Stale)));
    assert_eq!(
        sent(&mut front, 4, now + Span::from_millis(400)),
        Err(Some(Dropped::Stale))
    );
    let probe = sent(&mut front, 5, now + Span::from_millis(500)).expect("the second probe");
    assert_eq!(front.figures().dropped(Dropped::Stale), 2);
    // It answers again, at once.
    for at in 0..20 {
        let now = now + Span::from_millis(501 + at);
        answer(&mut front, if at == 0 { probe } else { first }, now);
    }
    let now = now + Span::from_millis(600);
    let quick = sent(&mut front, 6, now).expect("its answers are young");
    answer(&mut front, quick, now + Span::from_millis(1));
}

#[test]
fn what_has_waited_for_longer_than_its_client_does_is_not_looked_at() {
    let mut front = Front::new(plan(Unavailable::Silence, Mode::First, 1), 1);
    let (received, mut out) = (Instant::from_secs(9), Vec::new());
    let now = received + Settings::default().patience;
    for (code, identifier) in [
        (Code::ACCESS_REQUEST, 1),
        (Code::ACCOUNTING_REQUEST, 2),
        (Code::STATUS_SERVER, 3),
    ] {
        front.received(&request(code, identifier, 1), &path(1), received, now, &mut out);
        let Some(Effect::Dropped { why, .. }) = front.effect() else {
            panic!()
        };
        assert_eq!(why, Dropped::Stale);
    }
    assert!(out.is_empty());
    assert_eq!(front.figures().dropped(Dropped::Stale), 3);
}

#[test]
fn who_is_given_up_or_cancelled_is_not_in_flight_any_more() {
    let mut front = Front::new(plan(Unavailable::Silence, Mode::First, 1), 1);
    let (now, mut out) = (Instant::from_secs(9), Vec::new());
    front.received(&request(Code::ACCESS_REQUEST, 1, 1), &path(1), now, now, &mut out);
    front.received(&request(Code::ACCESS_REQUEST, 1, 2), &path(1), now, now, &mut out);
    assert_eq!(
        front.figures().backends[0].in_flight,
        1,
        "the second has taken the first one's place"
    );
    front.tick(now + Settings::default().request_timeout, &mut out);
    let backend = &front.figures().backends[0];
    assert_eq!((backend.in_flight, backend.unavailable), (0, 1));
    assert_eq!(
        backend.service_time.estimate(now + Span::from_secs(31)),
        Span::from_secs(30)
    );
}
