//! What a client can see of a cluster's state, to be compared with another cluster's.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use bytes::Bytes;
use coracle_core::api::etcdserverpb::*;
use coracle_core::api::mvccpb::KeyValue;
use tonic::transport::{Channel, Endpoint};

use crate::grpc::{KvClient, LeaseClient, MaintenanceClient};

/// The clients of one member.
pub struct Member {
    pub kv: KvClient<Channel>,
    pub lease: LeaseClient<Channel>,
    pub maintenance: MaintenanceClient<Channel>,
}

/// A state, as far as two clusters can have it in common.
#[derive(Debug, PartialEq)]
pub struct Picture {
    pub revision: i64,
    /// All keys as of now and as of older revisions.
    pub ranges: BTreeMap<i64, Vec<KeyValue>>,
    /// Granted time to live and keys, by lease.
    pub leases: BTreeMap<i64, (i64, Vec<Bytes>)>,
    /// HashKV at each of the same revisions, with the compact revision.
    pub hashes: BTreeMap<i64, (u32, i64)>,
}

impl Member {
    pub async fn connect(endpoint: String) -> Result<Member> {
        let channel = Endpoint::from_shared(endpoint)?.connect().await?;
        Ok(Member {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            lease: LeaseClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel),
        })
    }

    /// Puts `value` at `key`; returns the revision.
    pub async fn put(&mut self, key: &str, value: &[u8], lease: i64) -> Result<i64> {
        let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value));
        let request = PutRequest { key, value, lease, ..Default::default() };
        let header = self.kv.put(request).await?.into_inner().header;
        Ok(header.context("a reply has a header")?.revision)
    }

    /// All keys at `revision` (0: now).
    pub async fn all(&mut self, revision: i64) -> Result<RangeResponse> {
        let (key, range_end) = (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
        let request = RangeRequest { key, range_end, revision, ..Default::default() };
        Ok(self.kv.range(request).await?.into_inner())
    }

    /// Some of everything that a snapshot must keep; returns what is to be seen of it.
    pub async fn fill(&mut self) -> Result<Picture> {
        let mut leases = Vec::new();
        for id in [77, 0x7123_4567_89ab_cdef] {
            let request = LeaseGrantRequest { id, ttl: 5_000 };
            leases.push(self.lease.lease_grant(request).await?.into_inner().id);
        }
        for n in 0..600_usize {
            let lease = if n % 7 == 0 { leases[n % 2] } else { 0 };
            self.put(&format!("/key/{}", n % 170), &vec![n as u8; n * 3], lease).await?;
        }
        self.put("/large", &vec![5; 1_400_000], 0).await?;
        let (key, range_end) = (Bytes::from_static(b"/key/1"), Bytes::from_static(b"/key/2"));
        let request = DeleteRangeRequest { key, range_end, prev_kv: false };
        self.kv.delete_range(request).await?;
        let newest = self.put("/last", b"", 0).await?;
        let request = CompactionRequest { revision: newest - 200, physical: true };
        self.kv.compact(request).await?;
        // etcd 3.5.1 hashes nothing at the compacted revision itself.
        self.picture(&[newest - 199, newest - 100, newest - 2, newest]).await
    }

    /// What is to be seen now, and at `revisions`.
    pub async fn picture(&mut self, revisions: &[i64]) -> Result<Picture> {
        let now = self.all(0).await?;
        let revision = now.header.context("a reply has a header")?.revision;
        let mut ranges = BTreeMap::from([(0, now.kvs)]);
        let mut hashes = BTreeMap::new();
        for &revision in revisions {
            ranges.insert(revision, self.all(revision).await?.kvs);
            let request = HashKvRequest { revision };
            let hash = self.maintenance.hash_kv(request).await?.into_inner();
            hashes.insert(revision, (hash.hash, hash.compact_revision));
        }
        let mut leases = BTreeMap::new();
        for lease in self.lease.lease_leases(LeaseLeasesRequest {}).await?.into_inner().leases {
            let request = LeaseTimeToLiveRequest { id: lease.id, keys: true };
            let mut found = self.lease.lease_time_to_live(request).await?.into_inner();
            found.keys.sort();
            leases.insert(lease.id, (found.granted_ttl, found.keys));
        }
        Ok(Picture { revision, ranges, leases, hashes })
    }
}

impl Picture {
    /// The revisions that were looked at.
    pub fn revisions(&self) -> Vec<i64> {
        self.hashes.keys().copied().collect()
    }
}
