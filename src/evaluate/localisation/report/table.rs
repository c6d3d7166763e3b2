//! The tables, as CSV: of pictures, of all that was measured, of thresholds, and of the figures. Empty cells are figures that
//! were not measured.

use crate::evaluate::localisation::Evaluation;
use crate::evaluate::localisation::max_box_acc::LEAST_IOU;
use crate::evaluate::localisation::picture::COMPONENTS;
use crate::evaluate::localisation::summary::Summary;
use crate::evaluate::localisation::sweep::{THRESHOLDS, threshold};

/// `pictures.csv`: one line a picture and annotated class, with the IoU of each method (HayCAM paper, table 2).
pub fn pictures(evaluation: &Evaluation) -> Vec<Vec<String>> {
    let columns = ["picture", "class", "predicted", "probability", "width", "height", "boxes"].map(str::to_owned);
    let methods = evaluation.methods.iter().map(|choice| format!("iou_{}", choice.method));
    let mut lines = vec![columns.into_iter().chain(methods).collect::<Vec<_>>()];
    for subject in &evaluation.subjects {
        let picture = &evaluation.pictures[subject.picture];
        let mut line = vec![
            picture.path.display().to_string(),
            evaluation.classes[subject.class].clone(),
            evaluation.classes[picture.predicted].clone(),
            picture.probabilities[subject.class].to_string(),
            picture.size.0.to_string(),
            picture.size.1.to_string(),
            subject.boxes.len().to_string(),
        ];
        line.extend(subject.measures.iter().map(|measured| measured.iou.to_string()));
        lines.push(line);
    }
    lines
}

/// `measures.csv`: one line a picture, annotated class and method. `x` to `height` are the box in pixels of the picture,
/// `iou_kN` the IoU with N principal components.
pub fn measures(evaluation: &Evaluation) -> Vec<Vec<String>> {
    let columns = [
        "picture",
        "class",
        "method",
        "threshold",
        "x",
        "y",
        "width",
        "height",
        "iou",
        "dice",
        "iou_predicted",
        "pointing",
        "insertion",
        "deletion",
        "ms",
    ];
    let by_components = COMPONENTS.map(|components| format!("iou_k{components}"));
    let mut lines = vec![columns.into_iter().map(str::to_owned).chain(by_components).collect::<Vec<_>>()];
    for subject in &evaluation.subjects {
        for (choice, measured) in evaluation.methods.iter().zip(&subject.measures) {
            let mut line = vec![
                evaluation.pictures[subject.picture].path.display().to_string(),
                evaluation.classes[subject.class].clone(),
                choice.method.to_string(),
                choice.threshold.to_string(),
            ];
            let sides = measured.rect.map(|rect| [rect.x, rect.y, rect.width, rect.height]);
            line.extend((0..4).map(|side| cell(sides.map(|sides| sides[side]))));
            line.extend([measured.iou, measured.dice, measured.iou_of_predicted].map(|value| value.to_string()));
            line.push(u8::from(measured.points_inside).to_string());
            line.push(cell(measured.areas.map(|areas| areas.insertion)));
            line.push(cell(measured.areas.map(|areas| areas.deletion)));
            line.push((measured.time.as_secs_f64() * 1e3).to_string());
            line.extend((0..COMPONENTS.len()).map(|index| cell(measured.iou_by_components.get(index))));
            lines.push(line);
        }
    }
    lines
}

/// `thresholds.csv`: one line a method and threshold, with mean IoU and, for each IoU of MaxBoxAccV2, the share of right
/// boxes.
pub fn thresholds(summary: &Summary) -> Vec<Vec<String>> {
    let columns = ["method", "threshold", "mean_iou"].map(str::to_owned);
    let shares = LEAST_IOU.map(|iou| format!("box_acc_{iou}"));
    let mut lines = vec![columns.into_iter().chain(shares).collect::<Vec<_>>()];
    for figures in &summary.methods {
        for index in 0..THRESHOLDS {
            let mut line = vec![
                figures.choice.method.to_string(),
                threshold(index).to_string(),
                figures.iou_by_threshold[index].to_string(),
            ];
            line.extend(figures.max_box_acc.by_threshold.iter().map(|shares| shares[index].to_string()));
            lines.push(line);
        }
    }
    lines
}

/// `table.csv`: one line a method or baseline.
pub fn figures(summary: &Summary) -> Vec<Vec<String>> {
    let header = [
        "method",
        "threshold",
        "mean_iou",
        "mean_iou_low",
        "mean_iou_high",
        "mean_iou_predicted",
        "dice",
        "max_box_acc_v2",
        "pointing",
        "insertion",
        "deletion",
        "ms",
    ];
    let mut lines = vec![header.map(str::to_owned).to_vec()];
    lines.extend(summary.methods.iter().map(|figures| {
        vec![
            figures.choice.method.to_string(),
            figures.choice.threshold.to_string(),
            figures.iou.mean.to_string(),
            figures.iou.interval.0.to_string(),
            figures.iou.interval.1.to_string(),
            figures.iou_of_predicted.mean.to_string(),
            figures.dice.to_string(),
            figures.max_box_acc.value().to_string(),
            cell(figures.pointing.value()),
            cell(figures.areas.map(|areas| areas.insertion)),
            cell(figures.areas.map(|areas| areas.deletion)),
            figures.millis.to_string(),
        ]
    }));
    lines.extend(summary.baselines.iter().map(|figures| {
        let (low, high) = figures.iou.interval;
        let shares = [figures.iou.mean, low, high].map(|value| value.to_string());
        let mut line = vec![figures.baseline.name().to_owned(), String::new()];
        line.extend(shares);
        line.extend([String::new(), figures.dice.to_string(), figures.box_acc.to_string()]);
        line.push(cell(figures.pointing.value()));
        line.resize(header.len(), String::new());
        line
    }));
    lines
}

fn cell(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}
