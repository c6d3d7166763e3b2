//! `maskwatch doctor`: what works on this machine, and what to do about what does not.

use std::fmt;
use std::path::Path;

use tch::{Kind, Tensor};

use crate::cli::ModelArgs;
use crate::config::{scenes_model, shipped_model};
use crate::display;
use crate::exit_code::ExitCode;
use crate::model::checkpoint::Model;
use crate::model::device::{self, CudaState, DeviceChoice};
use crate::threads;

/// One thing that was looked at.
struct Check {
    subject: &'static str,
    verdict: Verdict,
    detail: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    /// Something optional is not there.
    Absent,
    /// Something that `run` needs does not work.
    Bad,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mark = match self.verdict {
            Verdict::Good => "ok",
            Verdict::Absent => "--",
            Verdict::Bad => "!!",
        };
        writeln!(f, "{mark}  {:<10} {}", self.subject, self.detail)
    }
}

/// Prints the findings.
///
/// # Errors
///
/// When standard output cannot be written.
pub fn run(args: &ModelArgs) -> anyhow::Result<ExitCode> {
    threads::size_pools(args.threads);
    let mut checks = vec![libtorch(), cuda()];
    checks.extend(models(args));
    checks.extend(opencv());
    checks.push(encoder());
    checks.push(display());
    checks.push(cameras());
    let mut text: String = checks.iter().map(Check::to_string).collect();
    let bad = checks.iter().filter(|check| check.verdict == Verdict::Bad).count();
    text.push_str(&match bad {
        0 => "everything that is needed works\n".to_owned(),
        _ => format!("{bad} of {} need attention\n", checks.len()),
    });
    super::print(text.as_bytes())?;
    Ok(if bad == 0 { ExitCode::Done } else { ExitCode::Failed })
}

fn check(subject: &'static str, result: Result<String, String>, otherwise: Verdict) -> Check {
    match result {
        Ok(detail) => Check { subject, verdict: Verdict::Good, detail },
        Err(detail) => Check { subject, verdict: otherwise, detail },
    }
}

fn libtorch() -> Check {
    let kind = (Kind::Float, tch::Device::Cpu);
    let sum = Tensor::f_ones([64, 64], kind)
        .and_then(|ones| ones.f_matmul(&ones))
        .and_then(|product| product.f_double_value(&[7, 7]));
    let result = match sum {
        Ok(64.0) => Ok(format!(
            "{}, {} threads, oneDNN {}",
            loaded_from("libtorch_cpu.so").unwrap_or_else(|| "linked".to_owned()),
            tch::get_num_threads(),
            if tch::utils::has_mkldnn() { "yes" } else { "no" }
        )),
        Ok(wrong) => Err(format!("computes wrong results ({wrong} for 64); run scripts/setup again")),
        Err(error) => Err(format!(
            "does not work ({}); run scripts/setup again",
            error.to_string().lines().next().unwrap_or_default()
        )),
    };
    check("libtorch", result, Verdict::Bad)
}

/// Where the loader found a library.
fn loaded_from(library: &str) -> Option<String> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let line = maps.lines().find(|line| line.ends_with(library))?;
    line.find('/').map(|start| line[start..].to_owned())
}

fn cuda() -> Check {
    let state = device::cuda_state(0);
    let result = if let CudaState::Ready(_) = state { Ok(state.to_string()) } else { Err(state.to_string()) };
    check("CUDA", result, Verdict::Absent)
}

/// The one that is asked for, or both that are shipped.
fn models(args: &ModelArgs) -> Vec<Check> {
    match &args.model {
        Some(path) => vec![model(path, args.device)],
        None => [scenes_model(), shipped_model()].map(|path| model(&path, args.device)).into(),
    }
}

fn model(path: &Path, device: DeviceChoice) -> Check {
    let result = device::resolve(device).and_then(|device| Model::load(path, device)).map(|model| {
        let description = &model.description;
        let (size, classes) = (description.input_size, description.classes.join(", "));
        format!("{}: {} of {size}x{size} pixels, classes {classes}", path.display(), description.architecture)
    });
    check("model", result.map_err(|error| error.to_string()), Verdict::Bad)
}

#[cfg(feature = "opencv")]
fn opencv() -> Vec<Check> {
    use opencv::videoio;
    let version = opencv::core::get_version_string().map_err(|error| error.message);
    // By number: several back-ends share one, and the bindings know each number by a single name.
    let backends: Vec<i32> =
        videoio::get_backends().map(|backends| backends.iter().map(|api| api as i32).collect()).unwrap_or_default();
    let backend = |subject, api: i32, purpose: &str, verdict| {
        let result = if backends.contains(&api) {
            Ok(format!("OpenCV back-end present: {purpose}"))
        } else {
            Err(format!("OpenCV was built without this back-end: no {purpose}; install Debian's libopencv-videoio406"))
        };
        check(subject, result, verdict)
    };
    vec![
        check("OpenCV", version, Verdict::Bad),
        backend("FFmpeg", videoio::CAP_FFMPEG, "video files and network streams", Verdict::Bad),
        backend("V4L2", videoio::CAP_V4L2, "cameras", Verdict::Absent),
    ]
}

#[cfg(not(feature = "opencv"))]
fn opencv() -> Vec<Check> {
    vec![check(
        "OpenCV",
        Err("not in this build: pictures only, no videos, cameras or windows".to_owned()),
        Verdict::Absent,
    )]
}

#[cfg(feature = "gstreamer")]
fn encoder() -> Check {
    let result = crate::sinks::video::check_encoder()
        .map(|()| "GStreamer can write H.264 video (--save)".to_owned())
        .map_err(|error| error.to_string());
    check("encoder", result, Verdict::Bad)
}

#[cfg(not(feature = "gstreamer"))]
fn encoder() -> Check {
    check("encoder", Err("not in this build: no --save".to_owned()), Verdict::Absent)
}

fn display() -> Check {
    let result = display::check()
        .map(|()| "there is one for --show".to_owned())
        .map_err(|reason| format!("{reason}: no --show; use --save, or log in with ssh -X"));
    check("display", result, Verdict::Absent)
}

fn cameras() -> Check {
    let mut found: Vec<String> = glob::glob("/dev/video*")
        .into_iter()
        .flatten()
        .flatten()
        .map(|path| match readable(&path) {
            Ok(()) => path.display().to_string(),
            Err(error) => format!("{} ({error})", path.display()),
        })
        .collect();
    found.sort();
    let result = if found.is_empty() {
        Err("no /dev/video*: plug one in; in a container, pass it through".to_owned())
    } else {
        Ok(found.join(", "))
    };
    check("cameras", result, Verdict::Absent)
}

fn readable(path: &Path) -> std::io::Result<()> {
    std::fs::File::open(path).map(drop)
}
