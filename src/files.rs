//! Whole files or none.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Writes beside the target and renames, so that a reader never meets half a file and an earlier one survives a failure.
///
/// # Errors
///
/// When the folder does not exist or is not writable, or the disk is full.
pub fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = beside(path)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Whether a file could be made beside `path`, which is left alone.
///
/// # Errors
///
/// When it could not.
pub fn check_writable(path: &Path) -> std::io::Result<()> {
    beside(path).map(drop)
}

fn beside(path: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A temporary file is private by default; a result is not. The process's umask still applies.
    tempfile::Builder::new().prefix(".maskwatch-").permissions(Permissions::from_mode(0o666)).tempfile_in(folder)
}
