import copy
from typing import Any

import pytest

from provision.recipes.likeness import answer_sha256, compare_smoke
from provision.recipes.lockfile import LockedSmoke
from provision.smoke.golden import fingerprint

ANSWER = {
    "model_bytes": 10,
    "n_vocab": 20,
    "engine_version": "0.3.36",
    "cpu_flags": ["avx2"],
    "passages": [
        {
            "name": "english",
            "fingerprint": {
                "ids": [1, 2, 3],
                "nll": 1.5,
                "best": [{"ids": [4, 5, 6], "logits": [9.0, 5.0, 4.0]}, {"ids": [7, 8, 9], "logits": [8.0, 3.0, 2.0]}],
            },
        }
    ],
}


def measured(*, logit: float = 9.0, setting: str = "CPU", answer: str = "Paris.") -> dict[str, Any]:
    facts: dict[str, Any] = copy.deepcopy(ANSWER)
    facts["passages"][0]["fingerprint"]["best"][0]["logits"][0] = logit
    return {"answer": answer, "fingerprint": fingerprint(facts, setting=f"{setting}, KV f16", sha256=None)}


def locked(smoke: dict[str, Any]) -> LockedSmoke:
    return LockedSmoke(
        verdict="pass", profile="quick", checks={}, answer_sha256=answer_sha256(smoke), golden=smoke["fingerprint"]
    )


def test_the_same_bits_are_alike() -> None:
    found = compare_smoke(locked(measured()), measured())
    assert (found.differences, found.notes) == ((), ())


def test_logits_that_moved_are_named_where_nothing_else_changed() -> None:
    (said,) = compare_smoke(locked(measured()), measured(logit=9.5)).differences
    assert said.startswith("smoke.golden: unlike the stored fingerprint")


@pytest.mark.parametrize(("logit", "differs"), [(9.1, False), (12.0, True)])
def test_another_backend_may_move_within_the_tolerance_the_lock_states(logit: float, differs: bool) -> None:
    found = compare_smoke(locked(measured()), measured(logit=logit, setting="CUDA0"))
    assert bool(found.differences) is differs


def test_another_greedy_answer_is_a_difference_only_where_the_bits_must_be_the_same() -> None:
    lock = locked(measured())
    (said,) = compare_smoke(lock, measured(answer="Lyon.")).differences
    assert said.startswith("smoke.answer_sha256")
    elsewhere = compare_smoke(lock, measured(answer="Lyon.", setting="CUDA0"))
    assert elsewhere.differences == ()
    assert "greedy answer" in elsewhere.notes[0]


def test_a_lock_without_logits_still_compares_the_answer() -> None:
    old = locked(measured()).model_copy(update={"golden": None})
    assert compare_smoke(old, measured()).differences == ()
    assert "no logits" in compare_smoke(old, measured()).notes[0]
    assert compare_smoke(old, measured(answer="Lyon.")).differences


def test_nothing_measured_is_a_difference() -> None:
    (said,) = compare_smoke(locked(measured()), {"answer": "Paris.", "fingerprint": None}).differences
    assert said.startswith("smoke.golden: locked a fingerprint")
