//! The laboratory's engine without a browser: real nodes in virtual time.

use coracle_core::trace::Event;
use coracle_tests::laboratory::{Laboratory, leader_of, settings};
use coracle_worker::conductor::Boot;
use coracle_worker::protocol::{
    Action, Answer, Condition, Lab, Network, NetworkChange, Record, Report, Request, Settings, What,
};

fn hashes(lab: &Lab) -> Vec<Option<u32>> {
    lab.nodes.iter().map(|node| node.store_hash).collect()
}

#[test]
fn a_leader_is_elected_and_a_write_is_read_everywhere() {
    let mut lab = Laboratory::new(settings(3, 1));
    let leader = lab.leader();
    assert!(lab.state().time < 2_000_000_000, "a leader within two virtual seconds");
    assert_eq!(lab.exec("put a 1", Some(leader)).stdout, "OK\n");
    for node in 1..=3 {
        assert_eq!(lab.exec("get a", Some(node)).stdout, "a\n1\n");
    }
    lab.run(1_000);
    let state = lab.state();
    assert!(state.nodes.iter().all(|node| node.revision == 2), "{state:#?}");
    assert!(hashes(&state).windows(2).all(|pair| pair[0].is_some() && pair[0] == pair[1]));
    assert_eq!(state.violations, [""; 0]);
}

#[test]
fn the_same_seed_gives_the_same_trace_whatever_the_windows_were() {
    let run = |strides: &[u64]| {
        let mut lab = Laboratory::new(settings(3, 42));
        for stride in strides {
            lab.run(*stride);
        }
        lab.act(Action::Crash(1));
        lab.run(3_000);
        lab.exec("put a 1", None);
        lab.act(Action::Heal(true));
        lab.run(2_000);
        lab.trace_hash()
    };
    let whole = run(&[3_000]);
    assert_eq!(whole, run(&[1_000, 1, 7, 992, 1_000]));
    let mut other = Laboratory::new(settings(3, 43));
    other.run(3_000);
    assert_ne!(whole, other.trace_hash());
}

#[test]
fn a_killed_leader_is_replaced_and_finds_back() {
    let mut lab = Laboratory::new(settings(3, 2));
    let first = lab.leader();
    lab.exec("put a 1", None);
    lab.act(Action::Crash(first));
    let second = lab.leader();
    assert_ne!(first, second);
    assert_eq!(lab.exec("put a 2", None).stdout, "OK\n");
    lab.act(Action::Restart(first));
    lab.run_until(5_000, "the old leader catches up", |lab| {
        leader_of(lab).is_some() && lab.nodes.iter().all(|node| node.revision == 3)
    });
    let state = lab.state();
    assert!(hashes(&state).windows(2).all(|pair| pair[0] == pair[1]), "{state:#?}");
}

#[test]
fn a_minority_serves_stale_data_only() {
    let mut lab = Laboratory::new(settings(3, 3));
    let leader = lab.leader();
    lab.exec("put a old", None);
    lab.run(500);
    let others: Vec<u8> = (1..=3).filter(|node| *node != leader).collect();
    lab.act(Action::Partition(vec![vec![leader], others.clone()]));
    lab.run(3_000);
    assert_eq!(lab.exec("put a new", Some(others[0])).stdout, "OK\n");
    let refused = lab.exec("get a --command-timeout=2s", Some(leader));
    assert_ne!(refused.code, 0, "{refused:?}");
    let stale = lab.exec("get a --consistency=s", Some(leader));
    assert_eq!(stale.stdout, "a\nold\n");
    lab.act(Action::Heal(true));
    lab.run_until(10_000, "all agree", |lab| {
        leader_of(lab).is_some() && lab.nodes.iter().all(|node| node.revision == 3)
    });
    let state = lab.state();
    assert!(hashes(&state).windows(2).all(|pair| pair[0] == pair[1]), "{state:#?}");
    assert_eq!(state.violations, [""; 0]);
}

#[test]
fn a_paused_leader_comes_back_as_a_follower() {
    let mut lab = Laboratory::new(settings(3, 4));
    let first = lab.leader();
    lab.act(Action::Pause(first));
    lab.run_until(10_000, "another leader", |state| {
        state.nodes.iter().any(|n| n.id != first && n.leader.is_some_and(|l| l != first))
    });
    assert_eq!(lab.exec("put a 1", Some(first % 3 + 1)).stdout, "OK\n");
    lab.act(Action::Resume(first));
    lab.run_until(10_000, "it follows", |state| {
        leader_of(state).is_some_and(|leader| leader != first)
            && state.nodes.iter().all(|node| node.revision == 2)
    });
}

#[test]
fn a_lost_disk_is_replaced_by_a_new_member() {
    let mut lab = Laboratory::new(settings(3, 5));
    lab.leader();
    lab.exec("put a 1", None);
    let before = lab.node(3).member;
    lab.act(Action::LoseDisk(3));
    let state = lab.run_until(30_000, "the new member is a voter that has caught up", |lab| {
        leader_of(lab).is_some()
            && lab.nodes.iter().all(|node| node.condition == Condition::Up && node.revision == 2)
    });
    assert_ne!(state.nodes[2].member, before);
    lab.run(5_000);
    let members = lab.exec("member list", Some(1)).stdout;
    assert_eq!(members.lines().count(), 3, "{members}");
    assert!(members.lines().all(|line| line.ends_with("false")), "no learner is left: {members}");
}

#[test]
fn nodes_are_added_promoted_and_removed() {
    let mut lab = Laboratory::new(settings(1, 6));
    lab.leader();
    lab.exec("put a 1", None);
    for size in 2..=4 {
        lab.act(Action::AddNode(true));
        lab.run_until(30_000, "the node joined", |lab| {
            lab.nodes.len() == size && lab.nodes.iter().all(|node| node.revision == 2)
        });
    }
    lab.run(5_000);
    let members = lab.exec("member list", Some(1)).stdout;
    assert_eq!(members.lines().filter(|line| line.ends_with("false")).count(), 4, "{members}");
    lab.act(Action::AddLearner(true));
    let state = lab.run_until(30_000, "a learner joined", |lab| lab.nodes.len() == 5);
    assert_eq!(state.nodes[4].id, 5);
    lab.run(5_000);
    assert!(lab.exec("member list", Some(1)).stdout.contains("true"));
    lab.act(Action::Promote(5));
    lab.run(5_000);
    assert!(!lab.exec("member list", Some(1)).stdout.contains("true"));
    let leader = lab.leader();
    lab.act(Action::RemoveNode(leader));
    lab.run_until(30_000, "the leader left", |lab| {
        lab.nodes.len() == 4 && leader_of(lab).is_some()
    });
    assert_eq!(lab.exec("put a 2", None).stdout, "OK\n");
}

#[test]
fn cl_03_a_cluster_shrinks_to_one_member_and_grows_again() {
    for (seed, leader_goes) in [(18, false), (19, true), (20, false), (21, true)] {
        let mut lab = Laboratory::new(settings(3, seed));
        for size in [2, 1] {
            // Members are removed from a cluster that has been connected for a while.
            lab.run(6_000);
            let leader = lab.leader();
            let nodes = lab.state().nodes;
            let follower = nodes.iter().map(|node| node.id).find(|id| *id != leader);
            let goes = if leader_goes { leader } else { follower.expect("a follower") };
            lab.act(Action::RemoveNode(goes));
            lab.run_until(30_000, "the node left", |lab| {
                lab.nodes.len() == size && leader_of(lab).is_some()
            });
            let put = lab.exec(&format!("put left {size}"), None);
            assert_eq!(put.stdout, "OK\n", "seed {seed}: {put:?}");
        }
        lab.act(Action::AddNode(true));
        lab.run_until(30_000, "a node joined", |lab| lab.nodes.len() == 2);
    }
}

#[test]
fn mnt_08_leadership_is_handed_over_as_soon_as_there_is_some() {
    for wait in (0..100).step_by(5) {
        let mut lab = Laboratory::new(settings(3, 1));
        // The first leader is still writing the first members into the log.
        let target = lab.leader() % 3 + 1;
        lab.run(wait);
        lab.act(Action::Transfer(target));
        lab.run_until(2_000, "it takes over", |lab| leader_of(lab) == Some(target));
    }
}

#[test]
fn a_joining_node_asks_on_when_the_first_has_not_heard_of_it() {
    let mut lab = Laboratory::new(settings(3, 14));
    let leader = lab.leader();
    // The lowest number is asked first; it must not be the one that knows.
    if leader == 1 {
        lab.act(Action::Transfer(2));
        lab.run_until(10_000, "another leader", |lab| leader_of(lab) == Some(2));
    }
    // It is healthy, and hears of the new member long after that has begun to ask.
    let slow = NetworkChange { delay_ms: Some(300.0), ..NetworkChange::default() };
    for other in [2, 3] {
        lab.act(Action::Link(1, other, slow));
    }
    lab.act(Action::AddNode(true));
    let up = |lab: &Lab| lab.nodes.len() == 4 && lab.nodes[3].condition == Condition::Up;
    let state = lab.run_until(10_000, "the node joins", up);
    let (first, leader) = (&state.nodes[0], state.nodes.iter().max_by_key(|node| node.applied));
    assert!(first.applied < leader.unwrap().applied, "the first knew already: {state:#?}");
    lab.run_until(10_000, "everybody has heard of it", |lab| {
        lab.nodes.iter().all(|node| node.applied == lab.nodes[0].applied)
    });
}

#[test]
fn kv_07_a_slow_network_makes_reads_and_writes_slow_and_no_more() {
    for delay in [60.0, 150.0, 200.0] {
        let mut lab = Laboratory::new(settings(3, 19));
        let leader = lab.leader();
        lab.act(Action::Network(NetworkChange { delay_ms: Some(delay), ..Default::default() }));
        // Long enough for every lease and timer of a leader whom nobody answers.
        lab.run(5_000);
        assert_eq!(lab.leader(), leader, "a delay of {delay} ms costs no leader its place");
        for node in 1..=3 {
            let put = lab.exec(&format!("put a {node}"), Some(node));
            assert_eq!(put.stdout, "OK\n", "at node {node} with {delay} ms: {put:?}");
            let get = lab.exec("get a", Some(node % 3 + 1));
            assert_eq!(get.stdout, format!("a\n{node}\n"), "{delay} ms: {get:?}");
        }
    }
}

#[test]
fn kv_07_a_follower_far_away_reads_what_is_written_elsewhere() {
    let mut lab = Laboratory::new(settings(3, 20));
    let leader = lab.leader();
    let far = leader % 3 + 1;
    for other in (1..=3).filter(|node| *node != far) {
        let slow = NetworkChange { delay_ms: Some(400.0), ..NetworkChange::default() };
        lab.act(Action::Link(far, other, slow));
    }
    lab.run(3_000);
    for value in 1..=3 {
        assert_eq!(lab.exec(&format!("put a {value}"), Some(leader)).stdout, "OK\n");
        let get = lab.exec("get a", Some(far));
        assert_eq!(get.stdout, format!("a\n{value}\n"), "{get:?}");
    }
    assert_eq!(lab.exec("put a 4", Some(far)).stdout, "OK\n");
    let time = lab.state().time;
    assert_eq!(lab.exec("get a", Some(leader)).stdout, "a\n4\n");
    assert!(lab.state().time - time < 200_000_000, "the others are not held up");
}

#[test]
fn kv_07_where_a_round_trip_is_longer_than_an_election_takes_requests_time_out() {
    let mut lab = Laboratory::new(settings(3, 21));
    lab.leader();
    lab.exec("put a 1", None);
    lab.run(500);
    lab.act(Action::Network(NetworkChange { delay_ms: Some(1_000.0), ..Default::default() }));
    lab.run(5_000);
    for node in 1..=3 {
        let get = lab.exec("get a --command-timeout=10s", Some(node));
        assert_eq!((get.code, get.stdout.as_str()), (1, ""), "{get:?}");
        assert!(get.stderr.contains("timed out"), "{get:?}");
        let stale = lab.exec("get a --consistency=s --command-timeout=10s", Some(node));
        assert_eq!(stale.stdout, "a\n1\n", "{stale:?}");
    }
    lab.act(Action::Network(NetworkChange { delay_ms: Some(10.0), ..Default::default() }));
    lab.leader();
    assert_eq!(lab.exec("get a", None).stdout, "a\n1\n");
}

/// A run with a bit of everything in it, which any host must be able to repeat.
fn eventful() -> Laboratory {
    let mut lab = Laboratory::new(settings(3, 2026));
    let change = NetworkChange {
        loss: Some(0.05),
        duplicate: Some(0.05),
        jitter_ms: Some(20.0),
        ..NetworkChange::default()
    };
    lab.act(Action::Network(change));
    let leader = lab.leader();
    for number in 0..20 {
        lab.exec(&format!("put key{number} {number}"), None);
    }
    lab.exec("lease grant 3", None);
    lab.act(Action::SkewClock(leader % 3 + 1, 1.5));
    lab.act(Action::Crash(leader));
    lab.run(4_000);
    lab.act(Action::AddNode(true));
    lab.run(4_000);
    lab.act(Action::LoseDisk(leader));
    lab.act(Action::SlowDisk(4, 50.0));
    lab.exec("compaction 10", None);
    lab.exec("get key --prefix --limit=3 -w json", None);
    lab.run(6_000);
    lab.act(Action::Heal(true));
    lab.run(3_000);
    lab
}

const HASH_FROM_ANOTHER_PROCESS: &str = "CORACLE_PRINT_TRACE_HASH";

#[test]
fn two_processes_give_the_same_trace() {
    let hash = eventful().trace_hash();
    if std::env::var_os(HASH_FROM_ANOTHER_PROCESS).is_some() {
        println!("trace hash: {hash}.");
        return;
    }
    let mut again = std::process::Command::new(std::env::current_exe().expect("this test"));
    again.args(["--exact", "two_processes_give_the_same_trace", "--nocapture"]);
    let output = again.env(HASH_FROM_ANOTHER_PROCESS, "1").output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(&format!("trace hash: {hash}.")), "not {hash}: {text}");
}

/// The browser's tests load this experiment: there the nodes are wasm, and the hash is the same.
#[test]
fn an_experiment_is_left_for_the_browser() {
    let mut lab = eventful();
    let saved = lab.text(|id| Request::Save { id });
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(folder.join("native-experiment.json"), &saved).expect("a writable folder");
    let mut replayed = Laboratory::new(settings(1, 1));
    let loaded = replayed.ask(|id| Request::Load { id, experiment: saved });
    assert_eq!(loaded, Ok(Answer::Text(lab.trace_hash())));
}

#[test]
fn cl_01_an_unhealthy_cluster_neither_grows_nor_shrinks_below_its_quorum() {
    let mut lab = Laboratory::new(settings(3, 15));
    let leader = lab.leader();
    let (down, up) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    lab.act(Action::Crash(down));
    let unhealthy = "Error: etcdserver: unhealthy cluster\n";
    let add = lab.exec("member add node4 --peer-urls=http://node4:2380", Some(leader));
    assert_eq!(add.stderr, unhealthy);
    let id = |lab: &mut Laboratory, node: u8| format!("{:x}", lab.node(node).member);
    let (down, up) = (id(&mut lab, down), id(&mut lab, up));
    let remove = lab.exec(&format!("member remove {up}"), Some(leader));
    assert_eq!(remove.stderr, unhealthy);
    let remove = lab.exec(&format!("member remove {down}"), Some(leader));
    assert_eq!(remove.code, 0, "{remove:?}");
    let add = lab.exec("member add node4 --peer-urls=http://node4:2380", Some(leader));
    assert_eq!(add.code, 0, "{add:?}");
}

#[test]
fn cl_01_a_cluster_that_keeps_its_quorum_grows_while_one_is_down() {
    let mut lab = Laboratory::new(settings(5, 16));
    let leader = lab.leader();
    lab.act(Action::Crash(leader % 5 + 1));
    let add = lab.exec("member add node6 --peer-urls=http://node6:2380", Some(leader));
    assert_eq!(add.code, 0, "{add:?}");
}

#[test]
fn leases_expire_on_all_nodes() {
    let mut lab = Laboratory::new(settings(3, 7));
    lab.leader();
    let granted = lab.exec("lease grant 5", None).stdout;
    let id = granted.split(' ').nth(1).expect("an id").to_owned();
    lab.exec(&format!("put a 1 --lease={id}"), None);
    lab.run(2_000);
    assert_eq!(lab.exec("get a", None).stdout, "a\n1\n");
    lab.run(8_000);
    for node in 1..=3 {
        assert_eq!(lab.exec("get a --consistency=s", Some(node)).stdout, "");
    }
}

#[test]
fn a_watch_from_the_past_streams_until_it_is_interrupted() {
    let mut lab = Laboratory::new(settings(3, 8));
    lab.leader();
    for value in 1..=3 {
        lab.exec(&format!("put a {value}"), None);
    }
    let watch = lab.start("watch a --rev=3", Some(2), false);
    lab.run(500);
    assert_eq!(lab.output(watch).stdout, "PUT\na\n2\nPUT\na\n3\n");
    lab.exec("del a", None);
    lab.run(500);
    assert!(lab.output(watch).stdout.ends_with("DELETE\na\n\n"));
    lab.conductor.request(Request::Interrupt { id: watch });
    lab.run(1);
    assert_eq!(lab.finished(watch).map(|output| output.code), Some(130));
}

#[test]
fn errors_are_etcds() {
    let mut lab = Laboratory::new(settings(3, 9));
    lab.leader();
    for value in 1..=3 {
        lab.exec(&format!("put a {value}"), None);
    }
    lab.exec("compaction 3", None);
    let compacted = lab.exec("get a --rev=2", None);
    assert_eq!(
        (compacted.code, compacted.stderr.as_str()),
        (1, "Error: etcdserver: mvcc: required revision has been compacted\n")
    );
    let down = {
        for node in 1..=3 {
            lab.act(Action::Crash(node));
        }
        lab.exec("put a 4 --command-timeout=1s", Some(1))
    };
    assert_eq!(down.stderr, "Error: context deadline exceeded\n");
}

#[test]
fn a_damaged_log_is_refused_and_a_torn_one_mended() {
    let mut lab = Laboratory::new(settings(3, 10));
    lab.leader();
    for value in 1..=5 {
        lab.exec(&format!("put a {value}"), None);
    }
    lab.run(1_000);
    lab.act(Action::TearLog(2));
    lab.act(Action::Restart(2));
    lab.run_until(10_000, "the torn log is mended", |lab| {
        lab.nodes[1].condition == Condition::Up && lab.nodes[1].revision == 6
    });
    lab.act(Action::CorruptLog(3));
    lab.act(Action::Restart(3));
    lab.run(1_000);
    let Condition::Stopped(reason) = lab.node(3).condition else { panic!("it runs") };
    assert!(reason.contains("wal-") && reason.contains("offset"), "{reason}");
    lab.act(Action::LoseDisk(3));
    lab.run_until(30_000, "a new member takes its place", |lab| {
        lab.nodes[2].condition == Condition::Up && lab.nodes[2].revision == 6
    });
    lab.run(5_000);
    // The put goes on when a follower stops; a leader that stopped would take it with it.
    if lab.leader() == 2 {
        lab.act(Action::Transfer(1));
        lab.run_until(10_000, "another leader", |lab| leader_of(lab) == Some(1));
    }
    lab.act(Action::FillDisk(2, true));
    assert_eq!(lab.exec("put a 6", Some(1)).stdout, "OK\n");
    lab.run(1_000);
    assert!(matches!(lab.node(2).condition, Condition::Stopped(_)));
    lab.act(Action::Heal(true));
    lab.run_until(10_000, "the full disk is healed", |lab| lab.nodes[1].revision == 7);
}

#[test]
fn messages_can_be_dropped_and_delayed() {
    let mut lab = Laboratory::new(settings(3, 11));
    lab.leader();
    assert!(lab.try_act(Action::DropMessage(u64::MAX)).is_err());
    let network = NetworkChange { delay_ms: Some(200.0), ..NetworkChange::default() };
    lab.act(Action::Network(network));
    lab.run(350);
    lab.conductor.reports(true);
    lab.run(150);
    let frame = lab.conductor.reports(true).into_iter().find_map(|report| match report {
        Report::Frame(frame) => Some(frame),
        _ => None,
    });
    let sent = frame.expect("a frame").sent;
    let now = lab.state().time;
    let flight = sent.iter().rev().find(|flight| flight.arrives > now).expect("one is under way");
    lab.act(Action::DelayMessage(flight.id, 1_000.0));
    lab.act(Action::DropMessage(flight.id));
    assert!(lab.try_act(Action::DropMessage(flight.id)).is_err());
}

#[test]
fn a_saved_experiment_takes_the_same_course_elsewhere() {
    let mut lab = Laboratory::new(settings(3, 12));
    lab.leader();
    lab.exec("put a 1", None);
    lab.act(Action::Network(NetworkChange { loss: Some(0.2), ..NetworkChange::default() }));
    lab.act(Action::AddNode(true));
    lab.run(4_000);
    lab.act(Action::LoseDisk(1));
    lab.run(4_000);
    let watch = lab.start("watch a", None, false);
    lab.run(300);
    lab.conductor.request(Request::Interrupt { id: watch });
    lab.run(5_000);
    let saved = lab.text(|id| Request::Save { id });
    let hash = lab.trace_hash();
    let mut other = Laboratory::new(settings(5, 99));
    other.run(700);
    let loaded = other.ask(|id| Request::Load { id, experiment: saved });
    assert_eq!(loaded, Ok(Answer::Text(hash.clone())));
    assert_eq!(other.trace_hash(), hash);
    assert_eq!(other.state().nodes.len(), lab.state().nodes.len());
}

#[test]
fn commands_that_are_given_at_once_begin_together_and_are_repeated_so() {
    let still = Network { delay_us: 0, jitter_us: 0, ..Network::default() };
    let quick = Settings { network: still, disk_latency_us: 0, ..settings(3, 16) };
    let mut lab = Laboratory::new(quick);
    lab.leader();
    let begin = lab.state().time;
    for number in 0..64 {
        let line = format!("put key{number} x");
        let id = 1_000_000 + number;
        let request = Request::Exec { id, line, node: None, input: Some(vec![]), advance: true };
        lab.conductor.request(request);
    }
    lab.work();
    let state = lab.state();
    let taken = state.time - begin;
    assert!(taken < 1_000_000, "{taken} ns, though there is no latency anywhere");
    let revisions: Vec<i64> = state.nodes.iter().map(|node| node.revision).collect();
    assert!(revisions.contains(&65), "{state:#?}");
    let saved = lab.text(|id| Request::Save { id });
    let mut other = Laboratory::new(settings(1, 1));
    let loaded = other.ask(|id| Request::Load { id, experiment: saved });
    assert_eq!(loaded, Ok(Answer::Text(lab.trace_hash())));
}

#[test]
fn writes_of_one_moment_share_their_rounds_and_syncs() {
    const WRITES: u64 = 32;
    let still = Network { delay_us: 0, jitter_us: 0, ..Network::default() };
    let quick = Settings { network: still, disk_latency_us: 0, ..settings(3, 18) };
    let mut lab = Laboratory::new(quick);
    let leader = lab.leader();
    lab.conductor.reports(true);
    let steps = lab.steps;
    for number in 0..WRITES {
        let (id, line) = (1_000_000 + number, format!("put key{number} x"));
        let input = Some(vec![]);
        let node = Some(leader);
        lab.conductor.request(Request::Exec { id, line, node, input, advance: true });
    }
    lab.work();
    assert!((0..WRITES).all(|number| lab.finished(1_000_000 + number).unwrap().code == 0));
    let taken = lab.steps - steps;
    assert!(taken <= WRITES / 2, "{taken} steps of nodes for {WRITES} writes");
    let reports = lab.conductor.reports(true);
    let Some(Report::Frame(frame)) = reports.first() else { panic!("no frame: {reports:?}") };
    assert_eq!(frame.omitted, 0, "the frame holds all that happened");
    let is_sync = |record: &&Record| {
        record.node == leader && matches!(record.what, What::Node(Event::LogSynced { .. }))
    };
    let syncs = frame.records.iter().filter(is_sync).count();
    assert!((1..=4).contains(&syncs), "{syncs} syncs of the leader's log for {WRITES} writes");
}

#[test]
fn a_command_gets_its_input_with_it_and_a_senseless_line_ends() {
    let mut lab = Laboratory::new(settings(3, 17));
    lab.leader();
    let ask = |lab: &mut Laboratory, id: u64, line: &str, input: &[&str]| {
        let input = Some(input.iter().map(|line| (*line).to_owned()).collect());
        let line = line.to_owned();
        lab.conductor.request(Request::Exec { id, line, node: None, input, advance: true });
        lab.work();
        lab.finished(id).expect("it ends")
    };
    let done = ask(&mut lab, 1_000_001, "txn", &["version(\"a\") = \"0\"", "", "put a 1", "", ""]);
    assert_eq!(done.stdout, "SUCCESS\n\nOK\n");
    let senseless = ask(&mut lab, 1_000_002, "put 'a", &[]);
    assert_eq!(
        (senseless.code, senseless.stderr.as_str()),
        (128, "Error: a ' has no end; close the quote\n")
    );
    let time = lab.state().time;
    lab.work();
    assert_eq!(lab.state().time, time, "time stands still again");
}

#[test]
fn a_reloaded_page_finds_its_cluster_on_the_disks() {
    let mut lab = Laboratory::new(settings(3, 13));
    lab.leader();
    lab.exec("put a 1", None);
    lab.act(Action::AddNode(true));
    lab.run(5_000);
    let boot = Boot { settings: settings(3, 13), memory: lab.memory.clone(), disks: lab.images() };
    let mut reloaded = Laboratory::boot(boot);
    reloaded.leader();
    assert_eq!(reloaded.exec("get a", Some(4)).stdout, "a\n1\n");
    let saved = reloaded.text(|id| Request::Save { id });
    let mut replayed = Laboratory::new(settings(1, 1));
    let loaded = replayed.ask(|id| Request::Load { id, experiment: saved });
    assert_eq!(loaded, Ok(Answer::Text(reloaded.trace_hash())));
}
