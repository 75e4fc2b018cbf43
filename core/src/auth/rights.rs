//! What one user may do: the union of the permissions of its roles.

use bytes::Bytes;

use super::ROOT_ROLE;
use crate::api::authpb::permission::Type;
use crate::api::authpb::{Permission, Role};
use crate::mvcc::{KeyRange, KeySet};

/// A user's rights. Adjacent and overlapping permissions count as one range (AUTH-05).
#[derive(Debug, Default)]
pub struct Rights {
    /// Has the role root: everything is permitted.
    admin: bool,
    read: KeySet<Bytes>,
    write: KeySet<Bytes>,
}

impl Rights {
    /// The rights of a user with the roles of these names; `find` gives a role.
    pub(super) fn of_roles<'r>(
        names: &[String],
        find: impl Fn(&str) -> Option<&'r Role>,
    ) -> Rights {
        let mut rights =
            Rights { admin: names.iter().any(|name| name == ROOT_ROLE), ..Rights::default() };
        // Whoever may do everything needs no ranges.
        for role in names.iter().filter(|_| !rights.admin).filter_map(|name| find(name)) {
            for permission in &role.key_permission {
                // A kind that is not known here permits nothing.
                let Ok(kind) = Type::try_from(permission.perm_type) else { continue };
                let (from, end) = interval(permission);
                if matches!(kind, Type::Read | Type::Readwrite) {
                    rights.read.insert_interval(from.clone(), end.clone());
                }
                if matches!(kind, Type::Write | Type::Readwrite) {
                    rights.write.insert_interval(from, end);
                }
            }
        }
        rights
    }

    pub fn is_admin(&self) -> bool {
        self.admin
    }

    pub fn may_read(&self, range: &KeyRange<'_>) -> bool {
        self.admin || self.read.covers(range)
    }

    pub fn may_write(&self, range: &KeyRange<'_>) -> bool {
        self.admin || self.write.covers(range)
    }
}

/// The keys of a permission, from the first to before the second, or to the last. A single key is
/// the interval to the next possible one, so that single keys join ranges that they touch.
fn interval(permission: &Permission) -> (Bytes, Option<Bytes>) {
    let key = permission.key.clone();
    match &permission.range_end[..] {
        [] => {
            let next = [&key[..], &[0]].concat().into();
            (key, Some(next))
        }
        [0] => (key, None),
        _ => (key, Some(permission.range_end.clone())),
    }
}

/// Whether a permission's range is one: it has a key, and does not end before it (AUTH-05).
pub(super) fn is_range(key: &[u8], range_end: &[u8]) -> bool {
    !key.is_empty() && (matches!(range_end, [] | [0]) || key < range_end)
}
