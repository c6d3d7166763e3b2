//! `maskwatch explain`: pictures, each explained by several methods, as figures and numbers.

use std::path::Path;

use crate::analyse::comparison::{Comparison, ComparisonSettings, compare};
use crate::capture::stills::read_image;
use crate::cli::{ExplainArgs, LayerArg, ProgressArg, ResolutionArg};
use crate::config::explain::{FigureOf, figures};
use crate::config::{ConfigError, UsageError, shipped_model};
use crate::draw::{Font, figure};
use crate::exit_code::ExitCode;
use crate::model::device;
use crate::model::engine::Engine;
use crate::plot::{PlotError, write_picture};
use crate::progress::{self, Progress};
use crate::shutdown::Shutdown;
use crate::sinks::comparison::json_line;
use crate::{files, threads};

/// Explains picture after picture. One that cannot be read is told and left out.
///
/// # Errors
///
/// When the command line cannot be carried out, the model fails, or a figure cannot be written.
pub fn run(args: &ExplainArgs, shutdown: &Shutdown) -> anyhow::Result<ExitCode> {
    let figures = figures(args)?;
    threads::size_pools(args.model.threads);
    let path = args.model.model.clone().unwrap_or_else(shipped_model);
    let settings = settings(args);
    let engine = Engine::load(&path, device::resolve(args.model.device)?)?.with_resolution(settings.resolution);
    let classes = &engine.description().classes;
    let class = args.class.as_deref().map(|name| class_index(name, classes)).transpose()?;
    let settings = ComparisonSettings { class, ..settings };
    prepare_places(&figures)?;

    let font = Font::bundled()?;
    // A bar for a single picture would be gone before it is seen.
    let when = if figures.len() > 1 { args.progress } else { ProgressArg::Never };
    let mut progress = Progress::new(when, "explaining", Some(figures.len() as u64), "pictures");
    let mut code = ExitCode::Done;
    for (done, place) in (1..).zip(&figures) {
        if shutdown.is_requested() {
            code = ExitCode::Interrupted;
            break;
        }
        match read_image(&place.picture) {
            Ok(picture) => {
                let comparison = compare(&engine, &picture, &settings)?;
                let name = place.picture.file_name().unwrap_or_default().to_string_lossy();
                let notes = notes(args, &path);
                let sheet = figure::draw(&font, &picture, &comparison, classes, &name, &notes);
                write_picture(&place.figure, &sheet)?;
                tell(args.json, place, &comparison, classes)?;
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

fn settings(args: &ExplainArgs) -> ComparisonSettings {
    ComparisonSettings {
        methods: args.methods.clone().unwrap_or_default().0,
        method_settings: args.explanation.method_settings(LayerArg::Both),
        threshold: args.explanation.threshold,
        resolution: args.resolution.into(),
        gradient_source: args.gradients.into(),
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

/// What the figure does not say of itself, a line each.
fn notes(args: &ExplainArgs, model: &Path) -> Vec<String> {
    let resolution = match args.resolution {
        ResolutionArg::Native => "native",
        ResolutionArg::Atrous => "atrous",
    };
    vec![
        format!("model: {}", model.file_name().unwrap_or_default().to_string_lossy()),
        format!("layer4: {resolution}"),
        "ms: beyond one forward pass".to_owned(),
        "%: share of the variance".to_owned(),
    ]
}

/// Prints the numbers, or what the picture is taken for; either way it is told where the figure is.
fn tell(json: bool, place: &FigureOf, comparison: &Comparison, classes: &[String]) -> anyhow::Result<()> {
    let figure = place.figure.display();
    let label = &classes[comparison.label];
    let confidence = f64::from(comparison.probabilities[comparison.label]) * 100.0;
    let line = if json {
        tracing::info!("wrote {figure}");
        json_line(&place.picture, &place.figure, comparison, classes)
    } else {
        format!("{figure}: {label} {confidence:.1} %")
    };
    progress::suspended(|| super::print(format!("{line}\n").as_bytes())).map(drop)
}
