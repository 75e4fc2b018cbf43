//! Which key does what. The help and the keyboard read the same table.

use coracle_worker::protocol::{Action, Condition, NodeNumber, NodeView};

/// What a key asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    TogglePause,
    StepEvent,
    StepMessage,
    Faster,
    Slower,
    Help,
    Escape,
    Heartbeats,
    Heal,
    AddNode,
    NextMessage,
    Panel,
    Terminal,
    Client,
    SelectNode(NodeNumber),
    Act(Action),
    /// A key of an action without a node to act on.
    NoNode,
}

/// Keys and what they do, for people.
pub(crate) const HELP: [(&str, &str); 23] = [
    ("Space", "pause, go on"),
    (".", "next event"),
    (",", "next message"),
    ("+  −", "faster, slower"),
    ("1 … 9", "select a node"),
    ("m", "select the next message under way"),
    ("Enter", "into the panel of what is selected; Tab reaches its buttons"),
    ("c", "crash the node, or start it again"),
    ("p", "pause the node, or let it go on"),
    ("i", "isolate the node"),
    ("e", "let the node stand for election"),
    ("l", "hand leadership over to the node"),
    ("d", "lose the node's disk"),
    ("f", "fill the node's disk, or make room"),
    ("v", "give a learner a vote"),
    ("Delete", "remove the node from the cluster"),
    ("n", "add a node"),
    ("h", "heal everything"),
    ("b", "show or hide heartbeats"),
    ("t", "to the terminal"),
    ("w", "to the client's forms"),
    ("?", "this list"),
    ("Esc", "close, select nothing"),
];

/// What a key means while `node` is selected.
pub(crate) fn command(key: &str, node: Option<&NodeView>) -> Option<Command> {
    Some(match key {
        " " => Command::TogglePause,
        "." => Command::StepEvent,
        "," => Command::StepMessage,
        "+" | "=" => Command::Faster,
        "-" => Command::Slower,
        "?" => Command::Help,
        "Escape" => Command::Escape,
        "b" => Command::Heartbeats,
        "h" => Command::Heal,
        "n" => Command::AddNode,
        "m" => Command::NextMessage,
        "Enter" => Command::Panel,
        "t" => Command::Terminal,
        "w" => Command::Client,
        "1" | "2" | "3" | "4" | "5" | "6" | "7" | "8" | "9" => {
            Command::SelectNode(key.parse().ok()?)
        }
        _ => return on_node(key, node),
    })
}

fn on_node(key: &str, node: Option<&NodeView>) -> Option<Command> {
    let act = |make: fn(&NodeView) -> Action| match node {
        Some(node) => Some(Command::Act(make(node))),
        None => Some(Command::NoNode),
    };
    match key {
        "c" => act(|node| match node.condition {
            Condition::Down | Condition::Stopped(_) => Action::Restart(node.id),
            _ => Action::Crash(node.id),
        }),
        "p" => act(|node| match node.condition {
            Condition::Paused => Action::Resume(node.id),
            _ => Action::Pause(node.id),
        }),
        "i" => act(|node| Action::Isolate(node.id)),
        "e" => act(|node| Action::Elect(node.id)),
        "l" => act(|node| Action::Transfer(node.id)),
        "d" => act(|node| Action::LoseDisk(node.id)),
        "f" => act(|node| Action::FillDisk(node.id, !node.disk_full)),
        "v" => act(|node| Action::Promote(node.id)),
        "Delete" => act(|node| Action::RemoveNode(node.id)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_follows_the_condition_of_the_node() {
        let mut node = NodeView { id: 2, condition: Condition::Up, ..NodeView::default() };
        assert_eq!(command("c", Some(&node)), Some(Command::Act(Action::Crash(2))));
        node.condition = Condition::Down;
        assert_eq!(command("c", Some(&node)), Some(Command::Act(Action::Restart(2))));
        assert_eq!(command("c", None), Some(Command::NoNode));
        assert_eq!(command("7", None), Some(Command::SelectNode(7)));
        assert_eq!(command("F5", None), None);
    }
}
