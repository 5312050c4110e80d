"""Send processes on errands: wait for them, see how far they are, give them up."""

from __future__ import annotations

import base64
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from common.errors import LookEndedError, WarrenError, catalogue
from node.gui.database import new_token
from node.gui.errands import AnyErrand, Asked, AskOptions, Questions, Reply, Wish
from node.home import NodeHome

log = logging.getLogger(__name__)

AnswerT = TypeVar("AnswerT", bound=BaseModel)

LOOK_S: Final = 60.0
"""Longest time for what somebody waits for in front of a page that loads."""
ANSWER_BYTES: Final = 8 * 1024 * 1024
"""Largest answer; one with 10,000 broken samples or a sheet of pictures is far below."""
SIDE_BY_SIDE: Final = 2
"""Processes at once; others wait for their turn."""
_KEPT: Final = 200
"""Errands whose outcome is remembered."""
_PICTURES: Final = 50
_OPTIONS: Final[dict[str, tuple[Asked, ...]]] = {}
_ERRORS: Final = {kind.code: kind for kind in catalogue()}


@dataclass(slots=True, eq=False)
class Job:
    """One errand on its way.

    Attributes:
        person_id: Whose it is; nobody else may see it.
        what: What is done, for the person.
        begun_at: Monotonic time of its beginning, in seconds.
        back: Path of the page that asked, which shows what went wrong.
        then: Path of the page that shows what came of it; known when it has ended well.
        form: What was typed into the form that asked, to be shown there again.
        error: What went wrong, once it has ended.
        answer: What came of it, once it has ended well.
        ended: Set when it has ended.
    """

    person_id: int
    what: str
    begun_at: float
    back: str
    then: str
    form: Mapping[str, str] = field(default_factory=dict)
    error: WarrenError | None = None
    answer: BaseModel | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    _given_up: bool = False
    _process: subprocess.Popen[bytes] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def waited_s(self) -> float:
        """Return for how long it has been on its way."""
        return time.monotonic() - self.begun_at

    @property
    def read_bytes(self) -> int | None:
        """Return how much it has read from files until now, as the kernel counts; None if it does not run."""
        process = self._process
        if process is None or self.ended.is_set():
            return None
        try:
            lines = Path(f"/proc/{process.pid}/io").read_text(encoding="ascii").splitlines()
        except OSError:
            return None  # it has just ended
        return int(lines[0].partition(": ")[2])

    def give_up(self) -> None:
        """End it; nothing was changed unless it has already ended."""
        with self._lock:
            self._given_up = True
            if self._process is not None and not self.ended.is_set():
                self._process.kill()

    def run(self, home: NodeHome, wish: Wish, answer: type[AnswerT], limit_s: float | None) -> AnswerT:
        """Do it, in the calling thread.

        Raises:
            LookEndedError: If it was given up, took too long, answered too much, or died.
            WarrenError: That it ended with.
        """
        with self._lock:
            if self._given_up:
                raise LookEndedError(reason="somebody gave it up")
            self._process = process = _started(home)
        late = threading.Event()
        timer = threading.Timer(limit_s or 0.0, _too_late, (process, late)) if limit_s else None
        if timer is not None:
            timer.start()
        try:
            found = _conversation(process, wish)
        finally:
            if timer is not None:
                timer.cancel()
        if process.returncode == 0 and len(found) <= ANSWER_BYTES:
            return _answer(found, answer)
        if self._given_up:
            raise LookEndedError(reason="somebody gave it up")
        if late.is_set():
            raise LookEndedError(reason=f"it took longer than {limit_s:.0f} seconds")
        raise LookEndedError(reason=f"its process ended with status {process.returncode}")


class Runner:
    """The errands of all people. Thread-safe."""

    def __init__(self, home: NodeHome) -> None:
        self._home = home
        self._turns = threading.BoundedSemaphore(SIDE_BY_SIDE)
        self._jobs: dict[str, Job] = {}
        self._pictures: dict[str, tuple[int, bytes]] = {}
        self._lock = threading.Lock()

    def do(self, errand: AnyErrand, answer: type[AnswerT], *, by: str) -> AnswerT:
        """Do an errand while its person waits, in `LOOK_S` at most, and as long at most until it is its turn.

        Raises:
            LookEndedError: If others did not end in that time, or if it took too long or died.
            WarrenError: As the core does.
        """
        job = Job(0, "", time.monotonic(), "", "")
        if not self._turns.acquire(timeout=LOOK_S):  # each that waits here keeps a thread of the page
            raise LookEndedError(reason=f"{SIDE_BY_SIDE} others took longer than {LOOK_S:.0f} seconds")
        try:
            return job.run(self._home, Wish(by=by, errand=errand), answer, LOOK_S)
        finally:
            self._turns.release()

    def begin(
        self,
        errand: AnyErrand,
        answer: type[AnswerT],
        *,
        by: str,
        person_id: int,
        what: str,
        back: str,
        then: Callable[[AnswerT], str],
        form: Mapping[str, str] | None = None,
    ) -> str:
        """Begin an errand that may take any time, and return its key.

        Args:
            errand: What is to be done.
            answer: What is expected of it.
            by: For whom, for the audit log.
            person_id: For whom.
            what: What is done, for that person.
            back: Path of the page that asks.
            then: Told the answer; returns the path of the page that shows it.
            form: What was typed into the form that asked.
        """
        key, job = new_token(), Job(person_id, what, time.monotonic(), back, back, form or {})

        def go() -> None:
            try:
                with self._turns:
                    found = job.run(self._home, Wish(by=by, errand=errand), answer, None)
                job.answer, job.then = found, then(found)
            except WarrenError as error:
                log.info("errand failed", extra={"action": "errand_failed", "code": error.code})
                job.error = error
            finally:
                job.ended.set()

        with self._lock:
            self._jobs[key] = job
            for old in [key for key, one in self._jobs.items() if one.ended.is_set()][:-_KEPT]:
                del self._jobs[old]
        threading.Thread(target=go, name="errand", daemon=True).start()
        return key

    def options(self, data_type: str) -> tuple[Asked, ...]:
        """Return the options of a family, which stay the same as long as this process runs.

        Raises:
            MissingExtraError: If its library is not installed.
            LookEndedError: As `do` does.
        """
        if data_type not in _OPTIONS:
            _OPTIONS[data_type] = self.do(AskOptions(data_type=data_type), Questions, by="").asked
        return _OPTIONS[data_type]

    def job(self, key: str, person_id: int) -> Job | None:
        """Return an errand of a person; None if there is none, it is another's, or it is forgotten."""
        job = self._jobs.get(key)
        return job if job is not None and job.person_id == person_id else None

    def put_picture(self, base64_png: str, person_id: int) -> str:
        """Keep a picture until its person fetches it, and return its key."""
        key = new_token()
        with self._lock:
            self._pictures[key] = (person_id, base64.b64decode(base64_png))
            while len(self._pictures) > _PICTURES:
                del self._pictures[next(iter(self._pictures))]
        return key

    def take_picture(self, key: str, person_id: int) -> bytes | None:
        """Return a picture of a person, once; None if there is none."""
        with self._lock:
            if self._pictures.get(key, (None, b""))[0] != person_id:
                return None
            return self._pictures.pop(key)[1]

    def close(self) -> None:
        """Give up all errands, and wait until they have ended; idempotent."""
        for job in list(self._jobs.values()):
            job.give_up()
        for job in list(self._jobs.values()):
            job.ended.wait()


def _started(home: NodeHome) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "node.gui.errand_process", str(home.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def _conversation(process: subprocess.Popen[bytes], wish: Wish) -> bytes:
    """Return what a process answers, or a little more than it may."""
    with process:
        asked, told = process.stdin, process.stdout
        if asked is None or told is None:
            raise AssertionError("both are pipes")
        try:
            with asked:
                asked.write(wish.model_dump_json().encode())
        except BrokenPipeError:
            log.debug("errand died early", extra={"action": "errand_died"})
        found = told.read(ANSWER_BYTES + 1)
        if len(found) > ANSWER_BYTES:
            process.kill()
    return found


def _too_late(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    process.kill()


def _answer(found: bytes, answer: type[AnswerT]) -> AnswerT:
    try:
        reply = Reply.model_validate_json(found)
        if reply.failed is None:
            return answer.model_validate(reply.answer)
    except ValidationError as error:
        raise LookEndedError(reason="its answer cannot be read") from error
    raise _ERRORS[reply.failed.code](**reply.failed.facts)
