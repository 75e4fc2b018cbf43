"""The package etcd3 against one server: put, get, delete, txn, lease, watch, lock.

Usage: smoke.py HOST PORT. Ends with `ok`, or with the first thing that is not as it should be.
"""

import sys
import threading

import etcd3


def check(condition, what):
    if not condition:
        sys.exit(f"failed: {what}")


def main():
    client = etcd3.client(host=sys.argv[1], port=int(sys.argv[2]), timeout=10)

    client.put("/py/a", "1")
    value, meta = client.get("/py/a")
    check(value == b"1" and meta.key == b"/py/a" and meta.version == 1, "put and get")
    check(client.get("/py/none")[0] is None, "get of a missing key")
    previous = client.put("/py/a", "2", prev_kv=True)
    check(previous.prev_kv.value == b"1", "put with prev_kv")
    client.put("/py/b", b"\x00\xff")
    found = [(meta.key, value) for value, meta in client.get_prefix("/py/")]
    check(found == [(b"/py/a", b"2"), (b"/py/b", b"\x00\xff")], f"get_prefix: {found}")
    down = [meta.key for _, meta in client.get_prefix("/py/", sort_order="descend")]
    check(down == [b"/py/b", b"/py/a"], "descending order")
    check(client.delete("/py/b") and not client.delete("/py/b"), "delete")

    swap = dict(
        compare=[client.transactions.value("/py/a") == "2"],
        success=[client.transactions.put("/py/a", "3"), client.transactions.get("/py/a")],
        failure=[client.transactions.get("/py/a")],
    )
    succeeded, responses = client.transaction(**swap)
    check(succeeded and responses[1][0][0] == b"3", "transaction")
    succeeded, responses = client.transaction(**swap)
    check(not succeeded and responses[0][0][0] == b"3", "transaction, the other branch")
    check(client.put_if_not_exists("/py/new", "x"), "put_if_not_exists")
    check(not client.put_if_not_exists("/py/new", "y"), "put_if_not_exists again")
    check(client.replace("/py/new", "x", "z"), "replace")

    lease = client.lease(600)
    client.put("/py/leased", "1", lease=lease)
    check(lease.granted_ttl == 600 and lease.remaining_ttl > 500, "lease times")
    check(list(lease.keys) == [b"/py/leased"], "keys of a lease")
    check([reply.TTL for reply in lease.refresh()] == [600], "refresh")
    lease.revoke()
    check(client.get("/py/leased")[0] is None, "revoke deletes")

    events, cancel = client.watch_prefix("/py/watched/")

    def write():
        client.put("/py/watched/k", "1")
        client.delete("/py/watched/k")

    watched = threading.Thread(target=write)
    watched.start()
    first, second = next(events), next(events)
    check(isinstance(first, etcd3.events.PutEvent) and first.value == b"1", "watched put")
    check(isinstance(second, etcd3.events.DeleteEvent), "watched delete")
    cancel()
    watched.join()

    with client.lock("py-lock", ttl=30) as lock:
        check(lock.is_acquired(), "lock")
        # The package's own waiting for a held lock fails with newer tenacity: ask for the key.
        check(client.get("/locks/py-lock")[0] is not None, "the key of a held lock")
    check(client.lock("py-lock", ttl=30).acquire(timeout=5), "a lock that was released")

    revision = client.get_response("/py/a").header.revision
    client.compact(revision)
    members = list(client.members)
    check(len(members) == 1 and members[0].name == "n1", "members")
    check(client.status().leader.id == members[0].id, "status")
    check(len(list(client.list_alarms())) == 0, "alarms")
    check(client.hash() is not None, "hash")
    print("ok")


main()
