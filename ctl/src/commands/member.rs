//! `member list`, `add`, `remove`, `update` and `promote`.

use coracle_core::api::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberPromoteRequest,
    MemberRemoveRequest, MemberUpdateRequest,
};

use super::get::{CONSISTENCY, is_serializable};
use super::{Context, Exit, Failure, parse_member};
use crate::args::{Command, Flag, Kind};
use crate::format::{Format, Output};
use crate::go::quote;

pub(super) const COMMAND: Command = Command {
    name: "member",
    usage: "<subcommand>",
    short: "Membership related commands",
    long: "",
    flags: &[],
    subcommands: &[
        Command {
            name: "add",
            usage: "<memberName> [options]",
            short: "Adds a member into the cluster",
            long: "",
            flags: &ADD_FLAGS,
            subcommands: &[],
            run: Some(|context| Box::pin(add(context))),
        },
        Command {
            name: "list",
            usage: "",
            short: "Lists all members in the cluster",
            long: "When --write-out is set to simple, this command prints out comma-separated \
                   member lists for each endpoint.\n\
                   The items in the lists are ID, Status, Name, Peer Addrs, Client Addrs, Is \
                   Learner.",
            flags: &LIST_FLAGS,
            subcommands: &[],
            run: Some(|context| Box::pin(list(context))),
        },
        Command {
            name: "promote",
            usage: "<memberID>",
            short: "Promotes a non-voting member in the cluster",
            long: "Promotes a non-voting learner member to a voting one in the cluster.",
            flags: &[],
            subcommands: &[],
            run: Some(|context| Box::pin(promote(context))),
        },
        Command {
            name: "remove",
            usage: "<memberID>",
            short: "Removes a member from the cluster",
            long: "",
            flags: &[],
            subcommands: &[],
            run: Some(|context| Box::pin(remove(context))),
        },
        Command {
            name: "update",
            usage: "<memberID> [options]",
            short: "Updates a member in the cluster",
            long: "",
            flags: &UPDATE_FLAGS,
            subcommands: &[],
            run: Some(|context| Box::pin(update(context))),
        },
    ],
    run: None,
};

static ADD_FLAGS: [Flag; 2] = [
    Flag::switch("learner", "indicates if the new member is raft learner"),
    Flag::new("peer-urls", Kind::Text, "", "comma separated peer URLs for the new member."),
];
static UPDATE_FLAGS: [Flag; 1] =
    [Flag::new("peer-urls", Kind::Text, "", "comma separated peer URLs for the updated member.")];

static LIST_FLAGS: [Flag; 1] = [CONSISTENCY];

const NO_ID: &str = "member ID is not provided";

async fn list(context: &Context<'_>) -> Result<(), Failure> {
    let linearizable = !is_serializable(&context.parsed)?;
    let client = context.client().await?;
    let request = MemberListRequest { linearizable };
    let response = context.within_timeout(client.member_list(request)).await?;
    context.show(&Output::MemberList(response))
}

async fn add(context: &Context<'_>) -> Result<(), Failure> {
    let name = context.only_argument("member name not provided")?;
    let peer_ur_ls = peer_urls(context)?;
    let client = context.client().await?;
    check_urls(&peer_ur_ls)?;
    let request = MemberAddRequest { peer_ur_ls, is_learner: context.parsed.is_on("learner") };
    let response = context.within_timeout(client.member_add(request)).await?;
    let settings = settings_of_new_member(&name, context.parsed.text("peer-urls"), &response);
    context.show(&Output::MemberAdd(response))?;
    if context.format()? == Format::Simple {
        context.print(&settings);
    }
    Ok(())
}

/// What the new member is to be started with. It has no name yet in the reply.
fn settings_of_new_member(name: &str, peer_urls: &str, response: &MemberAddResponse) -> String {
    let id = response.member.as_ref().map_or(0, |member| member.id);
    let mut cluster = Vec::new();
    for member in &response.members {
        let name = if member.id == id { name } else { &member.name };
        cluster.extend(member.peer_ur_ls.iter().map(|url| format!("{name}={url}")));
    }
    let quote = |text: &str| quote(text.as_bytes());
    format!(
        "\nETCD_NAME={}\nETCD_INITIAL_CLUSTER={}\nETCD_INITIAL_ADVERTISE_PEER_URLS={}\n\
         ETCD_INITIAL_CLUSTER_STATE=\"existing\"",
        quote(name),
        quote(&cluster.join(",")),
        quote(peer_urls)
    )
}

async fn remove(context: &Context<'_>) -> Result<(), Failure> {
    let id = parse_member(&context.only_argument(NO_ID)?)?;
    let client = context.client().await?;
    let request = MemberRemoveRequest { id };
    let response = context.within_timeout(client.member_remove(request)).await?;
    context.show(&Output::MemberRemove(id, response))
}

async fn update(context: &Context<'_>) -> Result<(), Failure> {
    let id = parse_member(&context.only_argument(NO_ID)?)?;
    let peer_ur_ls = peer_urls(context)?;
    let client = context.client().await?;
    check_urls(&peer_ur_ls)?;
    let request = MemberUpdateRequest { id, peer_ur_ls };
    let response = context.within_timeout(client.member_update(request)).await?;
    context.show(&Output::MemberUpdate(id, response))
}

async fn promote(context: &Context<'_>) -> Result<(), Failure> {
    let id = parse_member(&context.only_argument(NO_ID)?)?;
    let client = context.client().await?;
    let request = MemberPromoteRequest { id };
    let response = context.within_timeout(client.member_promote(request)).await?;
    context.show(&Output::MemberPromote(id, response))
}

fn peer_urls(context: &Context<'_>) -> Result<Vec<String>, Failure> {
    match context.parsed.text("peer-urls") {
        "" => Err(Failure::arguments("member peer urls not provided")),
        urls => Ok(urls.split(',').map(str::to_string).collect()),
    }
}

/// What Go's `url.Parse` says of a text in which a colon comes first, or follows what is no scheme.
fn unparsable(url: &str) -> Option<&'static str> {
    if url.starts_with(':') {
        return Some("missing protocol scheme");
    }
    let segment = url.split('/').next().unwrap_or_default();
    let has_scheme = url.starts_with(|first: char| first.is_ascii_alphabetic());
    (!has_scheme && segment.contains(':'))
        .then_some("first path segment in URL cannot contain colon")
}

/// The rules that etcd's own client applies before it sends URLs (Go's `types.NewURLs`).
fn check_urls(urls: &[String]) -> Result<(), Failure> {
    for url in urls {
        if let Some(complaint) = unparsable(url.trim()) {
            return Err(Failure::new(Exit::Error, format!("parse \"{url}\": {complaint}")));
        }
        let complaint = match url.trim().split_once("://") {
            Some(("unix" | "unixs", _)) => None,
            Some(("http" | "https", rest)) => {
                let (address, path) = match rest.find('/') {
                    Some(slash) => rest.split_at(slash),
                    None => (rest, ""),
                };
                if address.rsplit_once(':').is_none() || address.ends_with(']') {
                    Some("URL address does not have the form \"host:port\"")
                } else if !path.is_empty() {
                    Some("URL must not contain a path")
                } else {
                    None
                }
            }
            _ => Some("URL scheme must be http, https, unix, or unixs"),
        };
        if let Some(complaint) = complaint {
            return Err(Failure::new(Exit::Error, format!("{complaint}: {url}")));
        }
    }
    Ok(())
}
