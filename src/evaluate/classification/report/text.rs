//! The figures as a compact table of plain text, for a terminal.

use crate::evaluate::classification::Evaluation;
use crate::evaluate::classification::summary::Summary;
use crate::evaluate::proportion::Proportion;
use crate::evaluate::text::{number, percent, printable};

/// The table, with a line break at its end.
pub fn write(evaluation: &Evaluation, summary: &Summary) -> String {
    let names = evaluation.classes.iter().map(|class| printable(class)).collect::<Vec<_>>();
    let sources = summary.sources.iter().flat_map(|(source, confusion)| {
        let of_class = |(index, class)| (format!("    {class}"), confusion.of_class(index).sensitivity);
        let by_class = names.iter().enumerate().map(of_class);
        [(format!("  {}", printable(source)), confusion.accuracy())].into_iter().chain(by_class).collect::<Vec<_>>()
    });
    let mut lines = vec![format!("{:<44} {:>8}  {:>14}  95 % interval", "", "right", "")];
    lines.extend(accuracy_line("all classes", summary.confusion.accuracy()));
    lines.extend(accuracy_line("mask or no mask, largest of all outputs", summary.mask_or_not));
    lines.extend(accuracy_line("mask or no mask, larger of the two outputs", summary.mask_or_not_of_two));

    let widest = names.iter().map(|name| name.chars().count()).max().unwrap_or_default().max(10);
    lines.push("\nby class, in per cent with 95 % intervals".to_owned());
    lines.push(format!(
        "  {:<widest$} {:>8} {:>23} {:>23} {:>23} {:>7}",
        "", "pictures", "sensitivity", "specificity", "precision", "F1"
    ));
    for (index, name) in names.iter().enumerate() {
        let class = summary.confusion.of_class(index);
        let [sensitivity, specificity, precision] =
            [class.sensitivity, class.specificity, class.precision].map(percent);
        lines.push(format!(
            "  {name:<widest$} {:>8} {sensitivity:>23} {specificity:>23} {precision:>23} {:>7}",
            class.support,
            number(class.f1)
        ));
    }

    lines.push("\nby source".to_owned());
    lines.extend(sources.filter_map(|(name, right)| accuracy_line(&name, right)));

    lines.push("\nconfusion (a row is a true class, a column a predicted one)".to_owned());
    let header: String = names.iter().map(|name| format!("  {name:>widest$}")).collect();
    lines.push(format!("  {:<widest$}{header}", ""));
    for (row, name) in summary.confusion.counts().rows().into_iter().zip(&names) {
        let cells: String = row.iter().map(|count| format!("  {count:>widest$}")).collect();
        lines.push(format!("  {name:<widest$}{cells}"));
    }

    lines.push(format!(
        "\ncalibration: expected error {:.4}, negative log likelihood {:.4}, Brier score {:.4}",
        summary.calibration.expected_error(),
        summary.calibration.negative_log_likelihood,
        summary.calibration.brier
    ));
    lines.join("\n") + "\n"
}

/// Nothing where there are no pictures.
fn accuracy_line(what: &str, right: Proportion) -> Option<String> {
    let (value, (low, high)) = right.value().zip(right.interval())?;
    Some(format!(
        "{what:<44} {:>6.2} %  {:>5} of {:>5}  {:.2} to {:.2} %",
        value * 100.0,
        right.count,
        right.total,
        low * 100.0,
        high * 100.0
    ))
}
