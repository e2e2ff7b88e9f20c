# The order of the notebooks, and nothing else. `make report` calls it with the profile and the run's name.
import glob
import json
import os
import sys
from pathlib import Path

from cifar_lib import RUN_NAME

RUN, PROFILE = str(config["run"]), config["profile"]
if not RUN_NAME.fullmatch(RUN):
    sys.exit(f"RUN is {RUN!r}: use letters, digits, '.', '_' and '-' only.")
plan_file = Path("profiles") / f"{PROFILE}.yaml"
if not plan_file.is_file():
    names = ", ".join(sorted(path.stem for path in plan_file.parent.glob("*.yaml")))
    sys.exit(f"There is no profile {PROFILE}: choose one of {names}.")

configfile: plan_file
os.environ["REPORT_PROFILE"] = str(plan_file)  # not in the commands, where another name would be a reason to do all again

BESIDE = str(config.get("beside", "")).split()
for name in BESIDE:
    if not glob.glob(f"results/{name}/*/record.json"):
        sys.exit(f"There is no run {name} under results/ to set beside this one.")

FOLDER, LOGS = f"results/{RUN}", f"results/{RUN}/notebooks"
WEIGHTS_FROM = RUN if config["weights"] == "trained" else "shipped"
FIRST = config["seeds"][0]
LIBRARY = [f"cifar_lib/{name}.py" for name in ("data", "model", "parameters", "records")]
TIMING = [*LIBRARY, *(f"cifar_lib/{name}.py" for name in ("engines", "latency", "loadgen", "quantise", "stats", "timer")),
          *(f"cifar_lib/cpp/{name}" for name in ("__init__.py", "CMakeLists.txt", "infer.cpp"))]
RECORDS = [f"{FOLDER}/{step}/record.json"
           for step in (*(f"train/seed{seed}" for seed in config["seeds"]), "export", "latency", "half_precision")]
EXECUTE = "python -m cifar_lib.execute {input.notebook} {log} {params.values:q}"


def values(**parameters):
    """A notebook's parameters, as JSON."""
    return json.dumps({"run": RUN, **parameters})


rule all:  # names the records, too, or a deleted one would not be missed where there is a report
    input: RECORDS, f"{FOLDER}/report.html", f"{FOLDER}/verdicts.json"


rule report:
    input:
        RECORDS,
        *TIMING, *glob.glob("cifar_lib/figures/*.py"), "cifar_lib/verdicts.py", "cifar_lib/page.py",
        "claims.yaml", "published.yaml", *glob.glob("profiles/*.yaml"),
        *(record for run in ("shipped", *BESIDE) for record in glob.glob(f"results/{run}/**/record.json", recursive=True)),
        *glob.glob("cifar_lib/templates/report/*"),
        notebook="notebooks/5_report.ipynb",
    output: f"{FOLDER}/report.html", f"{FOLDER}/verdicts.json"
    log: f"{LOGS}/5_report.ipynb"
    params: values=values(beside=BESIDE)
    threads: workflow.cores
    shell:
        EXECUTE + " && jupyter nbconvert --log-level ERROR --to html --template report"
        " --TemplateExporter.extra_template_basedirs=cifar_lib/templates {log} --output-dir " + FOLDER + " --output report"


rule train:
    input: *LIBRARY, "cifar_lib/checkpoint.py", "cifar_lib/recipe.py", notebook="notebooks/1_train.ipynb"
    output: f"{FOLDER}/train/seed{{seed}}/record.json", f"{FOLDER}/train/seed{{seed}}/weights.pt"
    log: f"{LOGS}/1_train-seed{{seed}}.ipynb"
    params: values=lambda wildcards: values(seed=int(wildcards.seed), **config["train"])
    threads: workflow.cores
    priority: 3
    shell: EXECUTE


rule export:
    input: f"results/{WEIGHTS_FROM}/train/seed{FIRST}/weights.pt", *LIBRARY, "cifar_lib/export.py", notebook="notebooks/2_export.ipynb"
    output: [f"{FOLDER}/export/{name}" for name in ("record.json", "model.pt", "model.pt2", "model.onnx")]
    log: f"{LOGS}/2_export.ipynb"
    params: values=values(weights_from=WEIGHTS_FROM, seed=FIRST, **config["export"])
    threads: workflow.cores
    priority: 2
    shell: EXECUTE


rule latency:
    input: f"{FOLDER}/export/model.pt", *TIMING, notebook="notebooks/3_latency.ipynb"
    output: f"{FOLDER}/latency/record.json"
    log: f"{LOGS}/3_latency.ipynb"
    params: values=values(**config["latency"])
    threads: workflow.cores  # all of them: nothing else may run while it measures
    priority: 1
    shell: EXECUTE


rule half_precision:
    input:
        f"{FOLDER}/export/model.pt", *TIMING, "cifar_lib/precision.py", "cifar_lib/roofline.py",
        notebook="notebooks/4_half_precision.ipynb"
    output: f"{FOLDER}/half_precision/record.json"
    log: f"{LOGS}/4_half_precision.ipynb"
    params: values=values(**config["half_precision"])
    threads: workflow.cores
    shell: EXECUTE
