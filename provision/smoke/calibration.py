"""What a measurement teaches `provision fit`: the memory bandwidth that generation really reached on this machine."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from provision.errors import ProvisionError
from provision.fit.speed import remember
from provision.gguf.reader import read_header
from provision.gguf.shape import read_shape
from provision.gguf.source import FileSource
from provision.smoke.enginelog import read_load_log
from provision.smoke.filechecks import shards
from provision.smoke.thresholds import MIN_ROOFLINE_BYTES


def calibrate(model: Path, answer: Mapping[str, Any], *, home: Path) -> bool:
    """Remember main memory's bandwidth from a CPU run; False when this run teaches nothing.

    `answer` holds `model_bytes`, `tg` (tokens/s of each repetition) and the load's `log`. A model that fits a processor's cache
    says nothing about memory; layers on a GPU mix two memories; of a mixture of experts and of split files the bytes read per
    token are not known here. GPUs are not calibrated: no GPU was there to try it on.
    """
    log = read_load_log(str(answer["log"]))
    if int(answer["model_bytes"]) < MIN_ROOFLINE_BYTES or log.offloaded or not answer["tg"] or len(shards(model)) > 1:
        return False
    try:
        shape = read_shape(read_header(FileSource(model)))
    except ProvisionError:
        return False
    if shape.n_expert:
        return False
    # The embedding is looked up, not read, unless it serves as the output too.
    active = shape.weight_bytes - (0 if shape.tied_bytes else shape.input_bytes)
    when = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    remember(home, device="main memory", bytes_per_token=active, tokens_per_s=mean(answer["tg"]), when=when)
    return True
