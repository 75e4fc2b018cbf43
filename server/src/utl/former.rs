//! What `etcdctl` did with files until 3.6 gave it to `etcdutl`: `snapshot status`, `snapshot
//! restore` and `defrag --data-dir`. Scripts still ask it.

use coracle_ctl::{FlagOutline, outline};

/// What etcdutl is to be asked instead, if etcdctl's `arguments` are for a file: the same words,
/// without etcdctl's own flags, which are about servers.
pub fn asked_of_etcdctl(arguments: &[String]) -> Option<Vec<String>> {
    let global: Vec<_> = outline().flags.into_iter().filter(|flag| flag.is_global).collect();
    let mut words = Vec::new();
    let mut path = Vec::new();
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        let Some(flag) = global.iter().find(|flag| is_given(flag, word)) else {
            words.push(word.clone());
            path.extend((!word.starts_with('-')).then_some(word.as_str()));
            continue;
        };
        let is_alone = [format!("--{}", flag.name), short(flag)].contains(word);
        let value = if flag.takes_value && is_alone { rest.next() } else { None };
        if flag.name == "write-out" {
            words.push(word.clone());
            words.extend(value.cloned());
        }
    }
    let is_of_a_directory = || words.iter().any(|word| word.starts_with("--data-dir"));
    match path[..] {
        ["snapshot", "status" | "restore", ..] => Some(words),
        ["defrag", ..] if is_of_a_directory() => Some(words),
        _ => None,
    }
}

fn is_given(flag: &FlagOutline, word: &str) -> bool {
    match word.strip_prefix("--") {
        Some(long) => long.split('=').next() == Some(flag.name),
        None => flag.short.is_some() && word.starts_with(&short(flag)),
    }
}

fn short(flag: &FlagOutline) -> String {
    flag.short.map(|letter| format!("-{letter}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &str) -> Option<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        asked_of_etcdctl(&words).map(|words| words.join(" "))
    }

    #[test]
    fn ctl_01_what_is_about_a_file_is_etcdutls() {
        for (line, instead) in [
            ("snapshot status x.db", Some("snapshot status x.db")),
            (
                "--endpoints=a:1 --dial-timeout 7s snapshot status x.db -w json",
                Some("snapshot status x.db -w json"),
            ),
            (
                "--write-out=table snapshot restore --data-dir=d x.db --name n",
                Some("--write-out=table snapshot restore --data-dir=d x.db --name n"),
            ),
            ("-wjson --debug defrag --data-dir d", Some("-wjson defrag --data-dir d")),
            ("defrag --cluster", None),
            ("snapshot save x.db", None),
            ("put snapshot status", None),
            ("--user snapshot get status", None),
        ] {
            assert_eq!(asked(line).as_deref(), instead, "{line}");
        }
    }
}
