"""A one-machine Slurm in a folder of its own: an array of /bin/true, two at a time. Needs root."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from brokers import free_port  # noqa: E402

CONF = """ClusterName=peer
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={top}/munge.socket
CryptoType=crypto/munge
StateSaveLocation={top}/state
SlurmdSpoolDir={top}/spool
SlurmctldPidFile={top}/slurmctld.pid
SlurmdPidFile={top}/slurmd.pid
SlurmctldLogFile={top}/slurmctld.log
SlurmdLogFile={top}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobCompType=jobcomp/none
ReturnToService=2
# Without an Epilog a finished job's node is looked at once a second only.
Epilog=/bin/true
MaxArraySize=10001
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP OverSubscribe=NO
"""


def available():
    tools = ("slurmctld", "slurmd", "sbatch", "squeue", "munged")
    return os.geteuid() == 0 and all(shutil.which(tool) for tool in tools)


def wait_for(what, done, seconds=60):
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit("slurm: %s did not come" % what)
        time.sleep(0.05)


def slurm(tasks=200):
    top = tempfile.mkdtemp(prefix="reeve-peer-")
    started = []
    try:
        for folder in ("state", "spool"):
            os.mkdir("%s/%s" % (top, folder))
        with open(top + "/munge.key", "wb") as file:
            file.write(os.urandom(128))
        os.chmod(top + "/munge.key", 0o400)
        conf = CONF.format(host=socket.gethostname().split(".")[0], top=top,
                           controller=free_port(), daemon=free_port())
        with open(top + "/slurm.conf", "w", encoding="ascii") as file:
            file.write(conf)
        env = dict(os.environ, SLURM_CONF=top + "/slurm.conf")

        def start(*words):
            started.append(subprocess.Popen(words, env=env, cwd=top, stdin=subprocess.DEVNULL,
                                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

        def ask(*words):
            return subprocess.run(words, env=env, cwd=top, capture_output=True, text=True,
                                  check=False).stdout
        start("munged", "-F", "--force", "--key-file", top + "/munge.key", "--socket",
              top + "/munge.socket", "--pid-file", top + "/munged.pid", "--log-file",
              top + "/munged.log", "--seed-file", top + "/munged.seed")
        wait_for("munged", lambda: os.path.exists(top + "/munge.socket"))
        start("slurmctld", "-D", "-f", top + "/slurm.conf")
        start("slurmd", "-D", "-f", top + "/slurm.conf")
        wait_for("an idle node", lambda: "idle" in ask("sinfo", "-h", "-o", "%T"))
        begun = time.monotonic()
        ask("sbatch", "--array", "1-%d" % tasks, "--output", "/dev/null", "--wrap", "/bin/true")
        wait_for("the end of the array", lambda: not ask("squeue", "-h").strip(), 300)
        return tasks / (time.monotonic() - begun)
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(top, ignore_errors=True)


if __name__ == "__main__":
    print(slurm())
