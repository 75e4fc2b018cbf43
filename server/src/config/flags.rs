//! The table of flags: what flags, environment, configuration file and `--help` agree on.
//!
//! Names, defaults and meanings are etcd's (op-guide/configuration). A flag `--a-b` is also the
//! environment variable `ETCD_A_B` and the key `a-b` of the configuration file.

use std::fmt::Write;
use std::time::Duration;

use super::urls::Url;

/// What a value must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Bool,
    /// A whole number from 0.
    Number,
    /// A whole number.
    Signed,
    /// A Go duration such as `1m30s`; in the configuration file a number of nanoseconds.
    Duration,
    /// Comma-separated URLs.
    Urls,
    OneOf(&'static [&'static str]),
}

/// One flag.
#[derive(Debug)]
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) default: &'static str,
    pub(super) section: Section,
    pub(super) help: &'static str,
}

/// Where a flag stands in the help, or why it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Member,
    Clustering,
    Monitoring,
    Logging,
    Features,
    Unsafe,
    /// For tests and measurements.
    Hidden,
    /// Taken so that manifests written for etcd start; says so and does nothing.
    Ignored,
}

const fn flag(
    section: Section,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag { name, kind, default, section, help }
}

use Kind::{Bool, Duration as Time, Number, OneOf, Signed, Text, Urls};
use Section::{Clustering, Features, Hidden, Ignored, Logging, Member, Monitoring, Unsafe};

const LEVELS: Kind = OneOf(&["debug", "info", "warn", "error", "panic", "fatal"]);

/// Every flag, in the order of the help.
#[rustfmt::skip] // A table.
pub(super) const FLAGS: &[Flag] = &[
    flag(Member, "name", Text, "default", "Human-readable name for this member."),
    flag(Member, "data-dir", Text, "", "Path to the data directory ('<name>.etcd' if empty)."),
    flag(Member, "snapshot-count", Number, "10000",
        "Committed transactions that trigger a snapshot of the log."),
    flag(Member, "heartbeat-interval", Number, "100",
        "Time of a heartbeat interval, in milliseconds."),
    flag(Member, "election-timeout", Number, "1000",
        "Time for an election to timeout, in milliseconds."),
    flag(Member, "listen-peer-urls", Urls, "http://localhost:2380",
        "URLs to listen on for peer traffic."),
    flag(Member, "listen-client-urls", Urls, "http://localhost:2379",
        "URLs to listen on for client gRPC and HTTP traffic."),
    flag(Member, "listen-client-http-urls", Urls, "",
        "URLs to listen on for client HTTP traffic alone; the client URLs serve gRPC alone then."),
    flag(Member, "enable-grpc-gateway", Bool, "true", "Serve JSON under '/v3/'."),
    flag(Member, "gateway-error-key", Bool, "false",
        "Repeat the message of JSON errors as 'error', as etcd did until 3.5."),
    flag(Member, "cors", Text, "*", "Origins whose pages may read answers; '*' means all."),
    flag(Member, "host-whitelist", Text, "*",
        "Names that plain HTTP may be asked by if it is not encrypted; '*' means all."),
    flag(Member, "quota-backend-bytes", Signed, "0",
        "Backend size that raises a NOSPACE alarm; 0: 2 GiB, negative: none."),
    flag(Member, "max-txn-ops", Number, "128", "Maximum number of operations in a transaction."),
    flag(Member, "max-request-bytes", Number, "1572864",
        "Maximum size of a client request, in bytes."),
    flag(Member, "max-concurrent-streams", Number, "4294967295",
        "Maximum number of open streams of one connection."),
    flag(Clustering, "initial-advertise-peer-urls", Urls, "http://localhost:2380",
        "This member's peer URLs, to advertise to the rest of the cluster."),
    flag(Clustering, "initial-cluster", Text, "",
        "Initial cluster: 'name=URL,...' (this member alone if empty)."),
    flag(Clustering, "initial-cluster-state", OneOf(&["new", "existing"]), "new",
        "Whether the cluster is 'new', or 'existing' and joined."),
    flag(Clustering, "initial-cluster-token", Text, "etcd-cluster",
        "Keeps clusters with the same configuration apart."),
    flag(Clustering, "advertise-client-urls", Urls, "http://localhost:2379",
        "This member's client URLs, to advertise to the public."),
    flag(Clustering, "strict-reconfig-check", Bool, "true",
        "Reject reconfiguration requests that would cause quorum loss."),
    flag(Clustering, "pre-vote", Bool, "true",
        "Run an election phase that disturbs no leader first."),
    flag(Monitoring, "listen-metrics-urls", Urls, "",
        "URLs to listen on for '/metrics' and '/health' too."),
    flag(Monitoring, "metrics", OneOf(&["basic", "extensive"]), "basic",
        "How detailed metrics are: 'extensive' adds histograms of how long RPCs take."),
    flag(Logging, "logger", OneOf(&["zap"]), "zap", "The form of logs."),
    flag(Logging, "log-outputs", OneOf(&["default", "stderr", "stdout"]), "default",
        "Where logs go; the default is stderr."),
    flag(Logging, "log-level", LEVELS, "info", "Least severe level that is logged."),
    flag(Logging, "log-format", OneOf(&["json", "console"]), "json",
        "One JSON object per line, or plain text."),
    flag(Features, "watch-progress-notify-interval", Time, "10m0s",
        "Interval of periodic watch progress notifications."),
    flag(Features, "max-learners", Number, "1", "Maximum number of learners in the cluster."),
    flag(Features, "snapshot-catchup-entries", Number, "5000",
        "Log entries kept behind a snapshot for slow followers."),
    flag(Unsafe, "unsafe-no-fsync", Bool, "false",
        "Never sync to disk: a crash of the machine may lose data."),
    flag(Hidden, "front-threads", Number, "0", "Threads that serve clients; 0 means one per core."),
    flag(Ignored, "enable-v2", Bool, "false", ""),
    flag(Ignored, "initial-election-tick-advance", Bool, "true", ""),
    flag(Ignored, "max-snapshots", Number, "5", ""),
    flag(Ignored, "max-wals", Number, "5", ""),
    flag(Ignored, "experimental-initial-corrupt-check", Bool, "false", ""),
];

/// Former names of flags, which manifests still use.
pub(super) const ALIASES: &[(&str, &str)] = &[
    ("experimental-watch-progress-notify-interval", "watch-progress-notify-interval"),
    ("experimental-max-learners", "max-learners"),
    ("experimental-snapshot-catchup-entries", "snapshot-catchup-entries"),
];

/// The flag called `name`, by its own or a former name.
pub(super) fn find(name: &str) -> Option<&'static Flag> {
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
    let name = alias.map_or(name, |(_, name)| name);
    FLAGS.iter().find(|flag| flag.name == name)
}

impl Flag {
    /// Whether `value` is one that this flag takes; if not, why, in the words of Go's flag package.
    pub(super) fn check(&self, value: &str) -> Result<(), String> {
        let parse_error = || Err("parse error".to_owned());
        match self.kind {
            Text => Ok(()),
            Bool => parse_bool(value).map_or_else(parse_error, |_| Ok(())),
            Number => value.parse::<u64>().map_or_else(|_| parse_error(), |_| Ok(())),
            Signed => value.parse::<i64>().map_or_else(|_| parse_error(), |_| Ok(())),
            Time => parse_duration(value).map_or_else(parse_error, |_| Ok(())),
            Urls => Url::parse_list(value).map(|_| ()),
            OneOf(choices) if choices.contains(&value) => Ok(()),
            OneOf(choices) => {
                Err(format!("invalid value {value:?}, choose {}", choices.join(" or ")))
            }
        }
    }

    /// The environment variable of this flag.
    pub(super) fn variable(&self) -> String {
        variable(self.name)
    }
}

/// The environment variable of the flag `name`.
pub(super) fn variable(name: &str) -> String {
    format!("ETCD_{}", name.to_uppercase().replace('-', "_"))
}

/// Go's `strconv.ParseBool`.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Go's `time.ParseDuration`, without negative durations: `0`, `90s`, `1h30m`, `1.5s`.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    loop {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(unit_at);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = tail;
        if rest.is_empty() {
            return Some(total);
        }
    }
}

/// What `--help` prints.
pub(super) fn help() -> String {
    let mut text = String::from(
        "Usage:\n\n  \
         coracle serve [flags]\n    Start a member.\n\n  \
         coracle ctl [flags] command\n    Talk to a cluster (etcdctl's commands).\n\n  \
         --version\n    Show the version.\n\n  \
         -h | --help\n    Show the help information.\n\n  \
         --config-file\n    Path to the configuration file (YAML or JSON). \
         All other flags and variables are ignored then.\n",
    );
    let sections = [Member, Clustering, Monitoring, Logging, Features, Unsafe];
    for section in sections {
        // Writing to a String cannot fail.
        _ = write!(text, "\n{section:?}:\n");
        for flag in FLAGS.iter().filter(|flag| flag.section == section) {
            _ = write!(text, "  --{} '{}'\n    {}\n", flag.name, flag.default, flag.help);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_of_its_flag() {
        for flag in FLAGS.iter().filter(|flag| !flag.default.is_empty()) {
            assert_eq!(flag.check(flag.default), Ok(()), "{}", flag.name);
        }
        for (_, name) in ALIASES {
            assert!(FLAGS.iter().any(|flag| flag.name == *name));
        }
    }

    #[test]
    fn durations_are_gos() {
        let seconds = |text| parse_duration(text).map(|duration| duration.as_secs_f64());
        assert_eq!(seconds("10m0s"), Some(600.0));
        assert_eq!(seconds("1h30m"), Some(5400.0));
        assert_eq!(seconds("1.5s"), Some(1.5));
        assert_eq!(seconds("250ms"), Some(0.25));
        assert_eq!(seconds("0"), Some(0.0));
        for bad in ["", "5", "s", "5x", "-5s", "1s2", "1..s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn help_names_every_public_flag() {
        let help = help();
        for flag in FLAGS {
            let public = !matches!(flag.section, Hidden | Ignored);
            assert_eq!(help.contains(&format!("  --{} '", flag.name)), public, "{}", flag.name);
        }
    }
}
