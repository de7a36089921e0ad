"""Which quant of a repository: by evidence, size and what fits. Pure.

More memory never gives a worse quant. That holds because only the frontier is considered (no other quant is both smaller and
better), along which size and quality rise together, and because every fallback takes the humblest quant of its kind.
"""

from __future__ import annotations

from collections.abc import Sequence

from provision.fit.types import Candidate, Policy
from provision.models.quality import judge_quality

ACCEPTABLE_KLD = 0.1
"""Mean KLD beyond which a quant is taken only when nothing better fits: about Q3_K_M on the Llama-3-8B scoreboard."""
_UNKNOWN_KLD = 1000.0


def rank(candidate: Candidate) -> float:
    """Lower is better. Without evidence the size on the fallback curve gives a place in the order, and nothing more."""
    if candidate.quality is not None:
        return candidate.quality.mean_kld
    by_size = judge_quality(quant=None, model="", uploader="", bits_per_weight=candidate.bits_per_weight, imatrix=None)
    return by_size.mean_kld if by_size else _UNKNOWN_KLD


def frontier(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Candidates that no other one beats in both size and quality, smallest first."""
    best: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda one: (one.size_bytes, rank(one), one.quant or "")):
        if not best or rank(candidate) < rank(best[-1]):
            best.append(candidate)
    return best


def recommend(candidates: Sequence[Candidate], policy: Policy) -> tuple[Candidate, str] | None:
    """The candidate to take and why; None when none fits in any way."""
    ladder = frontier(candidates)
    whole = [one for one in ladder if one.verdict == "fits"]
    partly = [one for one in ladder if one.verdict != "too-big"]
    if not partly:
        return None
    if policy == "quality":
        return partly[-1], "the best quality that can be loaded at all"
    good_whole = [one for one in whole if rank(one) <= ACCEPTABLE_KLD]
    good_partly = [one for one in partly if rank(one) <= ACCEPTABLE_KLD]
    limit = f"a mean KLD of at most {ACCEPTABLE_KLD}"
    if good_whole:
        if policy == "speed":
            return good_whole[0], f"the smallest that fits wholly with {limit}"
        return good_whole[-1], "the best quality that fits wholly"
    if good_partly:
        return good_partly[0], f"nothing with {limit} fits wholly; the smallest of those, partly on the GPU"
    if whole:
        return whole[-1], f"nothing with {limit} fits; the best of the rest"
    return partly[0], f"nothing with {limit} fits, and nothing wholly; the smallest"
