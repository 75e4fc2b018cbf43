//! Simple tokens: random letters and the index of the log entry that gave them out (AUTH-03).
//!
//! Every member makes the token when it applies the entry, and keeps it in memory for some time
//! after its last use there. The clock is the caller's: applying an entry knows none, so a token's
//! time begins when the member is next told the time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use subtle::ConstantTimeEq;

use crate::limits::MAX_SIMPLE_TOKENS;

/// Random letters of a token.
pub const TOKEN_LETTERS: usize = 16;
const ALPHABET: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// The tokens that this member knows, by their index, which is no secret.
#[derive(Default)]
pub struct SimpleTokens {
    tokens: Mutex<BTreeMap<u64, Token>>,
}

struct Token {
    letters: String,
    user: String,
    /// `None` until the time is told.
    expires: Option<Duration>,
}

/// What is known of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It is this user's.
    User(String),
    /// This member has not given it out, or it has expired.
    Unknown,
    /// It claims to be given out by an entry behind `applied`, which may come yet.
    Ahead,
}

impl SimpleTokens {
    /// The letters of a new token; `random` gives 64 random bits.
    pub fn letters(mut random: impl FnMut() -> u64) -> String {
        // The remainder of 64 bits is uneven by less than one part in 2^58.
        (0..TOKEN_LETTERS).map(|_| char::from(ALPHABET[(random() % 52) as usize])).collect()
    }

    /// Gives a token out. The oldest goes where there are too many.
    pub(super) fn create(&self, index: u64, letters: &str, user: &str) -> String {
        let mut tokens = self.lock();
        if tokens.len() >= MAX_SIMPLE_TOKENS {
            tokens.pop_first();
        }
        let token = Token { letters: letters.to_owned(), user: user.to_owned(), expires: None };
        tokens.insert(index, token);
        format!("{letters}.{index}")
    }

    /// Whose token this is; using it lets it live for `ttl` from `now` on.
    pub fn look_up(&self, token: &str, applied: u64, now: Duration, ttl: Duration) -> Lookup {
        let Some((letters, index)) = token.split_once('.') else { return Lookup::Unknown };
        let Ok(index) = index.parse() else { return Lookup::Unknown };
        let mut tokens = self.lock();
        let Some(known) = tokens.get_mut(&index) else {
            return if index > applied { Lookup::Ahead } else { Lookup::Unknown };
        };
        let expired = known.expires.is_some_and(|expires| expires <= now);
        let same: bool = known.letters.as_bytes().ct_eq(letters.as_bytes()).into();
        if expired || !same {
            return Lookup::Unknown;
        }
        known.expires = Some(now.saturating_add(ttl));
        Lookup::User(known.user.clone())
    }

    /// Forgets what has expired, and begins the time of what is new.
    pub fn tick(&self, now: Duration, ttl: Duration) {
        self.lock().retain(|_, token| *token.expires.get_or_insert(now.saturating_add(ttl)) > now);
    }

    /// Forgets the tokens of `user`.
    pub(super) fn drop_user(&self, user: &str) {
        self.lock().retain(|_, token| token.user != user);
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Token>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SimpleTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} simple tokens", self.lock().len())
    }
}
