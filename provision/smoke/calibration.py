"""What a measurement teaches `provision fit`: how fast generation was, memory that a load took, on this machine."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from provision.errors import ProvisionError
from provision.fit import measured
from provision.fit.bandwidth import Run
from provision.fit.speed import remember
from provision.gguf.header import GgufHeader
from provision.gguf.reader import read_header
from provision.gguf.shape import read_shape
from provision.gguf.source import FileSource
from provision.smoke.enginelog import LoadLog, read_load_log
from provision.smoke.filechecks import shards
from provision.smoke.thresholds import MIN_ROOFLINE_BYTES


def active_bytes(header: GgufHeader | None) -> int | None:
    """Weights read per generated token: without idle experts, without an embedding that is only looked up. None: not known."""
    if header is None:
        return None
    try:
        shape = read_shape(header)
    except ProvisionError:
        return None
    idle = 0.0
    if shape.n_expert:
        if not shape.n_expert_used:
            return None
        idle = shape.expert_bytes * (1 - shape.n_expert_used / shape.n_expert)
    return round(shape.weight_bytes - idle) - (0 if shape.tied_bytes else shape.input_bytes)


def calibrate(model: Path, answer: Mapping[str, Any], *, home: Path) -> bool:
    """Remember how fast generation read the memory the model lies in; False when this run teaches nothing.

    `answer` holds `model_bytes`, `tg` (tokens/s of each repetition) and the load's `log`. A model that fits a processor's cache
    says nothing about memory; a model on several devices mixes their memories; of a mixture of experts one cannot know how
    often the same expert came twice, and of split files the header is in several places.
    """
    log = read_load_log(str(answer["log"]))
    device = _only_device(log)
    if int(answer["model_bytes"]) < MIN_ROOFLINE_BYTES or device is None or not answer["tg"] or len(shards(model)) > 1:
        return False
    try:
        header = read_header(FileSource(model))
        if read_shape(header).n_expert:
            return False
    except ProvisionError:
        return False
    active = active_bytes(header)
    if active is None:
        return False
    run = Run(bytes_per_token=active, layers=log.offloaded or 0, tokens_per_s=mean(answer["tg"]), when=_today())
    remember(home, device, run)
    return True


def _only_device(log: LoadLog) -> str | None:
    """`main memory`, or the one GPU that holds every layer, by the name fit knows it by; None for a mix."""
    if not log.offloaded:
        return "main memory"
    if log.offloaded != log.layers or len(log.gpu_names) != 1:
        return None
    return " ".join(next(iter(log.gpu_names.items())))


def remember_memory(
    model: Path, answer: Mapping[str, Any], kwargs: Mapping[str, Any], *, predicted_bytes: int | None, home: Path
) -> None:
    """Keep what this load took of every memory, beside what was predicted."""
    log = read_load_log(str(answer["log"]))
    if log.total_bytes is None:
        return
    speeds = (answer.get("speed") or {}).get("tg")
    load = measured.Load(
        model=model.name,
        weights_bytes=int(answer["model_bytes"]),
        n_ctx=int(answer["n_ctx"]),
        n_gpu_layers=log.offloaded or 0,
        measured_bytes=log.total_bytes,
        predicted_bytes=predicted_bytes,
        peak_rss_bytes=answer.get("peak_rss_bytes"),
        tokens_per_s=round(mean(speeds), 2) if speeds else None,
        engine_version=str(answer["engine_version"]),
        when=_today(),
    )
    key = measured.key_of(model.name, kwargs, n_gpu_layers=load.n_gpu_layers)
    measured.remember(home, key, load, gpu_overheads=gpu_overheads(answer, log))


def gpu_overheads(answer: Mapping[str, Any], log: LoadLog) -> dict[str, int]:
    """Bytes each GPU lost while the model was loaded and used, less what the engine put there. Nothing for a driver that does
    not tell free memory, nor when others gave memory back meanwhile."""
    before = {device["name"]: device["free_bytes"] for device in answer.get("devices", [])}
    found = {}
    for device in answer.get("devices_after", []):
        name = device["name"]
        if name in log.gpu_names and name in before:
            besides = before[name] - device["free_bytes"] - log.buffers.get(name, 0)
            if before[name] != device["free_bytes"] and besides > 0:
                found[f"{name} {log.gpu_names[name]}"] = besides
    return found


def _today() -> str:
    return datetime.datetime.now(tz=datetime.UTC).date().isoformat()
