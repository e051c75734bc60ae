//! Disks of a test: a small one that fills up, and one whose power can be cut. Both need root.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A small file system in memory, unmounted when it goes.
pub(crate) struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None` where this user may not mount.
    pub(crate) fn mount(megabytes: usize) -> Option<Self> {
        let folder = super::folder();
        let size = format!("size={megabytes}m");
        let mounted = run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs", text(folder.path())]);
        mounted.ok().map(|_| Self(folder))
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run("umount", &["-l", text(self.0.path())]).expect("the small disk can be unmounted");
    }
}

/// An xfs file system on an image. Cutting its power loses what was not synced: the file system
/// stops at once, writes nothing more, and its pages are forgotten when it is unmounted.
pub(crate) struct PoweredDisk {
    folder: TempDir,
    device: String,
}

impl PoweredDisk {
    /// `Err` says why this machine cannot.
    pub(crate) fn mount() -> Result<Self, String> {
        let folder = super::folder();
        let image = folder.path().join("image");
        run("truncate", &["-s", "4G", text(&image)])?;
        run("mkfs.xfs", &["-q", text(&image)])?;
        std::fs::create_dir(folder.path().join("disk")).map_err(|error| error.to_string())?;
        let device = run("losetup", &["--find", "--show", text(&image)])?;
        let disk = Self { folder, device };
        run("mount", &[&disk.device, text(&disk.path())])?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Cuts the power: from now on every operation fails, and nothing unsynced is kept.
    pub(crate) fn cut_power(&self) {
        run("xfs_io", &["-x", "-c", "shutdown", text(&self.path())]).expect("the power can be cut");
    }

    /// Mounts what is left; no process may use it. The file system replays its own log.
    pub(crate) fn restore_power(&self) {
        run("umount", &[text(&self.path())]).expect("a disk that nobody uses can be unmounted");
        run("mount", &[&self.device, text(&self.path())]).expect("xfs recovers by itself");
    }
}

impl Drop for PoweredDisk {
    fn drop(&mut self) {
        // Each may have been undone before; what is left is shown when the test runs again.
        let _ = run("umount", &["-l", text(&self.path())]);
        let _ = run("losetup", &["--detach", &self.device]);
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {arguments:?}: {said}"))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("folders of tests are UTF-8")
}
