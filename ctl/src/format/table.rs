//! `-w table`: rows and headings, and how they are drawn.

use coracle_core::api::etcdserverpb::{HashKvResponse, Member, StatusResponse};

use super::{EndpointHealth, Output, Unsupported};
use crate::go::humanize_bytes;

pub(super) fn render(output: &Output) -> Result<Vec<u8>, Unsupported> {
    let (heading, rows) = rows(output).ok_or(Unsupported)?;
    Ok(draw(heading, &rows).into_bytes())
}

type Rows = (&'static [&'static str], Vec<Vec<String>>);

/// The table of `output`, if it is one that comes in tables.
pub(super) fn rows(output: &Output) -> Option<Rows> {
    Some(match output {
        Output::MemberList(response) => (
            &["ID", "STATUS", "NAME", "PEER ADDRS", "CLIENT ADDRS", "IS LEARNER"],
            response.members.iter().map(member).collect(),
        ),
        Output::EndpointHealth(list) => {
            (&["ENDPOINT", "HEALTH", "TOOK", "ERROR"], list.iter().map(health).collect())
        }
        Output::EndpointStatus(list) => (
            &[
                "ENDPOINT",
                "ID",
                "VERSION",
                "DB SIZE",
                "IS LEADER",
                "IS LEARNER",
                "RAFT TERM",
                "RAFT INDEX",
                "RAFT APPLIED INDEX",
                "ERRORS",
            ],
            list.iter().map(status).collect(),
        ),
        Output::EndpointHashKv(list) => (&["ENDPOINT", "HASH"], list.iter().map(hash_kv).collect()),
        _ => return None,
    })
}

fn member(member: &Member) -> Vec<String> {
    let status = if member.name.is_empty() { "unstarted" } else { "started" };
    vec![
        format!("{:x}", member.id),
        status.into(),
        member.name.clone(),
        member.peer_ur_ls.join(","),
        member.client_ur_ls.join(","),
        member.is_learner.to_string(),
    ]
}

fn health(health: &EndpointHealth) -> Vec<String> {
    let EndpointHealth { endpoint, is_healthy, took, error } = health.clone();
    vec![endpoint, is_healthy.to_string(), took, error]
}

fn status((endpoint, status): &(String, StatusResponse)) -> Vec<String> {
    let member_id = status.header.as_ref().map_or(0, |header| header.member_id);
    vec![
        endpoint.clone(),
        format!("{member_id:x}"),
        status.version.clone(),
        humanize_bytes(status.db_size.unsigned_abs()),
        (status.leader == member_id).to_string(),
        status.is_learner.to_string(),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        status.errors.join(", "),
    ]
}

fn hash_kv((endpoint, response): &(String, HashKvResponse)) -> Vec<String> {
    vec![endpoint.clone(), response.hash.to_string()]
}

/// Cells wider than this are wrapped between words.
const WRAP_WIDTH: usize = 30;

/// Headings centred, cells to the right, borders of `+`, `-` and `|`.
pub fn draw(heading: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = heading.iter().map(|cell| cell.len()).collect();
    let mut wrapped = Vec::with_capacity(rows.len());
    for row in rows {
        let cells: Vec<Vec<String>> = row.iter().map(|cell| wrap(cell)).collect();
        for ((column, cell), lines) in widths.iter_mut().zip(row).zip(&cells) {
            let lines = lines.iter().map(|line| width(line)).max().unwrap_or(0);
            // A cell that was wrapped takes the full width, whatever its lines need.
            *column = (*column).max(lines).max(width(cell).min(WRAP_WIDTH));
        }
        wrapped.push(cells);
    }
    let mut border = String::from("+");
    for column in &widths {
        border.push_str(&"-".repeat(column + 2));
        border.push('+');
    }
    border.push('\n');

    let mut text = border.clone();
    for (cell, column) in heading.iter().zip(&widths) {
        let space = column - cell.len();
        let left = space / 2;
        text.push_str(&format!("| {}{cell}{} ", " ".repeat(left), " ".repeat(space - left)));
    }
    text.push_str("|\n");
    text.push_str(&border);
    for cells in &wrapped {
        let height = cells.iter().map(Vec::len).max().unwrap_or(0);
        for line in 0..height {
            for (cell, column) in cells.iter().zip(&widths) {
                let cell = cell.get(line).map_or("", String::as_str);
                text.push_str(&format!("| {cell:>column$} "));
            }
            text.push_str("|\n");
        }
    }
    text.push_str(&border);
    text
}

fn width(text: &str) -> usize {
    text.chars().count()
}

/// Breaks a cell between words so that the squares of the space left on each line but the last
/// add up to the least.
fn wrap(cell: &str) -> Vec<String> {
    let words: Vec<&str> = cell.split([' ', '\n']).collect();
    let widest = words.iter().map(|word| width(word)).max().unwrap_or(0);
    let limit = widest.max(width(cell).min(WRAP_WIDTH));
    // The cheapest way to set the words from each index on: its cost, where its first line ends.
    let mut best = vec![(usize::MAX, words.len()); words.len()];
    for start in (0..words.len()).rev() {
        let mut line = 0;
        for end in start + 1..=words.len() {
            line += width(words[end - 1]) + usize::from(end > start + 1);
            if line > limit {
                break;
            }
            let cost = match best.get(end) {
                Some((rest, _)) => rest + (limit - line).pow(2),
                None => 0,
            };
            if cost < best[start].0 {
                best[start] = (cost, end);
            }
        }
    }
    let mut lines = Vec::new();
    let mut start = 0;
    while start < words.len() {
        let end = best[start].1;
        lines.push(words[start..end].join(" "));
        start = end;
    }
    lines
}
