//! The command line: flags after Go's `pflag`, commands after `cobra`.
//!
//! etcdctl's users and scripts rely on more of these two libraries than their flags: `-wjson`,
//! `--hex=false`, flags after arguments, `mem li` for `member list`, the exact words and exit codes
//! of a mistake. A table of [`Flag`]s and [`Command`]s and the two walks over it here give exactly
//! that, and the help text (`help.rs`) falls out of the same table.
//!
//! Arguments are bytes: a line of `txn` input may hold any key, as `"\xff"`.
//!
//! The environment (`ETCDCTL_WRITE_OUT` for `--write-out`) is consulted for the global flags that
//! the command line does not set. Where both are set the flag wins; etcdctl 3.5 refuses to run. A
//! variable whose value does not parse is ignored, as there.

use std::time::Duration;

use crate::commands::Run;
use crate::go::{format_duration, parse_bool, parse_duration, parse_i64, parse_u64};

/// The type of a flag's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Present or `=true`, `=false`; never takes the next argument.
    Bool,
    Text,
    Int64,
    Uint64,
    Duration,
    /// Comma-separated; repeating the flag appends.
    List,
}

/// One flag of a command.
#[derive(Debug)]
pub struct Flag {
    pub name: &'static str,
    pub short: Option<char>,
    pub kind: Kind,
    /// The value as it would be written on the command line.
    pub default: &'static str,
    pub help: &'static str,
    /// Belongs to the parent command: listed among the global options.
    pub(crate) inherited: bool,
}

impl Flag {
    pub const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        help: &'static str,
    ) -> Flag {
        Flag { name, short: None, kind, default, help, inherited: false }
    }

    /// A boolean flag, off by default.
    pub const fn switch(name: &'static str, help: &'static str) -> Flag {
        Flag::new(name, Kind::Bool, "false", help)
    }

    pub const fn short(self, short: char) -> Flag {
        Flag { short: Some(short), ..self }
    }

    pub(crate) const fn inherited(self) -> Flag {
        Flag { inherited: true, ..self }
    }

    /// The name of its environment variable.
    pub(crate) fn variable(&self) -> String {
        format!("ETCDCTL_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }

    fn check(&self, value: &str) -> Result<(), String> {
        match self.kind {
            Kind::Bool => parse_bool(value).map(drop),
            Kind::Int64 => parse_i64(value, 0).map(drop),
            Kind::Uint64 => parse_u64(value, 0).map(drop),
            Kind::Duration => parse_duration(value).map(drop),
            Kind::Text | Kind::List => Ok(()),
        }
    }
}

/// A command, or a group of commands.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// What follows the name in the usage line.
    pub(crate) usage: &'static str,
    pub(crate) short: &'static str,
    /// A longer description for the help, or empty.
    pub(crate) long: &'static str,
    pub(crate) flags: &'static [Flag],
    pub(crate) subcommands: &'static [Command],
    /// `None` for a group, which prints its help.
    pub(crate) run: Option<Run>,
}

impl Command {
    /// The subcommand called `name`, or the only one that `name` abbreviates.
    pub(crate) fn subcommand(&self, name: &[u8]) -> Option<&Command> {
        let exact = self.subcommands.iter().find(|command| command.name.as_bytes() == name);
        exact.or_else(|| {
            let is_match = |command: &&Command| command.name.as_bytes().starts_with(name);
            let mut matches = self.subcommands.iter().filter(is_match);
            matches.next().filter(|_| matches.next().is_none())
        })
    }
}

/// The flags that every command has.
pub(crate) static GLOBAL: [Flag; 21] = [
    Flag::new(
        "auth-jwt-token",
        Kind::Text,
        "",
        "JSON web token for authentication (if this option is used, --user should not be)",
    ),
    Flag::new(
        "cacert",
        Kind::Text,
        "",
        "verify certificates of TLS-enabled secure servers using this CA bundle",
    ),
    Flag::new("cert", Kind::Text, "", "identify secure client using this TLS certificate file"),
    Flag::new(
        "command-timeout",
        Kind::Duration,
        "5s",
        "timeout for short running command (excluding dial timeout)",
    ),
    Flag::switch("debug", "enable client-side debug logging"),
    Flag::new("dial-timeout", Kind::Duration, "2s", "dial timeout for client connections"),
    Flag::new(
        "discovery-srv",
        Kind::Text,
        "",
        "domain name to query for SRV records describing cluster endpoints",
    )
    .short('d'),
    Flag::new(
        "discovery-srv-name",
        Kind::Text,
        "",
        "service name to query when using DNS discovery",
    ),
    Flag::new("endpoints", Kind::List, "127.0.0.1:2379", "gRPC endpoints"),
    Flag::switch("hex", "print byte strings as hex encoded strings"),
    Flag::new(
        "insecure-discovery",
        Kind::Bool,
        "true",
        "accept insecure SRV records describing cluster endpoints",
    ),
    Flag::switch(
        "insecure-skip-tls-verify",
        "skip server certificate verification (CAUTION: this option should be enabled only for \
         testing purposes)",
    ),
    Flag::new(
        "insecure-transport",
        Kind::Bool,
        "true",
        "disable transport security for client connections",
    ),
    Flag::new("keepalive-time", Kind::Duration, "2s", "keepalive time for client connections"),
    Flag::new(
        "keepalive-timeout",
        Kind::Duration,
        "6s",
        "keepalive timeout for client connections",
    ),
    Flag::new("key", Kind::Text, "", "identify secure client using this TLS key file"),
    Flag::new(
        "max-recv-bytes",
        Kind::Int64,
        "0",
        "largest reply accepted, in bytes (0 for the default)",
    ),
    Flag::new(
        "max-request-bytes",
        Kind::Int64,
        "0",
        "largest request sent, in bytes (0 for the default)",
    ),
    Flag::new(
        "password",
        Kind::Text,
        "",
        "password for authentication (if this option is used, --user option shouldn't include \
         password)",
    ),
    Flag::new(
        "user",
        Kind::Text,
        "",
        "username[:password] for authentication (prompt if password is not supplied)",
    ),
    Flag::new(
        "write-out",
        Kind::Text,
        "simple",
        "set the output format (fields, json, protobuf, simple, table)",
    )
    .short('w'),
];

/// A mistake in the flags, in `pflag`'s words; or the wish for help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlagError {
    Help,
    Bad(String),
}

/// The parsed flags and arguments of one command.
#[derive(Debug, Default)]
pub struct Parsed {
    sets: Vec<&'static [Flag]>,
    values: Vec<(&'static Flag, String)>,
    /// What is not a flag, in order.
    pub arguments: Vec<Vec<u8>>,
    /// How many arguments stood before a `--`, if there was one.
    pub(crate) before_dashes: Option<usize>,
}

impl Parsed {
    /// Parses `words` with the flags of `sets`.
    pub fn parse(sets: &[&'static [Flag]], words: &[Vec<u8>]) -> Result<Parsed, FlagError> {
        let mut parsed = Parsed { sets: sets.to_vec(), ..Parsed::default() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == b"--" {
                parsed.before_dashes = Some(parsed.arguments.len());
                parsed.arguments.extend(words.by_ref().cloned());
            } else if let Some(name) = word.strip_prefix(b"--") {
                parsed.long(sets, name, &mut words)?;
            } else if word.len() > 1 && word[0] == b'-' {
                parsed.shorts(sets, &word[1..], &mut words)?;
            } else {
                parsed.arguments.push(word.clone());
            }
        }
        Ok(parsed)
    }

    fn long<'a>(
        &mut self,
        sets: &[&'static [Flag]],
        word: &[u8],
        words: &mut impl Iterator<Item = &'a Vec<u8>>,
    ) -> Result<(), FlagError> {
        let word = String::from_utf8_lossy(word);
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_string())),
            None => (word.as_ref(), None),
        };
        if name.is_empty() || name.starts_with('-') {
            return Err(FlagError::Bad(format!("bad flag syntax: --{word}")));
        }
        let Some(flag) = find(sets, |flag| flag.name == name) else {
            return Err(match name {
                "help" => FlagError::Help,
                _ => FlagError::Bad(format!("unknown flag: --{name}")),
            });
        };
        let value = match (value, flag.kind) {
            (Some(value), _) => value,
            (None, Kind::Bool) => "true".into(),
            (None, _) => lossy(words.next())
                .ok_or_else(|| FlagError::Bad(format!("flag needs an argument: --{name}")))?,
        };
        self.set(flag, value)
    }

    /// A group of one-letter flags: `-i`, `-wjson`, `-w=json`, `-w json`.
    fn shorts<'a>(
        &mut self,
        sets: &[&'static [Flag]],
        group: &[u8],
        words: &mut impl Iterator<Item = &'a Vec<u8>>,
    ) -> Result<(), FlagError> {
        let group = String::from_utf8_lossy(group);
        let mut rest = group.chars();
        while let Some(letter) = rest.next() {
            let Some(flag) = find(sets, |flag| flag.short == Some(letter)) else {
                return Err(match letter {
                    'h' => FlagError::Help,
                    _ => FlagError::Bad(format!(
                        "unknown shorthand flag: '{letter}' in -{}",
                        &group[group.len() - rest.as_str().len() - letter.len_utf8()..]
                    )),
                });
            };
            if let Some(value) = rest.as_str().strip_prefix('=') {
                return self.set(flag, value.into());
            }
            if flag.kind == Kind::Bool {
                self.set(flag, "true".into())?;
                continue;
            }
            let value = match rest.as_str() {
                "" => lossy(words.next()).ok_or_else(|| {
                    FlagError::Bad(format!("flag needs an argument: '{letter}' in -{letter}"))
                })?,
                value => value.into(),
            };
            return self.set(flag, value);
        }
        Ok(())
    }

    fn set(&mut self, flag: &'static Flag, value: String) -> Result<(), FlagError> {
        if let Err(error) = flag.check(&value) {
            let short = flag.short.map(|letter| format!("-{letter}, ")).unwrap_or_default();
            return Err(FlagError::Bad(format!(
                "invalid argument \"{value}\" for \"{short}--{}\" flag: {error}",
                flag.name
            )));
        }
        if flag.kind == Kind::List
            && let Some((_, list)) = self.values.iter_mut().find(|(set, _)| set.name == flag.name)
        {
            list.push(',');
            list.push_str(&value);
        } else {
            self.values.push((flag, value));
        }
        Ok(())
    }

    /// Fills in the global flags that are not set from the environment.
    pub(crate) fn fill_from(&mut self, variable: impl Fn(&str) -> Option<String>) {
        for flag in &GLOBAL {
            if !self.is_set(flag.name)
                && let Some(value) = variable(&flag.variable())
                && !value.is_empty()
            {
                // A value that does not parse leaves the default in place.
                let _ = self.set(flag, value);
            }
        }
    }

    pub fn is_set(&self, name: &str) -> bool {
        self.values.iter().any(|(flag, _)| flag.name == name)
    }

    /// The text of a flag: the last one given, or its default. Empty for a flag that the command
    /// does not have.
    pub fn text(&self, name: &str) -> &str {
        let mut given = self.values.iter().rev();
        match given.find(|(flag, _)| flag.name == name) {
            Some((_, value)) => value,
            None => find(&self.sets, |flag| flag.name == name).map_or("", |flag| flag.default),
        }
    }

    /// Whether a boolean flag is on.
    pub fn is_on(&self, name: &str) -> bool {
        parse_bool(self.text(name)) == Ok(true)
    }

    pub fn int64(&self, name: &str) -> i64 {
        // Values were checked when they were set.
        parse_i64(self.text(name), 0).unwrap_or_default()
    }

    pub fn uint64(&self, name: &str) -> u64 {
        parse_u64(self.text(name), 0).unwrap_or_default()
    }

    pub fn duration(&self, name: &str) -> Duration {
        parse_duration(self.text(name)).unwrap_or_default()
    }

    /// The words of a list, without the spaces around them and without those that are empty.
    pub(crate) fn list(&self, name: &str) -> Vec<String> {
        let words = self.text(name).split(',').map(str::trim);
        words.filter(|word| !word.is_empty()).map(str::to_string).collect()
    }

    /// A flag's value as Go prints it.
    pub(crate) fn shown(&self, flag: &Flag) -> String {
        match flag.kind {
            Kind::Duration => format_duration(self.duration(flag.name)),
            Kind::List => format!("[{}]", self.text(flag.name)),
            _ => self.text(flag.name).into(),
        }
    }
}

fn find(sets: &[&'static [Flag]], is_it: impl Fn(&Flag) -> bool) -> Option<&'static Flag> {
    sets.iter().copied().flatten().find(|flag| is_it(flag))
}

fn lossy(word: Option<&Vec<u8>>) -> Option<String> {
    word.map(|word| String::from_utf8_lossy(word).into_owned())
}

/// Descends from `root` along the first words that are not flags; removes them from `words`.
/// Returns the commands passed, root first. What is left may start with a word that names nothing.
pub(crate) fn descend<'a>(root: &'a Command, words: &mut Vec<Vec<u8>>) -> Vec<&'a Command> {
    let mut path = vec![root];
    let mut command = root;
    while let Some(index) = first_argument(command, words) {
        let Some(next) = command.subcommand(&words[index]) else { break };
        words.remove(index);
        path.push(next);
        command = next;
    }
    path
}

/// Where the first word stands that is neither a flag nor a flag's value, for what `command` knows.
pub(crate) fn first_argument(command: &Command, words: &[Vec<u8>]) -> Option<usize> {
    let sets: [&[Flag]; 2] = [command.flags, &GLOBAL];
    let is_switch = |found: Option<&Flag>| found.is_some_and(|flag| flag.kind == Kind::Bool);
    let mut index = 0;
    while let Some(word) = words.get(index) {
        let word = String::from_utf8_lossy(word);
        if word == "--" {
            return None;
        }
        let takes_next = if let Some(name) = word.strip_prefix("--") {
            let switch = name == "help"
                || is_switch(sets.iter().copied().flatten().find(|flag| flag.name == name));
            !name.contains('=') && !switch
        } else if let Some(group) = word.strip_prefix('-').filter(|group| !group.is_empty()) {
            let letter = group.chars().next();
            let switch = letter == Some('h')
                || is_switch(sets.iter().copied().flatten().find(|flag| flag.short == letter));
            group.chars().count() == 1 && !switch
        } else {
            return Some(index);
        };
        index += if takes_next { 2 } else { 1 };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    static LOCAL: [Flag; 3] = [
        Flag::switch("prefix", ""),
        Flag::new("rev", Kind::Int64, "0", ""),
        Flag::switch("interactive", "").short('i'),
    ];

    fn words(line: &str) -> Vec<Vec<u8>> {
        line.split_whitespace().map(|word| word.as_bytes().to_vec()).collect()
    }

    fn parse(line: &str) -> Result<Parsed, FlagError> {
        Parsed::parse(&[&LOCAL, &GLOBAL], &words(line))
    }

    #[test]
    fn ctl_01_flags_may_stand_anywhere_and_in_every_form() {
        let parsed = parse("--rev=3 foo --prefix -wjson -- --bar -x").expect("parses");
        assert_eq!(parsed.int64("rev"), 3);
        assert!(parsed.is_on("prefix"));
        assert!(!parsed.is_on("interactive"));
        assert!(parsed.is_on("insecure-transport"));
        assert_eq!(parsed.text("write-out"), "json");
        assert_eq!(parsed.arguments, words("foo --bar -x"));
        assert_eq!(parsed.before_dashes, Some(1));

        let parsed = parse("-iw=fields --rev 0x10 --prefix=false - foo").expect("parses");
        assert!(parsed.is_on("interactive"));
        assert!(!parsed.is_on("prefix"));
        assert_eq!(parsed.text("write-out"), "fields");
        assert_eq!(parsed.int64("rev"), 16);
        assert_eq!(parsed.arguments, words("- foo"));

        let parsed = parse("--endpoints a,b --endpoints=c").expect("parses");
        assert_eq!(parsed.list("endpoints"), ["a", "b", "c"]);
        assert_eq!(parse("x").expect("parses").list("endpoints"), ["127.0.0.1:2379"]);
        assert!(parse("--endpoints=").expect("parses").list("endpoints").is_empty());
        assert_eq!(parse("--endpoints=a,,b,").expect("parses").list("endpoints"), ["a", "b"]);
    }

    #[test]
    fn ctl_02_mistakes_are_told_in_pflag_s_words() {
        for (line, message) in [
            ("--bogus", "unknown flag: --bogus"),
            ("--bogus=1", "unknown flag: --bogus"),
            ("-ix", "unknown shorthand flag: 'x' in -x"),
            ("--rev", "flag needs an argument: --rev"),
            ("-w", "flag needs an argument: 'w' in -w"),
            ("--=3", "bad flag syntax: --=3"),
            (
                "--rev abc",
                "invalid argument \"abc\" for \"--rev\" flag: \
                 strconv.ParseInt: parsing \"abc\": invalid syntax",
            ),
            (
                "-i=foo",
                "invalid argument \"foo\" for \"-i, --interactive\" flag: \
                 strconv.ParseBool: parsing \"foo\": invalid syntax",
            ),
            (
                "--command-timeout abc",
                "invalid argument \"abc\" for \"--command-timeout\" flag: \
                 time: invalid duration \"abc\"",
            ),
        ] {
            assert_eq!(parse(line).err(), Some(FlagError::Bad(message.into())), "{line}");
        }
        assert_eq!(parse("foo --help").err(), Some(FlagError::Help));
        assert_eq!(parse("-h").err(), Some(FlagError::Help));
    }

    #[test]
    fn ctl_01_the_environment_fills_in_and_flags_win() {
        let variable = |name: &str| match name {
            "ETCDCTL_WRITE_OUT" => Some("json".to_string()),
            "ETCDCTL_HEX" => Some("yes".to_string()),
            "ETCDCTL_DIAL_TIMEOUT" => Some("7s".to_string()),
            _ => None,
        };
        let mut parsed = parse("-w simple").expect("parses");
        parsed.fill_from(variable);
        assert_eq!(parsed.text("write-out"), "simple");
        assert!(!parsed.is_on("hex"));
        assert_eq!(parsed.duration("dial-timeout"), Duration::from_secs(7));
        let mut parsed = parse("").expect("parses");
        parsed.fill_from(variable);
        assert_eq!(parsed.text("write-out"), "json");
    }

    #[test]
    fn ctl_01_commands_may_be_abbreviated_and_follow_flags() {
        let root = &crate::commands::ROOT;
        for (line, path, rest) in [
            ("get foo", "etcdctl get", "foo"),
            ("-w json --hex mem li -x", "etcdctl member list", "-w json --hex -x"),
            ("--endpoints=a ge b", "etcdctl get", "--endpoints=a b"),
            ("lease list", "etcdctl lease list", ""),
            ("lease bogus", "etcdctl lease", "bogus"),
            ("m", "etcdctl", "m"),
            ("-- get", "etcdctl", "-- get"),
            ("endpoint --cluster health", "etcdctl endpoint health", "--cluster"),
        ] {
            let mut words = words(line);
            let names: Vec<_> = descend(root, &mut words).iter().map(|c| c.name).collect();
            assert_eq!(names.join(" "), path, "{line}");
            assert_eq!(words, self::words(rest), "{line}");
        }
    }
}
