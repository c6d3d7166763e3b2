//! `report.md`: the report for people.

use super::{CONFUSION, Findings, MISTAKES, PREDICTIONS, RELIABILITY};
use crate::evaluate::classification::calibration::BINS;
use crate::evaluate::markdown::{escaped, table};
use crate::evaluate::report::{JSON, TABLE};
use crate::evaluate::text::{number, percent, printable};

/// The text of `report.md`; `has_sheet` if there are mistakes to be shown.
pub fn write(Findings { model, evaluation, summary }: Findings, has_sheet: bool) -> String {
    let classes: Vec<String> = evaluation.classes.iter().map(|class| escaped(class)).collect();
    let right = summary.confusion.accuracy();
    let mut text = format!(
        "# Evaluation\n\n\
         Model `{}`, {} pictures of `{}`. Shares are in per cent, in brackets their 95 % score intervals (Wilson), which \
         take the pictures for independent of each other.\n\n",
        printable(&model.display().to_string()),
        right.total,
        printable(&evaluation.data.display().to_string()),
    );
    if !evaluation.unknown_classes.is_empty() {
        let names: Vec<String> = evaluation.unknown_classes.iter().map(|name| escaped(name)).collect();
        text += &format!("Left out: class folders that the model does not know ({}).\n\n", names.join(", "));
    }
    if !evaluation.unreadable.is_empty() {
        text +=
            &format!("Left out: {} files that could not be read; {JSON} names them.\n\n", evaluation.unreadable.len());
    }

    text += &table(
        &["", "pictures", "right by the largest of all outputs", "right by the larger of the two outputs"],
        [
            vec!["all classes".to_owned(), right.total.to_string(), percent(right), "-".to_owned()],
            vec![
                "mask or no mask".to_owned(),
                summary.mask_or_not.total.to_string(),
                percent(summary.mask_or_not),
                percent(summary.mask_or_not_of_two),
            ],
        ],
    );
    text += &format!(
        "\nMean over the classes: sensitivity (balanced accuracy) {}, F1 {}.\n",
        number(summary.confusion.balanced_accuracy()),
        number(summary.confusion.macro_f1())
    );

    text += "\n## By class\n\n";
    text += &table(
        &["class", "pictures", "sensitivity", "specificity", "precision", "F1"],
        classes.iter().enumerate().map(|(index, name)| {
            let class = summary.confusion.of_class(index);
            let shares = [class.sensitivity, class.specificity, class.precision].map(percent);
            let mut row = vec![name.clone(), class.support.to_string()];
            row.extend(shares);
            row.push(number(class.f1));
            row
        }),
    );

    text += "\n## By source\n\nThe source is the prefix of the file name.\n\n";
    let rows = summary.sources.iter().flat_map(|(source, confusion)| {
        let accuracy = confusion.accuracy();
        let whole = vec![escaped(source), "all".to_owned(), accuracy.total.to_string(), percent(accuracy)];
        let nothing = ["-".to_owned(), "-".to_owned(), "-".to_owned()];
        let by_class = classes.iter().enumerate().filter_map(|(index, class)| {
            let metrics = confusion.of_class(index);
            let shares = [metrics.sensitivity, metrics.specificity, metrics.precision].map(percent);
            let row = [escaped(source), class.clone(), metrics.support.to_string()].into_iter().chain(shares);
            (metrics.support > 0).then(|| row.chain([number(metrics.f1)]).collect())
        });
        [whole.into_iter().chain(nothing).collect()].into_iter().chain(by_class).collect::<Vec<Vec<String>>>()
    });
    let header = ["source", "class", "pictures", "right (sensitivity)", "specificity", "precision", "F1"];
    text += &table(&header, rows);

    text += "\n## Confusion\n\nA row is a true class, a column a predicted one.\n\n";
    let header: Vec<&str> = [""].into_iter().chain(classes.iter().map(String::as_str)).collect();
    text += &table(
        &header,
        classes
            .iter()
            .zip(summary.confusion.counts().rows())
            .map(|(class, row)| [class.clone()].into_iter().chain(row.iter().map(u64::to_string)).collect::<Vec<_>>()),
    );
    text += &format!("\n![Confusion matrix]({CONFUSION})\n");

    let calibration = &summary.calibration;
    text += &format!(
        "\n## Calibration\n\nExpected calibration error {:.4} ({BINS} equal-width bins), negative log likelihood {:.4}, \
         Brier score {:.4}.\n\n![Reliability diagram]({RELIABILITY})\n",
        calibration.expected_error(),
        calibration.negative_log_likelihood,
        calibration.brier
    );
    text += "\n## Mistakes\n\n";
    text += &match has_sheet {
        true => format!("Those with the highest confidence first.\n\n![Mistakes]({MISTAKES})\n"),
        false => "None.\n".to_owned(),
    };
    text + &format!("\nAll answers are in {PREDICTIONS}, the figures in {JSON} and {TABLE}.\n")
}
