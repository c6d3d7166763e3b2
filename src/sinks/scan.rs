//! The numbers of a scanned picture: one JSON line.

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::Array2;
use serde::Serialize;

use super::events::{BoxEvent, ScanEvent, millis, rounded};
use crate::scan::{Distance, Scan, ScanTimes};

/// A scan as a JSON object without line breaks. Values of maps and posteriors have four digits behind the point, boxes are
/// in pixels of the picture.
pub fn json_line(picture: &Path, figure: &Path, scan: &Scan, classes: &[String]) -> String {
    let (rows, columns) = scan.grid();
    let posterior = |class: usize| {
        let values = scan.reading.posteriors().column(class).to_owned().into_shape_with_order((rows, columns));
        values.expect("one value for each position of the grid")
    };
    let boxes = scan.detections.iter().zip(&scan.peaks).map(|(found, peak)| ScannedBox {
        found: BoxEvent::new(found, classes),
        view: match peak.distance {
            Distance::Far => "far",
            Distance::Near => "near",
        },
    });
    let ScanTimes { prepare, infer, reduce, maps, regions } = scan.times;
    let line = Line {
        picture: picture.to_string_lossy().into_owned(),
        figure: figure.to_string_lossy().into_owned(),
        scan: scan.size.into(),
        boxes: boxes.collect(),
        grid: (rows, columns),
        maps: by_class(classes, |class| lines_of(&scan.maps[class])),
        posteriors: by_class(classes, |class| lines_of(&posterior(class))),
        near_maps: scan.near.as_ref().map(|near| by_class(classes, |class| lines_of(&near.maps[class]))),
        components: scan.reduction.components,
        captured_variance: rounded(scan.reduction.captured_variance, 4),
        ms: Millis {
            prepare: millis(prepare),
            infer: millis(infer),
            reduce: millis(reduce),
            maps: millis(maps),
            regions: millis(regions),
        },
    };
    serde_json::to_string(&line).expect("text keys and finite numbers can be written")
}

#[derive(Serialize)]
struct Line<'a> {
    picture: String,
    figure: String,
    scan: ScanEvent,
    boxes: Vec<ScannedBox<'a>>,
    /// Rows and columns.
    grid: (usize, usize),
    maps: BTreeMap<&'a str, Vec<Vec<f64>>>,
    posteriors: BTreeMap<&'a str, Vec<Vec<f64>>>,
    /// Of the near view, if there was one.
    near_maps: Option<BTreeMap<&'a str, Vec<Vec<f64>>>>,
    components: usize,
    captured_variance: f64,
    ms: Millis,
}

/// A box and the view whose map made it.
#[derive(Serialize)]
struct ScannedBox<'a> {
    #[serde(flatten)]
    found: BoxEvent<'a>,
    view: &'static str,
}

#[derive(Serialize)]
struct Millis {
    prepare: f64,
    infer: f64,
    reduce: f64,
    maps: f64,
    regions: f64,
}

fn by_class<T>(classes: &[String], value: impl Fn(usize) -> T) -> BTreeMap<&str, T> {
    classes.iter().enumerate().map(|(class, name)| (name.as_str(), value(class))).collect()
}

fn lines_of(map: &Array2<f32>) -> Vec<Vec<f64>> {
    map.rows().into_iter().map(|row| row.iter().map(|&value| rounded(f64::from(value), 4)).collect()).collect()
}
