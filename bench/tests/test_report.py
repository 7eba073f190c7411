"""Statistics and tables; needs neither root nor a build."""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from autobench import report, rows, stats                   # noqa: E402
from autobench.daemon import Spec                       # noqa: E402


def record(daemon, rep, value, case="10 keys"):
    return {"scenario": "s", "case": case, "daemon": daemon, "rep": rep,
            "metrics": {"x_us": value}}


class Stats(unittest.TestCase):
    def test_quantile_interpolates(self):
        self.assertEqual(stats.quantile([4, 1, 3, 2], 0.5), 2.5)
        self.assertEqual(stats.quantile([1, 2], 1.0), 2)
        self.assertEqual(stats.quantile([], 0.5), 0.0)

    def test_latency_is_in_microseconds(self):
        got = stats.latency([1000, 2000, 3000])
        self.assertEqual(got["p50_us"], 2)
        self.assertEqual(got["max_us"], 3)
        self.assertEqual((got["first10_us"], got["last10_us"]), (1, 3))

    def test_growth_is_the_exponent(self):
        self.assertAlmostEqual(
            stats.growth([(10, 5), (100, 500), (1000, 50000)]), 2)
        self.assertIsNone(stats.growth([(10, 5), (10, 6)]))


class Tables(unittest.TestCase):
    def test_ratio_pairs_the_repetitions(self):
        # the second repetition was twice as slow for both: no difference
        self.assertEqual(report.paired({0: 10, 1: 20}, {0: 5, 1: 10}), 2)
        self.assertIsNone(report.paired({0: 1}, {1: 1}))
        self.assertIsNone(report.paired({0: None}, {0: 1}))

    def test_table_has_a_column_for_each_daemon(self):
        text = report.table([record("a", 0, 10.0), record("b", 0, 4.0)])
        self.assertIn("| 10 keys | x_us | 10 | 4 | 2.5 |", text)

    def test_time_out_shows(self):
        text = report.table([record("a", 0, None), record("a", 1, 3.0)])
        self.assertIn("3 (1 timed out)", text)

    def test_orders_keep_cases_of_one_kind_together(self):
        text = report.orders(
            [record("a", 0, n * 1.0, f"{n} keys") for n in (1, 10, 100)] +
            [record("a", 0, 7.0, "5 threads")])
        self.assertIn("| s keys | x_us | a | 1: 1, 10: 10, 100: 100 "
                      "| 1.00 | 1.00 |", text)
        self.assertNotIn("threads", text)


class Specs(unittest.TestCase):
    def test_template(self):
        spec = Spec.parse("d=prog -o 'a b' --pid={pidfile} {master}")
        self.assertEqual(spec.name, "d")
        self.assertEqual(spec.command(master="/m", pidfile="/p", dir="/d"),
                         ["prog", "-o", "a b", "--pid=/p", "/m"])
        with self.assertRaises(ValueError):
            Spec.parse("no command")


class Page(unittest.TestCase):
    def setUp(self):
        self.row = rows.Row("first", "s", "10 keys", "x_us", floor=2.5,
                            autofs=50)

    def line(self, ours):
        records = [record("piton", 0, ours), record("autofs", 0, 3000),
                   record("floor", 0, 5)]
        return rows.Figures(records).line(self.row)

    def test_a_row_says_how_many_times_and_whether_that_will_do(self):
        self.assertEqual(
            "| first | 10 µs | 3000 µs | 5 µs | 300 × | 2 × | ≤ 2.5 × floor; "
            "50 × faster than autofs | reached, reached |", self.line(10))
        self.assertIn("**missed**, reached", self.line(20))

    def test_what_was_not_measured_is_not_reached(self):
        figures = rows.Figures([record("piton", 0, 10)])
        self.assertEqual([ok for _, ok in figures.targets(self.row)],
                         [None, None])

    def test_what_never_ended_is_missed(self):
        row = rows.Row("gone", "s", "10 keys", "x_us", most=25)
        figures = rows.Figures([record("piton", 0, None)])
        self.assertEqual(figures.targets(row), [("≤ 25 µs", False)])

    def test_real_nfs_is_compared_with_autofs(self):
        row = rows.Row("nfs", "s", "10 keys", "x_ms", beside=0.6)
        records = [{**record(daemon, 0, 0), "metrics": {"x_ms": value}}
                   for daemon, value in (("piton", 30), ("autofs", 60))]
        text = rows.Figures(records).beside(rows.Part("Real NFS", [row]))
        self.assertIn("| nfs | 30 ms | 60 ms | 2 × | ≤ 0.6 × autofs | reached |",
                      text)

    def test_spread_is_that_of_the_quartiles(self):
        self.assertEqual(rows.spread([1, 2, 3, 4, 100], "us"), "3 [2..4] µs")


if __name__ == "__main__":
    unittest.main()
