//! Files that are there completely or not at all.

use std::fs::{File, Permissions};
use std::io::{Error, ErrorKind, Result, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Writes `bytes` beside `path` and renames, so that a reader never meets half a file, and an earlier file survives a
/// failure. A link goes on pointing where it does: the file behind it is replaced.
///
/// # Errors
///
/// When the folder cannot be written, the disk is full, or `path` is there but no regular file: a device or a pipe must
/// not be replaced by a file.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let target = target(path)?;
    let mut file = temporary_beside(&target)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(&target)?;
    // Until the folder is written, too, a power cut may bring the earlier file back.
    File::open(folder_of(&target))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether [`replace`] could begin: what would otherwise fail after hours of work fails at once.
///
/// # Errors
///
/// When the folder cannot be written, or `path` is there but no regular file.
pub fn check_replaceable(path: &Path) -> Result<()> {
    temporary_beside(&target(path)?).map(drop)
}

/// The file that a path leads to, or is to lead to.
fn target(path: &Path) -> Result<PathBuf> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(path.to_owned()),
        Err(error) => Err(error),
        Ok(_) => {
            let target = path.canonicalize()?;
            if target.is_file() {
                Ok(target)
            } else {
                Err(Error::new(ErrorKind::InvalidInput, "it is there and no regular file"))
            }
        }
    }
}

/// A file that can take the place of `target` and vanishes if it does not.
///
/// # Errors
///
/// When the folder cannot be written.
pub fn temporary_beside(target: &Path) -> Result<NamedTempFile> {
    let folder = folder_of(target);
    // Said of the folder itself: the name of the temporary file would only confuse.
    std::fs::metadata(folder).map_err(|error| match error.kind() {
        ErrorKind::NotFound => {
            Error::new(ErrorKind::NotFound, format!("the folder {} does not exist", folder.display()))
        }
        _ => error,
    })?;
    // A temporary file is private by default; results are not. The process's umask still applies.
    tempfile::Builder::new().prefix(".maskwatch-").permissions(Permissions::from_mode(0o666)).tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for content in ["one", "two"] {
            replace(&path, content.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_keeps_pointing_and_what_is_no_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let [path, link, socket] = ["file", "link", "socket"].map(|name| folder.path().join(name));
        std::fs::write(&path, "one").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        replace(&link, b"two").unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");

        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(replace(&socket, b"x").is_err() && check_replaceable(&socket).is_err());
        assert!(std::fs::read(&socket).is_err(), "it is a socket still");
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        assert!(replace(&folder.path().join("sub"), b"x").is_err());
    }
}
