"""Train the demo model and write its GGUF files: `python scripts/train_demo_model.py --output DIR`.

Needs the extra `train` (torch on CPU). The seed fixes data and initial weights; other CPUs may round bfloat16 products
differently, so weights then differ while answers stay alike. See provision/data/demo/README.md for what a run took.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import gguf
import numpy as np
import torch
from demo_model import conversations, export
from demo_model.network import Network, Shape
from demo_model.tokenizer import Tokenizer, train
from torch.nn import functional

SEED = 20261120
# (sequence length, sequences per step, share of the steps): long sequences last, so that far positions are learned too.
PHASES = ((256, 16, 0.75), (1024, 4, 0.15), (2048, 2, 0.10))
LEARNING_RATE = 3e-3
FURTHER_RATE = 1e-3
"""Learning rate of a run that goes on from a trained file."""
OTHER_WEIGHT = 0.1
"""Weight of the loss on what the user and the template say; the assistant's words count fully."""


def packed(tokenizer: Tokenizer, rng: Random, length: int) -> tuple[list[int], list[float]]:
    """One training sequence: whole conversations one after the other, cut at `length + 1` ids, with a loss weight for each."""
    ids: list[int] = []
    weights: list[float] = []
    while len(ids) <= length:
        long_one = length > 512 and not ids and rng.random() < 0.5
        turns = conversations.needle(rng, rng.randint(20, length // 12)) if long_one else conversations.conversation(rng)
        ids.append(tokenizer.bos)
        weights.append(0.0)
        for role, text in turns:
            header, body = tokenizer.turn(role, text)
            ids += header + body
            weights += [OTHER_WEIGHT] * len(header) + [1.0 if role == "assistant" else OTHER_WEIGHT] * len(body)
    return ids[: length + 1], weights[: length + 1]


def batches(tokenizer: Tokenizer, steps: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Every training step's ids and loss weights, `[batch, length + 1]`."""
    rng = Random(seed)
    for length, count, share in PHASES:
        for _ in range(round(steps * share)):
            rows = [packed(tokenizer, rng, length) for _ in range(count)]
            yield torch.tensor([ids for ids, _ in rows]), torch.tensor([weights for _, weights in rows])


def resume(network: Network, path: Path) -> Tokenizer:
    """Load the weights of an earlier file (dequantized) into `network`; returns its tokenizer."""
    reader = gguf.GGUFReader(path)
    arrays = {one.name: gguf.quants.dequantize(one.data, one.tensor_type).copy() for one in reader.tensors}
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.from_numpy(arrays[name if name.endswith(".weight") else f"{name}.weight"]))
    return Tokenizer([tuple(merge.split(" ")) for merge in reader.fields["tokenizer.ggml.merges"].contents()])


def fit(network: Network, tokenizer: Tokenizer, steps: int, top_rate: float, seed: int) -> float:
    """Train in place; returns the mean loss of the last hundred steps, nats per weighted token."""
    matrices = [p for p in network.parameters() if p.dim() == 2]
    vectors = [p for p in network.parameters() if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=top_rate, betas=(0.9, 0.98))
    losses: list[float] = []
    started = time.monotonic()
    for step, (ids, weights) in enumerate(batches(tokenizer, steps, seed)):
        rate = top_rate * min(1.0, (step + 1) / min(100, steps / 7)) * max(0.02, 1 - step / steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(ids[:, :-1])
        nll = functional.cross_entropy(logits.float().transpose(1, 2), ids[:, 1:], reduction="none")
        loss = (nll * weights[:, 1:]).sum() / weights[:, 1:].sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if step % 50 == 49:
            print(f"step {step + 1}/{steps}  loss {np.mean(losses[-100:]):.4f}  {time.monotonic() - started:.0f} s", flush=True)
    return float(np.mean(losses[-100:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder for the GGUF files")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--quants", nargs="+", choices=list(export.TYPES), default=list(export.TYPES))
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--from", dest="start", type=Path, help="go on from this GGUF instead of random weights")
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.use_deterministic_algorithms(True)
    # Vanishing gradients become denormal numbers, which this arithmetic pays for with a factor of ten in speed.
    torch.set_flush_denormal(True)
    shape = Shape()
    network = Network(shape)
    if arguments.start:
        tokenizer = resume(network, arguments.start)
    else:
        rng = Random(arguments.seed + 1)
        tokenizer = train([text for _ in range(6000) for _, text in conversations.conversation(rng)], shape.n_vocab)
    started = time.monotonic()
    loss = fit(network, tokenizer, arguments.steps, FURTHER_RATE if arguments.start else LEARNING_RATE, arguments.seed)
    seconds = time.monotonic() - started
    tensors = {
        name if name.endswith(".weight") else f"{name}.weight": p.detach().float().numpy()
        for name, p in network.named_parameters()
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    files = {}
    for quant in arguments.quants:
        path = arguments.output / f"provision-demo-{quant}.gguf"
        export.write(path, tensors, tokenizer, shape, quant, arguments.seed)
        files[path.name] = path.stat().st_size
    facts = {
        "parameters": sum(p.numel() for p in network.parameters()),
        "steps": arguments.steps,
        "tokens_seen": sum(round(arguments.steps * share) * length * count for length, count, share in PHASES),
        "final_loss": round(loss, 4),
        "seconds": round(seconds),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu": platform.processor() or platform.machine(),
        "seed": arguments.seed,
        "files": files,
    }
    print(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
