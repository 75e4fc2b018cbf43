//! The argument of `act`: one action per property, and what is said about a wrong one.

use coracle_worker::protocol::Action;

/// Every action that `act` takes, with an example of its value.
const ACTIONS: [(&str, &str); 26] = [
    ("crash", "2"),
    ("restart", "2"),
    ("pause", "2"),
    ("resume", "2"),
    ("isolate", "2"),
    ("lose_disk", "2"),
    ("tear_log", "2"),
    ("corrupt_log", "2"),
    ("fill_disk", "[2, true]"),
    ("slow_disk", "[2, 20]"),
    ("skew_clock", "[2, 1.5]"),
    ("elect", "2"),
    ("transfer", "2"),
    ("cut", "[1, 3]"),
    ("cut_one_way", "[1, 3]"),
    ("mend", "[1, 3]"),
    ("link", r#"[1, 3, {"delay_ms": 100, "loss": 0.1}]"#),
    ("partition", "[[1, 2], [3]]"),
    ("network", r#"{"delay_ms": 10, "jitter_ms": 4, "loss": 0.1, "duplicate": 0}"#),
    ("heal", "true"),
    ("add_node", "true"),
    ("add_learner", "true"),
    ("promote", "4"),
    ("remove_node", "4"),
    ("drop_message", "\"17\""),
    ("delay_message", "[\"17\", 50]"),
];

/// What `act` takes, for whoever gave it something else.
pub(super) fn usage() -> String {
    let names: Vec<&str> = ACTIONS.iter().map(|(name, _)| *name).collect();
    format!("act takes an object such as {{crash: 2}}; the actions are {}", names.join(", "))
}

/// The action of this name with this value, in JSON.
pub(super) fn parse(name: &str, value: &str) -> Result<Action, String> {
    let Some((_, example)) = ACTIONS.iter().find(|(known, _)| *known == name) else {
        return Err(format!("there is no action {name}: {}", usage()));
    };
    serde_json::from_str(&format!("{{\"{name}\":{value}}}"))
        .map_err(|_| format!("{name} does not take {value}; for example: {{{name}: {example}}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_an_action() {
        for (name, example) in ACTIONS {
            let action = parse(name, example).unwrap();
            let written = serde_json::to_value(&action).unwrap();
            assert!(written.get(name).is_some(), "{name} is written {written}");
        }
    }

    #[test]
    fn a_wrong_argument_is_told_what_is_right() {
        let unknown = parse("explode", "2").unwrap_err();
        assert!(unknown.starts_with("there is no action explode: act takes"), "{unknown}");
        assert!(unknown.contains("crash, restart, pause"), "{unknown}");
        let wrong = parse("cut", "3").unwrap_err();
        assert_eq!(wrong, "cut does not take 3; for example: {cut: [1, 3]}");
        // What the conductor records of a terminal is not for scripts.
        assert!(parse("exec", "{}").is_err());
    }

    #[test]
    fn messages_are_named_by_decimal_strings() {
        assert_eq!(parse("drop_message", "\"17\"").unwrap(), Action::DropMessage(17));
    }
}
