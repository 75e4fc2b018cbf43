//! What differs from run to run, or rightly between etcd and Coracle, replaced by names.
//!
//! Ids keep their identity: the first id of a session is `<id1>` wherever it appears, in
//! hexadecimal or (as `<id1.decimal>`) in JSON. Everything else is replaced by what it is:
//! `<term>`, `<size>`, `<version>`, `<time>`.

use regex::{Captures, Regex};

/// Columns of `etcdctl`'s tables whose cells are masked, with the mask.
const MASKED_COLUMNS: [(&str, &str); 7] = [
    ("VERSION", "<version>"),
    ("DB SIZE", "<size>"),
    ("RAFT TERM", "<term>"),
    ("RAFT INDEX", "<index>"),
    ("RAFT APPLIED INDEX", "<index>"),
    ("TOOK", "<time>"),
    ("SIZE", "<size>"),
];

/// Patterns masked in any line, each with its replacement.
const PATTERNS: [(&str, &str); 11] = [
    (r"remaining\(\d+s\)", "remaining(<ttl>)"),
    (r#""ttl":\d+,"granted"#, r#""ttl":<ttl>,"granted"#),
    (r#"("[Tt][Tt][Ll]" ?: ?)\d+$"#, r#"$1<ttl>"#),
    (r#""(raft_term|raftTerm|RaftTerm)"( ?: ?)\d+"#, r#""$1"$2<term>"#),
    (r#""(raftIndex|RaftIndex|raftAppliedIndex|RaftAppliedIndex)"( ?: ?)\d+"#, r#""$1"$2<index>"#),
    (r#""(dbSize|DBSize|dbSizeInUse|DBSizeInUse)"( ?: ?)\d+"#, r#""$1"$2<size>"#),
    (r#""(version|Version)"( ?: ?)"[0-9.]+""#, r#""$1"$2"<version>""#),
    (r#""(took|Took)"( ?: ?)"[^"]+""#, r#""$1"$2"<time>""#),
    (r"took ?= ?[0-9.]+[a-zµ]+", "took = <time>"),
    (r"[Tt]ook [0-9.]+[a-zµ]+", "took <time>"),
    // `endpoint status`: release, size, leader, learner, term, index, applied index.
    (
        r", [0-9.]+, [0-9.]+ [kMG]?B, (true|false), (true|false), \d+, \d+, \d+,",
        ", <version>, <size>, $1, $2, <term>, <index>, <index>,",
    ),
];

/// The names given in one session.
pub(crate) struct Masks {
    /// Texts that the harness knows, longest first: addresses, the temporary folder.
    known: Vec<(String, String)>,
    ids: Vec<u64>,
    patterns: Vec<(Regex, &'static str)>,
    id: Regex,
    padding: Regex,
}

impl Masks {
    /// Masks that replace each first text of `known` by its second.
    pub(crate) fn new(mut known: Vec<(String, String)>) -> anyhow::Result<Masks> {
        known.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        let patterns = PATTERNS
            .iter()
            .map(|(pattern, mask)| Ok((Regex::new(pattern)?, *mask)))
            .collect::<anyhow::Result<_>>()?;
        // Ids are 64 random bits: shorter than twelve hexadecimal digits is a matter of luck.
        let id = Regex::new(r"\b([0-9a-f]{12,16}|\d{12,20})\b")?;
        let padding = Regex::new(r" +(<id\d)")?;
        Ok(Masks { known, ids: Vec::new(), patterns, id, padding })
    }

    /// Masks the lines of one output.
    pub(crate) fn apply(&mut self, lines: &[String]) -> Vec<String> {
        let mut masked = Vec::new();
        let mut columns = Vec::new();
        for line in lines {
            let mut line = self.mask_known(line);
            // JSON and `-w fields` print ids in decimal.
            let decimal = line.starts_with(['{', '[', '"']);
            line = self.mask_ids(&line, decimal);
            line = mask_table(&line, &mut columns);
            line = sort_list(&line);
            for (pattern, mask) in &self.patterns {
                line = pattern.replace_all(&line, *mask).into_owned();
            }
            masked.push(line);
        }
        masked
    }

    /// Puts names where `text` has an address or the folder.
    pub(crate) fn mask_known(&self, text: &str) -> String {
        let mut text = text.to_string();
        for (actual, name) in &self.known {
            text = text.replace(actual, name);
        }
        text
    }

    /// Puts actual texts and ids where `text` has their names.
    pub(crate) fn undo(&self, text: &str) -> String {
        let mut text = text.to_string();
        for (actual, name) in &self.known {
            text = text.replace(name, actual);
        }
        for (index, id) in self.ids.iter().enumerate() {
            text = text.replace(&format!("<id{}>", index + 1), &format!("{id:x}"));
        }
        text
    }

    fn mask_ids(&mut self, line: &str, decimal: bool) -> String {
        let ids = &mut self.ids;
        let mask = |captures: &Captures<'_>| {
            let text = &captures[0];
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let value = match digits && decimal {
                true => text.parse().ok(),
                false => u64::from_str_radix(text, 16).ok(),
            };
            let Some(value) = value else { return text.to_string() };
            let index = ids.iter().position(|id| *id == value).unwrap_or_else(|| {
                ids.push(value);
                ids.len() - 1
            });
            match digits && decimal {
                true => format!("<id{}.decimal>", index + 1),
                false => format!("<id{}>", index + 1),
            }
        };
        let masked = self.id.replace_all(line, mask).into_owned();
        // Some outputs pad an id to sixteen digits.
        self.padding.replace_all(&masked, " $1").into_owned()
    }
}

/// Lists that come in the order of ids or of a hash map, with what stands before each, what
/// separates their elements, and what follows.
const UNORDERED_LISTS: [(&str, &str, &str); 2] =
    [("attached keys([", " ", "])"), ("ETCD_INITIAL_CLUSTER=\"", ",", "\"")];

/// A line whose unordered list, if it ends in one, is sorted.
fn sort_list(line: &str) -> String {
    for (title, separator, end) in UNORDERED_LISTS {
        if let Some((head, list)) = line.split_once(title)
            && let Some(list) = list.strip_suffix(end)
        {
            let mut elements: Vec<&str> = list.split(separator).collect();
            elements.sort_unstable();
            return format!("{head}{title}{}{end}", elements.join(separator));
        }
    }
    line.to_string()
}

/// A line of a table with single spaces and masked cells; `columns` holds the table's titles.
fn mask_table(line: &str, columns: &mut Vec<String>) -> String {
    if line.starts_with("+-") {
        return "+---+".to_string();
    }
    let Some(cells) = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) else {
        columns.clear();
        return line.to_string();
    };
    let mut cells: Vec<String> = cells.split('|').map(|cell| cell.trim().to_string()).collect();
    if columns.is_empty() {
        columns.clone_from(&cells);
    } else {
        for (cell, column) in cells.iter_mut().zip(columns.iter()) {
            if let Some((_, mask)) = MASKED_COLUMNS.iter().find(|(title, _)| title == column) {
                *cell = mask.to_string();
            }
        }
    }
    format!("| {} |", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(masks: &mut Masks, line: &str) -> String {
        masks.apply(&[line.to_string()]).remove(0)
    }

    #[test]
    fn ids_keep_their_identity_across_notations() {
        let mut masks = Masks::new(vec![("127.0.0.1:1234".into(), "<client1>".into())]).unwrap();
        let json = r#"{"cluster_id":14841639068965178418,"raft_term":3}"#;
        assert_eq!(apply(&mut masks, json), r#"{"cluster_id":<id1.decimal>,"raft_term":<term>}"#);
        assert_eq!(apply(&mut masks, "cdf818194e3a8c32 at 127.0.0.1:1234"), "<id1> at <client1>");
        assert_eq!(masks.undo("remove <id1> <client1>"), "remove cdf818194e3a8c32 127.0.0.1:1234");
    }

    #[test]
    fn tables_lose_their_padding_and_their_accidents() {
        let mut masks = Masks::new(Vec::new()).unwrap();
        let lines = ["+----+", "|  VERSION | HEALTH |", "| 3.5.1 | true |"].map(str::to_string);
        assert_eq!(masks.apply(&lines), ["+---+", "| VERSION | HEALTH |", "| <version> | true |"]);
    }
}
