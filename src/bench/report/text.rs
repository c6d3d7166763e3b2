//! The figures as a table of plain text, for a terminal.

use std::path::Path;

use super::{Options, Report, StageRow, VariantReport};
use crate::bench::spread::Spread;
use crate::evaluate::text::printable;

/// The table, with a line break at its end.
pub fn write(report: &Report) -> String {
    let mut lines = vec![format!("maskwatch {} on {}", report.version, machine(report))];
    match &report.variants[..] {
        [only] => lines.push(described(&only.options)),
        both => lines.extend(both.iter().map(|variant| format!("{}: {}", variant.name, described(&variant.options)))),
    }
    lines.push(rounds(report));
    lines.push(String::new());
    match &report.variants[..] {
        [a, b] => lines.extend(comparison(report, a, b)),
        variants => lines.extend(variants.iter().flat_map(alone)),
    }
    let shares = report.variants.iter().filter_map(|variant| {
        let name = if report.variants.len() > 1 { format!("{}: ", variant.name) } else { String::new() };
        Some(format!("{name}{}", share(variant)?))
    });
    let shares: Vec<String> = shares.collect();
    if !shares.is_empty() {
        lines.push(String::new());
        lines.extend(shares);
    }
    lines.join("\n") + "\n"
}

fn machine(report: &Report) -> String {
    let machine = &report.machine;
    let processor = machine.processor.as_deref().unwrap_or("an unknown processor");
    let mut parts = vec![format!("{processor}, {} thread{}", machine.threads, plural(machine.threads))];
    parts.extend(machine.gpus.iter().cloned());
    printable(&parts.join(", "))
}

fn described(options: &Options) -> String {
    let size = |(width, height): (u32, u32)| format!("{width}x{height}");
    let source = options.video.as_deref().map(Path::new).and_then(Path::file_name);
    let source = source.map_or("made-up frames".into(), |name| name.to_string_lossy());
    let view = match (options.scan_size, options.near_size) {
        (Some(far), Some(near)) => format!("scanned at {} and {}", size(far), size(near)),
        (Some(far), None) => format!("scanned at {}", size(far)),
        (None, _) => "seen as a whole".to_owned(),
    };
    let model = Path::new(&options.model).file_name().unwrap_or_default().to_string_lossy();
    let preset = options.save_preset.map_or(String::new(), |preset| format!(", encoder {preset}"));
    printable(&format!(
        "{source} {}, {view}, {}; {model} on {} in {} precision, {} thread{}, batch {}{preset}",
        size(options.frame_size),
        options.resolution,
        options.device,
        options.precision,
        options.threads,
        plural(options.threads),
        options.batch,
    ))
}

fn rounds(report: &Report) -> String {
    let count = report.rounds;
    let broken_off = if report.interrupted { ", then interrupted" } else { "" };
    let ratio = if report.ratios.is_empty() { "" } else { "; A / B: ratio within a round" };
    format!("{count} round{}{broken_off}; ms a frame: median, and the middle half of the rounds{ratio}", plural(count))
}

fn alone(variant: &VariantReport) -> Vec<String> {
    let widest = widest([variant]);
    let mut lines =
        vec![format!("{:<widest$} {:>9} {:>19} {:>11} {:>9}", "", "ms", "25 to 75 %", "of forward", "frames/s")];
    lines.extend(variant.stages.iter().map(|row| {
        let share = row.of_forward.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0));
        let rate = row.frames_per_second.map_or(String::new(), |rate| format!("{rate:.1}"));
        let line = format!("{:<widest$} {} {share:>11} {rate:>9}", row.stage, millis(Some(row.ms)));
        line.trim_end().to_owned()
    }));
    lines
}

fn comparison(report: &Report, a: &VariantReport, b: &VariantReport) -> Vec<String> {
    let widest = widest([a, b]);
    let header = ["A", "25 to 75 %", "B", "25 to 75 %", "A / B", "25 to 75 %"];
    let [a_median, a_spread, b_median, b_spread, ratio, ratio_spread] = header;
    let mut lines = vec![format!(
        "{:<widest$} {a_median:>9} {a_spread:>19} {b_median:>9} {b_spread:>19} {ratio:>7} {ratio_spread:>15}",
        ""
    )];
    let of =
        |variant: &VariantReport, stage: &str| variant.stages.iter().find(|row| row.stage == stage).map(|row| row.ms);
    let only_of_b = b.stages.iter().filter(|row| of(a, &row.stage).is_none());
    for StageRow { stage, .. } in a.stages.iter().chain(only_of_b) {
        let ratio = report.ratios.iter().find(|row| row.stage == *stage).map(|row| row.ratio);
        let ratio = match ratio {
            Some(Spread { median, p25, p75 }) => format!("{median:>7.3} {:>15}", format!("{p25:.3} to {p75:.3}")),
            None => format!("{:>7} {:>15}", "-", "-"),
        };
        lines.push(format!("{stage:<widest$} {} {} {ratio}", millis(of(a, stage)), millis(of(b, stage))));
    }
    lines
}

fn widest<'a>(variants: impl IntoIterator<Item = &'a VariantReport>) -> usize {
    variants.into_iter().flat_map(|variant| &variant.stages).map(|row| row.stage.len()).max().unwrap_or_default()
}

fn millis(spread: Option<Spread>) -> String {
    match spread {
        Some(Spread { median, p25, p75 }) => {
            let digits = digits(p75);
            format!("{median:>9.digits$} {:>19}", format!("{p25:.digits$} to {p75:.digits$}"))
        }
        None => format!("{:>9} {:>19}", "-", "-"),
    }
}

/// Digits behind the point that say something, and leave the columns as wide as they are.
fn digits(largest: f64) -> usize {
    if largest < 1000.0 { 3 } else { 0 }
}

/// What the pipeline makes of the network's rate.
fn share(variant: &VariantReport) -> Option<String> {
    let Spread { median, p25, p75 } = variant.share_of_forward_rate?;
    Some(format!(
        "without drawing and saving, the pipeline runs at {:.1} % [{:.1}, {:.1}] of the rate of the forward pass alone",
        median * 100.0,
        p25 * 100.0,
        p75 * 100.0
    ))
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::report;

    #[test]
    fn columns_of_a_variant_are_aligned() {
        let mut report = report();
        report.variants.truncate(1);
        report.ratios.clear();
        let text = write(&report);
        let expected = "\
maskwatch 1.2.3 on Some CPU, 2 threads
made-up frames 1280x720, scanned at 896x512 and 384x224, native; a.safetensors on cpu in single precision, 2 threads, batch 1
3 rounds; ms a frame: median, and the middle half of the rounds

                ms          25 to 75 %  of forward  frames/s
forward     20.000    20.000 to 30.000     100.0 %      50.0
boxes        1.000      1.000 to 1.500       5.0 %
analysis    25.000    25.000 to 37.500     125.0 %      40.0

without drawing and saving, the pipeline runs at 80.0 % [80.0, 80.0] of the rate of the forward pass alone
";
        assert_eq!(text, expected);
    }

    #[test]
    fn variants_stand_side_by_side() {
        let text = write(&report());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("A: made-up frames") && lines[2].starts_with("B: made-up frames"), "{text}");
        assert!(lines[3].contains("3 rounds; ") && lines[3].ends_with("A / B: ratio within a round"), "{text}");
        assert_eq!(
            lines[5..9],
            [
                "                 A          25 to 75 %         B          25 to 75 %   A / B      25 to 75 %",
                "forward     20.000    20.000 to 30.000    40.000    40.000 to 60.000   0.500  0.500 to 0.500",
                "boxes        1.000      1.000 to 1.500         -                   -       -               -",
                "analysis    25.000    25.000 to 37.500    50.000    50.000 to 75.000   0.500  0.500 to 0.500",
            ]
        );
    }

    #[test]
    fn seconds_are_told_to_a_millisecond() {
        let spread = |median| Some(Spread { median, p25: median / 2.0, p75: median * 2.0 });
        assert_eq!(millis(spread(40000.0)), "    40000      20000 to 80000");
        assert_eq!(millis(spread(400.0)).len(), millis(spread(40000.0)).len());
    }
}
