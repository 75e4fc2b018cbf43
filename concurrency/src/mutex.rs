//! A lock that many processes share (`concurrency.Mutex`).

use etcd_client::Compare;

use crate::queue::{self, Leaving, Place};
use crate::session::while_alive;
use crate::{Error, Result, Session};

/// A mutex for the holder of a session. Two mutexes of one session and one name are one contender:
/// use a session per contender.
///
/// A lease can end while its owner is stopped or cut off, and the next in the queue then owns the
/// lock. Put [`Mutex::is_owner`] into every transaction that the lock protects.
pub struct Mutex<'a> {
    session: &'a Session,
    folder: Vec<u8>,
    place: Option<Place>,
}

impl<'a> Mutex<'a> {
    /// A mutex of `name`; contenders' keys stand under `name/`.
    pub fn new(session: &'a Session, name: impl AsRef<[u8]>) -> Self {
        Self { session, folder: queue::folder(name.as_ref()), place: None }
    }

    /// Waits in the queue until the lock is ours.
    ///
    /// # Errors
    /// [`Error::SessionExpired`] when the session ends meanwhile, and those of the server. The
    /// place in the queue is then given up.
    pub async fn lock(&mut self) -> Result<()> {
        let joined = queue::join(self.session, &self.folder, b"").await?;
        let leaving = Leaving::new(self.session.client(), joined.place.clone());
        if !joined.is_head() {
            let mut client = self.session.client();
            let waited = async {
                queue::wait_for_turn(&mut client, &self.folder, &joined.place).await?;
                // The session may have ended while we waited, and our key with it.
                let mine = client.get(joined.place.key.clone(), None).await?;
                let created = mine.kvs().first().map(etcd_client::KeyValue::create_revision);
                match created == Some(joined.place.revision) {
                    true => Ok(()),
                    false => Err(Error::SessionExpired),
                }
            };
            while_alive(self.session, waited).await?;
        }
        leaving.stay();
        self.place = Some(joined.place);
        Ok(())
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// [`Error::Locked`] when it is not, and those of the server.
    pub async fn try_lock(&mut self) -> Result<()> {
        let joined = queue::join(self.session, &self.folder, b"").await?;
        let leaving = Leaving::new(self.session.client(), joined.place.clone());
        if !joined.is_head() {
            leaving.leave().await?;
            return Err(Error::Locked);
        }
        leaving.stay();
        self.place = Some(joined.place);
        Ok(())
    }

    /// Gives the lock to the next in the queue.
    ///
    /// # Errors
    /// [`Error::NotLocked`] when it is not ours, also when the session ended meanwhile; those of
    /// the server, after which it can be tried again.
    pub async fn unlock(&mut self) -> Result<()> {
        let place = self.place.as_ref().ok_or(Error::NotLocked)?;
        let held = queue::leave(&mut self.session.client(), place).await?;
        self.place = None;
        if held { Ok(()) } else { Err(Error::NotLocked) }
    }

    /// True in a transaction exactly while this lock is held.
    ///
    /// # Errors
    /// [`Error::NotLocked`] before it is locked.
    pub fn is_owner(&self) -> Result<Compare> {
        self.place.as_ref().map(queue::is_held).ok_or(Error::NotLocked)
    }

    /// The key that stands for our place, while we hold the lock.
    pub fn key(&self) -> Option<&[u8]> {
        self.place.as_ref().map(|place| place.key.as_slice())
    }

    /// The revision at which our place was taken: it grows from owner to owner, a fencing token.
    pub fn revision(&self) -> Option<i64> {
        self.place.as_ref().map(|place| place.revision)
    }
}
