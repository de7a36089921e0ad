"""Numerics and behaviour, judged: pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from provision.smoke.judge import REFETCH, REINSTALL, Answer
from provision.smoke.thresholds import (
    MAX_CHARACTER_RUN,
    MAX_ENTROPY_SHARE,
    MAX_HALF_GROWTH,
    MAX_TOKEN_RUN,
    MAX_TOP_SHARE,
    MIN_CJK_SHARE,
    MIN_DISTINCT_4,
    MIN_LOGIT_STD,
    MIN_ZLIB_RATIO,
    NLL_SHARE,
    SHUFFLED_GAP,
    SINGLE,
    SINGLE_QUANTIZED_KV,
    VARIANTS,
    Agreement,
    answers_needed,
)
from provision.smoke.types import Check, Question, Status

WRONG_NUMBERS = "the file or the engine computes wrongly: " + REFETCH + ", then " + REINSTALL


def judge_numerics(answer: Answer, *, quantized_kv: bool) -> list[Check]:
    """C1 finite and not flat, C2 entropy, C3 likelihood of known text, C4 late text no worse, C5 batch equals single."""
    passages: Sequence[Mapping[str, Any]] = answer.get("passages") or []
    if not passages:
        return [Check(id="C1-finite", status="skip", summary="numerics were not measured")]
    if not all(passage["finite"] for passage in passages):
        return [
            Check(
                id="C1-finite",
                status="fail",
                summary="logits are NaN or infinite: the answer is one character for ever",
                value="not finite",
                threshold="finite",
                remedy=WRONG_NUMBERS,
            )
        ]
    passages = [passage for passage in passages if "nll" in passage]
    if not passages:
        return [Check(id="C1-finite", status="skip", summary="the passages are too short for this tokenizer")]
    uniform = math.log(answer["n_vocab"])
    flat = min(passage["std"] for passage in passages)
    checks = [
        _limit("C1-finite", flat >= MIN_LOGIT_STD, f"logits are finite, spread {flat:.3g}", flat, MIN_LOGIT_STD),
    ]
    entropy = max(passage["entropy"] for passage in passages) / uniform
    checks.append(
        _limit(
            "C2-entropy",
            entropy <= MAX_ENTROPY_SHARE,
            f"entropy {100 * entropy:.0f} % of a coin toss among all tokens",
            entropy,
            MAX_ENTROPY_SHARE,
        )
    )
    checks += _likelihood(passages, uniform)
    single = passages[0].get("single")
    if single:
        limits = SINGLE_QUANTIZED_KV if quantized_kv else SINGLE
        checks.append(_agreement("C5-batch-single", "batch and single tokens", single, limits, n=single["tokens"]))
    long_one = passages[0].get("single_long")
    if long_one:
        limits = SINGLE_QUANTIZED_KV if quantized_kv else SINGLE
        checks.append(
            _agreement("C5-long-prompt", "a prompt longer than a micro batch", long_one, limits, n=long_one["tokens"])
        )
    if "repeat_equal" in passages[0]:
        same = passages[0]["repeat_equal"]
        checks.append(
            Check(
                id="C9-repeatable",
                status="pass" if same else "warn",
                summary="two runs give the same logits" if same else "two runs give different logits (normal on some GPUs)",
                value=same,
            )
        )
    return checks


def _likelihood(passages: Sequence[Mapping[str, Any]], uniform: float) -> list[Check]:
    worst = max(passages, key=lambda passage: passage["nll"])
    share = worst["nll"] / uniform
    status: Status = "pass" if share <= NLL_SHARE.warn else "fail" if share > NLL_SHARE.fail else "warn"
    checks = [
        Check(
            id="C3-likelihood",
            status=status,
            summary=f"{worst['nll']:.2f} nats per token on known text ({worst['name']}); guessing gives {uniform:.1f}",
            value=round(worst["nll"], 4),
            threshold=round(NLL_SHARE.warn * uniform, 2),
            remedy=None if status == "pass" else WRONG_NUMBERS,
        )
    ]
    if "nll_shuffled" in passages[0]:
        gap = passages[0]["nll_shuffled"] - passages[0]["nll"]
        status = "pass" if gap >= SHUFFLED_GAP.warn else "fail" if gap < SHUFFLED_GAP.fail else "warn"
        checks.append(
            Check(
                id="C3-word-order",
                status=status,
                summary=f"real text is {gap:.1f} nats per token likelier than the same words shuffled",
                value=round(gap, 4),
                threshold=SHUFFLED_GAP.warn,
                remedy=None if status == "pass" else WRONG_NUMBERS,
            )
        )
    growth = max(passage["nll_second_half"] - passage["nll_first_half"] for passage in passages)
    checks.append(
        _limit(
            "C4-late-text",
            growth <= MAX_HALF_GROWTH,
            f"late text costs {growth:+.2f} nats more than early text",
            growth,
            MAX_HALF_GROWTH,
        )
    )
    return checks


def judge_variant(name: str, compared: Sequence[Mapping[str, Any]] | None, *, problem: str | None, in_use: bool) -> Check:
    """C6, C7: this deployment against one that differs in a single setting. A bad variant that is not in use only warns."""
    check_id = ("C7-" if name == "CPU only" else "C6-") + name.lower().replace(" ", "-")
    if compared is None:
        return Check(id=check_id, status="skip", summary=f"{name} not compared: {problem}")
    worst = max(compared, key=lambda one: one["nmse"] if one["nmse"] is not None else math.inf)
    check = _agreement(check_id, name, worst, VARIANTS[name])
    if check.status == "fail" and not in_use:
        return Check(
            id=check_id,
            status="warn",
            summary=check.summary + "; do not switch it on here",
            value=check.value,
            threshold=check.threshold,
            remedy=None,
        )
    return check


def _agreement(check_id: str, what: str, got: Mapping[str, Any], limits: Agreement, *, n: int | None = None) -> Check:
    nmse, argmax = got["nmse"], got["argmax"]
    if nmse is None:
        return Check(
            id=check_id, status="fail", summary=f"{what}: logits are not finite", value="not finite", remedy=WRONG_NUMBERS
        )
    # One token of a few may tie; the argmax share means something from fifty on.
    counts = n is None or n >= 50
    bad = nmse > limits.nmse.fail or (counts and argmax < limits.argmax_fail)
    good = nmse <= limits.nmse.warn and (not counts or argmax >= limits.argmax_pass)
    return Check(
        id=check_id,
        status="fail" if bad else "pass" if good else "warn",
        summary=f"{what}: {'agree' if good else 'differ'}, NMSE {nmse:.1e}, same best token {100 * argmax:.0f} %",
        value=float(f"{nmse:.4g}"),
        threshold=limits.nmse.warn,
        remedy=None if good else WRONG_NUMBERS,
    )


def _limit(check_id: str, good: bool, summary: str, value: float, threshold: float) -> Check:
    return Check(
        id=check_id,
        status="pass" if good else "fail",
        summary=summary,
        value=float(f"{value:.4g}"),
        threshold=threshold,
        remedy=None if good else WRONG_NUMBERS,
    )


def count_right(answers: Sequence[Mapping[str, Any]], questions: Sequence[Question]) -> int:
    """Answers that contain what was expected; a number only counts when it stands alone: 5 is not in 15."""
    expected = {question.id: question.expect for question in questions}
    return sum(any(_contains(got["text"], word) for word in expected[got["id"]]) for got in answers)


def _contains(text: str, word: str) -> bool:
    if word.isdecimal():
        return re.search(rf"(?<![\d.,]){word}(?!\d|[.,]\d)", text) is not None
    return word.lower() in text.lower()


def judge_behaviour(answer: Answer, questions: Sequence[Question], *, is_demo: bool) -> list[Check]:
    """E1 it stops, E2 known answers, E3 no template words, E4 no degeneration, E5 Chinese in Chinese, E6 needle."""
    answers: Sequence[Mapping[str, Any]] = answer.get("answers") or []
    if not answers:
        return [Check(id="E2-known-answers", status="skip", summary="no question was answered")]
    checks = [_stops(answers), _known(answer, answers, questions, is_demo=is_demo)]
    texts = [*answers, *([answer["long_answer"]] if answer.get("long_answer") else [])]
    leaked = sorted({word for got in texts for word in got["shape"]["controls"] if not _reasoning_mark(word)})
    checks.append(
        Check(
            id="E3-no-leaks",
            status="fail" if leaked else "pass",
            summary=f"template words reach the reader: {', '.join(leaked)}" if leaked else "no template words in the answers",
            value=", ".join(leaked) or None,
            remedy="the template or EOS of this file is wrong; take another conversion of the model" if leaked else None,
        )
    )
    checks.append(_degeneration(texts))
    chinese = next((got for got in answers if any("\u4e00" <= c <= "\u9fff" for c in got["ask"])), None)
    if chinese and not chinese["thinking"]:
        share = chinese["shape"]["cjk_share"]
        checks.append(
            Check(
                id="E5-chinese",
                status="pass" if share >= MIN_CJK_SHARE else "warn",
                summary=f"{100 * share:.0f} % Chinese characters in the answer to a Chinese question",
                value=round(share, 3),
                threshold=MIN_CJK_SHARE,
            )
        )
    if answer.get("needle"):
        checks.append(_needle(answer["needle"], n_params=int(answer.get("n_params") or 0), is_demo=is_demo))
    return checks


def _stops(answers: Sequence[Mapping[str, Any]]) -> Check:
    open_ended = [got for got in answers if got["finish"] == "length" and not got["thinking"]]
    slow = [got for got in answers if got["finish"] == "time" or (got["thinking"] and got["finish"] != "stop")]
    # A chatty model may use up 64 tokens on one short question; one that never stops does so on most.
    status: Status = "fail" if len(open_ended) * 2 > len(answers) else "warn" if open_ended or slow else "pass"
    why = f"{len(open_ended)} of {len(answers)} answers never stopped" if open_ended else f"{len(slow)} answers ran out of time"
    return Check(
        id="E1-stops",
        status=status,
        summary="every answer ends by itself" if status == "pass" else why,
        value=len(answers) - len(open_ended) - len(slow),
        threshold=len(answers),
        remedy=None if status == "pass" else "check D8-turn-ends; a reasoning model may only need --max-tokens",
    )


def _known(answer: Answer, answers: Sequence[Mapping[str, Any]], questions: Sequence[Question], *, is_demo: bool) -> Check:
    right = count_right(answers, questions)
    unfinished = sum(1 for got in answers if got["thinking"] or got["finish"] == "time")
    need = answers_needed(answer.get("n_params"), len(answers), is_demo=is_demo)
    status: Status = "pass" if right >= need else "warn" if right + unfinished >= need else "fail"
    return Check(
        id="E2-known-answers",
        status=status,
        summary=f"{right}/{len(answers)} known answers" + (f", {unfinished} unfinished" if unfinished else ""),
        value=right,
        threshold=need,
        remedy=None if status == "pass" else WRONG_NUMBERS,
    )


def _reasoning_mark(word: str) -> bool:
    return "think" in word.lower() or word in ("<|channel|>", "<|message|>")


def _degeneration(texts: Sequence[Mapping[str, Any]]) -> Check:
    problems = []
    for got in texts:
        figures = got["shape"]
        if figures["character_run"] > MAX_CHARACTER_RUN:
            problems.append(f"one character {figures['character_run']} times in a row")
        if figures["token_run"] > MAX_TOKEN_RUN:
            problems.append(f"one token {figures['token_run']} times in a row")
        if figures["tokens"] >= 48:
            if figures["distinct_4"] < MIN_DISTINCT_4:
                problems.append(f"only {100 * figures['distinct_4']:.0f} % of word groups differ")
            if figures["zlib_ratio"] < MIN_ZLIB_RATIO:
                problems.append(f"the answer compresses to {100 * figures['zlib_ratio']:.0f} %")
            if figures["top_share"] > MAX_TOP_SHARE:
                problems.append(f"one token is {100 * figures['top_share']:.0f} % of the answer")
    return Check(
        id="E4-no-repetition",
        status="fail" if problems else "pass",
        summary=problems[0] if problems else "answers do not repeat themselves",
        value=len(problems),
        threshold=0,
        remedy=WRONG_NUMBERS if problems else None,
    )


def _needle(got: Mapping[str, Any], *, n_params: int, is_demo: bool) -> Check:
    found = "4821" in got["text"]
    strict = is_demo or n_params >= 3_000_000_000
    status: Status = "pass" if found else "fail" if strict and not got["thinking"] else "warn"
    return Check(
        id="E6-needle",
        status=status,
        summary=f"{'finds' if found else 'does not find'} one fact in {got['tokens']} tokens",
        value=found,
        threshold=got["tokens"],
        remedy=None if found else "a smaller context may be right for this model: provision fit MODEL --ctx 4096",
    )
