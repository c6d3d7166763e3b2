//! The tables, as CSV: the answer for each picture, and the figures by class and source.

use crate::evaluate::classification::Evaluation;
use crate::evaluate::classification::summary::Summary;
use crate::evaluate::proportion::Proportion;

/// Stands for all classes, or all sources.
const ALL: &str = "*";

/// `predictions.csv`: one line a picture, with a column of probabilities a class.
pub fn predictions(evaluation: &Evaluation) -> Vec<Vec<String>> {
    let columns = ["picture", "source", "label", "predicted"].map(str::to_owned);
    let probabilities = evaluation.classes.iter().map(|class| format!("probability_{class}"));
    let mut lines = vec![columns.into_iter().chain(probabilities).collect::<Vec<_>>()];
    for prediction in &evaluation.predictions {
        let mut line = vec![
            prediction.path.display().to_string(),
            prediction.source.clone(),
            evaluation.classes[prediction.label].clone(),
            evaluation.classes[prediction.predicted()].clone(),
        ];
        line.extend(prediction.probabilities.iter().map(f32::to_string));
        lines.push(line);
    }
    lines
}

/// `table.csv`: one line for all pictures, for each class, for each source, and for each class of each source, with `*`
/// for all of them. Accuracy over one class is its sensitivity. Empty cells are figures that do not exist.
pub fn figures(classes: &[String], summary: &Summary) -> Vec<Vec<String>> {
    let share = |name: &str| ["", "_low", "_high"].map(|bound| format!("{name}{bound}"));
    let mut header = ["source", "class", "pictures", "correct"].map(str::to_owned).to_vec();
    header.extend(["accuracy", "specificity", "precision"].iter().flat_map(|name| share(name)));
    header.push("f1".to_owned());
    let width = header.len();
    let mut lines = vec![header];
    let mut add = |source: &str, class: &str, right: Proportion, others: &[Proportion], f1: Option<f64>| {
        let mut line = vec![source.to_owned(), class.to_owned(), right.total.to_string(), right.count.to_string()];
        for proportion in [right].iter().chain(others) {
            let bounds = proportion.interval().unzip();
            line.extend([proportion.value(), bounds.0, bounds.1].map(cell));
        }
        line.resize(width - 1, String::new());
        line.push(cell(f1));
        lines.push(line);
    };
    let sources = summary.sources.iter().map(|(source, confusion)| (source.as_str(), confusion));
    for (source, confusion) in [(ALL, &summary.confusion)].into_iter().chain(sources) {
        add(source, ALL, confusion.accuracy(), &[], None);
        for (index, class) in classes.iter().enumerate() {
            let figures = confusion.of_class(index);
            if figures.support > 0 || source == ALL {
                add(source, class, figures.sensitivity, &[figures.specificity, figures.precision], figures.f1);
            }
        }
    }
    lines
}

fn cell(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| format!("{value:.6}"))
}
