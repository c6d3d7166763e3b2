//! A file of lines that never holds half a line and never fills the disk: each line is appended in one piece and at once,
//! a file that has reached its size is set aside, and only so many of those are kept.
//!
//! ```text
//! events.jsonl     the newest lines
//! events.jsonl.1   those before
//! events.jsonl.2   those before that; the oldest goes
//! ```
//!
//! What a killed process or a full disk left of a line is taken back. The crate `file-rotate` 0.8 does neither, splits
//! lines at a limit of bytes, and drops what is written after it could not open its next file.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationLimits {
    /// Largest size of a file, in bytes; only a single line that is longer makes a larger one.
    pub bytes: u64,
    /// How many files are kept beside the one that is written.
    pub kept: usize,
}

impl Default for RotationLimits {
    /// 550 MB in all: at 30 lines a second of 600 bytes, about 8 hours of every frame.
    fn default() -> Self {
        Self { bytes: 50_000_000, kept: 10 }
    }
}

/// Appends lines to a file and sets it aside when it is full.
#[derive(Debug)]
pub struct RotatedLines {
    path: PathBuf,
    limits: RotationLimits,
    file: File,
    /// Bytes in the file; none of a device or a pipe, which is never set aside.
    length: Option<u64>,
}

impl RotatedLines {
    /// Opens a file to append to, or makes it. What a killed process left of its last line is removed.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened, holds something other than JSON lines, or another process writes to it.
    pub fn append(path: &Path, limits: RotationLimits) -> Result<Self> {
        Self::open(path, limits, false)
    }

    /// Makes a file, replacing what is there. Files that were set aside stay until they are too many.
    ///
    /// # Errors
    ///
    /// When the file cannot be made, or another process writes to it.
    pub fn create(path: &Path, limits: RotationLimits) -> Result<Self> {
        Self::open(path, limits, true)
    }

    fn open(path: &Path, limits: RotationLimits, replace: bool) -> Result<Self> {
        let is_stream = std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
        if is_stream {
            let file = OpenOptions::new().write(true).open(path)?;
            return Ok(Self { path: path.to_owned(), limits, file, length: None });
        }
        let mut file = open_locked(path)?;
        if replace {
            file.set_len(0)?;
        }
        let length = repair(&mut file)?;
        Ok(Self { path: path.to_owned(), limits, file, length: Some(length) })
    }

    /// Appends a line, which ends with a newline and has no other: whole, or not at all.
    ///
    /// # Errors
    ///
    /// When the line cannot be written or the full file cannot be set aside. Later lines may still be written.
    pub fn write(&mut self, line: &[u8]) -> Result<()> {
        let added = line.len() as u64;
        if self.length.is_some_and(|length| length > 0 && length + added > self.limits.bytes) {
            self.rotate()?;
        }
        write_line(&mut self.file, line)?;
        self.length = self.length.map(|length| length + added);
        Ok(())
    }

    /// Each file takes the name of the next older one, beginning with the oldest: cut off in between, a number is missing,
    /// but no line.
    fn rotate(&mut self) -> Result<()> {
        let names: Vec<PathBuf> = (0..=self.limits.kept).map(|age| self.name(age)).collect();
        match names.as_slice() {
            [newest] => std::fs::remove_file(newest).or_else(ignore_missing)?,
            names => {
                for pair in names.windows(2).rev() {
                    std::fs::rename(&pair[0], &pair[1]).or_else(ignore_missing)?;
                }
            }
        }
        self.file = open_locked(&self.path)?;
        self.length = Some(self.file.metadata()?.len());
        Ok(())
    }

    /// The file that was set aside so many rotations ago.
    fn name(&self, age: usize) -> PathBuf {
        let mut name = OsString::from(&self.path);
        if age > 0 {
            name.push(format!(".{age}"));
        }
        name.into()
    }
}

fn ignore_missing(error: Error) -> Result<()> {
    if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Opens for appending, for this process alone: two that set the same file aside would lose lines.
fn open_locked(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::new(ErrorKind::ResourceBusy, "another process writes to it; choose another file"))
        }
        // Some network file systems have no locks.
        Err(TryLockError::Error(error)) => {
            tracing::debug!("{} is not locked: {error}", path.display());
            Ok(file)
        }
    }
}

/// Cuts off what follows the last newline and returns the length.
fn repair(file: &mut File) -> Result<u64> {
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(0);
    }
    let mut first = [0];
    file.seek(SeekFrom::Start(0))?;
    file.read_exact(&mut first)?;
    if first != *b"{" {
        // Cutting at a newline would destroy whatever it is.
        return Err(Error::new(ErrorKind::InvalidData, "it is there and holds no JSON lines"));
    }
    let whole = end_of_last_line(file, length)?;
    if whole < length {
        tracing::warn!("{} bytes of an event that was not written to its end are removed", length - whole);
        file.set_len(whole)?;
    }
    Ok(whole)
}

/// Position behind the last newline; 0 if there is none.
fn end_of_last_line(file: &mut File, length: u64) -> Result<u64> {
    const CHUNK: u64 = 1 << 16;
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        let mut chunk = vec![0; (end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut chunk)?;
        if let Some(place) = chunk.iter().rposition(|&byte| byte == b'\n') {
            return Ok(start + place as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Writes a line whole or not at all: where the disk is full in the middle of it, its beginning is taken back.
pub(super) fn write_line(file: &mut File, line: &[u8]) -> Result<()> {
    let before = file.metadata()?;
    file.write_all(line).inspect_err(|_| {
        // A device or a pipe takes nothing back.
        if before.is_file()
            && let Err(error) = file.set_len(before.len())
        {
            tracing::warn!("the last event may be incomplete: {error}");
        }
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    fn line(number: u64) -> String {
        format!("{{\"number\":{number},\"text\":\"{}\"}}\n", "x".repeat(number as usize % 50))
    }

    /// Numbers of all lines, oldest first; fails on a line that is not whole.
    fn numbers(path: &Path, kept: usize) -> Vec<u64> {
        let older = (1..=kept).rev().map(|age| format!("{}.{age}", path.display()));
        let mut numbers = Vec::new();
        for name in older.chain([path.display().to_string()]) {
            let Ok(text) = std::fs::read_to_string(&name) else { continue };
            assert!(text.is_empty() || text.ends_with('\n'), "{name} ends in the middle of a line");
            for line in text.lines() {
                let value: serde_json::Value = serde_json::from_str(line).expect("a whole line");
                numbers.push(value["number"].as_u64().unwrap());
            }
        }
        numbers
    }

    fn folder_and_path() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        (folder, path)
    }

    #[test]
    fn full_files_are_set_aside_and_the_oldest_goes() {
        for kept in [0, 1, 3] {
            let (folder, path) = folder_and_path();
            let limits = RotationLimits { bytes: 500, kept };
            let mut lines = RotatedLines::append(&path, limits).unwrap();
            for number in 0..200 {
                lines.write(line(number).as_bytes()).unwrap();
            }
            let found = numbers(&path, kept);
            assert!(found.windows(2).all(|pair| pair[1] == pair[0] + 1) && found.last() == Some(&199), "{found:?}");
            let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap()).collect();
            assert_eq!(files.len(), kept + 1);
            assert!(files.iter().all(|file| file.metadata().unwrap().len() <= 500));
        }
    }

    #[test]
    fn a_line_longer_than_a_file_has_one_for_itself() {
        let (_folder, path) = folder_and_path();
        let mut lines = RotatedLines::append(&path, RotationLimits { bytes: 10, kept: 5 }).unwrap();
        for number in 40..43 {
            lines.write(line(number).as_bytes()).unwrap();
        }
        assert_eq!(numbers(&path, 5), [40, 41, 42]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), line(42));
    }

    #[test]
    fn it_goes_on_after_the_last_whole_line() {
        for torn in ["", "{", "{\"number\":7,\"te"] {
            let (_folder, path) = folder_and_path();
            let long = format!("{{\"number\":1,\"text\":\"{}\"}}\n", "y".repeat(200_000));
            for whole in ["".to_owned(), line(1), long] {
                std::fs::write(&path, format!("{whole}{torn}")).unwrap();
                let mut lines = RotatedLines::append(&path, RotationLimits::default()).unwrap();
                assert_eq!(std::fs::read_to_string(&path).unwrap(), whole, "{torn:?} is gone");
                lines.write(line(2).as_bytes()).unwrap();
                assert_eq!(std::fs::read_to_string(&path).unwrap(), whole + &line(2));
            }
        }
        let (_folder, path) = folder_and_path();
        std::fs::write(&path, format!("{}{}", line(1), "{\"torn\":\"".to_owned() + &"z".repeat(300_000))).unwrap();
        RotatedLines::append(&path, RotationLimits::default()).unwrap();
        assert_eq!(numbers(&path, 0), [1], "a torn line longer than what is read at once");
    }

    #[test]
    fn other_files_are_left_alone_unless_they_are_to_be_replaced() {
        let (_folder, path) = folder_and_path();
        std::fs::write(&path, "a picture, say").unwrap();
        let error = RotatedLines::append(&path, RotationLimits::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a picture, say");
        RotatedLines::create(&path, RotationLimits::default()).unwrap().write(line(5).as_bytes()).unwrap();
        assert_eq!(numbers(&path, 0), [5]);
    }

    #[test]
    fn two_writers_do_not_share_a_file() {
        let (_folder, path) = folder_and_path();
        let first = RotatedLines::append(&path, RotationLimits::default()).unwrap();
        let error = RotatedLines::append(&path, RotationLimits::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ResourceBusy);
        drop(first);
        RotatedLines::append(&path, RotationLimits::default()).unwrap();
    }

    #[test]
    fn a_full_device_is_an_error() {
        let mut lines = RotatedLines::append(Path::new("/dev/full"), RotationLimits { bytes: 1, kept: 1 }).unwrap();
        for _ in 0..2 {
            assert_eq!(lines.write(b"{}\n").unwrap_err().kind(), ErrorKind::StorageFull);
        }
    }

    /// Runs [`write_until_it_fails`] in a process of its own, with what a shell does before.
    fn writer(path: &Path, before: &str) -> Child {
        let script = format!("{before} exec \"$0\" --exact sinks::rotation::tests::write_until_it_fails --ignored");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]).arg(std::env::current_exe().unwrap());
        shell.env("ROTATED_LINES", path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    #[test]
    #[ignore = "the other half of two tests, which run it"]
    fn write_until_it_fails() {
        let path = PathBuf::from(std::env::var_os("ROTATED_LINES").expect("run by other tests"));
        let mut lines = RotatedLines::append(&path, RotationLimits { bytes: 200_000, kept: 1000 }).unwrap();
        for number in 0.. {
            if lines.write(line(number).as_bytes()).is_err() {
                return;
            }
        }
    }

    #[test]
    fn a_line_that_does_not_fit_is_taken_back() {
        let (_folder, path) = folder_and_path();
        assert!(writer(&path, "trap '' XFSZ; ulimit -f 8;").wait().unwrap().success());
        let length = std::fs::metadata(&path).unwrap().len();
        let found = numbers(&path, 0);
        assert!(length > 2000 && length % 512 != 0, "{length} bytes: cut at a line, not at the limit");
        assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>());
    }

    #[test]
    fn lines_are_whole_after_a_kill() {
        let (_folder, path) = folder_and_path();
        let mut seen = 0;
        for _ in 0..5 {
            let mut child = writer(&path, "");
            let begun = Instant::now();
            while bytes_in(&path) <= seen {
                assert!(begun.elapsed() < Duration::from_secs(60), "the writer writes nothing");
                std::thread::sleep(Duration::from_millis(7));
            }
            child.kill().unwrap();
            child.wait().unwrap();
            drop(RotatedLines::append(&path, RotationLimits::default()).unwrap());
            let found = numbers(&path, 1000);
            assert!(found.windows(2).all(|pair| pair[1] == pair[0] + 1 || pair[1] == 0), "a line is missing");
            seen = bytes_in(&path);
        }
    }

    /// Bytes in the files so far.
    fn bytes_in(path: &Path) -> u64 {
        let folder = std::fs::read_dir(path.parent().unwrap()).unwrap();
        // A file may be renamed meanwhile.
        folder.filter_map(|entry| Some(entry.unwrap().metadata().ok()?.len())).sum()
    }
}
