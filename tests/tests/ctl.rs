//! The commands that live longer than a request: `lock`, `elect`, `make-mirror`, `watch` with a
//! program; what a signal makes of them, and how they exit. `etcdctl` does the same, so both are
//! tested.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coracle_tests::cluster::{Cluster, Kind};
use coracle_tests::http::HttpClient;
use coracle_tests::programs::{self, EtcdctlRelease};
use rustix::process::{Pid, Signal, kill_process};

const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug)]
enum Program {
    Etcdctl,
    Coracle,
}

const BOTH: [Program; 2] = [Program::Etcdctl, Program::Coracle];

impl Program {
    fn command(self, cluster: &Cluster) -> Result<Command> {
        let mut command = match self {
            Program::Etcdctl => Command::new(programs::etcdctl(EtcdctlRelease::V35)?),
            Program::Coracle => {
                let mut command = Command::new(programs::coracle()?);
                command.arg("ctl");
                command
            }
        };
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("ETCD") {
                command.env_remove(variable);
            }
        }
        command.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", cluster.endpoints());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok(command)
    }

    /// Runs a command to its end.
    fn run<S: AsRef<OsStr>>(self, cluster: &Cluster, arguments: &[S]) -> Result<Output> {
        Ok(self.command(cluster)?.args(arguments).output()?)
    }

    fn start(self, cluster: &Cluster, arguments: &[&str]) -> Result<Running> {
        let mut child = self.command(cluster)?.args(arguments).spawn()?;
        let stdout = BufReader::new(child.stdout.take().context("its output is a pipe")?);
        Ok(Running { child, stdout })
    }
}

/// A command that runs; killed with the test.
struct Running {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Running {
    /// The next line that it prints.
    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        ensure!(line.ends_with('\n'), "it ended with {line:?}");
        Ok(line.trim_end_matches('\n').to_owned())
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?).context("a process has an id")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Its exit status and complaints, once it has ended.
    fn end(&mut self) -> Result<(ExitStatus, String)> {
        let mut complaints = String::new();
        let stderr = self.child.stderr.as_mut().context("its errors are a pipe")?;
        stderr.read_to_string(&mut complaints)?;
        Ok((self.child.wait()?, complaints))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The keys below `prefix`, one a line.
fn keys(cluster: &Cluster, prefix: &str) -> Result<Vec<String>> {
    let listed = Program::Coracle.run(cluster, &["get", prefix, "--prefix", "--keys-only"])?;
    let lines = text(&listed.stdout).lines().map(str::to_owned).collect::<Vec<_>>();
    Ok(lines.into_iter().filter(|line| !line.is_empty()).collect())
}

fn wait_for_keys(cluster: &Cluster, prefix: &str, count: usize) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while keys(cluster, prefix)?.len() != count {
        ensure!(Instant::now() < deadline, "there are not {count} keys below {prefix}");
        thread::sleep(POLL);
    }
    Ok(())
}

/// Puts a key, again if it has to be: those who are left may need another leader first.
fn put(program: Program, cluster: &Cluster, key: &str, value: &str) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answer = program.run(cluster, &["put", key, value])?;
        if answer.status.success() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{}", text(&answer.stderr));
    }
}

fn with_both(test: impl Fn(Program, &Cluster) -> Result<()>) {
    for program in BOTH {
        let cluster = Cluster::start(Kind::Coracle, 1).expect("a cluster starts");
        if let Err(error) = test(program, &cluster) {
            panic!("{program:?}: {error:#}");
        }
    }
}

#[test]
fn ctl_02_a_lock_is_held_until_a_signal() {
    with_both(|program, cluster| {
        for signal in [Signal::INT, Signal::TERM] {
            let mut holder = program.start(cluster, &["lock", "l"])?;
            let key = holder.line()?;
            ensure!(key.starts_with("l/") && holder.line()?.is_empty(), "{key}");
            let mut waiting = program.start(cluster, &["lock", "l"])?;
            wait_for_keys(cluster, "l/", 2)?;
            waiting.signal(signal)?;
            let (status, complaint) = waiting.end()?;
            ensure!(status.code() == Some(1), "{status}");
            ensure!(complaint == "Error: context canceled\n", "{complaint}");
            wait_for_keys(cluster, "l/", 1)?;
            holder.signal(signal)?;
            let (status, complaint) = holder.end()?;
            ensure!(status.success() && complaint.is_empty(), "{status} {complaint}");
            ensure!(keys(cluster, "l/")?.is_empty(), "the lock is still held");
        }
        Ok(())
    });
}

#[test]
fn ctl_02_a_program_runs_under_a_lock_and_its_exit_code_is_the_command_s() {
    with_both(|program, cluster| {
        for (script, code, complaint) in [
            ("true", 0, ""),
            ("exit 7", 7, "Error: exit status 7\n"),
            ("kill -9 $$", 255, "Error: signal: killed\n"),
        ] {
            let ended = program.run(cluster, &["lock", "l", "--", "sh", "-c", script])?;
            ensure!(ended.status.code() == Some(code), "{script}: {}", ended.status);
            ensure!(text(&ended.stderr) == complaint, "{script}: {}", text(&ended.stderr));
            ensure!(keys(cluster, "l/")?.is_empty(), "{script}: the lock is still held");
        }
        let script = "echo $ETCD_LOCK_KEY $ETCD_LOCK_REV";
        let ended = program.run(cluster, &["lock", "l", "--ttl=60", "--", "sh", "-c", script])?;
        let printed = text(&ended.stdout);
        let (key, revision) = printed.trim().split_once(' ').context("two words")?;
        ensure!(key.starts_with("l/") && revision.parse::<i64>()? > 1, "{printed}");
        let ended = program.run(cluster, &["lock", "l", "no-such-program"])?;
        let missing = "Error: exec: \"no-such-program\": executable file not found in $PATH\n";
        ensure!(text(&ended.stderr) == missing, "{}", text(&ended.stderr));
        ensure!(ended.status.code() == Some(1));
        Ok(())
    });
}

#[test]
fn cc_03_an_election_is_won_observed_and_handed_on() {
    with_both(|program, cluster| {
        let mut observer = program.start(cluster, &["elect", "-l", "e"])?;
        let mut first = program.start(cluster, &["elect", "e", "one"])?;
        let key = first.line()?;
        ensure!(key.starts_with("e/") && first.line()? == "one", "{key}");
        ensure!(observer.line()? == key && observer.line()? == "one");
        let mut second = program.start(cluster, &["elect", "e", "two"])?;
        let mut third = program.start(cluster, &["elect", "e", "three"])?;
        wait_for_keys(cluster, "e/", 3)?;
        third.signal(Signal::INT)?;
        let (status, complaint) = third.end()?;
        ensure!(status.code() == Some(1), "{status}");
        ensure!(complaint == "Error: context canceled\n", "{complaint}");
        first.signal(Signal::INT)?;
        let (status, complaint) = first.end()?;
        ensure!(status.success(), "{status} {complaint}");
        ensure!(second.line()? != key && second.line()? == "two");
        ensure!(observer.line()? != key && observer.line()? == "two");
        observer.signal(Signal::TERM)?;
        let (status, complaint) = observer.end()?;
        ensure!(status.success(), "{status} {complaint}");
        Ok(())
    });
}

#[test]
fn ctl_06_a_watch_runs_a_program_for_each_event() {
    with_both(|program, cluster| {
        let script = "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE";
        let words = ["watch", "w", "--rev=1", "--prefix", "--", "sh", "-c", script];
        let mut watch = program.start(cluster, &words)?;
        program.run(cluster, &["put", "w1", "a b"])?;
        program.run(cluster, &["del", "w1"])?;
        let mut lines = Vec::new();
        while lines.len() < 2 {
            let line = watch.line()?;
            if line.starts_with('"') {
                lines.push(line);
            }
        }
        ensure!(lines == ["\"PUT\" \"w1\" \"a b\"", "\"DELETE\" \"w1\" \"\""], "{lines:?}");
        Ok(())
    });
}

#[test]
fn ctl_06_a_watch_goes_on_when_its_member_is_back() {
    for program in BOTH {
        for kind in [Kind::Etcd, Kind::Coracle] {
            let watched = goes_on_watching(program, kind);
            watched.unwrap_or_else(|error| panic!("{program:?} at {kind:?}: {error:#}"));
        }
    }
}

fn goes_on_watching(program: Program, kind: Kind) -> Result<()> {
    let mut cluster = Cluster::start(kind, 1)?;
    let mut watch = program.start(&cluster, &["watch", "w", "--rev=1"])?;
    for value in ["before", "after"] {
        program.run(&cluster, &["put", "w", value])?;
        let event = [watch.line()?, watch.line()?, watch.line()?];
        ensure!(event == ["PUT", "w", value], "{event:?}");
        if value == "before" {
            cluster.stop(0)?;
            cluster.restart(0)?;
            cluster.wait_healthy()?;
        }
    }
    Ok(())
}

#[test]
fn ctl_06_a_watch_and_a_lease_go_on_at_another_member() {
    for program in BOTH {
        let gone_on = goes_on_elsewhere(program);
        gone_on.unwrap_or_else(|error| panic!("{program:?}: {error:#}"));
    }
}

fn goes_on_elsewhere(program: Program) -> Result<()> {
    let mut cluster = Cluster::start(Kind::Coracle, 3)?;
    let granted = text(&program.run(&cluster, &["lease", "grant", "6"])?.stdout);
    let lease = granted.split(' ').nth(1).context("a lease")?.to_owned();
    let mut keeper = program.start(&cluster, &["lease", "keep-alive", &lease])?;
    keeper.line()?;
    let mut watch = program.start(&cluster, &["watch", "w", "--rev=1"])?;
    for value in ["before", "after"] {
        put(program, &cluster, "w", value)?;
        let event = [watch.line()?, watch.line()?, watch.line()?];
        ensure!(event == ["PUT", "w", value], "{event:?}");
        if value == "before" {
            cluster.kill(0)?;
        }
    }
    // One of these may have been printed before the kill; the lease lives as long as three.
    for _ in 0..5 {
        let line = keeper.line()?;
        ensure!(line.contains("keepalived with TTL(6)"), "{line}");
    }
    Ok(())
}

#[test]
fn ctl_06_a_watch_ends_at_a_member_without_a_leader() {
    let mut cluster = Cluster::start(Kind::Coracle, 3).expect("a cluster starts");
    for other in [1, 2] {
        cluster.kill(other).expect("it is killed");
    }
    for program in BOTH {
        let mut watch = program.command(&cluster).expect("it is there");
        watch.env("ETCDCTL_ENDPOINTS", cluster.client_address(0)).args(["watch", "w"]);
        let ended = watch.output().expect("it runs");
        let canceled = "watch was canceled (etcdserver: no leader)\n\
                        Error: watch is canceled by the server\n";
        assert_eq!((ended.status.code(), text(&ended.stderr).as_str()), (Some(5), canceled));
    }
}

#[test]
fn ctl_01_a_member_that_stands_still_is_passed_over() {
    let cluster = Cluster::start(Kind::Coracle, 3).expect("a cluster starts");
    cluster.pause(0).expect("it is paused");
    for program in BOTH {
        put(program, &cluster, "a", "1").unwrap_or_else(|error| panic!("{program:?}: {error:#}"));
        let get = program.run(&cluster, &["get", "a", "--dial-timeout=0"]).expect("it runs");
        assert_eq!(text(&get.stdout), "a\n1\n", "{program:?}: {}", text(&get.stderr));
    }
}

#[test]
fn ctl_10_a_mirror_has_the_keys_and_follows_their_changes() {
    with_both(|program, cluster| {
        let target = Cluster::start(Kind::Coracle, 1)?;
        for n in 0..5 {
            program.run(cluster, &["put", &format!("m/{n}"), &format!("v{n}")])?;
        }
        program.run(cluster, &["put", "other", "x"])?;
        let destination = target.client_address(0);
        let words = ["make-mirror", "--prefix=m/", "--dest-prefix=copy/", &destination];
        let mirror = program.start(cluster, &words)?;
        wait_for_keys(&target, "copy/", 5)?;
        program.run(cluster, &["put", "m/9", "later"])?;
        program.run(cluster, &["del", "m/0"])?;
        program.run(cluster, &["del", "m/1"])?;
        wait_for_keys(&target, "copy/", 4)?;
        let copied = Program::Coracle.run(&target, &["get", "", "--prefix"])?;
        let expected = "copy/2\nv2\ncopy/3\nv3\ncopy/4\nv4\ncopy/9\nlater\n";
        ensure!(text(&copied.stdout) == expected, "{}", text(&copied.stdout));
        drop(mirror);
        Ok(())
    });
}

#[test]
fn mnt_09_a_downgrade_is_validated_enabled_and_called_off() {
    let cluster = Cluster::start(Kind::Coracle, 1).expect("a cluster starts");
    let run = |arguments: &[&str]| {
        let words = [&["downgrade"], arguments].concat();
        let ended = Program::Coracle.run(&cluster, &words).expect("it runs");
        (ended.status.code().unwrap_or(-1), text(&ended.stdout) + &text(&ended.stderr))
    };
    let done = |what: &str| (0, format!("Downgrade {what} success, cluster version 3.7\n"));
    let refused = |code, text: &str| (code, format!("Error: {text}\n"));
    let wait_for = |condition: &dyn Fn() -> bool, what: &str| {
        let deadline = Instant::now() + DEADLINE;
        while !condition() {
            assert!(Instant::now() < deadline, "{what}");
            thread::sleep(POLL);
        }
    };
    wait_for(&|| run(&["validate", "3.6"]) == done("validate"), "the cluster finds no version");
    assert_eq!(run(&["validate"]), refused(128, "TARGET_VERSION not provided"));
    assert_eq!(run(&["enable", "3.6", "3.5"]), refused(128, "too many arguments"));
    let invalid = "etcdserver: invalid downgrade target version";
    assert_eq!(run(&["validate", "3.5"]), refused(1, invalid));
    assert_eq!(run(&["enable", "3.6"]), done("enable"));
    // The cluster goes down to the version at once, though its members still run a newer one.
    let busy = refused(1, "etcdserver: cluster has a downgrade job in progress");
    wait_for(&|| run(&["validate", "3.5"]) == busy, "the cluster does not step down");
    let (code, printed) = run(&["cancel", "-w", "json"]);
    assert!(code == 0 && printed.contains(",\"version\":\"3."), "{printed}");
    // And up again, since all of them do.
    wait_for(&|| run(&["validate", "3.6"]) == done("validate"), "the cluster does not step up");
    assert_eq!(run(&["cancel"]), done("cancel"));
}

#[test]
fn auth_03_a_signed_token_does_for_a_password() {
    let key = format!("{}/keys/jwt-P-521.pem", env!("CARGO_MANIFEST_DIR"));
    let flag = format!("--auth-token=jwt,sign-method=ES512,priv-key={key}");
    let cluster = Cluster::start_with(Kind::Coracle, 1, &["--bcrypt-cost=4", &flag]);
    let cluster = cluster.expect("a cluster starts");
    let run = |words: &str| {
        let words: Vec<_> = words.split_whitespace().collect();
        let ended = Program::Coracle.run(&cluster, &words).expect("it runs");
        (ended.status.code(), text(&ended.stdout), text(&ended.stderr))
    };
    for words in ["user add root:secret", "user grant-role root root", "auth enable"] {
        assert_eq!(run(words).0, Some(0), "{words}");
    }
    let body = "{\"name\":\"root\",\"password\":\"secret\"}";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answer = runtime.expect("a runtime").block_on(async {
        HttpClient::new(&cluster.client_address(0)).post("/v3/auth/authenticate", body).await
    });
    let answer = answer.expect("an answer").json();
    let token = answer["token"].as_str().expect("a token");
    assert_eq!(run(&format!("--auth-jwt-token={token} put a 1")).1, "OK\n");
    let (code, _, told) = run(&format!("--auth-jwt-token=x{token} put a 1"));
    assert_eq!((code, told.as_str()), (Some(1), "Error: etcdserver: invalid auth token\n"));
}

#[test]
fn ctl_01_a_request_that_is_too_large_is_refused_by_whom_it_is_too_large_for() {
    with_both(|program, cluster| {
        let put = |length: usize| -> Result<Output> {
            let mut command = program.command(cluster)?;
            let mut child = command.args(["put", "k"]).stdin(Stdio::piped()).spawn()?;
            let mut stdin = child.stdin.take().context("its input is a pipe")?;
            stdin.write_all(&vec![b'v'; length])?;
            drop(stdin);
            Ok(child.wait_with_output()?)
        };
        let limit = 2 * 1024 * 1024;
        // The key and how both are wrapped are eight bytes.
        let never_sent = "trying to send message larger than max (2097160 vs. 2097152)";
        let never_sent = format!("rpc error: code = ResourceExhausted desc = {never_sent}");
        let refused = "Error: etcdserver: request is too large\n".to_owned();
        for (length, complaint) in [(limit - 100, refused), (limit, never_sent)] {
            let output = put(length)?;
            let stderr = text(&output.stderr);
            ensure!(output.status.code() == Some(1) && stderr.contains(&complaint), "{stderr}");
        }
        Ok(())
    });
}

#[test]
fn ctl_11_completions_are_scripts_that_their_shell_takes() {
    let cluster = Cluster::start(Kind::Coracle, 1).expect("a cluster starts");
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let made = Program::Coracle.run(&cluster, &["completion", shell]).expect("it runs");
        assert!(made.status.success() && made.stdout.len() > 1_000, "{shell}");
        if shell == "bash" {
            let ask =
                "COMP_WORDS=(etcdctl member li); COMP_CWORD=2; _etcdctl; echo ${COMPREPLY[*]}";
            let script = format!("{}\n{ask}", text(&made.stdout));
            let completed = Command::new("bash").args(["-c", &script]).output().expect("bash");
            assert_eq!(text(&completed.stdout), "list\n", "{}", text(&completed.stderr));
        }
    }
    let refused = Program::Coracle.run(&cluster, &["completion", "tcsh"]).expect("it runs");
    assert_eq!(refused.status.code(), Some(128));
}

#[test]
fn auth_03_a_token_that_has_aged_is_replaced() -> Result<()> {
    let flags = ["--auth-token-ttl=1", "--bcrypt-cost=4"];
    let cluster = Cluster::start_with(Kind::Coracle, 1, &flags)?;
    for line in ["user add root:pw", "user grant-role root root", "auth enable"] {
        let words: Vec<_> = line.split(' ').collect();
        let output = Program::Coracle.run(&cluster, &words)?;
        ensure!(output.status.success(), "{line}: {output:?}");
    }
    for program in BOTH {
        // Its token is not used for longer than it lives, and then the lock is to be given back.
        let output = program.run(&cluster, &["--user=root:pw", "lock", "name", "sleep", "2"])?;
        ensure!(output.status.success(), "{program:?}: {output:?}");
        let held = program.run(&cluster, &["--user=root:pw", "get", "--prefix", "name"])?;
        ensure!(held.status.success() && held.stdout.is_empty(), "{program:?}: {held:?}");
    }
    Ok(())
}

/// The words that a check prints as its verdict, with their numbers masked; what it draws while it
/// runs is not among them.
fn verdict(output: &Output) -> Result<Vec<String>> {
    let number = regex::Regex::new(r"\d+(\.\d+)?")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let words = text.split(['\n', '\r']).filter_map(|line| {
        let verdict = ["PASS", "FAIL"].iter().filter_map(|word| line.find(word)).min()?;
        Some(number.replace_all(&line[verdict..], "#").into_owned())
    });
    Ok(words.collect())
}

/// Nothing is left of a check, and a second one may begin.
fn ensure_clean(cluster: &Cluster) -> Result<()> {
    let left = Program::Etcdctl.run(cluster, &["get", "", "--prefix", "--keys-only"])?;
    ensure!(left.stdout.is_empty(), "keys are left: {}", String::from_utf8_lossy(&left.stdout));
    Ok(())
}

/// A minute of writes, which both programs spend at once, each with a server of its own. A machine
/// with much else to do may fail them, and they have to say so then.
#[test]
fn ctl_08_the_performance_is_checked() -> Result<()> {
    let runs = thread::scope(|scope| {
        let runs = BOTH.map(|program| {
            scope.spawn(move || -> Result<Output> {
                let cluster = Cluster::start_with(Kind::Coracle, 1, &["--unsafe-no-fsync"])?;
                let output = program.run(&cluster, &["check", "perf", "--auto-compact"])?;
                ensure_clean(&cluster)?;
                Ok(output)
            })
        });
        runs.map(|run| run.join().expect("no panic"))
    });
    for (program, output) in BOTH.iter().zip(runs) {
        let output = output?;
        let verdict = verdict(&output)?;
        let [good, bad] = [
            [
                "PASS: Throughput is # writes/s",
                "PASS: Slowest request took #s",
                "PASS: Stddev is #s",
            ],
            [
                "FAIL: Throughput too low: # writes/s",
                "FAIL: Slowest request took too long: #s",
                "FAIL: Stddev too high: #s",
            ],
        ];
        ensure!(verdict.len() == 4, "{program:?}: {verdict:?}");
        let passed = verdict.iter().all(|line| line.starts_with("PASS"));
        for (index, line) in verdict[..3].iter().enumerate() {
            ensure!([good[index], bad[index]].contains(&line.as_str()), "{program:?}: {verdict:?}");
        }
        ensure!(verdict[3] == if passed { "PASS" } else { "FAIL" }, "{program:?}: {verdict:?}");
        let code = output.status.code();
        ensure!(code == Some(if passed { 0 } else { 1 }), "{program:?}: {code:?}, {verdict:?}");
    }
    Ok(())
}

#[test]
fn ctl_08_ctl_09_a_check_asks_for_an_empty_prefix_and_a_known_load() -> Result<()> {
    let cluster = Cluster::start(Kind::Coracle, 1)?;
    for check in ["perf", "datascale"] {
        let key = format!("/etcdctl-check-{check}/left");
        ensure!(Program::Etcdctl.run(&cluster, &["put", &key, "x"])?.status.success());
        for arguments in [&["check", check][..], &["check", check, "--load=huge"]] {
            let [expected, actual] = BOTH.map(|program| program.run(&cluster, arguments));
            let (expected, actual) = (expected?, actual?);
            let told = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(!expected.status.success(), "{arguments:?}");
            ensure!(actual.status.code() == expected.status.code(), "{arguments:?}: {actual:?}");
            ensure!(told(&actual) == told(&expected), "{arguments:?}: {actual:?}, {expected:?}");
        }
    }
    Ok(())
}

#[test]
fn ctl_09_the_cost_of_ten_thousand_keys_is_measured() -> Result<()> {
    for program in BOTH {
        let cluster = Cluster::start_with(Kind::Coracle, 1, &["--unsafe-no-fsync"])?;
        let output = program.run(&cluster, &["check", "datascale", "--auto-defrag"])?;
        let verdict = verdict(&output)?;
        ensure!(
            output.status.success() && verdict == ["PASS: Approximate system memory used : # MB."],
            "{program:?}: {output:?}"
        );
        let text = String::from_utf8_lossy(&output.stdout);
        let start = "Start data scale check for work load [10000 key-value pairs, 1024 bytes per \
                     key-value, 50 concurrent clients].";
        ensure!(text.starts_with(start), "{program:?}: {text}");
        ensure_clean(&cluster)?;
    }
    Ok(())
}
