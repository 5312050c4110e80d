"""Plans that people approved by mistake get nowhere with the real agent and the real worker, and the node goes on working."""

import contextlib
import itertools
import os
import pwd
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from common.audit.record import Action
from common.audit.verify import read_records
from common.ids import RunId, new_uuid
from common.messages import PingReply, PingRequest, TaskCancel, TaskFailed, TaskProgress, TrainReply
from node.approval import Approvals
from node.registry import Registry
from node.sandbox import ProtectionName, detect
from tests.support.kernel import offers, with_python_for_all
from tests.support.nodes import ADD_ONE, write_table
from tests.support.trial import LAB, NORTH, Trial

pytest.importorskip("torch")

SECRET = "4711"
SETTINGS = """
worker_memory_bytes = 2147483648
worker_file_bytes = 4194304
max_model_bytes = 1048576
"""
NEEDED = {ProtectionName.FILES, ProtectionName.SYSTEM_CALLS, ProtectionName.MEMORY, ProtectionName.FILE_SIZE}


def hostile(attack, *, facts=None, beside=""):
    """Return a plan that does something else before its first step, or beside it."""
    lines = attack.strip().splitlines()
    body = "\n        ".join([*lines, "return -sum"])
    return f"FACTS = {facts!r}\n" + ADD_ONE.replace("return -sum", body) + beside


class Ward(Trial):
    """A node with two data sets, whose people approve whatever comes."""

    def __init__(self, folder, **options):
        super().__init__(folder, **options)
        path = write_table(self.home.path / "other.csv", rows=24)
        with contextlib.closing(Registry(self.home.registry_path)) as registry:
            self.other = registry.add(
                path, name="other", tags=["other"], description="another one"
            ).dataset_id
        self.rounds = itertools.count()
        self.facts = {
            "key": str(self.home.kit_path / "key.pem"),
            "kit": str(self.home.kit_path),
            "home": str(self.home.path),
            "journal": str(self.home.journal_path),
            "registry": str(self.home.registry_path),
            "other": str(path),
            "agent": os.getpid(),
        }

    def begin_a_run(self):
        """Let the next task have a worker of its own, which tells when it begins."""
        self.run = RunId(new_uuid())

    def order(self, source=ADD_ONE, **fields):
        """Approve a plan and ask for it; return the request."""
        with contextlib.closing(Approvals(self.home.registry_path)) as approvals:
            approvals.approve_source(source, name="AddOne", by="the test")
        request = self.request(source=source, round_=next(self.rounds), **fields)
        self.send(request)
        return request

    def outcome(self, source=ADD_ONE, **fields):
        self.order(source, **fields)
        answer = self.answer((TrainReply, TaskFailed)).message
        if isinstance(answer, TaskFailed):
            assert [answer.code] == self.failures(answer.task_id)
        return answer

    def failures(self, task):
        """Return what the audit log says about the end of a task, by its code."""
        records = read_records(self.home.audit_path)
        return [one.code for one in records if (one.task_id, one.action) == (task, Action.TASK_FAILED)]

    def attack(self, attack, *, facts=None, beside=""):
        return self.outcome(hostile(attack, facts=self.facts | (facts or {}), beside=beside))

    def works(self, **fields):
        """Tell whether the node still does honest work."""
        return isinstance(self.outcome(**fields), TrainReply)


@pytest.fixture(scope="module")
def walls():
    return detect()


def _ward(folder, walls):
    if absent := [wall for wall in NEEDED if not offers(wall)]:
        # The node refuses all tasks there (tested below on every kernel), so no attack can be tried; the kernel of CI offers them all.
        pytest.skip(f"this kernel does not offer {absent[0]}")
    assert not walls.missing(NEEDED)
    return contextlib.closing(Ward(folder, settings=SETTINGS))


@pytest.fixture(scope="module")
def ward(tmp_path_factory, walls):
    with _ward(tmp_path_factory.mktemp("ward"), walls) as one:
        yield one


@pytest.fixture(scope="module")
def spawning(tmp_path_factory, walls):
    """Another, for what is about walls and starting: none of its workers is a fork."""
    with _ward(tmp_path_factory.mktemp("spawning"), walls) as one:
        yield one


FORBIDDEN = {
    "read the passwords": "open('/etc/passwd').read()",
    "read the key of the node": "open(FACTS['key']).read()",
    "read the journal": "open(FACTS['journal'], 'rb').read()",
    "read the registry": "open(FACTS['registry'], 'rb').read()",
    "read another data set": "open(FACTS['other']).read()",
    "look into the home": "import os; os.listdir(FACTS['home'])",
    "read the memory of the agent": "open(f\"/proc/{FACTS['agent']}/environ\").read()",
    "write into the home": "open(FACTS['home'] + '/planted', 'w')",
    "replace the kit": "import os; os.rename(FACTS['kit'], FACTS['kit'] + '.old')",
    "change its own plan": "open(__file__, 'a')",
    "change the installation": "import common; open(common.__file__, 'a')",
    "open a socket": "import socket; socket.socket()",
    "call home": "import socket; socket.create_connection(('127.0.0.1', FACTS['port']), timeout=5)",
    "fork": "import os; os.fork()",
    "run a program": "import subprocess; subprocess.run(['/bin/true'])",
    "kill the agent": "import os; os.kill(FACTS['agent'], 9)",
    "trace the agent": "import os; os.pidfd_open(FACTS['agent'])",
    "link to a secret": "import os; os.symlink(FACTS['key'], os.environ['TMPDIR'] + '/update.safetensors')",
}


@pytest.mark.parametrize("attack", FORBIDDEN)
def test_what_a_plan_must_not_do_fails_at_its_line(spawning, attack):
    with socket.create_server(("127.0.0.1", 0)) as server:
        failed = spawning.attack(FORBIDDEN[attack], facts={"port": server.getsockname()[1]})

    line = 1 + hostile("ATTACK").splitlines().index("        ATTACK")
    text = f"PermissionError at line {line} of the plan, in AddOne.training_step"
    assert ("WRN-504", line, text, True) == (failed.code, failed.plan_line, failed.text, failed.final)
    assert spawning.works()


GREEDY = {
    "by tensors": ("torch.ones(2**31)", "RuntimeError"),
    "by python": ("bytearray(2**33)", "MemoryError"),
    "by a file": ("import os; open(os.environ['TMPDIR'] + '/big', 'wb').write(bytes(2**23))", "OSError"),
}


@pytest.mark.parametrize("attack", GREEDY)
def test_a_plan_that_takes_too_much_fails_at_its_line(spawning, attack):
    source, error = GREEDY[attack]
    failed = spawning.attack(source)

    assert ("WRN-504", error) == (failed.code, failed.text.split()[0])
    assert spawning.works()


@pytest.mark.usefixtures("forked_processes")
def test_a_worker_that_ends_itself_is_worth_another_try(ward):
    failed = ward.attack("import os; os._exit(0)")

    assert ("WRN-601", False) == (failed.code, failed.final)
    assert ward.works()


def test_modules_that_a_worker_leaves_behind_are_imported_by_none(spawning):
    plant = """
import os
for name in ("torch", "json", "sitecustomize", "usercustomize", "node"):
    for folder in (os.environ["HOME"], os.getcwd()):
        open(f"{folder}/{name}.py", "w").write("import os; os._exit(77)")
os._exit(0)
"""

    assert "WRN-601" == spawning.attack(plant).code
    assert spawning.works()


@pytest.mark.usefixtures("forked_processes")
def test_a_plan_that_hangs_is_cancelled(ward):
    ward.begin_a_run()
    request = ward.order(hostile("import signal; signal.pthread_sigmask(0, range(1, 65))\nwhile True: pass"))
    ward.lab.take(TaskProgress)
    cancel = TaskCancel(
        sender=LAB,
        recipients=(NORTH,),
        experiment_id=ward.experiment,
        run_id=ward.run,
        tasks=(request.assignments[0].task_id,),
    )

    assert "WRN-605" == ward.lab.ask(cancel, TaskFailed).code
    assert ward.works()


@pytest.mark.usefixtures("forked_processes")
def test_an_update_larger_than_the_node_allows_stays_here(ward):
    huge = "\n    def after_training_params(self):\n        return {'weight': torch.zeros(2**19)}\n"
    failed = ward.attack("pass", beside=huge)

    assert "WRN-606" == failed.code
    assert "exceeds its limit of 1048576" in failed.text
    assert ward.works()


FORGE = """
import os, stat, sys
caller = sys._getframe()
while "order" not in caller.f_locals:
    caller = caller.f_back
order = caller.f_locals["order"]
task = order.task
def is_socket(fd):
    try:
        return stat.S_ISSOCK(os.fstat(fd).st_mode)
    except OSError:
        return False
sockets = [fd for fd in range(3, 65536) if is_socket(fd)]
assert sockets
def say(document):
    for fd in sockets:
        os.write(fd, document)
def frame(document, update=b"", state=b""):
    parts = document.encode(), update, state
    return b"".join([len(part).to_bytes(4, "big") for part in parts] + [*parts])
"""


@pytest.mark.usefixtures("forked_processes")
def test_a_forged_report_without_an_update_fails_the_task(ward):
    forged = """
from node.worker.protocol import Done
say(frame(Done(task_id=task.task_id, samples_seen=1, samples_train=1, samples_test=1, losses=(), validations=(),
    loaded_s=0, trained_s=0, validated_s=0, saved_s=0).model_dump_json()))
while True: pass
"""
    failed = ward.attack(FORGE + forged)

    assert ("WRN-608", "the worker met FileNotFoundError outside the plan") == (failed.code, failed.text)
    assert ward.works()


@pytest.mark.usefixtures("forked_processes")
def test_a_forged_update_beside_a_file_fails_the_task(ward):
    forged = """
from node.worker.protocol import Done
open(order.run.update_path, "wb").write(order.model)
say(frame(Done(task_id=task.task_id, samples_seen=1, samples_train=1, samples_test=1, losses=(), validations=(),
    loaded_s=0, trained_s=0, validated_s=0, saved_s=0).model_dump_json(), b"\\x08" + bytes(100)))
while True: pass
"""
    failed = ward.attack(FORGE + forged)

    assert "WRN-610" == failed.code
    assert ward.works()


@pytest.mark.usefixtures("forked_processes")
def test_a_worker_that_is_done_with_what_it_was_not_given_is_killed(ward):
    forged = """
from node.worker.protocol import Done
say(frame(Done(task_id=order.run.run_id, samples_seen=1, samples_train=1, samples_test=1, losses=(), validations=(),
    loaded_s=0, trained_s=0, validated_s=0, saved_s=0).model_dump_json(), order.model))
while True: pass
"""
    failed = ward.attack(FORGE + forged)

    assert ("WRN-601", False) == (failed.code, failed.final)
    assert ward.works()


@pytest.mark.usefixtures("forked_processes")
def test_an_update_that_is_no_file_fails_the_task(ward):
    replaced = """
from node.worker import session
from node.worker.exchange import SavedUpdate
from pathlib import Path
def fake(order, *args, **kwargs):
    os.mkdir(order.run.update_path)
    return SavedUpdate(Path(order.run.update_path))
session.save_update = fake
"""
    failed = ward.attack(FORGE + replaced)

    assert "WRN-608" == failed.code
    assert ward.works()


@pytest.mark.usefixtures("forked_processes")
@pytest.mark.parametrize("noise", ["b'\\xff' * 16", "frame('[' * 100_000)"])
def test_a_worker_that_talks_nonsense_is_killed(ward, noise):
    failed = ward.attack(FORGE + f"say({noise})\nwhile True: pass")

    assert ("WRN-601", False) == (failed.code, failed.final)
    assert ward.works()


@pytest.mark.usefixtures("forked_processes")
def test_a_flood_of_reports_leaves_the_node_responsive(ward):
    flood = """
points = ",".join(['{"iteration":1,"epoch":0,"samples":1,"loss":1.0}'] * 1000)
while True:
    say(frame('{"kind":"progress","task_id":"%s","losses":[%s]}' % (task.task_id, points)))
"""
    request = ward.order(hostile(FORGE + flood))
    for _ in range(30):
        ward.lab.take(TaskProgress)
    ward.lab.mailbox.send(PingRequest(sender=LAB, recipients=(NORTH,))).result(20)
    while not isinstance(ward.lab.take((PingReply, TaskProgress)).message, PingReply):
        pass
    ward.lab.mailbox.send(
        TaskCancel(
            sender=LAB,
            recipients=(NORTH,),
            experiment_id=ward.experiment,
            run_id=ward.run,
            tasks=(request.assignments[0].task_id,),
        )
    ).result(20)

    assert "WRN-605" == ward.answer(TaskFailed).message.code
    assert ward.works()


LEAKS = {
    "by the text of an error": f"raise ValueError('{SECRET}')",
    "by the name of an error": f"raise type('patient_{SECRET}', (Exception,), {{}})()",
    "by a chain of errors": f"try:\n    raise KeyError('{SECRET}')\nexcept KeyError as error:\n    raise ValueError from error",
    "by a warning": f"import warnings; warnings.warn('{SECRET}'); raise ValueError",
    "by a printed line": f"print('{SECRET}', flush=True); raise ValueError",
    "by the log": f"import logging; logging.getLogger().error('{SECRET}'); raise ValueError",
    "by its exit": f"raise SystemExit('{SECRET}')",
}


@pytest.mark.usefixtures("forked_processes")
@pytest.mark.parametrize("leak", LEAKS)
def test_what_a_plan_says_about_the_data_stays_at_the_node(ward, leak):
    failed = ward.attack(LEAKS[leak])

    assert "WRN-504" == failed.code
    assert SECRET not in failed.text
    assert ward.works()


@pytest.mark.usefixtures("forked_processes")
def test_a_plan_cannot_make_up_lines_of_the_log(ward):
    ward.begin_a_run()
    forged = f"{new_uuid()} made up"
    ward.attack(
        f"print('one\\x1b[2J\\rtwo\\n2026-01-01 00:00:00,000 {forged}', flush=True)\nraise ValueError"
    )
    assert ward.works()
    ward.node.stop()
    lines = (ward.home.log / "worker.log").read_text().splitlines()
    ward.restart()

    ours = [line for line in lines if str(ward.run) in line]
    assert [f"{ward.run} one\\u{{1b}}[2J\\u{{d}}two"] == [line[24:] for line in ours if "two" in line]
    assert [f"{ward.run} 2026-01-01 00:00:00,000 {forged}"] == [line[24:] for line in ours if forged in line]
    assert [] == [line for line in lines if not line[:2].isdigit()]


@pytest.mark.usefixtures("forked_processes")
def test_a_run_that_goes_to_another_data_set_gets_another_worker(ward):
    """Walls are never moved: the worker of the first data set cannot read the second one, and the other way round."""
    assert 16 == ward.outcome().samples_train
    assert 24 == ward.outcome(dataset=ward.other).samples_train

    failed = ward.outcome(
        hostile("open(FACTS).read()", facts=str(ward.home.path / "table.csv")), dataset=ward.other
    )

    assert "PermissionError" == failed.text.split()[0]
    assert 16 == ward.outcome().samples_train


@pytest.mark.usefixtures("forked_processes")
def test_what_a_worker_left_is_gone_when_the_next_one_starts(ward):
    ward.attack("import os; open(os.environ['TMPDIR'] + '/left', 'w'); os._exit(0)")

    failed = ward.attack("import os\nif not os.path.exists(os.environ['TMPDIR'] + '/left'): raise KeyError")

    assert "KeyError" == failed.text.split()[0]


@pytest.fixture
def lone(tmp_path):
    one = Ward(tmp_path)
    yield one
    one.close()


def restart(ward, settings):
    """Start the agent again with other settings."""
    ward.node.stop()
    ward.home.settings_path.write_text(settings)
    ward.restart()


def test_a_node_refuses_tasks_while_a_compulsory_protection_is_missing(lone):
    restart(lone, 'compulsory_protections = ["cpu_time"]\n')
    failed = lone.outcome()
    assert ("WRN-609", True) == (failed.code, failed.final)
    assert "The node's policy requires a protection that this machine does not offer" == failed.text

    restart(lone, 'compulsory_protections = ["cpu_time"]\nworker_cpu_s = 600\n')
    assert lone.works()


@pytest.mark.usefixtures("forked_processes")
def test_tasks_that_leave_too_little_space_are_stopped_and_their_files_removed(lone):
    restart(lone, f"compulsory_protections = []\ndisk_floor_bytes = {2**52}\n")

    failed = lone.outcome()

    assert ("WRN-803", "The disk is full") == (failed.code, failed.text)
    assert [] == list(lone.home.work.iterdir())


def others_may_use_python():
    way = [Path(os.__file__), *Path(os.__file__).parents]
    return all(folder.stat().st_mode & 0o001 for folder in way if folder.is_dir())


# A plain user has no other user to give to workers: the policy says so and `doctor` shows it; CI runs this as root.
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may switch users")
def test_workers_of_root_become_the_user_that_the_policy_names(request):
    if not others_may_use_python():  # then all of this test runs again where they may, in mounts of its own
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
        again = subprocess.run(
            [*with_python_for_all(command), f"{__file__}::{request.node.name}"],
            capture_output=True,
            text=True,
        )
        assert (0, True) == (again.returncode, "1 passed" in again.stdout), again.stdout + again.stderr
        return
    with tempfile.TemporaryDirectory(prefix="warren-ward-") as folder:
        Path(folder).chmod(0o755)
        with contextlib.closing(Ward(Path(folder))) as one:
            restart(one, 'worker_user = "nobody"\ncompulsory_protections = ["own_user", "files"]\n')
            account = pwd.getpwnam("nobody")
            ids = (account.pw_uid, account.pw_gid)
            failed = one.attack(f"import os\nif (os.getuid(), os.getgid()) == {ids}: raise KeyError")

            assert "KeyError" == failed.text.split()[0]
            assert one.works()
