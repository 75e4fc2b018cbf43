//! Range, put and delete requests.

use super::super::ranges::prefix_end;
use super::*;

/// A value above `--max-request-bytes` (1.5 MiB) but below what the transport takes.
const TOO_LARGE: usize = 1_572_864;
/// A message above what the transport takes (`--max-request-bytes` and 512 KiB).
const ABOVE_TRANSPORT: usize = 2 * 1024 * 1024;
/// Sort orders and targets that etcd does not define; sent to Coracle only.
pub(super) const UNKNOWN_SORT: i32 = 9;

impl Generator {
    /// A start and an end, in any of etcd's conventions.
    pub(super) fn bounds(&mut self) -> (Bytes, Bytes) {
        let start = self.key();
        match self.dice.weighted(&[35, 21, 20, 12, 9, 10]) {
            0 => (start, Bytes::new()),
            1 => {
                let end = self.key();
                if start < end { (start, end) } else { (end, start) }
            }
            2 => {
                let end = self.key();
                if start > end { (start, end) } else { (end, start) }
            }
            3 => {
                let end = prefix_end(&start);
                (start, end)
            }
            4 => (start, Bytes::from_static(b"\0")),
            _ => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
        }
    }

    pub(super) fn range(&mut self, model: &Model) -> RangeRequest {
        let (key, range_end) = self.bounds();
        let mut request = RangeRequest {
            key,
            range_end,
            revision: self.revision(model),
            serializable: self.dice.percent(30),
            keys_only: self.dice.percent(12),
            count_only: self.dice.percent(8),
            ..Default::default()
        };
        if self.dice.percent(30) {
            request.limit = self.dice.between(-1, 6);
        }
        if self.dice.percent(50) {
            request.sort_order = self.dice.below(3) as i32;
            request.sort_target = self.dice.below(5) as i32;
        }
        if self.dice.percent(2) {
            request.key = Bytes::new();
        }
        if self.dice.percent(3) {
            request.sort_target = UNKNOWN_SORT;
        } else if self.dice.percent(3) {
            request.sort_order = UNKNOWN_SORT;
        }
        if self.dice.percent(18) {
            let bound = |dice: &mut Dice| dice.between(0, model.revision + 2);
            match self.dice.below(4) {
                0 => request.min_mod_revision = bound(&mut self.dice),
                1 => request.max_mod_revision = bound(&mut self.dice),
                2 => request.min_create_revision = bound(&mut self.dice),
                _ => request.max_create_revision = bound(&mut self.dice),
            }
        }
        request
    }

    /// A put that etcd takes.
    pub(super) fn valid_put(&mut self) -> PutRequest {
        PutRequest {
            key: self.key(),
            value: self.value(),
            prev_kv: self.dice.percent(30),
            ..Default::default()
        }
    }

    pub(super) fn put(&mut self, model: &Model) -> PutRequest {
        let mut request = self.valid_put();
        if self.dice.percent(30) {
            request.lease = self.lease_id(model);
        }
        match self.dice.weighted(&[490, 60, 60, 40, 86, 90, 35, 35, 82, 85]) {
            0 => {}
            1 => {
                request.key = self.existing_key(model);
                request.value = Bytes::new();
                request.ignore_value = true;
            }
            2 => {
                request.key = self.existing_key(model);
                request.lease = 0;
                request.ignore_lease = true;
            }
            3 => {
                request.key = Bytes::from(format!("missing{}", self.dice.below(5)));
                request.value = Bytes::new();
                request.lease = 0;
                request.ignore_value = self.dice.percent(70);
                request.ignore_lease = !request.ignore_value || self.dice.percent(50);
            }
            4 => {
                request.ignore_value = true;
                request.value = Bytes::from_static(b"provided");
            }
            5 => {
                request.ignore_lease = true;
                request.lease = 1;
            }
            6 => request.key = Bytes::new(),
            7 => request.lease = self.missing_lease_id(),
            8 => request.value = vec![b'L'; TOO_LARGE].into(),
            _ => request.value = vec![b'T'; ABOVE_TRANSPORT].into(),
        }
        request
    }

    pub(super) fn delete_range(&mut self) -> DeleteRangeRequest {
        let (mut key, range_end) = self.bounds();
        if self.dice.percent(6) {
            key = Bytes::new();
        }
        DeleteRangeRequest { key, range_end, prev_kv: self.dice.percent(40) }
    }
}
