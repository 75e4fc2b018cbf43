//! Questions whose answers may take long, or be lost on the way.

use std::time::Duration;

use futures_util::future::{BoxFuture, select_all};
use openraft::AsyncRuntime;

/// The first answer to `ask`, which is made again after `pause`, and then after twice as long each
/// time, for as long as there is none. Earlier questions stay open: on a slow way the answer to the
/// first comes first, on one that loses messages that to a later one.
///
/// It returns when the first question gives up, if each has a deadline, or not at all.
pub(crate) async fn ask_until_answered<'a, R, T>(
    mut pause: Duration,
    mut ask: impl FnMut() -> BoxFuture<'a, T>,
) -> T
where
    R: AsyncRuntime,
    T: Send,
{
    let mut asked = Vec::new();
    loop {
        asked.push(ask());
        if let Ok((answer, ..)) = R::timeout(pause, select_all(asked.iter_mut())).await {
            return answer;
        }
        pause *= 2;
    }
}
