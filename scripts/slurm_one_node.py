"""Run a command beside a SLURM of one node that lives on loopback for as long as the command runs, and leave nothing behind.

    python scripts/slurm_one_node.py [--install] [--cpus N] [--folder DIR] -- COMMAND ...

munged, slurmctld and slurmd run in the foreground below one temporary folder, with ports of their own, on 127.0.0.1 alone: no
systemd, no cgroups, no accounting, nothing below /etc or /var. The command finds the cluster through SLURM_CONF, and tests may
use it because MEDSEG_TEST_SLURM names that folder: a SLURM that is merely there (a login node) is never used for tests. Where
SLURM is missing or does not start, that is said, MEDSEG_TEST_SLURM_MISSING holds the reason, and the command runs without it.
`--install` lets apt-get install slurm-wlm and munge (needs root). The exit code is that of the command.
"""

from __future__ import annotations

import argparse
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

DAEMONS = ("munged", "slurmctld", "slurmd")
PROGRAMS = ("sbatch", "squeue", "scancel", "sinfo", "scontrol")
PACKAGES = ("slurm-wlm", "munge")
START_S = 30
STOP_S = 5

CONFIGURATION = """\
ClusterName=medseg
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0,bf_interval=2
KillWait=5
MinJobAge=600
MailProg=/bin/true
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory_mb} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class NoSlurm(Exception):  # noqa: N818 - a reason to go on without it, not a fault
    """SLURM cannot be had here; the text says why."""


def main() -> int:
    """Start SLURM where that is possible, run the command, stop SLURM; return the exit code of the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--install", action="store_true", help="apt-get install what is missing (needs root)")
    parser.add_argument("--cpus", type=int, default=max(2, os.cpu_count() or 2), help="cores that the node offers (they need not exist)")
    parser.add_argument("--folder", type=Path, default=None, help="keep logs and state here instead of in a temporary folder")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- COMMAND ...")
    given = parser.parse_args()
    command = given.command[1:] if given.command[:1] == ["--"] else given.command
    if not command:
        parser.error("give a command after --")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    with ExitStack() as stack:
        try:
            if given.install:
                install()
            environment = stack.enter_context(one_node(given.cpus, given.folder))
        except NoSlurm as reason:
            print(f"no SLURM here, its tests will be skipped: {reason}", file=sys.stderr)
            environment = {"MEDSEG_TEST_SLURM_MISSING": str(reason)}
        return subprocess.run(command, env={**os.environ, **environment}, check=False).returncode


def install() -> None:
    """Install SLURM with apt-get where a program is missing; raises NoSlurm where that cannot be."""
    if not missing():
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise NoSlurm(f"{', '.join(missing())} missing, and without root and apt-get they cannot be installed")
    # runlevel 1 keeps the packages from starting services of their own
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for arguments in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(
            ["apt-get", *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise NoSlurm(f"apt-get {arguments[0]} failed: {(done.stderr.strip().splitlines() or ['no reason given'])[-1]}")
    if missing():
        raise NoSlurm(f"{', '.join(missing())} still missing after the installation")


def missing() -> list[str]:
    """Return the programs of SLURM and munge that are not there."""
    return [name for name in (*DAEMONS, *PROGRAMS) if _program(name) is None]


@contextmanager
def one_node(cpus: int, folder: Path | None = None) -> Iterator[dict[str, str]]:
    """Yield the environment in which this user's SLURM of one node is found; raises NoSlurm where it does not start."""
    if missing():
        raise NoSlurm(f"{', '.join(missing())} missing (Debian: apt-get install {' '.join(PACKAGES)})")
    with ExitStack() as stack:
        if folder is None:
            # a socket's path has 107 characters at most, so the folder lies in /tmp whatever TMPDIR says
            folder = Path(tempfile.mkdtemp(prefix="medseg-slurm-", dir="/tmp"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        folder = folder.resolve()
        host = _write_configuration(folder, cpus)
        environment = {"SLURM_CONF": str(folder / "slurm.conf"), "MEDSEG_TEST_SLURM": str(folder)}
        stack.enter_context(_daemon(_munged(folder), folder, environment))
        _wait("munged", folder, (folder / "munge.sock").exists)
        stack.enter_context(_daemon([str(_program("slurmctld")), "-D", "-i"], folder, environment))
        stack.enter_context(_daemon([str(_program("slurmd")), "-D", "-N", host], folder, environment))
        stack.callback(_cancel_all, environment)  # before the daemons end: they are what kills the jobs' processes
        _wait("slurmd", folder, lambda: _is_idle(environment))
        yield environment


def _write_configuration(folder: Path, cpus: int) -> str:
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # munged asks that nobody else can write on the way to its socket
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(1024))
    host = socket.gethostname().split(".")[0]
    controller_port, node_port = _free_ports(2)
    memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    text = CONFIGURATION.format(
        host=host,
        user=pwd.getpwuid(os.geteuid()).pw_name,
        folder=folder,
        cpus=cpus,
        memory_mb=max(1000, memory_mb * 3 // 4),
        controller_port=controller_port,
        node_port=node_port,
    )
    (folder / "slurm.conf").write_text(text + "SlurmdParameters=config_overrides\n", encoding="utf-8")
    if _version() >= (24, 5):  # since then slurmd asks for cgroups unless told that there are none
        (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n", encoding="utf-8")
    return host


def _munged(folder: Path) -> list[str]:
    files = {name: folder / f"munge.{ending}" for name, ending in (("key", "key"), ("pid", "pid"), ("log", "log"), ("seed", "seed"))}
    options = [f"--{name}-file={path}" for name, path in files.items()]
    return [str(_program("munged")), "--force", "--foreground", f"--socket={folder}/munge.sock", *options]


@contextmanager
def _daemon(command: list[str], folder: Path, environment: dict[str, str]) -> Iterator[None]:
    name = Path(command[0]).name
    with (folder / f"{name}.out").open("wb") as out:
        try:
            process = subprocess.Popen(
                command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        except OSError as err:
            raise NoSlurm(f"{name} cannot be started ({err.strerror})") from err
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(name: str, folder: Path, ready: Callable[[], bool]) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if ready():
            return
        time.sleep(0.1)
    raise NoSlurm(f"{name} did not get ready within {START_S} s: {_last_words(folder)}")


def _last_words(folder: Path) -> str:
    lines = []
    for path in (*sorted(folder.glob("*.out")), *sorted(folder.glob("*.log"))):
        lines += [f"{path.name}: {line}" for line in path.read_text(errors="replace").splitlines() if "error" in line.lower()][-2:]
    return "; ".join(lines[-4:]) or "no error in its logs"


def _is_idle(environment: dict[str, str]) -> bool:
    return _ask(["sinfo", "--noheader", "--format=%T"], environment).strip() in ("idle", "mixed", "allocated")


def _cancel_all(environment: dict[str, str]) -> None:
    _ask(["scancel", "--user", pwd.getpwuid(os.geteuid()).pw_name], environment)
    end = time.monotonic() + STOP_S
    while time.monotonic() < end and _ask(["squeue", "--noheader"], environment).strip():
        time.sleep(0.2)


def _ask(command: Sequence[str], environment: dict[str, str]) -> str:
    try:
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _version() -> tuple[int, ...]:
    words = _ask([str(_program("slurmctld")), "-V"], {}).split()
    return tuple(int(part) for part in words[-1].split(".")[:2] if part.isdigit()) if words else ()


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin")))


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in found]


def _end(number: int, frame: object) -> None:
    raise SystemExit(128 + number)  # through the clean-up of every daemon


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
