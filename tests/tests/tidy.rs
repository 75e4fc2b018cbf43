//! Reads the source text and holds it to the rules of the house.
//!
//! No compiler checks these: the width of a line, the length of a function, that a file says what
//! it is for, and the arrows between the parts, of which the first is that core knows no platform.
//! Each rule is one test, which lists every place that breaks it. Generated code is exempt: its
//! generator is what we write.
//!
//! The rules look at text, line by line, with no parser: what is inside a string counts as code.
//! Hence some forbidden words are put together here, or this file would break its own rules.

use std::fs;
use std::path::{Path, PathBuf};

const LINE_COLUMNS_MAX: usize = 100;
/// The longest there is today (`Node::start`). It may only shrink: the aim is 70.
const FUNCTION_LINES_MAX: usize = 78;
/// Everything with Rust in it.
const PACKAGES: [&str; 13] = [
    "base2histogram",
    "bolt",
    "core",
    "crc32c",
    "ctl",
    "server",
    "gateway",
    "tests",
    "bench",
    "xtask",
    "worker",
    "web",
    "concurrency",
];

/// A source file: its path from the repository's root, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// Whether it is below this folder.
    fn is_in(&self, folder: &str) -> bool {
        self.path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Whether it is compiled for tests only, going by its name.
    fn is_test(&self) -> bool {
        self.is_in("tests") || self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// Its lines with their numbers, from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// The lines before the unit tests, without comments: the code that ships.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines()
            .take_while(|(_, line)| *line != "#[cfg(test)]")
            .map(|(number, line)| (number, line.split("//").next().unwrap_or_default()))
    }

    fn place(&self, number: usize, what: &str) -> String {
        format!("{}:{number}: {what}", self.path)
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All Rust files that people write.
fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    let mut folders: Vec<PathBuf> = PACKAGES.iter().map(|package| root().join(package)).collect();
    while let Some(folder) = folders.pop() {
        // A package that is still to come.
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() && !path.ends_with("generated") && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let shown =
                    path.strip_prefix(root()).expect("below the root").display().to_string();
                let text = fs::read_to_string(&path).expect("UTF-8");
                sources.push(Source { path: shown, text });
            }
        }
    }
    assert!(sources.len() > 20, "the source files have moved: {} found", sources.len());
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    sources
}

/// Fails with all places that break a rule.
#[track_caller]
fn expect_none(rule: &str, places: &[String]) {
    assert!(places.is_empty(), "{rule}; broken {} times:\n{}", places.len(), places.join("\n"));
}

/// The lines of shipping code in these files that contain one of the words.
fn uses(wanted: impl Fn(&Source) -> bool, words: &[&str]) -> Vec<String> {
    let mut places = Vec::new();
    for source in sources().iter().filter(|source| wanted(source)) {
        for (number, line) in source.code() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                places.push(source.place(number, word));
            }
        }
    }
    places
}

#[test]
fn lines_are_at_most_100_columns_wide() {
    let mut places = Vec::new();
    for source in sources() {
        for (number, line) in source.lines() {
            let columns = line.chars().count();
            // etcd's texts stand in the table of errors as they are, to be found by a search.
            let is_error_text = source.path == "core/src/error.rs" && line.ends_with("\";");
            if columns > LINE_COLUMNS_MAX && !is_error_text {
                places.push(source.place(number, &format!("{columns} columns")));
            }
        }
    }
    expect_none("lines have at most 100 columns", &places);
}

#[test]
fn functions_are_not_too_long() {
    let mut places = Vec::new();
    for source in sources() {
        // The function we are in: its first line and column. rustfmt closes it at that column.
        let mut open: Option<(usize, usize)> = None;
        for (number, line) in source.lines() {
            let text = line.trim_start();
            let column = line.len() - text.len();
            let ends_here = text.ends_with(';') || text.ends_with('}');
            match open {
                None if is_function(text) && !ends_here => open = Some((number, column)),
                // The end of a signature over several lines, of a method without a body.
                Some((_, start)) if column == start && text.ends_with(';') => open = None,
                Some((first, start)) if column == start && text == "}" => {
                    let length = number - first + 1;
                    if length > FUNCTION_LINES_MAX {
                        places.push(source.place(first, &format!("{length} lines")));
                    }
                    open = None;
                }
                _ => {}
            }
        }
    }
    expect_none("functions are too long to read at once", &places);
}

/// Whether a line begins a function.
fn is_function(line: &str) -> bool {
    let mut rest = line;
    let before = ["pub(crate) ", "pub(super) ", "pub ", "const ", "async ", "unsafe "];
    while let Some(next) = before.iter().find_map(|word| rest.strip_prefix(word)) {
        rest = next;
    }
    rest.starts_with("fn ")
}

#[test]
fn nothing_is_left_for_later() {
    let forbidden = [
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("XX", "X"),
        concat!("dbg", "!("),
        concat!("to", "do!("),
        concat!("unimplemented", "!("),
        concat!("#[", "ignore"),
    ];
    let mut places = Vec::new();
    for source in sources() {
        for (number, line) in source.lines() {
            for word in forbidden.iter().filter(|word| line.contains(**word)) {
                places.push(source.place(number, word));
            }
        }
    }
    expect_none("nothing is left for later, and no test is switched off", &places);
}

#[test]
fn every_file_says_what_it_is_for() {
    let places: Vec<String> = sources()
        .iter()
        .filter(|source| {
            // An attribute of the whole file may stand before.
            let mut lines = source.text.lines().filter(|line| !line.starts_with("#!["));
            !lines.next().is_some_and(|line| line.starts_with("//! "))
        })
        .map(|source| source.path.clone())
        .collect();
    expect_none("every file begins with a module doc", &places);
}

#[test]
fn core_knows_no_platform() {
    let forbidden = [
        "cfg(target_",
        "tokio",
        "web_sys",
        "std::fs",
        "std::net",
        "std::env",
        "std::process",
        "Instant::now",
        "SystemTime::now",
        "thread::spawn",
        "thread::sleep",
        "rand::",
        "println!",
    ];
    // The step executor lends openraft its generator trait; the numbers are the host's seed's.
    let lends = |source: &Source| source.path == "core/src/platform/step/runtime.rs";
    let core = |source: &Source| source.is_in("core/src") && !source.is_test() && !lends(source);
    let places = uses(core, &forbidden);
    expect_none("core has no clock, file, socket, thread, randomness or platform in it", &places);
}

#[test]
fn only_the_raft_module_sees_openraft() {
    let outside = |source: &Source| {
        // The step executor is a runtime, in openraft's words of what one is.
        let adapter = source.is_in("core/src/raft") || source.is_in("core/src/platform/step");
        source.is_in("core/src") && !adapter && !source.is_test()
    };
    let places = uses(outside, &["openraft"]);
    expect_none("openraft's API changes often: one adapter knows it", &places);
}

#[test]
fn only_servers_and_tests_see_grpc() {
    let may_not =
        |source: &Source| !["server", "tests", "bench"].iter().any(|package| source.is_in(package));
    let places = uses(may_not, &["tonic::", "tonic_prost::"]);
    expect_none("gRPC ends at the server's door", &places);
}

#[test]
fn no_text_for_people_rests_on_debug() {
    // They tell the log, which a page has not.
    let logs = [
        "core/src/node/auto_compaction.rs",
        "core/src/node/corruption.rs",
        "core/src/node/tasks.rs",
        "core/src/raft/slow.rs",
    ];
    let in_page = |source: &Source| {
        let is_in_page = ["core/src", "worker/src", "web/src"].iter().any(|it| source.is_in(it));
        let is_test = source.is_test() || source.path.ends_with("_tests.rs");
        is_in_page && !is_test && !logs.contains(&source.path.as_str())
    };
    let places = uses(in_page, &[":?}", ":#?}", "x?}"]);
    expect_none("the page is compiled without what `Debug` prints", &places);
}

#[test]
fn mvcc_knows_neither_raft_nor_watchers() {
    let mvcc = |source: &Source| source.is_in("core/src/mvcc") && !source.is_test();
    let above = ["crate::raft", "crate::node", "crate::watch", "crate::lease"];
    expect_none("mvcc is below raft, leases and watchers", &uses(mvcc, &above));
}
