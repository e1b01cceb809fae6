"""One tower's graph in onnxruntime: how it is opened, and its runs from several threads on the device that it is on."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import OrtDevice, OrtValue, OrtValueVector

from model.runtime.pinned_memory import PinnedMemory, cuda_runtime
from model.runtime.providers import NVIDIA, PROVIDERS

OUTPUTS = ["embeddings"]


class TowerSession:
    """One graph, to be run from several threads at once, and yet never on more threads than it was opened with.

    On the CPU, the first run is done by its caller, with the session's own threads as helpers; one beside it is done by
    a helper instead of its caller. With more threads than cores, each step would end with all others spinning until the
    one that was interrupted comes back. On a GPU, each run has a stream of its own: what one copies, another computes.
    """

    def __init__(self, session: Any, input_name: str, threads: int) -> None:
        self.provider: str = session.get_providers()[0]
        self.session, self._input_name = session, input_name
        self._has_pool = threads > 1 and self.provider == PROVIDERS["cpu"]
        self.lock = threading.Lock()
        self._shape: tuple[int, ...] = tuple(session.get_outputs()[0].shape[1:])  # of one item's embedding
        self._pinned_inputs = self._pinned_outputs = None
        if self.provider in NVIDIA:
            cuda = cuda_runtime(int(session.get_provider_options()[self.provider]["device_id"]))
            self._pinned_inputs, self._pinned_outputs = PinnedMemory(cuda), PinnedMemory(cuda)

    @contextmanager
    def stacked(self, rows: Sequence[npt.NDArray[Any]] | npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
        """Rows of one shape as one array [batch, ...], where the device reads it best: to be run within the context.

        `run` does so itself with what is elsewhere; rows that are not one array yet are copied only once here.
        """
        pinned = self._pinned_inputs
        if pinned is None:
            yield rows if isinstance(rows, np.ndarray) else np.stack(rows)
        elif not isinstance(rows, np.ndarray):
            with pinned.borrow((len(rows), *rows[0].shape), rows[0].dtype) as batch:
                yield np.stack(rows, out=batch)
        elif pinned.holds(rows):
            yield rows
        else:
            with pinned.borrow(rows.shape, rows.dtype) as batch:
                batch[...] = rows
                yield batch

    def run(self, value: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The one input [batch, ...] -> embeddings [batch, ...]."""
        if self._pinned_outputs is not None:
            with (
                self.stacked(value) as batch,
                self._pinned_outputs.borrow((len(value), *self._shape), np.float32) as embeddings,
            ):
                embeddings.fill(np.nan)  # a copy that failed in silence must not leave the vectors of another batch
                run_bound(self.session, self._input_name, batch, embeddings)
                return embeddings.copy()
        is_first = self.lock.acquire(blocking=False)
        try:
            return self._run_in_caller(value) if is_first or not self._has_pool else self._run_in_pool(value)
        finally:
            if is_first:
                self.lock.release()

    def close(self) -> None:
        """Give back the memory of the device at once: garbage that is not collected yet may still refer to this."""
        self.session = self._pinned_inputs = self._pinned_outputs = None

    def _run_in_caller(self, value: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        embeddings: npt.NDArray[np.float32] = self.session.run(OUTPUTS, {self._input_name: value})[0]
        return embeddings

    def _run_in_pool(self, value: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        done: Future[npt.NDArray[np.float32]] = Future()

        def finished(outputs: Any, _: None, error: str) -> None:
            if error:
                done.set_exception(RuntimeError(error))
            else:
                done.set_result(outputs[0])

        feed = {self._input_name: value}  # held until it is done, as is `finished`: onnxruntime does not
        self.session.run_async(OUTPUTS, feed, finished, None)
        error = done.exception()
        if error is not None:  # it itself would lead to this frame and back, and to the batch
            raise RuntimeError(str(error))
        return done.result()


def session_options(threads: int) -> Any:
    """How every session is opened that may use so many threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Memory patterns are kept per input shape and grow with every new batch size (onnxruntime#11118).
    options.enable_mem_pattern = False
    # A step ends with its slowest thread: in several small parts, one that was interrupted holds up less.
    options.add_session_config_entry("session.dynamic_block_base", "4")
    # Spinning idle threads would take the cores that decode the next pictures.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def run_bound(session: Any, input_name: str, value: npt.NDArray[Any], embeddings: npt.NDArray[np.float32]) -> None:
    """Run `value` [batch, ...], and have the result written to `embeddings` [batch, ...], of exactly that shape.

    A GPU copies both on the stream of the run, and only its end is waited for. With `IOBinding`, the input would be
    copied by a call of its own, for which the thread waits before it starts the kernels.
    """
    host = OrtDevice(OrtDevice.cpu(), OrtDevice.default_memory(), 0)
    feeds, fetches = OrtValueVector(), OrtValueVector()
    value = np.ascontiguousarray(value)
    feeds.push_back(OrtValue.ortvalue_from_numpy(value, host))
    fetches.push_back(OrtValue.ortvalue_from_numpy(embeddings, host))
    session.run_with_ortvaluevector(ort.RunOptions(), [input_name], feeds, OUTPUTS, fetches, [host])
