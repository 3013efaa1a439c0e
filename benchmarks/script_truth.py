"""Print, by rule, how many mistakes of `fixtures/projects` are found and right places flagged.

A right place is a right project: it is flagged when anything at all is reported in it. So is a
mistaken project in which anything else than its mistakes is reported.
Run from the repository's root: `python benchmarks/script_truth.py`.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fixtures.expectations import all_projects


def main() -> None:
    mistakes: Counter[str] = Counter()
    found: Counter[str] = Counter()
    right: Counter[str] = Counter()
    flagged: Counter[str] = Counter()
    for project in all_projects():
        places = project.found()
        mistakes.update(place.code for place in project.expected)
        found.update(place.code for place in project.expected & places)
        wrong = places - project.expected
        if not project.expected:
            right[project.rule] += 1
            flagged[project.rule] += bool(wrong)
        for place in sorted(project.expected - places):
            print(f"missed   {project.name}/{place.file}:{place.line} {place.code}")
        for place in sorted(wrong):
            print(f"flagged  {project.name}/{place.file}:{place.line} {place.code}")
    print(f"{'rule':6}  {'mistakes found':>14}  {'right projects flagged':>22}")
    for rule in sorted(mistakes.keys() | right.keys()):
        print(
            f"{rule:6}  {f'{found[rule]} of {mistakes[rule]}':>14}"
            f"  {f'{flagged[rule]} of {right[rule]}':>22}"
        )
    print(
        f"{'all':6}  {f'{found.total()} of {mistakes.total()}':>14}"
        f"  {f'{flagged.total()} of {right.total()}':>22}"
    )


if __name__ == "__main__":
    main()
