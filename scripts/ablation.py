#!/usr/bin/env python3
"""Measures what each switch of HayCAM is worth, and what it costs.

    scripts/ablation.py VAL TEST OUT [--program target/release/maskwatch] [--model PATH]

VAL and TEST hold images/ and annotations/ (Pascal VOC), one face a picture; neither comes with this repository. For each
row the threshold is chosen on VAL, and TEST is measured once with it. OUT gets a report folder a row, and ablation.md, a
table in Markdown. Times of the forward pass include the
second pass through an atrous layer4. Nothing but Python's standard library is needed.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

LAYER4 = ["--methods", "haycam-refined", "--layer", "layer4"]
LAYER3 = ["--methods", "haycam-refined", "--layer", "layer3"]
BOTH = ["--methods", "haycam-refined", "--layer", "both"]
NATIVE = ["--resolution", "native"]
ATROUS = ["--resolution", "atrous"]

# Name of the row, options.
ROWS = [
    ("`haycam`, the paper's (k = 19, 7x7)", ["--methods", "haycam", *NATIVE]),
    ("and non-negative class weights", [*LAYER4, "--centred", "--components", "19", *NATIVE]),
    ("and not centred", [*LAYER4, "--components", "19", *NATIVE]),
    ("and components auto: `haycam-refined` as in `run`", [*LAYER4, *NATIVE]),
    ("and `layer4` atrous (14x14)", [*LAYER4, *ATROUS]),
    ("read at `layer3` (14x14) instead, `layer4` native", [*LAYER3, *NATIVE]),
    ("read at both, `layer4` native", [*BOTH, *NATIVE]),
    ("read at both, `layer4` atrous: `haycam-refined` as in `evaluate`", [*BOTH, *ATROUS]),
    ("the same, class weights signed", [*BOTH, "--class-weights", "signed", *ATROUS]),
    ("the same, centred", [*BOTH, "--centred", *ATROUS]),
    ("the same, k = 1", [*BOTH, "--components", "1", *ATROUS]),
    ("the same, k = 5", [*BOTH, "--components", "5", *ATROUS]),
    ("the same, k = 19", [*BOTH, "--components", "19", *ATROUS]),
    ("the same, k = 48", [*BOTH, "--components", "48", *ATROUS]),
    ("the same, all components: LayerCAM at both layers", [*BOTH, "--components", "512", *ATROUS]),
    ("`haycam`, atrous (14x14)", ["--methods", "haycam", *ATROUS]),
    ("`haycam-filters`: filters as samples (7x7)", ["--methods", "haycam-filters", *NATIVE]),
    ("`haycam-loadings`: 19 filters by loading (7x7)", ["--methods", "haycam-loadings", *NATIVE]),
]


def measure(args, name, options, data, out, tune_on=None, threshold=None):
    """Evaluates one row on one set, and returns its method's entry and the entry of the tuning, if any."""
    command = [args.program, "evaluate", str(data), "--report", str(out), "--curve-steps", "0", *options]
    if args.model:
        command += ["--model", args.model]
    if tune_on:
        command += ["--tune-on", str(tune_on)]
    if threshold:
        command += ["--threshold", str(threshold)]
    print(f"{name}: {' '.join(command)}", file=sys.stderr)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    report = json.loads((out / "report.json").read_text())
    return report["methods"][0], report


def row(args, index, name, options):
    """A line of the table."""
    test, report = measure(args, name, options, args.test, args.out / f"{index:02}-test", tune_on=args.val)
    threshold = report["tuning"]["methods"][0]["threshold"]
    val, val_report = measure(args, name, options, args.val, args.out / f"{index:02}-val", threshold=threshold)
    iou = lambda entry: f"{entry['mean_iou']:.3f} ({entry['ci95'][0]:.3f} to {entry['ci95'][1]:.3f})"
    return f"| {name} | {threshold:.2f} | {iou(val)} | {iou(test)} | {val_report['forward_ms']:.0f} | {val['ms']:.1f} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("val", type=Path, help="where thresholds are chosen")
    parser.add_argument("test", type=Path, help="what is measured once")
    parser.add_argument("out", type=Path, help="folder for reports and the table")
    parser.add_argument("--program", default="target/release/maskwatch")
    parser.add_argument("--model", help="model file [default: the shipped one]")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    lines = [
        "| switch | threshold | mean IoU, val | mean IoU, test | forward pass, ms | map, ms |",
        "|---|---|---|---|---|---|",
    ]
    lines += [row(args, index, name, options) for index, (name, options) in enumerate(ROWS)]
    table = "\n".join(lines) + "\n"
    (args.out / "ablation.md").write_text(table)
    print(table, end="")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    except OSError as error:
        sys.exit(f"{error}")
