//! The numbers of a comparison of methods: one JSON line a picture.

use std::path::Path;

use ndarray::Array2;
use serde::Serialize;
use serde::ser::Serializer;

use super::events::{BoxEvent, Probabilities, millis, rounded};
use crate::analyse::comparison::{Comparison, MethodMap};
use crate::boxes::Threshold;

/// A comparison as a JSON object without line breaks. Values of maps, probabilities and scores have four digits behind
/// the point, boxes are in pixels of the picture.
pub fn json_line(picture: &Path, figure: &Path, comparison: &Comparison, classes: &[String]) -> String {
    let line = Line {
        picture: picture.to_string_lossy().into_owned(),
        figure: figure.to_string_lossy().into_owned(),
        label: &classes[comparison.label],
        probabilities: Probabilities(classes, &comparison.probabilities),
        class: &classes[comparison.class],
        methods: comparison.maps.iter().map(|map| MethodLine::new(map, classes)).collect(),
    };
    serde_json::to_string(&line).expect("text keys and finite numbers can be written")
}

#[derive(Serialize)]
struct Line<'a> {
    picture: String,
    figure: String,
    label: &'a str,
    probabilities: Probabilities<'a>,
    /// The class that is explained.
    class: &'a str,
    methods: Vec<MethodLine<'a>>,
}

#[derive(Serialize)]
struct MethodLine<'a> {
    method: &'static str,
    /// Rows and columns.
    grid: (usize, usize),
    #[serde(serialize_with = "rows_of")]
    map: &'a Array2<f32>,
    #[serde(serialize_with = "number_or_name")]
    threshold: Threshold,
    boxes: Vec<BoxEvent<'a>>,
    components: Option<usize>,
    captured_variance: Option<f64>,
    ms: f64,
}

impl<'a> MethodLine<'a> {
    fn new(map: &'a MethodMap, classes: &'a [String]) -> Self {
        Self {
            method: map.method.name(),
            grid: map.values.dim(),
            map: &map.values,
            threshold: map.threshold,
            boxes: map.boxes.iter().map(|found| BoxEvent::new(found, classes)).collect(),
            components: map.reduction.map(|reduction| reduction.components),
            captured_variance: map.reduction.map(|reduction| rounded(reduction.captured_variance, 4)),
            ms: millis(map.time),
        }
    }
}

fn rows_of<S: Serializer>(map: &&Array2<f32>, serializer: S) -> Result<S::Ok, S::Error> {
    let rows = map.rows().into_iter();
    serializer.collect_seq(rows.map(|row| row.iter().map(|&value| rounded(f64::from(value), 4)).collect::<Vec<_>>()))
}

fn number_or_name<S: Serializer>(threshold: &Threshold, serializer: S) -> Result<S::Ok, S::Error> {
    match threshold {
        Threshold::Share(share) => serializer.serialize_f64(rounded(f64::from(*share), 4)),
        Threshold::Otsu => serializer.serialize_str("otsu"),
    }
}
