//! The pure part, with a PAM that follows a script.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::*;
use crate::CannotAsk;

/// One step of the script: what modules say at it, and how it ends.
type Scene = (Vec<(Style, &'static str)>, i32);

#[derive(Default)]
struct Script {
    scenes: VecDeque<Scene>,
    /// What was asked for and what was answered, in order.
    seen: Vec<String>,
}

impl Backend for Script {
    fn transact(&mut self, transaction: &Transaction<'_>, talk: &mut dyn Talk) -> Outcome {
        self.seen.push(format!("{} {}", transaction.service, transaction.user));
        for step in transaction.steps {
            let (prompts, mut code) = self.scenes.pop_front().unwrap_or_default();
            for (style, text) in prompts {
                let prompt = Prompt {
                    style,
                    text: text.into(),
                };
                match talk.answer(*step, &[prompt]) {
                    Ok(answers) => {
                        for answer in answers.into_iter().flatten() {
                            self.seen.push(format!("{text}{}", *answer));
                        }
                    }
                    Err(NoAnswer) => {
                        code = 19;
                        break;
                    }
                }
            }
            if code != 0 && !(*step == Step::AccountToChange && code == 12) {
                let failed = Failed {
                    step: Some(*step),
                    code,
                    text: "said".into(),
                };
                return Outcome {
                    failed: Some(failed),
                    ..Outcome::default()
                };
            }
        }
        Outcome {
            user: Some("canonical".into()),
            ..Outcome::default()
        }
    }
}

/// A caller who gives these inputs, then cannot be asked.
#[derive(Default)]
struct Asked {
    inputs: VecDeque<Value>,
    questions: Vec<Value>,
    gone: bool,
}

impl Caller for Asked {
    fn ask(&mut self, payload: &[u8]) -> Result<Vec<u8>, CannotAsk> {
        if self.gone {
            return Err(CannotAsk::Gone);
        }
        self.questions.push(serde_json::from_slice(payload).unwrap());
        let input = self.inputs.pop_front().ok_or(CannotAsk::Unable)?;
        Ok(input.to_string().into_bytes())
    }
    fn interrupted(&mut self) -> bool {
        false
    }
}

fn say(scenes: &[Scene], caller: &mut Asked, request: &Value) -> (Value, Vec<String>) {
    say_with(Options::default(), scenes, caller, request)
}

fn say_with(options: Options, scenes: &[Scene], caller: &mut Asked, request: &Value) -> (Value, Vec<String>) {
    let script = Script {
        scenes: scenes.iter().cloned().collect(),
        seen: Vec::new(),
    };
    let mut pam = Pam::new(options, script);
    let reply = match pam.call(request.to_string().as_bytes(), caller) {
        Reply::Answer(answer) => serde_json::from_slice(&answer).unwrap(),
        Reply::Interrupted => json!("interrupted"),
    };
    (reply, pam.backend.seen)
}

fn hidden(text: &'static str) -> (Style, &'static str) {
    (Style::Hidden, text)
}

fn login() -> Value {
    json!({"do": "authenticate", "name": "alice", "password": "secret"})
}

#[test]
fn the_password_answers_the_first_hidden_prompt_and_the_same_one_again() {
    let scenes = [
        (vec![hidden("Password: "), hidden("Password: ")], 0),
        (vec![(Style::Info, "Welcome")], 0),
    ];
    let (answer, seen) = say(&scenes, &mut Asked::default(), &login());
    assert_eq!(
        answer,
        json!({"status": "ok", "message": "Welcome", "name": "canonical"})
    );
    assert_eq!(seen, ["login alice", "Password: secret", "Password: secret"]);
}

#[test]
fn everything_else_is_asked_of_the_caller_with_what_was_told_before() {
    let scenes = [(
        vec![
            hidden("Password: "),
            (Style::Info, "A code was sent"),
            hidden("Code: "),
            (Style::Visible, "Colour: "),
        ],
        0,
    )];
    let mut caller = Asked {
        inputs: [json!({"answers": [null, "123456"]}), json!({"answers": ["red"]})].into(),
        ..Asked::default()
    };
    let (answer, seen) = say(&scenes, &mut caller, &login());
    assert_eq!(answer["status"], "ok");
    assert_eq!(seen[1..], ["Password: secret", "Code: 123456", "Colour: red"]);
    assert_eq!(
        caller.questions,
        [
            json!({"prompts": [{"style": "info", "text": "A code was sent"}, {"style": "hidden", "text": "Code: "}]}),
            json!({"prompts": [{"style": "visible", "text": "Colour: "}]}),
        ]
    );
    let mut caller = Asked {
        inputs: [json!({"answers": ["asked for"]})].into(),
        ..Asked::default()
    };
    let request = json!({"do": "authenticate", "name": "alice"});
    let (answer, seen) = say(&[(vec![hidden("Password: ")], 0)], &mut caller, &request);
    assert_eq!(
        (answer["status"].as_str(), seen[1].as_str()),
        (Some("ok"), "Password: asked for")
    );
}

#[test]
fn a_question_without_an_answer_is_a_refusal_and_never_wrong_password() {
    let scenes = [(vec![hidden("Password: "), hidden("Code: ")], 0)];
    let (answer, _) = say(&scenes, &mut Asked::default(), &login());
    assert_eq!(answer["status"], "denied");
    assert!(answer["message"].as_str().unwrap().contains("Code:"), "{answer}");
    for input in [
        json!({"answers": []}),
        json!({"answers": [null]}),
        json!("x"),
        json!({"answers": ["a\0b"]}),
    ] {
        let mut caller = Asked {
            inputs: [input].into(),
            ..Asked::default()
        };
        assert_eq!(say(&scenes, &mut caller, &login()).0["status"], "invalid");
    }
    let mut gone = Asked {
        gone: true,
        ..Asked::default()
    };
    assert_eq!(say(&scenes, &mut gone, &login()).0, "interrupted");
    let endless = [(vec![hidden("Password: "); 1000], 0)];
    let (answer, seen) = say(&endless, &mut Asked::default(), &login());
    assert_eq!((answer["status"].as_str(), seen.len()), (Some("denied"), 65));
}

#[test]
fn a_password_change_authenticates_first_and_tells_old_from_new() {
    let request = json!({"do": "change-password", "name": "alice", "old_password": "o", "new_password": "n"});
    let change = vec![
        hidden("Current password: "),
        hidden("New password: "),
        (Style::Error, "BAD PASSWORD: too short"),
        hidden("Retype new password: "),
    ];
    let scenes = [(vec![hidden("Password: ")], 0), (vec![], 12), (change.clone(), 0)];
    let (answer, seen) = say(&scenes, &mut Asked::default(), &request);
    assert_eq!(answer, json!({"status": "ok", "message": "BAD PASSWORD: too short"}));
    assert_eq!(
        seen[1..],
        [
            "Password: o",
            "Current password: o",
            "New password: n",
            "Retype new password: n"
        ]
    );
    let scenes = [(vec![hidden("Password: ")], 7), (vec![], 0), (change.clone(), 0)];
    let (answer, seen) = say(&scenes, &mut Asked::default(), &request);
    assert_eq!(
        (answer["status"].as_str(), seen.len()),
        (Some("wrong-password"), 2),
        "nothing is changed then"
    );
    let scenes = [(vec![], 0), (vec![], 0), (change, 20)];
    let (answer, _) = say(&scenes, &mut Asked::default(), &request);
    assert_eq!(
        answer,
        json!({"status": "restricted", "message": "the new password is refused: BAD PASSWORD: too short"})
    );
}

#[test]
fn which_pam_service_is_followed_is_the_administrators_choice() {
    let named = |service: &str| json!({"do": "account", "name": "alice", "service": service});
    let options = |services: &[&str]| Options {
        service: "usherd".into(),
        services: services.iter().map(|name| (*name).to_owned()).collect(),
    };
    let first = |options, request: &Value| {
        let (answer, seen) = say_with(options, &[], &mut Asked::default(), request);
        (
            answer["status"].as_str().unwrap().to_owned(),
            seen.first().cloned().unwrap_or_default(),
        )
    };
    assert_eq!(
        first(options(&[]), &named("imap")),
        ("ok".into(), "usherd alice".into())
    );
    assert_eq!(
        first(options(&["imap"]), &named("imap")),
        ("ok".into(), "imap alice".into())
    );
    assert_eq!(
        first(options(&["imap"]), &named("usherd")),
        ("ok".into(), "usherd alice".into())
    );
    assert_eq!(
        first(options(&["imap"]), &named("../../x")),
        ("restricted".into(), String::new())
    );
    assert_eq!(
        first(options(&["imap"]), &json!({"do": "account", "name": "alice"})),
        ("ok".into(), "usherd alice".into())
    );
}

#[test]
fn sessions_and_what_pam_cannot_do() {
    let open = json!({"do": "open-session", "name": "alice"});
    let (answer, _) = say(&[], &mut Asked::default(), &open);
    assert_eq!(answer, json!({"status": "ok", "session": "login"}));
    let close = |session: &str| json!({"do": "close-session", "name": "alice", "session": session});
    assert_eq!(
        say(&[], &mut Asked::default(), &close("login")).0,
        json!({"status": "ok"})
    );
    assert_eq!(say(&[], &mut Asked::default(), &close("other")).0["status"], "invalid");
    assert_eq!(
        say(&[], &mut Asked::default(), &json!({"do": "passwd"})).0["status"],
        "unsupported"
    );
    assert_eq!(
        say(&[], &mut Asked::default(), &json!({"do": "ping"})).0["status"],
        "ok"
    );
    let long = json!({"do": "authenticate", "name": "alice", "password": "x".repeat(512)});
    assert_eq!(say(&[], &mut Asked::default(), &long).0["status"], "invalid");
    let (answer, _) = say(&[(vec![hidden("Password: ")], 9)], &mut Asked::default(), &login());
    assert_eq!(answer["status"], "unavailable");
}
