//! A disk that forgets as real ones do.
//!
//! Two images of everything: what the process sees (the page cache) and what is on stable storage.
//! A dead process leaves both alone. A loss of power leaves of the unsynced writes a random subset,
//! sector by sector, in any order; and of the unsynced names a random prefix (ordered), or a random
//! subset, as the file system is drawn.
//!
//! What else it does on purpose: reads, writes, syncs and names that fail (after a failed sync the
//! pages count as clean, as on ext4 and XFS: a second sync would lie), no space, bits flipped at
//! rest or in one read, a write that goes elsewhere or nowhere, a lost file. How long it takes is
//! the business of the world.
//! Source of the model: Alagappan et al., "Protocol-Aware Recovery", FAST 2018, and Pillai et al.,
//! "All File Systems Are Not Created Equal", OSDI 2014.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus;

use super::network::strikes;
use crate::store::{DiskDone, DiskError, DiskOp, FileName};

/// What a disk keeps or loses as one.
pub const SECTOR_BYTES: usize = 512;

/// How often what goes wrong, each a chance in a million per operation; and how much room there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFaults {
    /// A read returns an error.
    pub read_error: u32,
    /// A write returns an error; a part of it may have reached the page cache.
    pub write_error: u32,
    /// A sync returns an error, and what it should have stored is gone though the cache has it.
    pub sync_error: u32,
    /// One bit of what a read returns is wrong; the next read is right.
    pub read_flip: u32,
    /// A file is not opened: the process has too many open.
    pub open_error: u32,
    /// Names that were not synced may survive a loss of power in any combination.
    pub names_reorder: bool,
    /// Bytes that fit.
    pub capacity: u64,
}

impl Default for DiskFaults {
    /// A disk that does what it says.
    fn default() -> Self {
        Self {
            read_error: 0,
            write_error: 0,
            sync_error: 0,
            read_flip: 0,
            open_error: 0,
            names_reorder: false,
            capacity: u64::MAX,
        }
    }
}

/// The disk of one node. It outlives the processes that use it.
#[derive(Clone, Debug, Default)]
pub struct SimDisk {
    /// What goes wrong from now on.
    pub faults: DiskFaults,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<FileName, u64>,
    stable_names: BTreeMap<FileName, u64>,
    /// Changes of `names` since the last sync of the directory, in order.
    unsynced_names: Vec<NameChange>,
    /// How many operations are left until one fails.
    fails_in: Option<u64>,
    /// Where the next write goes instead of its place; it is acknowledged all the same.
    astray: Option<Instead>,
    /// Reads that failed or returned a wrong bit, since somebody last looked.
    pub(super) misreads: u64,
}

/// Where a write goes that does not go to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instead {
    /// It never reaches the disk.
    Nowhere,
    /// To this offset of the same file.
    At(u64),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    cache: Vec<u8>,
    stable: Vec<u8>,
    /// Sectors of `cache` that may differ from `stable`.
    dirty: BTreeSet<usize>,
}

#[derive(Clone, Copy, Debug)]
enum NameChange {
    Bind(FileName, u64),
    Unbind(FileName),
}

/// What a damaged disk did, for the trace and the budget of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Which file.
    pub file: FileName,
    /// Where.
    pub offset: u64,
    /// How many bytes may be wrong.
    pub bytes: u64,
}

impl SimDisk {
    /// Carries out one operation, at the instant when the world lets it complete.
    pub fn perform(
        &mut self,
        op: DiskOp,
        rng: &mut Xoshiro256PlusPlus,
    ) -> Result<DiskDone, DiskError> {
        self.fails_in = self.fails_in.map(|left| left - 1);
        let fails = self.fails_in == Some(0);
        if fails {
            self.fails_in = None;
        }
        match op {
            DiskOp::Write { file, offset, parts } => {
                let fails = fails || strikes(rng, self.faults.write_error);
                self.write(file, offset, &parts, fails, rng)
            }
            DiskOp::Sync { file } => {
                let fails = fails || strikes(rng, self.faults.sync_error);
                self.sync(file, fails)
            }
            DiskOp::Read { file, offset, length } => {
                if fails || strikes(rng, self.faults.read_error) {
                    self.misreads += 1;
                    return Err(failed());
                }
                self.read(file, offset, length, rng)
            }
            DiskOp::SyncDir => {
                if fails || strikes(rng, self.faults.sync_error) {
                    return Err(failed());
                }
                self.stable_names.clone_from(&self.names);
                self.unsynced_names.clear();
                self.collect();
                Ok(DiskDone::Done)
            }
            DiskOp::Create { .. }
            | DiskOp::List
            | DiskOp::Rename { .. }
            | DiskOp::Remove { .. }
            | DiskOp::Space
                if fails =>
            {
                Err(failed())
            }
            DiskOp::Create { file, bytes } => {
                if strikes(rng, self.faults.open_error) {
                    return Err(DiskError::Failed(String::from("too many open files")));
                }
                self.create(file, bytes)
            }
            DiskOp::List => Ok(DiskDone::Files(self.list())),
            DiskOp::Rename { from, to } => self.rename(from, to),
            DiskOp::Remove { file } => self.remove(file),
            DiskOp::Space => {
                let total = self.faults.capacity;
                Ok(DiskDone::Space { free: total.saturating_sub(self.used()), total })
            }
        }
    }

    /// Power goes: unsynced sectors and names survive at random.
    pub fn lose_power(&mut self, rng: &mut Xoshiro256PlusPlus) {
        for inode in self.inodes.values_mut() {
            inode.lose_power(rng);
        }
        let changes = std::mem::take(&mut self.unsynced_names);
        let kept = rng.random_range(0..=changes.len());
        for (index, change) in changes.into_iter().enumerate() {
            let survives = if self.faults.names_reorder { rng.random() } else { index < kept };
            if survives {
                apply(&mut self.stable_names, change);
            }
        }
        self.names.clone_from(&self.stable_names);
        self.collect();
    }

    /// A byte of a file that `eligible` approves, each file and each of its bytes as likely as any.
    pub fn draw_byte(
        &self,
        rng: &mut Xoshiro256PlusPlus,
        eligible: impl Fn(FileName) -> bool,
    ) -> Option<Damage> {
        let files: Vec<(FileName, u64)> =
            self.list().into_iter().filter(|&(file, bytes)| eligible(file) && bytes > 0).collect();
        if files.is_empty() {
            return None;
        }
        let (file, bytes) = files[rng.random_range(0..files.len())];
        Some(Damage { file, offset: rng.random_range(0..bytes), bytes: 1 })
    }

    /// Flips one bit at rest, in both images.
    pub fn rot(&mut self, file: FileName, offset: u64, bit: u8) {
        let Ok(inode) = self.inode(file) else { return };
        let offset = usize::try_from(offset).expect("a simulated offset fits memory");
        for image in [&mut inode.cache, &mut inode.stable] {
            if let Some(byte) = image.get_mut(offset) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// Bytes at rest are zeros from now on, in both images.
    pub fn blank(&mut self, file: FileName, bytes: &Range<u64>) {
        let Ok(inode) = self.inode(file) else { return };
        let place = |offset| usize::try_from(offset).expect("a simulated offset fits memory");
        for image in [&mut inode.cache, &mut inode.stable] {
            let end = place(bytes.end).min(image.len());
            image[place(bytes.start).min(end)..end].fill(0);
        }
    }

    /// From now on it does what it says; what is damaged stays damaged.
    pub fn mend(&mut self) {
        self.faults = DiskFaults { names_reorder: self.faults.names_reorder, ..Default::default() };
        self.fails_in = None;
        self.astray = None;
    }

    /// The `nth` operation from now on fails, 1 being the next.
    pub fn fail_call(&mut self, nth: u64) {
        self.fails_in = Some(nth.max(1));
    }

    /// The next write does not go to its place, though the disk will say that it is done.
    pub fn lead_astray(&mut self, instead: Instead) {
        self.astray = Some(instead);
    }

    /// What is on stable storage under a name that the process sees.
    pub fn stable(&self, file: FileName) -> Option<&[u8]> {
        let inode = self.names.get(&file)?;
        Some(&self.inodes.get(inode)?.stable)
    }

    /// These files are gone, names and all, from both images.
    pub fn lose_files(&mut self, is_lost: impl Fn(FileName) -> bool) {
        self.names.retain(|&file, _| !is_lost(file));
        self.stable_names.retain(|&file, _| !is_lost(file));
        self.collect();
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[inode].cache.len() as u64).sum()
    }

    /// Every name that the process sees, with the length of its file.
    pub fn list(&self) -> Vec<(FileName, u64)> {
        self.names
            .iter()
            .map(|(&file, inode)| (file, self.inodes[inode].cache.len() as u64))
            .collect()
    }

    fn create(&mut self, file: FileName, bytes: u64) -> Result<DiskDone, DiskError> {
        if self.used().saturating_add(bytes) > self.faults.capacity {
            return Err(DiskError::Full);
        }
        let length = usize::try_from(bytes).expect("a simulated file fits memory");
        let inode = self.next_inode;
        self.next_inode += 1;
        let zeros = vec![0; length];
        let made = Inode { cache: zeros.clone(), stable: zeros, dirty: BTreeSet::new() };
        self.inodes.insert(inode, made);
        self.change_name(NameChange::Bind(file, inode));
        Ok(DiskDone::Done)
    }

    fn write(
        &mut self,
        file: FileName,
        offset: u64,
        parts: &[Bytes],
        fails: bool,
        rng: &mut Xoshiro256PlusPlus,
    ) -> Result<DiskDone, DiskError> {
        let bytes = parts.concat();
        let mut start = usize::try_from(offset).expect("a simulated offset fits memory");
        let grows = (start + bytes.len()) as u64;
        let length = self.inode(file)?.cache.len() as u64;
        if grows > length && self.used() + (grows - length) > self.faults.capacity {
            return Err(DiskError::Full);
        }
        if fails {
            let reached = rng.random_range(0..=bytes.len());
            self.inode(file)?.write(start, &bytes[..reached]);
            return Err(failed());
        }
        match self.astray.take() {
            Some(Instead::Nowhere) => return Ok(DiskDone::Done),
            Some(Instead::At(offset)) => {
                start = usize::try_from(offset).expect("a simulated offset fits memory");
            }
            None => {}
        }
        self.inode(file)?.write(start, &bytes);
        Ok(DiskDone::Done)
    }

    fn read(
        &mut self,
        file: FileName,
        offset: u64,
        length: u32,
        rng: &mut Xoshiro256PlusPlus,
    ) -> Result<DiskDone, DiskError> {
        let flips = strikes(rng, self.faults.read_flip);
        let cache = &self.inode(file)?.cache;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(cache.len());
        let end = start.saturating_add(length as usize).min(cache.len());
        let mut bytes = cache[start..end].to_vec();
        if flips && !bytes.is_empty() {
            self.misreads += 1;
            let index = rng.random_range(0..bytes.len());
            bytes[index] ^= 1 << rng.random_range(0..8_u8);
        }
        Ok(DiskDone::Bytes(Bytes::from(bytes)))
    }

    fn sync(&mut self, file: FileName, fails: bool) -> Result<DiskDone, DiskError> {
        let inode = self.inode(file)?;
        if fails {
            // The kernel marks the pages clean all the same: no later sync will store them.
            inode.dirty.clear();
            return Err(failed());
        }
        inode.sync();
        Ok(DiskDone::Done)
    }

    fn rename(&mut self, from: FileName, to: FileName) -> Result<DiskDone, DiskError> {
        let inode = *self.names.get(&from).ok_or(DiskError::NotFound)?;
        self.change_name(NameChange::Unbind(from));
        self.change_name(NameChange::Bind(to, inode));
        Ok(DiskDone::Done)
    }

    fn remove(&mut self, file: FileName) -> Result<DiskDone, DiskError> {
        if !self.names.contains_key(&file) {
            return Err(DiskError::NotFound);
        }
        self.change_name(NameChange::Unbind(file));
        Ok(DiskDone::Done)
    }

    fn inode(&mut self, file: FileName) -> Result<&mut Inode, DiskError> {
        let inode = self.names.get(&file).ok_or(DiskError::NotFound)?;
        Ok(self.inodes.get_mut(inode).expect("a name leads to its file"))
    }

    fn change_name(&mut self, change: NameChange) {
        apply(&mut self.names, change);
        self.unsynced_names.push(change);
    }

    /// Forgets files that no name can lead to any more, now or after a loss of power.
    fn collect(&mut self) {
        let mut reachable: Vec<u64> =
            self.names.values().chain(self.stable_names.values()).copied().collect();
        reachable.extend(self.unsynced_names.iter().filter_map(|change| match change {
            NameChange::Bind(_, inode) => Some(*inode),
            NameChange::Unbind(_) => None,
        }));
        self.inodes.retain(|inode, _| reachable.contains(inode));
    }
}

impl Inode {
    fn write(&mut self, start: usize, bytes: &[u8]) {
        let end = start + bytes.len();
        if end > self.cache.len() {
            self.cache.resize(end, 0);
        }
        self.cache[start..end].copy_from_slice(bytes);
        if !bytes.is_empty() {
            self.dirty.extend(start / SECTOR_BYTES..=(end - 1) / SECTOR_BYTES);
        }
    }

    fn sync(&mut self) {
        self.stable.resize(self.cache.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.store(sector);
        }
    }

    fn lose_power(&mut self, rng: &mut Xoshiro256PlusPlus) {
        for sector in std::mem::take(&mut self.dirty) {
            if rng.random() {
                let end = ((sector + 1) * SECTOR_BYTES).min(self.cache.len());
                if self.stable.len() < end {
                    self.stable.resize(end, 0);
                }
                self.store(sector);
            }
        }
        self.cache.clone_from(&self.stable);
    }

    fn store(&mut self, sector: usize) {
        let start = sector * SECTOR_BYTES;
        let end = (start + SECTOR_BYTES).min(self.cache.len());
        self.stable[start..end].copy_from_slice(&self.cache[start..end]);
    }
}

fn failed() -> DiskError {
    DiskError::Failed(String::from("input/output error"))
}

fn apply(names: &mut BTreeMap<FileName, u64>, change: NameChange) {
    match change {
        NameChange::Bind(file, inode) => names.insert(file, inode),
        NameChange::Unbind(file) => names.remove(&file),
    };
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    const FILE: FileName = FileName::Segment(1);

    fn write(offset: u64, bytes: &'static [u8]) -> DiskOp {
        DiskOp::Write { file: FILE, offset, parts: vec![Bytes::from_static(bytes)] }
    }

    fn contents(disk: &mut SimDisk, rng: &mut Xoshiro256PlusPlus) -> Option<Bytes> {
        match disk.perform(DiskOp::Read { file: FILE, offset: 0, length: 4096 }, rng) {
            Ok(DiskDone::Bytes(bytes)) => Some(bytes),
            Ok(other) => panic!("a read returns bytes, not {other:?}"),
            Err(_) => None,
        }
    }

    #[test]
    fn what_is_synced_survives_and_what_is_not_may_go() {
        let (mut kept, mut gone) = (0, 0);
        for seed in 0..100 {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
            let mut disk = SimDisk::default();
            for op in [
                DiskOp::Create { file: FILE, bytes: 2048 },
                DiskOp::SyncDir,
                write(0, b"synced"),
                DiskOp::Sync { file: FILE },
                write(1024, b"unsynced"),
            ] {
                assert!(disk.perform(op, &mut rng).is_ok());
            }
            disk.lose_power(&mut rng);
            let after = contents(&mut disk, &mut rng).expect("its name was synced");
            assert_eq!(&after[..6], b"synced");
            match &after[1024..1032] {
                b"unsynced" => kept += 1,
                rest => {
                    assert_eq!(rest, [0; 8]);
                    gone += 1;
                }
            }
        }
        assert!(kept > 20 && gone > 20, "{kept} kept, {gone} gone");
    }

    #[test]
    fn a_file_whose_name_was_not_synced_may_vanish() {
        let vanished = (0..100)
            .filter(|&seed| {
                let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
                let mut disk = SimDisk::default();
                assert!(disk.perform(DiskOp::Create { file: FILE, bytes: 512 }, &mut rng).is_ok());
                disk.lose_power(&mut rng);
                contents(&mut disk, &mut rng).is_none()
            })
            .count();
        assert!((20..80).contains(&vanished), "{vanished} of 100");
    }

    #[test]
    fn a_sync_after_a_failed_one_lies() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut disk = SimDisk::default();
        for op in [DiskOp::Create { file: FILE, bytes: 512 }, DiskOp::SyncDir, write(0, b"x")] {
            assert!(disk.perform(op, &mut rng).is_ok());
        }
        disk.faults.sync_error = 1_000_000;
        assert!(disk.perform(DiskOp::Sync { file: FILE }, &mut rng).is_err());
        disk.faults.sync_error = 0;
        assert!(disk.perform(DiskOp::Sync { file: FILE }, &mut rng).is_ok());
        disk.lose_power(&mut rng);
        assert_eq!(contents(&mut disk, &mut rng).expect("its name was synced")[0], 0);
    }

    #[test]
    fn a_full_disk_refuses_and_room_returns_with_a_removed_file() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut disk = SimDisk::default();
        disk.faults.capacity = 1024;
        assert!(disk.perform(DiskOp::Create { file: FILE, bytes: 1024 }, &mut rng).is_ok());
        let second = DiskOp::Create { file: FileName::Segment(2), bytes: 1 };
        assert_eq!(disk.perform(second.clone(), &mut rng), Err(DiskError::Full));
        assert!(disk.perform(DiskOp::Remove { file: FILE }, &mut rng).is_ok());
        assert!(disk.perform(second, &mut rng).is_ok());
    }

    fn filled(rng: &mut Xoshiro256PlusPlus) -> SimDisk {
        let mut disk = SimDisk::default();
        for op in [
            DiskOp::Create { file: FILE, bytes: 2048 },
            DiskOp::SyncDir,
            write(0, b"first"),
            DiskOp::Sync { file: FILE },
        ] {
            assert!(disk.perform(op, rng).is_ok());
        }
        disk
    }

    #[test]
    fn the_nth_call_fails_and_no_other() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut disk = filled(&mut rng);
        disk.fail_call(3);
        let results: Vec<bool> =
            (0..5).map(|_| disk.perform(DiskOp::Sync { file: FILE }, &mut rng).is_ok()).collect();
        assert_eq!(results, [true, true, false, true, true]);
    }

    #[test]
    fn a_bit_that_rots_stays_wrong_and_one_that_was_misread_does_not() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut disk = filled(&mut rng);
        disk.faults.read_flip = 1_000_000;
        let before = disk.stable(FILE).expect("it is there").to_vec();
        assert_ne!(contents(&mut disk, &mut rng).expect("its name was synced"), before);
        disk.faults.read_flip = 0;
        assert_eq!(contents(&mut disk, &mut rng).expect("its name was synced"), before);
        let damage = disk.draw_byte(&mut rng, |file| file == FILE).expect("there is a file");
        disk.rot(FILE, damage.offset, 3);
        disk.lose_power(&mut rng);
        let after = contents(&mut disk, &mut rng).expect("its name was synced");
        let wrong: Vec<usize> = (0..before.len()).filter(|&at| before[at] != after[at]).collect();
        assert_eq!(wrong, [usize::try_from(damage.offset).expect("it fits")]);
    }

    #[test]
    fn a_sector_that_is_gone_is_zeros_and_nothing_beside_it() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut disk = filled(&mut rng);
        for op in [write(512, &[7; 1_024]), DiskOp::Sync { file: FILE }] {
            assert!(disk.perform(op, &mut rng).is_ok());
        }
        disk.blank(FILE, &(512..1_024));
        disk.lose_power(&mut rng);
        let after = contents(&mut disk, &mut rng).expect("its name was synced");
        assert_eq!(&after[..5], b"first");
        assert_eq!((&after[512..1_024], &after[1_024..1_536]), (&[0; 512][..], &[7; 512][..]));
    }

    #[test]
    fn a_write_that_goes_astray_is_acknowledged_and_synced_and_not_there() {
        for instead in [Instead::Nowhere, Instead::At(1024)] {
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
            let mut disk = filled(&mut rng);
            disk.lead_astray(instead);
            for op in [write(0, b"later"), DiskOp::Sync { file: FILE }] {
                assert!(disk.perform(op, &mut rng).is_ok());
            }
            let stored = disk.stable(FILE).expect("it is there");
            assert_eq!(&stored[..5], b"first", "{instead:?}");
            assert_eq!(&stored[1024..1029] == b"later", instead == Instead::At(1024));
        }
    }

    #[test]
    fn a_lost_file_is_gone_at_once_and_after_a_loss_of_power() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut disk = filled(&mut rng);
        disk.lose_files(|file| file == FILE);
        assert!(contents(&mut disk, &mut rng).is_none());
        disk.lose_power(&mut rng);
        assert!(contents(&mut disk, &mut rng).is_none());
    }
}
