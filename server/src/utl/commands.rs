//! The tree of commands, and its help, laid out as etcdutl's library lays it out.

use coracle_ctl::args::{Flag, Kind, Parsed};

use super::{Failure, GLOBAL, completion, hashkv, maintain, restore, status, version};

/// A command's function: what it prints, or why it failed.
type Run = fn(&Parsed) -> Result<String, Failure>;

/// A command, or a group of commands.
pub(super) struct Command {
    pub(super) name: &'static str,
    /// What follows the name in the usage line.
    arguments: &'static str,
    short: &'static str,
    pub(super) flags: &'static [Flag],
    /// Flags without which it does not run.
    pub(super) required: &'static [&'static str],
    subcommands: &'static [Command],
    /// `None` for a group, which prints its help.
    pub(super) run: Option<Run>,
}

const NONE: Command = Command {
    name: "",
    arguments: "",
    short: "",
    flags: &[],
    required: &[],
    subcommands: &[],
    run: None,
};

const DATA_DIR: Flag = Flag::new("data-dir", Kind::Text, "", "Path to the etcd data dir");

pub(super) static ROOT: Command = Command {
    name: "etcdutl",
    subcommands: &[
        Command {
            name: "completion",
            arguments: "[bash|zsh|fish|powershell]",
            short: "Generate completion script",
            run: Some(completion::completion),
            ..NONE
        },
        Command {
            name: "defrag",
            short: "Defragments the storage of the etcd",
            flags: &[Flag::new(
                "data-dir",
                Kind::Text,
                "",
                "Required. Defragments a data directory not in use by etcd.",
            )],
            required: &["data-dir"],
            run: Some(maintain::defrag),
            ..NONE
        },
        Command {
            name: "hashkv",
            arguments: "<filename>",
            short: "Prints the KV history hash of a given file",
            flags: &[Flag::new(
                "rev",
                Kind::Int64,
                "0",
                "maximum revision to hash (default: latest revision)",
            )],
            run: Some(hashkv::hashkv),
            ..NONE
        },
        Command { name: "help", short: "Help about any command", ..NONE },
        Command {
            name: "migrate",
            short: "Migrates schema of etcd data dir files to make them compatible with different \
                    etcd version",
            flags: &[
                DATA_DIR,
                Flag::new(
                    "target-version",
                    Kind::Text,
                    "",
                    "Target etcd version to migrate contents of data dir. Minimal value 3.5. \
                     Format \"X.Y\" for example 3.6.",
                ),
                Flag::switch(
                    "force",
                    "Ignore migration failure and forcefully override storage version. Not \
                     recommended.",
                ),
            ],
            required: &["data-dir", "target-version"],
            run: Some(maintain::migrate),
            ..NONE
        },
        Command {
            name: "snapshot",
            short: "Manages etcd node snapshots",
            subcommands: &[RESTORE, SAVE, STATUS],
            ..NONE
        },
        Command {
            name: "version",
            short: "Prints the version of etcdutl",
            run: Some(version),
            ..NONE
        },
    ],
    ..NONE
};

const RESTORE: Command = Command {
    name: "restore",
    arguments: "<filename> --data-dir {output dir} [options]",
    short: "Restores an etcd member snapshot to an etcd directory",
    flags: &[
        Flag::new(
            "bump-revision",
            Kind::Uint64,
            "0",
            "How much to increase the latest revision after restore",
        ),
        Flag::new("data-dir", Kind::Text, "", "Path to the output data directory"),
        Flag::new(
            "initial-advertise-peer-urls",
            Kind::Text,
            "http://localhost:2380",
            "List of this member's peer URLs to advertise to the rest of the cluster",
        ),
        Flag::new(
            "initial-cluster",
            Kind::Text,
            "default=http://localhost:2380",
            "Initial cluster configuration for restore bootstrap",
        ),
        Flag::new(
            "initial-cluster-token",
            Kind::Text,
            "etcd-cluster",
            "Initial cluster token for the etcd cluster during restore bootstrap",
        ),
        Flag::new(
            "initial-memory-map-size",
            Kind::Uint64,
            "10737418240",
            "Accepted for etcd's sake: nothing is mapped into memory here",
        ),
        Flag::switch(
            "mark-compacted",
            "Mark the latest revision after restore as the point of scheduled compaction \
             (required if --bump-revision > 0, disallowed otherwise)",
        ),
        Flag::new("name", Kind::Text, "default", "Human-readable name for this member"),
        Flag::switch(
            "skip-hash-check",
            "Ignore snapshot integrity hash value (required if copied from data directory)",
        ),
        Flag::new(
            "wal-dir",
            Kind::Text,
            "",
            "Path to the WAL directory (use --data-dir if none given)",
        ),
    ],
    required: &["data-dir"],
    run: Some(restore::restore),
    ..NONE
};

/// Not shown: it only says where the command has gone.
const SAVE: Command = Command {
    name: "save",
    arguments: "<filename>",
    run: Some(|_| {
        super::complain(
            "Command \"save\" is deprecated, Use `etcdctl snapshot save` to download snapshot",
        );
        Err(Failure::arguments("In order to download snapshot use: `etcdctl snapshot save ...`"))
    }),
    ..NONE
};

const STATUS: Command = Command {
    name: "status",
    arguments: "<filename>",
    short: "Gets backend snapshot status of a given file",
    run: Some(status::status),
    ..NONE
};

impl Command {
    /// The subcommands that the help tells of.
    pub(super) fn shown(&self) -> impl Iterator<Item = &'static Command> {
        self.subcommands.iter().filter(|command| !command.short.is_empty())
    }

    /// The subcommand called `name`, or the only one that `name` abbreviates.
    pub(super) fn subcommand(&self, name: &[u8]) -> Option<&'static Command> {
        let subcommands = self.subcommands;
        let exact = subcommands.iter().find(|command| command.name.as_bytes() == name);
        exact.or_else(|| {
            let mut matches =
                subcommands.iter().filter(|command| command.name.as_bytes().starts_with(name));
            matches.next().filter(|_| matches.next().is_none())
        })
    }
}

/// How to use the last command of `path`.
pub(super) fn usage(path: &[&Command]) -> String {
    let Some(command) = path.last() else { return String::new() };
    let names: Vec<_> = path.iter().map(|command| command.name).collect();
    let name = names.join(" ");
    let mut text = String::from("Usage:\n");
    if command.subcommands.is_empty() {
        let arguments = command.arguments;
        let space = if arguments.is_empty() { "" } else { " " };
        text += &format!("  {name}{space}{arguments} [flags]\n");
    } else {
        text += &format!("  {name} [command]\n\nAvailable Commands:\n");
        for command in command.shown() {
            text += &format!("  {:11} {}\n", command.name, command.short);
        }
    }
    let help = ("  -h, --help".to_owned(), format!("help for {}", command.name));
    let mut rows: Vec<_> = command.flags.iter().map(row).chain([help]).collect();
    let is_root = path.len() == 1;
    if is_root {
        rows.extend(GLOBAL.iter().map(row));
    }
    // By name, whatever stands before it.
    rows.sort_by(|(a, _), (b, _)| {
        a.find("--").map(|at| &a[at..]).cmp(&b.find("--").map(|at| &b[at..]))
    });
    text += &format!("\nFlags:\n{}", aligned(&rows));
    if !is_root {
        let rows: Vec<_> = GLOBAL.iter().map(row).collect();
        text += &format!("\nGlobal Flags:\n{}", aligned(&rows));
    }
    if !command.subcommands.is_empty() {
        text +=
            &format!("\nUse \"{name} [command] --help\" for more information about a command.\n");
    }
    text
}

fn row(flag: &Flag) -> (String, String) {
    let short = flag.short.map_or("      ".to_owned(), |letter| format!("  -{letter}, "));
    let (kind, default) = match flag.kind {
        Kind::Bool => ("", String::new()),
        Kind::Duration => (" duration", flag.default.to_owned()),
        Kind::Int64 => (" int", flag.default.replace('0', "")),
        Kind::Uint64 if flag.default == "0" => (" uint", String::new()),
        Kind::Uint64 => (" uint", flag.default.to_owned()),
        Kind::Text if flag.default.is_empty() => (" string", String::new()),
        _ => (" string", format!("{:?}", flag.default)),
    };
    let default = if default.is_empty() { default } else { format!(" (default {default})") };
    (format!("{short}--{}{kind}", flag.name), flag.help.to_owned() + &default)
}

fn aligned(rows: &[(String, String)]) -> String {
    let widest = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0);
    rows.iter().map(|(left, right)| format!("{left:widest$}   {right}\n")).collect()
}
