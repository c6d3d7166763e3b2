//! What GStreamer's `mp4mux` leaves undone in fragmented MP4: the first timestamp, a header that
//! keeps its place, and the tail after a failure.
//!
//! A file is a row of boxes (ISO/IEC 14496-12 section 4.2), each with its size and type in front: a
//! header `moov`, then for each fragment an index `moof` and its data `mdat`. The muxer hands over
//! each box as a buffer of its own.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gstreamer::{self as gst, prelude::*};

/// Decode time of the first sample of tracks 1 and 2, in ticks of the track's timescale.
pub(super) type FirstTicks = Arc<[AtomicU64; 2]>;

/// The video is added to the muxer before the audio.
const VIDEO_TRACK: usize = 1;

/// Corrects what leaves `mux`.
///
/// - The muxer counts the decode time of each track's fragments (`tfdt`, section 8.8.12) from that
///   track's first sample: a video that begins at 5 s would begin at 0 s, and audio and video would
///   lose their offset. The fragments are made to start at `first_ticks`.
/// - At the end it writes the header again over the first one, now with the duration. Had the
///   header grown, that would destroy the first fragment; then it is left as it was.
pub(super) fn correct(mux: &gst::Element, first_ticks: FirstTicks) {
    let state = Mutex::new((FragmentTimes::default(), None));
    let correct = move |_: &gst::Pad, info: &mut gst::PadProbeInfo| {
        let (times, header_bytes) = &mut *state.lock().unwrap_or_else(PoisonError::into_inner);
        // Reading past the end of a buffer would panic.
        let Some(buffer) = info.buffer_mut().filter(|buffer| buffer.size() >= 8) else {
            return gst::PadProbeReturn::Ok;
        };
        let mut kind = [0; 4];
        let known = buffer.copy_to_slice(4, &mut kind).is_ok();
        if known && &kind == b"moof" {
            let first_ticks = [&first_ticks[0], &first_ticks[1]].map(|t| t.load(Ordering::Acquire));
            if let Ok(mut bytes) = buffer.make_mut().map_writable() {
                times.correct(&mut bytes, first_ticks);
            }
        } else if known && &kind == b"moov" {
            let size = buffer.size();
            if *header_bytes.get_or_insert(size) != size {
                return gst::PadProbeReturn::Drop;
            }
        }
        gst::PadProbeReturn::Ok
    };
    if let Some(pad) = mux.static_pad("src") {
        pad.add_probe(gst::PadProbeType::BUFFER, correct);
    }
}

/// How far the decode times of each track must move.
#[derive(Debug, Default)]
struct FragmentTimes {
    shifts: [Option<u64>; 2],
}

impl FragmentTimes {
    /// Corrects a row of boxes in place if it holds a `moof`.
    ///
    /// The first fragment of a track tells how much the muxer took away; to a muxer that takes
    /// nothing, nothing is added.
    fn correct(&mut self, boxes: &mut [u8], first_ticks: [u64; 2]) -> Option<()> {
        let traf = child(child(boxes, b"moof")?, b"traf")?;
        // The box starts with a version and flags; the time follows.
        let index = track_number(traf)?.checked_sub(1)?;
        let tfdt = child(traf, b"tfdt")?;
        // Version 0 holds 32 bits, 13 hours; beyond, mp4mux changes to version 1 with 64.
        let bytes = if *tfdt.first()? == 0 { 4..8 } else { 4..12 };
        let field = tfdt.get_mut(bytes)?;
        let decode_time = field.iter().fold(0, |time, byte| time << 8 | u64::from(*byte));
        let away = first_ticks.get(index)?.saturating_sub(decode_time);
        let shift = self.shifts.get_mut(index)?.get_or_insert(away);
        // Where the sum needs more room than there is, the fragment stays early.
        let corrected = (decode_time + *shift).to_be_bytes();
        let (beyond, fitting) = corrected.split_at(corrected.len() - field.len());
        if beyond.iter().all(|byte| *byte == 0) {
            field.copy_from_slice(fitting);
        }
        Some(())
    }
}

/// The number of the track that a `traf` is about, which follows a version and flags.
fn track_number(traf: &mut [u8]) -> Option<usize> {
    let number = u32::from_be_bytes(child(traf, b"tfhd")?.get(4..8)?.try_into().ok()?);
    usize::try_from(number).ok()
}

/// The payload of the first box of type `kind` in a row of boxes.
fn child<'a>(mut boxes: &'a mut [u8], kind: &[u8; 4]) -> Option<&'a mut [u8]> {
    loop {
        let size = u32::from_be_bytes(boxes.get(..4)?.try_into().ok()?) as usize;
        if size < 8 || size > boxes.len() {
            return None;
        }
        let (current, rest) = boxes.split_at_mut(size);
        if &current[4..8] == kind {
            return Some(&mut current[8..]);
        }
        boxes = rest;
    }
}

/// Cuts off a last fragment that was not written to its end: some readers refuse the whole file for
/// half a picture. Says whether pictures are left.
///
/// # Errors
///
/// What reading or shortening the file returns.
pub(super) fn cut_torn_tail(file: &mut File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let (mut position, mut whole) = (0, 0);
    let (mut track, mut holds_pictures) = (None, false);
    while position + 8 <= length {
        let mut head = [0; 8];
        file.seek(SeekFrom::Start(position))?;
        file.read_exact(&mut head)?;
        let [a, b, c, d, kind @ ..] = head;
        // A size of 1 would announce a 64-bit one, which fragments of a second do not need.
        let end = position + u64::from(u32::from_be_bytes([a, b, c, d]));
        if end < position + 8 || end > length {
            break;
        }
        // An index is worth nothing without its data.
        if &kind != b"moof" {
            whole = end;
            holds_pictures |= &kind == b"mdat" && track == Some(VIDEO_TRACK);
        } else {
            let mut index = Vec::new();
            file.by_ref().take(end - position - 8).read_to_end(&mut index)?;
            track = child(&mut index, b"traf").and_then(track_number);
        }
        position = end;
    }
    if whole < length {
        file.set_len(whole)?;
    }
    Ok(holds_pictures)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn mp4_box(kind: &[u8; 4], payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len() + 8).unwrap().to_be_bytes();
        [&size[..], kind, payload].concat()
    }

    fn moof(track: u32, tfdt: &[u8]) -> Vec<u8> {
        let tfhd = mp4_box(b"tfhd", &[[0; 4], track.to_be_bytes()].concat());
        let traf = mp4_box(b"traf", &[tfhd, mp4_box(b"tfdt", tfdt)].concat());
        mp4_box(b"moof", &[mp4_box(b"mfhd", &[0; 8]), traf].concat())
    }

    #[test]
    fn fragments_move_by_what_their_first_one_lacks() {
        let mut times = FragmentTimes::default();
        let mut time = |track, tfdt: &[u8]| {
            let mut boxes = moof(track, tfdt);
            times.correct(&mut boxes, [450_000, 90]);
            boxes[boxes.len() - (tfdt.len() - 4)..].to_vec()
        };
        assert_eq!(time(1, &[0, 0, 0, 0, 0, 0, 0, 0]), 450_000u32.to_be_bytes());
        assert_eq!(time(2, &[0, 0, 0, 0, 0, 0, 0, 90]), 90u32.to_be_bytes());
        assert_eq!(time(2, &[0, 0, 0, 0, 0, 0, 0, 100]), 100u32.to_be_bytes());
        assert_eq!(time(1, &[0, 0, 0, 0, 0, 0, 0, 7]), 450_007u32.to_be_bytes());
        assert_eq!(time(1, &[1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]), 4_295_417_296u64.to_be_bytes());
        // No room, and an unknown track: left as they are.
        assert_eq!(time(1, &[0, 0, 0, 0, 255, 255, 255, 255]), [255; 4]);
        assert_eq!(time(3, &[0, 0, 0, 0, 0, 0, 0, 5]), 5u32.to_be_bytes());
    }

    #[test]
    fn damaged_boxes_are_left_alone() {
        let whole = moof(1, &[0; 8]);
        for length in 0..whole.len() {
            FragmentTimes::default().correct(&mut whole[..length].to_vec(), [1, 1]);
        }
        for position in 0..whole.len() {
            let mut broken = whole.clone();
            broken[position] ^= 0xff;
            FragmentTimes::default().correct(&mut broken, [1, 1]);
        }
    }

    #[test]
    fn a_torn_fragment_is_cut_off() {
        let header = mp4_box(b"moov", &[1; 20]);
        let fragment = [moof(1, &[0; 8]), mp4_box(b"mdat", &[2; 50])].concat();
        let file = [header.clone(), fragment.clone(), fragment.clone()].concat();
        let first_end = header.len() + fragment.len();
        for length in 0..=file.len() {
            let expected = match length {
                _ if length < header.len() => 0,
                _ if length < first_end => header.len(),
                _ if length < file.len() => first_end,
                _ => file.len(),
            };
            let mut torn = tempfile::tempfile().unwrap();
            torn.write_all(&file[..length]).unwrap();
            assert_eq!(cut_torn_tail(&mut torn).unwrap(), length >= first_end, "of {length} bytes");
            assert_eq!(torn.metadata().unwrap().len(), expected as u64, "of {length} bytes");
        }
    }
}
