"""The estimate from the installed engine itself: a child loads the header with `no_alloc` and reads the breakdown."""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from provision.fit.types import Estimate, RunSettings, Usage
from provision.gguf.header import GgufHeader
from provision.processes import ChildOutcome, run_child

CHILD = Path(__file__).parent / "children" / "memory.py"
_CPU, _GPU, _IGPU = 0, 1, 2  # enum ggml_backend_dev_type, ggml/include/ggml-backend.h
_SECONDS_PER_CHILD = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """Why the engine gave no figures."""

    reason: str


class HeaderOnDisk:
    """A header, or all headers of a split model, as files of their true sizes with holes where the weights would be.

    The loader checks that every tensor lies inside its file and opens the parts of a split by name, hence the sizes and names.
    """

    def __init__(self, headers: Sequence[GgufHeader], *, folder: Path | None = None) -> None:
        self._headers = headers
        self._parent = folder
        self._folder: Path | None = None

    def __enter__(self) -> Path:
        self._folder = Path(tempfile.mkdtemp(prefix="provision-fit-", dir=self._parent))
        count = len(self._headers)
        paths = []
        for index, header in enumerate(self._headers, start=1):
            name = "model.gguf" if count == 1 else f"model-{index:05d}-of-{count:05d}.gguf"
            path = self._folder / name
            with path.open("wb") as file:
                file.write(header.raw)
                file.truncate(max(header.file_bytes, header.data_offset + header.tensor_bytes))
            paths.append(path)
        return paths[0]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


class EngineMeter:
    """Asks the engine of `python` about the model at `path`, several settings per child, each setting once."""

    def __init__(self, path: Path, *, python: Path, n_devices: int, env: Mapping[str, str], mmproj_bytes: int = 0) -> None:
        self._path = path
        self._python = python
        self._n_devices = n_devices
        self._env = env
        self._mmproj_bytes = mmproj_bytes
        self._known: dict[RunSettings, Estimate | Silence] = {}

    def measure(self, settings: RunSettings, *, also: Iterable[RunSettings] = ()) -> Estimate | Silence:
        """The engine's figures for `settings`. `also`: what will probably be asked next, measured in the same child."""
        if settings not in self._known:
            wanted = [settings, *(other for other in also if other not in self._known and other != settings)]
            self._ask(wanted)
            self._known.setdefault(settings, Silence(reason="the engine gave no answer"))
        return self._known[settings]

    def _ask(self, wanted: Sequence[RunSettings]) -> None:
        runs = [_run(self._path, settings) for settings in wanted]
        outcome = run_child(self._python, CHILD, {"runs": runs}, timeout_s=_SECONDS_PER_CHILD, env=self._env)
        problem = outcome_problem(outcome)
        answered = outcome.answer.get("runs", [])
        devices = [d["name"] for d in outcome.answer.get("devices", []) if d["type"] in (_GPU, _IGPU)]
        for settings, answer in zip(wanted, answered, strict=False):
            estimate = _read(answer, devices, problem)
            if isinstance(estimate, Estimate) and len(estimate.devices) != self._n_devices:
                estimate = Silence(reason=f"the engine sees {len(devices)} GPUs where {self._n_devices} were planned for")
            if isinstance(estimate, Estimate) and self._mmproj_bytes:
                estimate = _with_projector(estimate, self._mmproj_bytes)
            self._known[settings] = estimate
        if problem:
            self._known.setdefault(wanted[min(len(answered), len(wanted) - 1)], Silence(reason=problem))


def outcome_problem(outcome: ChildOutcome) -> str:
    """Why a memory child has nothing (more) to say, in words; empty when it ended well."""
    if outcome.kind == "ok":
        return ""
    if outcome.kind == "signal":
        return f"the engine died of {outcome.signal_name}: {_last_line(outcome.stderr_tail)}"
    if outcome.kind == "timeout":
        return "the engine did not answer in time"
    if outcome.kind == "missing":
        return "Python could not be started"
    error = outcome.answer.get("error")
    if error in ("abi", "symbol"):
        return (
            f"the engine on {platform.system()} {platform.machine()} can't be asked for its memory figures (they are read on "
            "Linux and macOS); copies of weights that it repacks are then not counted"
        )
    if "llama_cpp" in outcome.stderr_tail and "ModuleNotFoundError" in outcome.stderr_tail:
        return "llama-cpp-python is not installed"
    return f"the engine failed: {error or _last_line(outcome.stderr_tail)}"


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    asserts = [line for line in lines if "GGML_ASSERT" in line or "error" in line.lower()]
    return (asserts or lines or ["no message"])[-1].strip()[:200]


def _run(path: Path, settings: RunSettings) -> dict[str, Any]:
    return {
        "path": str(path),
        "n_gpu_layers": settings.n_gpu_layers,
        "tensor_split": list(settings.tensor_split),
        "contexts": [
            {
                "n_ctx": settings.n_ctx,
                "n_batch": settings.n_batch,
                "n_ubatch": settings.n_ubatch,
                "n_seq_max": settings.n_seq_max,
                "flash_attn": settings.flash_attn,
                "type_k": settings.type_k,
                "type_v": settings.type_v,
                "swa_full": settings.swa_full,
                "offload_kqv": settings.offload_kqv,
                "op_offload": settings.op_offload,
            }
        ],
    }


def _read(answer: Mapping[str, Any], devices: Sequence[str], problem: str) -> Estimate | Silence:
    if "error" in answer:
        return Silence(reason=f"the engine refused the model: {_last_line(answer['error'])}")
    contexts = answer.get("contexts", [])
    if not contexts:
        return Silence(reason=problem or "the engine gave no answer")
    if "error" in contexts[0]:
        return Silence(reason=f"the engine refused these settings: {_last_line(contexts[0]['error'])}")
    return read_buffers(contexts[0]["buffers"], devices)


def read_buffers(buffers: Sequence[Mapping[str, Any]], devices: Sequence[str]) -> Estimate:
    """Buffers by name to usage per GPU and of main memory. Pinned host buffers of a GPU (`CUDA_Host`) are main memory."""
    gpus = {name: Usage() for name in devices}
    host = Usage()
    for buffer in buffers:
        on_gpu = not buffer["host"] and buffer["device"] in gpus
        before = gpus[buffer["device"]] if on_gpu else host
        # An extra CPU buffer type holds a repacked copy; the plain one maps the file.
        repacked = not on_gpu and buffer["name"] not in ("CPU", "CPU_Mapped") and not buffer["name"].endswith("_Host")
        grown = replace(
            before,
            model_bytes=before.model_bytes + buffer["model"],
            context_bytes=before.context_bytes + buffer["context"],
            compute_bytes=before.compute_bytes + buffer["compute"],
            repacked_bytes=before.repacked_bytes + (buffer["model"] if repacked else 0),
        )
        if on_gpu:
            gpus[buffer["device"]] = grown
        else:
            host = grown
    return Estimate(devices=tuple(gpus.values()), host=host, estimator="engine")


def _with_projector(estimate: Estimate, size: int) -> Estimate:
    if estimate.devices:
        first = replace(estimate.devices[0], model_bytes=estimate.devices[0].model_bytes + size)
        return replace(estimate, devices=(first, *estimate.devices[1:]))
    # libmtmd copies the weights; they are not mapped like the model's.
    return replace(estimate, host=replace(estimate.host, compute_bytes=estimate.host.compute_bytes + size))
