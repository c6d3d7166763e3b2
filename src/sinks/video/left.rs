//! What is left of a video that was broken off: the file is cut behind its last complete fragment, or goes if it has none.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;

use super::fragment;

/// What became of the file.
#[derive(Debug)]
pub enum Left {
    /// It plays up to its last complete fragment.
    Seconds,
    /// It held no complete fragment and was removed.
    Nothing,
    /// It is as the failure has left it, because tidying up failed, too.
    Torn(io::Error),
    /// A pipe or a device, which is not ours to tidy up.
    Foreign,
}

impl Left {
    /// Tidies up a file that nobody writes any more.
    pub(super) fn tidy(path: &Path) -> Self {
        if !path.is_file() {
            return Self::Foreign;
        }
        let file = OpenOptions::new().read(true).write(true).open(path);
        let tidied = file.and_then(|mut file| fragment::cut_torn_tail(&mut file)).and_then(|holds_pictures| {
            if holds_pictures { Ok(Self::Seconds) } else { std::fs::remove_file(path).map(|()| Self::Nothing) }
        });
        tidied.unwrap_or_else(Self::Torn)
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Seconds => f.write_str("complete seconds in it play"),
            Self::Nothing => f.write_str("no complete second of it could be written, so it was removed"),
            Self::Torn(error) => write!(f, "it may end in half a picture ({error})"),
            Self::Foreign => f.write_str("it is no regular file"),
        }
    }
}
