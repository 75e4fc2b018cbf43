//! `lock`: holds a named lock until a signal, or for as long as a program runs.

use super::session::{Ended, Place, Session, canceled};
use super::{Context, Exit, Failure};
use crate::args::{Command, Flag, Kind};
use crate::format::Output;
use crate::go::exit_text;

pub(super) const COMMAND: Command = Command {
    name: "lock",
    usage: "<lockname> [exec-command arg1 arg2 ...]",
    short: "Acquires a named lock",
    long: "",
    flags: &FLAGS,
    subcommands: &[],
    run: Some(|context| Box::pin(lock(context))),
};

static FLAGS: [Flag; 1] = [Flag::new("ttl", Kind::Int64, "10", "timeout for session")];

async fn lock(context: &Context<'_>) -> Result<(), Failure> {
    let [name, command @ ..] = context.arguments() else {
        return Err(Failure::arguments(
            "lock takes a lock name argument and an optional command to execute",
        ));
    };
    let client = context.patient_client(context.connection().await?).await?;
    let mut session = Session::begin(context, &*client, context.parsed.int64("ttl")).await?;
    let place = session.queue_up(name, b"").await?;
    let owned = match session.run(place.wait()).await {
        Ended::Done(owned) => owned,
        // Nobody should wait for somebody who does not.
        Ended::Signalled => {
            place.leave().await?;
            return Err(canceled());
        }
        Ended::Expired => return Err(expired()),
    };
    let owned = match owned {
        Ok(owned) => owned,
        Err(failure) => {
            // The first failure is the one to be told of, and soon.
            let _ = context.within_timeout(Box::pin(place.leave())).await;
            return Err(failure);
        }
    };
    if owned.kvs.is_empty() {
        return Err(Failure::new(Exit::Error, "mutex: session is expired"));
    }
    if !command.is_empty() {
        let revision = owned.header.unwrap_or_default().revision;
        return execute(context, &mut session, &place, command, revision).await;
    }
    context.show(&Output::Get(owned))?;
    match session.run(std::future::pending::<()>()).await {
        Ended::Expired => Err(Failure::new(Exit::Error, "session expired")),
        _ => Ok(place.leave().await?),
    }
}

fn expired() -> Failure {
    Failure::new(Exit::Error, "mutex: session is expired")
}

/// Runs the program, and lets the lock go when it has ended. Its exit code is the command's. A
/// signal is the program's to follow.
async fn execute(
    context: &Context<'_>,
    session: &mut Session<'_>,
    place: &Place<'_>,
    command: &[Vec<u8>],
    revision: i64,
) -> Result<(), Failure> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let command: Vec<_> = command.iter().map(|word| text(word)).collect();
    let variables = [
        ("ETCD_LOCK_KEY".to_owned(), text(&place.key)),
        ("ETCD_LOCK_REV".to_owned(), revision.to_string()),
    ];
    let mut program = context.environment.execute(&command, &variables);
    let ended = loop {
        match session.run(&mut program).await {
            Ended::Done(ended) => break ended,
            // The lock is lost, or not wanted any more, but the program runs.
            Ended::Signalled | Ended::Expired => {}
        }
    };
    let unlocked = place.leave().await;
    match ended {
        Ok(0) => Ok(unlocked?),
        // Go gives -1 for the code of a program that a signal has ended.
        Ok(code) => Err(Failure::new(Exit::Program(code.max(-1)), exit_text(code))),
        Err(error) => Err(Failure::new(Exit::Error, error)),
    }
}
