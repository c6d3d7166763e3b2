//! `report.md`: the report for people.

use super::text::{ALL, alarms, with_interval};
use super::{BY_SIZE, DETECTIONS, FACES, Findings, PRECISION_RECALL, SCENES, WORST};
use crate::evaluate::markdown::{escaped, table};
use crate::evaluate::problems;
use crate::evaluate::report::{JSON, TABLE};
use crate::evaluate::scenes::scene::SizeBucket;
use crate::evaluate::scenes::tuning::Protocol;
use crate::evaluate::text::{number, percent, printable};

/// The text of `report.md`; `has_errors` if there is a picture of them.
pub fn write(findings: Findings, has_errors: bool) -> String {
    let Findings { model, detector, settings, evaluation, summary, .. } = findings;
    let mut text = format!(
        "# Evaluation of scenes\n\n\
         Model `{}`. Pictures of `{}`: {}, faces on them: {}, and {} that are ignored. The detector took {:.0} ms for a picture \
         (median). Its settings: `{}`\n\n",
        printable(&model.display().to_string()),
        printable(&evaluation.data.display().to_string()),
        summary.pictures,
        summary.overall.tally[0].faces,
        summary.ignored,
        summary.millis,
        printable(&detector.to_string()),
    );
    for (place, iou) in [(0, "0.3"), (1, "0.5")] {
        text += &format!("## Detections at an IoU of {iou}\n\n{}\n", figures(findings, place));
    }
    text += &notes(settings.min_size);
    text +=
        &format!("\n![Precision by recall]({PRECISION_RECALL})\n\n## By size of the face\n\n{}\n", by_size(findings));
    text += &format!(
        "Shorter side of the face, in pixels of the picture. Faces of other sizes are ignored here, but false detections of any \
         size count against the precision of each.\n\n![Recall by size]({BY_SIZE})\n\n## Classes\n\n{}\n",
        confusion(findings)
    );
    text += &others(findings);
    text += &thresholds(findings);
    text += &format!("\n## Pictures\n\n![Scenes]({SCENES})\n");
    if has_errors {
        text += &format!("\nThe pictures with most errors:\n\n![Worst]({WORST})\n");
    }
    text += &problems::section("## Problems", &evaluation.problems);
    text + &format!(
        "\nEvery detection, however unsure, is in {DETECTIONS}, every face in {FACES}, the figures in {JSON} and {TABLE}.\n"
    )
}

fn figures(findings: Findings, place: usize) -> String {
    let rows = findings.scopes(ALL).map(|(name, figures)| {
        let tally = figures.tally[place];
        let shares = [tally.precision(), tally.recall(), figures.label_accuracy[place]];
        let mut row = vec![escaped(name), tally.faces.to_string(), with_interval(figures.ap[place])];
        row.extend(shares.map(percent));
        row.push(number(tally.f1()));
        row
    });
    let header = ["class", "faces", "average precision", "precision (%)", "recall (%)", "label accuracy (%)", "F1"];
    table(&header, rows)
}

fn notes(min_size: u32) -> String {
    format!(
        "In brackets 95 % intervals: percentile bootstrap over pictures for average precision (all points, no threshold; the mean \
         over the classes that have faces), Wilson for shares at the thresholds. The surest detection takes the free face that \
         it agrees with best, one to one, within its class; for *label accuracy*, the share of found faces whose class is right, \
         whatever the class. Faces whose shorter side is under {min_size} px, and those of classes that the model does not have, are \
         ignored: not missed, and a detection of which half or more lies on them is not false.\n"
    )
}

fn by_size(findings: Findings) -> String {
    let rows = findings.scopes(ALL).flat_map(|(name, figures)| {
        SizeBucket::ALL.into_iter().zip(figures.by_size).map(move |(size, [tally, tally50])| {
            let mut row = vec![escaped(name), size.title().to_owned(), tally.faces.to_string()];
            row.extend([tally.recall(), tally.precision(), tally50.recall(), tally50.precision()].map(percent));
            row
        })
    });
    let header =
        ["class", "size", "faces", "recall (%)", "precision (%)", "recall, IoU 0.5 (%)", "precision, IoU 0.5 (%)"];
    table(&header, rows)
}

fn confusion(findings: Findings) -> String {
    let classes: Vec<usize> = findings.settings.face_classes().collect();
    let name = |class: usize| escaped(&findings.settings.classes[class]);
    let header: Vec<String> = classes.iter().map(|&class| format!("detected as {}", name(class))).collect();
    let header: Vec<&str> = ["found faces"].into_iter().chain(header.iter().map(String::as_str)).collect();
    let rows = classes.iter().map(|&row| {
        let cells = classes.iter().map(|&column| findings.summary.confusion[0][[row, column]].to_string());
        [name(row)].into_iter().chain(cells).collect()
    });
    table(&header, rows)
}

fn others(findings: Findings) -> String {
    let rows = findings
        .scopes(ALL)
        .map(|(name, figures)| vec![escaped(name), number(figures.counting_error), alarms(figures)]);
    format!(
        "## Numbers and false alarms\n\nThe counting error is the mean absolute difference between the numbers of detections and \
         faces on a picture. False alarms are those on {} pictures without faces.\n\n{}",
        findings.summary.face_free,
        table(&["class", "counting error", "false alarms"], rows)
    )
}

fn thresholds(findings: Findings) -> String {
    let how = match findings.tuning.protocol {
        Protocol::Given => "They were given.".to_owned(),
        Protocol::First(first) => {
            format!("Chosen for the best F1 of each class on the first {first} pictures, which are not measured.")
        }
        Protocol::Folds(folds) => {
            format!("Pictures took turns in {folds} folds; those of each were chosen for the best F1 on the others.")
        }
    };
    let each = (0..findings.tuning.fits.len()).map(|fit| format!("* {}\n", escaped(&findings.thresholds(fit))));
    format!("\n## Thresholds\n\n{how}\n\n{}", each.collect::<String>())
}
