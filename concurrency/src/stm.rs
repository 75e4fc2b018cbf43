//! Software transactional memory (`concurrency.NewSTM`): a function over keys that takes effect at
//! once, or is run again.
//!
//! Writes are kept until the function has returned. Then one transaction of etcd compares what was
//! read with what is there, and writes; where something changed, the function runs again on what
//! is there now.

use std::collections::{BTreeMap, HashMap};

use etcd_client::{
    Client, Compare, CompareOp, GetOptions, GetResponse, KeyValue, PutOptions, Txn, TxnOp,
    TxnOpResponse,
};

use crate::{Error, Result};

/// What a transaction may see of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// All reads see one revision, and nobody wrote since to what was read or will be written.
    #[default]
    SerializableSnapshot,
    /// All reads see one revision, and nobody wrote since to what was read.
    Serializable,
    /// What was read once is read again; reads of several keys may see several revisions.
    RepeatableReads,
    /// Reads see what is committed, nothing is compared.
    ReadCommitted,
}

impl Isolation {
    /// Whether the first read fixes the revision of the others.
    fn one_revision(self) -> bool {
        matches!(self, Self::SerializableSnapshot | Self::Serializable)
    }
}

/// Runs `work` until what it read is still true when its writes take effect.
///
/// # Errors
/// Those of `work`, after which nothing was written, and those of the server: among them that the
/// revision of the reads was compacted meanwhile, and that one transaction cannot compare and write
/// so many keys (128 each, unless the server says otherwise).
///
/// A future of this function cannot be moved between threads when `work` borrows from outside;
/// where a runtime wants that, loop over [`Stm::commit`] instead.
pub async fn transact<T, E: From<Error>>(
    client: &Client,
    isolation: Isolation,
    mut work: impl AsyncFnMut(&mut Stm) -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    let mut stm = Stm::new(client, isolation);
    loop {
        let answer = work(&mut stm).await?;
        if stm.commit().await? {
            return Ok(answer);
        }
    }
}

/// The keys as a transaction sees them.
pub struct Stm {
    client: Client,
    isolation: Isolation,
    /// The revision that reads see, where the first of them fixed one.
    base: Option<i64>,
    reads: HashMap<Vec<u8>, Read>,
    writes: BTreeMap<Vec<u8>, Write>,
    /// What a transaction that failed found instead: spares the next try its first round trips.
    prefetched: HashMap<Vec<u8>, Read>,
}

/// What was found at a key.
#[derive(Clone, Debug)]
struct Read {
    found: Option<KeyValue>,
    /// The store's revision at the reading.
    revision: i64,
}

#[derive(Clone, Debug)]
enum Write {
    Put(Vec<u8>, Option<PutOptions>),
    Delete,
}

impl Stm {
    /// Begins a transaction; nothing is sent before the first read.
    pub fn new(client: &Client, isolation: Isolation) -> Self {
        Self {
            client: client.clone(),
            isolation,
            base: None,
            reads: HashMap::new(),
            writes: BTreeMap::new(),
            prefetched: HashMap::new(),
        }
    }

    /// The value of `key`; `None` where there is none.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn get(&mut self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        let key = key.as_ref();
        match self.writes.get(key) {
            Some(Write::Put(value, _)) => return Ok(Some(value.clone())),
            Some(Write::Delete) => return Ok(None),
            None => {}
        }
        let found = self.read(&[key]).await?.found.as_ref();
        Ok(found.map(|found| found.value().to_vec()))
    }

    /// The value of the first of `keys` that exists; they are read in one round trip.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn get_any(&mut self, keys: &[&[u8]]) -> Result<Option<Vec<u8>>> {
        let Some(&first) = keys.first() else { return Ok(None) };
        let unread: Vec<&[u8]> =
            keys.iter().copied().filter(|&key| !self.writes.contains_key(key)).collect();
        if !unread.is_empty() {
            self.read(&unread).await?;
        }
        let mut value = self.get(first).await?;
        for &key in &keys[1..] {
            if value.is_none() {
                value = self.get(key).await?;
            }
        }
        Ok(value)
    }

    /// The revision at which `key` was last written, 0 where it is absent; what this transaction
    /// writes does not count.
    ///
    /// # Errors
    /// Those of the server.
    pub async fn mod_revision(&mut self, key: impl AsRef<[u8]>) -> Result<i64> {
        let read = self.read(&[key.as_ref()]).await?;
        Ok(mod_revision(read))
    }

    /// Writes `value` when the transaction takes effect.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.writes.insert(key.into(), Write::Put(value.into(), None));
    }

    /// Writes `value` with options, a lease among them, when the transaction takes effect.
    pub fn put_with(
        &mut self,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
        options: PutOptions,
    ) {
        self.writes.insert(key.into(), Write::Put(value.into(), Some(options)));
    }

    /// Deletes `key` when the transaction takes effect.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.writes.insert(key.into(), Write::Delete);
    }

    /// Reads those of `keys` that were not read yet; returns the first. `keys` is not empty.
    async fn read(&mut self, keys: &[&[u8]]) -> Result<&Read> {
        for &key in keys {
            if let Some((key, read)) = self.prefetched.remove_entry(key) {
                self.reads.insert(key, read);
            }
        }
        // Whatever is read first, prefetched or not, says what the others see.
        self.fix_revision();
        let missing: Vec<&[u8]> =
            keys.iter().copied().filter(|&key| !self.reads.contains_key(key)).collect();
        if !missing.is_empty() {
            let gets: Vec<TxnOp> =
                missing.iter().map(|&key| TxnOp::get(key, Some(self.options()))).collect();
            let answer = self.client.txn(Txn::new().and_then(gets)).await?;
            self.note(missing.into_iter().map(<[u8]>::to_vec), answer.op_responses())?;
        }
        self.fix_revision();
        self.reads.get(keys[0]).ok_or(Error::Incomplete("a read has an answer"))
    }

    fn fix_revision(&mut self) {
        if self.base.is_none() && self.isolation.one_revision() {
            self.base = self.oldest();
        }
    }

    /// The lowest revision that anything was read at.
    fn oldest(&self) -> Option<i64> {
        self.reads.values().map(|read| read.revision).min()
    }

    fn options(&self) -> GetOptions {
        match (self.isolation, self.base) {
            (_, Some(base)) => GetOptions::new().with_revision(base).with_serializable(),
            (Isolation::SerializableSnapshot | Isolation::Serializable, None) => GetOptions::new(),
            _ => GetOptions::new().with_serializable(),
        }
    }

    /// Remembers the answers to reads of `keys`.
    fn note(
        &mut self,
        keys: impl Iterator<Item = Vec<u8>>,
        answers: Vec<TxnOpResponse>,
    ) -> Result<()> {
        let mut answers = answers.into_iter();
        for key in keys {
            let Some(TxnOpResponse::Get(mut answer)) = answers.next() else {
                return Err(Error::Incomplete("a read in a transaction has an answer"));
            };
            let revision = revision(&answer)?;
            let found = answer.take_kvs().into_iter().next();
            self.reads.insert(key, Read { found, revision });
        }
        Ok(())
    }

    /// What must still be so for the writes to take effect.
    fn conditions(&self) -> Vec<Compare> {
        if self.isolation == Isolation::ReadCommitted {
            return Vec::new();
        }
        let mut conditions: Vec<Compare> = self
            .reads
            .iter()
            .map(|(key, read)| {
                Compare::mod_revision(key.clone(), CompareOp::Equal, mod_revision(read))
            })
            .collect();
        if self.isolation == Isolation::SerializableSnapshot
            && let Some(oldest) = self.oldest()
        {
            conditions.extend(
                self.writes
                    .keys()
                    .map(|key| Compare::mod_revision(key.clone(), CompareOp::Less, oldest + 1)),
            );
        }
        conditions
    }

    /// Makes the writes take effect if everything that was read is still so. Otherwise `false`, and
    /// nothing was written: read and write again, the transaction has begun anew.
    ///
    /// # Errors
    /// Those of the server. Whether an unreachable server wrote is then not known.
    pub async fn commit(&mut self) -> Result<bool> {
        let conditions = self.conditions();
        let keys: Vec<Vec<u8>> = self.reads.keys().cloned().collect();
        let again: Vec<TxnOp> = keys.iter().map(|key| TxnOp::get(key.clone(), None)).collect();
        let writes: Vec<TxnOp> = std::mem::take(&mut self.writes)
            .into_iter()
            .map(|(key, write)| match write {
                Write::Put(value, options) => TxnOp::put(key, value, options),
                Write::Delete => TxnOp::delete(key, None),
            })
            .collect();
        let txn = Txn::new().when(conditions).and_then(writes).or_else(again);
        let answer = self.client.txn(txn).await?;
        if answer.succeeded() {
            return Ok(true);
        }
        self.base = None;
        self.reads.clear();
        self.note(keys.into_iter(), answer.op_responses())?;
        self.prefetched = std::mem::take(&mut self.reads);
        Ok(false)
    }
}

fn mod_revision(read: &Read) -> i64 {
    read.found.as_ref().map_or(0, KeyValue::mod_revision)
}

fn revision(answer: &GetResponse) -> Result<i64> {
    Ok(answer.header().ok_or(Error::Incomplete("no header"))?.revision())
}
