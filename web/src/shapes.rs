//! The shapes of nodes and messages, as SVG paths of radius 1: told apart without colours too.

use coracle_core::trace::Role;
use coracle_worker::protocol::MessageKind;

/// The kinds of messages in the order of the legend.
pub(crate) const KINDS: [MessageKind; 10] = [
    MessageKind::Heartbeat,
    MessageKind::Append,
    MessageKind::PreVote,
    MessageKind::Vote,
    MessageKind::Snapshot,
    MessageKind::TransferLeader,
    MessageKind::Propose,
    MessageKind::ReadIndex,
    MessageKind::Client,
    MessageKind::Other,
];

const CIRCLE: &str = "M1 0A1 1 0 1 1 -1 0A1 1 0 1 1 1 0Z";

pub(crate) fn message(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Heartbeat => "M.7 0A.7 .7 0 1 1 -.7 0A.7 .7 0 1 1 .7 0Z",
        MessageKind::Append => "M-.9 -.9H.9V.9H-.9Z",
        MessageKind::PreVote => "M0 -1.15L.8 0L0 1.15L-.8 0Z",
        MessageKind::Vote => "M0 -1.3L1.3 0L0 1.3L-1.3 0Z",
        MessageKind::Snapshot => "M-1.2 -.7L0 -1.35L1.2 -.7V.7L0 1.35L-1.2 .7Z",
        MessageKind::TransferLeader => {
            "M0 -1.4L.42 -.5L1.35 -.44L.65 .2L.86 1.15L0 .64L-.86 1.15L-.65 .2L-1.35 -.44L-.42 -.5Z"
        }
        MessageKind::Propose => "M-1 -1.05L1.3 0L-1 1.05Z",
        MessageKind::ReadIndex => "M-1.2 .9L0 -1.2L1.2 .9Z",
        MessageKind::Client => "M-.4 -1.1H.4V-.4H1.1V.4H.4V1.1H-.4V.4H-1.1V-.4H-.4Z",
        MessageKind::Other => "M-.6 -1H.6L1 -.6V.6L.6 1H-.6L-1 .6V-.6Z",
    }
}

/// The name of the CSS variable with the colour of a kind.
pub(crate) fn color(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Heartbeat => "--message-heartbeat",
        MessageKind::Append => "--message-append",
        MessageKind::PreVote | MessageKind::Vote => "--message-vote",
        MessageKind::Snapshot => "--message-snapshot",
        MessageKind::TransferLeader => "--message-transfer",
        MessageKind::Propose | MessageKind::ReadIndex => "--message-forward",
        MessageKind::Client => "--message-client",
        MessageKind::Other => "--message-other",
    }
}

/// A name for tests.
pub(crate) fn kind_id(kind: MessageKind) -> &'static str {
    match kind {
        MessageKind::Heartbeat => "heartbeat",
        MessageKind::Append => "append",
        MessageKind::PreVote => "pre-vote",
        MessageKind::Vote => "vote",
        MessageKind::Snapshot => "snapshot",
        MessageKind::TransferLeader => "transfer-leader",
        MessageKind::Propose => "propose",
        MessageKind::ReadIndex => "read-index",
        MessageKind::Client => "client",
        MessageKind::Other => "other",
    }
}

/// The cross of what is lost or down.
pub(crate) const CROSS: &str = "M-.8 -.8L.8 .8M.8 -.8L-.8 .8";

/// The body of a node in its role.
pub(crate) fn role(role: Role) -> &'static str {
    match role {
        Role::Leader => "M0 -1.08L.94 -.54V.54L0 1.08L-.94 .54V-.54Z",
        Role::Candidate => "M0 -1.15L1.15 0L0 1.15L-1.15 0Z",
        Role::Follower => CIRCLE,
        Role::Learner => {
            "M-.6 -.86H.6Q.86 -.86 .86 -.6V.6Q.86 .86 .6 .86H-.6Q-.86 .86 -.86 .6V-.6Q-.86 \
             -.86 -.6 -.86Z"
        }
    }
}

/// What a leader wears.
pub(crate) const CROWN: &str = "M-1 .55L-1.15 -.5L-.5 .02L0 -.8L.5 .02L1.15 -.5L1 .55Z";
