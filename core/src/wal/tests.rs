//! Damage of every kind, and what recovery makes of it.

use super::*;
use crate::platform::{FaultyDisk, MemoryDisk};

type Records = Vec<(Kind, Vec<u8>)>;

const SMALL: WalOptions = WalOptions { segment_bytes: 512, preallocate_bytes: 128 };
const FIRST: &str = "wal-0000000000000001";
const SECOND: &str = "wal-0000000000000002";

fn open(disk: &(impl Disk + Clone)) -> Result<(Wal, Records), Fatal> {
    let mut records = Vec::new();
    let wal = Wal::open(Arc::new(disk.clone()), SMALL, b"new", &mut |record| {
        records.push((record.kind, record.payload.to_vec()));
        Ok(())
    })?;
    Ok((wal, records))
}

/// Writes one batch of entries, and syncs it.
fn commit(wal: &mut Wal, payloads: &[&[u8]]) -> Vec<Position> {
    let mut batch = Batch::default();
    for payload in payloads {
        batch.push(Kind::Entry, |buffer| buffer.extend_from_slice(payload));
    }
    wal.write(&mut batch, || b"state".to_vec()).unwrap();
    wal.sync().unwrap();
    batch.positions().map(|(_, position)| position).collect()
}

fn entries(records: &Records) -> Vec<&[u8]> {
    let entries = records.iter().filter(|(kind, _)| *kind == Kind::Entry);
    entries.map(|(_, payload)| payload.as_slice()).collect()
}

fn contents(disk: &impl Disk, name: &str) -> Vec<u8> {
    let file = disk.open(name, false).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(0, &mut bytes).unwrap();
    bytes
}

/// A disk with the given files.
fn disk_with(files: &[(&str, &[u8])]) -> MemoryDisk {
    let disk = MemoryDisk::default();
    for (name, bytes) in files {
        disk.open(name, true).unwrap().write_at(0, bytes).unwrap();
    }
    disk
}

/// The file and offset that an opening complains about.
fn corrupt_at(disk: &(impl Disk + Clone)) -> (String, u64) {
    match open(disk) {
        Err(Fatal::Corrupt { file, offset, .. }) => (file, offset),
        Err(other) => panic!("another error: {other}"),
        Ok((_, records)) => panic!("opened with {} records", records.len()),
    }
}

#[test]
fn records_come_back_in_order_and_segments_start_with_the_state() {
    let disk = MemoryDisk::default();
    let (mut wal, records) = open(&disk).unwrap();
    assert!(records.is_empty());
    let mut positions = Vec::new();
    for index in 0..40u8 {
        positions.extend(commit(&mut wal, &[&[index; 30], &[]]));
    }
    assert!(wal.segments().size().unwrap().0 > 3);
    for (at, position) in positions.iter().enumerate() {
        let expected = if at % 2 == 0 { vec![at as u8 / 2; 30] } else { Vec::new() };
        assert_eq!(wal.segments().locate(*position).unwrap().read().unwrap(), expected);
    }
    let (_, records) = open(&disk).unwrap();
    assert_eq!(entries(&records).len(), 80);
    assert_eq!(entries(&records)[78], [39; 30]);
    let states: Vec<_> = records.iter().filter(|(kind, _)| *kind == Kind::Start).collect();
    assert_eq!(states[0].1, b"new");
    assert!(states[1..].iter().all(|(_, state)| state == b"state"));
}

#[test]
fn a_batch_larger_than_a_segment_has_one_for_itself() {
    let disk = MemoryDisk::default();
    let (mut wal, _) = open(&disk).unwrap();
    commit(&mut wal, &[b"small"]);
    commit(&mut wal, &[&[7; 2000]]);
    commit(&mut wal, &[b"small"]);
    assert_eq!(wal.segments().size().unwrap().0, 3);
    assert_eq!(entries(&open(&disk).unwrap().1), [b"small".as_slice(), &[7; 2000], b"small"]);
}

#[test]
fn removal_takes_segments_from_the_front_and_never_the_newest() {
    let disk = MemoryDisk::default();
    let (mut wal, _) = open(&disk).unwrap();
    let positions: Vec<_> = (0..40u8).flat_map(|_| commit(&mut wal, &[&[1; 60]])).collect();
    wal.remove_before(positions[20].segment).unwrap();
    let first = &disk.list().unwrap()[0];
    assert_eq!(*first, format!("wal-{:016x}", positions[20].segment));
    assert!(wal.segments().locate(positions[0]).is_err());
    wal.remove_before(u64::MAX).unwrap();
    assert_eq!(disk.list().unwrap().len(), 1);
    commit(&mut wal, &[b"more"]);
    assert_eq!(entries(&open(&disk).unwrap().1).last(), Some(&b"more".as_slice()));
}

/// The last batch is cut at every byte: the records before it stay, of itself only whole ones.
#[test]
fn a_torn_tail_is_dropped_wherever_it_is_cut() {
    let disk = MemoryDisk::default();
    let (mut wal, _) = open(&disk).unwrap();
    commit(&mut wal, &[b"one", b"two"]);
    let from = contents(&disk, FIRST);
    let last = commit(&mut wal, &[b"three", b"four"]);
    let whole = contents(&disk, FIRST);
    for cut in last[0].offset as usize..wal.end as usize {
        let rest = from.get(cut..).unwrap_or_default();
        let bytes = [&whole[..cut], rest].concat();
        let disk = disk_with(&[(FIRST, &bytes)]);
        let (mut wal, records) = open(&disk).unwrap();
        let kept = entries(&records);
        // Padding is zeroes, and so it cannot be torn.
        let third = cut >= last[0].offset as usize + record::HEADER_BYTES + b"three".len();
        assert_eq!(kept, [b"one".as_slice(), b"two", b"three"][..2 + usize::from(third)]);
        // Nothing of it is left to be mistaken for a record later.
        commit(&mut wal, &[b"after"]);
        let bytes = contents(&disk, FIRST);
        assert!(bytes[wal.end as usize..].iter().all(|byte| *byte == 0), "cut at {cut}");
        assert_eq!(entries(&open(&disk).unwrap().1).last(), Some(&b"after".as_slice()));
    }
}

/// A disk may keep the end of a batch and lose its beginning.
#[test]
fn a_last_batch_that_lost_its_first_record_is_dropped_whole() {
    let disk = MemoryDisk::default();
    let (mut wal, _) = open(&disk).unwrap();
    commit(&mut wal, &[b"one"]);
    let before = contents(&disk, FIRST);
    let last = commit(&mut wal, &[b"two", b"three"]);
    let mut bytes = contents(&disk, FIRST);
    let lost = last[0].offset as usize..last[1].offset as usize;
    bytes[lost.clone()].copy_from_slice(&before[lost]);
    let disk = disk_with(&[(FIRST, &bytes)]);
    assert_eq!(entries(&open(&disk).unwrap().1), [b"one"]);
    assert!(contents(&disk, FIRST)[last[0].offset as usize..].iter().all(|byte| *byte == 0));
}

/// Every single bit of what a later record proves to be durable.
#[test]
fn a_flipped_bit_in_the_middle_is_refused_with_file_and_offset() {
    let disk = FaultyDisk::default();
    let (mut wal, _) = open(&disk).unwrap();
    let mut starts = vec![0];
    starts.extend(commit(&mut wal, &[b"one", b"two!!"]).iter().map(|at| u64::from(at.offset)));
    starts.extend(commit(&mut wal, &[b"three"]).iter().map(|at| u64::from(at.offset)));
    let confirmed = commit(&mut wal, &[b"four"])[0].offset;
    for offset in 0..u64::from(confirmed) {
        for bit in 0..8 {
            disk.flip_bit(FIRST, offset, bit).unwrap();
            let damaged = starts.iter().rfind(|start| **start <= offset).unwrap();
            assert_eq!(corrupt_at(&disk), (FIRST.to_owned(), *damaged), "{offset} bit {bit}");
            disk.flip_bit(FIRST, offset, bit).unwrap();
        }
    }
    assert_eq!(entries(&open(&disk).unwrap().1).len(), 4);
}

#[test]
fn a_mark_proves_that_the_last_batch_was_durable() {
    let disk = FaultyDisk::default();
    let (mut wal, _) = open(&disk).unwrap();
    let offset = u64::from(commit(&mut wal, &[b"last"])[0].offset);
    let mut mark = Batch::default();
    mark.push(Kind::Mark, |_| {});
    assert!(wal.write_if_room(&mut mark).unwrap());
    disk.flip_bit(FIRST, offset + 21, 0).unwrap();
    assert_eq!(corrupt_at(&disk), (FIRST.to_owned(), offset));
}

#[test]
fn a_flipped_bit_in_an_earlier_segment_is_refused() {
    let disk = FaultyDisk::default();
    let (mut wal, _) = open(&disk).unwrap();
    let positions: Vec<_> = (0..20u8).flat_map(|_| commit(&mut wal, &[&[1; 60]])).collect();
    let in_first = positions.iter().filter(|position| position.segment == 1);
    for position in in_first {
        let offset = u64::from(position.offset);
        disk.flip_bit(FIRST, offset + 30, 5).unwrap();
        assert_eq!(corrupt_at(&disk), (FIRST.to_owned(), offset));
        disk.flip_bit(FIRST, offset + 30, 5).unwrap();
    }
    // The start of a segment too, the last one's included: entries follow it.
    for name in disk.list().unwrap() {
        disk.flip_bit(&name, 22, 1).unwrap();
        assert_eq!(corrupt_at(&disk), (name.clone(), 0));
        disk.flip_bit(&name, 22, 1).unwrap();
    }
}

#[test]
fn lost_writes_and_cut_segments_are_refused() {
    let disk = MemoryDisk::default();
    let (mut wal, _) = open(&disk).unwrap();
    let positions: Vec<_> = (0..12u8).flat_map(|at| commit(&mut wal, &[&[at; 60]])).collect();
    let (first, second) = (contents(&disk, FIRST), contents(&disk, SECOND));
    assert_eq!(disk.list().unwrap().len(), 3);
    let third_name = &disk.list().unwrap()[2];
    let third = contents(&disk, third_name);
    let last = positions.iter().rfind(|position| position.segment == 1).unwrap().offset as usize;

    let mut lost = first.clone();
    lost[last..].fill(0);
    let damaged = disk_with(&[(FIRST, &lost), (SECOND, &second), (third_name, &third)]);
    assert_eq!(corrupt_at(&damaged), (FIRST.to_owned(), last as u64), "a lost write");

    let cut = &first[..last];
    let damaged = disk_with(&[(FIRST, cut), (SECOND, &second), (third_name, &third)]);
    assert_eq!(corrupt_at(&damaged), (FIRST.to_owned(), last as u64), "a cut segment");

    let damaged = disk_with(&[(FIRST, &first), (third_name, &third)]);
    assert_eq!(corrupt_at(&damaged), (SECOND.to_owned(), 0), "a missing segment");

    let damaged = disk_with(&[(FIRST, &first), (SECOND, &first), (third_name, &third)]);
    assert_eq!(corrupt_at(&damaged), (SECOND.to_owned(), 0), "a misdirected write");
}

#[test]
fn a_record_elsewhere_is_not_a_record() {
    let disk = MemoryDisk::default();
    let (mut wal, _) = open(&disk).unwrap();
    let position = commit(&mut wal, &[b"one"])[0];
    let mut bytes = contents(&disk, FIRST);
    let record = position.offset as usize..wal.end as usize;
    let copy = bytes[record].to_vec();
    bytes[wal.end as usize..][..copy.len()].copy_from_slice(&copy);
    let disk = disk_with(&[(FIRST, &bytes)]);
    assert_eq!(entries(&open(&disk).unwrap().1), [b"one"], "dropped as a torn tail");
}

#[test]
fn a_segment_that_was_never_finished_is_dropped() {
    let disk = MemoryDisk::default();
    let (mut wal, _) = open(&disk).unwrap();
    commit(&mut wal, &[b"one"]);
    let first = contents(&disk, FIRST);
    let start = &first[..30];
    for unborn in [b"".as_slice(), &[0; 100], &start[..25]] {
        let disk = disk_with(&[(FIRST, &first), (SECOND, unborn)]);
        let (mut wal, records) = open(&disk).unwrap();
        assert_eq!(entries(&records), [b"one"]);
        commit(&mut wal, &[b"two"]);
        assert_eq!(entries(&open(&disk).unwrap().1), [b"one", b"two"]);
        // The first segment of all begins anew.
        let disk = disk_with(&[(FIRST, unborn)]);
        assert!(open(&disk).unwrap().1.is_empty());
        // It proves that the one before was durable to its end.
        let mut torn = first.clone();
        torn[wal.end as usize - 30] ^= 1;
        let disk = disk_with(&[(FIRST, &torn), (SECOND, unborn)]);
        assert_eq!(corrupt_at(&disk).0, FIRST);
        assert_eq!(corrupt_at(&disk).0, FIRST, "and still does at the next try");
        // Without the one before, something is missing.
        assert_eq!(corrupt_at(&disk_with(&[(SECOND, unborn)])), (SECOND.to_owned(), 0));
    }
}

#[test]
fn what_its_user_refuses_is_corrupt() {
    let disk = MemoryDisk::default();
    let (mut wal, _) = open(&disk).unwrap();
    let offset = commit(&mut wal, &[b"one"])[0].offset;
    let refused = Wal::open(Arc::new(disk), SMALL, b"", &mut |record| match record.kind {
        Kind::Entry => Err("not one of mine".to_owned()),
        _ => Ok(()),
    });
    let told = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert_eq!(told, format!("{FIRST} is corrupt at offset {offset}: not one of mine"));
}

#[test]
fn other_files_are_left_alone() {
    let disk = disk_with(&[("db-0000000000000001", b"x"), ("wal-1", b"x"), ("wal-x", b"x")]);
    let (mut wal, _) = open(&disk).unwrap();
    commit(&mut wal, &[b"one"]);
    assert_eq!(entries(&open(&disk).unwrap().1), [b"one"]);
    assert_eq!(disk.list().unwrap().len(), 4);
}
