//! What is written is read back; what is damaged is refused, quickly and without a panic.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::{Database, ReadError, WriteError, Writer};

type Content = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

fn fill(writer: &mut Writer, content: &Content) {
    for (name, entries) in content {
        writer.bucket(name).unwrap();
        for (key, value) in entries {
            writer.put(key, value).unwrap();
        }
    }
}

/// The file with this content, taken in pieces as a stream would.
fn written(content: &Content) -> Vec<u8> {
    let mut measuring = Writer::measuring();
    fill(&mut measuring, content);
    let layout = measuring.finish().unwrap();
    let mut writer = Writer::writing(layout);
    let mut file = writer.take();
    fill(&mut writer, content);
    file.extend(writer.take());
    assert_eq!(writer.finish(), Ok(layout));
    file.extend(writer.take());
    assert_eq!(file.len() as u64, layout.bytes());
    file
}

/// Reads everything as `snapshot status` does: no page may belong to two trees.
fn read(file: &[u8]) -> Result<Content, ReadError> {
    let database = Database::open(Bytes::copy_from_slice(file))?;
    let mut content = Content::new();
    let mut seen = database.seen();
    for bucket in database.buckets() {
        let mut entries = BTreeMap::new();
        let mut cursor = database.entries_unseen(bucket, seen)?;
        while let Some(entry) = cursor.next()? {
            entries.insert(entry.key.to_vec(), entry.value.to_vec());
        }
        seen = cursor.into_seen();
        content.insert(bucket.name().to_vec(), entries);
    }
    Ok(content)
}

fn random_bytes(random: &mut StdRng, longest: usize) -> Vec<u8> {
    let mut bytes = vec![0; random.random_range(0..=longest)];
    random.fill(&mut bytes[..]);
    bytes
}

fn random_content(random: &mut StdRng) -> Content {
    let mut content = Content::new();
    for _ in 0..random.random_range(0..8) {
        let mut entries = BTreeMap::new();
        let (longest_key, longest_value, most) = match random.random_range(0..5) {
            0 => (8, 16, 20),
            1 => (18, 200, 3_000),
            2 => (3_000, 10, 100),
            3 => (20, 30_000, 40),
            _ => (6, 0, 8_000),
        };
        for _ in 0..random.random_range(0..=most) {
            let mut key = random_bytes(random, longest_key);
            key.push(1);
            entries.insert(key, random_bytes(random, longest_value));
        }
        let mut name = random_bytes(random, 12);
        name.push(b'b');
        content.insert(name, entries);
    }
    content
}

fn is_long() -> bool {
    std::env::var_os("CORACLE_LONG").is_some()
}

#[test]
fn mnt_07_what_is_written_is_read_back() {
    for seed in 0..if is_long() { 2_000 } else { 40 } {
        let content = random_content(&mut StdRng::seed_from_u64(seed));
        assert!(read(&written(&content)).unwrap() == content, "seed {seed}");
    }
}

#[test]
fn mnt_07_large_values_empty_buckets_and_many_keys() {
    let mut content = Content::new();
    content.insert(b"empty".to_vec(), BTreeMap::new());
    let large = [(b"large".to_vec(), vec![7; 1_572_864]), (b"small".to_vec(), vec![])];
    content.insert(b"large".to_vec(), large.into());
    let many = (0..100_000_u64).map(|n| (n.to_be_bytes().to_vec(), vec![n as u8; 3]));
    content.insert(b"many".to_vec(), many.collect());
    let file = written(&content);
    assert!(read(&file).unwrap() == content);
    assert!(read(&written(&Content::new())).unwrap().is_empty());
}

#[test]
fn mnt_07_a_trailer_does_not_disturb_and_one_meta_page_may_be_lost() {
    let content = random_content(&mut StdRng::seed_from_u64(1));
    let file = written(&content);
    let mut file = [&file[..], &[0xab; 32]].concat();
    assert!(read(&file).unwrap() == content);
    for page in [0, 1] {
        let mut torn = file.clone();
        torn[page * 4096 + 20] ^= 1;
        assert!(read(&torn).unwrap() == content, "meta page {page}");
    }
    file[20] ^= 1;
    file[4096 + 20] ^= 1;
    assert!(matches!(read(&file), Err(ReadError::Invalid)));
    file[20] ^= 1;
    assert!(matches!(read(&file[..5000]), Err(ReadError::TooSmall)));
    assert!(matches!(read(&file[..70]), Err(ReadError::Invalid)));
    assert!(matches!(read(&[]), Err(ReadError::Invalid)));
}

#[test]
fn entries_come_in_order_and_twice_the_same() {
    let mut writer = Writer::measuring();
    assert_eq!(writer.put(b"a", b""), Err(WriteError::NoBucket));
    writer.bucket(b"m").unwrap();
    writer.put(b"b", b"").unwrap();
    for (key, error) in [
        (&b"a"[..], WriteError::Order("keys")),
        (b"b", WriteError::Order("keys")),
        (b"", WriteError::Key(0)),
        (&[1; 32_769], WriteError::Key(32_769)),
    ] {
        assert_eq!(writer.put(key, b""), Err(error));
    }
    assert_eq!(writer.bucket(b"m"), Err(WriteError::Order("buckets")));
    writer.bucket(b"n").unwrap();
    let layout = writer.finish().unwrap();
    let mut writer = Writer::writing(layout);
    writer.bucket(b"m").unwrap();
    for n in 0..200_u8 {
        writer.put(&[b'b', n], &[n; 100]).unwrap();
    }
    assert_eq!(writer.finish(), Err(WriteError::Changed));
}

/// Pages in which damage hurts most, of a file with branches and overflow.
fn victim() -> Vec<u8> {
    let mut content = Content::new();
    let many = (0..2_000_u32).map(|n| (n.to_be_bytes().to_vec(), vec![n as u8; 20]));
    content.insert(b"key".to_vec(), many.collect());
    content.insert(b"large".to_vec(), [(b"k".to_vec(), vec![1; 20_000])].into());
    content.insert(b"small".to_vec(), [(b"k".to_vec(), b"v".to_vec())].into());
    written(&content)
}

/// Flips, overwrites, swaps and cuts: the reader answers with content or an error, never with a
/// panic, and never with more memory than the file has bytes.
#[test]
fn mnt_07_a_damaged_file_is_an_error_and_nothing_worse() {
    let original = victim();
    let whole = read(&original).unwrap();
    let runs = if is_long() { 500_000 } else { 4_000 };
    let mut random = StdRng::seed_from_u64(9);
    let (mut refused, mut same) = (0, 0);
    for _ in 0..runs {
        let mut file = original.clone();
        for _ in 0..random.random_range(1..4) {
            mutate(&mut file, &mut random);
        }
        match read(&file) {
            Ok(content) => same += u32::from(content == whole),
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
    }
    // Both happen often: the mutations are neither harmless nor all in the checksummed meta.
    assert!(refused > runs / 4 && same > 0, "{refused} of {runs} refused, {same} unharmed");
}

fn mutate(file: &mut Vec<u8>, random: &mut StdRng) {
    let pages = file.len() / 4096;
    if pages == 0 {
        return;
    }
    let page = random.random_range(0..pages) * 4096;
    match random.random_range(0..6) {
        0 => file[page + random.random_range(0..4096)] ^= 1 << random.random_range(0..8),
        // Headers and elements: ids, flags, counts, positions, lengths, children.
        1 => {
            let at = page + 4 * random.random_range(0..40);
            let number: u32 = match random.random_range(0..4) {
                0 => random.random(),
                1 => u32::MAX,
                2 => random.random_range(0..2 * pages as u32),
                _ => 0,
            };
            file[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        2 => {
            let other = random.random_range(0..pages) * 4096;
            file.copy_within(other..other + 4096, page);
        }
        3 => file.truncate(random.random_range(0..file.len())),
        // A page that claims to be another in the first field only.
        4 => {
            let other = random.random_range(0..pages) as u64;
            file[page..page + 8].copy_from_slice(&other.to_le_bytes());
        }
        _ => file[page + 8..page + 12].copy_from_slice(&random.random::<u32>().to_le_bytes()),
    }
}

/// A branch whose child is itself, its parent, or one that another branch has.
#[test]
fn mnt_07_pages_that_lead_in_circles_are_told_by_number() {
    let original = victim();
    let page = |at: usize| &original[at * 4096..(at + 1) * 4096];
    let branch = (2..original.len() / 4096).find(|at| page(*at)[8] == 1).unwrap();
    for target in [branch as u64, 2, 3, u64::MAX, 1] {
        let mut file = original.clone();
        // The last element's child.
        let count = u16::from_le_bytes([page(branch)[10], page(branch)[11]]) as usize;
        let at = branch * 4096 + 16 * count + 8;
        file[at..at + 8].copy_from_slice(&target.to_le_bytes());
        let error = read(&file).unwrap_err();
        let ReadError::Damaged { page, offset, .. } = error else { panic!("{error}") };
        assert_eq!((page, offset), (target, target.saturating_mul(4096)));
    }
}
