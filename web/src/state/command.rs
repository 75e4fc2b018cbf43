//! Command lines of etcdctl: put together from fields, and completed with the Tab key.

use std::fmt::Write;

/// Builds a command line word by word; whatever a visitor typed stays one word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    flags: String,
    arguments: Vec<String>,
}

impl Line {
    pub(crate) fn new(command: &str) -> Line {
        Line { flags: command.into(), arguments: Vec::new() }
    }

    pub(crate) fn argument(mut self, value: &str) -> Line {
        self.arguments.push(value.into());
        self
    }

    pub(crate) fn switch(mut self, name: &str, on: bool) -> Line {
        if on {
            // Writing to a string cannot fail.
            let _ = write!(self.flags, " --{name}");
        }
        self
    }

    /// A flag with a value; an empty one is left out.
    pub(crate) fn flag(mut self, name: &str, value: &str) -> Line {
        if !value.is_empty() {
            let _ = write!(self.flags, " --{name}={}", quote(value));
        }
        self
    }

    pub(crate) fn finish(self) -> String {
        let Line { flags: mut line, arguments } = self;
        // After `--` nothing is taken for a flag.
        if arguments.iter().any(|argument| argument.starts_with('-')) {
            line.push_str(" --");
        }
        for argument in arguments {
            line.push(' ');
            line.push_str(&quote(&argument));
        }
        line
    }
}

/// A value as one word of a command line: as it is if it is plain, else as Go would quote it.
pub(crate) fn quote(value: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_-./:@%+=,".contains(letter);
    if !value.is_empty() && value.chars().all(is_plain) {
        return value.into();
    }
    quote_always(value)
}

/// A value between double quotes, as transactions want their keys and values.
pub(crate) fn quote_always(value: &str) -> String {
    let mut quoted = String::from('"');
    for letter in value.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            control if control.is_control() && u32::from(control) < 0x80 => {
                let _ = write!(quoted, "\\x{:02x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// The commands of etcdctl that make sense here, and their flags.
const COMMANDS: [(&str, &str); 26] = [
    ("alarm disarm", ""),
    ("alarm list", ""),
    ("compaction", "physical"),
    ("defrag", "cluster"),
    ("del", "from-key prefix prev-kv range"),
    ("endpoint hashkv", "cluster rev"),
    ("endpoint health", "cluster"),
    ("endpoint status", "cluster"),
    (
        "get",
        "consistency= count-only from-key keys-only limit= max-create-rev= max-mod-rev= \
         min-create-rev= min-mod-rev= order= prefix print-value-only rev= sort-by=",
    ),
    ("help", ""),
    ("lease grant", ""),
    ("lease keep-alive", "once"),
    ("lease list", ""),
    ("lease revoke", ""),
    ("lease timetolive", "keys"),
    ("member add", "learner peer-urls="),
    ("member list", ""),
    ("member promote", ""),
    ("member remove", ""),
    ("member update", "peer-urls="),
    ("move-leader", ""),
    ("put", "ignore-lease ignore-value lease= prev-kv"),
    ("snapshot save", ""),
    ("txn", "interactive"),
    ("version", ""),
    ("watch", "interactive prefix prev-kv progress-notify rev="),
];
const GLOBAL_FLAGS: &str = "command-timeout= endpoints= help hex write-out=";
const FORMATS: [&str; 5] = ["fields", "json", "protobuf", "simple", "table"];

/// What the Tab key makes of a line: the longest certain continuation, and what there is to choose
/// from if it is not certain.
pub(crate) fn complete(line: &str) -> (String, Vec<String>) {
    let start = line.rfind(' ').map_or(0, |space| space + 1);
    let (before, word) = line.split_at(start);
    let mut choices = candidates(before, word);
    choices.retain(|choice| choice.starts_with(word));
    choices.sort_unstable();
    choices.dedup();
    match choices.as_slice() {
        [] => (line.into(), choices),
        [only] => {
            let space = if only.ends_with('=') { "" } else { " " };
            (format!("{before}{only}{space}"), Vec::new())
        }
        [first, rest @ ..] => {
            let common = rest.iter().fold(first.as_str(), |common, choice| {
                let same = common.bytes().zip(choice.bytes()).take_while(|(a, b)| a == b).count();
                &common[..same]
            });
            (format!("{before}{common}"), choices.clone())
        }
    }
}

fn candidates(before: &str, word: &str) -> Vec<String> {
    let words: Vec<&str> = before.split_whitespace().filter(|word| *word != "etcdctl").collect();
    if let Some(flag) = ["--write-out=", "--consistency=", "--order=", "--sort-by="]
        .iter()
        .find(|flag| word.starts_with(**flag))
    {
        let values: &[&str] = match *flag {
            "--write-out=" => &FORMATS,
            "--consistency=" => &["l", "s"],
            "--order=" => &["ASCEND", "DESCEND"],
            _ => &["CREATE", "KEY", "MODIFY", "VALUE", "VERSION"],
        };
        return values.iter().map(|value| format!("{flag}{value}")).collect();
    }
    if matches!(words.last(), Some(&"-w")) {
        return FORMATS.iter().map(|format| (*format).into()).collect();
    }
    let command = COMMANDS.iter().find(|(name, _)| {
        let mut names = name.split(' ');
        names.clone().count() <= words.len() && words.iter().zip(&mut names).all(|(a, b)| *a == b)
    });
    if word.starts_with('-') {
        let flags = command.map_or("", |(_, flags)| flags);
        let all = flags.split_whitespace().chain(GLOBAL_FLAGS.split_whitespace());
        return all.map(|flag| format!("--{flag}")).collect();
    }
    // The next word of all commands that begin with the words so far.
    let next = COMMANDS.iter().filter_map(|(name, _)| {
        let mut names = name.split(' ');
        let matches = words.iter().all(|word| names.next() == Some(word));
        names.next().filter(|_| matches).map(String::from)
    });
    next.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_stays_one_word() {
        let line = Line::new("put").flag("lease", "").argument("a key").argument("say \"hi\"\n");
        assert_eq!(line.finish(), r#"put "a key" "say \"hi\"\n""#);
        assert_eq!(Line::new("put").argument("k").argument("").finish(), "put k \"\"");
        let line = Line::new("put").switch("prev-kv", true).argument("-k").argument("v");
        assert_eq!(line.finish(), "put --prev-kv -- -k v");
    }

    #[test]
    fn tab_completes_commands_subcommands_and_flags() {
        assert_eq!(complete("pu"), ("put ".into(), vec![]));
        assert_eq!(complete("lease k"), ("lease keep-alive ".into(), vec![]));
        assert_eq!(complete("get a --pref"), ("get a --prefix ".into(), vec![]));
        assert_eq!(complete("get a --cons"), ("get a --consistency=".into(), vec![]));
        assert_eq!(complete("get a --write-out=j"), ("get a --write-out=json ".into(), vec![]));
        assert_eq!(complete("get a b"), ("get a b".into(), vec![]));
    }

    #[test]
    fn what_is_not_certain_is_offered() {
        let (line, choices) = complete("lease ");
        assert_eq!(line, "lease ");
        assert_eq!(choices, ["grant", "keep-alive", "list", "revoke", "timetolive"]);
        let (line, choices) = complete("member p");
        assert_eq!((line.as_str(), choices.len()), ("member promote ", 0));
        assert_eq!(complete("").1.len(), 15);
    }
}
