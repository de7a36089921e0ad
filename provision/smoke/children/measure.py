"""Measure one deployment: load the model exactly as asked, and report figures; judging is the parent's work.

After every stage the answer so far is printed, so that a death by signal still tells what was reached.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[2] / "engine" / "children"))
import smoke_entry as entry

with entry.importing():
    import numpy as np
    import smoke_engine as engine
    import smoke_gpu as gpu
    import smoke_template as template
    import smoke_text as text
    from chat_template import choose

# The same for every profile, whose passages differ in length for the sake of memory.
_FINGERPRINT_TOKENS = 64


def work(request: dict[str, Any], answer: dict[str, Any]) -> None:
    """Load, then run the request's stages in order, up to the first that fails."""
    try:
        llm = _load(request, answer)
        for stage in request["stages"]:
            answer["stage"] = stage
            entry.snapshot(answer)
            _STAGES[stage](llm, request, answer)
    finally:
        answer["log"] = engine.log_text()[-60_000:]
        answer["peak_rss_bytes"] = engine.peak_rss_bytes()


def _load(request: dict[str, Any], answer: dict[str, Any]) -> Any:
    llm = engine.load(request, answer)
    choose(llm, **request.get("chat", {}))
    answer["rss_after_load_bytes"] = engine.peak_rss_bytes()
    answer["n_ctx"], answer["n_batch"], answer["n_vocab"] = llm.n_ctx(), llm.n_batch, llm.n_vocab()
    answer["n_ctx_train"] = engine.lib.llama_model_n_ctx_train(llm._model.model)
    answer["n_params"] = engine.lib.llama_model_n_params(llm._model.model)
    answer["metadata"] = {key: llm.metadata[key] for key in ("general.name", "general.architecture") if key in llm.metadata}
    answer["recurrent"] = bool(llm._is_recurrent or llm._is_hybrid)
    return llm


def _tokenizer(llm: Any, request: dict[str, Any], answer: dict[str, Any]) -> None:
    answer["tokenizer"] = text.tokenizer_facts(llm, request["round_trips"])
    answer["template"] = template.template_facts(llm, request.get("reference_template"))
    if request["llama_kwargs"].get("chat_format") or request.get("chat"):
        answer["template"]["compared"] = None  # another format is what the user wants
    answer["thinking"] = text.thinks(llm)


def _numerics(llm: Any, request: dict[str, Any], answer: dict[str, Any]) -> None:
    passages: list[dict[str, Any]] = []
    logits = {}
    for passage in request["passages"]:
        ids = _passage_ids(llm, passage, request)
        rows = engine.batch_logits(llm, ids)
        logits[passage["name"]] = rows
        passages.append({"name": passage["name"], **_passage_facts(llm, ids, rows, request, passages)})
    answer["passages"] = passages
    if request.get("logits_path"):
        np.savez(request["logits_path"], **logits)


def _passage_ids(llm: Any, passage: dict[str, Any], request: dict[str, Any]) -> list[int]:
    """Token ids of a passage, cut so that its logits stay below `max_logits` numbers, yet never below a fingerprint."""
    if "messages" in passage:
        question, reply = passage["messages"]
        ids = text.render(llm, [question]) + llm.tokenize(reply["content"].encode(), add_bos=False, special=False)
    else:
        ids = llm.tokenize(passage["text"].encode(), add_bos=bool(engine.lib.llama_vocab_get_add_bos(llm._model.vocab)))
    return list(ids[: min(llm.n_ctx() - 1, max(_FINGERPRINT_TOKENS, request["max_logits"] // llm.n_vocab()))])


def _passage_facts(llm: Any, ids: list[int], rows: Any, request: dict[str, Any], before: list[Any]) -> dict[str, Any]:
    """Likelihood, spread and entropy; on the first passage also shuffled text and batch against single tokens."""
    facts: dict[str, Any] = {"tokens": len(ids), "finite": bool(np.isfinite(rows).all())}
    if not facts["finite"] or len(ids) < 8:
        return facts
    log_p = engine.log_softmax(rows)
    nll = -log_p[np.arange(len(ids) - 1), ids[1:]]
    half = len(nll) // 2
    facts |= {
        "std": float(rows.std()),
        "entropy": float(-(np.exp(log_p) * log_p).sum(-1).mean()),
        "nll": float(nll.mean()),
        "nll_first_half": float(nll[:half].mean()),
        "nll_second_half": float(nll[half:].mean()),
        "fingerprint": _fingerprint(ids[:_FINGERPRINT_TOKENS], rows[:_FINGERPRINT_TOKENS], nll[: _FINGERPRINT_TOKENS - 1]),
    }
    if not before:
        shuffled = [ids[0], *np.random.default_rng(7).permutation(ids[1:]).tolist()]
        log_q = engine.log_softmax(engine.batch_logits(llm, shuffled))
        facts["nll_shuffled"] = float(-log_q[np.arange(len(ids) - 1), shuffled[1:]].mean())
        facts["single"] = _single(llm, ids[: request["n_single"]], rows, request["single_limit_s"])
        if request.get("long_prompt"):
            facts["single_long"] = _long(llm, ids, request["single_limit_s"])
        if request.get("repeat"):
            facts["repeat_equal"] = bool(np.array_equal(rows, engine.batch_logits(llm, ids)))
    return facts


def _single(llm: Any, ids: list[int], rows: Any, limit_s: float) -> dict[str, Any]:
    singles = engine.single_logits(llm, ids, limit_s=limit_s)
    return {**engine.compare(rows[: len(singles)], singles), "tokens": len(singles)}


def _long(llm: Any, ids: list[int], limit_s: float) -> dict[str, Any] | None:
    """Batch against single tokens on a prompt longer than one micro batch: some faults show only there. None: no time."""
    count = engine.lib.llama_n_ubatch(llm._ctx.ctx) + 32
    if count >= llm.n_ctx():
        return None
    many = (ids * (1 + count // len(ids)))[:count]
    singles = engine.single_logits(llm, many, limit_s=4 * limit_s)
    if len(singles) < count:
        return None
    return {**engine.compare(engine.batch_logits(llm, many)[-32:], singles[-32:]), "tokens": 32}


def _fingerprint(ids: list[int], rows: Any, nll: Any) -> dict[str, Any]:
    """The material of a golden fingerprint: likelihood, and the three best tokens with raw logits at sixteen positions."""
    positions = np.unique(np.linspace(0, len(rows) - 1, 16).astype(int))
    best = [np.argsort(-rows[at], kind="stable")[:3] for at in positions]
    return {
        "ids": list(ids),
        "nll": float(nll.mean()),
        "best": [
            {"ids": top.tolist(), "logits": [float(rows[at][token]) for token in top]}
            for at, top in zip(positions, best, strict=True)
        ],
    }


def _behaviour(llm: Any, request: dict[str, Any], answer: dict[str, Any]) -> None:
    options: dict[str, Any] = {"enable_thinking": False} if answer["thinking"]["switch"] else {}
    budget = 512 if answer["thinking"]["reasoning"] and not options else 64
    answer["answers"] = []
    for question in request["questions"]:
        messages = [*question.get("before", []), {"role": "user", "content": question["ask"]}]
        got = text.answer(llm, messages, max_tokens=budget, limit_s=request["answer_limit_s"], options=options)
        answer["answers"].append({"id": question["id"], "ask": question["ask"], **got})
        entry.snapshot(answer)
    if request.get("long_answer"):
        got = text.answer(
            llm,
            [{"role": "user", "content": request["long_answer"]}],
            max_tokens=max(192, budget),
            limit_s=2 * request["answer_limit_s"],
            options=options,
        )
        answer["long_answer"] = got
    if request.get("needle"):
        answer["needle"] = _needle(llm, request, options, budget)


def _needle(llm: Any, request: dict[str, Any], options: dict[str, Any], budget: int) -> dict[str, Any]:
    """A number hidden at one third of a prompt that fills min(0.8 n_ctx, limit) tokens."""
    needle = request["needle"]
    room = min(int(0.8 * llm.n_ctx()), needle["tokens"]) - 64
    per_round = len(llm.tokenize(" ".join(needle["filler"]).encode(), add_bos=False))
    filler = needle["filler"] * max(1, room // max(1, per_round))
    filler.insert(len(filler) // 3, needle["fact"])
    messages = [{"role": "user", "content": " ".join(filler) + " " + needle["ask"]}]
    tokens = len(text.render(llm, messages))
    got = text.answer(llm, messages, max_tokens=budget, limit_s=request["answer_limit_s"] * 4, options=options)
    return {"tokens": tokens, **got}


def _speed(llm: Any, request: dict[str, Any], answer: dict[str, Any]) -> None:
    asked = request["speed"]
    with gpu.Watch() as watch:
        figures = engine.speed(llm, **asked)
        generated_s = sum(figures.pop("tg_s"))
        missing_s = request.get("watch_s", 0.0) - generated_s
        if watch.sees and missing_s > 0:
            generated_s += engine.keep_generating(llm, seconds=missing_s)
    answer["speed"] = {"n_prompt": asked["n_prompt"], "n_generate": asked["n_generate"], **figures}
    answer["gpu_utilisation"], answer["generated_s"] = watch.busiest, generated_s
    answer["devices_after"] = engine.devices()  # by now every kernel is loaded
    if answer["model_bytes"] >= 200 * 1024 * 1024:
        answer["host_copy_bytes_per_s"] = engine.host_copy_bytes_per_s()


def _compare(llm: Any, request: dict[str, Any], answer: dict[str, Any]) -> None:
    """The same passages on this variant (flash attention, KV type, CPU only) against the logits another run left."""
    compared = []
    with np.load(request["reference_path"]) as reference:
        for passage in request["passages"]:
            rows = engine.batch_logits(llm, _passage_ids(llm, passage, request))
            known = reference[passage["name"]]
            count = min(len(rows), len(known))
            compared.append(engine.compare(known[:count], rows[:count]))
    answer["compared"] = compared


_STAGES = {
    "tokenizer": _tokenizer,
    "numerics": _numerics,
    "behaviour": _behaviour,
    "speed": _speed,
    "compare": _compare,
}

if __name__ == "__main__":
    entry.run(work)
