"""Writes all changes in one thread; changes that are ready together go to disk together."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from archiver.database.errors import describe, surely_not_committed, translate, undoes_all
from archiver.errors import ArchiverError, OutcomeUnknownError, UnavailableError

T = TypeVar("T")

_GROUP = 100


class _Job:
    """A change that a caller waits for."""

    __slots__ = ("error", "fn", "future", "value")

    def __init__(self, fn: Callable[[Connection], Any]) -> None:
        self.fn = fn
        self.future: Future[Any] = Future()
        self.value: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        if self.error is None:
            self.future.set_result(self.value)
        else:
            self.future.set_exception(self.error)

    def fail(self, error: ArchiverError) -> None:
        # Each caller gets its own instance: raising adds to the traceback of the instance.
        self.future.set_exception(type(error)(error.detail))


class _UndoneError(Exception):
    """The transaction is certainly rolled back, and another try may help."""

    def __init__(self, error: ArchiverError) -> None:
        super().__init__(error.detail)
        self.error = error


class Writer:
    """The only writer of this process: one thread with group commit.

    A change is a function of a connection. The change is durable when `run` returns. A change that fails undoes itself
    alone, and only its caller gets the error: a group in which one change fails is rolled back and done again one by
    one, which is rarer and so cheaper than a savepoint for each change. A change may thus be called again, after a
    rollback: so its function does nothing but SQL, never commits, and finds by its token what an earlier try has done.

    Raises `UnavailableError` (nothing was kept), `OutcomeUnknownError` (the answer to COMMIT was lost: read again by
    token), `ArchiverError` (the database refused the statement), and whatever the function raises.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        # A daemon thread: dying within a transaction is safe, hanging at exit is not.
        self._thread = threading.Thread(target=self._work, name="database-writer", daemon=True)
        self._thread.start()

    async def run(self, fn: Callable[[Connection], T]) -> T:
        """Runs `fn` durably. Cancelling the caller stops the waiting, never the change."""
        return await asyncio.shield(asyncio.wrap_future(self._submit(fn)))

    def run_sync(self, fn: Callable[[Connection], T]) -> T:
        """Does as `run`, for callers without an event loop."""
        return self._submit(fn).result()

    def close(self, patience: float | None = None) -> None:
        """Finishes the pending changes, then stops. Blocks, for `patience` seconds at most; may be called twice."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join(patience)

    def _submit(self, fn: Callable[[Connection], T]) -> Future[T]:
        job = _Job(fn)
        with self._closing:
            if self._closed:
                raise UnavailableError("the database writer is closed")
            self._jobs.put(job)
        return job.future

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            jobs = self._take(first)
            try:
                self._do(jobs)
            except BaseException as bug:  # noqa: BLE001  a dead thread would leave every caller waiting for ever
                for job in jobs:
                    if not job.future.done():
                        job.fail(OutcomeUnknownError(f"the database writer failed: {type(bug).__name__}"))

    def _take(self, first: _Job) -> list[_Job]:
        """Returns `first` and all other jobs that are ready."""
        jobs = [first]
        while len(jobs) < _GROUP:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                self._jobs.put(None)  # the end stands behind this group
                break
            jobs.append(job)
        return jobs

    def _do(self, jobs: Sequence[_Job]) -> None:
        try:
            self._transact(jobs)
        except _UndoneError:
            self._one_by_one(jobs)
        except ArchiverError as error:
            for job in jobs:
                job.fail(error)
        else:
            for job in jobs:
                job.settle()

    def _one_by_one(self, jobs: Sequence[_Job]) -> None:
        unreachable: UnavailableError | None = None
        for job in jobs:
            if unreachable:  # a hundred connection time-outs in a row would help nobody
                job.fail(unreachable)
                continue
            try:
                self._transact([job])
            except _UndoneError as undone:
                job.fail(undone.error)
            except UnavailableError as error:
                unreachable = error
                job.fail(error)
            except ArchiverError as error:
                job.fail(error)
            else:
                job.settle()

    def _transact(self, jobs: Sequence[_Job]) -> None:
        """Runs one transaction. Raises `_UndoneError`, `UnavailableError` when it could not begin, or
        `OutcomeUnknownError`."""
        try:
            conn = self._engine.connect()
        except SQLAlchemyError as exc:
            raise UnavailableError(f"database: {describe(exc)}") from None
        with conn:
            try:
                transaction = conn.begin()
            except SQLAlchemyError as exc:
                raise UnavailableError(f"database: {describe(exc)}") from None
            for job in jobs:
                self._attempt(conn, job)
                if job.error:
                    if len(jobs) == 1:
                        return  # leaving the connection rolls it back
                    raise _UndoneError(UnavailableError("another change of the same group failed"))
            try:
                transaction.commit()
            except SQLAlchemyError as exc:
                conn.invalidate()
                if surely_not_committed(exc):
                    raise _UndoneError(translate(exc)) from None
                # What if we die here? The rows are all there or all absent; only reading again tells.
                raise OutcomeUnknownError(f"database: {describe(exc)}") from None

    @staticmethod
    def _attempt(conn: Connection, job: _Job) -> None:
        job.error = None
        try:
            job.value = job.fn(conn)
        except SQLAlchemyError as exc:
            if conn.invalidated or undoes_all(exc):
                raise _UndoneError(translate(exc)) from None
            job.error = translate(exc).with_traceback(exc.__traceback__)
        except BaseException as exc:  # noqa: BLE001  the error is the caller's, and goes to the caller
            job.error = exc
