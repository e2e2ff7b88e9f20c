"""The states of the machine that the probes saw are told apart, named, and explain what they explain."""

import copy

import numpy as np
import pytest
from records_made import Made, row_named, timed

from cifar_bench.analysis import latency, states
from cifar_bench.report import latency as report

# Recorded on a virtual machine with two cores while the host moved them: medians (ns) of 1,000 images, and the round trip (ns)
# of a cache line between the cores before and after each process. oneDNN in int8 and TorchScript in float32, two threads.
ONEDNN = [(179492, 93.4, 86.5), (184105, 89.6, 87.3), (226478, 386.3, 404.5), (225025, 383.9, 95.0), (179022, 88.3, 91.8),
          (221954, 391.2, 388.4), (223120, 380.5, 402.1)]
TORCHSCRIPT = [(1413173, 89.4, 129.4), (1340590, 80.2, 90.3), (1560403, 386.3, 393.2), (1622931, 132.2, 416.1),
               (1361722, 85.1, 92.2), (1511880, 411.0, 396.5), (1548020, 392.9, 388.0)]


def runs(recorded: list[tuple[int, float, float]]) -> list[dict]:
    return [{"round": number, "p50_ns": ns, "mean_ns": ns, "contended": False, "state_changed": max(trips) > 2 * min(trips),
             "probes": {"clock_ghz": [4.2, 4.3], "multiply_adds_per_ns": [8.4, 8.5], "round_trip_ns": list(trips)}}
            for number, (ns, *trips) in enumerate(recorded)]


def test_recorded_states_are_told_apart_and_explain_the_spread() -> None:
    row = {"runs": runs(ONEDNN)}
    fast, slow = states.grouped(latency.judged_runs(row))  # without the run in which the state changed
    assert [run["p50_ns"] for run in fast] == [184105, 179492, 179022]  # the shortest round trip first
    assert sorted(run["p50_ns"] for run in slow) == [221954, 223120, 226478]
    assert states.name(slow).startswith("round trip 391 ns, 4.2 GHz")
    assert states.explained(latency.judged_runs(row)) == pytest.approx(0.99, abs=0.01)


def test_ratios_pair_runs_of_one_state() -> None:
    ours, theirs = runs(ONEDNN), runs(TORCHSCRIPT)
    ours[0], ours[2] = {**ours[2], "round": 0}, {**ours[0], "round": 2}  # the state differs within two rounds
    pairs = latency.paired_runs({"runs": ours}, {"runs": theirs})
    assert [one["round"] for one, _ in pairs] == [1, 4, 5, 6] and not any(latency.disturbance(*pair) for pair in pairs)
    few = latency.paired_runs({"runs": ours[:3]}, {"runs": theirs[:3]})
    assert len(few) == 3 and latency.disturbance(*few[0]).startswith("the machine's state changed")


def test_one_thread_has_no_round_trip_and_is_compared_by_the_other_probes() -> None:
    alone, threads = runs(ONEDNN[:1]), runs(ONEDNN[2:3])
    del alone[0]["probes"]["round_trip_ns"]
    assert not states.differ(*alone, *threads)
    halved = copy.deepcopy(alone)
    halved[0]["probes"]["multiply_adds_per_ns"] = [4.2, 4.2]  # another process on the same physical core
    assert states.differ(*alone, *halved)
    assert len(states.grouped(alone + halved + threads)) == 3


def test_readings_without_a_gap_are_one_state_and_records_without_probes_none() -> None:
    drifting = runs([(1000, trip, trip) for trip in (76, 100, 136, 200)])
    assert len(states.grouped(drifting)) == 1
    unknown = [{"p50_ns": 1000, "contended": False}]
    assert states.grouped(unknown) == [unknown] and states.name(unknown) == "not probed"
    assert not states.differ(*unknown, drifting[0])


def test_the_page_names_the_states_and_the_latency_in_each(made: Made) -> None:
    record = made.record("latency")
    row = row_named(record["measurements"]["engines"], engine="torchscript", variant="")
    ns = np.array([[median] * 100 for median, *_ in TORCHSCRIPT])
    row = timed(row, ns)
    for run, recorded in zip(row["runs"], runs(TORCHSCRIPT)):
        run.update({name: recorded[name] for name in ("probes", "state_changed")})
    record["measurements"]["engines"] = [row]
    sentence, table = report.states_sentence(record), report.states_table(record)
    assert "round trip 89 ns" in sentence and "(3 runs)" in sentence
    assert "In 1 of the runs, checks included, the state changed." in sentence
    assert sentence.endswith("states explain 91% with torchscript.")
    assert table["runs"].tolist() == [6, 3, 3] and table["state"][0] == "all"
    assert table["p50 (µs)"].tolist() == pytest.approx([1462.5265, 1361.722, 1548.020])
    assert table["spread (%)"].tolist() == pytest.approx([15.10, 5.29, 3.15], abs=0.005)
    assert "several humps" in report.histogram(record, {row["series"]: ns}).caption
