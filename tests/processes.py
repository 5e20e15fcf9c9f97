"""Functions run on several gloo processes: a pool a module, whose tests cost a message each, not an import.

A test calls `processes(2, function, *arguments)`: each of two processes calls the function, with `torch.distributed`
initialised, and the results come back in the order of ranks. The function stands at the top of a test's module, and
takes and gives what pickles. The processes are forks of one that has imported torch and linops; they stay from call to
call, until one fails: then all of them are killed, and the next call starts others.
"""

import faulthandler
import importlib
import multiprocessing
import os
import pickle
import sys
import time
import traceback
import warnings
from multiprocessing import connection, forkserver

PRELOAD = ["torch._dynamo", "torch.distributed.fsdp", "torch.distributed.checkpoint.state_dict", "linops.nn.torch"]
#: what torch warns of in its own code when it runs on gloo
IGNORED = (
    "Redistribution from",
    ".*should not be instantiated",
    "torch.distributed._all_gather_base",
    "Profiler",
    "TypedStorage",
)
#: how long the others may take to fail too, once a rank has
GRACE = 0.5


class Failed(AssertionError):
    """A function raised on one of several processes, or one of them died or took too long."""


class Processes:
    """Pools of processes by their number.

    Args:
        folder: For the files through which processes meet.
    """

    def __init__(self, folder):
        self.folder = folder
        self._pools = {}
        self._started = 0

    def __call__(self, ranks, function, *arguments, seconds=60):
        """Call a function on processes of their own.

        Args:
            ranks: How many.
            function: Of a module's top level.
            *arguments: The same on all.
            seconds: How long it may take; then all are killed.

        Returns:
            The results, by rank.

        Raises:
            Failed: With the traceback of the rank that failed first, or where those stand that did not answer.
        """
        message = pickle.dumps((function, arguments, seconds))  # an error here leaves the pool whole
        pool = self._pools.get(ranks) or self._start(ranks)
        for pipe, _ in pool:
            pipe.send_bytes(message)
        results, waiting, end = {}, dict(enumerate(pool)), time.monotonic() + seconds
        while waiting:
            ready = connection.wait([pipe for pipe, _ in waiting.values()], max(0.0, end - time.monotonic()))
            if not ready:
                self._fail(ranks, f"{seconds} s are over, and of {ranks} ranks {_listed(waiting)} have not answered")
            for rank in [rank for rank, (pipe, _) in waiting.items() if pipe in ready]:
                pipe, process = waiting.pop(rank)
                try:
                    good, value = pickle.loads(pipe.recv_bytes())
                except EOFError:
                    process.join(GRACE)
                    self._fail(ranks, f"rank {rank} of {ranks} died, with exit code {process.exitcode}")
                if not good:
                    others = connection.wait([pipe for pipe, _ in waiting.values()], GRACE) if waiting else []
                    also = [other for other, (pipe, _) in waiting.items() if pipe in others]
                    said = f", and on ranks {_listed(also)} too" if also else ""
                    self._fail(ranks, f"{function.__name__} failed on rank {rank} of {ranks}{said}:\n{value}")
                results[rank] = value
        return [results[rank] for rank in range(ranks)]

    def close(self):
        """End all processes."""
        for ranks in list(self._pools):
            self._end(ranks)

    def _start(self, ranks):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        kept = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        os.environ.update(dict.fromkeys(kept, "1"))
        try:
            forkserver.ensure_running()
        finally:
            for name, value in kept.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        self._started += 1
        store, pool = self.folder / f"store{self._started}", []
        for rank in range(ranks):
            ours, theirs = context.Pipe()
            log = self._log(ranks, rank)
            process = context.Process(target=_serve, args=(theirs, rank, ranks, store, log), daemon=True)
            process.start()
            theirs.close()
            pool.append((ours, process))
        self._pools[ranks] = pool
        return pool

    def _log(self, ranks, rank):
        return self.folder / f"{ranks}_{rank}.txt"

    def _fail(self, ranks, message):
        time.sleep(GRACE)  # what stands still writes down where
        self._end(ranks)
        stands = [(rank, self._log(ranks, rank)) for rank in range(ranks)]
        said = [f"rank {rank}:\n{log.read_text()}" for rank, log in stands if log.exists() and log.stat().st_size]
        raise Failed("\n".join([message, *said]))

    def _end(self, ranks):
        pool = self._pools.pop(ranks)
        for _, process in pool:
            process.kill()
        for pipe, process in pool:
            process.join()
            pipe.close()


def _listed(ranks):
    return ", ".join(map(str, ranks))


def _serve(pipe, rank, ranks, store, log):
    """What a process does: call what comes, and send what that returns, until it is killed."""
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    while True:
        try:
            message = pipe.recv_bytes()
        except EOFError:  # the tests are gone
            os._exit(0)
        with open(log, "w") as file:
            try:
                function, arguments, seconds = pickle.loads(message)
                faulthandler.dump_traceback_later(seconds, file=file)
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    for words in IGNORED:
                        warnings.filterwarnings("ignore", words)
                    answer = pickle.dumps((True, function(*arguments)))
            except BaseException:
                answer = pickle.dumps((False, traceback.format_exc()))
            finally:
                faulthandler.cancel_dump_traceback_later()
        sys.stdout.flush()
        pipe.send_bytes(answer)
