//! What the black-box tests share: the built program, the bundled samples, and ways to read back what it wrote.
#![allow(dead_code, reason = "each test file uses a part of it")]

pub mod findings;
pub mod http;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use image::RgbImage;
use maskwatch::capture::{OpenOptions, SourceSpec};
use serde_json::Value;

/// What a finished program left behind.
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_maskwatch"));
    // Whatever the machine has, tests see neither display nor settings of the user.
    command.env_remove("DISPLAY").env_remove("WAYLAND_DISPLAY").env_remove("MASKWATCH_LOG");
    // Equal runs are only promised on the CPU.
    command.env("CUDA_VISIBLE_DEVICES", "");
    command
}

pub fn maskwatch<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> Finished {
    finished(program().args(arguments).output().unwrap())
}

/// Runs the program in a shell that has set a limit on the size of files, in blocks of 1024 bytes.
pub fn maskwatch_with_file_limit(blocks: u32, arguments: &[&str]) -> Finished {
    let script = format!("ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let program = program();
    let mut shell = Command::new("bash");
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    finished(shell.args(["-c", &script]).arg(program.get_program()).args(arguments).output().unwrap())
}

pub fn finished(output: Output) -> Finished {
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Finished {
    /// Asserts success, and says what the program said if there was none.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    /// Asserts an exit code and that the error says `expected`, in as many lines as clap likes.
    pub fn code_is(self, code: i32, expected: &str) {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        assert!(self.stderr.contains(expected), "{}", self.stderr);
    }

    /// Asserts an exit code and exactly one line of error that holds `expected`.
    pub fn fails(self, code: i32, expected: &str) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        let errors: Vec<&str> = self.stderr.lines().filter(|line| !line.contains("INFO")).collect();
        assert_eq!(errors.len(), 1, "one line is wanted:\n{}", self.stderr);
        assert!(errors[0].contains(expected), "{}", errors[0]);
        assert!(!self.stderr.contains("panicked") && !self.stderr.contains("stack backtrace"), "{}", self.stderr);
        self
    }
}

pub fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name)
}

pub fn sample_video() -> String {
    sample("mask_on_off.mp4").to_str().unwrap().to_owned()
}

/// Class folders with a few of the bundled pictures.
pub fn class_folders(folder: &Path) {
    for (class, pictures) in [
        ("mask", ["collins_surgical.jpg", "hopper_ffp2.jpg", "collins_cloth.jpg"].as_slice()),
        ("no_mask", &["collins_no_mask.jpg", "hopper_no_mask.jpg"]),
        ("background", &["empty_studio.jpg"]),
    ] {
        std::fs::create_dir_all(folder.join(class)).unwrap();
        for picture in pictures {
            std::fs::copy(sample(picture), folder.join(class).join(picture)).unwrap();
        }
    }
}

/// Frames of a video with their timestamps, and the error with which it ended, if any.
pub fn decode(path: &Path) -> (Vec<(Duration, RgbImage)>, Option<String>) {
    let mut source = match SourceSpec::VideoFile(path.to_owned()).open(&OpenOptions::default()) {
        Ok(source) => source,
        Err(error) => return (Vec::new(), Some(error.to_string())),
    };
    let mut frames = Vec::new();
    loop {
        match source.read() {
            Ok(Some(frame)) => frames.push((frame.pts, frame.image.unwrap_or_clone().take())),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error.to_string())),
        }
    }
}

/// Frames of a video that must be sound.
pub fn decode_sound(path: &Path) -> Vec<(Duration, RgbImage)> {
    let (frames, error) = decode(path);
    assert_eq!(error, None);
    frames
}

pub fn timestamps(frames: &[(Duration, RgbImage)]) -> Vec<Duration> {
    frames.iter().map(|(pts, _)| *pts).collect()
}

pub fn assert_same_timestamps(actual: &[Duration], expected: &[Duration]) {
    assert_eq!(actual.len(), expected.len());
    for (index, (actual, expected)) in actual.iter().zip(expected).enumerate() {
        assert!(actual.abs_diff(*expected) < Duration::from_micros(200), "frame {index}: {actual:?} for {expected:?}");
    }
}

/// The frames in an events file, every line of which must be valid.
pub fn events(path: &Path) -> Vec<Value> {
    parse_events(&std::fs::read_to_string(path).unwrap())
}

/// The lines that tell of frames; those that tell what happens to tracks and sources have an `event`.
pub fn parse_events(text: &str) -> Vec<Value> {
    parse_lines(text).into_iter().filter(|line| line["event"].is_null()).collect()
}

pub fn parse_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}
