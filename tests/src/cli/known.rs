//! Where etcdctl 3.5.1 and our commands, which are those of 3.7, rightly print differently.
//!
//! | what | why |
//! |---|---|
//! | fields of `-w json` that 3.5.1 does not know, listed in [`NEWER`] | the messages have grown |
//! | the help before a complaint about a flag | 3.7 has more flags |
//! | `lease revoke -w protobuf` | 3.5.1 prints a Go struct into its complaint |
//! | `took` of `-w fields` | a time |
//! | the byte 0x7f in quotes | `\u007f` by the Go that 3.5.1 was built with, `\x7f` by later ones |
//!
//! The members of a cluster come in the order of their random ids: in JSON they are put in that of
//! their other fields. The keys of a lease come in any order, and are sorted.
//!
//! What the table and the generator leave out: flags that 3.5.1 does not have (`get
//! --min-mod-rev`, `del --range`), the text of a refused `move-leader` (3.5.1 swallows it), `member
//! update` of a learner (3.5.1 makes it a voter), and lists in the order of random ids.

/// JSON members that only newer releases have: what stands before their value.
const NEWER: [&str; 4] =
    [",\"storageVersion\":", ",\"dbSizeQuota\":", ",\"downgradeInfo\":", ",\"hash_revision\":"];

/// The lines without what is known to differ.
pub(super) fn evened(lines: Vec<String>) -> Vec<String> {
    let is_help = lines.first().is_some_and(|line| line == "NAME:");
    let from = match is_help {
        true => lines.iter().position(|line| line.starts_with("Error: ")).unwrap_or(0),
        false => 0,
    };
    let mut lines: Vec<String> = lines[from..].iter().map(|line| evened_line(line)).collect();
    // In `-w fields` only the keys of a lease are a list.
    let is_key = |line: &String| line.starts_with("\"Key\" : ");
    for keys in lines.chunk_by_mut(|one, other| is_key(one) && is_key(other)) {
        keys.sort();
    }
    lines
}

fn evened_line(line: &str) -> String {
    if line.starts_with("Error: marshal unsupported for type") {
        return "Error: protobuf not supported as output format".to_owned();
    }
    if line.starts_with("\"Took\" : ") {
        return "\"Took\" : <time>".to_owned();
    }
    let line = line.replace(r"\u007f", r"\x7f");
    keys_in_order(&members_in_order(&without_newer_fields(&line)))
}

fn keys_in_order(line: &str) -> String {
    const LIST: &str = "\"keys\":[\"";
    let Some((head, list)) = line.split_once(LIST) else { return line.to_owned() };
    let Some((list, rest)) = list.split_once("\"]") else { return line.to_owned() };
    let mut keys: Vec<&str> = list.split("\",\"").collect();
    keys.sort_unstable();
    format!("{head}{LIST}{}\"]{rest}", keys.join("\",\""))
}

fn members_in_order(line: &str) -> String {
    const LIST: &str = "\"members\":[{";
    let Some((head, list)) = line.split_once(LIST) else { return line.to_owned() };
    let Some((list, rest)) = list.split_once("}]") else { return line.to_owned() };
    let mut members: Vec<&str> = list.split("},{").collect();
    members.sort_by_key(|member| member.split_once(',').map(|(_, other)| other.to_owned()));
    format!("{head}{LIST}{}}}]{rest}", members.join("},{"))
}

fn without_newer_fields(line: &str) -> String {
    let mut line = line.to_owned();
    for name in NEWER {
        while let Some(start) = line.find(name) {
            let value = &line[start + name.len()..];
            let length = match value.as_bytes().first() {
                Some(b'"') => value[1..].find('"').map(|end| end + 2),
                Some(b'{') => value.find('}').map(|end| end + 1),
                _ => value.find([',', '}']),
            };
            let end = length.map_or(line.len(), |length| start + name.len() + length);
            line.replace_range(start..end, "");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_fields_are_left_out() {
        let line = r#"{"version":"3","storageVersion":"3.7.0","dbSizeQuota":5,"downgradeInfo":{}}"#;
        assert_eq!(without_newer_fields(line), r#"{"version":"3"}"#);
        assert_eq!(without_newer_fields(r#"[{"hash":1,"hash_revision":13}]"#), r#"[{"hash":1}]"#);
    }

    #[test]
    fn the_keys_of_a_lease_come_in_their_order() {
        let line = r#"{"ttl":9,"keys":["YmI=","YQ=="]}"#;
        assert_eq!(evened_line(line), r#"{"ttl":9,"keys":["YQ==","YmI="]}"#);
        let lines = ["\"TTL\" : 9", "\"Key\" : \"b\"", "\"Key\" : \"a\""].map(str::to_owned);
        assert_eq!(evened(lines.to_vec())[1..], ["\"Key\" : \"a\"", "\"Key\" : \"b\""]);
    }

    #[test]
    fn members_come_in_the_order_of_what_is_not_random() {
        let line = r#"{"members":[{"ID":2,"name":"b"},{"ID":9,"name":"a"}],"x":[]}"#;
        let evened = r#"{"members":[{"ID":9,"name":"a"},{"ID":2,"name":"b"}],"x":[]}"#;
        assert_eq!(members_in_order(line), evened);
    }
}
