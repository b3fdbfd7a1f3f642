//! Plans that are right, and what is said of those that are not.

use std::time::Duration;

use virgld_faults::{DeviceRule, DeviceWrong, Plan, actors};
use virgld_runtime::fault::{Point, Rule, When, Wrong};

#[test]
fn a_plan_says_what_where_and_when() {
    let text = r#"
        seed = 7
        [[fault]]
        actor = "scheme"
        message = "Door.Call"
        do = "panic"
        nth = 3
        [[fault]]
        actor = "control queue"
        point = "after"
        do = "delay"
        delay_ms = 20
        probability = 0.25
        times = 4
        [[device]]
        do = "death"
        after_ms = 1500
        [[device]]
        do = "wrong-id"
        every = 9
    "#;
    let plan = Plan::parse(text).unwrap();
    let panic = Rule {
        actor: "scheme".into(),
        word: Some("Door.Call".into()),
        point: Point::Before,
        wrong: Wrong::Panic,
        when: When::Nth(3),
        times: 1,
    };
    let delay = Rule {
        actor: "control queue".into(),
        word: None,
        point: Point::After,
        wrong: Wrong::Delay(Duration::from_millis(20)),
        when: When::Chance(250_000),
        times: 4,
    };
    let death = DeviceRule {
        wrong: DeviceWrong::Death,
        when: None,
        after: Some(Duration::from_millis(1500)),
        times: 1,
    };
    let wrong_id =
        DeviceRule { wrong: DeviceWrong::WrongId, when: Some(When::Every(9)), after: None, times: u64::MAX };
    assert_eq!(plan, Plan { seed: 7, faults: vec![panic, delay], device: vec![death, wrong_id] });
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (line, part, text) in [
        (
            2,
            "there is no actor `schem`; there are door, scheme",
            "[[fault]]\nactor = \"schem\"\ndo = \"panic\"\n",
        ),
        (3, "there is no fault `explode`", "[[fault]]\nactor = \"door\"\ndo = \"explode\"\n"),
        (3, "no message of door `Call`", "[[fault]]\nactor = \"door\"\nmessage = \"Call\"\ndo = \"panic\"\n"),
        (4, "cannot happen", "[[fault]]\nactor = \"door\"\ndo = \"refuse\"\npoint = \"after\"\n"),
        (3, "needs `delay_ms`", "[[fault]]\nactor = \"door\"\ndo = \"delay\"\n"),
        (4, "takes no time", "[[fault]]\nactor = \"door\"\ndo = \"drop\"\ndelay_ms = 3\n"),
        (5, "exclude", "[[fault]]\nactor = \"door\"\ndo = \"drop\"\nnth = 3\nevery = 2\n"),
        (4, "begins at 1", "[[fault]]\nactor = \"door\"\ndo = \"drop\"\nnth = 0\n"),
        (4, "between 0 and 1", "[[fault]]\nactor = \"door\"\ndo = \"drop\"\nprobability = 2.0\n"),
        (4, "is none", "[[fault]]\nactor = \"door\"\ndo = \"drop\"\ntimes = 0\n"),
        (4, "unknown field", "[[fault]]\nactor = \"door\"\ndo = \"drop\"\nnht = 0\n"),
        (1, "missing field `do`", "[[fault]]\nactor = \"door\"\n"),
        (2, "there is no fault of the device `x`", "[[device]]\ndo = \"x\"\n"),
        (4, "not by both", "[[device]]\ndo = \"death\"\nnth = 1\nafter_ms = 1\n"),
        (2, "", "seed = 1\nseed = = 2\n"),
    ] {
        let error = Plan::parse(text).unwrap_err();
        assert_eq!(error.line, line, "{error}\n{text}");
        assert!(error.what.contains(part) && error.column >= 1, "{error}");
    }
}

#[test]
fn what_no_signal_does_to_a_device_process_is_told_with_its_line() {
    for (line, text) in [
        (4, "seed = 1\n[[device]]\nafter_ms = 1\ndo = \"wrong-id\"\n"),
        (2, "[[device]]\ndo = \"death\"\nnth = 4\n"),
    ] {
        assert!(Plan::parse(&text.replace("after_ms", "nth")).is_ok(), "{text}");
        let error = Plan::parse_for_process(text).unwrap_err();
        assert_eq!(error.line, line, "{error}\n{text}");
        assert!(error.what.contains("only `death` and `stall`"), "{error}");
    }
}

#[test]
fn the_example_is_a_plan() {
    let plan = Plan::parse_for_process(include_str!("../../docs/faults.toml")).unwrap();
    assert!(!plan.faults.is_empty() && !plan.device.is_empty());
}

#[test]
fn no_two_actors_and_no_two_words_of_one_have_the_same_name() {
    let actors = actors();
    for (index, actor) in actors.iter().enumerate() {
        assert!(actors[..index].iter().all(|other| other.name != actor.name));
        for (at, word) in actor.words.iter().enumerate() {
            assert!(!actor.words[..at].contains(word), "{} {word}", actor.name);
        }
    }
}
