from __future__ import annotations

import json

import pytest

from bench import report
from bench.goals import CONNECTIONS, goals
from bench.load import read_perf_analyzer, read_wrk
from bench.measurement import CLOSED, FORWARD, OVERLOAD, POISSON, WRK, Measurement
from bench.record import Record
from bench.servers import OURS


def measured(server=OURS, rate=1000.0, **more):
    values = {
        "server": server, "workload": "C", "rows": 1, "encoding": "json", "mode": CLOSED, "generator": WRK,
        "load": CONNECTIONS[1], "round": 1, "requests_per_second": rate, "p50_ms": 1.0, "p99_ms": 2.0,
    }  # fmt: skip
    return Measurement(**{**values, **more})


def goal(found, start):
    return next(each for each in goals(found) if each.name.startswith(start))


def test_a_ratio_is_made_within_each_round_and_then_the_median_is_taken():
    found = [measured(rate=rate, round=at) for at, rate in enumerate((1000, 2000, 900), 1)]
    found += [measured("mlflow", rate, round=at) for at, rate in enumerate((100, 100, 100), 1)]
    row = goal(found, "throughput over mlflow")
    assert (row.value, row.spread) == (10, (9, 20))
    assert row.holds
    assert row.reaches_aim


def test_a_goal_that_was_not_measured_neither_holds_nor_fails():
    assert {each.holds for each in goals([])} == {None}
    assert goal([], "the same on a GPU").note.startswith("unmeasured")


def test_figures_taken_beside_other_work_are_shown_but_not_judged():
    row = goal([measured(foreign_cpu=0.5), measured("mlflow", 10, foreign_cpu=0.5)], "throughput over mlflow")
    assert row.value == 100
    assert row.holds is None
    assert "other processes took 50%" in row.note


@pytest.mark.parametrize(("p99", "holds"), [(2.0, True), (2.1, False)])
def test_more_throughput_than_triton_at_a_worse_p99_does_not_hold(p99, holds):
    found = [measured(rate=1500, encoding="binary", p99_ms=p99), measured("triton", encoding="binary")]
    assert goal(found, "throughput over native Triton at no worse p99, C, 1 row").holds is holds


def test_perf_analyzers_figures_go_before_wrks_where_both_sides_have_them():
    found = [measured(server, encoding="binary") for server in (OURS, "triton")]
    found += [measured(OURS, 1200, encoding="binary", generator="perf_analyzer")]
    assert goal(found, "throughput over native Triton").value == 1, "the peer has none: wrk's are compared"
    found += [measured("triton", 1000, encoding="binary", generator="perf_analyzer")]
    assert goal(found, "throughput over native Triton").value == 1.2


def test_served_over_in_process_compares_requests_of_the_same_rows():
    found = [
        measured(rate=80, rows=64, load=CONNECTIONS[64], encoding="binary"),
        measured("in-process", 100, rows=64, load=1, encoding="none", mode=FORWARD, generator="none"),
    ]
    row = goal(found, "served over in-process forward, C")
    assert (row.value, row.unit, row.holds, row.reaches_aim) == (80, "%", True, False)


def test_the_poisson_goal_takes_the_largest_rate_that_kept_the_bound():
    found = [measured(encoding="binary")]
    for load, p99 in ((900, 30.0), (800, 9.0), (700, 5.0)):
        found.append(measured(encoding="binary", mode=POISSON, generator="bench.openloop", load=load, p99_ms=p99))
    assert goal(found, "Poisson").value == 80


def test_the_poisson_goal_fails_where_requests_were_lost_at_every_rate():
    found = [measured(encoding="binary"), measured(encoding="binary", mode=POISSON, load=900, broken=1)]
    row = goal(found, "Poisson")
    assert (row.value, row.holds) == (0, False)


@pytest.mark.parametrize(
    ("p99", "refusal", "expired", "holds"),
    [(99.0, 1.0, 0, True), (99.0, 1.0, 1, True), (101.0, 1.0, 0, False), (99.0, 6.0, 0, False), (99.0, 1.0, 2, False)],
)
def test_an_overload_holds_where_accepted_are_in_time_and_refusals_are_quick(p99, refusal, expired, holds):
    accepted = {"200": {"count": 100 - expired}, "504": {"count": expired, "p99_ms": 99.9}}
    detail = {"statuses": {**accepted, "429": {"count": 900, "p99_ms": refusal}}}
    found = [measured(workload="D", mode=OVERLOAD, p99_ms=p99, detail=detail, load=2000)]
    assert goal(found, "at 10× overload").holds is holds


def test_wrks_line_becomes_answered_requests_a_second():
    line = 'RESULT {"requests": 110, "seconds": 2.0, "p50_ms": 1, "p99_ms": 3, "max_ms": 4, "refused": 10, "broken": 1}'
    outcome = read_wrk(line, 0.5)
    assert (outcome.requests_per_second, outcome.refused, outcome.broken) == (50, 10, 1), "refusals are no throughput"


def test_perf_analyzers_inferences_are_rows():
    text = "Concurrency,Inferences/Second,Client Send,p50 latency,p99 latency\n8,6400,1,1500,2500\n"
    outcome = read_perf_analyzer(text, 64, 0.5)
    assert (outcome.requests_per_second, outcome.p50_ms, outcome.p99_ms) == (100, 1.5, 2.5)


@pytest.fixture
def record(tmp_path):
    return Record(
        path=tmp_path / "latest.json", command="python -m bench", started="2026-11-22T00:00:00+00:00",
        settings={"rounds": 1, "seconds": 1, "server_cores": "0", "load_cores": "1"},
        machine={"cpu": "x", "cores": 2, "memory_gib": 1, "kernel": "6", "libc": "glibc", "gpu": "unmeasured here"},
        versions={"python": "3.11"}, measurements=[measured(), measured("mlflow", 100)],
    )  # fmt: skip


def test_a_record_comes_back_as_it_was_written(record):
    record.goals = goals(record.measurements)
    record.write()
    again = Record.read(record.path)
    assert again.measurements == record.measurements
    assert [each.name for each in again.goals] == [each.name for each in record.goals]
    assert {"name", "floor", "aim", "value", "spread", "unit", "holds"} <= set(
        json.loads(record.path.read_text())["goals"][0]
    )


def test_the_report_shows_the_ratio_and_holds_its_pictures_in_one_page(record):
    record.goals = goals(record.measurements)
    record.write()
    written = {path.suffix for path in report.write(record)}
    assert written == {".json", ".md", ".png", ".html"}
    assert (
        "| mlflow models serve | 100 | 100–100 | 1.00 | 2.00 | 10.00 | 100 | 10.00 |"
        in (record.path.parent / "latest.md").read_text()
    )
    page = (record.path.parent / "latest.html").read_text()
    assert "data:image/png;base64," in page
    assert "<table>" in page
    assert 'src="http' not in page
