"""The whole chain against the floor daemon; needs root, autofs and make."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FLOOR = f"{TOP}/build/floor"


def mount_table():
    with open("/proc/self/mountinfo") as f:
        return f.read()


class Smoke(unittest.TestCase):
    def setUp(self):
        # a skip would count as a pass
        self.assertEqual(os.geteuid(), 0, "must be run as root")
        self.assertTrue(os.path.exists("/dev/autofs"), "this kernel has no autofs")
        self.assertTrue(os.access(FLOOR, os.X_OK), "run make first")

    def run_bench(self, *args):
        with tempfile.TemporaryDirectory() as tmp:
            out = f"{tmp}/out.json"
            subprocess.run(
                [sys.executable, f"{TOP}/bench.py", "run", "--quick",
                 "--reps", "1", "--silent", "--out", out, *args],
                check=True, stderr=subprocess.DEVNULL)
            with open(out) as f:
                return json.load(f)["records"]

    def test_floor_mounts_and_leaves_nothing(self):
        before = mount_table()
        records = self.run_bench("--daemon", f"floor={FLOOR} -t 4 {{master}}",
                                 "--scenarios", "cold,parallel,negative,"
                                 "startup,direct,shutdown,multimount,reload")
        for r in records:
            self.assertEqual(r["metrics"].get("failed_n", 0), 0, r)
            self.assertEqual(r["metrics"].get("left_n", 0), 0, r)
        cases = {r["case"]: r["metrics"] for r in records}
        self.assertEqual(cases["64 threads, one key"]["mounts_per_key_n"], 1)
        self.assertEqual(mount_table(), before)

    def test_a_daemon_that_fails_is_reported(self):
        with self.assertRaises(subprocess.CalledProcessError):
            self.run_bench("--daemon", "bad=false", "--scenarios", "hot")


if __name__ == "__main__":
    unittest.main()
