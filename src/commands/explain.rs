//! `maskwatch explain`: pictures, each explained by several methods or by what a scan finds, as figures and numbers.

use std::path::Path;

use image::RgbImage;

use crate::analyse::ScanAnalysisSettings;
use crate::analyse::comparison::{ComparisonSettings, compare};
use crate::capture::stills::read_image;
use crate::cli::{ExplainArgs, LayerArg, ProgressArg};
use crate::config::explain::{FigureOf, figures, scan};
use crate::config::{ConfigError, UsageError, scenes_model, shipped_model};
use crate::draw::{Font, figure};
use crate::exit_code::ExitCode;
use crate::model::device;
use crate::model::engine::Engine;
use crate::model::resnet::Resolution;
use crate::plot::{PlotError, write_picture};
use crate::progress::{self, Progress};
use crate::scan::Scanner;
use crate::shutdown::Shutdown;
use crate::sinks::{comparison, scan as scan_sink};
use crate::{files, threads};

/// What is said of a picture.
struct Explained {
    figure: RgbImage,
    /// For people.
    summary: String,
    /// For programs.
    json: String,
}

/// Explains picture after picture. One that cannot be read is told and left out.
///
/// # Errors
///
/// When the command line cannot be carried out, the model fails, or a figure cannot be written.
pub fn run(args: &ExplainArgs, shutdown: &Shutdown) -> anyhow::Result<ExitCode> {
    let scan = scan(args)?;
    let figures = figures(args)?;
    threads::size_pools(args.model.threads);
    match scan {
        Some(settings) => run_scan(args, settings, &figures, shutdown),
        None => run_comparison(args, &figures, shutdown),
    }
}

fn run_comparison(args: &ExplainArgs, figures: &[FigureOf], shutdown: &Shutdown) -> anyhow::Result<ExitCode> {
    let path = args.model.model.clone().unwrap_or_else(shipped_model);
    let settings = settings(args);
    let engine = load(args, &path, settings.resolution)?;
    let classes = &engine.description().classes;
    let class = args.class.as_deref().map(|name| class_index(name, classes)).transpose()?;
    let settings = ComparisonSettings { class, ..settings };
    let notes = [
        model_note(&path),
        resolution_note(settings.resolution),
        "ms: beyond one forward pass".to_owned(),
        "%: share of the variance".to_owned(),
    ];
    let font = Font::bundled()?;
    each_picture(args, figures, shutdown, |place, picture| {
        let comparison = compare(&engine, picture, &settings)?;
        let label = &classes[comparison.label];
        let confidence = f64::from(comparison.probabilities[comparison.label]) * 100.0;
        Ok(Explained {
            figure: figure::draw(&font, picture, &comparison, classes, &name_of(place), &notes),
            summary: format!("{label} {confidence:.1} %"),
            json: comparison::json_line(&place.picture, &place.figure, &comparison, classes),
        })
    })
}

fn run_scan(
    args: &ExplainArgs,
    settings: ScanAnalysisSettings,
    figures: &[FigureOf],
    shutdown: &Shutdown,
) -> anyhow::Result<ExitCode> {
    let path = args.model.model.clone().unwrap_or_else(scenes_model);
    let resolution = args.resolution.map_or(Resolution::Native, Into::into);
    let scanner = Scanner::new(load(args, &path, resolution)?, settings.scan);
    let classes = scanner.classes();
    let thresholds = settings.thresholds(classes);
    let font = Font::bundled()?;
    each_picture(args, figures, shutdown, |place, picture| {
        let mut scan = scanner.scan(picture)?;
        scan.keep_from(&thresholds);
        let (rows, columns) = scan.grid();
        let captured = scan.reduction.captured_variance * 100.0;
        let notes = [
            model_note(&path),
            resolution_note(resolution),
            format!("scanned at {}x{}: {rows}x{columns} positions", scan.size.width, scan.size.height),
            format!("{} components, {captured:.0} % of the variance", scan.reduction.components),
            format!("maps: {}", settings.scan.map),
        ];
        Ok(Explained {
            figure: figure::scan::draw(&font, picture, &scan, classes, &name_of(place), &notes),
            summary: figure::scan::counted(&scan.detections, classes),
            json: scan_sink::json_line(&place.picture, &place.figure, &scan, classes),
        })
    })
}

/// Writes and tells what `explain` says of each picture that can be read.
fn each_picture(
    args: &ExplainArgs,
    figures: &[FigureOf],
    shutdown: &Shutdown,
    explain: impl Fn(&FigureOf, &RgbImage) -> anyhow::Result<Explained>,
) -> anyhow::Result<ExitCode> {
    prepare_places(figures)?;
    // A bar for a single picture would be gone before it is seen.
    let when = if figures.len() > 1 { args.progress } else { ProgressArg::Never };
    let mut progress = Progress::new(when, "explaining", Some(figures.len() as u64), "pictures");
    let mut code = ExitCode::Done;
    for (done, place) in (1..).zip(figures) {
        if shutdown.is_requested() {
            code = ExitCode::Interrupted;
            break;
        }
        match read_image(&place.picture) {
            Ok(picture) => {
                let explained = explain(place, &picture)?;
                write_picture(&place.figure, &explained.figure)?;
                tell(args.json, place, &explained)?;
            }
            Err(error) => {
                tracing::error!("{error}");
                code = ExitCode::Input;
            }
        }
        progress.update(done, "");
    }
    progress.finish();
    Ok(code)
}

fn load(args: &ExplainArgs, path: &Path, resolution: Resolution) -> anyhow::Result<Engine> {
    let engine = Engine::load(path, device::resolve(args.model.device)?)?;
    Ok(engine.with_precision(args.model.precision.into())?.with_resolution(resolution)?)
}

fn settings(args: &ExplainArgs) -> ComparisonSettings {
    ComparisonSettings {
        methods: args.methods.clone().unwrap_or_default().0,
        method_settings: args.explanation.method_settings(LayerArg::Both),
        threshold: args.explanation.threshold,
        resolution: args.resolution.map_or(Resolution::Atrous, Into::into),
        gradient_source: args.gradients.map(Into::into).unwrap_or_default(),
        class: None,
    }
}

fn class_index(name: &str, classes: &[String]) -> Result<usize, ConfigError> {
    let unknown = || UsageError(format!("--class {name}: the classes of the model are {}", classes.join(", ")));
    Ok(classes.iter().position(|class| class == name).ok_or_else(unknown)?)
}

/// Makes the folders of figures, so that what cannot be written is known before the work.
fn prepare_places(figures: &[FigureOf]) -> Result<(), PlotError> {
    let Some(FigureOf { figure, .. }) = figures.first() else { return Ok(()) };
    let folder = figure.parent().filter(|folder| !folder.as_os_str().is_empty());
    let made = folder.map_or(Ok(()), std::fs::create_dir_all);
    made.and_then(|()| files::check_replaceable(figure))
        .map_err(|source| PlotError::Unwritable { path: figure.clone(), source })
}

fn name_of(place: &FigureOf) -> String {
    place.picture.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn model_note(model: &Path) -> String {
    format!("model: {}", model.file_name().unwrap_or_default().to_string_lossy())
}

fn resolution_note(resolution: Resolution) -> String {
    let resolution = match resolution {
        Resolution::Native => "native",
        Resolution::Atrous => "atrous",
    };
    format!("layer4: {resolution}")
}

/// Prints the numbers, or what the picture is taken for; either way it is told where the figure is.
fn tell(json: bool, place: &FigureOf, explained: &Explained) -> anyhow::Result<()> {
    let figure = place.figure.display();
    let line = if json {
        tracing::info!("wrote {figure}");
        explained.json.clone()
    } else {
        format!("{figure}: {}", explained.summary)
    };
    progress::suspended(|| super::print(format!("{line}\n").as_bytes())).map(drop)
}
