//! The tables, as CSV: of detections, of faces, of alarms on pictures without faces, and of the figures. Empty cells are what
//! is not there.

use super::Findings;
use crate::analyse::Detection;
use crate::evaluate::proportion::Proportion;
use crate::evaluate::report::short;
use crate::evaluate::scenes::operating::Measured;
use crate::evaluate::scenes::verdict::{DetectionVerdict, FaceVerdict, Verdicts};

/// `detections.csv`: one line a detection on a measured picture, however unsure. `outcome` is that within its class at an IoU
/// of 0.3; `iou`, `face_class` and `face_size` are of the face that it found, or else of the one that it agrees with best.
/// `class_across` is the class of the face that it found whatever its class.
pub fn detections(findings: Findings, judged: &[(Measured, Verdicts)]) -> Vec<Vec<String>> {
    let columns = [
        "picture",
        "label",
        "score",
        "x",
        "y",
        "width",
        "height",
        "outcome",
        "iou",
        "face_class",
        "face_size",
        "class_across",
    ];
    let mut lines = vec![columns.map(str::to_owned).to_vec()];
    for (Measured { scene, .. }, verdicts) in judged {
        let found = verdicts.nearest.iter().zip(&verdicts.across);
        for ((detection, verdict), (nearest, across)) in scene.detections.iter().zip(&verdicts.detections).zip(found) {
            let outcome = match verdict {
                DetectionVerdict::Right => "matched",
                DetectionVerdict::Mislabelled | DetectionVerdict::False => "false",
                DetectionVerdict::Absorbed => "absorbed",
                DetectionVerdict::BelowThreshold => "below threshold",
            };
            let face = nearest.map(|(face, _)| &scene.faces[face]);
            let mut line = vec![scene.path.display().to_string()];
            line.extend(detected(findings, detection));
            line.push(outcome.to_owned());
            line.push(cell(nearest.map(|(_, iou)| iou)));
            line.extend([cell(face.map(|face| &face.class)), cell(face.map(|face| face.size()))]);
            line.push(cell(across.map(|face| &scene.faces[face].class)));
            lines.push(line);
        }
    }
    lines
}

/// `faces.csv`: one line an annotated face of a measured picture, with what became of it at an IoU of 0.3.
pub fn faces(judged: &[(Measured, Verdicts)]) -> Vec<Vec<String>> {
    let columns = ["picture", "class", "x", "y", "width", "height", "size", "outcome"];
    let mut lines = vec![columns.map(str::to_owned).to_vec()];
    for (Measured { scene, .. }, verdicts) in judged {
        for (face, verdict) in scene.faces.iter().zip(&verdicts.faces) {
            let outcome = match verdict {
                FaceVerdict::Found => "found",
                FaceVerdict::Mislabelled => "mislabelled",
                FaceVerdict::Missed => "missed",
                FaceVerdict::Ignored => "ignored",
            };
            let mut line = vec![scene.path.display().to_string(), face.class.clone()];
            let sides = [face.rect.x, face.rect.y, face.rect.width, face.rect.height, face.size()];
            line.extend(sides.map(|pixels| pixels.to_string()));
            line.push(outcome.to_owned());
            lines.push(line);
        }
    }
    lines
}

/// `face_free.csv`: one line a detection on a picture of the folder without faces, however unsure.
pub fn face_free(findings: Findings) -> Vec<Vec<String>> {
    let columns = ["picture", "label", "score", "x", "y", "width", "height"];
    let mut lines = vec![columns.map(str::to_owned).to_vec()];
    for scene in &findings.evaluation.face_free {
        for detection in &scene.detections {
            let mut line = vec![scene.path.display().to_string()];
            line.extend(detected(findings, detection));
            lines.push(line);
        }
    }
    lines
}

fn detected(findings: Findings, detection: &Detection) -> Vec<String> {
    let rect = detection.rect;
    let mut cells = vec![findings.settings.classes[detection.label].clone(), short(detection.score).to_string()];
    cells.extend([rect.x, rect.y, rect.width, rect.height].map(|pixels| pixels.to_string()));
    cells
}

/// `table.csv`: one line for all classes (`*`) and one a class, as in `report.json`.
pub fn figures(findings: Findings) -> Vec<Vec<String>> {
    let mut columns = vec!["class".to_owned(), "faces".to_owned()];
    let with_bounds = |name: &str| [name.to_owned(), format!("{name}_low"), format!("{name}_high")];
    for iou in ["", "50"] {
        columns.extend(with_bounds(&format!("ap{}", if iou.is_empty() { "30" } else { iou })));
        columns.extend(
            ["precision", "recall", "label_accuracy"].iter().flat_map(|name| with_bounds(&format!("{name}{iou}"))),
        );
    }
    columns.push("counting_error".to_owned());
    columns.extend(with_bounds("false_alarms_per_1000"));
    columns.push("false_alarm_boxes_per_1000".to_owned());
    let mut lines = vec![columns];
    for (name, figures) in findings.scopes("*") {
        let mut line = vec![name.to_owned(), figures.tally[0].faces.to_string()];
        for place in 0..2 {
            let ap = figures.ap[place];
            line.extend(bounded(ap.map(|ap| ap.value), ap.and_then(|ap| ap.interval), 1.0));
            let tally = figures.tally[place];
            let shares = [tally.precision(), tally.recall(), figures.label_accuracy[place]];
            line.extend(shares.iter().flat_map(|share| bounded(share.value(), share.interval(), 1.0)));
        }
        line.push(cell(figures.counting_error));
        let alarms = figures.alarms.map(|alarms| alarms.pictures);
        line.extend(bounded(alarms.and_then(Proportion::value), alarms.and_then(Proportion::interval), 1e3));
        line.push(cell(figures.alarms.map(|alarms| alarms.boxes_per_1000())));
        lines.push(line);
    }
    lines
}

fn bounded(value: Option<f64>, interval: Option<(f64, f64)>, scale: f64) -> [String; 3] {
    [value, interval.map(|bounds| bounds.0), interval.map(|bounds| bounds.1)]
        .map(|value| cell(value.map(|value| scale * value)))
}

fn cell(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}
