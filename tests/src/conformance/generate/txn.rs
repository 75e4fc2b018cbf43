//! Transactions: every compare target and result, nesting, and what etcd refuses in them.

use super::kv::UNKNOWN_SORT;
use super::*;

/// `--max-txn-ops`.
const MAX_OPS: usize = 128;
/// Levels of transactions inside a transaction.
const MAX_DEPTH: usize = 3;

/// How the operations of one transaction choose their keys.
struct Style {
    /// Keys still free for puts and deletes; empty if keys may repeat (and be refused).
    fresh: Option<Vec<Bytes>>,
    depth: usize,
}

impl Generator {
    pub(super) fn txn(&mut self, model: &Model) -> TxnRequest {
        if self.dice.percent(14) {
            return self.oversized_txn();
        }
        if self.dice.percent(4) {
            return self.unknown_sort_txn();
        }
        let mut style = self.style(MAX_DEPTH);
        let mut request = self.txn_of(model, &mut style);
        if self.dice.percent(30) {
            self.spoil(&mut request);
        }
        request
    }

    /// A transaction without nested ones.
    ///
    /// Under a NOSPACE alarm etcd 3.5 overlooks the puts of nested transactions.
    pub(super) fn flat_txn(&mut self, model: &Model) -> TxnRequest {
        let mut style = self.style(0);
        self.txn_of(model, &mut style)
    }

    fn style(&mut self, depth: usize) -> Style {
        let fresh = (!self.dice.percent(10)).then(|| {
            let mut keys = self.keys.clone();
            self.dice.shuffle(&mut keys);
            keys
        });
        Style { fresh, depth }
    }

    fn txn_of(&mut self, model: &Model, style: &mut Style) -> TxnRequest {
        let compares = self.dice.weighted(&[20, 45, 20, 10, 5]);
        let compare = (0..compares).map(|_| self.compare(model)).collect();
        let operations = self.dice.below(5);
        let success = (0..operations).map(|_| self.request_op(model, style)).collect();
        let operations = self.dice.below(4);
        let failure = (0..operations).map(|_| self.request_op(model, style)).collect();
        TxnRequest { compare, success, failure }
    }

    fn request_op(&mut self, model: &Model, style: &mut Style) -> RequestOp {
        let nested = if style.depth > 0 { 12 } else { 0 };
        let request = match self.dice.weighted(&[30, 40, 18, nested]) {
            0 => request_op::Request::RequestRange(self.range_in_txn(model)),
            1 => request_op::Request::RequestPut(self.put_in_txn(model, style)),
            2 => request_op::Request::RequestDeleteRange(self.delete_in_txn(style)),
            _ => {
                style.depth -= 1;
                let txn = self.txn_of(model, style);
                style.depth += 1;
                request_op::Request::RequestTxn(txn)
            }
        };
        RequestOp { request: Some(request) }
    }

    /// Mostly at the newest revision: one refused range refuses the whole transaction.
    fn range_in_txn(&mut self, model: &Model) -> RangeRequest {
        let mut request = self.range(model);
        if !self.dice.percent(20) {
            request.revision = 0;
        }
        if !self.dice.percent(20) && request.key.is_empty() {
            request.key = self.key();
        }
        // Refused in a transaction of its own ([`Self::unknown_sort_txn`]): applying one would
        // kill etcd 3.5.1.
        if request.sort_target == UNKNOWN_SORT {
            request.sort_target = 0;
        }
        if request.sort_order == UNKNOWN_SORT {
            request.sort_order = 0;
        }
        request
    }

    /// A transaction that is in order but for a sort option that etcd does not define.
    fn unknown_sort_txn(&mut self) -> TxnRequest {
        let range =
            RangeRequest { key: self.key(), sort_target: UNKNOWN_SORT, ..Default::default() };
        let range = RequestOp { request: Some(request_op::Request::RequestRange(range)) };
        TxnRequest { success: vec![range], ..Default::default() }
    }

    fn put_in_txn(&mut self, model: &Model, style: &mut Style) -> PutRequest {
        let mut request = self.valid_put();
        if let Some(fresh) = &mut style.fresh {
            request.key = fresh.pop().unwrap_or(request.key);
        }
        // A put that finds its key gone, deleted earlier in the same transaction, kills etcd (T-1).
        let ignore = if style.fresh.is_some() { 4 } else { 0 };
        match self.dice.weighted(&[75, 15, ignore, ignore, 3]) {
            0 => {}
            1 => request.lease = self.lease_id(model),
            2 => {
                request.value = Bytes::new();
                request.ignore_value = true;
            }
            3 => request.ignore_lease = true,
            _ => request.lease = self.missing_lease_id(),
        }
        request
    }

    fn delete_in_txn(&mut self, style: &mut Style) -> DeleteRangeRequest {
        let (key, range_end) = match &mut style.fresh {
            Some(fresh) => (fresh.pop().unwrap_or_default(), Bytes::new()),
            None => self.bounds(),
        };
        // Once the fresh keys have run out, any key must do.
        let key = if key.is_empty() { self.key() } else { key };
        DeleteRangeRequest { key, range_end, prev_kv: self.dice.percent(30) }
    }

    fn compare(&mut self, model: &Model) -> Compare {
        let target = self.dice.below(5) as i32;
        let result = self.dice.below(4) as i32;
        let (key, range_end) = match self.dice.percent(25) {
            true => self.bounds(),
            false => (self.existing_key(model), Bytes::new()),
        };
        let member = if self.dice.percent(4) { self.dice.below(5) as i32 } else { target };
        let target_union =
            (!self.dice.percent(4)).then(|| self.target_union(member, result, model));
        let unknown = self.dice.percent(7);
        Compare {
            result: if unknown && self.dice.percent(50) { 7 } else { result },
            target: if unknown && self.dice.percent(50) { 9 } else { target },
            key,
            range_end,
            target_union,
        }
    }

    fn target_union(&mut self, target: i32, result: i32, model: &Model) -> compare::TargetUnion {
        let revision = match self.dice.percent(50) {
            true => 0,
            false => self.dice.between(0, model.revision),
        };
        match target {
            0 => compare::TargetUnion::Version(self.dice.between(0, 4)),
            1 => compare::TargetUnion::CreateRevision(revision),
            2 => compare::TargetUnion::ModRevision(revision),
            3 => compare::TargetUnion::Value(self.value()),
            // Ids that the servers pick differ, so their order says nothing.
            _ if (1..=2).contains(&result) => compare::TargetUnion::Lease(self.dice.between(0, 6)),
            _ => compare::TargetUnion::Lease(self.lease_id(model)),
        }
    }

    /// Up to, and just above, the limit of operations, flat or in a nested transaction.
    fn oversized_txn(&mut self) -> TxnRequest {
        let read = |key: &Bytes| {
            let range = RangeRequest { key: key.clone(), count_only: true, ..Default::default() };
            RequestOp { request: Some(request_op::Request::RequestRange(range)) }
        };
        let key = self.key();
        let count = *self.dice.pick(&[MAX_OPS, MAX_OPS + 1, MAX_OPS + 1]);
        let operations = vec![read(&key); count];
        match self.dice.below(4) {
            0 => TxnRequest { success: operations, ..Default::default() },
            1 => TxnRequest { failure: operations, ..Default::default() },
            2 => {
                let compare = Compare {
                    key,
                    target_union: Some(compare::TargetUnion::Version(0)),
                    ..Default::default()
                };
                TxnRequest { compare: vec![compare; count], ..Default::default() }
            }
            _ => {
                // The parent's one operation counts against the child's budget.
                let inner =
                    TxnRequest { success: vec![read(&key); count - 1], ..Default::default() };
                let nested = RequestOp { request: Some(request_op::Request::RequestTxn(inner)) };
                TxnRequest { success: vec![nested], ..Default::default() }
            }
        }
    }

    /// Breaks one rule: an empty key, an operation without content, a key put twice.
    fn spoil(&mut self, request: &mut TxnRequest) {
        let branch = match self.dice.percent(70) {
            true => &mut request.success,
            false => &mut request.failure,
        };
        match self.dice.weighted(&[38, 12, 12, 38]) {
            0 => branch.push(RequestOp { request: None }),
            1 => {
                let put = PutRequest { key: Bytes::new(), ..Default::default() };
                branch.push(RequestOp { request: Some(request_op::Request::RequestPut(put)) });
            }
            2 => request.compare.push(Compare::default()),
            _ => {
                let put = PutRequest { key: Bytes::from_static(b"twice"), ..Default::default() };
                let put = RequestOp { request: Some(request_op::Request::RequestPut(put)) };
                branch.extend([put.clone(), put]);
            }
        }
    }
}
