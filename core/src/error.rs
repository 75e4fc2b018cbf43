//! Every error that a request can be answered with: gRPC code and etcd's exact text, in one table.
//!
//! Clients recover typed errors *by message text* (Go's `rpctypes`), so the texts are part of the
//! contract (ETCD.md 2.12, etcd `api/v3rpc/rpctypes/error.go`). An [`Error`] is a *reply*: the same
//! on every member when it comes out of `apply`. What must stop the member is a [`Fatal`], another
//! type, so that the compiler keeps the two apart.

use std::io;

macro_rules! codes {
    ($($code:ident = $number:literal,)*) => {
        /// gRPC status codes, by their numbers on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Code {
            $($code = $number,)*
        }

        impl Code {
            /// The name by which gRPC's texts call it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Code::$code => stringify!($code),)*
                }
            }
        }
    };
}

codes! {
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// Bytes that ought to make sense and do not, for the text of an error.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

macro_rules! errors {
    ($($name:ident $code:ident $message:literal;)*) => {
        /// A reply error. The variants of the table carry etcd's code and text; [`Error::Other`]
        /// carries a code and a text of its own, for what etcd has no entry for.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Error {
            $($name,)*
            Other(Code, String),
        }

        impl Error {
            /// The table: name, code and text.
            pub const TABLE: &'static [(&'static str, Code, &'static str)] =
                &[$((stringify!($name), Code::$code, $message),)*];

            /// The gRPC status code of the reply.
            pub fn code(&self) -> Code {
                match self {
                    $(Error::$name => Code::$code,)*
                    Error::Other(code, _) => *code,
                }
            }

            /// The status message of the reply, as clients compare it.
            pub fn message(&self) -> &str {
                match self {
                    $(Error::$name => $message,)*
                    Error::Other(_, message) => message,
                }
            }

            /// The error that a peer sent as `code` and `message`.
            pub fn from_wire(code: u32, message: String) -> Error {
                match message.as_str() {
                    $($message => Error::$name,)*
                    _ => Error::Other(Code::from_number(code), message),
                }
            }
        }
    };
}

errors! {
    EmptyKey InvalidArgument "etcdserver: key is not provided";
    KeyNotFound InvalidArgument "etcdserver: key not found";
    ValueProvided InvalidArgument "etcdserver: value is provided";
    LeaseProvided InvalidArgument "etcdserver: lease is provided";
    TooManyOps InvalidArgument "etcdserver: too many operations in txn request";
    DuplicateKey InvalidArgument "etcdserver: duplicate key given in txn request";
    InvalidClientAPIVersion InvalidArgument "etcdserver: invalid client api version";
    InvalidSortOption InvalidArgument "etcdserver: invalid sort option";
    Compacted OutOfRange "etcdserver: mvcc: required revision has been compacted";
    FutureRev OutOfRange "etcdserver: mvcc: required revision is a future revision";
    NoSpace ResourceExhausted "etcdserver: mvcc: database space exceeded";
    LeaseNotFound NotFound "etcdserver: requested lease not found";
    LeaseExist FailedPrecondition "etcdserver: lease already exists";
    LeaseTTLTooLarge OutOfRange "etcdserver: too large lease TTL";
    WatchCanceled Canceled "etcdserver: watch canceled";
    MemberExist FailedPrecondition "etcdserver: member ID already exist";
    PeerURLExist FailedPrecondition "etcdserver: Peer URLs already exists";
    MemberNotEnoughStarted FailedPrecondition "etcdserver: re-configuration failed due to not enough started members";
    MemberBadURLs InvalidArgument "etcdserver: given member URLs are invalid";
    MemberNotFound NotFound "etcdserver: member not found";
    MemberNotLearner FailedPrecondition "etcdserver: can only promote a learner member";
    LearnerNotReady FailedPrecondition "etcdserver: can only promote a learner member which is in sync with leader";
    TooManyLearners FailedPrecondition "etcdserver: too many learner members in cluster";
    ClusterIDMismatch FailedPrecondition "etcdserver: cluster ID mismatch";
    RequestTooLarge InvalidArgument "etcdserver: request is too large";
    RequestTooManyRequests ResourceExhausted "etcdserver: too many requests";
    RootUserNotExist FailedPrecondition "etcdserver: root user does not exist";
    RootRoleNotExist FailedPrecondition "etcdserver: root user does not have root role";
    UserAlreadyExist FailedPrecondition "etcdserver: user name already exists";
    UserEmpty InvalidArgument "etcdserver: user name is empty";
    UserNotFound FailedPrecondition "etcdserver: user name not found";
    RoleAlreadyExist FailedPrecondition "etcdserver: role name already exists";
    RoleNotFound FailedPrecondition "etcdserver: role name not found";
    RoleEmpty InvalidArgument "etcdserver: role name is empty";
    AuthFailed InvalidArgument "etcdserver: authentication failed, invalid user ID or password";
    PermissionNotGiven InvalidArgument "etcdserver: permission not given";
    PermissionDenied PermissionDenied "etcdserver: permission denied";
    RoleNotGranted FailedPrecondition "etcdserver: role is not granted to the user";
    PermissionNotGranted FailedPrecondition "etcdserver: permission is not granted to the role";
    AuthNotEnabled FailedPrecondition "etcdserver: authentication is not enabled";
    InvalidAuthToken Unauthenticated "etcdserver: invalid auth token";
    InvalidAuthMgmt InvalidArgument "etcdserver: invalid auth management";
    AuthOldRevision InvalidArgument "etcdserver: revision of auth store is old";
    NoLeader Unavailable "etcdserver: no leader";
    NotLeader FailedPrecondition "etcdserver: not leader";
    LeaderChanged Unavailable "etcdserver: leader changed";
    NotCapable FailedPrecondition "etcdserver: not capable";
    Stopped Unavailable "etcdserver: server stopped";
    Timeout Unavailable "etcdserver: request timed out";
    TimeoutDueToLeaderFail Unavailable "etcdserver: request timed out, possibly due to previous leader failure";
    TimeoutDueToConnectionLost Unavailable "etcdserver: request timed out, possibly due to connection lost";
    TimeoutWaitAppliedIndex Unavailable "etcdserver: request timed out, waiting for the applied index took too long";
    Unhealthy Unavailable "etcdserver: unhealthy cluster";
    Corrupt DataLoss "etcdserver: corrupt cluster";
    NotSupportedForLearner FailedPrecondition "etcdserver: rpc not supported for learner";
    BadLeaderTransferee FailedPrecondition "etcdserver: bad leader transferee";
    WrongDowngradeVersionFormat InvalidArgument "etcdserver: wrong downgrade target version format";
    InvalidDowngradeTargetVersion InvalidArgument "etcdserver: invalid downgrade target version";
    ClusterVersionUnavailable FailedPrecondition "etcdserver: cluster version not found during downgrade";
    DowngradeInProcess FailedPrecondition "etcdserver: cluster has a downgrade job in progress";
    NoInflightDowngrade FailedPrecondition "etcdserver: no inflight downgrade job";
    Canceled Canceled "etcdserver: request canceled";
    DeadlineExceeded DeadlineExceeded "etcdserver: context deadline exceeded";
    TimeoutLeaderTransfer Unknown "etcdserver: request timed out, leader transfer took too long";
}

impl Code {
    /// The code with this number; `Unknown` where there is none.
    pub fn from_number(number: u32) -> Code {
        match number {
            1 => Code::Canceled,
            3 => Code::InvalidArgument,
            4 => Code::DeadlineExceeded,
            5 => Code::NotFound,
            7 => Code::PermissionDenied,
            8 => Code::ResourceExhausted,
            9 => Code::FailedPrecondition,
            11 => Code::OutOfRange,
            12 => Code::Unimplemented,
            13 => Code::Internal,
            14 => Code::Unavailable,
            15 => Code::DataLoss,
            16 => Code::Unauthenticated,
            _ => Code::Unknown,
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Error {}

/// What stops the member: its storage failed or holds something that it must not trust.
///
/// It is never answered to a client as if the request alone had failed, and never retried: after a
/// failed fsync the kernel may have dropped the dirty pages (PERFORMANCE: "fsync failure").
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// Reading or writing `file` failed.
    #[error("{action} {file}: {source}")]
    Io { action: &'static str, file: String, source: io::Error },
    /// `file` holds bytes that no correct run could have left there.
    #[error("{file} is corrupt at offset {offset}: {detail}")]
    Corrupt { file: String, offset: u64, detail: String },
    /// The state backend failed or contradicts itself.
    #[error("the state backend failed: {0}")]
    Backend(String),
    /// An invariant of this program does not hold.
    #[error("{0}")]
    Invariant(String),
}

/// A reply or the error that is one, unless the member must stop.
pub type Answer<T> = Result<Result<T, Error>, Fatal>;
