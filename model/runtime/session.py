"""One tower's graph in onnxruntime: how it is opened, and its runs from several threads on the device that it is on."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from model.runtime.providers import NVIDIA, PROVIDERS

OUTPUTS = ["embeddings"]


class TowerSession:
    """One graph, to be run from several threads at once, and yet never on more threads than it was opened with.

    The first run is done by its caller, with the session's own threads as helpers; one beside it is done by a helper
    instead of its caller. With more threads than cores, each step would end with all others spinning until the one that
    was interrupted comes back.
    """

    def __init__(self, session: Any, input_name: str, threads: int) -> None:
        self.provider: str = session.get_providers()[0]
        self.session, self._input_name = session, input_name
        self._has_pool = threads > 1 and self.provider == PROVIDERS["cpu"]
        self.lock = threading.Lock()

    def run(self, value: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The one input [batch, ...] -> embeddings [batch, dimensions]."""
        if self.provider in NVIDIA:
            return run_bound(self.session, self._input_name, value, "cuda")
        is_first = self.lock.acquire(blocking=False)
        try:
            return self._run_in_caller(value) if is_first or not self._has_pool else self._run_in_pool(value)
        finally:
            if is_first:
                self.lock.release()

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


def run_bound(session: Any, name: str, value: npt.NDArray[Any], device: str) -> npt.NDArray[np.float32]:
    """Run with input and output in the memory of `device`, "cuda" or "cpu": each is copied once."""
    binding = session.io_binding()  # one for each run: several threads may be here
    binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(value), device, 0))
    binding.bind_output("embeddings", device)
    session.run_with_iobinding(binding)
    embeddings: npt.NDArray[np.float32] = binding.copy_outputs_to_cpu()[0]
    return embeddings
