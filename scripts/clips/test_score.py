"""Tests of score.py: python3 -m unittest discover scripts/clips"""

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path

import score
from score import Box, Face, Rect

FACE = Rect(100, 100, 100, 100)


def person(label: str = "mask", rect: Rect = FACE, visible: bool = True) -> Face:
    return Face("person", label, rect, visible)


def box(label: str = "mask", x: float = 100, y: float = 100, size: float = 100, confidence: float = 0.9) -> Box:
    return Box(Rect(x, y, size, size), confidence, label)


class Wilson(unittest.TestCase):
    def test_agrees_with_a_published_interval(self) -> None:
        # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263.
        low, high = score.wilson(81, 263)
        self.assertAlmostEqual(low, 0.2553, places=4)
        self.assertAlmostEqual(high, 0.3662, places=4)

    def test_stays_inside_at_the_ends(self) -> None:
        self.assertIsNone(score.wilson(0, 0))
        self.assertAlmostEqual(score.wilson(0, 10)[0], 0)
        self.assertAlmostEqual(score.wilson(10, 10)[1], 1)


class Geometry(unittest.TestCase):
    def test_iou(self) -> None:
        self.assertEqual(FACE.iou(FACE), 1)
        self.assertEqual(FACE.iou(Rect(200, 100, 100, 100)), 0)
        self.assertAlmostEqual(FACE.iou(Rect(150, 100, 100, 100)), 1 / 3)


class Frame(unittest.TestCase):
    def tally(self, faces: list[Face], boxes: list[Box]) -> score.Tally:
        return score.score_frame(faces, boxes, 0.3)

    def outcome(self, faces: list[Face], boxes: list[Box]) -> dict[str, int]:
        return dict(self.tally(faces, boxes).persons)

    def test_outcomes(self) -> None:
        self.assertEqual(self.outcome([person()], [box()]), {"right": 1})
        self.assertEqual(self.outcome([person()], [box("no_mask")]), {"wrong": 1})
        self.assertEqual(self.outcome([person()], []), {"missed": 1})
        self.assertEqual(self.outcome([person()], [box(), box(x=110)]), {"several": 1})

    def test_a_small_box_inside_the_face_is_one_too_many(self) -> None:
        tally = self.tally([person()], [box(), box(x=140, y=140, size=10)])
        self.assertEqual((dict(tally.persons), tally.false_alarms), ({"several": 1}, 0))

    def test_a_misplaced_box_does_not_find_the_face(self) -> None:
        tally = self.tally([person()], [box(x=140, y=140, size=10)])
        self.assertEqual((dict(tally.persons), tally.false_alarms), ({"missed": 1}, 0))
        self.assertIn("misplaced", tally.errors[0])

    def test_the_best_score_chooses_first_and_takes_the_highest_iou(self) -> None:
        neighbour = person("no_mask", Rect(150, 100, 100, 100))
        boxes = [box("mask", x=110, confidence=0.5), box("no_mask", x=140, confidence=0.9)]
        self.assertEqual(self.outcome([person(), neighbour], boxes), {"right": 2})
        # Both boxes fit the neighbour better; the weaker one gets who is left.
        boxes = [box("mask", x=130, confidence=0.5), box("no_mask", x=145, confidence=0.9)]
        self.assertEqual(self.outcome([person(), neighbour], boxes), {"right": 2})

    def test_a_box_on_nobody_is_a_false_alarm(self) -> None:
        tally = self.tally([], [box(), box(x=400)])
        self.assertEqual((tally.false_alarms, tally.frames_with_false_alarms, tally.frames), (2, 1, 1))

    def test_persons_left_out_are_not_missed_and_absorb_boxes(self) -> None:
        for face in (person("incorrect"), person(visible=False), person("", visible=False)):
            self.assertEqual(self.outcome([face], []), {})
            for absorbed in (box(), box(x=145), box(x=140, y=140, size=10)):
                tally = self.tally([face], [absorbed])
                self.assertEqual((dict(tally.persons), tally.ignored_boxes, tally.false_alarms), ({}, 1, 0))
            self.assertEqual(self.tally([face], [box(x=160)]).false_alarms, 1)

    def test_pictures_are_counted_apart(self) -> None:
        picture = Face("picture", "no_mask", Rect(300, 100, 100, 100), True)
        tally = self.tally([person(), picture], [box(), box("no_mask", x=300)])
        self.assertEqual(dict(tally.persons), {"right": 1})
        self.assertEqual((dict(tally.pictures), tally.false_alarms), ({"no_mask": 1}, 0))


class Program(unittest.TestCase):
    LABELS = (
        "clip,time_s,kind,class,x,y,width,height,visible\n"
        "walk,0.0,person,mask,100,100,100,100,yes\n"
        "walk,1.0,nobody,,,,,,\n"
    )

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "labels.csv").write_text(self.LABELS)

    def run_on(self, lines: list[str], name: str = "walk.jsonl") -> tuple[int, str, str]:
        events = self.folder / name
        events.write_text("".join(line + "\n" for line in lines))
        arguments = [str(events), "--ground-truth", str(self.folder / "labels.csv"), "--json", "--list-errors"]
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
            code = score.main(arguments)
        return code, out.getvalue(), err.getvalue()

    def event(self, pts_ms: float, source: str = "walk") -> str:
        found = {"x": 100, "y": 100, "width": 100, "height": 100, "score": 0.9, "label": "mask"}
        return json.dumps({"source": source, "frame": round(pts_ms / 40), "pts_ms": pts_ms, "boxes": [found]})

    def test_takes_the_first_frame_at_the_time_or_later(self) -> None:
        code, out, _ = self.run_on([self.event(pts_ms) for pts_ms in (0, 960, 999.999, 1040)])
        report = json.loads(out)
        self.assertEqual((code, report["total"]["right"], report["total"]["false_alarms"]), (0, 1, 1))
        self.assertEqual(report["errors"], ["walk 1 s: mask box on nobody at 100,100 100x100"])

    def test_a_frame_after_the_time_follows_the_one_before(self) -> None:
        self.assertEqual(self.run_on([self.event(pts_ms) for pts_ms in (0, 970, 1010)])[0], 0)

    def test_knows_the_clip_by_its_source_or_file(self) -> None:
        lines = [self.event(0), self.event(1000)]
        self.assertEqual(self.run_on(lines, "other.jsonl")[0], 0)
        self.assertEqual(self.run_on([line.replace("walk", "camera") for line in lines])[0], 0)

    def test_lines_that_tell_of_no_frame_are_passed_over(self) -> None:
        lines = [self.event(0), json.dumps({"event": "track_appeared", "source": "walk", "track": 1}), self.event(1000)]
        code, out, _ = self.run_on(lines)
        self.assertEqual((code, json.loads(out)["total"]["right"]), (0, 1))

    def test_what_cannot_be_used_is_named_in_one_line(self) -> None:
        cases = {
            "no event for the frame at 1 s": [self.event(0), self.event(960)],
            "walk: no event for the frame at 1 s": [self.event(0), self.event(960), self.event(1040)],
            "no event for the frame at 0 s": [self.event(80), self.event(1000)],
            "walk.jsonl:2: not an event": [self.event(0), self.event(1000)[:-5]],
            "walk.jsonl:1: not an event": ["[]"],
            "does not increase": [self.event(0), self.event(0)],
            "no events": [],
        }
        for message, lines in cases.items():
            with self.subTest(message):
                code, out, err = self.run_on(lines)
                self.assertEqual((code, out, err.count("\n")), (3, "", 1))
                self.assertIn(message, err)
        code, _, err = self.run_on([self.event(0, "other")], "other.jsonl")
        self.assertEqual(code, 3)
        self.assertIn("neither 'other' nor 'other' is a labelled clip", err)


class GroundTruth(unittest.TestCase):
    def test_can_be_read(self) -> None:
        clips = score.read_ground_truth(score.GROUND_TRUTH)
        self.assertEqual(len(clips), 6)
        for times in clips.values():
            self.assertEqual(sorted(times), [float(second) for second in range(len(times))])


if __name__ == "__main__":
    unittest.main()
