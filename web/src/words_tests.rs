//! Sentences of the feed.

use super::*;

fn names() -> Names {
    Names(vec![(0xa1, 1), (0xb2, 2), (0xc3, 3)])
}

fn say(node: NodeNumber, what: What) -> String {
    sentence(&Record { at: 0, node, what }, &names())
}

#[test]
fn an_election_reads_as_a_story() {
    let event = |event| say(2, What::Node(event));
    let role = |role, leader| event(Event::Role { role, term: 3, leader });
    assert_eq!(role(Role::Candidate, None), "Node 2 stands for election in term 3.");
    let voted = Event::Voted { term: 3, candidate: 0xb2, committed: false };
    assert_eq!(say(1, What::Node(voted)), "Node 1 votes for node 2 in term 3.");
    assert_eq!(role(Role::Leader, Some(0xb2)), "Node 2 is elected leader of term 3.");
    assert_eq!(role(Role::Follower, Some(0xff)), "Node 2 follows member ff in term 3.");
    let waits = "Node 2 is in term 3 now, and waits to hear who leads it.";
    assert_eq!(role(Role::Follower, None), waits);
}

#[test]
fn changes_tell_key_and_revision() {
    let change = Change::Put { key: b"a\n".to_vec(), lease: 0 };
    let applied = Event::Applied { index: 7, term: 1, revision: 4, change };
    assert_eq!(
        say(3, What::Node(applied)),
        "Node 3 applies entry 7: put \"a\\n\" makes revision 4."
    );
    let change = Change::Membership { voters: vec![0xb2, 0xa1], learners: vec![0xc3] };
    assert_eq!(
        change_words(&change, 1, &names()),
        "the voters are node 1 and node 2, the learners node 3"
    );
}

#[test]
fn messages_and_losses() {
    let fields = vec![("term".into(), "2".into())];
    let message = Message { kind: MessageKind::Append, answer: false, fields };
    assert_eq!(
        say(1, What::Sent { id: 1, to: 2, message }),
        "Node 1 sends node 2 an append: term 2."
    );
    assert_eq!(
        say(1, What::Lost { id: 1, to: 0, why: Loss::Cut }),
        "A message from node 1 to the client is lost: the link is cut."
    );
}

#[test]
fn what_the_visitor_did() {
    let loss = NetworkChange { loss: Some(0.25), delay_ms: Some(5.0), ..NetworkChange::default() };
    assert_eq!(
        say(0, What::Acted(Action::Network(loss))),
        "The network has a delay of 5 ms and 25 % of loss now."
    );
    let groups = vec![vec![1, 2, 4], vec![3]];
    assert_eq!(action_words(&Action::Partition(groups)), "You divide the network: 1, 2 and 4 | 3.");
}

#[test]
fn the_caption_knows_who_can_decide() {
    let node = |id, role, leader| NodeView {
        id,
        role,
        leader,
        term: 2,
        condition: Condition::Up,
        ..NodeView::default()
    };
    let follower = |id, leader| node(id, Role::Follower, leader);
    let lab = |nodes| Lab { nodes, ..Lab::default() };
    let elected =
        lab(vec![node(1, Role::Leader, Some(1)), follower(2, Some(1)), follower(3, Some(1))]);
    assert!(situation(&elected).starts_with("Node 1 leads term 2."));
    let mut parted = elected.clone();
    parted.nodes[2] = NodeView { term: 1, ..node(3, Role::Leader, Some(3)) };
    assert!(
        situation(&parted)
            .ends_with("Node 3 still believes that it leads term 1, but cannot commit anything.")
    );
    let lonely = lab(vec![node(1, Role::Leader, Some(1)), follower(2, None), follower(3, None)]);
    assert!(situation(&lonely).contains("a majority does not follow"));
    let mut minority = elected;
    minority.nodes[1].condition = Condition::Down;
    minority.nodes[2].condition = Condition::Paused;
    assert!(situation(&minority).starts_with("Only 1 of 3 voters are up."));
    assert!(situation(&lab(vec![follower(1, None)])).starts_with("No leader."));
}
