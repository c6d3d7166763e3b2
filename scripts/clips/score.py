#!/usr/bin/env python3
"""Scores what `maskwatch run` found in six clips against labels made by hand.

    maskwatch run CLIP --events out/CLIP.jsonl      (once for each clip)
    scripts/clips/score.py out --list-errors

The clips show real people and are not part of the project; ground_truth.csv, beside this script, names them and says
who is in view once a second: the frame is the first one at that time or later, counted from the clip's first frame.
The events must hold that frame. Nothing but Python's standard library is needed.

Boxes are given to persons one-to-one, by descending score, each to the free person of the highest IoU. A visible
person is then

    right       exactly one box, and its label is right
    wrong       exactly one box, and its label is wrong
    several     more than one box touches the face: IoU high enough, or the box's centre inside
    missed      no box has the IoU needed; a misplaced one may still touch the face

Persons labelled `incorrect` or not visible are left out, and so are boxes that fit them or lie on them by half.
Boxes that touch a picture of a face are counted apart. What then remains is a false alarm.

Exit codes: 2 for a wrong command line, 3 for events or labels that cannot be used.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path
from statistics import NormalDist
from typing import Any

GROUND_TRUTH = Path(__file__).with_name("ground_truth.csv")
LABELS = ("mask", "no_mask")
OUTCOMES = ("right", "wrong", "several", "missed")

# Containers round times.
ROUNDING_MS = 2.0


class InputError(Exception):
    """Events or labels cannot be used."""


@dataclass(frozen=True)
class Rect:
    x: float
    y: float
    width: float
    height: float

    @property
    def area(self) -> float:
        return self.width * self.height

    def intersection(self, other: Rect) -> float:
        width = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        height = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return max(width, 0.0) * max(height, 0.0)

    def iou(self, other: Rect) -> float:
        shared = self.intersection(other)
        return shared / (self.area + other.area - shared)

    def holds_centre_of(self, other: Rect) -> bool:
        x, y = other.x + other.width / 2, other.y + other.height / 2
        return self.x <= x < self.x + self.width and self.y <= y < self.y + self.height


@dataclass(frozen=True)
class Box:
    """A box of an event."""

    rect: Rect
    score: float
    label: str


@dataclass(frozen=True)
class Face:
    """A row of the ground truth."""

    kind: str
    label: str
    rect: Rect
    visible: bool

    @property
    def counts(self) -> bool:
        return self.kind == "person" and self.visible and self.label in LABELS


@dataclass(frozen=True)
class Event:
    frame: int
    pts_ms: float
    boxes: list[Box]


@dataclass
class Tally:
    """What was found in one frame, one clip or all clips."""

    persons: Counter[str] = field(default_factory=Counter)
    pictures: Counter[str] = field(default_factory=Counter)
    ignored_boxes: int = 0
    false_alarms: int = 0
    frames: int = 0
    frames_with_false_alarms: int = 0
    errors: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.persons += other.persons
        self.pictures += other.pictures
        self.ignored_boxes += other.ignored_boxes
        self.false_alarms += other.false_alarms
        self.frames += other.frames
        self.frames_with_false_alarms += other.frames_with_false_alarms
        self.errors += other.errors

    def report(self) -> dict[str, Any]:
        visible = self.persons.total()
        return {
            "persons": visible,
            **{outcome: self.persons[outcome] for outcome in OUTCOMES},
            "right_share": self.persons["right"] / visible if visible else None,
            "right_ci95": wilson(self.persons["right"], visible),
            "false_alarms": self.false_alarms,
            "frames_with_false_alarms": self.frames_with_false_alarms,
            "frames_without_false_alarms": self.frames - self.frames_with_false_alarms,
            "boxes_on_pictures": dict(sorted(self.pictures.items())),
            "ignored_boxes": self.ignored_boxes,
        }


def wilson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """Wilson's score interval of a share; None where there were no trials."""
    if trials == 0:
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def match(boxes: Iterable[Box], persons: Sequence[Face], min_iou: float) -> tuple[dict[int, Box], list[Box]]:
    """Boxes by the index of their person, and those left over."""
    matched: dict[int, Box] = {}
    rest = []
    for box in sorted(boxes, key=lambda box: -box.score):
        free = [index for index in range(len(persons)) if index not in matched]
        best = max(free, key=lambda index: persons[index].rect.iou(box.rect), default=None)
        if best is not None and persons[best].rect.iou(box.rect) >= min_iou:
            matched[best] = box
        else:
            rest.append(box)
    return matched, rest


def score_frame(faces: Iterable[Face], boxes: Iterable[Box], min_iou: float) -> Tally:
    faces = list(faces)
    persons = [face for face in faces if face.counts]
    pictures = [face for face in faces if face.kind == "picture"]
    ignored = [face for face in faces if face.kind == "person" and not face.counts]
    tally = Tally(frames=1)

    def touches(face: Face, box: Box) -> bool:
        return face.rect.iou(box.rect) >= min_iou or face.rect.holds_centre_of(box.rect)

    matched, rest = match(boxes, persons, min_iou)
    surplus: Counter[int] = Counter()
    for box in rest:
        owner = max(
            (face for face in persons + pictures if touches(face, box)),
            key=lambda face: face.rect.iou(box.rect),
            default=None,
        )
        if owner is not None and owner.kind == "picture":
            tally.pictures[box.label] += 1
        elif owner is not None:
            surplus[persons.index(owner)] += 1
        elif any(
            face.rect.iou(box.rect) >= min_iou or 2 * face.rect.intersection(box.rect) >= box.rect.area
            for face in ignored
        ):
            tally.ignored_boxes += 1
        else:
            tally.false_alarms += 1
            tally.errors.append(f"{box.label} box on nobody at {position(box.rect)}")

    for index, person in enumerate(persons):
        where = f"{person.label} person at {position(person.rect)}"
        if index not in matched:
            tally.persons["missed"] += 1
            tally.errors.append(f"{where} missed" + (", a box is misplaced" if surplus[index] else ""))
        elif surplus[index]:
            tally.persons["several"] += 1
            tally.errors.append(f"{where} has {1 + surplus[index]} boxes")
        elif matched[index].label != person.label:
            tally.persons["wrong"] += 1
            tally.errors.append(f"{where} is called {matched[index].label}")
        else:
            tally.persons["right"] += 1
    tally.frames_with_false_alarms = int(tally.false_alarms > 0)
    return tally


def event_at(clip: str, time_s: float, events: Sequence[Event]) -> Event:
    """The event of the first frame at this time or later."""
    previous_frame = -1
    for event in events:
        late_ms = event.pts_ms - time_s * 1e3
        if late_ms >= -ROUNDING_MS:
            # A later one is the first only if no event is missing before it.
            if late_ms <= ROUNDING_MS or event.frame == previous_frame + 1:
                return event
            break
        previous_frame = event.frame
    raise InputError(f"{clip}: no event for the frame at {time_s:g} s")


def position(rect: Rect) -> str:
    return f"{rect.x:g},{rect.y:g} {rect.width:g}x{rect.height:g}"


def score_clip(clip: str, labelled: dict[float, list[Face]], events: Sequence[Event], min_iou: float) -> Tally:
    total = Tally()
    for time_s, faces in sorted(labelled.items()):
        tally = score_frame(faces, event_at(clip, time_s, events).boxes, min_iou)
        tally.errors = [f"{clip} {time_s:g} s: {error}" for error in tally.errors]
        total.add(tally)
    return total


def parse_rect(values: dict[str, Any]) -> Rect:
    rect = Rect(*(float(values[key]) for key in ("x", "y", "width", "height")))
    if not (rect.width > 0 and rect.height > 0):
        raise ValueError("a box without area")
    return rect


def parse_face(row: dict[str, str]) -> Face | None:
    """None for the row of a frame with nobody."""
    if row["kind"] == "nobody":
        return None
    if row["kind"] not in ("person", "picture") or row["visible"] not in ("yes", "no"):
        raise ValueError("an unknown kind or visibility")
    # Nobody can say what a person wears who cannot be made out.
    if row["class"] not in (*LABELS, "incorrect") and row["visible"] == "yes":
        raise ValueError("an unknown class")
    return Face(row["kind"], row["class"], parse_rect(row), row["visible"] == "yes")


def read_ground_truth(path: Path) -> dict[str, dict[float, list[Face]]]:
    """Faces by clip and time in seconds."""
    clips: defaultdict[str, dict[float, list[Face]]] = defaultdict(dict)
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        for row in rows:
            try:
                faces = clips[row["clip"]].setdefault(float(row["time_s"]), [])
                if face := parse_face(row):
                    faces.append(face)
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{path}:{rows.line_num}: not a label: {error!r}") from error
    return dict(clips)


def parse_event(line: str) -> tuple[str, Event] | None:
    """The event of a frame, and the name of its source; nothing of lines that tell what happens to tracks and sources."""
    values = json.loads(line)
    if "event" in values:
        return None
    boxes = [Box(parse_rect(box), float(box["score"]), box["label"]) for box in values["boxes"]]
    return values.get("source", ""), Event(int(values["frame"]), float(values["pts_ms"]), boxes)


def read_events(paths: Iterable[Path], clips: Iterable[str]) -> dict[str, list[Event]]:
    """Events by clip."""
    known = set(clips)
    found: defaultdict[str, list[Event]] = defaultdict(list)
    for path in paths:
        with path.open("rb") as file:
            number = 0
            for number, line in enumerate(file, 1):
                try:
                    parsed = parse_event(line.decode())
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise InputError(f"{path}:{number}: not an event: {error!r}") from error
                if parsed is None:
                    continue
                source, event = parsed
                clip = source if source in known else path.stem
                if clip not in known:
                    raise InputError(f"{path}:{number}: neither {source!r} nor {clip!r} is a labelled clip")
                events = found[clip]
                if events and not event.pts_ms > events[-1].pts_ms:
                    raise InputError(f"{path}:{number}: time of {clip} does not increase; are these two runs?")
                events.append(event)
        if number == 0:
            raise InputError(f"{path}: no events")
    return dict(found)


def event_files(paths: Iterable[Path]) -> list[Path]:
    """The files, with folders replaced by what is in them."""
    files = []
    for path in paths:
        inside = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
        if not inside:
            raise InputError(f"{path}: no .jsonl files")
        files += inside
    return files


def print_table(reports: dict[str, dict[str, Any]]) -> None:
    width = max(map(len, reports))
    print(f"{'clip':{width}}  persons  right  (95 %)            wrong  several  missed  false alarms  pictures")
    for name, report in reports.items():
        if report["persons"]:
            low, high = report["right_ci95"]
            right = f"{report['right_share']:5.3f}  ({low:.3f} to {high:.3f})"
        else:
            right = f"{'-':>5}{'':18}"
        frames = report["frames_with_false_alarms"] + report["frames_without_false_alarms"]
        alarms = f"{report['false_alarms']} in {report['frames_with_false_alarms']}/{frames}"
        pictures = ", ".join(f"{count} {label}" for label, count in report["boxes_on_pictures"].items()) or "-"
        print(
            f"{name:{width}}  {report['persons']:7}  {right}  {report['wrong']:5}  {report['several']:7}"
            f"  {report['missed']:6}  {alarms:>12}  {pictures}"
        )
    print("False alarms: boxes on nobody, in how many of the frames. Pictures: boxes on pictures of faces.")


def share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise ValueError
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("events", type=Path, nargs="+", metavar="EVENTS", help="events of a run, or a folder of them")
    parser.add_argument("--ground-truth", type=Path, default=GROUND_TRUTH, help="labels [default: beside this script]")
    parser.add_argument("--iou", type=share, default=0.3, help="least overlap of a box with its face [default: 0.3]")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--list-errors", action="store_true", help="name clip and time of whatever was not right")
    options = parser.parse_args(arguments)
    try:
        labels = read_ground_truth(options.ground_truth)
        events = read_events(event_files(options.events), labels)
        tallies = {clip: score_clip(clip, labels[clip], events[clip], options.iou) for clip in sorted(events)}
    except (InputError, OSError, UnicodeDecodeError) as error:
        print(f"score.py: {error}", file=sys.stderr)
        return 3
    total = Tally()
    for tally in tallies.values():
        total.add(tally)
    reports = {clip: tally.report() for clip, tally in tallies.items()}
    if options.json:
        document: dict[str, Any] = {"iou": options.iou, "clips": reports, "total": total.report()}
        if options.list_errors:
            document["errors"] = total.errors
        print(json.dumps(document, indent=2))
    else:
        print_table({**reports, "total": total.report()})
        if options.list_errors:
            print(*total.errors, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
