//! The figures as a compact table of plain text, for a terminal.

use super::Findings;
use crate::evaluate::bootstrap::Estimate;
use crate::evaluate::localisation::summary::{BaselineFigures, MethodFigures};
use crate::evaluate::localisation::tuning::Tuning;
use crate::evaluate::problems;
use crate::evaluate::text::{number, printable};

/// The table, with a line break at its end.
pub fn write(findings: Findings) -> String {
    let Findings { evaluation, summary, tuning, .. } = findings;
    let titles = summary.methods.iter().map(|figures| figures.choice.method.title().len());
    let widest = titles.max().unwrap_or_default().max(15);
    let mut lines = vec![
        format!(
            "pictures {}, annotated classes on them {}, of these predicted {}\n",
            evaluation.pictures.len(),
            summary.right.total,
            summary.right.count,
        ),
        format!(
            "{:<widest$} {:>9} {:>23} {:>9} {:>6} {:>12} {:>8} {:>9} {:>8} {:>8}",
            "",
            "threshold",
            "IoU, 95 % interval",
            "predicted",
            "Dice",
            "MaxBoxAccV2*",
            "pointing",
            "insertion",
            "deletion",
            "ms"
        ),
    ];
    lines.extend(summary.methods.iter().map(|figures| method_line(figures, widest)));
    lines.extend(summary.baselines.iter().map(|figures| baseline_line(figures, widest)));
    lines.push(format!(
        "\nIoU and Dice: from the map of the annotated class; predicted: IoU from that of the predicted class\n\
         centre box: half as wide and half as high as the picture\n\
         *: an oracle, whose thresholds are the best for these very pictures\n\
         ms: median of what a map takes beyond the forward pass that all share ({:.1} ms)",
        summary.forward_ms
    ));
    if let Some(difference) = summary.differences.first() {
        lines.push(format!("\nmean IoU of {} minus that of", difference.method.title()));
    }
    let differences = summary.differences.iter();
    lines.extend(
        differences.map(|difference| format!("  {:<widest$} {:>31}", difference.minus.1, signed(difference.iou))),
    );
    if let Some(tuning) = tuning {
        lines.extend(tuning_lines(tuning, widest));
    }
    lines.extend(problems::lines("problems", &evaluation.problems));
    lines.join("\n") + "\n"
}

fn method_line(figures: &MethodFigures, widest: usize) -> String {
    format!(
        "{:<widest$} {:>9} {:>23} {:>9.4} {:>6.4} {:>12.4} {:>8} {:>9} {:>8} {:>8.2}",
        figures.choice.method.title(),
        figures.choice.threshold.to_string(),
        with_interval(figures.iou),
        figures.iou_of_predicted.mean,
        figures.dice,
        figures.max_box_acc.value(),
        number(figures.pointing.value()),
        number(figures.areas.map(|areas| areas.insertion)),
        number(figures.areas.map(|areas| areas.deletion)),
        figures.millis
    )
}

fn baseline_line(figures: &BaselineFigures, widest: usize) -> String {
    format!(
        "{:<widest$} {:>9} {:>23} {:>9} {:>6.4} {:>12.4} {:>8} {:>9} {:>8} {:>8}",
        figures.baseline.title(),
        "-",
        with_interval(figures.iou),
        "-",
        figures.dice,
        figures.box_acc,
        number(figures.pointing.value()),
        "-",
        "-",
        "-"
    )
}

fn tuning_lines(tuning: &Tuning, widest: usize) -> Vec<String> {
    let data = printable(&tuning.data.display().to_string());
    let mut lines = vec![format!("\nthresholds: the best mean IoU on {} pictures of {data}", tuning.pictures)];
    lines.extend(tuning.methods.iter().map(|tuned| {
        let (title, threshold) = (tuned.choice.method.title(), tuned.choice.threshold.to_string());
        format!("  {title:<widest$} {threshold:>7} {:>23.4}", tuned.mean_iou)
    }));
    lines.extend(problems::lines(&format!("problems in {data}"), &tuning.problems));
    lines
}

/// Four digits, with the bounds in brackets.
pub(super) fn with_interval(Estimate { mean, interval: (low, high) }: Estimate) -> String {
    format!("{mean:.4} [{low:.4}, {high:.4}]")
}

/// The same of a difference.
pub(super) fn signed(Estimate { mean, interval: (low, high) }: Estimate) -> String {
    format!("{mean:+.4} [{low:+.4}, {high:+.4}]")
}
