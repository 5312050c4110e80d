"""Hostile plans get nowhere inside the walls, and would get somewhere without them."""

import ast
import contextlib
import errno
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from node.sandbox import ProtectionName, Protections
from tests.support.kernel import offers, with_python_for_all

HERE = Path(__file__).parent
CHILD = HERE / "confined.py"
PLANS = {path.stem: path.read_text() for path in sorted((HERE / "hostile_plans").glob("*.py"))}
ATTACKS = [
    (plan, node.name)
    for plan, source in PLANS.items()
    for node in ast.parse(source).body
    if isinstance(node, ast.FunctionDef) and node.name.startswith("attack_")
]
NOBODY = 65534
IDENTITIES = ["root", "plain"] if os.geteuid() == 0 else ["plain"]
NEEDS_ROOT = {
    "attack_bpf",
    "attack_new_mounts",
    "attack_join_the_network_of_another",
    "attack_change_root",
    "attack_set_a_user_again",
    "attack_perf_event_open",
    "attack_kernel_log",
    "attack_leave_a_core_file",
}
"""What a plain user cannot do anyway."""

STOPPED_BY = {
    "files": {ProtectionName.FILES, ProtectionName.SYSTEM_CALLS},
    "kernel": {ProtectionName.SYSTEM_CALLS, ProtectionName.PRIVILEGES},
    "network": {ProtectionName.SYSTEM_CALLS},
    "others": {ProtectionName.FILES, ProtectionName.SYSTEM_CALLS},
    "processes": {ProtectionName.SYSTEM_CALLS},
    "resources": {
        ProtectionName.MEMORY,
        ProtectionName.FILE_SIZE,
        ProtectionName.FILES,
        ProtectionName.SYSTEM_CALLS,
    },
    "threads": {ProtectionName.THREADS},
}
"""The walls that a machine must have to stop the plans of a file."""

LIMITS = {"memory_bytes": 2**28, "file_bytes": 2**20, "threads": 16, "open_files": 64, "cpu_s": 60}
CLEAN = {"PATH": os.defpath, "LANG": "C.UTF-8"}


class Hospital:
    """A node's files and the programs beside it, owned by one user."""

    def __init__(self, identity, stack):
        self.uid = NOBODY if identity == "plain" and os.geteuid() == 0 else None
        # not below pytest's own folder, which only its user may enter
        self.root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="warren-hospital-")))
        self.scratch = self.root / "home" / "work" / "run"
        self.scratch.mkdir(parents=True)
        (self.root / "home" / "kit").mkdir()
        (self.root / "data").mkdir()
        self.key = self.root / "home" / "kit" / "key.pem"
        self.dataset = self.root / "data" / "own.csv"
        files = (
            self.key,
            self.dataset,
            self.root / "data" / "other.csv",
            self.root / "home" / "journal.sqlite",
        )
        for file in (*files, self.root / "home" / "victim"):
            file.write_text("secret\n")
        self._stack = stack
        self._sockets = [self._listen(socket.AF_INET, ("127.0.0.1", 0))]
        self._listen(socket.AF_UNIX, str(self.root / "unix"))
        self._listen(socket.AF_UNIX, str(self.root / "datagram"), socket.SOCK_DGRAM)
        self._listen(socket.AF_UNIX, f"\0warren-{os.getpid()}-{identity}")
        if self.uid is not None:
            for path in (self.root, *self.root.rglob("*")):
                os.chown(path, self.uid, self.uid)
        self.agent = stack.enter_context(
            subprocess.Popen(
                ["/bin/cat"],
                stdin=subprocess.PIPE,
                env={"WARREN_SECRET": "agent"},
                user=self.uid,
                group=self.uid,
                extra_groups=None if self.uid is None else [],
            )
        )
        self.facts = {
            "key": str(self.key),
            "journal": str(self.root / "home" / "journal.sqlite"),
            "dataset": str(self.dataset),
            "other_dataset": str(self.root / "data" / "other.csv"),
            "victim_file": str(self.root / "home" / "victim"),
            "scratch": str(self.scratch),
            "victim": self.agent.pid,
            "tcp_port": self._sockets[0].getsockname()[1],
            "unix_socket": str(self.root / "unix"),
            "unix_datagram": str(self.root / "datagram"),
            "abstract_socket": f"warren-{os.getpid()}-{identity}",
        }

    def _listen(self, family, address, kind=socket.SOCK_STREAM):
        server = self._stack.enter_context(socket.socket(family, kind))
        server.bind(address)
        if kind == socket.SOCK_STREAM:
            server.listen()
        return server

    def policy(self, **changes):
        return {
            "agent_pid": os.getpid(),
            "scratch": str(self.scratch),
            "read_only": [str(self.dataset)],
            "hidden": [str(self.root / "home" / "kit")],
            "limits": LIMITS,
            **changes,
        }

    def start(self, source, *, policy, missing=(), facts=None, environment=CLEAN, through=None):
        order = {
            "uid": self.uid,
            "missing": list(missing),
            "policy": policy,
            "source": source,
            "facts": facts or self.facts,
        }
        command = [sys.executable, "-P", "-s", str(CHILD), json.dumps(order)]
        through = through or (with_python_for_all if self.uid is not None else list)
        return subprocess.Popen(
            through(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=self.scratch,
            start_new_session=True,
            text=True,
        )

    def run(self, source, **choices):
        """Return what stands, and what each attack gained or why it did not."""
        with self.start(source, **choices) as child:
            out, err = child.communicate(timeout=100)
        assert 0 == child.returncode, f"ended with {child.returncode}: {err}"
        first, *rest = map(json.loads, out.splitlines())
        stands = Protections.model_validate(first["stands"]) if first["stands"] else None
        return stands, {line["attack"]: line for line in rest}


@pytest.fixture(scope="module")
def hospitals():
    with contextlib.ExitStack() as stack:
        yield functools.cache(lambda identity: Hospital(identity, stack))


@pytest.fixture(scope="module")
def outcomes(hospitals):
    """Run a whole plan file once in each way."""

    @functools.cache
    def run(identity, plan, confined, missing=()):
        hospital = hospitals(identity)
        environment = CLEAN if confined else {**CLEAN, "WARREN_SECRET": "inherited"}
        return hospital.run(
            PLANS[plan],
            policy=hospital.policy() if confined else None,
            missing=missing,
            environment=environment,
        )

    return run


@pytest.mark.parametrize(
    ("identity", "plan", "attack"),
    [
        (identity, plan, attack)
        for identity in IDENTITIES
        for plan, attack in ATTACKS
        if identity == "root" or attack not in NEEDS_ROOT
    ],
)
def test_a_hostile_plan_succeeds_without_walls(outcomes, identity, plan, attack):
    _, lines = outcomes(identity, plan, confined=False)
    if (lines[attack]["error"] or "").startswith("OSError: [Errno 38]"):
        pytest.skip("this kernel does not have that call")  # so nothing can be shown of the wall against it

    assert lines[attack]["error"] is None


@pytest.mark.parametrize(
    ("identity", "plan", "attack"),
    [
        (identity, plan, attack)
        for identity in IDENTITIES
        for plan, attack in ATTACKS
        if all(offers(wall, root=identity == "root") for wall in STOPPED_BY[plan])
    ],
)
def test_a_hostile_plan_is_stopped_by_the_walls(outcomes, identity, plan, attack):
    stands, lines = outcomes(identity, plan, confined=True)

    assert not stands.missing(STOPPED_BY[plan])
    assert lines[attack]["error"] is not None
    assert lines[attack]["gained"] is None


@pytest.mark.parametrize("identity", IDENTITIES)
def test_a_worker_that_hangs_is_killed_by_its_agent(hospitals, identity):
    source = """
import signal
def attack_hang(facts):
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    print("hanging", flush=True)
    while True:
        pass
"""
    hospital = hospitals(identity)
    with hospital.start(source, policy=hospital.policy()) as child:
        assert "stands" in child.stdout.readline()
        assert "hanging" == child.stdout.readline().strip()
        os.killpg(child.pid, signal.SIGKILL)

        assert -signal.SIGKILL == child.wait(100)


@pytest.mark.parametrize("identity", IDENTITIES)
def test_a_worker_that_burns_processor_time_is_ended_by_the_kernel(hospitals, identity):
    source = "def attack_burn(facts):\n    while True:\n        pass\n"
    hospital = hospitals(identity)
    with hospital.start(source, policy=hospital.policy(limits={**LIMITS, "cpu_s": 1})) as child:
        child.communicate(timeout=100)

        assert -signal.SIGXCPU == child.returncode


@pytest.mark.parametrize("identity", IDENTITIES)
def test_a_worker_ends_with_the_thread_that_started_it(hospitals, identity):
    """The worker must not outlive its agent, whatever it does; here the agent is a thread that ends."""
    source = "import signal\ndef attack_wait(facts):\n    print('waiting', flush=True)\n    signal.pause()\n"
    hospital = hospitals(identity)
    started = []

    def agent():
        child = hospital.start(source, policy=hospital.policy())
        child.stdout.readline()
        child.stdout.readline()
        started.append(child)

    thread = threading.Thread(target=agent)
    thread.start()
    thread.join()
    with started[0] as child:
        child.communicate(timeout=100)

        assert -signal.SIGKILL == child.returncode


@pytest.mark.parametrize("identity", IDENTITIES)
def test_what_is_needed_to_work_is_left(hospitals, identity):
    source = """
import os, threading, tempfile, time
from pathlib import Path
def attack_work(facts):
    assert Path(facts["dataset"]).read_text()
    with tempfile.TemporaryDirectory(dir=facts["scratch"]) as folder:
        partial = Path(folder, "partial")
        partial.write_text("update")
        partial.replace(Path(facts["scratch"], "update"))
    with open(os.devnull, "w") as null:
        null.write("nothing")
    os.urandom(8)
    os.kill(os.getpid(), 0)
    ran = []
    thread = threading.Thread(target=lambda: ran.append(time.localtime().tm_year))
    thread.start()
    thread.join()
    return Path(facts["scratch"], "update").read_text(), len(ran)
"""
    hospital = hospitals(identity)
    hospital.dataset.write_text("a,b\n")
    stands, lines = hospital.run(source, policy=hospital.policy())

    assert "('update', 1)" == lines["attack_work"]["gained"], lines
    assert stands[ProtectionName.FILES].active
    (hospital.scratch / "update").unlink()


@pytest.mark.parametrize("identity", IDENTITIES)
def test_devices_that_are_offered_can_be_used_and_no_others(hospitals, identity):
    """A GPU is read, written and controlled by ioctl; a character device that every machine has stands for it."""
    source = """
import fcntl, os
def attack_use_the_device(facts):
    device = os.open("/dev/full", os.O_RDWR)
    try:
        fcntl.ioctl(device, 0x541B, bytes(4))
    except OSError as error:
        return os.read(device, 1), os.strerror(error.errno)
"""
    hospital = hospitals(identity)
    offered = hospital.run(source, policy=hospital.policy(devices=["/dev/full"]))
    plain = hospital.run(source, policy=hospital.policy())

    # the device itself does not know the request, which is what it says once the wall lets it through
    assert repr((bytes(1), os.strerror(errno.ENOTTY))) == offered[1]["attack_use_the_device"]["gained"]
    assert "Permission denied" in plain[1]["attack_use_the_device"]["error"]


MISSING = {
    "landlock": (ProtectionName.FILES, "files", "attack_read_the_key_of_the_node"),
    "seccomp": (ProtectionName.SYSTEM_CALLS, "processes", "attack_fork"),
}


@pytest.mark.parametrize("identity", IDENTITIES)
@pytest.mark.parametrize("wall", MISSING)
def test_a_missing_wall_is_reported_and_the_others_stand(outcomes, identity, wall):
    name, plan, attack = MISSING[wall]
    stands, lines = outcomes(identity, plan, confined=True, missing=(wall,))

    assert not stands[name].active
    assert stands[name].detail.startswith("the system refuses")
    assert stands[name].remedy
    assert lines[attack]["error"] is None
    for other in {ProtectionName.FILES, ProtectionName.SYSTEM_CALLS, ProtectionName.PRIVILEGES} - {name}:
        assert stands[other].active


@pytest.mark.parametrize("identity", IDENTITIES)
def test_without_namespaces_sockets_are_stopped_all_the_same(outcomes, identity):
    stands, lines = outcomes(identity, "network", confined=True, missing=("namespaces",))

    assert not stands[ProtectionName.NETWORK].active
    assert not stands[ProtectionName.THREADS].active
    assert set() == {name for name, line in lines.items() if line["error"] is None}


@pytest.mark.parametrize("identity", IDENTITIES)
def test_without_seccomp_the_network_is_empty_all_the_same(outcomes, identity):
    _, lines = outcomes(identity, "network", confined=True, missing=("seccomp",))
    stopped = {"attack_connect_by_tcp", "attack_send_by_udp", "attack_connect_to_an_abstract_unix_socket"}

    assert stopped <= {name for name, line in lines.items() if line["error"] is not None}


def refusal(hospital, *, missing=(), **changes):
    """Return what a worker that should not have run said last."""
    source = "def attack_run(facts):\n    return 'ran'\n"
    with hospital.start(source, policy=hospital.policy(**changes), missing=missing) as child:
        out, err = child.communicate(timeout=100)
    assert "ran" not in out
    assert 1 == child.returncode
    return err.splitlines()[-1]


def test_nothing_runs_without_a_compulsory_wall(hospitals):
    told = refusal(hospitals(IDENTITIES[0]), compulsory=["files", "network"], missing=("landlock",))

    assert "WRN-609: the protection files does not stand on this machine" in told


def test_nothing_runs_if_the_data_contains_the_key(hospitals):
    hospital = hospitals(IDENTITIES[0])

    assert "contains" in refusal(hospital, read_only=[str(hospital.root)])


def test_nothing_runs_if_python_imports_from_the_scratch_folder(hospitals):
    """One worker could leave a module there that the next one imports before its walls stand."""
    hospital = hospitals(IDENTITIES[0])
    moved = hospital.scratch / CHILD.name
    shutil.copy(CHILD, moved)
    order = {"uid": None, "missing": [], "policy": hospital.policy(), "source": "", "facts": {}}
    told = subprocess.run(
        [sys.executable, str(moved), json.dumps(order)], capture_output=True, text=True, env=CLEAN
    )
    moved.unlink()

    assert 1 == told.returncode
    assert "python imports from the scratch folder" in told.stderr


def test_nothing_runs_if_another_thread_would_stay_outside(hospitals):
    hospital = hospitals(IDENTITIES[0])
    order = {"policy": hospital.policy(), "source": "", "facts": {}, "uid": None, "missing": []}
    script = f"""
import sys, threading
sys.path.insert(0, {str(HERE)!r})
import confined
threading.Thread(target=threading.Event().wait, daemon=True).start()
confined.main({order!r})
"""
    told = subprocess.run(
        [sys.executable, "-P", "-s", "-c", script], capture_output=True, text=True, env=CLEAN
    )

    assert 1 == told.returncode
    assert "other threads run already" in told.stderr


@pytest.mark.parametrize("identity", IDENTITIES)
def test_a_plan_trains_inside(hospitals, identity):
    source = """
def attack_train(facts):
    import polars
    import torch
    from safetensors.torch import load_file, save_file
    from torch.utils.data import DataLoader, TensorDataset

    torch.set_num_threads(2)
    torch.manual_seed(1)
    rows = polars.read_csv(facts["dataset"]).to_torch(dtype=polars.Float32)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    losses = []
    for _ in range(20):
        for x, y in DataLoader(TensorDataset(rows[:, :2], rows[:, 2:]), batch_size=16, shuffle=True):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    torch.rand(600, 600) @ torch.rand(600, 600)
    path = facts["scratch"] + "/update.safetensors"
    save_file(model.state_dict(), path)
    return sorted(load_file(path)), losses[-1] < losses[0] / 10
"""
    hospital = hospitals(identity)
    hospital.dataset.write_text(
        "a,b,c\n" + "".join(f"{x},{y},{2 * x - y}\n" for x in range(8) for y in range(8))
    )
    limits = {**LIMITS, "memory_bytes": 2**32, "threads": 512, "open_files": 1024}
    _, lines = hospital.run(
        source,
        policy=hospital.policy(limits=limits),
        environment={**CLEAN, "HOME": str(hospital.scratch), "TMPDIR": str(hospital.scratch)},
    )

    assert lines["attack_train"]["error"] is None
    assert "(['bias', 'weight'], True)" == lines["attack_train"]["gained"]


# A plain user has no other user to give to workers; CI runs this as root.
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may switch users")
def test_root_can_give_workers_a_user_of_their_own(hospitals):
    source = """
import os
def attack_look(facts):
    return os.getresuid(), os.getresgid(), os.getgroups()
def attack_read(facts):
    return open(facts["dataset"]).read()
"""
    hospital = hospitals("root")
    hospital.dataset.chmod(0o600)
    hospital.root.chmod(0o755)
    os.chown(hospital.scratch, NOBODY, NOBODY)
    policy = hospital.policy(user={"uid": NOBODY, "gid": NOBODY})
    refused, _ = hospital.run(source, policy=policy, through=with_python_for_all)
    hospital.dataset.chmod(0o644)
    stands, lines = hospital.run(source, policy=policy, through=with_python_for_all)
    os.chown(hospital.scratch, 0, 0)

    assert f"user {NOBODY} has no access to {hospital.dataset}" == refused[ProtectionName.OWN_USER].detail
    assert all(wall.active for wall in stands.items)
    ids = (NOBODY,) * 3
    assert repr((ids, ids, [])) == lines["attack_look"]["gained"]
    assert lines["attack_read"]["error"] is None
