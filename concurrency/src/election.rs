//! A leader among many processes (`concurrency.Election`).

use etcd_client::{
    Client, EventType, GetOptions, KeyValue, PutOptions, SortOrder, SortTarget, Txn, TxnOp,
    WatchOptions, WatchStream,
};

use crate::queue::{self, Leaving, Place};
use crate::session::while_alive;
use crate::{Error, Result, Session};

/// One contender of an election, for the holder of a session.
pub struct Election<'a> {
    session: &'a Session,
    folder: Vec<u8>,
    place: Option<Place>,
}

/// Who leads, and what it proclaims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The leader's key: the election's name, a slash, its lease.
    pub key: Vec<u8>,
    /// What it proclaims.
    pub value: Vec<u8>,
    /// The revision at which it entered the election.
    pub create_revision: i64,
    /// The revision at which it proclaimed this.
    pub mod_revision: i64,
}

impl From<&KeyValue> for Leader {
    fn from(found: &KeyValue) -> Self {
        Self {
            key: found.key().to_vec(),
            value: found.value().to_vec(),
            create_revision: found.create_revision(),
            mod_revision: found.mod_revision(),
        }
    }
}

impl<'a> Election<'a> {
    /// A contender for the leadership of `name`; contenders' keys stand under `name/`.
    pub fn new(session: &'a Session, name: impl AsRef<[u8]>) -> Self {
        Self { session, folder: queue::folder(name.as_ref()), place: None }
    }

    /// Waits until we lead, proclaiming `value`.
    ///
    /// # Errors
    /// [`Error::SessionExpired`] when the session ends meanwhile, and those of the server. The
    /// place in the queue is then given up.
    pub async fn campaign(&mut self, value: impl AsRef<[u8]>) -> Result<()> {
        let value = value.as_ref();
        let joined = queue::join(self.session, &self.folder, value).await?;
        let leaving = Leaving::new(self.session.client(), joined.place.clone());
        if joined.present.as_deref().is_some_and(|present| present != value) {
            self.replace(&joined.place, value).await?;
        }
        if !joined.is_head() {
            let mut client = self.session.client();
            let turn = queue::wait_for_turn(&mut client, &self.folder, &joined.place);
            while_alive(self.session, turn).await?;
        }
        leaving.stay();
        self.place = Some(joined.place);
        Ok(())
    }

    /// Replaces what the leader proclaims.
    ///
    /// # Errors
    /// [`Error::NotLeader`] when we do not lead, and those of the server.
    pub async fn proclaim(&mut self, value: impl AsRef<[u8]>) -> Result<()> {
        let place = self.place.clone().ok_or(Error::NotLeader)?;
        let replaced = self.replace(&place, value.as_ref()).await;
        if matches!(replaced, Err(Error::NotLeader)) {
            self.place = None;
        }
        replaced
    }

    async fn replace(&self, place: &Place, value: &[u8]) -> Result<()> {
        let options = PutOptions::new().with_lease(self.session.lease());
        let txn = Txn::new().when([queue::is_held(place)]).and_then([TxnOp::put(
            place.key.clone(),
            value,
            Some(options),
        )]);
        match self.session.client().txn(txn).await?.succeeded() {
            true => Ok(()),
            false => Err(Error::NotLeader),
        }
    }

    /// Gives up the leadership; nothing happens where we do not lead.
    ///
    /// # Errors
    /// Those of the server, after which it can be tried again.
    pub async fn resign(&mut self) -> Result<()> {
        if let Some(place) = &self.place {
            queue::leave(&mut self.session.client(), place).await?;
            self.place = None;
        }
        Ok(())
    }

    /// Who leads now.
    ///
    /// # Errors
    /// [`Error::NoLeader`] when nobody does, and those of the server.
    pub async fn leader(&self) -> Result<Leader> {
        let answer = self.session.client().get(self.folder.clone(), Some(head())).await?;
        answer.kvs().first().map(Leader::from).ok_or(Error::NoLeader)
    }

    /// Follows the leaders, and what they proclaim, from now on.
    pub fn observe(&self) -> Observer {
        Observer { client: self.session.client(), folder: self.folder.clone(), following: None }
    }

    /// The key that stands for us, while we lead.
    pub fn key(&self) -> Option<&[u8]> {
        self.place.as_ref().map(|place| place.key.as_slice())
    }

    /// The revision at which we entered the election: a fencing token.
    pub fn revision(&self) -> Option<i64> {
        self.place.as_ref().map(|place| place.revision)
    }
}

fn head() -> GetOptions {
    GetOptions::new().with_prefix().with_sort(SortTarget::Create, SortOrder::Ascend).with_limit(1)
}

/// The leaders of an election, one after the other.
pub struct Observer {
    client: Client,
    folder: Vec<u8>,
    following: Option<Following>,
}

/// A watch of the present leader's key, and what of it was not told yet.
#[derive(Debug)]
struct Following {
    stream: WatchStream,
    told: std::collections::VecDeque<Leader>,
    /// The leader is gone: when everything is told, look for the next.
    over: bool,
}

impl Observer {
    /// The next leader, or the next value of the present one; waits for it.
    ///
    /// # Errors
    /// Those of the server; the observer can be asked again.
    pub async fn next(&mut self) -> Result<Leader> {
        loop {
            let Some(following) = &mut self.following else {
                let (leader, stream) = self.find().await?;
                let told = [leader].into();
                self.following = Some(Following { stream, told, over: false });
                continue;
            };
            if let Some(leader) = following.told.pop_front() {
                return Ok(leader);
            }
            if following.over {
                self.following = None;
                continue;
            }
            if let Err(error) = following.read().await {
                self.following = None;
                return Err(error);
            }
        }
    }

    /// The present leader, or the first to come, and a watch of what follows.
    async fn find(&mut self) -> Result<(Leader, WatchStream)> {
        let answer = self.client.get(self.folder.clone(), Some(head())).await?;
        let revision = answer.header().ok_or(Error::Incomplete("no header"))?.revision();
        let (leader, seen) = match answer.kvs().first() {
            Some(found) => (Leader::from(found), revision),
            None => {
                let leader = self.first_after(revision).await?;
                let seen = leader.mod_revision;
                (leader, seen)
            }
        };
        let options = WatchOptions::new().with_start_revision(seen + 1);
        let stream = self.client.watch(leader.key.clone(), Some(options)).await?;
        Ok((leader, stream))
    }

    async fn first_after(&mut self, revision: i64) -> Result<Leader> {
        let options = WatchOptions::new().with_prefix().with_start_revision(revision);
        let mut stream = self.client.watch(self.folder.clone(), Some(options)).await?;
        while let Some(answer) = stream.message().await? {
            if answer.canceled() {
                return Err(Error::WatchEnded(answer.cancel_reason().to_owned()));
            }
            let put = answer.events().iter().find(|event| event.event_type() == EventType::Put);
            if let Some(found) = put.and_then(etcd_client::Event::kv) {
                return Ok(Leader::from(found));
            }
        }
        Err(Error::WatchEnded("the server closed the stream".to_owned()))
    }
}

impl Following {
    async fn read(&mut self) -> Result<()> {
        let Some(answer) = self.stream.message().await? else {
            return Err(Error::WatchEnded("the server closed the stream".to_owned()));
        };
        if answer.canceled() {
            return Err(Error::WatchEnded(answer.cancel_reason().to_owned()));
        }
        for event in answer.events() {
            match event.event_type() {
                EventType::Put => self.told.extend(event.kv().map(Leader::from)),
                EventType::Delete => {
                    self.over = true;
                    break;
                }
            }
        }
        Ok(())
    }
}
