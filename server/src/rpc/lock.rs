//! `v3lockpb.Lock`. A call that is reset drops its future, and with it its place in the queue.

use super::{Method, unary};

pub(super) const METHODS: [Method; 2] =
    [unary!("v3lockpb.Lock" "Lock" lock), unary!("v3lockpb.Lock" "Unlock" unlock)];
