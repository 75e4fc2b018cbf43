//! A [`Disk`] in memory that fails like a real one, and the same way for the same seed.
//!
//! Every file is kept twice: as its user sees it, and as the platter holds it, with the list of
//! changes in between. A sync moves the list to the platter. A power loss ([`FaultyDisk::crash`])
//! keeps any subset of the list, each write whole, cut at any byte, or in some of its sectors.
//! What was synced stays. Creating and removing a file is durable at once, as [`Disk`] promises.
//!
//! A failed sync leaves the file as Linux does: the pages count as clean, the user still reads
//! them, and no later sync brings them to the platter; only a new write does.
//!
//! Not modelled: latency, and sectors that damage their neighbours.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, File};

/// What a disk writes at once or not at all, in bytes.
const SECTOR: usize = 512;

/// A small generator of pseudo-random numbers (Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators", 2014). Only for faults and tests.
#[derive(Clone, Debug)]
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What goes wrong at a chosen operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A write fails and changes nothing.
    WriteError,
    /// A write fails because the disk is full.
    DiskFull,
    /// A sync fails: what it should have made durable may be lost, whatever follows.
    SyncError,
    /// The power goes at a sync: it and everything after it fails. [`FaultyDisk::crash`] follows.
    PowerLoss,
}

/// Files with faults. Clones share the same files.
#[derive(Clone, Default)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Arc<Mutex<Content>>>,
    /// The fault to come, and how many operations of its kind come before it.
    fault: Option<(Fault, u64)>,
    /// Bytes that all files may hold together.
    capacity: Option<u64>,
    powered_off: bool,
    syncs: u64,
}

#[derive(Default)]
struct Content {
    /// As the user reads it.
    current: Vec<u8>,
    /// As it would be read after a power loss that drops all pending changes.
    durable: Vec<u8>,
    pending: Vec<Change>,
}

enum Change {
    Write { offset: usize, data: Vec<u8> },
    SetLength(usize),
}

/// An open file; readable after its removal, as on Unix.
struct FaultyFile {
    state: Arc<Mutex<State>>,
    content: Arc<Mutex<Content>>,
}

impl FaultyDisk {
    /// The disk after a power loss: synced bytes, and what `seed` leaves of the others. The old
    /// disk and its open files fail from now on.
    pub fn crash(&self, seed: u64) -> FaultyDisk {
        let mut random = SplitMix64(seed);
        let mut old = lock(&self.state);
        old.powered_off = true;
        let mut state = State { capacity: old.capacity, ..State::default() };
        for (name, content) in &old.files {
            let content = lock(content);
            let mut bytes = content.durable.clone();
            for change in &content.pending {
                change.survive(&mut bytes, &mut random);
            }
            let content = Content { current: bytes.clone(), durable: bytes, pending: Vec::new() };
            state.files.insert(name.clone(), Arc::new(Mutex::new(content)));
        }
        FaultyDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// Lets `fault` strike once, at the operation of its kind after the next `skip` ones.
    pub fn inject(&self, fault: Fault, skip: u64) {
        lock(&self.state).fault = Some((fault, skip));
    }

    /// Limits the bytes of all files together; a write or extension beyond fails as a full disk.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        lock(&self.state).capacity = bytes;
    }

    /// Inverts bit `bit` (0 to 7) of the byte at `offset` of `name`, durably: bit rot.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) -> io::Result<()> {
        let state = lock(&self.state);
        let mut content = lock(state.files.get(name).ok_or(io::ErrorKind::NotFound)?);
        let at = to_usize(offset)?;
        let byte = content.current.get_mut(at).ok_or(io::ErrorKind::UnexpectedEof)?;
        *byte ^= 1 << (bit % 8);
        if let Some(byte) = content.durable.get_mut(at) {
            *byte ^= 1 << (bit % 8);
        }
        Ok(())
    }

    /// How many syncs were asked for since the disk exists.
    pub fn syncs(&self) -> u64 {
        lock(&self.state).syncs
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn check_power(&self) -> io::Result<()> {
        match self.powered_off {
            true => Err(io::Error::other("the disk has no power")),
            false => Ok(()),
        }
    }

    /// Whether the injected fault strikes at this operation, which `kinds` of faults can hit.
    fn strike(&mut self, kinds: &[Fault]) -> Option<Fault> {
        let (fault, skip) = self.fault.as_mut()?;
        if !kinds.contains(fault) {
            return None;
        }
        if *skip > 0 {
            *skip -= 1;
            return None;
        }
        self.fault.take().map(|(fault, _)| fault)
    }

    /// Carries `change` out for the user, and remembers it until a sync.
    fn change(&mut self, content: &Mutex<Content>, change: Change) -> io::Result<()> {
        self.check_power()?;
        match self.strike(&[Fault::WriteError, Fault::DiskFull]) {
            Some(Fault::DiskFull) => return Err(io::ErrorKind::StorageFull.into()),
            Some(_) => return Err(io::Error::other("injected write error")),
            None => {}
        }
        if let Some(capacity) = self.capacity {
            let growth = change.end().saturating_sub(lock(content).current.len()) as u64;
            let all: u64 = self.files.values().map(|file| lock(file).current.len() as u64).sum();
            if growth > 0 && all + growth > capacity {
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        let mut content = lock(content);
        change.apply(&mut content.current);
        content.pending.push(change);
        Ok(())
    }

    fn sync(&mut self, content: &Mutex<Content>) -> io::Result<()> {
        self.check_power()?;
        self.syncs += 1;
        let fault = self.strike(&[Fault::SyncError, Fault::PowerLoss]);
        if fault == Some(Fault::PowerLoss) {
            self.powered_off = true;
            return Err(io::Error::other("the disk lost its power"));
        }
        let mut content = lock(content);
        let pending = std::mem::take(&mut content.pending);
        if fault.is_some() {
            // The length is metadata and survives; the pages are gone for good.
            let length = content.current.len();
            content.durable.resize(length, 0);
            return Err(io::Error::other("injected sync error"));
        }
        for change in &pending {
            change.apply(&mut content.durable);
        }
        Ok(())
    }
}

impl Change {
    fn end(&self) -> usize {
        match self {
            Change::Write { offset, data } => offset + data.len(),
            Change::SetLength(length) => *length,
        }
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write { offset, data } => write_bytes(bytes, *offset, data),
            Change::SetLength(length) => bytes.resize(*length, 0),
        }
    }

    /// Leaves in `bytes` what a power loss leaves of this change.
    fn survive(&self, bytes: &mut Vec<u8>, random: &mut SplitMix64) {
        let fate = random.below(4);
        let Change::Write { offset, data } = self else {
            if fate < 2 {
                self.apply(bytes);
            }
            return;
        };
        match fate {
            0 => {}
            1 => self.apply(bytes),
            2 => {
                let cut = random.below(data.len() as u64 + 1) as usize;
                write_bytes(bytes, *offset, &data[..cut]);
            }
            _ => {
                let mut from = 0;
                while from < data.len() {
                    let to = (from + SECTOR - (offset + from) % SECTOR).min(data.len());
                    if random.chance(50) {
                        write_bytes(bytes, offset + from, &data[from..to]);
                    }
                    from = to;
                }
            }
        }
    }
}

fn write_bytes(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}

fn to_usize(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(io::Error::other)
}

impl Disk for FaultyDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn File>> {
        let mut state = lock(&self.state);
        state.check_power()?;
        if !create && !state.files.contains_key(name) {
            return Err(io::Error::new(io::ErrorKind::NotFound, format!("no file {name}")));
        }
        let content = state.files.entry(name.to_owned()).or_default().clone();
        Ok(Arc::new(FaultyFile { state: self.state.clone(), content }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let state = lock(&self.state);
        state.check_power()?;
        Ok(state.files.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.check_power()?;
        match state.files.remove(name) {
            Some(_) => Ok(()),
            None => Err(io::Error::new(io::ErrorKind::NotFound, format!("no file {name}"))),
        }
    }
}

impl File for FaultyFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        lock(&self.state).check_power()?;
        let content = lock(&self.content);
        let bytes = &content.current;
        let start = to_usize(offset)?.min(bytes.len());
        let count = buffer.len().min(bytes.len() - start);
        buffer[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let change = Change::Write { offset: to_usize(offset)?, data: data.to_vec() };
        lock(&self.state).change(&self.content, change)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        lock(&self.state).change(&self.content, Change::SetLength(to_usize(length)?))
    }

    fn len(&self) -> io::Result<u64> {
        lock(&self.state).check_power()?;
        Ok(lock(&self.content).current.len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        lock(&self.state).sync(&self.content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(disk: &FaultyDisk, name: &str) -> Vec<u8> {
        let file = disk.open(name, false).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_exact_at(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_crash_keeps_synced_bytes_and_any_part_of_the_others() {
        let (mut kept, mut dropped, mut torn) = (0, 0, 0);
        for seed in 0..200 {
            let disk = FaultyDisk::default();
            let file = disk.open("a", true).unwrap();
            file.write_at(0, &[1; 700]).unwrap();
            file.sync().unwrap();
            file.write_at(700, &[2; 2000]).unwrap();
            let after = disk.crash(seed);
            assert!(file.read_at(0, &mut [0]).is_err(), "the old handle is dead");
            let bytes = read(&after, "a");
            assert_eq!(bytes[..700], [1; 700]);
            assert!(bytes[700..].iter().all(|byte| [0, 2].contains(byte)));
            match bytes[700..].iter().filter(|byte| **byte == 2).count() {
                0 => dropped += 1,
                2000 => kept += 1,
                _ => torn += 1,
            }
            assert_eq!(bytes, read(&disk.crash(seed), "a"), "the seed decides");
        }
        assert!(kept > 20 && dropped > 20 && torn > 20, "{kept} {dropped} {torn}");
    }

    #[test]
    fn a_failed_sync_loses_the_pages_even_if_a_later_one_succeeds() {
        let disk = FaultyDisk::default();
        let file = disk.open("a", true).unwrap();
        file.write_at(0, &[1; 8]).unwrap();
        disk.inject(Fault::SyncError, 0);
        assert!(file.sync().is_err());
        file.sync().unwrap();
        assert_eq!(read(&disk, "a"), [1; 8], "the user still reads them");
        assert_eq!(read(&disk.crash(0), "a"), [0; 8]);
    }

    #[test]
    fn faults_strike_once_at_their_operation() {
        let disk = FaultyDisk::default();
        let file = disk.open("a", true).unwrap();
        disk.inject(Fault::DiskFull, 1);
        file.write_at(0, &[1]).unwrap();
        file.sync().unwrap();
        assert_eq!(file.write_at(1, &[1]).unwrap_err().kind(), io::ErrorKind::StorageFull);
        file.write_at(1, &[1]).unwrap();
        disk.set_capacity(Some(2));
        assert_eq!(file.set_len(3).unwrap_err().kind(), io::ErrorKind::StorageFull);
        disk.inject(Fault::PowerLoss, 0);
        assert!(file.sync().is_err() && file.sync().is_err() && disk.list().is_err());
        assert_eq!(disk.syncs(), 2);
    }

    #[test]
    fn bit_rot_is_durable() {
        let disk = FaultyDisk::default();
        let file = disk.open("a", true).unwrap();
        file.write_at(0, &[0, 0]).unwrap();
        file.sync().unwrap();
        disk.flip_bit("a", 1, 3).unwrap();
        assert_eq!(read(&disk.crash(0), "a"), [0, 8]);
    }
}
