//! One table: arguments and environment in, configuration or sentence out.

use std::path::PathBuf;
use std::time::Duration;

use super::flags::Effect;
use super::settings::{LogOutput, LogRotation};
use super::table::FLAGS;
use super::*;

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Parsed, ConfigError> {
    let arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
    let environment: Vec<_> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    parse(&arguments, &environment)
}

fn config(arguments: &[&str], environment: &[(&str, &str)]) -> Config {
    match run(arguments, environment).unwrap() {
        Parsed::Serve(config) => *config,
        other => panic!("{other:?}"),
    }
}

/// What is said of a configuration, as text.
fn texts(config: &Config) -> Vec<&str> {
    let texts = config.warnings.iter().filter_map(|warning| match warning {
        Warning::Text(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

fn error(arguments: &[&str], environment: &[(&str, &str)]) -> (u8, String) {
    let error = run(arguments, environment).unwrap_err();
    (error.exit_status(), error.to_string())
}

#[test]
fn defaults_are_etcds() {
    let config = config(&[], &[]);
    assert_eq!(config.node.name, "default");
    assert_eq!(config.data_dir, PathBuf::from("default.etcd"));
    assert_eq!(config.node.initial_cluster, [("default".into(), "http://localhost:2380".into())]);
    assert_eq!(config.node.heartbeat_interval, Duration::from_millis(100));
    assert_eq!(config.node.election_timeout, Duration::from_millis(1000));
    assert_eq!(config.node.max_request_bytes, 1_572_864);
    assert_eq!(config.node.watch_progress_notify_interval, Duration::from_secs(600));
    assert_eq!(config.listen_client_urls[0].to_string(), "http://localhost:2379");
    assert!(config.fsync && config.node.pre_vote && config.node.strict_reconfig_check);
    assert!(config.log.json && config.log.outputs == [LogOutput::Stderr]);
    assert_eq!(texts(&config).len(), 2, "{:?}", config.warnings);
}

#[test]
fn flags_come_in_four_forms() {
    let config = config(
        &[
            "--name=a",
            "-data-dir",
            "/d",
            "--pre-vote=false",
            "-unsafe-no-fsync",
            "--max-learners",
            "3",
        ],
        &[],
    );
    assert_eq!((config.node.name.as_str(), config.node.max_learners), ("a", 3));
    assert_eq!(config.data_dir, PathBuf::from("/d"));
    assert!(!config.node.pre_vote && !config.fsync);
}

#[test]
fn w_03_a_request_may_not_be_larger_than_its_length_can_say() {
    for (given, effective) in [("1", 1), ("18446744073709551615", 1 << 30)] {
        let config = config(&["--max-request-bytes", given], &[]);
        assert_eq!(config.node.max_request_bytes, effective);
    }
}

#[test]
fn cfg_01_environment_fills_in_and_conflicts() {
    let config = config(
        &["--name", "a"],
        &[
            ("ETCD_MAX_TXN_OPS", "7"),
            ("ETCD_FOO", "x"),
            ("ETCD_VERSION", "3.5"),
            ("ETCD_DATA_DIR", ""),
            ("ETCD_EXPERIMENTAL_MAX_LEARNERS", "4"),
            ("HOME", "/"),
        ],
    );
    assert_eq!((config.node.max_txn_ops, config.node.max_learners), (7, 4));
    assert!(config.warnings.contains(&Warning::UnknownVariable("ETCD_FOO".to_owned())));
    assert!(config.warnings.contains(&Warning::SpecialVariable("3.5".to_owned())));
    for value in ["b", ""] {
        let (status, text) = error(&["--name", "a"], &[("ETCD_NAME", value)]);
        assert_eq!(status, 1);
        assert_eq!(
            text,
            "conflicting environment variable is shadowed by corresponding command-line flag \
             (either unset environment variable or disable flag))"
        );
    }
    let (status, text) = error(&[], &[("ETCD_MAX_TXN_OPS", "x")]);
    assert_eq!(
        (status, text.as_str()),
        (1, "invalid value \"x\" for ETCD_MAX_TXN_OPS: parse error")
    );
}

#[test]
fn cfg_02_a_file_stands_alone() {
    let path = std::env::temp_dir().join(format!("coracle-config-{}.yml", std::process::id()));
    let file = path.to_str().unwrap();
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    write(
        "name: filed\nheartbeat-interval: 10\nelection-timeout: 50\npre-vote: false\n\
         watch-progress-notify-interval: 5000000000\nlog-outputs: [stdout]\n\
         listen-client-urls: http://127.0.0.1:1,http://127.0.0.1:2\nnonsense: 1\n\
         feature-gates: 'InitialCorruptCheck=true,CompactHashCheck=true'\n\
         client-transport-security:\n  cert-file: ''\n  frob: 1\n\
         socket-options:\n  reuse-port: false\n",
    );
    let config = config(&["--config-file", file, "--name=flagged"], &[("ETCD_MAX_TXN_OPS", "7")]);
    assert_eq!(config.node.name, "filed");
    assert_eq!(config.node.max_txn_ops, 128);
    assert_eq!(config.node.heartbeat_interval, Duration::from_millis(10));
    assert_eq!(config.node.watch_progress_notify_interval, Duration::from_secs(5));
    assert_eq!(config.listen_client_urls.len(), 2);
    assert_eq!(config.node.advertise_client_urls, ["http://localhost:2379"]);
    assert_eq!(config.log.outputs, [LogOutput::Stdout]);
    assert!(config.gates.is_enabled("CompactHashCheck"));
    let texts = texts(&config).join("\n");
    assert!(texts.contains("unknown key \"nonsense\""), "{texts}");
    assert!(texts.contains("unknown key \"client-transport-security.frob\""), "{texts}");

    for (text, sentence) in [
        ("max-txn-ops: many", "invalid value \"many\" for max-txn-ops: parse error"),
        ("peer-transport-security: foo", "invalid peer-transport-security"),
        ("[1]", "expected flag names with values"),
        ("a: b: c", "mapping values are not allowed in this context"),
        ("{\"heartbeat-interval\": 5, \"election-timeout\": 10}", "at least as 5 times as"),
    ] {
        write(text);
        let (status, error) = error(&[], &[("ETCD_CONFIG_FILE", file)]);
        assert_eq!(status, 1);
        assert!(error.contains(sentence), "{error}");
    }
    std::fs::remove_file(&path).unwrap();
    let (status, text) = error(&["--config-file=/nonexistent"], &[]);
    assert_eq!((status, text.as_str()), (1, "open /nonexistent: no such file or directory"));
}

#[test]
fn cfg_03_bad_flags() {
    for (arguments, status, text) in [
        (&["--nonsense=1"][..], 2, "flag provided but not defined: -nonsense"),
        (&["--name"], 2, "flag needs an argument: -name"),
        (&["---name=a"], 2, "bad flag syntax: ---name=a"),
        (&["-=a"], 2, "bad flag syntax: -=a"),
        (&["--max-txn-ops=-1"], 2, "invalid value \"-1\" for flag -max-txn-ops: parse error"),
        (
            &["--heartbeat-interval=99999999999999999999"],
            2,
            "invalid value \"99999999999999999999\" for flag -heartbeat-interval: \
             value out of range",
        ),
        (&["--pre-vote=maybe"], 2, "invalid boolean value \"maybe\" for -pre-vote: parse error"),
        (&["junk"], 1, "\"junk\" is not a valid flag"),
        (&["--name=a", "--", "junk"], 1, "\"junk\" is not a valid flag"),
        (&["--pre-vote", "false"], 1, "\"false\" is not a valid flag"),
        (&["--version=false", "junk"], 1, "\"junk\" is not a valid flag"),
        (
            &["--listen-peer-urls=x"],
            2,
            "invalid value \"x\" for flag -listen-peer-urls: \
             URL scheme must be http, https, unix, or unixs: x",
        ),
        (
            &["--initial-cluster-state=old"],
            2,
            "invalid value \"old\" for flag -initial-cluster-state: invalid value",
        ),
        (
            &["--feature-gates=Foo=true"],
            2,
            "invalid value \"Foo=true\" for flag -feature-gates: unrecognized feature gate: Foo",
        ),
    ] {
        assert_eq!(error(arguments, &[]), (status, text.to_owned()));
    }
    assert!(matches!(run(&["--name=a", "-h", "--bad"], &[]), Ok(Parsed::Help { .. })));
    assert!(matches!(run(&["--version", "--name=a"], &[]), Ok(Parsed::Version)));
    assert_eq!(error(&["--version", "--bad"], &[]).0, 2);
}

#[test]
fn cfg_04_values_must_go_together() {
    for (arguments, text) in [
        (
            &["--listen-client-urls=http://127.0.0.1:1"][..],
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ),
        (
            &["--election-timeout=400"],
            "--election-timeout[400ms] should be at least as 5 times as \
             --heartbeat-interval[100ms]",
        ),
        (
            &["--election-timeout=50001"],
            "--election-timeout[50001ms] is too long, and should be set less than 50000ms",
        ),
        (&["--heartbeat-interval=0"], "--heartbeat-interval must be >0 (set to 0ms)"),
        (
            &["--listen-peer-urls=http://example.com:1"],
            "expected IP in URL for binding (http://example.com:1)",
        ),
        (
            &["--initial-advertise-peer-urls=http://:1"],
            "--initial-advertise-peer-urls \"http://:1\" must be \"host:port\" \
             (unexpected empty host (http://:1))",
        ),
        (
            &["--advertise-client-urls=http://:1"],
            "--advertise-client-urls \"http://:1\" must be in the format \"host:port\", \
             \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" \
             (unexpected empty host (http://:1))",
        ),
        (&["--logger=foo"], "unknown logger option \"foo\""),
        (&["--logger=capnslog"], "--logger=capnslog is removed in v3.5"),
        (&["--log-level=foo"], "unrecognized level: \"foo\""),
        (&["--log-format=foo"], "unknown log format: foo, supported values json, console"),
        (&["--log-outputs=foo,default"], "multi logoutput for \"default\" is not supported yet"),
        (
            &["--enable-log-rotation"],
            "--log-outputs requires a single file path when --log-rotate-config-json is defined",
        ),
        (
            &["--feature-gates=LeaseCheckpointPersist=true"],
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate \
             LeaseCheckpoint",
        ),
        (&["--compact-hash-check-time=0"], "--compact-hash-check-time must be >0 (set to 0s)"),
        (
            &[
                "--warning-unary-request-duration=1s",
                "--experimental-warning-unary-request-duration=1s",
            ],
            "both --warning-unary-request-duration and \
             --experimental-warning-unary-request-duration flags are set. \
             Use only --warning-unary-request-duration",
        ),
        (
            &["--feature-gates=CompactHashCheck=true", "--experimental-compact-hash-check-enabled"],
            "cannot specify both flags: --experimental-compact-hash-check-enabled=true and \
             --feature-gates=CompactHashCheck=true at the same time, please just use \
             --feature-gates=CompactHashCheck=true",
        ),
    ] {
        assert_eq!(error(arguments, &[]), (1, text.to_owned()));
    }
}

#[test]
fn watch_13_the_interval_of_progress_is_etcds() {
    for (given, millis, warned) in [
        ("0", 600_000, false),
        ("-1s", 600_000, false),
        ("1ms", 100, true),
        ("100ms", 100, false),
        ("7s", 7_000, false),
    ] {
        let config = config(&[&format!("--watch-progress-notify-interval={given}")], &[]);
        let interval = config.node.watch_progress_notify_interval;
        assert_eq!(interval, Duration::from_millis(millis), "{given}");
        let told = texts(&config).iter().any(|text| text.starts_with("adjusting watch progress"));
        assert_eq!(told, warned, "{given}");
    }
}

#[test]
fn cfg_04_at_most_all_calls_are_traced() {
    for (rate, text) in [("-1", "positive"), ("1000001", "less than 1000000")] {
        let rate = format!("--distributed-tracing-sampling-rate={rate}");
        let text = format!(
            "distributed tracing configurition is not valid: (tracing sampling rate must be {text})"
        );
        assert_eq!(error(&["--enable-distributed-tracing", &rate], &[]), (1, text));
        assert_eq!(config(&[&rate], &[]).tracing, None);
    }
}

#[test]
fn cfg_01_a_members_local_address_is_one_at_which_others_reach_it() {
    let gate = "--feature-gates=SetMemberLocalAddr=true";
    for (urls, gates, expected) in [
        ("http://192.0.2.1:2380", "", None),
        ("http://192.0.2.1:2380", gate, Some("192.0.2.1")),
        ("http://127.0.0.1:2380", gate, None),
        (
            "http://127.0.0.1:2380,http://a.example:2380,https://[2001:db8::1]:1",
            gate,
            Some("2001:db8::1"),
        ),
    ] {
        let initial: Vec<_> = urls.split(',').map(|url| format!("a={url}")).collect();
        let arguments = [
            "--name=a",
            &format!("--initial-advertise-peer-urls={urls}"),
            &format!("--initial-cluster={}", initial.join(",")),
            gates,
        ];
        let given = if gates.is_empty() { &arguments[..3] } else { &arguments[..] };
        let address = config(given, &[]).local_address().map(|address| address.to_string());
        assert_eq!(address.as_deref(), expected, "{urls}");
    }
}

#[test]
fn cfg_05_former_names_and_removed_flags_are_taken_with_a_warning() {
    let config = config(
        &[
            "--experimental-watch-progress-notify-interval=5s",
            "--experimental-initial-corrupt-check",
            "--max-snapshots=3",
            "--max-wals=3",
            "--name=a",
            "--data-dir=/d",
        ],
        &[("ETCD_EXPERIMENTAL_ENABLE_LEASE_CHECKPOINT", "true"), ("ETCD_ENABLE_V2", "false")],
    );
    assert_eq!(config.node.watch_progress_notify_interval, Duration::from_secs(5));
    assert!(config.gates.is_enabled("InitialCorruptCheck"));
    assert!(config.gates.is_enabled("LeaseCheckpoint"));
    let texts = texts(&config);
    for name in [
        "--experimental-watch-progress-notify-interval is deprecated: use",
        "--experimental-initial-corrupt-check is deprecated: use --feature-gates=Initial",
        "--max-snapshots is gone from etcd",
        "--max-wals has no effect",
        "--experimental-enable-lease-checkpoint is deprecated",
        "--enable-v2 is gone from etcd",
    ] {
        assert!(texts.iter().any(|text| text.starts_with(name)), "{name}: {texts:?}");
    }
}

#[test]
fn cfg_05_flags_that_etcd_ignores_take_any_value() {
    for (name, variable) in
        [("config", "ETCD_CONFIG"), ("v", "ETCD_V"), ("debug", "ETCD_DEBUG"), ("vv", "ETCD_VV")]
    {
        let gone = format!("--{name} is gone from etcd");
        for config in [
            config(&[&format!("--{name}=7s")], &[]),
            // As of a boolean, the value is not the next argument.
            config(&[&format!("--{name}"), "--name=a"], &[]),
            config(&[], &[(variable, "7s")]),
        ] {
            assert!(texts(&config).iter().any(|text| text.starts_with(&gone)), "{name}");
        }
    }
    let text = "invalid boolean value \"7s\" for -enable-v2: parse error";
    assert_eq!(error(&["--enable-v2=7s"], &[]), (2, text.to_owned()));
}

#[test]
fn cfg_01_values_that_etcd_does_not_check_are_taken() {
    for (value, extensive) in [("extensive", true), ("Extensive", false), ("foo", false)] {
        let config = config(&[&format!("--metrics={value}")], &[]);
        assert_eq!(config.http.extensive_metrics, extensive, "{value}");
    }
    config(&["--backend-bbolt-freelist-type=foo"], &[("ETCD_METRICS", "foo")]);
}

#[test]
fn cfg_02_keys_have_any_case_and_whole_numbers_any_form() {
    let path = std::env::temp_dir().join(format!("coracle-case-{}.yml", std::process::id()));
    let file = path.to_str().unwrap();
    std::fs::write(
        &path,
        "Name: filed\nquota-backend-bytes: 8e9\nmax-txn-ops: 7.0\nlog-level: Warn\n\
         watch-progress-notify-interval: 5e9\nClient-Transport-Security:\n  Cert-File: a.pem\n\
         Nonsense: 1\n",
    )
    .unwrap();
    let config = config(&["--config-file", file], &[]);
    assert_eq!(config.node.name, "filed");
    assert_eq!((config.node.quota_backend_bytes, config.node.max_txn_ops), (8_000_000_000, 7));
    assert_eq!(config.node.watch_progress_notify_interval, Duration::from_secs(5));
    assert_eq!(config.log.level, tracing::Level::WARN);
    assert_eq!(config.tls.client.cert_file, "a.pem");
    assert!(texts(&config).iter().any(|text| text.contains("unknown key \"Nonsense\"")));
    for text in ["max-txn-ops: 7.5", "max-txn-ops: -7.0", "max-txn-ops: .inf"] {
        std::fs::write(&path, text).unwrap();
        let (status, error) = error(&["--config-file", file], &[]);
        assert!(status == 1 && error.contains("for max-txn-ops: parse error"), "{text}: {error}");
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn log_01_levels_have_any_case_and_debug_serves_profiles() {
    use tracing::Level;
    for (given, level, pprof) in [
        ("INFO", Level::INFO, false),
        ("Warn", Level::WARN, false),
        ("debug", Level::DEBUG, true),
        ("DEBUG", Level::DEBUG, true),
    ] {
        let config = config(&[&format!("--log-level={given}")], &[]);
        assert_eq!((config.log.level, config.http.pprof), (level, pprof), "{given}");
    }
    let config = config(&["--enable-pprof"], &[]);
    assert!(config.http.pprof);
}

#[test]
fn log_01_a_file_may_be_given_as_a_url() {
    for name in ["/tmp/a.log", "file:///tmp/a.log", "file://localhost/tmp/a.log"] {
        let config = config(&[&format!("--log-outputs={name}")], &[]);
        let file = LogOutput::File { path: "/tmp/a.log".into(), rotation: None };
        assert_eq!(config.log.outputs, [file], "{name}");
    }
    let text = "file URLs must leave host empty or use localhost: got file://example.com/a.log";
    assert_eq!(error(&["--log-outputs=file://example.com/a.log"], &[]), (1, text.to_owned()));
}

#[test]
fn cmp_06_retentions_are_hours_durations_or_revisions() {
    use coracle_core::node::AutoCompaction::{Periodic, Revision};
    for (mode, retention, expected) in [
        ("periodic", "0", None),
        ("periodic", "8", Some(Periodic(Duration::from_secs(8 * 3600)))),
        ("periodic", "30m", Some(Periodic(Duration::from_secs(1800)))),
        ("revision", "1000", Some(Revision(1000))),
        ("revision", "0", None),
        ("revision", "1us", Some(Revision(1000))),
    ] {
        let mode = format!("--auto-compaction-mode={mode}");
        let retention = format!("--auto-compaction-retention={retention}");
        let config = config(&[&mode, &retention], &[]);
        assert_eq!(config.node.auto_compaction, expected, "{mode} {retention}");
    }
    for (argument, text) in [
        ("--auto-compaction-mode=foo", "unknown auto-compaction-mode \"foo\""),
        (
            "--auto-compaction-retention=foo",
            "error parsing CompactionRetention: time: invalid duration \"foo\"",
        ),
    ] {
        assert_eq!(error(&[argument], &[]), (1, text.to_owned()));
    }
}

#[test]
fn cl_boot_one_way_to_the_initial_cluster() {
    let several = "multiple discovery or bootstrap flags are set. Choose one of \
                   \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\"";
    let cluster = "--initial-cluster=default=http://localhost:2380";
    for (arguments, text) in [
        (&[cluster, "--discovery-srv=example.com"][..], several),
        (&["--discovery-srv=a", "--discovery-endpoints=b", "--discovery-token=c"], several),
        (&["--discovery-token=a"], "both --discovery-token and --discovery-endpoints must be set"),
    ] {
        assert_eq!(error(arguments, &[]), (1, text.to_owned()));
    }
}

#[test]
fn log_01_rotation_is_read() {
    let config = config(
        &[
            "--log-outputs=/tmp/a.log,stderr",
            "--enable-log-rotation",
            "--log-rotation-config-json={\"maxsize\": 1, \"maxbackups\": 2, \"compress\": true}",
        ],
        &[],
    );
    let rotation = LogRotation {
        max_size_megabytes: 1,
        max_age_days: 0,
        max_backups: 2,
        local_time: false,
        compress: true,
    };
    assert_eq!(
        config.log.outputs,
        [
            LogOutput::File { path: "/tmp/a.log".into(), rotation: Some(rotation) },
            LogOutput::Stderr
        ]
    );
}

/// A value that each flag takes, other than its default where there is one.
fn another_value(flag: &flags::Flag) -> &'static str {
    match (flag.name, flag.kind) {
        ("auth-token", _) => "jwt,sign-method=HS256",
        ("bcrypt-cost", _) => "11",
        ("auto-compaction-mode", _) => "revision",
        ("auto-compaction-retention", _) => "8",
        ("logger", _) => "zap",
        ("log-level", _) => "warn",
        ("metrics", _) => "extensive",
        ("log-format", _) => "console",
        ("log-outputs", _) => "/tmp/coracle.log",
        ("log-rotation-config-json", _) => r#"{"maxsize":7}"#,
        ("discovery-token", _) => "token",
        ("initial-cluster", _) => "default=http://127.0.0.1:7",
        (_, flags::Kind::Text | flags::Kind::Ignored) => "7",
        (_, flags::Kind::List) => "a,b",
        (_, flags::Kind::Bool) => {
            if flag.default == "true" {
                "false"
            } else {
                "true"
            }
        }
        (_, flags::Kind::Number | flags::Kind::Signed | flags::Kind::Unsigned32) => "200",
        (_, flags::Kind::Duration) => "7s",
        (_, flags::Kind::Urls) => "http://127.0.0.1:7",
        (_, flags::Kind::Gates) => "CompactHashCheck=true",
        (_, flags::Kind::OneOf(choices)) => {
            choices.iter().find(|choice| **choice != flag.default).unwrap()
        }
    }
}

/// What else must be given for a flag to be taken.
fn companions(name: &str) -> &'static [&'static str] {
    match name {
        "auto-compaction-mode" => &["--auto-compaction-retention=9"],
        "compact-hash-check-time" => &["--feature-gates=CompactHashCheck=true"],
        "listen-client-urls" => &["--advertise-client-urls=http://127.0.0.1:7"],
        "heartbeat-interval" => &["--election-timeout=1000"],
        "election-timeout" => &["--heartbeat-interval=10"],
        "enable-log-rotation" => &["--log-outputs=/tmp/coracle.log"],
        "log-rotation-config-json" => {
            &["--log-outputs=/tmp/coracle.log", "--enable-log-rotation=true"]
        }
        "discovery-token" => &["--discovery-endpoints=http://127.0.0.1:7"],
        "discovery-endpoints" => &["--discovery-token=token"],
        "experimental-compact-hash-check-time" => &["--feature-gates=CompactHashCheck=true"],
        name if name.contains("distributed-tracing-") => &["--enable-distributed-tracing=true"],
        "experimental-enable-lease-checkpoint-persist" => &["--feature-gates=LeaseCheckpoint=true"],
        _ => &[],
    }
}

/// Every flag by command line, by variable and by file: one that acts changes the configuration,
/// one that does not says so.
#[test]
fn cfg_01_every_flag_is_taken_from_every_source() {
    let plain = format!("{:?}", config(&[], &[]));
    let path = std::env::temp_dir().join(format!("coracle-flags-{}.yml", std::process::id()));
    for flag in FLAGS {
        let value = another_value(flag.today());
        let argument = format!("--{}={value}", flag.name);
        let mut arguments = companions(flag.name).to_vec();
        // Of two flags that need each other neither is taken alone.
        let companions = match run(&arguments, &[]) {
            Ok(Parsed::Serve(config)) => format!("{:?}", config.without_warnings()),
            _ => plain.clone(),
        };
        let taken = run(&arguments, &[(&flags::variable(flag.name), value)]);
        arguments.push(&argument);
        let by_flag = config(&arguments, &[]);
        let Ok(Parsed::Serve(by_variable)) = taken else { panic!("{}: {taken:?}", flag.name) };
        assert_eq!(format!("{by_flag:?}"), format!("{by_variable:?}"), "{}", flag.name);
        let changed = format!("{:?}", by_flag.clone().without_warnings()) != companions;
        let warned = texts(&by_flag).iter().any(|text| text.contains(&format!("--{} ", flag.name)));
        match flag.effect {
            Effect::Acts | Effect::Internal => {
                assert!(changed || flag.name == "logger", "{} changes nothing", flag.name);
                assert!(!warned, "{} is warned of", flag.name);
            }
            Effect::Accepted(_) | Effect::Removed(_) | Effect::Former(_) | Effect::Gate(_) => {
                assert!(warned, "{} is not warned of", flag.name);
            }
        }
        let mut lines = vec![format!("{}: '{value}'", flag.name)];
        for companion in self::companions(flag.name) {
            let (name, value) = companion.trim_start_matches("--").split_once('=').unwrap();
            lines.push(format!("{name}: '{value}'"));
        }
        std::fs::write(&path, lines.join("\n")).unwrap();
        let by_file = config(&["--config-file", path.to_str().unwrap()], &[]);
        assert_eq!(
            format!("{:?}", by_file.without_warnings()),
            format!("{:?}", by_flag.without_warnings()),
            "{}",
            flag.name
        );
    }
    assert_eq!(plain, format!("{:?}", config(&[], &[])));
    std::fs::remove_file(&path).unwrap();
}

impl Config {
    fn without_warnings(self) -> Config {
        Config { warnings: Vec::new(), ..self }
    }
}

/// A member that has data does not look at it, as in etcd.
#[test]
fn fs_01_what_is_wrong_with_the_initial_cluster_is_told_later() {
    let fault = |flag: &str| config(&[flag], &[]).initial_cluster_fault;
    let wrong = "--initial-cluster has \"default\", which is not of the form name=URL";
    assert_eq!(fault("--initial-cluster=default").as_deref(), Some(wrong));
    assert_eq!(fault("--initial-cluster=default=http://localhost:2380"), None);
}
