//! Alarms: replicated facts about members that need an operator (NOSPACE, CORRUPT). MNT-01.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::api::etcdserverpb::alarm_request::AlarmAction;
use crate::api::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType};
use crate::backend::{Backend, Bucket, Contents};
use crate::error::{Fatal, hex};

/// The raised alarms, shared by apply (the only writer) and the checks before a proposal.
pub struct Alarms {
    backend: Arc<Backend>,
    raised: Mutex<BTreeSet<(i32, u64)>>,
}

impl Alarms {
    pub fn open(backend: Arc<Backend>) -> Result<Alarms, Fatal> {
        let alarms = Alarms { backend, raised: Mutex::new(BTreeSet::new()) };
        alarms.reload()?;
        Ok(alarms)
    }

    /// Reads the alarms again, after a raft snapshot replaced the backend.
    pub fn reload(&self) -> Result<(), Fatal> {
        let mut raised = BTreeSet::new();
        for (key, _) in self.backend.all(Bucket::Alarm)? {
            raised.insert(alarm_of_key(&key)?);
        }
        *self.lock() = raised;
        Ok(())
    }

    /// Applies an alarm command; answers the alarms it touched.
    pub fn apply(&self, request: &AlarmRequest) -> Vec<AlarmMember> {
        let mut raised = self.lock();
        let alarm = (request.alarm, request.member_id);
        match request.action() {
            AlarmAction::Get => list(&raised, request.alarm()),
            AlarmAction::Activate if request.alarm() == AlarmType::None => Vec::new(),
            AlarmAction::Activate => {
                raised.insert(alarm);
                self.backend.put(Bucket::Alarm, alarm_key(alarm), Bytes::new());
                vec![member(alarm)]
            }
            AlarmAction::Deactivate => {
                if !raised.remove(&alarm) {
                    return Vec::new();
                }
                self.backend.delete(Bucket::Alarm, alarm_key(alarm));
                vec![member(alarm)]
            }
        }
    }

    /// The raised alarms of one kind, or of all kinds for [`AlarmType::None`].
    pub fn list(&self, alarm: AlarmType) -> Vec<AlarmMember> {
        list(&self.lock(), alarm)
    }

    /// Whether any member raised `alarm`.
    pub fn is_raised(&self, alarm: AlarmType) -> bool {
        self.lock().iter().any(|(kind, _)| *kind == alarm as i32)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<(i32, u64)>> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn list(raised: &BTreeSet<(i32, u64)>, alarm: AlarmType) -> Vec<AlarmMember> {
    raised
        .iter()
        .filter(|(kind, _)| alarm == AlarmType::None || *kind == alarm as i32)
        .map(|raised| member(*raised))
        .collect()
}

fn member((alarm, member_id): (i32, u64)) -> AlarmMember {
    AlarmMember { member_id, alarm }
}

/// The stored key of an alarm: its kind and its member.
pub(crate) fn alarm_key((alarm, member_id): (i32, u64)) -> Bytes {
    let mut key = Vec::with_capacity(12);
    key.extend_from_slice(&alarm.to_be_bytes());
    key.extend_from_slice(&member_id.to_be_bytes());
    key.into()
}

/// The alarm with this stored key.
pub(crate) fn alarm_of_key(key: &[u8]) -> Result<(i32, u64), Fatal> {
    let bytes: [u8; 12] =
        key.try_into().map_err(|_| Fatal::Backend(format!("alarm key {}", hex(key))))?;
    let (alarm, member) = bytes.split_at(4);
    let alarm = alarm.iter().fold(0, |number, byte| (number << 8) | i32::from(*byte));
    let member = member.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte));
    Ok((alarm, member))
}
