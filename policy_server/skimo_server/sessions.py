"""ONNX Runtime sessions as they are served: one thread each, no spinning; on trial without kept memory."""

from __future__ import annotations

import onnxruntime as ort

from skimo_core.contract.errors import BundleError


def open_session(name: str, data: bytes, *, arena: bool = True) -> ort.InferenceSession:
    """Loads a graph.

    Args:
        name: of the graph, for the message.
        data: the ONNX file.
        arena: keep freed memory for the next call (off: every call's memory can be told from its own).

    Raises:
        BundleError: ONNX Runtime can't load it.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = arena
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises many kinds, all meaning that it can't load the graph
        raise BundleError(f"{name}.onnx: ONNX Runtime refuses it ({first_line(error)}); export it again") from None


def first_line(error: Exception) -> str:
    """The first line of an error's text, shortened."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
