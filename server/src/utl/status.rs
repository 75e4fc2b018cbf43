//! `snapshot status`: what is in a file of etcd's, and whether it is whole.

use coracle_core::mvcc::Change;
use coracle_ctl::args::Parsed;
use serde::Serialize;

use super::{Failure, Shown, check_format, only_argument, show, snapshot_file};

/// etcd's fields, by its names.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    /// CRC-32C of the buckets' names, keys and values.
    hash: u32,
    revision: i64,
    total_key: u64,
    total_size: u64,
    /// The storage version, which files have since etcd 3.6. What etcdutl 3.5 prints of an older
    /// file has no such column, and so has what is printed here.
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
}

pub(super) fn status(parsed: &Parsed) -> Result<String, Failure> {
    let path = only_argument(parsed, "snapshot status requires exactly one argument")?;
    // The file first: so does etcdutl.
    snapshot_file::open_file(&path)?;
    check_format(parsed)?;
    let database = snapshot_file::open(&path)?;
    let mut status = Status { total_size: database.size(), ..Status::default() };
    let mut hash = 0;
    snapshot_file::for_each(&database, |bucket, entry| {
        let Some((key, value)) = entry else {
            hash = crc32c::crc32c_append(hash, bucket.as_bytes());
            return Ok(());
        };
        hash = crc32c::crc32c_append(crc32c::crc32c_append(hash, &key), &value);
        status.total_key += 1;
        match bucket {
            "key" => status.revision = revision(&key)?,
            "meta" if &key[..] == b"storageVersion" => {
                status.version = String::from_utf8_lossy(&value).into_owned();
            }
            _ => {}
        }
        Ok(())
    })?;
    status.hash = hash;
    show(parsed, shown(&status))
}

fn revision(key: &[u8]) -> Result<i64, Failure> {
    let change = Change::from_stored_key(key);
    let change = change.ok_or_else(|| Failure::error(format!("{key:02x?} is no revision")))?;
    Ok(change.main)
}

fn shown(status: &Status) -> Shown<'_, Status> {
    let mut columns = vec![
        ("HASH", format!("{:x}", status.hash)),
        ("REVISION", status.revision.to_string()),
        ("TOTAL KEYS", status.total_key.to_string()),
        ("TOTAL SIZE", coracle_ctl::go::humanize_bytes(status.total_size)),
    ];
    let mut fields = vec![
        ("Hash", status.hash.to_string()),
        ("Revision", status.revision.to_string()),
        ("Keys", status.total_key.to_string()),
        ("Size", status.total_size.to_string()),
    ];
    if !status.version.is_empty() {
        columns.push(("VERSION", status.version.clone()));
        fields.push(("Version", status.version.clone()));
    }
    Shown { columns, fields, json: status }
}
