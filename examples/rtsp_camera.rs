//! A camera without a camera: serves a video file in a loop over RTSP, also with the faults that real cameras have.
//!
//! ```text
//! cargo run --release --example rtsp_camera -- samples/mask_on_off.mp4
//! maskwatch run rtsp://127.0.0.1:8554/camera --show
//! ```
//!
//! The file is encoded once, with a key frame every second, and kept in memory, so that serving costs next to nothing. The
//! first line on standard output is the address. Each path is a camera of its own: `/camera` is sound, `/resolution`
//! changes its size every three seconds, `/corrupt` damages every third picture, `/frozen` shows the same picture after
//! three seconds, `/black` a black one, `/audio` sends sound alone.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use clap::Parser;
use gstreamer::prelude::*;
use gstreamer::{Buffer, ClockTime, glib};
use gstreamer_app::{AppSink, AppSrc};
use gstreamer_rtsp_server::prelude::*;
use gstreamer_rtsp_server::{RTSPAuth, RTSPMediaFactory, RTSPServer, RTSPToken};

/// How often the cameras look whether a picture is due.
const TICK: Duration = Duration::from_millis(5);
/// What faulty cameras do at first, and how long one of two sizes lasts.
const SOUND_SECONDS: usize = 3;
/// Who may look, where there is a password.
const ROLE: &str = "viewer";

/// Serve a video file in a loop as RTSP cameras
#[derive(Debug, Parser)]
struct Args {
    /// The video
    file: PathBuf,

    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    address: String,

    /// Port to listen on; 0 for any that is free
    #[arg(long, default_value_t = 8554)]
    port: u16,

    /// Pixels across and down
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "640x480", value_parser = size)]
    size: (u32, u32),

    /// Use the first so many seconds of the file
    #[arg(long, default_value_t = 60)]
    seconds: u64,

    /// Ask for a user and a password
    #[arg(long, value_name = "USER:PASSWORD")]
    credentials: Option<String>,

    /// End when standard input does, so that no test leaves it behind
    #[arg(long)]
    until_eof: bool,
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    sides.ok_or_else(|| "expected a size such as 640x480".to_owned())
}

/// Encoded pictures, each a whole access unit.
struct Clip {
    units: Vec<Buffer>,
    interval: Duration,
}

/// Which unit a camera sends as its nth, and whether it is damaged on the way.
type Order = fn(&Clips, usize) -> (&Buffer, bool);

struct Clips {
    sound: Clip,
    /// The same at half the size.
    small: Clip,
    black: Clip,
}

impl Clip {
    fn looped(&self, index: usize) -> &Buffer {
        &self.units[index % self.units.len()]
    }

    /// Units of so many whole seconds: each begins with a key frame.
    fn per(&self, seconds: usize) -> usize {
        self.rate() * seconds
    }

    fn rate(&self) -> usize {
        (1.0 / self.interval.as_secs_f64()).round().max(1.0) as usize
    }
}

const CAMERAS: [(&str, Order); 5] = [
    ("/camera", |clips, index| (clips.sound.looped(index), false)),
    ("/resolution", |clips, index| {
        let span = clips.sound.per(SOUND_SECONDS);
        let clip = if (index / span).is_multiple_of(2) { &clips.sound } else { &clips.small };
        // From the start of the clip each time: a new size needs a key frame.
        (clip.looped(index % span), false)
    }),
    ("/corrupt", |clips, index| (clips.sound.looped(index), index % 3 == 2)),
    ("/frozen", |clips, index| {
        (clips.sound.looped(if index < clips.sound.per(SOUND_SECONDS) { index } else { 0 }), false)
    }),
    ("/black", |clips, index| (clips.black.looped(index), false)),
];

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    gstreamer::init()?;
    let (width, height) = args.size;
    let clips = Arc::new(Clips {
        sound: encode(&args, "filesrc name=file ! decodebin", width, height)?,
        small: encode(&args, "filesrc name=file ! decodebin", width / 4 * 2, height / 4 * 2)?,
        black: encode(&args, "videotestsrc pattern=black num-buffers=60 ! video/x-raw,framerate=15/1", width, height)?,
    });

    let server = RTSPServer::new();
    server.set_address(&args.address);
    server.set_service(&args.port.to_string());
    let mounts = server.mount_points().context("the server has no mount points")?;
    for (path, order) in CAMERAS {
        mounts.add_factory(path, camera(&clips, order));
    }
    let audio =
        factory("( audiotestsrc is-live=true ! audio/x-raw,rate=8000,channels=1 ! mulawenc ! rtppcmupay name=pay0 )");
    mounts.add_factory("/audio", audio);
    if let Some((user, password)) = args.credentials.as_deref().and_then(|both| both.split_once(':')) {
        let auth = RTSPAuth::new();
        let token = RTSPToken::builder().field("media.factory.role", ROLE).build();
        auth.add_basic(&RTSPAuth::make_basic(user, password), &token);
        server.set_auth(Some(&auth));
    }
    let _attached = server.attach(None).with_context(|| format!("cannot listen on {}:{}", args.address, args.port))?;
    println!("rtsp://{}:{}/camera", args.address, server.bound_port());

    let main_loop = glib::MainLoop::new(None, false);
    if args.until_eof {
        let ended = main_loop.clone();
        std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
            // An error is an end as well.
            let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
            ended.quit();
        })?;
    }
    main_loop.run();
    Ok(())
}

/// Encodes what `source` yields, with a key frame every second and no picture that needs a later one.
fn encode(args: &Args, source: &str, width: u32, height: u32) -> anyhow::Result<Clip> {
    let rate = 15;
    let description = format!(
        "{source} ! videoconvert ! videoscale ! videorate ! video/x-raw,format=I420,width={width},height={height},\
         framerate={rate}/1,pixel-aspect-ratio=1/1 ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max={rate} \
         ! video/x-h264,stream-format=byte-stream,alignment=au ! appsink name=out sync=false"
    );
    let element = gstreamer::parse::launch(&description)?;
    let pipeline = element.downcast::<gstreamer::Pipeline>().map_err(|_| anyhow!("no pipeline"))?;
    if let Some(file) = pipeline.by_name("file") {
        file.set_property("location", args.file.to_str().context("the file's name is not UTF-8")?);
    }
    let out = pipeline.by_name("out").and_then(|out| out.downcast::<AppSink>().ok()).context("no output")?;
    pipeline.set_state(gstreamer::State::Playing)?;
    let mut units = Vec::new();
    while units.len() < args.seconds as usize * rate {
        let Ok(sample) = out.pull_sample() else { break };
        units.push(sample.buffer_owned().context("a sample without a buffer")?);
    }
    pipeline.set_state(gstreamer::State::Null)?;
    // Whole seconds, so that the loop closes at a key frame.
    units.truncate(units.len() / rate * rate);
    if units.is_empty() {
        return Err(anyhow!("{} yields no second of video: check the file", args.file.display()));
    }
    Ok(Clip { units, interval: Duration::from_secs_f64(1.0 / rate as f64) })
}

/// A factory whose viewers share one camera.
fn factory(launch: &str) -> RTSPMediaFactory {
    let factory = RTSPMediaFactory::new();
    factory.set_launch(launch);
    factory.set_shared(true);
    let rights = gstreamer::Structure::builder(ROLE)
        .field("media.factory.access", true)
        .field("media.factory.construct", true)
        .build();
    factory.add_role_from_structure(&rights);
    factory
}

fn camera(clips: &Arc<Clips>, order: Order) -> RTSPMediaFactory {
    let factory = factory(
        "( appsrc name=source is-live=true do-timestamp=true format=time leaky-type=downstream max-buffers=30 \
         caps=video/x-h264,stream-format=byte-stream,alignment=au ! h264parse config-interval=-1 \
         ! rtph264pay config-interval=-1 name=pay0 )",
    );
    let clips = Arc::clone(clips);
    factory.connect_media_configure(move |_, media| {
        let source = media.element().downcast::<gstreamer::Bin>().ok().and_then(|bin| bin.by_name("source"));
        let Some(source) = source.and_then(|source| source.downcast::<AppSrc>().ok()) else {
            eprintln!("a camera without a source: this is a defect");
            return;
        };
        let clips = Arc::clone(&clips);
        let source = source.downgrade();
        let (mut began, mut sent) = (Instant::now(), 0);
        // Ends when the last viewer has gone, and the source with it.
        glib::timeout_add(TICK, move || match source.upgrade() {
            Some(source) => match send_due(&source, &clips, order, &mut began, &mut sent) {
                ControlFlow::Continue(()) => glib::ControlFlow::Continue,
                ControlFlow::Break(()) => glib::ControlFlow::Break,
            },
            None => glib::ControlFlow::Break,
        });
    });
    factory
}

/// Sends what is due; ends when nobody takes it any more.
fn send_due(source: &AppSrc, clips: &Clips, order: Order, began: &mut Instant, sent: &mut usize) -> ControlFlow<()> {
    let interval = clips.sound.interval;
    if source.current_state() != gstreamer::State::Playing {
        // Nobody watches yet, and there is no clock to give times.
        *began = Instant::now() - interval * (*sent as u32);
        return ControlFlow::Continue(());
    }
    // A camera that was stopped goes on with the present, not with what it missed.
    if began.elapsed() > interval * (*sent as u32) + Duration::from_secs(1) {
        *began = Instant::now() - interval * (*sent as u32);
    }
    while interval * (*sent as u32) <= began.elapsed() {
        let (unit, damaged) = order(clips, *sent);
        *sent += 1;
        let mut unit = unit.copy_deep().unwrap_or_else(|_| unit.copy());
        if let Some(writable) = unit.get_mut() {
            writable.set_pts(ClockTime::NONE);
            writable.set_dts(ClockTime::NONE);
            if damaged && let Ok(mut bytes) = writable.map_writable() {
                // Behind the headers, so that it is still taken for a picture.
                bytes.iter_mut().skip(64).step_by(37).for_each(|byte| *byte ^= 0x55);
            }
        }
        if source.push_buffer(unit).is_err() {
            return ControlFlow::Break(());
        }
    }
    ControlFlow::Continue(())
}
