//! The store's files on a real file system. Every operation blocks; who calls decides where.
//!
//! Clones share their open files, so a segment that the log thread removes is let go by the
//! readers too. A failed sync is reported as it is and never tried again here: the pages that it
//! lost are marked clean, and a second sync would succeed over the hole.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::store::{DiskDone, DiskError, DiskOp, FileName};

/// What an operation returned.
pub(crate) type DiskResult = Result<DiskDone, DiskError>;

/// Files kept open at once; a store of more segments opens the others when it needs them.
pub(super) const OPEN_MAX: usize = 256;
/// Parts of one vectored write: `IOV_MAX` of Linux.
const WRITE_PARTS_MAX: usize = 1_024;
/// Bytes that zeroing a file writes at a time.
const ZEROS_BYTES: usize = 1024 * 1024;

/// A folder of store files.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    folder: Arc<Path>,
    open: Arc<Mutex<BTreeMap<FileName, Arc<File>>>>,
}

impl Files {
    /// The files of `folder`, which exists.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder: folder.into(), open: Arc::default() }
    }

    /// Does it, now.
    pub(crate) fn perform(&self, op: DiskOp) -> DiskResult {
        match op {
            DiskOp::List => self.list(),
            DiskOp::Create { file, bytes } => {
                self.forget(file);
                create(&self.path(file), bytes).map_err(|error| self.failure(file, &error))
            }
            DiskOp::Write { file, offset, parts } => self
                .handle(file)
                .and_then(|handle| write_all_at(&handle, offset, &parts))
                .map_err(|error| self.failure(file, &error)),
            DiskOp::Read { file, offset, length } => self
                .handle(file)
                .and_then(|handle| read_up_to(&handle, offset, length))
                .map_err(|error| self.failure(file, &error)),
            DiskOp::Sync { file } => self
                .handle(file)
                .and_then(|handle| handle.sync_data())
                .map(|()| DiskDone::Done)
                .map_err(|error| self.failure(file, &error)),
            DiskOp::Rename { from, to } => {
                self.forget(from);
                self.forget(to);
                std::fs::rename(self.path(from), self.path(to))
                    .map(|()| DiskDone::Done)
                    .map_err(|error| self.failure(from, &error))
            }
            DiskOp::Remove { file } => {
                self.forget(file);
                std::fs::remove_file(self.path(file))
                    .map(|()| DiskDone::Done)
                    .map_err(|error| self.failure(file, &error))
            }
            DiskOp::SyncDir => File::open(&self.folder)
                .and_then(|folder| folder.sync_all())
                .map(|()| DiskDone::Done)
                .map_err(|error| failure(&self.folder, &error)),
            DiskOp::Space => self.space(),
        }
    }

    /// Reads what the system has in memory. `None` = a device may have to be waited for.
    pub(crate) fn read_now(&self, file: FileName, offset: u64, length: u32) -> Option<Bytes> {
        let handle = self.handle(file).ok()?;
        let mut buffer = vec![0; usize::try_from(length).ok()?];
        let read = read_without_waiting(&handle, offset, &mut buffer)?;
        (read == buffer.len()).then(|| buffer.into())
    }

    fn list(&self) -> DiskResult {
        let attempt = || -> io::Result<Vec<(FileName, u64)>> {
            let mut found = Vec::new();
            for entry in std::fs::read_dir(&self.folder)? {
                let entry = entry?;
                if let Some(file) = entry.file_name().to_str().and_then(parse) {
                    found.push((file, entry.metadata()?.len()));
                }
            }
            found.sort_unstable();
            Ok(found)
        };
        attempt().map(DiskDone::Files).map_err(|error| failure(&self.folder, &error))
    }

    fn space(&self) -> DiskResult {
        let stat = rustix::fs::statvfs(&*self.folder)
            .map_err(|error| failure(&self.folder, &error.into()))?;
        Ok(DiskDone::Space {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            total: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }

    fn handle(&self, file: FileName) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = open.get(&file) {
            return Ok(Arc::clone(handle));
        }
        let handle = Arc::new(options().read(true).open(self.path(file))?);
        if open.len() == OPEN_MAX {
            open.pop_first();
        }
        open.insert(file, Arc::clone(&handle));
        Ok(handle)
    }

    fn forget(&self, file: FileName) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&file);
    }

    fn path(&self, file: FileName) -> PathBuf {
        self.folder.join(file.to_string())
    }

    fn failure(&self, file: FileName, error: &io::Error) -> DiskError {
        failure(&self.path(file), error)
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn create(path: &Path, bytes: u64) -> io::Result<DiskDone> {
    let file = options().create(true).truncate(true).open(path)?;
    let zeros = Bytes::from(vec![0; ZEROS_BYTES]);
    let write = || -> io::Result<()> {
        let mut offset = 0;
        while offset < bytes {
            let part = usize::try_from(bytes - offset).map_or(ZEROS_BYTES, |n| n.min(ZEROS_BYTES));
            file.write_all_at(&zeros[..part], offset)?;
            // Piece by piece: a sync of the log waits for what lies before it in the device.
            file.sync_data()?;
            offset += part as u64;
        }
        file.sync_all()
    };
    match write() {
        Ok(()) => Ok(DiskDone::Done),
        Err(error) => {
            // Half a file is of no use and takes the room that is missing. If it cannot go, the
            // store finds it at the next start.
            let _ = std::fs::remove_file(path);
            Err(error)
        }
    }
}

fn write_all_at(file: &File, offset: u64, parts: &[Bytes]) -> io::Result<DiskDone> {
    let mut slices: Vec<IoSlice<'_>> =
        parts.iter().filter(|part| !part.is_empty()).map(|part| IoSlice::new(part)).collect();
    let mut rest = slices.as_mut_slice();
    let mut at = offset;
    while !rest.is_empty() {
        let head = &rest[..rest.len().min(WRITE_PARTS_MAX)];
        match rustix::io::pwritev(file, head, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                at += written as u64;
                IoSlice::advance_slices(&mut rest, written);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(DiskDone::Done)
}

fn read_up_to(file: &File, offset: u64, length: u32) -> io::Result<DiskDone> {
    let length = usize::try_from(length).expect("a length of 32 bits fits the memory");
    let mut buffer = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(DiskDone::Bytes(buffer.into()))
}

#[cfg(target_os = "linux")]
fn read_without_waiting(file: &File, offset: u64, buffer: &mut [u8]) -> Option<usize> {
    let mut parts = [io::IoSliceMut::new(buffer)];
    rustix::io::preadv2(file, &mut parts, offset, rustix::io::ReadWriteFlags::NOWAIT).ok()
}

/// Other systems cannot be asked for it.
#[cfg(not(target_os = "linux"))]
fn read_without_waiting(_: &File, _: u64, _: &mut [u8]) -> Option<usize> {
    None
}

fn failure(path: &Path, error: &io::Error) -> DiskError {
    let kind = error.kind();
    if matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        DiskError::Full
    } else if kind == io::ErrorKind::NotFound {
        DiskError::NotFound
    } else {
        DiskError::Failed(format!("{}: {error}", path.display()))
    }
}

fn parse(name: &str) -> Option<FileName> {
    let number = |stem: &str| stem.parse::<u32>().ok();
    let file = match name {
        "MANIFEST" => FileName::Manifest,
        "MANIFEST.new" => FileName::ManifestNew,
        _ => match name.split_once('.')? {
            (stem, "seg") => FileName::Segment(number(stem)?),
            (stem, "new") => FileName::Prepared(number(stem)?),
            (stem, "idx") => FileName::Sidecar(number(stem)?),
            _ => return None,
        },
    };
    // A name that would be written otherwise is not one of the store's.
    (file.to_string() == name).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(folder.path().to_owned());
        (folder, files)
    }

    #[test]
    fn what_is_written_is_read_under_the_new_name_too() {
        let (_folder, files) = files();
        let (prepared, segment) = (FileName::Prepared(7), FileName::Segment(7));
        files.perform(DiskOp::Create { file: prepared, bytes: 3_000_000 }).unwrap();
        let parts = vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"cde")];
        files.perform(DiskOp::Write { file: prepared, offset: 10, parts }).unwrap();
        files.perform(DiskOp::Sync { file: prepared }).unwrap();
        files.perform(DiskOp::Rename { from: prepared, to: segment }).unwrap();
        files.perform(DiskOp::SyncDir).unwrap();
        let read = DiskOp::Read { file: segment, offset: 9, length: 7 };
        assert_eq!(files.perform(read).unwrap(), DiskDone::Bytes(b"\0abcde\0"[..].into()));
        let end = DiskOp::Read { file: segment, offset: 2_999_998, length: 7 };
        assert_eq!(files.perform(end).unwrap(), DiskDone::Bytes(b"\0\0"[..].into()));
        let listed = files.perform(DiskOp::List).unwrap();
        assert_eq!(listed, DiskDone::Files(vec![(segment, 3_000_000)]));
    }

    #[test]
    fn what_is_read_without_waiting_is_what_is_there_and_all_of_it() {
        let (_folder, files) = files();
        let file = FileName::Segment(1);
        files.perform(DiskOp::Create { file, bytes: 100 }).unwrap();
        let parts = vec![Bytes::from_static(b"abcdef")];
        files.perform(DiskOp::Write { file, offset: 10, parts }).unwrap();
        // Not every file system can do it.
        let read = files.read_now(file, 9, 8);
        assert!(read.is_none_or(|bytes| bytes == b"\0abcdef\0"[..]));
        assert_eq!(files.read_now(file, 99, 2), None);
        assert_eq!(files.read_now(FileName::Segment(2), 0, 1), None);
    }

    #[test]
    fn more_parts_than_one_system_call_takes_are_all_written() {
        let (_folder, files) = files();
        let file = FileName::Segment(1);
        files.perform(DiskOp::Create { file, bytes: 0 }).unwrap();
        let parts: Vec<Bytes> =
            (0..3_000_u32).map(|index| Bytes::copy_from_slice(&index.to_le_bytes())).collect();
        let expected: Vec<u8> = parts.concat();
        files.perform(DiskOp::Write { file, offset: 0, parts }).unwrap();
        let read = DiskOp::Read { file, offset: 0, length: 12_001 };
        assert_eq!(files.perform(read).unwrap(), DiskDone::Bytes(expected.into()));
    }

    #[test]
    fn only_files_of_the_store_are_listed_and_missing_ones_are_named_so() {
        let (folder, files) = files();
        for name in ["7.seg", "00000007.seg", "00000008.new", "MANIFEST", "notes.txt"] {
            std::fs::write(folder.path().join(name), "x").unwrap();
        }
        let expected =
            vec![(FileName::Segment(7), 1), (FileName::Prepared(8), 1), (FileName::Manifest, 1)];
        assert_eq!(files.perform(DiskOp::List).unwrap(), DiskDone::Files(expected));
        let gone = files.perform(DiskOp::Remove { file: FileName::Segment(9) });
        assert_eq!(gone, Err(DiskError::NotFound));
        let space = files.perform(DiskOp::Space).unwrap();
        assert!(matches!(space, DiskDone::Space { free, total } if free <= total && total > 0));
    }
}
