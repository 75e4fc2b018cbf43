//! `put`.

use coracle_core::api::etcdserverpb::PutRequest;

use super::{Context, Failure};
use crate::args::{Command, Flag, Kind, Parsed};
use crate::environment::Environment;
use crate::format::Output;
use crate::go::parse_i64;

const COUNT: &str = "put command needs 1 argument and input from stdin or 2 arguments";

pub(super) const COMMAND: Command = Command {
    name: "put",
    usage: "[options] <key> <value> (<value> can also be given from stdin)",
    short: "Puts the given key into the store",
    long: "Puts the given key into the store.\n\
           \n\
           A <value> that begins with '-' is taken for a flag.\n\
           Insert '--' before it:\n\
           \n\
           $ put <key> -- <value>\n\
           $ put -- <key> <value>\n\
           \n\
           If <value> isn't given as a command line argument and '--ignore-value' is not \
           specified,\n\
           this command reads the value from standard input:\n\
           \n\
           $ cat file | put <key>\n\
           will store the content of the file to <key>.",
    flags: &FLAGS,
    subcommands: &[],
    run: Some(|context| Box::pin(put(context))),
};

pub(super) static FLAGS: [Flag; 4] = [
    Flag::switch("ignore-lease", "updates the key using its current lease"),
    Flag::switch("ignore-value", "updates the key using its current value"),
    Flag::new("lease", Kind::Text, "0", "lease ID (in hexadecimal) to attach to the key"),
    Flag::switch("prev-kv", "return the previous key-value pair before modification"),
];

async fn put(context: &Context<'_>) -> Result<(), Failure> {
    let request = request(&context.parsed, Some(context.environment)).await?;
    let client = context.client().await?;
    let response = context.within_timeout(client.put(request)).await?;
    context.show(&Output::Put(response))
}

/// The request that the arguments mean. A value that is not among them is read from the standard
/// input of `host`; inside a transaction there is none to read, as the rest is the transaction.
pub(super) async fn request(
    parsed: &Parsed,
    host: Option<&dyn Environment>,
) -> Result<PutRequest, Failure> {
    let ignore_value = parsed.is_on("ignore-value");
    let Some(key) = parsed.arguments.first() else { return Err(Failure::arguments(COUNT)) };
    let value = match parsed.arguments.get(1) {
        Some(_) if ignore_value => {
            return Err(Failure::arguments(
                "put command needs only 1 argument when 'ignore-value' is set",
            ));
        }
        Some(value) => value.clone(),
        None if ignore_value => Vec::new(),
        None => match host {
            Some(host) => standard_input(host).await?,
            None => return Err(Failure::arguments(COUNT)),
        },
    };
    let lease = parse_i64(parsed.text("lease"), 16).map_err(|error| {
        Failure::arguments(format!("bad lease ID ({error}), expecting ID in Hex"))
    })?;
    Ok(PutRequest {
        key: key.clone().into(),
        value: value.into(),
        lease,
        prev_kv: parsed.is_on("prev-kv"),
        ignore_value,
        ignore_lease: parsed.is_on("ignore-lease"),
    })
}

async fn standard_input(environment: &dyn Environment) -> Result<Vec<u8>, Failure> {
    let mut value = Vec::new();
    while let Ok(Some(line)) = environment.read_line().await {
        value.extend_from_slice(&line);
    }
    if value.is_empty() { Err(Failure::arguments(COUNT)) } else { Ok(value) }
}
