//! A member's folders on the machine's file system: `<data-dir>/member/snap` for its state and
//! `<data-dir>/member/wal` for its log, or another folder for the log (`--wal-dir`).
//!
//! Folders are private (0700) and so are files (0600), as etcd's are (CVE-2020-15113). What the
//! [`Disk`] contract promises to survive a crash is made durable here: a created or removed name by
//! syncing the folder, the bytes of a file by [`File::sync`], which is `fdatasync`. The folder is
//! locked while it is open, so that two processes never write the same log.

use std::fs::{self, DirBuilder, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle_core::platform::{Disk, File};

/// Files of the log begin so; they have a folder of their own.
const WAL_PREFIX: &str = "wal-";

/// The open, locked folders of one member.
pub(crate) struct NativeDisk {
    snap: Folder,
    wal: Folder,
    /// Held until the process ends.
    _lock: fs::File,
    fsync: bool,
}

struct Folder {
    path: PathBuf,
    /// For syncing.
    open: fs::File,
}

impl Folder {
    fn open(path: PathBuf) -> io::Result<Folder> {
        create_folders(&path)?;
        let open = fs::File::open(&path)?;
        Ok(Folder { path, open })
    }

    fn files(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                // A name that is not UTF-8 is not one of ours.
                names.extend(entry.file_name().into_string());
            }
        }
        Ok(names)
    }
}

impl NativeDisk {
    /// Opens, or creates, the folders below `data_dir` and locks them.
    ///
    /// With `fsync` false nothing is ever synced (`--unsafe-no-fsync`). Fails with
    /// [`io::ErrorKind::WouldBlock`] and a sentence if another process holds the lock.
    pub(crate) fn open(data_dir: &Path, fsync: bool) -> io::Result<NativeDisk> {
        NativeDisk::open_with_wal(data_dir, &data_dir.join("member/wal"), fsync)
    }

    /// The same with the log in the folder `wal_dir`.
    pub(crate) fn open_with_wal(
        data_dir: &Path,
        wal_dir: &Path,
        fsync: bool,
    ) -> io::Result<NativeDisk> {
        let member = data_dir.join("member");
        create_folders(&member)?;
        let lock = lock(&member, data_dir)?;
        let disk = NativeDisk {
            snap: Folder::open(member.join("snap"))?,
            wal: Folder::open(wal_dir.to_path_buf())?,
            _lock: lock,
            fsync,
        };
        Ok(disk)
    }

    /// Whether a member has lived here.
    pub(crate) fn is_used(&self) -> io::Result<bool> {
        Ok(!self.list()?.is_empty())
    }

    fn folder(&self, name: &str) -> &Folder {
        if name.starts_with(WAL_PREFIX) { &self.wal } else { &self.snap }
    }

    fn sync_folder(&self, folder: &Folder) -> io::Result<()> {
        if self.fsync { folder.open.sync_all() } else { Ok(()) }
    }
}

fn lock(member: &Path, data_dir: &Path) -> io::Result<fs::File> {
    let folder = fs::File::open(member)?;
    match folder.try_lock() {
        Ok(()) => Ok(folder),
        Err(TryLockError::WouldBlock) => {
            let text =
                format!("the data directory {} is in use by another process", data_dir.display());
            Err(io::Error::new(io::ErrorKind::WouldBlock, text))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Creates what is missing of `path`, and makes each new name durable in its parent.
fn create_folders(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_folders(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    fs::File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

impl Disk for NativeDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn File>> {
        let folder = self.folder(name);
        let path = folder.path.join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(0o600);
        let file = match options.open(&path) {
            Err(error) if create && error.kind() == io::ErrorKind::NotFound => {
                let file = options.create_new(true).open(&path)?;
                self.sync_folder(folder)?;
                file
            }
            opened => opened?,
        };
        Ok(Arc::new(NativeFile { file, fsync: self.fsync }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = self.snap.files()?;
        names.extend(self.wal.files()?.into_iter().filter(|name| name.starts_with(WAL_PREFIX)));
        names.sort();
        Ok(names)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let folder = self.folder(name);
        fs::remove_file(folder.path.join(name))?;
        self.sync_folder(folder)
    }
}

struct NativeFile {
    file: fs::File,
    fsync: bool,
}

impl File for NativeFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        if self.fsync { self.file.sync_data() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("coracle-{name}-{}", std::process::id()));
        _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn files_keep_the_contract_of_the_disk() {
        let path = scratch("disk");
        let disk = NativeDisk::open(&path.join("deep/er"), true).unwrap();
        let missing = disk.open("a", false).err().unwrap();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let file = disk.open("a", true).unwrap();
        file.write_at(3, b"xyz").unwrap();
        file.sync().unwrap();
        let mut buffer = [9; 8];
        assert_eq!(file.read_at(0, &mut buffer).unwrap(), 6);
        assert_eq!(&buffer[..6], b"\0\0\0xyz");
        file.set_len(2).unwrap();
        assert_eq!(disk.open("a", false).unwrap().len().unwrap(), 2);
        disk.open("0", true).unwrap();
        assert_eq!(disk.list().unwrap(), ["0", "a"]);
        disk.remove("a").unwrap();
        assert_eq!(disk.list().unwrap(), ["0"]);
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn fs_01_folders_and_files_are_private() {
        let path = scratch("modes");
        let disk = NativeDisk::open(&path, true).unwrap();
        disk.open("wal-1", true).unwrap();
        disk.open("db", true).unwrap();
        assert_eq!(disk.list().unwrap(), ["db", "wal-1"]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        for folder in ["member", "member/snap", "member/wal"] {
            assert_eq!(mode(&path.join(folder)), 0o700);
        }
        assert_eq!(mode(&path.join("member/wal/wal-1")), 0o600);
        assert_eq!(mode(&path.join("member/snap/db")), 0o600);
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn fs_01_the_log_may_have_another_folder() {
        let path = scratch("wal-dir");
        let wal_dir = path.join("elsewhere");
        let disk = NativeDisk::open_with_wal(&path.join("data"), &wal_dir, true).unwrap();
        assert!(!disk.is_used().unwrap());
        disk.open("wal-1", true).unwrap();
        assert!(disk.is_used().unwrap() && wal_dir.join("wal-1").is_file());
        disk.remove("wal-1").unwrap();
        assert!(!wal_dir.join("wal-1").exists());
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn fs_01_a_folder_in_use_is_refused() {
        let path = scratch("lock");
        let held = NativeDisk::open(&path, true).unwrap();
        let refused = NativeDisk::open(&path, true).err().unwrap();
        assert!(refused.to_string().ends_with("is in use by another process"), "{refused}");
        drop(held);
        NativeDisk::open(&path, true).unwrap();
        fs::remove_dir_all(&path).unwrap();
    }
}
