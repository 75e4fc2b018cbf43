//! `etcd_disk_*`, `etcd_snap_*`, `etcd_mvcc_*`: files, and the store in them.

use coracle_core::meters::{Distribution, Histogram, Meters};
use coracle_core::node::NodeInfo;

use super::page::Page;

pub(super) fn write(page: &mut Page, info: &NodeInfo, meters: &Meters) {
    disk(page, info, meters);
    snapshots(page, meters);
    store(page, info);
    watchers(page, info);
    compaction(page, info, meters);
    absent(page);
}

fn disk(page: &mut Page, info: &NodeInfo, meters: &Meters) {
    for (name, histogram, help) in [
        ("wal_fsync_duration_seconds", &info.wal_fsync, "How long syncs of the WAL took."),
        ("wal_write_duration_seconds", &info.wal_write, "How long writes to the WAL took."),
    ] {
        page.histogram(&format!("etcd_disk_{name}"), histogram, help);
    }
    let help = "Bytes written to the WAL.";
    page.gauge("etcd_disk_wal_write_bytes_total", info.wal_bytes_written, help);
    let commit = meters.backend_commit.histogram();
    for (name, histogram, help) in [
        ("commit", &commit, "How long commits of the backend took."),
        ("snapshot", &meters.backend_snapshot.histogram(), "How long clients' snapshots took."),
        ("defrag", &meters.backend_defrag.histogram(), "How long defragmenting took."),
    ] {
        page.histogram(&format!("etcd_disk_backend_{name}_duration_seconds"), histogram, help);
    }
    let inflight = meters.defrag_inflight.get();
    page.gauge("etcd_disk_defrag_inflight", inflight, "Whether the backend is defragmented.");
    // The whole of a commit is writing: redb has no phases before it.
    let name = "etcd_debugging_disk_backend_commit_write_duration_seconds";
    page.histogram(name, &commit, "How long commits of the backend took to write.");
}

fn snapshots(page: &mut Page, meters: &Meters) {
    let name = "etcd_snap_db_save_total_duration_seconds";
    let saved = meters.snapshot_db_save.histogram();
    page.histogram(name, &saved, "How long received snapshots took to become this state.");
}

fn store(page: &mut Page, info: &NodeInfo) {
    for (name, value, help) in [
        ("db_total_size_in_bytes", info.db_size, "Bytes allocated by the database."),
        ("db_total_size_in_use_in_bytes", info.db_size_in_use, "Bytes in use of the database."),
        ("db_open_read_transactions", info.open_reads, "Readers of the database now."),
    ] {
        page.gauge(&format!("etcd_mvcc_{name}"), value, help);
    }
    for (name, value) in [
        ("etcd_mvcc_put_total", info.puts),
        ("etcd_mvcc_range_total", info.ranges),
        ("etcd_debugging_mvcc_range_total", info.ranges),
        ("etcd_mvcc_delete_total", info.deletes),
        ("etcd_mvcc_txn_total", info.txns),
    ] {
        page.counter(name, value, "Operations seen by this member.");
    }
    let revisions = [
        ("current_revision", info.revision, "The current revision of the store."),
        ("compact_revision", info.compact_revision, "The revision of the last compaction."),
    ];
    for (name, value, help) in revisions {
        page.gauge(&format!("etcd_debugging_mvcc_{name}"), value, help);
    }
    for (name, value, help) in [
        ("keys_total", info.keys, "Total number of keys."),
        ("total_put_size_in_bytes", info.put_bytes, "Bytes of keys and values that were put."),
    ] {
        page.gauge(&format!("etcd_debugging_mvcc_{name}"), value, help);
    }
}

fn watchers(page: &mut Page, info: &NodeInfo) {
    for (name, value, help) in [
        ("watcher_total", info.watchers, "Total number of watchers."),
        ("watch_stream_total", info.watch_streams, "Total number of watch streams."),
        ("slow_watcher_total", info.slow_watchers, "Watchers that are catching up."),
        // A watcher is a cursor: what it has not taken waits nowhere.
        ("pending_events_total", 0, "Events that wait in queues of watchers."),
    ] {
        page.gauge(&format!("etcd_debugging_mvcc_{name}"), value, help);
    }
    let name = "etcd_debugging_mvcc_events_total";
    page.counter(name, info.watch_events, "Events handed to watchers.");
}

fn compaction(page: &mut Page, info: &NodeInfo, meters: &Meters) {
    let keys = info.compacted_keys;
    let name = "etcd_debugging_mvcc_db_compaction_keys_total";
    page.counter(name, keys, "Stored revisions that compactions removed.");
    let last = meters.compaction_last.get();
    let name = "etcd_debugging_mvcc_db_compaction_last";
    page.gauge(name, last, "When the last compaction ended, in Unix seconds.");
    // A step works on index and backend together, so its length is the pause of either. etcd
    // counts the index's more finely.
    let fine = meters.compaction_pause.histogram();
    let pause = Histogram { buckets: fine.buckets[1..].to_vec(), ..fine.clone() };
    for (name, histogram, help) in [
        ("db_compaction_total", &meters.compaction_total.histogram(), "How long compactions took."),
        ("db_compaction_pause", &pause, "How long a compaction's steps took."),
        ("index_compaction_pause", &fine, "How long a compaction's steps took."),
    ] {
        let name = format!("etcd_debugging_mvcc_{name}_duration_milliseconds");
        page.histogram(&name, histogram, help);
    }
    for (name, histogram, help) in [
        ("hash", meters.hash.histogram(), "How long hashes of the backend took."),
        ("hash_rev", meters.hash_kv.histogram(), "How long hashes of the key space took."),
    ] {
        page.histogram(&format!("etcd_mvcc_{name}_duration_seconds"), &histogram, help);
    }
}

/// What belongs to parts that this server does not have. Nothing ever happens in them.
fn absent(page: &mut Page) {
    let never =
        |first_bound, bounds| -> Histogram { Distribution::new(first_bound, bounds).histogram() };
    for (name, help) in [
        ("etcd_snap_fsync_duration_seconds", "Syncs of .snap files: there are none."),
        ("etcd_snap_db_fsync_duration_seconds", "Counted with the saving of a snapshot."),
        ("etcd_debugging_snap_save_total_duration_seconds", "There are no .snap files."),
        ("etcd_debugging_snap_save_marshalling_duration_seconds", "There are no .snap files."),
        (
            "etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
            "A phase of bbolt's commits.",
        ),
        (
            "etcd_debugging_disk_backend_commit_spill_duration_seconds",
            "A phase of bbolt's commits.",
        ),
    ] {
        page.histogram(name, &never(0.001, 14), help);
    }
    let help = "There is no v2 store.";
    for (name, action) in [("reads_total", "get"), ("writes_total", "set")] {
        let name = format!("etcd_debugging_store_{name}");
        page.family(&name, "counter", help);
        page.sample(&name, &[("action", action)], 0);
    }
    page.counter("etcd_debugging_store_expires_total", 0, help);
    page.counter("etcd_debugging_store_watch_requests_total", 0, help);
    page.gauge("etcd_debugging_store_watchers", 0, help);
}
