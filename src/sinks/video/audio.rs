//! Reads the compressed audio packets of a media file, to be copied without re-encoding.
//!
//! Audio has a GStreamer pipeline of its own, `filesrc ! parsebin ! appsink`. The writer pulls
//! packets as its video advances, so neither stream can starve the other in the muxer, and an error
//! here ends the audio, never the video.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use gstreamer::{self as gst, prelude::*};
use gstreamer_app::AppSink;
use gstreamer_pbutils::pb_utils_get_codec_description;

use super::error::describe;
use crate::capture::packets::running_time;

/// How long a file may take to deliver a packet before its audio is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How often an error is looked for while waiting for a packet.
const POLL: gst::ClockTime = gst::ClockTime::from_mseconds(10);
/// Packets read ahead; about half a second of AAC.
const READ_AHEAD_PACKETS: u32 = 24;

/// What became of the audio of a saved video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioOutcome {
    /// No audio was asked for, or its file has none.
    None,
    /// The packets were copied, up to the end of the video.
    Copied {
        /// Human-readable name of the codec.
        codec: String,
        /// Number of compressed packets in the file.
        packets: u64,
    },
    /// MP4 cannot hold this codec, so the video is silent.
    Dropped {
        /// Human-readable name of the codec.
        codec: String,
    },
    /// The audio could not be read to its end; the packets before the damage are in the file.
    Damaged {
        /// Number of compressed packets in the file.
        packets: u64,
        /// What went wrong, on one line.
        reason: String,
    },
}

/// Why no packet came.
enum NoPacket {
    End,
    Broken(String),
}

/// What the parser found in the file.
#[derive(Default)]
struct Found {
    /// Format of the first audio stream.
    audio: Option<gst::Caps>,
    /// Whether MP4 can hold it.
    linked: bool,
    /// Whether there are no more streams to come.
    complete: bool,
}

/// An open audio stream that MP4 can hold.
pub(super) struct AudioReader {
    pipeline: gst::Pipeline,
    packets: AppSink,
    caps: gst::Caps,
    /// Time of its file at which the video begins.
    offset: gst::ClockTime,
    /// Pulled, but not asked for yet.
    pending: Option<gst::Sample>,
    last_pts: Option<gst::ClockTime>,
    packet_count: u64,
    damage: Option<String>,
}

impl Drop for AudioReader {
    fn drop(&mut self) {
        // A pipeline must not be disposed of while it runs. Going to NULL does not fail.
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

impl AudioReader {
    /// Opens the first audio stream of `path`, whose packets are wanted from `offset` on. Needs `gst::init`.
    ///
    /// # Errors
    ///
    /// Why there is nothing to copy.
    pub(super) fn open(path: &Path, offset: Duration) -> Result<Self, AudioOutcome> {
        let mut reader = Self::build().map_err(|error| damaged(error.to_string()))?;
        let seen = Arc::new(Mutex::new(Found::default()));
        let elements = (reader.pipeline.by_name("file"), reader.pipeline.by_name("parse"));
        if let (Some(file), Some(parse)) = elements {
            file.set_property("location", path);
            let (seen, packets) = (Arc::clone(&seen), reader.packets.clone());
            parse.connect_pad_added(move |parse, pad| {
                let caps = pad.current_caps().unwrap_or_else(|| pad.query_caps(None));
                let mut found = seen.lock().unwrap_or_else(PoisonError::into_inner);
                let format = caps.structure(0);
                let is_audio = format.is_some_and(|format| format.name().starts_with("audio/"));
                if is_audio && found.audio.is_none() {
                    if let Err(error) = link(parse, pad, &caps, &packets) {
                        tracing::debug!(%error, "audio stream not linked");
                    }
                    found.linked = pad.is_linked();
                    found.audio = Some(caps);
                }
                // Data flows only when all streams are known.
                let seen = Arc::clone(&seen);
                pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                    seen.lock().unwrap_or_else(PoisonError::into_inner).complete = true;
                    gst::PadProbeReturn::Remove
                });
            });
        }
        // The outcome of starting comes through the bus, with its reason.
        let _ = reader.pipeline.set_state(gst::State::Playing);
        // Streams that lead nowhere are an error of the demuxer, but not one to wait for: parsebin
        // swallows it when it comes early.
        let first = reader.pull(|| {
            let found = seen.lock().unwrap_or_else(PoisonError::into_inner);
            found.complete && !found.linked
        });
        let found = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
        match (first, found.audio) {
            (Ok(sample), _) => {
                reader.caps = sample.caps_owned().unwrap_or_else(gst::Caps::new_empty);
                reader.pending = Some(sample);
                reader.offset = gst::ClockTime::try_from(offset).unwrap_or_default();
                Ok(reader)
            }
            (Err(_), Some(caps)) if !found.linked => Err(AudioOutcome::Dropped { codec: codec_name(&caps) }),
            (Err(_), None) if found.complete => Err(AudioOutcome::None),
            (Err(NoPacket::End), _) => Err(AudioOutcome::None),
            (Err(NoPacket::Broken(reason)), _) => Err(damaged(reason)),
        }
    }

    fn build() -> Result<Self, gst::glib::BoolError> {
        let mux = gst::ElementFactory::find("mp4mux").ok_or_else(|| gst::glib::bool_error!("mp4mux is missing"))?;
        let accepted = mux
            .static_pad_templates()
            .iter()
            .find(|pad| pad.name_template() == "audio_%u")
            .map_or_else(gst::Caps::new_empty, |pad| pad.caps());
        // mp4mux learns the settings of AC-3 from its first packet, when the header of a fragmented
        // file is already written.
        let accepted: gst::Caps =
            accepted.iter().filter(|format| !format.name().ends_with("ac3")).map(ToOwned::to_owned).collect();
        let pipeline = gst::Pipeline::new();
        let packets = AppSink::builder().caps(&accepted).max_buffers(READ_AHEAD_PACKETS).sync(false).build();
        let file = gst::ElementFactory::make("filesrc").name("file").build()?;
        let parse = gst::ElementFactory::make("parsebin").name("parse").build()?;
        pipeline.add_many([&file, &parse, packets.upcast_ref()])?;
        file.link(&parse)?;
        Ok(Self {
            pipeline,
            packets,
            caps: gst::Caps::new_empty(),
            offset: gst::ClockTime::ZERO,
            pending: None,
            last_pts: None,
            packet_count: 0,
            damage: None,
        })
    }

    /// Format of the packets.
    pub(super) fn caps(&self) -> &gst::Caps {
        &self.caps
    }

    /// The next packet that starts before `limit`, stamped on the timeline of the video; none once
    /// there is no more.
    pub(super) fn next_packet(&mut self, limit: gst::ClockTime) -> Option<gst::Buffer> {
        while self.damage.is_none() {
            let sample = match self.pending.take().map_or_else(|| self.pull(|| false), Ok) {
                Ok(sample) => sample,
                Err(NoPacket::End) => return None,
                Err(NoPacket::Broken(reason)) => {
                    self.damage = Some(reason);
                    return None;
                }
            };
            if sample.caps().is_none_or(|caps| *caps != *self.caps) {
                self.damage = Some("the audio changes its format midway".into());
                return None;
            }
            // The muxer would fail on a packet without a time or with one that goes back. Before
            // zero lies what the encoder needed to start up.
            let pts = running_time(&sample).and_then(|pts| pts.checked_sub(self.offset));
            let pts = pts.filter(|pts| self.last_pts.is_none_or(|l| *pts > l));
            let Some(pts) = pts else {
                continue;
            };
            if pts >= limit {
                self.pending = Some(sample);
                return None;
            }
            let mut buffer = sample.buffer_owned()?;
            let stamped = buffer.make_mut();
            stamped.set_pts(pts);
            stamped.set_dts(None);
            self.last_pts = Some(pts);
            self.packet_count += 1;
            return Some(buffer);
        }
        None
    }

    /// What became of this audio, once all of it is written.
    pub(super) fn outcome(&self) -> AudioOutcome {
        let packets = self.packet_count;
        match &self.damage {
            Some(reason) => AudioOutcome::Damaged { packets, reason: reason.clone() },
            None => AudioOutcome::Copied { codec: codec_name(&self.caps), packets },
        }
    }

    /// The next packet from the file, unless `hopeless`.
    fn pull(&self, hopeless: impl Fn() -> bool) -> Result<gst::Sample, NoPacket> {
        let started = Instant::now();
        let error = || {
            let bus = self.pipeline.bus()?;
            bus.pop_filtered(&[gst::MessageType::Error]).map(|message| describe(&message))
        };
        loop {
            if let Some(sample) = self.packets.try_pull_sample(POLL) {
                return Ok(sample);
            }
            if self.packets.is_eos() || hopeless() {
                // A demuxer that gives up ends its streams as well; the bus knows the difference.
                return Err(error().map_or(NoPacket::End, NoPacket::Broken));
            }
            if let Some(reason) = error() {
                return Err(NoPacket::Broken(reason));
            }
            if started.elapsed() > READ_TIMEOUT {
                return Err(NoPacket::Broken("no audio packet came in time".into()));
            }
        }
    }
}

fn damaged(reason: String) -> AudioOutcome {
    AudioOutcome::Damaged { packets: 0, reason }
}

fn codec_name(caps: &gst::Caps) -> String {
    if caps.is_any() || caps.is_empty() {
        return "unknown".into();
    }
    // The library function aborts on a format with open choices.
    let mut caps = caps.clone();
    caps.fixate();
    pb_utils_get_codec_description(&caps).into()
}

/// Joins a stream of the parser to the sink. AAC passes a parser of its own, which strips the ADTS
/// framing of broadcast streams that MP4 does not know.
fn link(parse: &gst::Element, pad: &gst::Pad, caps: &gst::Caps, packets: &AppSink) -> Result<(), gst::glib::BoolError> {
    let missing = || gst::glib::bool_error!("an element left the audio pipeline");
    let is_aac = caps.structure(0).is_some_and(|format| {
        let version = format.get::<i32>("mpegversion");
        format.name() == "audio/mpeg" && version.is_ok_and(|version| version != 1)
    });
    let sink = if is_aac {
        let pipeline = parse.parent().and_then(|parent| parent.downcast::<gst::Bin>().ok());
        let aac = gst::ElementFactory::make("aacparse").build()?;
        pipeline.ok_or_else(missing)?.add(&aac)?;
        aac.link(packets)?;
        aac.sync_state_with_parent()?;
        aac.static_pad("sink")
    } else {
        packets.static_pad("sink")
    };
    let linked = pad.link(&sink.ok_or_else(missing)?);
    linked.map(drop).map_err(|error| gst::glib::bool_error!("{error}"))
}
