//! Whether a video file is as long as its container says.
//!
//! Counting frames cannot tell: FFmpeg ends a file that was cut off as if it were complete,
//! Matroska only estimates its number of frames, and edit lists hide frames that MP4 counts. But
//! MP4 (ISO/IEC 14496-12, section 4.2), AVI (RIFF) and Matroska (RFC 8794) declare the length
//! of their outermost elements, and a declared length beyond the end of the file leaves no doubt.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Boxes that MP4 and MOV files start with.
const ISO_MEDIA_START: &[[u8; 4]] = &[*b"ftyp", *b"moov", *b"mdat", *b"wide", *b"free", *b"skip"];

/// What the structure of a file says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Structure {
    /// The file ends before one of its elements does.
    pub(super) cut_short: bool,
    /// An MP4 without the complete index that its frames are found by.
    pub(super) index_missing: bool,
}

/// Looks at the outermost elements of a file; reads headers only.
///
/// # Errors
///
/// The file cannot be opened or read.
pub(super) fn inspect(path: &Path) -> io::Result<Structure> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut magic = [0; 12];
    if file.read_exact(&mut magic).is_err() {
        return Ok(Structure::default());
    }
    match &magic {
        [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', b' '] => riff(&mut file, length),
        [0x1a, 0x45, 0xdf, 0xa3, ..] => matroska(&mut file, length),
        [_, _, _, _, kind @ .., _, _, _, _] if ISO_MEDIA_START.contains(kind) => iso_media(&mut file, length),
        _ => Ok(Structure::default()),
    }
}

/// MP4, MOV and their kin: boxes of size, type, content.
fn iso_media(file: &mut File, length: u64) -> io::Result<Structure> {
    let mut structure = Structure { cut_short: false, index_missing: true };
    let mut at = 0;
    while at + 8 <= length {
        let kind = &read_at::<4>(file, at + 4)?;
        let size = match u32::from_be_bytes(read_at(file, at)?) {
            0 => length - at, // up to the end of the file
            1 if at + 16 <= length => u64::from_be_bytes(read_at(file, at + 8)?),
            size => u64::from(size),
        };
        let end = at.saturating_add(size);
        if end > length {
            // Bytes appended behind the last box are junk of any form, but not one of these.
            structure.cut_short = matches!(kind, b"moov" | b"mdat" | b"moof");
            break;
        }
        if size < 8 {
            break;
        }
        structure.index_missing &= kind != b"moov";
        at = end;
    }
    Ok(structure)
}

/// AVI: one RIFF chunk, and more behind it in files above 1 GiB.
fn riff(file: &mut File, length: u64) -> io::Result<Structure> {
    let mut at = 0;
    while at + 8 <= length {
        let kind = read_at::<4>(file, at)?;
        let size = u32::from_le_bytes(read_at(file, at + 4)?);
        // A recorder that was stopped hard never came to fill in the size.
        if &kind != b"RIFF" || size == 0 || size == u32::MAX {
            break;
        }
        at += 8 + u64::from(size);
    }
    Ok(Structure { cut_short: at > length, index_missing: false })
}

/// Matroska and WebM: an EBML header, then one segment; live recordings leave its size unknown.
fn matroska(file: &mut File, length: u64) -> io::Result<Structure> {
    const SEGMENT: [u8; 4] = [0x18, 0x53, 0x80, 0x67];
    let Some((header_size, header_start)) = ebml_size(file, 4)? else {
        return Ok(Structure::default());
    };
    let at = header_start.saturating_add(header_size);
    if at.saturating_add(5) > length || read_at::<4>(file, at)? != SEGMENT {
        return Ok(Structure::default());
    }
    let end = ebml_size(file, at + 4)?.map_or(0, |(size, start)| start.saturating_add(size));
    Ok(Structure { cut_short: end > length, index_missing: false })
}

/// A variable-length size (RFC 8794, section 4) and where its content starts; `None` if unknown.
fn ebml_size(file: &mut File, at: u64) -> io::Result<Option<(u64, u64)>> {
    let [first] = read_at::<1>(file, at)?;
    let width = first.leading_zeros() + 1;
    if width > 8 {
        return Ok(None);
    }
    let mut bytes = [0; 8];
    file.seek(SeekFrom::Start(at))?;
    if file.read(&mut bytes)? < width as usize {
        return Ok(None);
    }
    let marked = u64::from_be_bytes(bytes) >> (64 - 8 * width);
    let all_ones = (1 << (7 * width)) - 1;
    let size = marked & all_ones;
    Ok((size != all_ones).then_some((size, at + u64::from(width))))
}

fn read_at<const N: usize>(file: &mut File, at: u64) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPLETE: (bool, bool) = (false, false);
    const CUT_SHORT: (bool, bool) = (true, false);

    fn inspected(content: &[u8]) -> (bool, bool) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let structure = inspect(file.path()).unwrap();
        (structure.cut_short, structure.index_missing)
    }

    fn mp4_box(kind: &[u8; 4], content: usize) -> Vec<u8> {
        let mut bytes = u32::try_from(content + 8).unwrap().to_be_bytes().to_vec();
        bytes.extend(kind);
        bytes.resize(content + 8, 0);
        bytes
    }

    #[test]
    fn mp4_is_judged_by_its_boxes() {
        let (ftyp, moov, mdat) = (mp4_box(b"ftyp", 8), mp4_box(b"moov", 50), mp4_box(b"mdat", 99));
        let front = [ftyp.clone(), moov.clone(), mdat.clone()].concat();
        let back = [ftyp, mdat, moov].concat();
        assert_eq!(inspected(&front), COMPLETE);
        assert_eq!(inspected(&back), COMPLETE);
        assert_eq!(inspected(&[&front[..], b"appended by a phone"].concat()), COMPLETE);
        assert_eq!(inspected(&front[..front.len() - 1]), CUT_SHORT);
        assert_eq!(inspected(&back[..100]), (true, true));
        assert_eq!(inspected(&back[..back.len() - 1]), (true, true));
    }

    #[test]
    fn avi_is_judged_by_its_riff_size() {
        let avi = |size: u32, rest: usize| [b"RIFF", &size.to_le_bytes()[..], b"AVI ", &vec![0; rest]].concat();
        assert_eq!(inspected(&avi(104, 100)), COMPLETE);
        assert_eq!(inspected(&avi(104, 99)), CUT_SHORT);
        assert_eq!(inspected(&avi(0, 99)), COMPLETE);
        assert_eq!(inspected(&avi(u32::MAX, 99)), COMPLETE);
    }

    #[test]
    fn matroska_is_judged_by_its_segment() {
        let mkv = |size: &[u8], rest: usize| {
            [&[0x1a, 0x45, 0xdf, 0xa3, 0x84, 1, 2, 3, 4, 0x18, 0x53, 0x80, 0x67], size, &vec![0; rest]].concat()
        };
        assert_eq!(inspected(&mkv(&[0x40, 100], 100)), COMPLETE);
        assert_eq!(inspected(&mkv(&[0x40, 100], 99)), CUT_SHORT);
        assert_eq!(inspected(&mkv(&[0xff], 10)), COMPLETE);
    }

    #[test]
    fn other_bytes_are_not_judged() {
        for content in [&b""[..], b"x", b"RIFF", b"\x1a\x45\xdf\xa3", b"\x1a\x45\xdf\xa3\x84abcdefghijkl", &[0; 64]] {
            assert_eq!(inspected(content), COMPLETE, "{content:?}");
        }
    }
}
