"""From results to tables."""

import re

from .stats import growth, median


def group(records):
    """{(scenario, case, metric): {daemon: {rep: value}}}, in order."""
    out = {}
    for r in records:
        for metric, value in r["metrics"].items():
            cell = out.setdefault((r["scenario"], r["case"], metric), {})
            cell.setdefault(r["daemon"], {})[r["rep"]] = value
    return out


def number(value):
    """Three significant digits, and no more zeros than needed."""
    if value is None:
        return "-"
    if value == int(value) and abs(value) < 1e7:
        return str(int(value))
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def cell(values):
    """median [min..max] of the repetitions; "-" where it never ended."""
    good = [v for v in values if v is not None]
    if not good:
        return "-"
    text = number(median(good))
    if len(good) > 1 and min(good) != max(good):
        text += f" [{number(min(good))}..{number(max(good))}]"
    if len(good) < len(values):
        text += f" ({len(values) - len(good)} timed out)"
    return text


def paired(a, b):
    """The median of a/b over the repetitions that both have."""
    ratios = [a[r] / b[r] for r in a.keys() & b.keys() if a[r] and b[r]]
    return median(ratios) if ratios else None


def table(records, metrics=None):
    """Markdown: one row a metric, one column a daemon, and the ratio.

    metrics, a regular expression, selects the rows.
    """
    daemons = list(dict.fromkeys(r["daemon"] for r in records))
    lines, last = [], None
    for (scen, case, metric), by_daemon in group(records).items():
        if metrics and not re.search(metrics, metric):
            continue
        if scen != last:
            heads = ["case", "metric", *daemons]
            if len(daemons) > 1:
                heads += [f"{daemons[0]}/{d}" for d in daemons[1:]]
            lines += ["", f"### {scen}", "", "| " + " | ".join(heads) + " |",
                      "|" + "---|" * len(heads)]
            last = scen
        row = [case, metric]
        row += [cell(list(by_daemon.get(d, {}).values())) for d in daemons]
        for d in daemons[1:]:
            row.append(number(paired(by_daemon.get(daemons[0], {}),
                                     by_daemon.get(d, {}))))
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def orders(records, minimum=3):
    """Markdown: how the metrics of cases that begin with a number grow.

    The exponents are over all points, and over the last two of them: the
    latter says more when a constant part hides the growth at first.
    """
    series = {}
    for (scen, case, metric), by_daemon in group(records).items():
        size = re.match(r"(\d+)(.*)", case)
        if not size or not re.search(r"(?<!per)_(us|ms|s|kib)$", metric):
            continue
        for daemon, values in by_daemon.items():
            good = [v for v in values.values() if v]
            if good:
                series.setdefault((scen + size[2], metric, daemon),
                                  []).append((int(size[1]), median(good)))
    lines = ["| scenario | metric | daemon | points | exponent | at the end |",
             "|---|---|---|---|---|---|"]
    for (scen, metric, daemon), points in series.items():
        order = growth(points)
        if order is None or len(points) < minimum:
            continue
        text = ", ".join(f"{n}: {number(y)}" for n, y in points)
        tail = growth(sorted(points)[-2:])
        lines.append(f"| {scen} | {metric} | {daemon} | {text} "
                     f"| {order:.2f} | {tail:.2f} |")
    return "\n".join(lines) + "\n"


def figures(records, ours, rows):
    """Markdown: a few numbers of ours beside those of the others.

    rows are (text, scenario, case, metric).  Beside the numbers stand how many
    times slower the first of the others is, and how many times the last one's
    we are: medians of the ratios of each repetition.
    """
    groups = group(records)
    others = [d for d in dict.fromkeys(r["daemon"] for r in records) if d != ours]
    heads = ["", ours, *others, f"{others[0]} / {ours}", f"{ours} / {others[-1]}"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for text, scenario, case, metric in rows:
        by_daemon = groups.get((scenario, case, metric), {})
        mine = by_daemon.get(ours, {})
        unit = metric.rpartition("_")[2].replace("us", "µs")
        cells = [f"{cell(list(by_daemon.get(d, {}).values()))} {unit}"
                 for d in (ours, *others)]
        cells += [f"{number(paired(by_daemon.get(others[0], {}), mine))} ×",
                  f"{number(paired(mine, by_daemon.get(others[-1], {})))} ×"]
        lines.append(f"| {text} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
