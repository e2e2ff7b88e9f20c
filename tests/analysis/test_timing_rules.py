"""The verdicts on latency follow from the timings on record, where these are of the export and not contended."""

import pytest
from claim_records import (
    CPU,
    H100,
    P100,
    SEEDS,
    Write,
    contended,
    export,
    faster,
    half_precision,
    judged,
    latency,
    steps_of,
    training,
    write_seeds,
)

from cifar_bench import records
from cifar_bench.analysis.judgement import INCONCLUSIVE, NOT_REPRODUCED, NOT_RUN, REPRODUCED

P1000 = {"name": "Quadro P1000", "compute_capability": [6, 1]}
V100 = {"name": "Tesla V100-SXM2-16GB", "compute_capability": [7, 0]}


@pytest.mark.parametrize(
    ("gpu", "means", "on_a_p100", "on_a_newer_gpu"),
    [
        (P100, (828, 828.1, 828.2), REPRODUCED, NOT_RUN),
        (P100, (826, 830, 834), INCONCLUSIVE, NOT_RUN),
        (P100, (900, 901, 902), NOT_REPRODUCED, NOT_RUN),
        (P100, (820, 821), NOT_RUN, NOT_RUN),
        (V100, (820, 821, 822), NOT_RUN, REPRODUCED),
        (H100, (824, 828, 832), NOT_RUN, INCONCLUSIVE),
        (H100, (828.5, 828.6, 828.7), NOT_RUN, NOT_REPRODUCED),
        (P1000, (820, 821, 822), NOT_RUN, NOT_RUN),
        (CPU, (500, 501, 502), NOT_RUN, NOT_RUN),
    ],
)
def test_latency_is_judged_on_the_hardware_it_is_claimed_for(
    write: Write, gpu: dict | None, means: tuple[float, ...], on_a_p100: str, on_a_newer_gpu: str
) -> None:
    write("export", export())
    write("latency", latency(*means), gpu=gpu)
    assert judged("latency-p100")["verdict"] == on_a_p100
    assert judged("newer-gpu")["verdict"] == on_a_newer_gpu


def test_latency_is_that_of_torchscript_in_cpp_or_else_in_python(write: Write) -> None:
    python, cpp = latency(820, 821, 822), latency(900, 901, 902, engine="torchscript-cpp")
    repeated = latency(100, 100, 100, variant=records.REPEATED_IMAGE)["engines"]
    failed = {"engine": "torchscript-cpp", "images": 10_000, "variant": "", "reason": "no C++ compiler was found"}
    for rows, ours in (([*repeated, *python["engines"], failed], "821"), (python["engines"] + cpp["engines"], "901")):
        write("latency", python | {"engines": rows})
        row = judged("latency-p100")  # shown, though not judged on a CPU
        assert row["ours"].startswith(f"{ours} µs (") and row["reason"] == "needs a P100"


@pytest.mark.parametrize("claim", ["latency-p100", "newer-gpu", "run-spread", "half-precision", "ten-times-faster"])
def test_timing_claims_are_not_run_without_a_timing(write: Write, claim: str) -> None:
    write("export", export())
    assert judged(claim)["verdict"] == NOT_RUN
    failed = {"engine": "torchscript", "variant": "", "network": "", "precision": "float32", "reason": "it broke"}
    write("latency", {"engines": [*latency(820, 821, engine="eager")["engines"], failed]}, gpu=P100)
    write("half_precision", {"precisions": [failed]})
    write("faster", {**faster(180), "rows": [failed, *faster(180)["rows"][1:]]})
    assert judged(claim)["verdict"] == NOT_RUN


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (latency(*steps_of(10, 0.2)), REPRODUCED),  # 0.22%, as the original
        (latency(*steps_of(10, 0.35)), INCONCLUSIVE),
        (latency(*steps_of(10, 2)), NOT_REPRODUCED),  # 2.2%
        (latency(*steps_of(4, 20), images=1_000), NOT_REPRODUCED),  # fewer and shorter runs refute as well
        (latency(*steps_of(3, 0.01), images=1_000), NOT_RUN),
        (latency(*steps_of(9, 0.1)), NOT_RUN),
        (latency(*steps_of(10, 0.1), images=9_999), NOT_RUN),
        (latency(*steps_of(2, 20)), NOT_RUN),
    ],
)
def test_run_spread_is_that_of_ten_runs_with_its_interval(write: Write, measured: dict, verdict: str) -> None:
    write("export", export())
    write("latency", measured)
    assert judged("run-spread")["verdict"] == verdict


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (half_precision(1.2, 1.4), REPRODUCED),
        (half_precision(0.985, 0.995), REPRODUCED),  # a gain under 2% counts as none
        (half_precision(0.95, 1.01), INCONCLUSIVE),
        (half_precision(0.78, 0.82, kind="bfloat16"), NOT_REPRODUCED),
        (half_precision(0.78, 0.82, runs=2), NOT_RUN),
        (half_precision(3.1, 3.7, peak=1.05), NOT_RUN),  # says nothing of hardware that computes faster in float16
        ({"precisions": half_precision(1.2, 1.4)["precisions"][3:]}, NOT_RUN),  # float16 alone
    ],
)
def test_half_precision_brings_no_gain_where_the_interval_stays_near_one(write: Write, measured: dict, verdict: str) -> None:
    write("export", export())
    write("half_precision", measured)
    assert judged("half-precision")["verdict"] == verdict


def test_the_fastest_16_bit_format_with_higher_peak_flop_per_second_is_judged(write: Write) -> None:
    slow, fast = half_precision(0.5, 0.6, peak=0.92), half_precision(0.78, 0.82, peak=8, kind="bfloat16")
    write("export", export())
    write("half_precision", fast | {name: slow[name] + fast[name][-1:] for name in ("precisions", "peaks")})
    row = judged("half-precision")
    assert row["verdict"] == NOT_REPRODUCED and row["ours"] == "bfloat16: speedup 1.25× (1.22 to 1.28)"
    assert "float32's (8×)" in row["reason"] and "float16 (peak 0.92×): speedup 1.83×" in row["reason"]


@pytest.mark.parametrize(
    ("measured", "seeds", "verdict"),
    [
        (faster(180), SEEDS, REPRODUCED),
        (faster(200), SEEDS, INCONCLUSIVE),
        (faster(220), SEEDS, NOT_REPRODUCED),
        (faster(180, accuracy=93.99), SEEDS, NOT_REPRODUCED),  # no other file is accurate enough
        (faster(180), (94.4, 93.5, 93.7, 93.6, 93.6), INCONCLUSIVE),  # the interval of the mean contains 94
        (faster(180), (94.4, 94.0, 94.1, 93.9, 94.1), INCONCLUSIVE),  # likewise, though the mean is above 94
        (faster(180), (93.4, 93.5, 93.6, 93.5, 93.5), NOT_REPRODUCED),
        (faster(180), (94.4, 94.3, 94.3, 94.4), NOT_RUN),  # too few seeds to tell
        (faster(220), (94.4, 94.3), NOT_REPRODUCED),  # more seeds would not make it fast enough
        (faster(180, test_images=9999), SEEDS, NOT_RUN),
    ],
)
def test_the_speedup_is_that_of_the_fastest_accurate_file(
    write: Write, measured: dict, seeds: tuple[float, ...], verdict: str
) -> None:
    write("export", export())
    write("faster", measured)
    write_seeds(write, *seeds)
    row = judged("ten-times-faster")
    assert row["verdict"] == verdict
    if verdict == REPRODUCED:
        assert row["ours"] == "11.1× (11.0 to 11.2) faster than TorchScript, 94.20% accuracy"


def test_the_seeds_of_a_network_are_those_on_record_when_the_speedup_is_judged(write: Write) -> None:
    write("export", export())
    write("faster", faster(180))
    for count, verdict in ((1, NOT_RUN), (5, REPRODUCED)):  # the other seeds are trained after the timing
        write_seeds(write, *SEEDS[:count])
        row = judged("ten-times-faster")
        assert row["verdict"] == verdict
        assert [used["record"] for used in row["evidence"]] == [
            "lab/faster/record.json", *(f"narrow/train/seed{seed}/record.json" for seed in range(count))]


@pytest.mark.parametrize(("int8_accuracy", "verdict"), [
    ({"onnxruntime": 94.3}, REPRODUCED), ({"onnxruntime": 93.9}, NOT_REPRODUCED), ({"executorch": 94.3}, NOT_RUN),
    ({}, NOT_RUN),
])
def test_the_seeds_accuracy_is_that_of_their_networks_quantized_alike(
    write: Write, int8_accuracy: dict, verdict: str
) -> None:
    write("export", export())
    write("faster", faster(180))
    write_seeds(write, *SEEDS, measured={"int8_accuracy": int8_accuracy})
    row = judged("ten-times-faster")
    assert row["verdict"] == verdict
    if verdict == NOT_RUN:
        assert row["reason"] == "narrow, openvino, int8: 0 of 5 seeds of its network have been scored in int8"


def test_a_faster_file_with_too_few_seeds_leaves_the_speedup_open(write: Write) -> None:
    slower, pending = faster(280), faster(100)
    pending["rows"][1]["network"] = "pending"
    slower["rows"].append(pending["rows"][1])
    slower["networks"]["pending"] = pending["networks"]["narrow"] | {"weights_sha256": "pending"}
    write("export", export())
    write("faster", slower)
    write_seeds(write, *SEEDS)
    write("train/seed0", training(94.3) | {"weights_sha256": "pending"}, run="pending", widths=[2, 3, 4, 5])
    row = judged("ten-times-faster")
    assert row["verdict"] == NOT_RUN and row["reason"].startswith("pending, openvino, int8: 1 of 5 seeds")


def test_a_file_whose_timed_predictions_are_of_something_else_is_not_the_fastest(write: Write) -> None:
    write("export", export())
    measured = faster(180)
    measured["rows"][1]["accuracy"] = 10.0
    write("faster", measured)
    write_seeds(write, *SEEDS)
    assert judged("ten-times-faster")["verdict"] == NOT_REPRODUCED


# ---- records that do not belong together, contended runs, A/A noise


@pytest.mark.parametrize(
    ("exported", "changed", "reason"),
    [
        ({"parameters": 12_345}, {}, "another network: 12,345 parameters"),
        ({}, {"models_sha256": {"model.pt": "another"}}, "not the export on record"),
        ({}, {"images": 100}, "100 images a run"),
        ({}, {"max_logit_error": 99.0}, "logit error 99"),
        ({}, {"accuracy": 10.0}, "accuracy of 10.00%"),
        (None, {}, "no record of the export"),
    ],
)
@pytest.mark.parametrize("claim", ["latency-p100", "run-spread", "half-precision", "ten-times-faster"])
def test_a_timing_of_something_else_is_not_judged(
    write: Write, claim: str, exported: dict | None, changed: dict, reason: str
) -> None:
    step, rows, measured = {
        "half-precision": ("half_precision", "precisions", half_precision(1.2, 1.4)),
        "ten-times-faster": ("faster", "rows", faster(180)),
    }.get(claim, ("latency", "engines", latency(*steps_of(10, 0.1, 820))))
    for row in measured[rows]:
        row.update({name: value for name, value in changed.items() if name in row})
    measured |= {name: value for name, value in changed.items() if name in measured}
    if exported is not None:
        write("export", export() | exported)
    write(step, measured, gpu=P100)
    row = judged(claim)
    assert row["verdict"] == NOT_RUN and reason in row["reason"]


@pytest.mark.parametrize(("claim", "step", "measured"), [
    ("latency-p100", "latency", contended(latency(500, 501, 502), 3)),
    ("latency-p100", "latency", contended(latency(900, 901, 902), 3)),
    ("run-spread", "latency", contended(latency(*steps_of(10, 0.1)), 8)),
    ("half-precision", "half_precision", contended(half_precision(1.2, 1.4), 3, "precisions")),
    ("ten-times-faster", "faster", contended(faster(180), 3, "rows")),
])
def test_contended_runs_decide_nothing(write: Write, claim: str, step: str, measured: dict) -> None:
    write("export", export())
    write(step, measured, gpu=P100)
    write_seeds(write, *SEEDS)
    row = judged(claim)
    assert row["verdict"] == INCONCLUSIVE and "contended" in row["reason"]


def test_a_contended_run_does_not_count_where_enough_others_do(write: Write) -> None:
    write("export", export())
    write("latency", contended(latency(820, 821, 822, 9_000), 1), gpu=P100)
    row = judged("latency-p100")
    assert row["verdict"] == REPRODUCED and row["ours"].startswith("821 µs (")


def test_aa_noise_hides_a_small_difference_but_is_the_answer_where_runs_should_agree(write: Write) -> None:
    means = steps_of(10, 2)
    measured = latency(*means)
    measured["engines"][1:] = latency(*(1.1 * us for us in means), variant=records.AA_TEST)["engines"]
    write("export", export())
    write("latency", measured, gpu=P100)
    row = judged("latency-p100")
    assert row["verdict"] == INCONCLUSIVE and "A/A noise of up to 10.0%" in row["reason"]
    assert judged("run-spread")["verdict"] == NOT_REPRODUCED


def test_without_an_aa_test_a_latency_is_inconclusive(write: Write) -> None:
    measured = latency(820, 821, 822)
    del measured["engines"][1:]
    write("export", export())
    write("latency", measured, gpu=P100)
    row = judged("latency-p100")
    assert row["verdict"] == INCONCLUSIVE and "the A/A noise is unknown" in row["reason"]


def test_half_precision_names_the_hardware_that_it_is_claimed_of(write: Write) -> None:
    write("export", export())
    write("half_precision", half_precision(1.2, 1.4))
    assert "the claim concerned a P100, this is a processor, 2 cores" in judged("half-precision")["reason"]
    write("half_precision", half_precision(1.2, 1.4), gpu=P100)
    assert "claimed of" not in judged("half-precision")["reason"]
