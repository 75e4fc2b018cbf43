//! `etcd_network_*`: the other members.

use coracle_core::meters::PeerMeters;

use super::page::Page;
use crate::platform::PeerCounts;
use crate::rpc::Member;

/// One other member.
struct Peer {
    id: String,
    counts: PeerCounts,
    meters: std::sync::Arc<PeerMeters>,
}

type Value = fn(&Peer) -> u64;

pub(super) fn write(page: &mut Page, member: &Member) {
    let traffic = member.platform().traffic();
    let peers = member.others().into_iter().map(|id| Peer {
        id: format!("{id:x}"),
        counts: traffic.counts(id),
        meters: member.meters().peer(id),
    });
    let peers: Vec<_> = peers.collect();
    connections(page, &format!("{:x}", member.member_id()), &peers);
    exchanged(page, &peers);
    snapshots(page, &peers);
}

fn connections(page: &mut Page, local: &str, peers: &[Peer]) {
    for (name, kind, help, value) in [
        ("known_peers", "gauge", "Other members.", (|_| 1) as Value),
        ("active_peers", "gauge", "Whether a connection to a member stands.", |peer| {
            u64::from(peer.counts.connected)
        }),
        ("disconnected_peers_total", "counter", "Connections to a member that ended.", |peer| {
            peer.counts.disconnects
        }),
    ] {
        let name = format!("etcd_network_{name}");
        page.family(&name, kind, help);
        for peer in peers {
            page.sample(&name, &[("Local", local), ("Remote", &peer.id)], value(peer));
        }
    }
}

fn exchanged(page: &mut Page, peers: &[Peer]) {
    for (name, label, help, value) in [
        ("sent_bytes_total", "To", "Bytes sent to a member.", (|peer| peer.counts.sent) as Value),
        ("received_bytes_total", "From", "Bytes received of a member.", |peer| {
            peer.counts.received
        }),
        ("sent_failures_total", "To", "Requests of Raft that a member did not answer.", |peer| {
            peer.meters.send_failures.get()
        }),
        ("received_failures_total", "From", "Connections that broke while reading.", |peer| {
            peer.counts.receive_failures
        }),
    ] {
        let name = format!("etcd_network_peer_{name}");
        page.family(&name, "counter", help);
        for peer in peers {
            page.sample(&name, &[(label, &peer.id)], value(peer));
        }
    }
    let name = "etcd_network_peer_round_trip_time_seconds";
    page.family(name, "histogram", "From a request of Raft to its answer.");
    for peer in peers {
        page.distribution(name, &[("To", &peer.id)], &peer.meters.round_trip.histogram());
    }
}

fn snapshots(page: &mut Page, peers: &[Peer]) {
    for (name, kind, label, help, value) in [
        (
            "send_success",
            "counter",
            "To",
            "Snapshots sent.",
            (|peer| peer.meters.snapshots_sent.get()) as Value,
        ),
        ("send_failures", "counter", "To", "Snapshots that could not be sent.", |peer| {
            peer.meters.snapshots_failed.get()
        }),
        ("send_inflights_total", "gauge", "To", "Snapshots being sent.", |peer| {
            peer.meters.snapshots_sending.get()
        }),
        ("receive_success", "counter", "From", "Snapshots received.", |peer| {
            peer.meters.snapshots_received.get()
        }),
        ("receive_failures", "counter", "From", "Snapshots that could not be received.", |peer| {
            peer.meters.snapshots_receive_failed.get()
        }),
        ("receive_inflights_total", "gauge", "From", "Snapshots being received.", |peer| {
            peer.meters.snapshots_receiving.get()
        }),
    ] {
        let name = format!("etcd_network_snapshot_{name}");
        page.family(&name, kind, help);
        for peer in peers {
            page.sample(&name, &[(label, &peer.id)], value(peer));
        }
    }
    for (name, label, sent) in [("send", "To", true), ("receive", "From", false)] {
        let name = format!("etcd_network_snapshot_{name}_total_duration_seconds");
        page.family(&name, "histogram", "How long snapshots took.");
        for peer in peers {
            let meters = &peer.meters;
            let took = if sent { &meters.snapshot_send } else { &meters.snapshot_receive };
            page.distribution(&name, &[(label, &peer.id)], &took.histogram());
        }
    }
}
