//! A disk in memory with two images of everything: what the process sees, and what survives a
//! loss of power.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use rand::RngExt as _;
use rand::rngs::Xoshiro256PlusPlus;

use crate::store::{Disk, DiskDone, DiskError, DiskOp, FileName, IoId};

/// What a disk keeps or loses as one.
const SECTOR_BYTES: usize = 512;
/// Changes of names of which every subset is looked at; older ones have survived.
const CHANGES_MAX: usize = 6;

/// The contents of a file: what the process sees, what is on stable storage, and which sectors may
/// differ.
#[derive(Clone, Debug, Default)]
struct File {
    cache: Vec<u8>,
    stable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

type Names = BTreeMap<FileName, usize>;

/// The disk. It outlives the processes that use it.
#[derive(Clone, Debug, Default)]
pub(super) struct MemoryDisk {
    files: Vec<File>,
    names: Names,
    /// The names at the last sync of the directory, and after each change since.
    name_history: Vec<Names>,
    submitted: VecDeque<(IoId, DiskOp)>,
    /// Bytes that fit.
    capacity: Option<u64>,
    /// The operation that fails, counted down, and how.
    fault: Option<(u32, DiskError)>,
    /// Whether it says that names are stored, and does not store them.
    pub(super) lies_of_names: bool,
}

impl Disk for MemoryDisk {
    fn submit(&mut self, id: IoId, op: DiskOp) {
        self.submitted.push_back((id, op));
    }
}

impl MemoryDisk {
    /// A disk on which one operation fails: the one after `nth` others. `Full` strikes only where
    /// room is asked for.
    pub(super) fn failing(nth: u32, error: DiskError) -> Self {
        Self { fault: Some((nth, error)), ..Self::default() }
    }

    /// A disk of `bytes` bytes.
    pub(super) fn of_bytes(bytes: u64) -> Self {
        Self { capacity: Some(bytes), ..Self::default() }
    }

    /// The operation after `nth` others fails.
    pub(super) fn fail(&mut self, nth: u32, error: DiskError) {
        self.fault = Some((nth, error));
    }

    /// Nothing fails any more.
    pub(super) fn mend(&mut self) {
        self.fault = None;
    }

    /// Completes one of the operations under way, drawn at random.
    pub(super) fn complete(
        &mut self,
        rng: &mut Xoshiro256PlusPlus,
    ) -> Option<(IoId, Result<DiskDone, DiskError>)> {
        if self.submitted.is_empty() {
            return None;
        }
        let (id, op) = self.submitted.remove(rng.random_range(0..self.submitted.len()))?;
        let result = match self.strike(&op) {
            Some(error) => {
                if let DiskOp::Sync { file } = op {
                    // The pages count as clean from now on, and another sync would return at once.
                    self.file(file).ok()?.dirty.clear();
                }
                Err(error)
            }
            None => self.perform(op),
        };
        Some((id, result))
    }

    /// The process dies before anything that it had submitted was begun.
    pub(super) fn forget_submitted(&mut self) {
        self.submitted.clear();
    }

    /// The process dies: what it had submitted was carried out or not.
    pub(super) fn kill(&mut self, rng: &mut Xoshiro256PlusPlus) {
        for (_, op) in std::mem::take(&mut self.submitted) {
            if rng.random_bool(0.5) {
                // Whether it would have failed concerns nobody any more.
                self.perform(op).ok();
            }
        }
    }

    /// The power fails: of what was not synced any part survives.
    pub(super) fn lose_power(&mut self, rng: &mut Xoshiro256PlusPlus) {
        self.kill(rng);
        if !self.name_history.is_empty() {
            let survived = rng.random_range(0..self.name_history.len());
            self.names = self.name_history.swap_remove(survived);
        }
        self.name_history = vec![self.names.clone()];
        for file in &mut self.files {
            file.lose_power(rng);
        }
    }

    /// The power fails and takes with it whatever was not synced; names survive.
    pub(super) fn lose_everything_unsynced(&mut self) {
        self.submitted.clear();
        self.name_history = vec![self.names.clone()];
        self.files.iter_mut().for_each(|file| file.keep_sectors(0));
    }

    /// Whether a loss of power could take away some name.
    pub(super) fn has_unsynced_names(&self) -> bool {
        self.name_history.len() > 1
    }

    /// Every disk that a loss of power may leave now, as far as names go: any subset of the changes
    /// that were not synced, the older ones first, and a rename may come apart into its two names;
    /// each with none, all and every other one of the sectors that were not synced.
    pub(super) fn after_every_loss_of_power(&self) -> Vec<Self> {
        let mut changes = Vec::new();
        for pair in self.name_history.windows(2) {
            let all: BTreeSet<FileName> =
                pair.iter().flat_map(|names| names.keys()).copied().collect();
            let change = |file: FileName| (file, pair[1].get(&file).copied());
            let changed = all.into_iter().filter(|file| pair[0].get(file) != pair[1].get(file));
            changes.extend(changed.map(change));
        }
        let apply = |names: &mut Names, (file, index): (FileName, Option<usize>)| {
            match index {
                Some(index) => names.insert(file, index),
                None => names.remove(&file),
            };
        };
        let mut base = self.name_history.first().cloned().unwrap_or_default();
        let open = changes.split_off(changes.len().saturating_sub(CHANGES_MAX));
        for change in changes {
            apply(&mut base, change);
        }
        let mut left = Vec::new();
        for survived in 0..1_usize << open.len() {
            let mut names = base.clone();
            let kept = open.iter().enumerate().filter(|(bit, _)| survived >> bit & 1 == 1);
            kept.for_each(|(_, change)| apply(&mut names, *change));
            for sectors in 0..3 {
                let mut disk = self.clone();
                disk.submitted.clear();
                disk.names.clone_from(&names);
                disk.name_history = vec![names.clone()];
                disk.files.iter_mut().for_each(|file| file.keep_sectors(sectors));
                left.push(disk);
            }
        }
        left
    }

    /// The bytes of a file, on both images at once.
    pub(super) fn bytes(&self, name: FileName) -> &[u8] {
        &self.files[self.names[&name]].cache
    }

    /// Bytes that were written to files of which a name is `is_of`, and not synced since.
    pub(super) fn unsynced_bytes(&self, is_of: impl Fn(FileName) -> bool) -> usize {
        let files = self.names.iter().filter(|(name, _)| is_of(**name));
        files.map(|(_, index)| self.files[*index].dirty.len() * SECTOR_BYTES).sum()
    }

    /// Changes the bytes of a file at rest.
    pub(super) fn damage(&mut self, name: FileName, change: impl FnOnce(&mut Vec<u8>)) {
        let file = &mut self.files[self.names[&name]];
        change(&mut file.cache);
        file.stable.clone_from(&file.cache);
        file.dirty.clear();
    }

    /// Every file.
    pub(super) fn file_names(&self) -> Vec<FileName> {
        self.names.keys().copied().collect()
    }

    /// Removes a file as an accident would.
    pub(super) fn lose_file(&mut self, name: FileName) {
        self.names.remove(&name);
        self.name_history = vec![self.names.clone()];
    }

    /// Carries out one operation.
    pub(super) fn perform(&mut self, op: DiskOp) -> Result<DiskDone, DiskError> {
        match op {
            DiskOp::List => {
                let length = |index: &usize| self.files[*index].cache.len() as u64;
                let files = self.names.iter().map(|(name, index)| (*name, length(index)));
                return Ok(DiskDone::Files(files.collect()));
            }
            DiskOp::Create { file, bytes } => {
                if self.capacity.is_some_and(|capacity| self.used() + bytes > capacity) {
                    return Err(DiskError::Full);
                }
                let zeros = vec![0; usize::try_from(bytes).unwrap()];
                self.names.insert(file, self.files.len());
                self.files.push(File { cache: zeros.clone(), stable: zeros, ..File::default() });
                self.name_history.push(self.names.clone());
            }
            DiskOp::Write { file, offset, parts } => {
                let bytes: Vec<u8> = parts.iter().flatten().copied().collect();
                self.file(file)?.write(usize::try_from(offset).unwrap(), &bytes);
            }
            DiskOp::Read { file, offset, length } => {
                let cache = &self.file(file)?.cache;
                let start = usize::try_from(offset).unwrap().min(cache.len());
                let end = cache.len().min(start + length as usize);
                return Ok(DiskDone::Bytes(Bytes::copy_from_slice(&cache[start..end])));
            }
            DiskOp::Sync { file } => {
                let file = self.file(file)?;
                let dirty = std::mem::take(&mut file.dirty);
                file.store(dirty);
            }
            DiskOp::Rename { from, to } => {
                let index = self.names.remove(&from).ok_or(DiskError::NotFound)?;
                self.names.insert(to, index);
                self.name_history.push(self.names.clone());
            }
            DiskOp::Remove { file } => {
                self.names.remove(&file).ok_or(DiskError::NotFound)?;
                self.name_history.push(self.names.clone());
            }
            DiskOp::SyncDir if self.lies_of_names => {}
            DiskOp::SyncDir => self.name_history = vec![self.names.clone()],
            DiskOp::Space => {
                let total = self.capacity.unwrap_or(1 << 40);
                return Ok(DiskDone::Space { free: total - self.used().min(total), total });
            }
        }
        Ok(DiskDone::Done)
    }

    fn strike(&mut self, op: &DiskOp) -> Option<DiskError> {
        let (left, error) = self.fault.as_mut()?;
        if *error == DiskError::Full && !matches!(op, DiskOp::Create { .. }) {
            return None;
        }
        if *left > 0 {
            *left -= 1;
            return None;
        }
        self.fault.take().map(|fault| fault.1)
    }

    fn file(&mut self, name: FileName) -> Result<&mut File, DiskError> {
        let index = *self.names.get(&name).ok_or(DiskError::NotFound)?;
        Ok(&mut self.files[index])
    }

    fn used(&self) -> u64 {
        self.names.values().map(|index| self.files[*index].cache.len() as u64).sum()
    }
}

impl File {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.cache.len() < end {
            self.cache.resize(end, 0);
        }
        self.cache[offset..end].copy_from_slice(bytes);
        self.dirty.extend(offset / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
    }

    fn lose_power(&mut self, rng: &mut Xoshiro256PlusPlus) {
        let kept: Vec<usize> =
            self.dirty.iter().copied().filter(|_| rng.random_bool(0.5)).collect();
        self.store(kept);
        self.cache.clone_from(&self.stable);
        self.dirty.clear();
    }

    /// Power is gone, and of the sectors that were not synced none was stored, all or every other.
    fn keep_sectors(&mut self, which: usize) {
        let kept: Vec<usize> = match which {
            0 => Vec::new(),
            1 => self.dirty.iter().copied().collect(),
            _ => self.dirty.iter().copied().step_by(2).collect(),
        };
        self.store(kept);
        self.cache.clone_from(&self.stable);
        self.dirty.clear();
    }

    /// Puts these sectors on stable storage.
    fn store(&mut self, sectors: impl IntoIterator<Item = usize>) {
        for sector in sectors {
            let start = sector * SECTOR_BYTES;
            let end = self.cache.len().min(start + SECTOR_BYTES);
            if self.stable.len() < end {
                self.stable.resize(end, 0);
            }
            self.stable[start..end].copy_from_slice(&self.cache[start..end]);
        }
    }
}
