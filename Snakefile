# The order of the notebooks, and nothing else. `make report` calls it with the profile and the run's name.
#
# A step runs again when its parameters, its inputs or its code change (`digest`: its code cells and the modules they import),
# never because a file was merely touched or saved. A training run depends on cifar_lib and its notebook alone, as its checkpoints
# do: scoring its network int8-quantized, say, is no reason to train for hours again.
import glob
import json
import os
import sys
from pathlib import Path

from cifar_bench import RUN_NAME, records
from cifar_bench.analysis import verdicts
from cifar_bench.analysis.evidence import STEPS
from cifar_bench.notebook import control
from cifar_bench.records import PROFILE_VARIABLE, REFERENCE_GPUS, REFERENCE_TRAINING_RUNS, SHIPPED, code
from cifar_lib import InputError

control.stop_on_signal(workflow)
RUN, PROFILE = str(config["run"]), config["profile"]
if not RUN_NAME.fullmatch(RUN):
    sys.exit(f"RUN is {RUN!r}: use letters, digits, '.', '_' and '-' only.")
plan_file = Path("profiles") / f"{PROFILE}.yaml"
if not plan_file.is_file():
    names = ", ".join(sorted(path.stem for path in plan_file.parent.glob("*.yaml")))
    sys.exit(f"There is no profile {PROFILE}: choose one of {names}.")
if workflow.is_main_process:  # on a cluster, each job reads this file again
    try:
        records.refuse_reference(RUN)
        LOCK = None if workflow.dryrun else records.lock(RUN, "report")
        if "cores" in config:  # on a cluster: each job is told
            workflow.resource_settings.cores = int(config["cores"]) or control.smallest_cores(workflow, config.get("nodes"))
    except InputError as error:
        sys.exit(str(error))

configfile: plan_file
os.environ[PROFILE_VARIABLE] = PROFILE  # not in the commands: another name would make every step run again

COMPARE = str(config.get("compare", "")).split()
for name in COMPARE:
    if not RUN_NAME.fullmatch(name) or not any(glob.glob(f"results/{name}/{step}/record.json") for step in ("train/*", *STEPS)):
        sys.exit(f"There is no run {name} under results/ to compare with.")

NETWORKS = config["faster"].get("networks", [])  # runs whose networks 5_faster compares
OTHERS = {*REFERENCE_TRAINING_RUNS, *REFERENCE_GPUS, *COMPARE, *NETWORKS} - {RUN}  # other runs that a report uses
FOLDER, LOGS = f"results/{RUN}", f"results/{RUN}/notebooks"
FIRST = config["seeds"][0]
WEIGHTS_FROM = RUN if config["weights"] == "trained" else SHIPPED
WEIGHTS = f"{FOLDER}/train/seed{FIRST}/weights.pt" if WEIGHTS_FROM == RUN else f"results/{SHIPPED}/export/model.pt"
PLANNED = {  # the parameters of each step
    **{f"train/seed{seed}": {"seed": seed, **config["train"]} for seed in config["seeds"]},
    "export": {"weights_from": WEIGHTS_FROM, "seed": FIRST, **config["export"]},
    **{step: config[step] for step in ("latency", "half_precision", "faster")},
}
RECORDS = [f"{FOLDER}/{step}/record.json" for step in PLANNED]
if workflow.is_main_process and not workflow.dryrun:
    for step, record in zip(PLANNED, RECORDS):  # they say themselves whether they count: Snakemake's own notes may be lost
        records.set_aside(Path(record), PLANNED[step])
    if not verdicts.are_of_these_records(RUN):
        Path(FOLDER, "verdicts.json").unlink(missing_ok=True)

EXECUTE = "python -m cifar_bench.notebook.execute notebooks/{params.notebook}.ipynb {log} {params.values:q}"

# What cluster jobs request besides cores: a GPU, and for timing, nodes with one feature.
GPU = {"gpu": config["gpu"]} if "gpu" in config else {}
TIMED = {**GPU, **({"constraint": config["nodes"]} if "nodes" in config else {})}

CORES = workflow.resource_settings.cores  # all, for each step: nothing else may run while it measures

# Snakemake sets the number of threads for each step; a record would take that for the user's own choice.
shell.prefix("set -euo pipefail; unset OMP_NUM_THREADS GOTO_NUM_THREADS OPENBLAS_NUM_THREADS MKL_NUM_THREADS; ")


onstart:
    if "cores" in config and workflow.is_main_process:
        control.prepare_jobs(workflow)


def values(**parameters):
    """A notebook's parameters, as JSON."""
    return json.dumps({"run": RUN, **parameters})


rule all:  # names the records, too, or a deleted record would go unnoticed where there is a report
    input: RECORDS, f"{FOLDER}/report.html", f"{FOLDER}/verdicts.json"


rule report:
    input:
        RECORDS, "claims.yaml", "published.yaml", *glob.glob("cifar_bench/report/templates/report/*"),
        *(record for run in sorted(OTHERS) for record in glob.glob(f"results/{run}/**/record.json", recursive=True)),
    output: f"{FOLDER}/report.html", f"{FOLDER}/verdicts.json"
    log: f"{LOGS}/6_report.ipynb"
    params: notebook="6_report", values=values(compare=COMPARE), code=code.digest("6_report", without=())
    threads: CORES
    shell:
        EXECUTE + " && jupyter nbconvert --log-level ERROR --to html --template report"
        " --TemplateExporter.extra_template_basedirs=cifar_bench/report/templates {log} --output-dir " + FOLDER +
        " --output report"


rule train:
    output: f"{FOLDER}/train/seed{{seed}}/record.json", f"{FOLDER}/train/seed{{seed}}/weights.pt"
    log: f"{LOGS}/1_train-seed{{seed}}.ipynb"
    params:
        notebook="1_train", values=lambda wildcards: values(**PLANNED[f"train/seed{wildcards.seed}"]),
        code=code.step_digest("train")
    threads: CORES
    priority: 4
    resources: **GPU
    shell: EXECUTE


rule export:
    input: WEIGHTS
    output: [f"{FOLDER}/export/{name}" for name in ("record.json", "model.pt", "model.pt2", "model.onnx", "model-int8.onnx")]
    log: f"{LOGS}/2_export.ipynb"
    params: notebook="2_export", values=values(**PLANNED["export"]), code=code.step_digest("export")
    threads: CORES
    priority: 3
    shell: EXECUTE


rule latency:
    input: f"{FOLDER}/export/model.pt"
    output: f"{FOLDER}/latency/record.json"
    log: f"{LOGS}/3_latency.ipynb"
    params: notebook="3_latency", values=values(**PLANNED["latency"]), code=code.step_digest("latency")
    threads: CORES
    priority: 2
    resources: **TIMED
    shell: EXECUTE


rule half_precision:
    input: f"{FOLDER}/export/model.pt"
    output: f"{FOLDER}/half_precision/record.json"
    log: f"{LOGS}/4_half_precision.ipynb"
    params: notebook="4_half_precision", values=values(**PLANNED["half_precision"]), code=code.step_digest("half_precision")
    threads: CORES
    priority: 1
    resources: **TIMED
    shell: EXECUTE


rule faster:
    input: f"{FOLDER}/export/model.pt", *(f"results/{run}/export/record.json" for run in NETWORKS)
    output: f"{FOLDER}/faster/record.json"
    log: f"{LOGS}/5_faster.ipynb"
    params: notebook="5_faster", values=values(**PLANNED["faster"]), code=code.step_digest("faster")
    threads: CORES
    resources: **TIMED
    shell: EXECUTE
