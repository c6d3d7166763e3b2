//! What the user typed: one argument becomes one or more sources.
//!
//! Understood are a camera index (`0`), a device (`/dev/video0`), an address (`rtsp://`,
//! `rtsps://`, `http://`, `https://`), a file, a directory, and a pattern (`faces/*.jpg`).
//! A file whose name is all digits is written with its directory: `./0`. An address that holds a password need not be
//! typed, where every user of the machine sees it: `env:NAME` takes it from a variable. Any of these may be given a name:
//! `door=rtsp://...`.

use std::cmp::Ordering;
use std::fmt;
use std::path::{Path, PathBuf};

use url::Url;

use super::synthetic::Synthetic;
use super::{CaptureError, OpenOptions, Policy, Source, stills};

/// Files that a directory or pattern contributes as videos; given by name, any file is tried.
const VIDEO_EXTENSIONS: &[&str] = &[
    "3gp", "264", "asf", "avi", "flv", "h264", "h265", "hevc", "m2ts", "m4v", "mjpeg", "mjpg", "mkv", "mov", "mp4",
    "mpeg", "mpg", "mts", "ogv", "ts", "webm", "wmv", "y4m",
];

/// A camera of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CameraId {
    /// The number N of `/dev/videoN`.
    Index(u32),
    /// A device file, such as one of the lasting names in `/dev/v4l/by-id`.
    Device(PathBuf),
}

impl CameraId {
    /// The device file.
    pub fn device(&self) -> PathBuf {
        match self {
            Self::Index(index) => format!("/dev/video{index}").into(),
            Self::Device(path) => path.clone(),
        }
    }
}

/// The address of a network stream; shown, also by `Debug`, without credentials and query.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamUrl {
    typed: String,
    parsed: Url,
}

impl StreamUrl {
    /// The address as typed, credentials and all: for the back-end's eyes only.
    pub fn secret(&self) -> &str {
        &self.typed
    }

    /// Scheme in lower case: `rtsp`, `rtsps`, `http` or `https`.
    pub fn scheme(&self) -> &str {
        self.parsed.scheme()
    }

    /// Host, and port where it is not the scheme's own.
    pub fn host(&self) -> String {
        let host = self.parsed.host_str().unwrap_or_default();
        match self.parsed.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Host and port to connect to, for instance with `TcpStream`.
    pub fn endpoint(&self) -> (String, u16) {
        let host = self.parsed.host_str().unwrap_or_default();
        let default = match self.scheme() {
            "rtsps" => 322,
            "http" => 80,
            "https" => 443,
            _ => 554,
        };
        // An IPv6 address stands in brackets in a URL, but not in a socket address.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (host.to_owned(), self.parsed.port().unwrap_or(default))
    }

    #[cfg_attr(not(feature = "opencv"), allow(dead_code, reason = "without OpenCV nothing decodes"))]
    /// What of it nobody else may see: user and password, and the query.
    pub(super) fn secrets(&self) -> Vec<String> {
        let parts = [self.parsed.password(), Some(self.parsed.username()), self.parsed.query()];
        // A word of one or two letters gives nothing away, but would blacken every message.
        parts.into_iter().flatten().filter(|part| part.len() > 2).map(str::to_owned).collect()
    }

    pub(super) fn parse(typed: &str) -> Result<Self, CaptureError> {
        let scheme = typed.split("://").next().unwrap_or_default();
        let bad = |why: &str| CaptureError::BadSource {
            // Not a word of the rest: it may be a password that was not escaped.
            arg: format!("{scheme}://..."),
            why: why.to_owned(),
        };
        let malformed = "malformed address; write special characters of a password as %XX, \
                         as in %40 for @, and %23 for #";
        let parsed = Url::parse(typed).map_err(|_| bad(malformed))?;
        if !matches!(parsed.scheme(), "rtsp" | "rtsps" | "http" | "https") {
            return Err(bad("use rtsp, rtsps, http or https, or give a file"));
        }
        if parsed.host_str().is_none_or(str::is_empty) {
            return Err(bad("the address names no host"));
        }
        let typed = typed.to_owned();
        Ok(Self { typed, parsed })
    }
}

impl fmt::Display for StreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme(), self.host())?;
        // Some cameras take `/user=admin&password=...` as a path.
        match self.parsed.path() {
            path if path.contains(['=', '@']) => write!(f, "/..."),
            path => write!(f, "{path}"),
        }
    }
}

impl fmt::Debug for StreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamUrl({self})")
    }
}

/// One source, not yet opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSpec {
    /// A video file.
    VideoFile(PathBuf),
    /// A picture: a source of one frame.
    Image(PathBuf),
    /// A camera of this machine.
    Camera(CameraId),
    /// A network stream.
    Stream(StreamUrl),
    /// Made-up frames without end, for measurements: nothing that is typed means them.
    Synthetic {
        /// Of the frames, in pixels, at least 1.
        width: u32,
        /// Of the frames, in pixels, at least 1.
        height: u32,
    },
}

impl SourceSpec {
    /// Understands one argument; directories and patterns yield their images and videos in
    /// natural order (`2.jpg` before `10.jpg`), hidden files and subdirectories left out.
    ///
    /// # Errors
    ///
    /// Malformed or unsupported addresses, missing or unreadable paths, and directories or
    /// patterns without a picture or video.
    pub fn parse(arg: &str) -> Result<Vec<Self>, CaptureError> {
        if arg.is_empty() {
            return Err(CaptureError::BadSource {
                arg: String::new(),
                why: "give a camera index, an address, a file, a directory or a pattern".into(),
            });
        }
        if arg.bytes().all(|byte| byte.is_ascii_digit()) {
            let index = arg.parse().map_err(|_| CaptureError::BadSource {
                arg: arg.to_owned(),
                why: "no camera has so high a number; write a file as ./NAME".into(),
            })?;
            return Ok(vec![Self::Camera(CameraId::Index(index))]);
        }
        if arg.starts_with("/dev/video") || arg.starts_with("/dev/v4l/") {
            return Ok(vec![Self::Camera(CameraId::Device(arg.into()))]);
        }
        if let Some(variable) = arg.strip_prefix("env:") {
            return Ok(vec![Self::from_environment(arg, std::env::var(variable).ok())?]);
        }
        if arg.contains("://") {
            return Ok(vec![Self::Stream(StreamUrl::parse(arg)?)]);
        }
        let path = Path::new(arg);
        match std::fs::metadata(path) {
            Ok(meta) if meta.is_dir() => {
                let unreadable = |reason| CaptureError::from_io(path, reason);
                let entries = std::fs::read_dir(path).map_err(unreadable)?;
                let paths: Result<Vec<_>, _> = entries.map(|e| e.map(|e| e.path())).collect();
                Self::of_media(arg, paths.map_err(unreadable)?)
            }
            Ok(_) => Ok(vec![Self::of_file(path.to_owned())]),
            Err(_) if arg.contains(['*', '?', '[']) => {
                let pattern = glob::glob(arg).map_err(|error| CaptureError::BadSource {
                    arg: arg.to_owned(),
                    why: format!("bad pattern ({}); correct or quote it", error.msg),
                })?;
                Self::of_media(arg, pattern.filter_map(Result::ok).collect())
            }
            Err(reason) => Err(CaptureError::from_io(path, reason)),
        }
    }

    /// Understands `NAME=SOURCE` as well as [`SourceSpec::parse`] understands `SOURCE`. A name is made of letters, digits,
    /// `-` and `_`; a file that is called like the whole argument is meant as such.
    ///
    /// # Errors
    ///
    /// As [`SourceSpec::parse`].
    pub fn parse_named(arg: &str) -> Result<(Option<String>, Vec<Self>), CaptureError> {
        let is_name =
            |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
        match arg.split_once('=') {
            Some((name, source)) if is_name(name) && !Path::new(arg).exists() => {
                Ok((Some(name.to_owned()), Self::parse(source)?))
            }
            // An address in front of which something stands can only be a name.
            Some((name, source)) if source.contains("://") && !name.contains("://") && !Path::new(arg).exists() => {
                Err(CaptureError::BadSource {
                    arg: format!("{name}=..."),
                    why: "the name of a source is made of letters, digits, - and _".to_owned(),
                })
            }
            _ => Ok((None, Self::parse(arg)?)),
        }
    }

    fn from_environment(arg: &str, value: Option<String>) -> Result<Self, CaptureError> {
        let bad = |why: &str| CaptureError::BadSource { arg: arg.to_owned(), why: why.to_owned() };
        let value = value.ok_or_else(|| bad("there is no such variable; set it to an address, and export it"))?;
        // Whatever is in there may be a secret: it is not repeated.
        StreamUrl::parse(value.trim()).map(Self::Stream).map_err(|_| {
            bad("the variable holds no address, such as rtsp://user:password@host/path, with special characters as %XX")
        })
    }

    /// Short name for display and events: file stem, `camera0`, device name, or host. Never
    /// holds credentials. Two sources may share a name.
    pub fn name(&self) -> String {
        match self {
            Self::VideoFile(path) | Self::Image(path) => {
                path.file_stem().map_or_else(|| "file".into(), |stem| stem.to_string_lossy().into_owned())
            }
            Self::Camera(CameraId::Index(index)) => format!("camera{index}"),
            Self::Camera(CameraId::Device(path)) => {
                path.file_name().map_or_else(|| "camera".into(), |name| name.to_string_lossy().into_owned())
            }
            Self::Stream(url) => url.host(),
            Self::Synthetic { .. } => "synthetic".into(),
        }
    }

    /// The policy that suits this kind of source before it is opened.
    pub fn policy(&self) -> Policy {
        match self {
            Self::VideoFile(_) | Self::Image(_) | Self::Synthetic { .. } => Policy::Recorded,
            Self::Camera(_) | Self::Stream(_) => Policy::Live,
        }
    }

    /// Whether its frames are there, and wait to be decoded: those of a pipe or of another machine may take any time.
    pub fn is_at_hand(&self) -> bool {
        match self {
            Self::VideoFile(path) | Self::Image(path) => path.is_file(),
            Self::Synthetic { .. } => true,
            Self::Camera(_) | Self::Stream(_) => false,
        }
    }

    /// Opens the source. A recorded one is read up to its first frame, so that a file without
    /// any fails here.
    ///
    /// # Errors
    ///
    /// The source is missing, refuses, stays silent for the time allowed, or is not what it seems.
    pub fn open(&self, options: &OpenOptions) -> Result<Box<dyn Source>, CaptureError> {
        match self {
            Self::Image(path) => Ok(Box::new(stills::Still::open(path, self.name())?)),
            Self::Synthetic { width, height } => Ok(Box::new(Synthetic::new(self.name(), (*width, *height)))),
            #[cfg(feature = "opencv")]
            _ => Ok(match super::video::open(self, options)? {
                super::video::Opened::Recorded(source) => source,
                super::video::Opened::Live(source) => Box::new(source),
            }),
            #[cfg(not(feature = "opencv"))]
            _ => {
                let _ = options;
                Err(CaptureError::NoVideoSupport { name: self.name() })
            }
        }
    }

    /// Any file given by name: a picture if it is called one, else whatever FFmpeg makes of it.
    fn of_file(path: PathBuf) -> Self {
        if stills::has_image_extension(&path) { Self::Image(path) } else { Self::VideoFile(path) }
    }

    /// The pictures and videos among the files found in `arg`.
    fn of_media(arg: &str, mut paths: Vec<PathBuf>) -> Result<Vec<Self>, CaptureError> {
        let hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        paths.retain(|path| {
            (stills::has_image_extension(path) || has_extension(path, VIDEO_EXTENSIONS))
                && !hidden(path)
                && path.is_file()
        });
        if paths.is_empty() {
            return Err(CaptureError::NothingInside { arg: arg.to_owned() });
        }
        paths.sort_by(|a, b| natural_order(&a.to_string_lossy(), &b.to_string_lossy()));
        Ok(paths.into_iter().map(Self::of_file).collect())
    }
}

/// Compares without regard to case.
pub(super) fn has_extension(path: &Path, extensions: &[&str]) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|own| extensions.iter().any(|e| own.eq_ignore_ascii_case(e)))
}

/// Compares as people number files: runs of digits by value, all else by character.
fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    while let (Some(x), Some(y)) = (left.chars().next(), right.chars().next()) {
        let (n, m) = (digits(left), digits(right));
        let order = if n > 0 && m > 0 {
            let (x, y) = (&left[..n], &right[..m]);
            let (x, y) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
            (left, right) = (&left[n..], &right[m..]);
            x.len().cmp(&y.len()).then_with(|| x.cmp(y))
        } else {
            (left, right) = (&left[x.len_utf8()..], &right[y.len_utf8()..]);
            x.cmp(&y)
        };
        if order.is_ne() {
            return order;
        }
    }
    // `a1` and `a01` are equal so far: any fixed order will do.
    left.len().cmp(&right.len()).then_with(|| a.cmp(b))
}

/// Length of the run of digits at the start, bytes.
fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natural_order_counts() {
        let mut names = ["10.jpg", "b2", "2.jpg", "b10", "B3", "01.jpg", "1.jpg", "ä1", "b2a"];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(names, ["01.jpg", "1.jpg", "2.jpg", "10.jpg", "B3", "b2", "b2a", "b10", "ä1"]);
        assert!(natural_order("a1", "a1").is_eq());
    }

    #[test]
    fn sources_may_be_named() {
        let named = |arg: &str| {
            let (name, mut specs) = SourceSpec::parse_named(arg).unwrap();
            (name, specs.remove(0))
        };
        let (name, spec) = named("front-door_2=rtsp://cam/live?a=b");
        assert_eq!((name.as_deref(), spec.name().as_str()), (Some("front-door_2"), "cam"));
        assert_eq!(named("desk=0"), (Some("desk".into()), SourceSpec::Camera(CameraId::Index(0))));
        assert_eq!(named("rtsp://cam/live?a=b").0, None);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a=b.mp4");
        std::fs::write(&path, "x").unwrap();
        assert_eq!(named(path.to_str().unwrap()), (None, SourceSpec::VideoFile(path)));
        for arg in ["=0", "a b=0", "door="] {
            assert!(SourceSpec::parse_named(arg).is_err(), "{arg}");
        }
    }

    #[test]
    fn addresses_come_from_variables_without_being_shown() {
        let of = |value: Option<&str>| SourceSpec::from_environment("env:DOOR", value.map(str::to_owned));
        let spec = of(Some("rtsp://u:hunter2@cam/live\n")).unwrap();
        assert_eq!(spec.name(), "cam");
        for value in [None, Some("hunter2"), Some("rtsp://u:hunter2#3@cam")] {
            let error = of(value).unwrap_err().to_string();
            assert!(error.contains("env:DOOR") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn endpoints_have_the_ports_of_their_schemes() {
        let endpoint = |url| StreamUrl::parse(url).unwrap().endpoint();
        assert_eq!(endpoint("rtsp://cam/x"), ("cam".into(), 554));
        assert_eq!(endpoint("rtsps://[::1]/x"), ("::1".into(), 322));
        assert_eq!(endpoint("https://u:p@cam:8443/x"), ("cam".into(), 8443));
    }
}
