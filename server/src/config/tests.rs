//! One table: arguments and environment in, configuration or sentence out.

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

fn error(arguments: &[&str], environment: &[(&str, &str)]) -> (u8, String) {
    let error = run(arguments, environment).unwrap_err();
    (error.exit_status, error.message)
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
    assert!(config.log.json && !config.log.stdout && config.warnings.is_empty());
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
fn cfg_01_environment_fills_in_and_conflicts() {
    let config =
        config(&["--name", "a"], &[("ETCD_MAX_TXN_OPS", "7"), ("ETCD_FOO", "x"), ("HOME", "/")]);
    assert_eq!(config.node.max_txn_ops, 7);
    assert_eq!(config.warnings, ["unrecognized environment variable: ETCD_FOO"]);
    let (status, text) = error(&["--name", "a"], &[("ETCD_NAME", "b")]);
    assert_eq!(status, 1);
    assert!(
        text.starts_with("conflicting environment variable is shadowed by corresponding"),
        "{text}"
    );
    let (_, text) = error(&[], &[("ETCD_MAX_TXN_OPS", "x")]);
    assert_eq!(text, "invalid value \"x\" for ETCD_MAX_TXN_OPS: parse error");
}

#[test]
fn cfg_02_a_file_stands_alone() {
    let path = std::env::temp_dir().join(format!("coracle-config-{}.yml", std::process::id()));
    std::fs::write(
        &path,
        "name: filed\nheartbeat-interval: 10\nelection-timeout: 50\npre-vote: false\n\
         watch-progress-notify-interval: 5000000000\nlog-outputs: [stdout]\n\
         listen-client-urls: http://127.0.0.1:1,http://127.0.0.1:2\nnonsense: 1\n\
         advertise-client-urls: http://127.0.0.1:1\n\
         client-transport-security:\n  cert-file: ''\n",
    )
    .unwrap();
    let file = path.to_str().unwrap();
    let config = config(&["--config-file", file, "--name=flagged"], &[("ETCD_MAX_TXN_OPS", "7")]);
    assert_eq!(config.node.name, "filed");
    assert_eq!(config.node.max_txn_ops, 128);
    assert_eq!(config.node.heartbeat_interval, Duration::from_millis(10));
    assert_eq!(config.node.watch_progress_notify_interval, Duration::from_secs(5));
    assert_eq!(config.listen_client_urls.len(), 2);
    assert!(config.log.stdout);
    assert!(config.warnings.iter().any(|warning| warning.ends_with("unknown key \"nonsense\"")));
    std::fs::write(&path, "max-txn-ops: many").unwrap();
    let (status, text) = error(&[], &[("ETCD_CONFIG_FILE", file)]);
    assert_eq!(status, 1);
    assert!(text.ends_with("invalid value \"many\" for max-txn-ops: parse error"), "{text}");
    std::fs::write(&path, "peer-transport-security: {cert-file: a}").unwrap();
    assert!(error(&["--config-file", file], &[]).1.ends_with("TLS is not supported yet"));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn cfg_03_bad_flags() {
    for (arguments, status, text) in [
        (&["--nonsense=1"][..], 2, "flag provided but not defined: -nonsense"),
        (&["--name"], 2, "flag needs an argument: -name"),
        (&["--max-txn-ops=-1"], 2, "invalid value \"-1\" for flag -max-txn-ops: parse error"),
        (&["--pre-vote=maybe"], 2, "invalid value \"maybe\" for flag -pre-vote: parse error"),
        (&["junk"], 1, "\"junk\" is not a valid flag"),
        (&["--pre-vote", "false"], 1, "\"false\" is not a valid flag"),
        (
            &["--listen-peer-urls=x"],
            2,
            "invalid value \"x\" for flag -listen-peer-urls: \
             URL scheme must be http, https, unix, or unixs: x",
        ),
        (
            &["--initial-cluster-state=old"],
            2,
            "invalid value \"old\" for flag -initial-cluster-state: \
             invalid value \"old\", choose new or existing",
        ),
    ] {
        assert_eq!(error(arguments, &[]), (status, text.to_owned()));
    }
    assert!(matches!(run(&["--name=a", "-h"], &[]), Ok(Parsed::Help(_))));
    assert!(matches!(run(&["--version"], &[]), Ok(Parsed::Version)));
}

#[test]
fn cfg_04_values_must_go_together() {
    let peer = "--initial-advertise-peer-urls=http://h:1";
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
            &["--name=a", "--initial-cluster=b=http://h:1"],
            "couldn't find local name \"a\" in the initial cluster configuration",
        ),
        (
            &["--name=a", "--initial-cluster=a=http://h:2", peer],
            "--initial-cluster must include a=http://h:1 given \
             --initial-advertise-peer-urls=http://h:1",
        ),
        (
            &["--name=a", "--initial-cluster=a=http://h:1,a=http://h:2", peer],
            "--initial-cluster has a=http://h:2 but missing from \
             --initial-advertise-peer-urls=http://h:1",
        ),
        (
            &["--initial-cluster=default"],
            "--initial-cluster has \"default\", which is not of the form name=URL",
        ),
    ] {
        assert_eq!(error(arguments, &[]), (1, text.to_owned()));
    }
}

#[test]
fn former_names_and_removed_flags_are_taken_with_a_warning() {
    let config = config(&["--experimental-watch-progress-notify-interval=5s", "--max-wals=3"], &[]);
    assert_eq!(config.node.watch_progress_notify_interval, Duration::from_secs(5));
    assert_eq!(config.warnings.len(), 2, "{:?}", config.warnings);
}
