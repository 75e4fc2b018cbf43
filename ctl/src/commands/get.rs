//! `get`.

use coracle_core::api::etcdserverpb::range_request::{SortOrder, SortTarget};
use coracle_core::api::etcdserverpb::{RangeRequest, RangeResponse};
use futures_util::StreamExt;

use super::{Context, Exit, Failure, UNIMPLEMENTED, range};
use crate::args::{Command, Flag, Kind, Parsed};
use crate::client::{Client, RpcError};
use crate::format::{Format, Output, Style};
use crate::go::quote;

pub(super) const COMMAND: Command = Command {
    name: "get",
    usage: "[options] <key> [range_end]",
    short: "Gets the key or a range of keys",
    long: "",
    flags: &FLAGS,
    subcommands: &[],
    run: Some(|context| Box::pin(get(context))),
};

pub(super) const CONSISTENCY: Flag =
    Flag::new("consistency", Kind::Text, "l", "Linearizable(l) or Serializable(s)");

pub(super) static FLAGS: [Flag; 15] = [
    CONSISTENCY,
    Flag::switch("count-only", "Get only the count"),
    Flag::switch(
        "from-key",
        "Get keys that are greater than or equal to the given key using byte compare",
    ),
    Flag::switch("keys-only", "Get only the keys"),
    Flag::new("limit", Kind::Int64, "0", "Maximum number of results"),
    Flag::new("max-create-rev", Kind::Int64, "0", "Maximum create revision"),
    Flag::new("max-mod-rev", Kind::Int64, "0", "Maximum modification revision"),
    Flag::new("min-create-rev", Kind::Int64, "0", "Minimum create revision"),
    Flag::new("min-mod-rev", Kind::Int64, "0", "Minimum modification revision"),
    Flag::new("order", Kind::Text, "", "Order of results; ASCEND or DESCEND (ASCEND by default)"),
    Flag::switch("prefix", "Get keys with matching prefix"),
    Flag::switch("print-value-only", "Only write values when using the \"simple\" output format"),
    Flag::new("rev", Kind::Int64, "0", "Specify the kv revision"),
    Flag::new("sort-by", Kind::Text, "", "Sort target; CREATE, KEY, MODIFY, VALUE, or VERSION"),
    Flag::switch("stream", "Read the range in pieces, however long it is"),
];

async fn get(context: &Context<'_>) -> Result<(), Failure> {
    let request = request(&context.parsed)?;
    let client = context.client().await?;
    let response = if context.parsed.is_on("stream") {
        let stream = Box::pin(read_stream(&*client, request));
        context.within_timeout(stream).await?
    } else {
        context.within_timeout(client.range(request)).await?
    };
    let format = context.format()?;
    if context.parsed.is_on("count-only") && format != Format::Fields {
        return Err(Failure::arguments("--count-only is only for `--write-out=fields`"));
    }
    let value_only = context.parsed.is_on("print-value-only");
    if value_only && format != Format::Simple {
        return Err(Failure::arguments("print-value-only is only for `--write-out=simple`"));
    }
    let style = Style { hex: context.parsed.is_on("hex"), value_only };
    context.show_in(&Output::Get(response), style)
}

/// The pieces of a streamed range, put together; a member that cannot stream answers at once.
async fn read_stream(
    client: &dyn Client,
    request: RangeRequest,
) -> Result<RangeResponse, RpcError> {
    let mut pieces = client.range_stream(request.clone());
    let mut whole = RangeResponse::default();
    while let Some(piece) = pieces.next().await {
        let piece = match piece {
            // Also what a stream answers that has to be sorted or filtered: the caller is told.
            Err(error) if error.code == UNIMPLEMENTED && error.message.starts_with("unknown") => {
                return client.range(request).await;
            }
            piece => piece?.range_response.unwrap_or_default(),
        };
        whole.kvs.extend(piece.kvs);
        whole.header = piece.header.or(whole.header);
        whole.more |= piece.more;
        whole.count += piece.count;
    }
    Ok(whole)
}

/// What [`CONSISTENCY`] says.
pub(super) fn is_serializable(parsed: &Parsed) -> Result<bool, Failure> {
    match parsed.text("consistency") {
        "s" => Ok(true),
        "l" => Ok(false),
        other => {
            let message = format!("unknown consistency flag {}", quote(other.as_bytes()));
            Err(Failure::new(Exit::BadFeature, message))
        }
    }
}

/// The request that the arguments mean.
pub(super) fn request(parsed: &Parsed) -> Result<RangeRequest, Failure> {
    if parsed.arguments.is_empty() {
        return Err(Failure::arguments(
            "get command needs one argument as key and an optional argument as range_end",
        ));
    }
    let (key, range_end) = range(parsed)?;
    let (keys_only, count_only) = (parsed.is_on("keys-only"), parsed.is_on("count-only"));
    if keys_only && count_only {
        return Err(Failure::arguments(
            "`--keys-only` and `--count-only` cannot be set at the same time, choose one",
        ));
    }
    let serializable = is_serializable(parsed)?;
    let (sort_order, sort_target) = sort(parsed)?;
    Ok(RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        limit: parsed.int64("limit"),
        revision: parsed.int64("rev").max(0),
        sort_order: sort_order.into(),
        sort_target: sort_target.into(),
        serializable,
        keys_only,
        count_only,
        min_mod_revision: parsed.int64("min-mod-rev"),
        max_mod_revision: parsed.int64("max-mod-rev"),
        min_create_revision: parsed.int64("min-create-rev"),
        max_create_revision: parsed.int64("max-create-rev"),
    })
}

fn sort(parsed: &Parsed) -> Result<(SortOrder, SortTarget), Failure> {
    let bad = |what, value| Err(Failure::new(Exit::BadFeature, format!("bad sort {what} {value}")));
    let order = parsed.text("order");
    let order = match order.to_ascii_uppercase().as_str() {
        "" => SortOrder::None,
        "ASCEND" => SortOrder::Ascend,
        "DESCEND" => SortOrder::Descend,
        _ => return bad("order", order),
    };
    let target = parsed.text("sort-by");
    let target = match target.to_ascii_uppercase().as_str() {
        "" | "KEY" => SortTarget::Key,
        "CREATE" => SortTarget::Create,
        "MODIFY" => SortTarget::Mod,
        "VALUE" => SortTarget::Value,
        "VERSION" => SortTarget::Version,
        _ => return bad("target", target),
    };
    // Keys come in ascending order anyway: asking for it would cost the server a sort.
    if target == SortTarget::Key && order == SortOrder::Ascend {
        return Ok((SortOrder::None, target));
    }
    Ok((order, target))
}
