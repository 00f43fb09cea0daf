"""A worker does its jobs in order on one thread of its own, and errors travel to who asked."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from saguaro.runtime.worker import Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    made = Worker("test", torch.device("cpu"), 1)
    yield made
    made.close()


def test_jobs_run_in_order_on_one_thread(worker: Worker) -> None:
    done: list[int] = []
    threads: set[str] = set()

    def work(number: int) -> int:
        time.sleep(0.001 * (10 - number))
        done.append(number)
        threads.add(threading.current_thread().name)
        return number * number

    jobs = [worker.submit(work, number) for number in range(10)]
    assert [job.result() for job in reversed(jobs)] == [number * number for number in reversed(range(10))]
    assert done == list(range(10))
    assert threads == {"saguaro-test"}


@pytest.mark.parametrize("error", [ValueError("bad"), KeyboardInterrupt(), SystemExit(3), MemoryError()])
def test_errors_travel_and_the_worker_goes_on(worker: Worker, error: BaseException) -> None:
    def fail() -> None:
        raise error

    job = worker.submit(fail)
    with pytest.raises(type(error)) as caught:
        job.result()
    assert caught.value is error
    assert worker.run(lambda: 5) == 5


def test_two_workers_work_at_once() -> None:
    workers = [Worker(name, torch.device("cpu"), 1) for name in "ab"]
    meeting = threading.Barrier(2)
    jobs = [worker.submit(meeting.wait, 5) for worker in workers]  # each waits for the other
    assert sorted(job.result() for job in jobs) == [0, 1]
    for worker in workers:
        worker.close()


def test_closing_lets_jobs_end() -> None:
    worker, done = Worker("closing", torch.device("cpu"), 1), threading.Event()
    jobs = [worker.submit(time.sleep, 0.02), worker.submit(done.set)]
    worker.close()
    assert done.is_set()
    assert [job.result() for job in jobs] == [None, None]
    assert "saguaro-closing" not in {thread.name for thread in threading.enumerate()}


def test_no_gradients(worker: Worker) -> None:
    assert worker.run(torch.is_inference_mode_enabled)
    assert not torch.is_inference_mode_enabled()


def test_each_worker_has_its_own_number_of_threads() -> None:
    """As placement says for target and draft. In a new process, since the order of first uses counts."""
    script = """
import torch
from saguaro.runtime.worker import Worker
workers = [Worker(str(count), torch.device("cpu"), count) for count in (1, 3, 2)]
for worker in workers:
    worker.run(lambda: None)
print([worker.run(torch.get_num_threads) for worker in workers])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[1, 3, 2]"


def test_a_stream_that_cannot_be_made() -> None:
    """Without a GPU the thread has no stream: jobs are answered with the reason, not left waiting."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    broken = Worker("broken", torch.device("cuda"), 1)
    with pytest.raises((RuntimeError, AssertionError)):
        broken.run(lambda: None)
    broken.close()
