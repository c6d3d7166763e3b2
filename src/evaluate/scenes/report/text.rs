//! The figures as a compact table of plain text, for a terminal.

use super::Findings;
use crate::evaluate::problems;
use crate::evaluate::scenes::scene::SizeBucket;
use crate::evaluate::scenes::summary::{AveragePrecision, Figures};
use crate::evaluate::scenes::tuning::Protocol;
use crate::evaluate::text::{number, percent, printable};

/// The name of all classes together.
pub(super) const ALL: &str = "all classes";

/// The table, with a line break at its end.
pub fn write(findings: Findings) -> String {
    let Findings { evaluation, summary, settings, .. } = findings;
    let widest = findings.scopes(ALL).map(|(name, _)| printable(name).chars().count()).max().unwrap_or_default();
    let mut lines = vec![format!(
        "pictures {}, faces {}, ignored {} (other classes, or under {} px), pictures without faces {}, ms a picture {:.0}\n",
        summary.pictures,
        summary.overall.tally[0].faces,
        summary.ignored,
        settings.min_size,
        summary.face_free,
        summary.millis,
    )];
    let header = ["AP, 95 % interval", "precision (%)", "recall (%)", "label accuracy (%)"];
    for (place, iou) in [(0, "0.3"), (1, "0.5")] {
        lines.push(format!(
            "{:<widest$} {:>6} {:>23} {:>21} {:>21} {:>21}",
            format!("IoU {iou}"),
            "faces",
            header[0],
            header[1],
            header[2],
            header[3]
        ));
        lines.extend(findings.scopes(ALL).map(|(name, figures)| figures_line(name, figures, place, widest)));
        lines.push(String::new());
    }
    lines.push(format!(
        "{:<widest$} {}",
        "recall (%)",
        SizeBucket::ALL.map(|size| format!("{:>22}", size.title())).concat()
    ));
    for (name, figures) in findings.scopes(ALL) {
        let cells = figures.by_size.map(|[tally, _]| format!("{:>22}", percent(tally.recall())));
        lines.push(format!("{:<widest$} {}", printable(name), cells.concat()));
    }
    lines.push("\ncounting error (mean absolute difference of numbers on a picture)".to_owned());
    lines.extend(
        findings
            .scopes(ALL)
            .map(|(name, figures)| format!("  {:<widest$} {}", printable(name), number(figures.counting_error))),
    );
    if summary.overall.alarms.is_some() {
        lines.push(format!("\nfalse alarms on {} pictures without faces", summary.face_free));
        lines.extend(findings.scopes(ALL).map(|(name, figures)| alarm_line(name, figures, widest)));
    }
    lines.push(threshold_title(findings.tuning.protocol));
    lines.extend((0..findings.tuning.fits.len()).map(|fit| format!("  {}", findings.thresholds(fit))));
    lines.extend(problems::lines("problems", &evaluation.problems));
    lines.join("\n") + "\n"
}

fn figures_line(name: &str, figures: &Figures, place: usize, widest: usize) -> String {
    let tally = figures.tally[place];
    format!(
        "{:<widest$} {:>6} {:>23} {:>21} {:>21} {:>21}",
        printable(name),
        tally.faces,
        with_interval(figures.ap[place]),
        percent(tally.precision()),
        percent(tally.recall()),
        percent(figures.label_accuracy[place])
    )
}

fn alarm_line(name: &str, figures: &Figures, widest: usize) -> String {
    format!("  {:<widest$} {}", printable(name), alarms(figures))
}

/// Pictures with a false alarm, and false alarms, per 1,000; "-" without pictures.
pub(super) fn alarms(figures: &Figures) -> String {
    let Some(alarms) = figures.alarms else { return "-".to_owned() };
    let per_1000 = |share: f64| 1e3 * share;
    match alarms.pictures.value().zip(alarms.pictures.interval()) {
        Some((value, (low, high))) => format!(
            "{:.1} [{:.1}, {:.1}] pictures and {:.1} boxes per 1000",
            per_1000(value),
            per_1000(low),
            per_1000(high),
            alarms.boxes_per_1000()
        ),
        None => "-".to_owned(),
    }
}

fn threshold_title(protocol: Protocol) -> String {
    match protocol {
        Protocol::Given => "\nthresholds".to_owned(),
        Protocol::First(first) => {
            format!("\nthresholds: the best F1 on the first {first} pictures, which are not measured")
        }
        Protocol::Folds(folds) => format!("\nthresholds of each of {folds} folds: the best F1 on the others"),
    }
}

/// Four digits, with the bounds in brackets; "-" where there is none.
pub(super) fn with_interval(ap: Option<AveragePrecision>) -> String {
    match ap {
        Some(AveragePrecision { value, interval: Some((low, high)) }) => format!("{value:.4} [{low:.4}, {high:.4}]"),
        Some(AveragePrecision { value, interval: None }) => format!("{value:.4}"),
        None => "-".to_owned(),
    }
}
