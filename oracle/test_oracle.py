"""Tests of the differential tier itself; neither root nor autofs is needed.

    python3 -m unittest discover -s oracle -p 'test_*.py'
"""

import os
import sys
import tempfile
import types
import unittest
import unittest.mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import differential
import outcome
import record
import saved as cases


def call(**parts):
    return {"fstype": None, "options": None, "flags": [], "source": "/s", "target": "/t",
            "rc": 0, "how": "real", **parts}


class Requests(unittest.TestCase):
    def test_binds_are_equal_however_they_are_asked_for(self):
        ways = [
            call(flags=["-n", "--bind"]),
            call(flags=["-B"], options="defaults"),
            call(fstype="bind"),
            call(fstype="none", options="bind"),
        ]
        self.assertEqual({outcome.request(way) for way in ways}, {"--bind /s /t"})

    def test_options_of_a_bind_are_kept(self):
        self.assertEqual(outcome.request(call(flags=["--bind"], options="ro")), "--bind -o ro /s /t")

    def test_no_options_are_equal_to_defaults(self):
        for options in (None, "", "defaults"):
            self.assertEqual(outcome.request(call(fstype="fake", options=options)), "-t fake /s /t")

    def test_failure_is_part_of_the_outcome(self):
        self.assertEqual(outcome.request(call(fstype="fake", rc=32)), "-t fake /s /t (failed)")

    def test_targets_are_normal(self):
        self.assertEqual(outcome.target_of("//m//a/"), "/m/a")

    def test_native_leaves_out_how_local_mounts_were_made(self):
        steps = [{"step": "open /m/a", "mounts": ["--bind /s /m/a", "-t fake /x /m/b"]}]
        self.assertEqual(outcome.natively(steps)[0]["mounts"], ["-t fake /x /m/b"])

    def test_long_texts_are_summed(self):
        self.assertIn("2000 characters", outcome.shortened("x" * 2000))


class Judgement(unittest.TestCase):
    def expected(self, toml, dialects="D-1: a reason\n"):
        with tempfile.TemporaryDirectory() as directory:
            for name, text in (("e.toml", toml), ("d.md", dialects)):
                with open(f"{directory}/{name}", "w", encoding="utf-8") as stream:
                    stream.write(text)
            return differential.Expected(f"{directory}/e.toml", f"{directory}/d.md")

    STANZA = '[[difference]]\ncase = "c"\nwhy = "D-1"\n[difference.steps]\n' \
             '"open /m/a [1]" = { status = "EIO", mounts = "" }\n'

    def test_a_listed_difference_is_explained(self):
        parts = {"status": ("ok", "EIO"), "mounts": (["x"], None)}
        self.assertEqual(self.expected(self.STANZA).explains("c", "open /m/a [1]", parts), "D-1")

    def test_another_outcome_than_listed_is_not(self):
        parts = {"status": ("ok", "EINVAL")}
        self.assertIsNone(self.expected(self.STANZA).explains("c", "open /m/a [1]", parts))

    def test_a_part_that_is_not_listed_is_not(self):
        parts = {"status": ("ok", "EIO"), "gone": (None, ["/m"])}
        self.assertIsNone(self.expected(self.STANZA).explains("c", "open /m/a [1]", parts))

    def test_a_listed_difference_that_does_not_occur_is_stale(self):
        expected = self.expected(self.STANZA)
        self.assertEqual(len(expected.stale({"c"})), 1)
        self.assertEqual(expected.stale({"other"}), [])

    def test_a_listed_part_that_does_not_differ_is_stale(self):
        expected = self.expected(self.STANZA)
        expected.explains("c", "open /m/a [1]", {"status": ("ok", "EIO")})
        self.assertEqual(len(expected.stale({"c"})), 1)

    def test_a_listed_difference_that_does_not_occur_is_looked_at_again(self):
        looks = [[], [("open /m/a [1]", {"status": ("ok", "EIO"), "mounts": (["x"], None)})]]
        options = types.SimpleNamespace(against="piton", jobs=1)
        judge = differential.Judge(self.expected(self.STANZA), options)

        def run_case(saved, _):
            result = differential.Result(saved["name"])
            result.found = looks.pop(0)
            return result

        with unittest.mock.patch.object(differential, "run_case", run_case):
            unsteady = differential.run_all([{"name": "c"}], options, judge)
        self.assertEqual((unsteady, looks, judge.stale({"c"})), (["c"], [], []))
        self.assertEqual([result.name for result in judge.explained], ["c"])

    def test_what_is_proposed_can_be_read_again(self):
        parts = {"status": ("ok", "EIO"), "mounts": (["x"], None)}
        expected = self.expected(differential.stanza("c", [("open /m/\u00e4 [1]", parts)], "D-1"))
        self.assertEqual(expected.explains("c", "open /m/\u00e4 [1]", parts), "D-1")

    def test_natively_less_is_compared(self):
        expected = self.expected(self.STANZA)
        parts = {"status": ("ok", "EIO")}
        self.assertEqual(expected.explains("c", "open /m/a [1]", parts, native=True), "D-1")

    def test_reasons_must_be_in_the_document(self):
        self.assertEqual(len(self.expected(self.STANZA, "D-2: other\n").wrong), 1)

    def test_failures_may_have_another_errno(self):
        expected = self.expected('[[errno]]\nautofs = "ENOENT"\npiton = ["EIO"]\nwhy = "D-1"\n')
        self.assertEqual(expected.explains("c", "s", {"status": ("ENOENT", "EIO")}), "D-1")
        self.assertIsNone(expected.explains("c", "s", {"status": ("ENOENT", "ok")}))
        self.assertIsNone(expected.explains("c", "s", {"status": ("ok", "EIO")}))


class Cases(unittest.TestCase):
    def test_every_case_is_complete(self):
        for saved in cases.load_all():
            with self.subTest(saved["name"]):
                self.assertIn(saved["class"], cases.CLASSES)
                self.assertTrue(saved["question"] and saved["verdict"])
                self.assertEqual(len(saved["autofs"]), len(saved["case"]["steps"]) + 1)
                self.assertLessEqual(set(saved.get("needs", [])), set(differential.LATER))
                self.assertLessEqual(set(saved), set(cases.ORDER))

    def test_names_are_file_names(self):
        for path in sorted(os.listdir(f"{cases.HERE}/cases")):
            self.assertEqual(cases.load(f"{cases.HERE}/cases/{path}")["name"] + ".json", path)

    def test_the_list_of_verdicts_is_current(self):
        path, text = record.verdicts()
        with open(path, encoding="utf-8") as stream:
            self.assertEqual(stream.read(), text, "run oracle/record.py --verdicts")


if __name__ == "__main__":
    unittest.main()
