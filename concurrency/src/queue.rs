//! A queue of keys under a prefix, in the order of their creation: what mutex and election share.
//!
//! Each contender's key is the prefix and its lease in hexadecimal. Whoever was created first is
//! at the head; everybody else watches the key right before its own, so that a departure wakes one
//! contender and not all of them.

use etcd_client::{
    Client, Compare, CompareOp, EventType, GetOptions, KeyValue, PutOptions, SortOrder, SortTarget,
    Txn, TxnOp, TxnOpResponse, WatchOptions,
};

use crate::{Error, Result, Session};

/// A contender's place: its key, and the revision that made it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) key: Vec<u8>,
    pub(crate) revision: i64,
}

/// What joining the queue answered.
pub(crate) struct Joined {
    pub(crate) place: Place,
    /// The value that our key had already; `None` where it is new.
    pub(crate) present: Option<Vec<u8>>,
    /// Who is at the head.
    pub(crate) head: Option<KeyValue>,
}

/// `prefix` with the slash that separates it from the contenders' names.
pub(crate) fn folder(name: &[u8]) -> Vec<u8> {
    [name, b"/"].concat()
}

/// Go prints a lease's number as signed hexadecimal.
fn key_of(folder: &[u8], lease: i64) -> Vec<u8> {
    let sign = if lease < 0 { "-" } else { "" };
    [folder, format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat()
}

/// The key exists in the generation that `place` is about.
pub(crate) fn is_held(place: &Place) -> Compare {
    Compare::create_revision(place.key.clone(), CompareOp::Equal, place.revision)
}

fn oldest() -> GetOptions {
    GetOptions::new().with_prefix().with_sort(SortTarget::Create, SortOrder::Ascend).with_limit(1)
}

/// Takes a place at the end of the queue, or finds the one that the session has.
pub(crate) async fn join(session: &Session, folder: &[u8], value: &[u8]) -> Result<Joined> {
    let key = key_of(folder, session.lease());
    let absent = Compare::create_revision(key.clone(), CompareOp::Equal, 0);
    let put = PutOptions::new().with_lease(session.lease());
    let first = TxnOp::get(folder, Some(oldest()));
    let txn = Txn::new()
        .when([absent])
        .and_then([TxnOp::put(key.clone(), value, Some(put)), first.clone()])
        .or_else([TxnOp::get(key.clone(), None), first]);
    let answer = session.client().txn(txn).await?;
    let made = answer.header().ok_or(Error::Incomplete("no header"))?.revision();
    let mut parts = answer.op_responses().into_iter();
    let (Some(mine), Some(TxnOpResponse::Get(mut first))) = (parts.next(), parts.next()) else {
        return Err(Error::Incomplete("a transaction of two operations has two answers"));
    };
    let head = first.take_kvs().into_iter().next();
    Ok(match mine {
        TxnOpResponse::Get(mut found) => {
            let mine = found.take_kvs().into_iter().next();
            let mine = mine.ok_or(Error::Incomplete("a key that exists was not found"))?;
            let place = Place { key, revision: mine.create_revision() };
            Joined { place, present: Some(mine.value().to_vec()), head }
        }
        _ => Joined { place: Place { key, revision: made }, present: None, head },
    })
}

impl Joined {
    /// Whether nobody is before us.
    pub(crate) fn is_head(&self) -> bool {
        self.head.as_ref().is_none_or(|head| head.create_revision() == self.place.revision)
    }
}

/// Waits until nobody in `folder` is older than `place`.
pub(crate) async fn wait_for_turn(client: &mut Client, folder: &[u8], place: &Place) -> Result<()> {
    let newest_before_us = GetOptions::new()
        .with_prefix()
        .with_sort(SortTarget::Create, SortOrder::Descend)
        .with_limit(1)
        .with_max_create_revision(place.revision - 1);
    loop {
        let answer = client.get(folder, Some(newest_before_us.clone())).await?;
        let Some(before_us) = answer.kvs().first() else { return Ok(()) };
        let seen = answer.header().ok_or(Error::Incomplete("no header"))?.revision();
        wait_for_delete(client, before_us.key(), seen).await?;
    }
}

/// Waits for the first deletion of `key` at `revision` or later.
async fn wait_for_delete(client: &mut Client, key: &[u8], revision: i64) -> Result<()> {
    let options = WatchOptions::new().with_start_revision(revision);
    let mut stream = client.watch(key, Some(options)).await?;
    while let Some(answer) = stream.message().await? {
        if answer.canceled() {
            return Err(Error::WatchEnded(answer.cancel_reason().to_owned()));
        }
        if answer.events().iter().any(|event| event.event_type() == EventType::Delete) {
            return Ok(());
        }
    }
    Err(Error::WatchEnded("the server closed the stream".to_owned()))
}

/// Gives up a place when it is dropped: whoever stops waiting must not hold up the others.
pub(crate) struct Leaving {
    client: Client,
    place: Option<Place>,
}

impl Leaving {
    pub(crate) fn new(client: Client, place: Place) -> Self {
        Self { client, place: Some(place) }
    }

    /// The place is kept.
    pub(crate) fn stay(mut self) {
        self.place = None;
    }

    /// Gives the place up now.
    pub(crate) async fn leave(mut self) -> Result<()> {
        match self.place.take() {
            Some(place) => leave(&mut self.client, &place).await.map(drop),
            None => Ok(()),
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        let mut client = self.client.clone();
        // Without a runtime there is no connection either: the lease ends the place.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { leave(&mut client, &place).await });
        }
    }
}

/// Deletes our key, not a later one of its name; whether it was there.
pub(crate) async fn leave(client: &mut Client, place: &Place) -> Result<bool> {
    let txn = Txn::new().when([is_held(place)]).and_then([TxnOp::delete(place.key.clone(), None)]);
    Ok(client.txn(txn).await?.succeeded())
}
