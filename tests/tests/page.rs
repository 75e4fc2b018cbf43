//! etcdctl's recorded sessions, replayed in the laboratory's page: see
//! [`coracle_tests::transcript`].
//!
//! They need a browser and the built site, so they run in the `browser` step of
//! `cargo xtask test`, which sets `CORACLE_URL`; elsewhere they are passed over.

use std::env;
use std::fs;
use std::path::Path;

use coracle_tests::transcript::{Page, differences, expected_of_page, play_in_page};

/// Beginnings of the names of transcripts that make no sense in a page, each with the reason.
const NOT_IN_A_PAGE: [(&str, &str); 3] = [
    ("auth", "nobody has a password in a page, so there are no users"),
    ("lock", "it runs a program while it holds the lock"),
    ("watch_exec", "it runs a program for each event"),
];

/// Steps whose output rightly differs in a page, each with the reason.
const DIFFERENT_IN_A_PAGE: [(&str, &str, &str); 8] = [
    ("endpoint", "127.0.0.1:1 ", "no node of the page has this address, and it says so"),
    ("hashkv", "endpoint hashkv -w json", "etcdctl 3.5 does not know the field `hash_revision`"),
    ("json", "endpoint status -w json", "nor the fields that 3.6 added to a status"),
    ("json", "endpoint hashkv -w json", "nor `hash_revision`"),
    ("lease_expiry", "lease grant 1", "the least TTL follows from the election timeout"),
    (
        "member_learner",
        "add another",
        "a cluster in a page takes as many learners as it has room for",
    ),
    ("member_learner", "member list", "so this one is listed"),
    ("snapshot", "snapshot save <tmp>", "etcdctl prints the server's version since 3.6"),
];

/// The transcript without the outputs of steps that may differ.
fn comparable(name: &str, text: &str) -> String {
    let differs = |step: &str| {
        DIFFERENT_IN_A_PAGE
            .iter()
            .any(|(transcript, part, _)| *transcript == name && step.contains(part))
    };
    let mut dropping = false;
    let mut kept = String::new();
    for line in text.lines() {
        let is_output = line.is_empty() || line.starts_with(' ');
        if !is_output {
            dropping = differs(line);
        }
        if !(is_output && dropping) {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

#[test]
fn commands_in_the_page_print_what_etcdctl_prints() {
    if env::var_os("CORACLE_URL").is_none() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().path().file_stem()?.to_str().map(str::to_owned))
        .filter(|name| !NOT_IN_A_PAGE.iter().any(|(beginning, _)| name.starts_with(beginning)))
        .filter(|name| env::var("TRANSCRIPT").map_or(true, |only| only == *name))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no transcript found");
    let mut page = Page::open().unwrap();
    let mut failures = Vec::new();
    for name in names {
        println!("{name}");
        let text = fs::read_to_string(folder.join(format!("{name}.txt"))).unwrap();
        let expected = comparable(&name, &expected_of_page(&text));
        let played = play_in_page(&mut page, &text).map(|actual| comparable(&name, &actual));
        match played {
            Ok(actual) if actual == expected => {}
            Ok(actual) => failures.push(format!("{name}:\n{}", differences(&expected, &actual))),
            Err(error) => failures.push(format!("{name}: {error:#}")),
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}
