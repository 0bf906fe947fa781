//! Any bytes as an event of the outbox, and as the facts beside the rows: what is read is rendered as JSON, and written as it
//! was.

use engine::feed::event::Event;
use engine::feed::json;
use engine::feed::store::Facts;

pub(crate) fn run(data: &[u8]) {
    if let Ok(event) = Event::decode(7, data) {
        let mut line = Vec::new();
        json::write_line(&mut line, "f", &event);
        let text = std::str::from_utf8(&line).expect("JSON is UTF-8");
        let value: serde_json::Value = serde_json::from_str(text).expect("it is JSON");
        assert_eq!(value["seq"], 7);
        assert_eq!(value["op"], event.op.name());
        assert_eq!(text.matches('\n').count(), 1);
        let mut again = Vec::new();
        event.encode(&mut again);
        let once_more = Event::decode(7, &again).expect("what was written");
        assert_eq!(format!("{once_more:?}"), format!("{event:?}"));
    }
    if let Ok(facts) = Facts::decode(data) {
        let mut again = Vec::new();
        facts.encode(&mut again);
        assert_eq!(Facts::decode(&again), Ok(facts));
    }
}
