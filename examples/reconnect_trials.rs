//! How long a live source takes to come back after its server does: twenty trials, the median and the worst.
//!
//! ```text
//! cargo build --release --bins --examples && target/release/examples/reconnect_trials samples/mask_on_off.mp4
//! ```
//!
//! Each trial kills an RTSP server (the example `rtsp_camera`) with frames under way, keeps it away for 1 to 8 s, starts it
//! again on the same port, and measures from the moment at which it listens to the capture of the first new frame. At the
//! end, files, threads and processes of this program are compared with those at the beginning.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use maskwatch::capture::supervise::clock::SystemClock;
use maskwatch::capture::supervise::process::ProcessOpener;
use maskwatch::capture::{LiveEvent, LiveSettings, SourceSpec, Supervisor};
use maskwatch::shutdown::Shutdown;
use rand::{Rng, SeedableRng};

const TRIALS: usize = 20;
const OUTAGE_MILLIS: std::ops::Range<u64> = 1_000..8_000;
/// Between the return of a server and its next outage.
const CALM: Duration = Duration::from_secs(6);

struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start(video: &Path, port: u16) -> anyhow::Result<Self> {
        let mut process = Command::new(beside("rtsp_camera")?)
            .arg(video)
            .args(["--seconds", "4", "--until-eof", "--port", &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the example rtsp_camera: build the examples first")?;
        let mut address = String::new();
        BufReader::new(process.stdout.take().context("no output")?).read_line(&mut address)?;
        let port = address.trim().trim_end_matches("/camera").rsplit(':').next().and_then(|port| port.parse().ok());
        Ok(Self { process, port: port.context("the camera gave no address")? })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("the camera could not be stopped: {error}");
        }
    }
}

fn main() -> anyhow::Result<()> {
    let video = PathBuf::from(std::env::args_os().nth(1).context("usage: reconnect_trials VIDEO")?);
    let resources_before = resources()?;
    let mut server = Server::start(&video, 0)?;
    let port = server.port;
    let shutdown = Shutdown::default();
    let decoder = beside("../maskwatch")?;
    let (sender, frames) = channel();
    let stop = shutdown.clone();
    let watch = move || -> anyhow::Result<()> {
        let spec = SourceSpec::parse(&format!("rtsp://127.0.0.1:{port}/camera"))?.remove(0);
        let settings = LiveSettings { decoder, ..LiveSettings::default() };
        let opener = Box::new(ProcessOpener::new(spec, settings.clone(), false, &stop));
        let clock = Box::new(SystemClock::new(&stop));
        let mut supervisor = Supervisor::new("camera", settings, opener, clock, &stop, rand::random());
        loop {
            match supervisor.next_event()? {
                LiveEvent::Frame { frame, .. } => sender.send(frame.read_started)?,
                LiveEvent::State(_) => {}
                LiveEvent::Ended => return Ok(()),
            }
        }
    };
    let thread = std::thread::Builder::new().name("watch".to_owned()).spawn(watch)?;

    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    first_after(&frames, Instant::now())?;
    let mut took = Vec::new();
    for trial in 1..=TRIALS {
        first_after(&frames, Instant::now() + CALM)?;
        drop(server);
        let outage = Duration::from_millis(random.random_range(OUTAGE_MILLIS));
        std::thread::sleep(outage);
        server = Server::start(&video, port)?;
        let listens = Instant::now();
        let back = first_after(&frames, listens)? - listens;
        println!("trial {trial:2}: away for {:.1} s, back after {:.2} s", outage.as_secs_f64(), back.as_secs_f64());
        took.push(back);
    }
    shutdown.request();
    // The thread ends with an error if it has nobody to send to, which is not so.
    thread.join().map_err(|_| anyhow::anyhow!("the supervisor panicked"))??;
    drop(server);

    took.sort_unstable();
    let median = (took[TRIALS / 2 - 1] + took[TRIALS / 2]) / 2;
    println!("median {:.2} s, worst {:.2} s", median.as_secs_f64(), took[TRIALS - 1].as_secs_f64());
    println!("files, threads, processes: {resources_before:?} before, {:?} after", resources()?);
    Ok(())
}

/// The moment of capture of the first frame after `moment`.
fn first_after(frames: &Receiver<Instant>, moment: Instant) -> anyhow::Result<Instant> {
    loop {
        let captured = frames.recv_timeout(Duration::from_secs(120)).context("no frame for two minutes")?;
        if captured > moment {
            return Ok(captured);
        }
    }
}

fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    Ok(own.parent().context("a program without a folder")?.join(name))
}

/// Open files, threads, and child processes of this program.
fn resources() -> anyhow::Result<(usize, usize, usize)> {
    let count = |what: &str| anyhow::Ok(std::fs::read_dir(format!("/proc/self/{what}"))?.count());
    let children = std::fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id()))?;
    Ok((count("fd")?, count("task")?, children.split_whitespace().count()))
}
