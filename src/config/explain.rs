//! What `explain` was asked for: pictures and where their figures go.

use std::path::{Path, PathBuf};

use super::capture::with_unique_names;
use super::scan::{refuse_with_scan, scan_settings};
use super::{ConfigError, UsageError, refuse_source, refuse_unheeded};
use crate::analyse::ScanAnalysisSettings;
use crate::capture::SourceSpec;
use crate::cli::{ExplainArgs, ScanArg, ScanArgs};

/// Behind the name of a picture, that of its figure.
const SUFFIX: &str = ".explain.png";

/// A picture and the file of its figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FigureOf {
    /// The picture.
    pub picture: PathBuf,
    /// The file to write.
    pub figure: PathBuf,
}

/// How pictures are scanned; nothing if methods are compared.
///
/// # Errors
///
/// When an option is given that does not go with it.
pub fn scan(args: &ExplainArgs) -> Result<Option<ScanAnalysisSettings>, ConfigError> {
    let asked = ScanArgs { scan: Some(args.scan.unwrap_or(ScanArg::Whole)), min_face: None, scan_map: None };
    let settings = scan_settings(&asked, &args.explanation)?;
    match settings {
        Some(_) => refuse_with_scan(&[
            ("--methods", args.methods.is_some()),
            ("--class", args.class.is_some()),
            ("--gradients", args.gradients.is_some()),
        ])?,
        None => refuse_unheeded(&args.explanation, &args.methods.clone().unwrap_or_default().0)?,
    }
    Ok(settings)
}

/// The pictures of a command line, each with the file for its figure; there is at least one, and no figure takes the
/// place of a picture.
///
/// # Errors
///
/// When a source does not exist or is no picture, or figures cannot go where they are wanted.
pub fn figures(args: &ExplainArgs) -> Result<Vec<FigureOf>, ConfigError> {
    let mut specs = Vec::new();
    for source in &args.pictures {
        let found = pictures(source)?;
        specs.extend(found.into_iter().map(SourceSpec::Image));
    }
    let figures = match args.out.as_deref() {
        Some(out) if is_file(out) => vec![single(out, &specs)?],
        out => {
            let folder = out.unwrap_or(Path::new(""));
            let named = with_unique_names(specs.clone()).into_iter();
            named.map(|source| folder.join(format!("{}{SUFFIX}", source.name))).collect()
        }
    };
    for figure in &figures {
        refuse_source(figure, &specs)?;
    }
    let pictures = specs.into_iter().filter_map(|spec| match spec {
        SourceSpec::Image(picture) => Some(picture),
        _ => None,
    });
    Ok(pictures.zip(figures).map(|(picture, figure)| FigureOf { picture, figure }).collect())
}

/// The pictures behind an argument. In a folder or pattern, figures of an earlier run are left out, and so are videos.
fn pictures(source: &str) -> Result<Vec<PathBuf>, ConfigError> {
    let refused = |what: String| UsageError(format!("{what} is no picture: explain takes pictures, run takes videos"));
    let mut pictures = Vec::new();
    for spec in SourceSpec::parse(source)? {
        match spec {
            SourceSpec::Image(path) if path == Path::new(source) => pictures.push(path),
            SourceSpec::Image(path) if path.to_string_lossy().ends_with(SUFFIX) => {}
            SourceSpec::Image(path) => pictures.push(path),
            SourceSpec::VideoFile(path) if path == Path::new(source) => {
                return Err(refused(path.display().to_string()).into());
            }
            SourceSpec::VideoFile(path) => tracing::warn!("left out: {}, a video", path.display()),
            SourceSpec::Camera(camera) => return Err(refused(camera.device().display().to_string()).into()),
            SourceSpec::Stream(url) => return Err(refused(url.to_string()).into()),
            SourceSpec::Synthetic { .. } => return Err(refused(spec.name()).into()),
        }
    }
    if pictures.is_empty() {
        return Err(UsageError(format!("{source} holds no picture but figures of explain; give pictures")).into());
    }
    Ok(pictures)
}

/// Whether figures are wanted in a file rather than in a folder.
fn is_file(out: &Path) -> bool {
    out.extension().is_some() && !out.is_dir() && !out.to_string_lossy().ends_with('/')
}

/// The one file for the one picture.
fn single(out: &Path, pictures: &[SourceSpec]) -> Result<PathBuf, UsageError> {
    let is_png = out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
    match pictures.len() {
        _ if !is_png => {
            Err(UsageError(format!("--out {}: a figure is saved as .png, or into a folder", out.display())))
        }
        1 => Ok(out.to_owned()),
        count => Err(UsageError(format!(
            "--out {}: the figures of {count} pictures go into a folder; give one, such as --out figures/",
            out.display()
        ))),
    }
}
