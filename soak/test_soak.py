"""Tests of the soak test's own judgement; neither root nor a daemon is needed.

    python3 -m unittest discover -s soak -p 'test_*.py'
"""

import os
import random
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import watch
from model import Answer, Site


def samples(values):
    base = dict(fds=20, threads=4, processes=1, mounts=0)
    return [dict(base, at=float(number), rss_kib=value) for number, value in enumerate(values)]


class Trend(unittest.TestCase):
    def test_a_steady_climb_is_noticed(self):
        climb = samples([4000 + 200 * number for number in range(40)])
        self.assertIn("rss_kib grew", watch.verdict(climb, "daemon")[0])

    def test_warming_up_and_one_peak_are_no_climb(self):
        flat = [1000 * number for number in range(10)] + [10_000] * 30
        flat[25] = 90_000
        self.assertEqual(watch.verdict(samples(flat), "daemon"), [])

    def test_too_few_samples_prove_nothing(self):
        self.assertTrue(watch.verdict(samples([1, 1]), "daemon"))


class Model(unittest.TestCase):
    def site(self, root, seed):
        site = Site(root, random.Random(seed))
        site.build()
        return site

    def test_the_same_seed_gives_the_same_maps(self):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            answers = [self.site(root, 7).answers for root in (one, two)]
            self.assertEqual(*answers)
            self.assertGreater(len(answers[0]), 20)

    def test_a_change_allows_old_and_new_until_it_is_settled(self):
        with tempfile.TemporaryDirectory() as root:
            site = self.site(root, 1)
            site.maps["auto.one"]["key"] = ("bind", "s1")
            site.widen()
            site.settle()
            self.assertEqual(site.answers["one/key/id"], [Answer.of("s1")])
            site.maps["auto.one"]["key"] = ("bind", "s2")
            site.widen()
            self.assertIn(Answer.of("s1"), site.answers["one/key/id"])
            self.assertEqual(site.answers["one/key/id"][-1], Answer.of("s2"))
            site.settle()
            self.assertEqual(site.answers["one/key/id"], [Answer.of("s2")])


if __name__ == "__main__":
    unittest.main()
