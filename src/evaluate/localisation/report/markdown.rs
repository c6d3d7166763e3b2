//! `report.md`: the report for people.

use super::text::{signed, with_interval};
use super::{BY_COMPONENTS, BY_THRESHOLD, DISTRIBUTION, Findings, MEASURES, PICTURES, THRESHOLDS};
use crate::evaluate::localisation::max_box_acc::LEAST_IOU;
use crate::evaluate::localisation::summary::Summary;
use crate::evaluate::localisation::tuning::Tuning;
use crate::evaluate::markdown::table;
use crate::evaluate::problems;
use crate::evaluate::report::{JSON, TABLE};
use crate::evaluate::text::{number, printable};
use crate::explain::Method;
use crate::model::resnet::Resolution;

/// The text of `report.md`; `has_components` if there is a plot by their number.
pub fn write(findings: Findings, has_components: bool) -> String {
    let Findings { model, resolution, settings, evaluation, summary, tuning } = findings;
    let resolution = match resolution {
        Resolution::Native => "at its native resolution",
        Resolution::Atrous => "atrous, at twice its native resolution",
    };
    let mut text = format!(
        "# Evaluation of boxes\n\n\
         Model `{}`, `layer4` {resolution}. Pictures of `{}`: {}, annotated classes on them: {}, of these \
         predicted: {}.\n\n",
        printable(&model.display().to_string()),
        printable(&evaluation.data.display().to_string()),
        evaluation.pictures.len(),
        summary.right.total,
        summary.right.count,
    );
    if summary.methods.iter().any(|figures| figures.choice.method == Method::HayCamRefined) {
        text += &format!("HayCAM refined: {}.\n\n", settings.method_settings.refined());
    }
    text += &figures(summary);
    text += &notes(summary);
    if !summary.differences.is_empty() {
        text += &differences(summary);
    }
    text += &format!("\n## By threshold\n\n![IoU by threshold]({BY_THRESHOLD})\n");
    if let Some(tuning) = tuning {
        text += &chosen(tuning);
    }
    text += "\nThe thresholds at which MaxBoxAccV2 finds most boxes right, chosen on these very pictures:\n\n";
    text += &oracles(summary);
    if has_components {
        text += &format!("\n## By number of principal components\n\n![IoU by components]({BY_COMPONENTS})\n");
    }
    text += &format!("\n## By picture\n\n![IoU of every picture]({DISTRIBUTION})\n");
    text += &problems::section("## Problems", &evaluation.problems);
    text + &format!(
        "\nThe IoU of each picture is in {PICTURES}, all that was measured in {MEASURES}, by threshold in {THRESHOLDS}, the \
         figures in {JSON} and {TABLE}.\n"
    )
}

fn figures(summary: &Summary) -> String {
    let header = [
        "method",
        "threshold",
        "IoU",
        "IoU, predicted class",
        "Dice",
        "MaxBoxAccV2 (oracle)",
        "pointing",
        "insertion",
        "deletion",
        "ms",
    ];
    let methods = summary.methods.iter().map(|figures| {
        vec![
            figures.choice.method.title().to_owned(),
            figures.choice.threshold.to_string(),
            with_interval(figures.iou),
            with_interval(figures.iou_of_predicted),
            number(Some(figures.dice)),
            number(Some(figures.max_box_acc.value())),
            number(figures.pointing.value()),
            number(figures.areas.map(|areas| areas.insertion)),
            number(figures.areas.map(|areas| areas.deletion)),
            format!("{:.2}", figures.millis),
        ]
    });
    let baselines = summary.baselines.iter().map(|figures| {
        let mut row = vec![format!("*{}*", figures.baseline.title()), "-".to_owned()];
        row.extend([with_interval(figures.iou), "-".to_owned()]);
        row.extend([Some(figures.dice), Some(figures.box_acc), figures.pointing.value()].map(number));
        row.resize(header.len(), "-".to_owned());
        row
    });
    table(&header, methods.chain(baselines))
}

fn notes(summary: &Summary) -> String {
    let measured = |method| summary.methods.iter().any(|figures| figures.choice.method == method);
    let mut text = format!(
        "\nMeans over the pictures, in brackets their 95 % intervals (percentile bootstrap over pictures). IoU and Dice are of \
         the box around the hot region that holds the peak of the map of the annotated class, with the best annotated box of \
         that class; a map without a hot region counts as 0. No picture is left out because it is classified wrong: then the \
         map of the predicted class, in its own column, is that of another class.\n\n\
         *Centre box* is half as wide and half as high as the picture. *MaxBoxAccV2* (Choe et al. 2020) takes the best \
         thresholds for these very pictures and any box of a map: it compares methods, and no use of the program would see it. \
         *Pointing* (Zhang et al. 2018) is the share of maps whose peak lies in an annotated box, without tolerance. \
         *Insertion* (more is better) and *deletion* (less is better) are those of Petsiuk et al. 2018. *ms* is the median of \
         what a map takes beyond the forward pass that all methods share ({:.1} ms).\n",
        summary.forward_ms
    );
    if [Method::Cam, Method::GradCam, Method::XGradCam].into_iter().filter(|&method| measured(method)).count() > 1 {
        text += "\nCAM, GradCAM and XGradCAM are the same map here, up to rounding: the network ends in global average pooling \
                 and one fully connected layer, so that the gradient of a class is its weights, equal at every position.\n";
    }
    if measured(Method::LayerCam) && measured(Method::HayCamRefined) {
        text += "\nHayCAM refined read at layer4 alone (`--layer layer4`) with all components is LayerCAM.\n";
    }
    text
}

fn differences(summary: &Summary) -> String {
    let title = summary.differences.first().map_or("", |difference| difference.method.title());
    let rows = summary.differences.iter().map(|difference| vec![difference.minus.1.to_owned(), signed(difference.iou)]);
    let header = ["minus", "mean difference of IoU"];
    format!("\n## {title} against the others\n\nPicture by picture (paired bootstrap).\n\n") + &table(&header, rows)
}

fn chosen(tuning: &Tuning) -> String {
    let rows = tuning.methods.iter().map(|tuned| {
        let title = tuned.choice.method.title().to_owned();
        vec![title, tuned.choice.threshold.to_string(), number(Some(tuned.mean_iou))]
    });
    format!(
        "\nThe threshold of each method, and nothing else, was chosen for the best mean IoU on {} pictures of `{}`:\n\n",
        tuning.pictures,
        printable(&tuning.data.display().to_string())
    ) + &table(&["method", "threshold", "IoU there"], rows)
        + &problems::section("### Problems there", &tuning.problems)
}

fn oracles(summary: &Summary) -> String {
    let columns = LEAST_IOU.iter().map(|iou| format!("IoU of {iou} and more"));
    let header: Vec<String> = ["method".to_owned()].into_iter().chain(columns).collect();
    let rows = summary.methods.iter().map(|figures| {
        let best = figures.max_box_acc.best().into_iter();
        let cells = best.map(|best| format!("{:.4} at {}", best.share, best.threshold));
        [figures.choice.method.title().to_owned()].into_iter().chain(cells).collect()
    });
    table(&header.iter().map(String::as_str).collect::<Vec<_>>(), rows)
}
