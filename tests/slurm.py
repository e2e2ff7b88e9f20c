"""A Slurm cluster of one node on loopback, from Debian's packages."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
CONFIGURATION = Path("/etc/slurm/slurm.conf")  # the default place
# A container allows no accounting and no control groups. The node's only feature is called `here`; a smaller node is down.
TEMPLATE = """# written by the tests of this project
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MailProg=/bin/true
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} Feature=here State=UNKNOWN
GresTypes=gpu
NodeName=small NodeAddr=127.0.0.1 Port=17999 CPUs=1 RealMemory=4000 Feature=old,slow Gres=gpu:1 State=DOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=down Nodes=small MaxTime=2-00:00:00 State=UP
"""


@contextmanager
def slurm(folder: Path) -> Iterator[None]:
    """Run Slurm's daemons, with their state in `folder`. Skips where they cannot be run."""
    missing = [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]
    if os.getuid() != 0 or missing or not find_spec("snakemake_executor_plugin_slurm"):
        pytest.skip("needs Slurm: as root, apt-get install slurm-wlm munge, and pip install -e '.[slurm]'")
    if CONFIGURATION.exists() and not CONFIGURATION.read_text().startswith(TEMPLATE.splitlines()[0]):
        pytest.skip(f"needs Slurm for itself: {CONFIGURATION} belongs to another cluster")
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    host = os.uname().nodename.split(".")[0]
    CONFIGURATION.parent.mkdir(exist_ok=True)
    CONFIGURATION.write_text(TEMPLATE.format(host=host, folder=folder, cores=os.cpu_count(),
                                        memory=psutil.virtual_memory().total // 2**20 * 8 // 10))
    own_munged = not any(process.name() == "munged" for process in psutil.process_iter())
    if own_munged:
        Path("/run/munge").mkdir(exist_ok=True)
        shutil.chown("/run/munge", "munge", "munge")
        subprocess.run(["su", "munge", "-s", "/bin/sh", "-c", "/usr/sbin/munged"], check=True)
    daemons = []
    try:
        for command in (["/usr/sbin/slurmctld", "-D", "-c"], ["/usr/sbin/slurmd", "-D", "-N", host]):
            daemons.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        deadline = time.monotonic() + 60
        while "idle" not in subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True).stdout:
            assert time.monotonic() < deadline, (folder / "slurmctld.log").read_text()
            time.sleep(0.2)
        yield
    finally:
        subprocess.run(["scancel", "--user", "root"], check=False)
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(timeout=30)
        if own_munged:
            subprocess.run(["pkill", "munged"])
        CONFIGURATION.unlink()
