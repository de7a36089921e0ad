"""Laws of the fit: more asks for more, a plan holds its budgets, and memory never makes a choice worse."""

from dataclasses import replace
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from provision.fit.analytic import AnalyticMeter, estimate
from provision.fit.budgets import read_budgets
from provision.fit.placement import place
from provision.fit.plan import Plan, decide, gpu_shortage, host_shortage
from provision.fit.recommend import frontier, rank, recommend
from provision.fit.repository import candidates_of
from provision.fit.types import Candidate, FitWish, RunSettings
from provision.gguf.shape import ModelShape, read_shape
from provision.models.quality import Quality
from provision.models.types import ModelSet, RepoFile, RepoRef, Role
from provision.units import MIB
from tests.support.shapes import dense

SHAPES: list[ModelShape] = [
    read_shape(dense("a", "llama", layers=6, embd=2048, ff=5632, heads=16, kv_heads=4, vocab=32_000).header()),
    read_shape(
        dense("b", "gemma3", layers=7, embd=1024, ff=4096, heads=8, kv_heads=2, vocab=64_000, window=512, tied=True).header()
    ),
    read_shape(
        dense(
            "c",
            "qwen3moe",
            layers=5,
            embd=1024,
            ff=2048,
            heads=8,
            kv_heads=4,
            vocab=32_000,
            n_expert=8,
            n_expert_used=2,
            ff_exp=512,
        ).header()
    ),
]
SHAPE = st.sampled_from(SHAPES)
SETTINGS = st.builds(
    RunSettings,
    n_ctx=st.integers(256, 65_536),
    n_batch=st.sampled_from([64, 512, 2048]),
    n_ubatch=st.sampled_from([64, 512]),
    flash_attn=st.booleans(),
    type_k=st.sampled_from(["f16", "q8_0"]),
    n_gpu_layers=st.integers(0, 8),
)


def total(shape: ModelShape, one: RunSettings, devices: int = 1) -> int:
    found = estimate(shape, one, n_devices=devices)
    return found.host.total_bytes + sum(usage.total_bytes for usage in found.devices)


@given(SHAPE, SETTINGS, st.integers(1, 32_768))
def test_more_context_never_takes_less(shape: ModelShape, one: RunSettings, more: int) -> None:
    """Cache and weights never; the whole not beyond one thing: once the mask is wider than the logits, these take its place."""
    larger = replace(one, n_ctx=one.n_ctx + more)
    logits = 4 * min(one.n_ctx, one.n_ubatch) * shape.n_vocab
    assert total(shape, larger) >= total(shape, one) - logits
    before, after = (estimate(shape, settings, n_devices=0).host for settings in (one, larger))
    assert after.context_bytes >= before.context_bytes
    assert after.model_bytes == before.model_bytes


@given(SHAPE, SETTINGS, st.integers(1, 4))
def test_larger_batches_never_take_less(shape: ModelShape, one: RunSettings, factor: int) -> None:
    larger = replace(one, n_batch=one.n_batch * factor, n_ubatch=one.n_ubatch * factor)
    assert total(shape, larger) >= total(shape, one)


@given(SHAPE, SETTINGS)
def test_more_layers_on_the_gpu_take_more_of_it_for_weights_and_cache(shape: ModelShape, one: RunSettings) -> None:
    less = estimate(shape, one, n_devices=1).devices[0]
    more = estimate(shape, replace(one, n_gpu_layers=one.n_gpu_layers + 1), n_devices=1).devices[0]
    assert more.model_bytes >= less.model_bytes
    assert more.context_bytes >= less.context_bytes


@given(SHAPE, SETTINGS)
def test_every_weight_lies_somewhere_and_only_a_tied_output_twice(shape: ModelShape, one: RunSettings) -> None:
    found = estimate(shape, one, n_devices=2)
    held = found.host.model_bytes + sum(usage.model_bytes for usage in found.devices)
    on_gpu = place(shape, n_gpu_layers=one.n_gpu_layers, shares=(1.0, 1.0)).output is not None
    assert held == shape.weight_bytes + (shape.tied_bytes if on_gpu else 0)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=5).filter(lambda counts: 0 < sum(counts) <= 7))
def test_a_tensor_split_of_counts_gives_exactly_those_counts(counts: list[int]) -> None:
    shape = SHAPES[0]
    found = place(shape, n_gpu_layers=sum(counts), shares=tuple(float(count) for count in counts))
    placed = [*found.layers, found.output]
    assert [placed.count(index) for index in range(len(counts))] == counts


@settings(max_examples=40)
@given(
    SHAPE, st.lists(st.integers(600, 6000), max_size=3), st.integers(400, 16_000), st.sampled_from([None, 512, 4096, 30_000])
)
def test_a_plan_holds_its_budgets_and_is_the_largest(shape: ModelShape, vram: list[int], ram: int, n_ctx: int | None) -> None:
    wish = FitWish(vram=tuple(size * MIB for size in vram), ram=ram * MIB, n_ctx=n_ctx)
    budgets = read_budgets(None, wish)
    meter = AnalyticMeter(shape=shape, wish=wish, budgets=budgets)
    plan = decide(shape, wish, budgets, meter)
    if not isinstance(plan, Plan):
        return
    assert gpu_shortage(plan.estimate, budgets) is None
    assert host_shortage(plan.estimate, budgets) is None
    layers = plan.settings.n_gpu_layers
    if len(vram) == 1 and layers <= shape.n_layers:
        more = meter(replace(plan.settings, n_gpu_layers=layers + 1))
        assert gpu_shortage(more, budgets) is not None


def candidate(index: int, size: int, kld: float, verdict: str) -> Candidate:
    quality = Quality(mean_kld=kld, source="test", fallback=False)
    return Candidate(
        quant=f"Q{index}",
        files=(),
        size_bytes=size,
        bits_per_weight=None,
        quality=quality,
        verdict=verdict,
        reason="",  # type: ignore[arg-type]
    )


@given(
    st.lists(st.tuples(st.integers(1, 100), st.floats(0.0005, 2.0)), min_size=1, max_size=12),
    st.integers(0, 100), st.integers(0, 100), st.integers(0, 30), st.integers(0, 30),
    st.sampled_from(["quality", "balanced", "speed"]),
)  # fmt: skip
def test_more_memory_never_gives_a_worse_quant(rows, small, more_small, extra, more_extra, policy) -> None:  # type: ignore[no-untyped-def]
    """Whatever fits wholly below `whole` and partly below `partly`: when both grow, the choice never gets worse."""

    def choose(whole: int, partly: int) -> float:
        verdicts = ["fits" if size <= whole else "partly" if size <= partly else "too-big" for size, _ in rows]
        found = recommend(
            [candidate(i, *row, verdict) for i, (row, verdict) in enumerate(zip(rows, verdicts, strict=True))], policy
        )
        return rank(found[0]) if found else float("inf")

    whole, partly = small, small + extra
    assert choose(whole + more_small, partly + more_small + more_extra) <= choose(whole, partly)


@given(st.lists(st.tuples(st.integers(1, 100), st.floats(0.0005, 2.0)), min_size=1, max_size=12))
def test_the_frontier_rises_in_size_and_quality_together(rows: list[tuple[int, float]]) -> None:
    ladder = frontier([candidate(i, size, kld, "fits") for i, (size, kld) in enumerate(rows)])
    for smaller, larger in pairwise(ladder):
        assert smaller.size_bytes < larger.size_bytes or rank(smaller) == rank(larger)
        assert rank(larger) < rank(smaller)


QUANTS = (("Q8_0", 8.5), ("Q6_K", 6.6), ("Q4_K_M", 4.9), ("Q3_K_M", 4.0), ("Q2_K", 3.2))


@settings(max_examples=25)
@given(st.integers(300, 3000), st.integers(0, 3000), st.integers(500, 6000), st.sampled_from(["quality", "balanced", "speed"]))
def test_a_repository_never_offers_a_worse_quant_for_more_memory(vram: int, more: int, ram: int, policy: str) -> None:
    shape = SHAPES[0]
    sets = [
        ModelSet(
            role=Role.MODEL, quant=name, files=(RepoFile(path=f"m-{name}.gguf", size_bytes=round(shape.parameters * bits / 8)),)
        )
        for name, bits in QUANTS
    ]
    base = sets[2]

    def choose(size: int) -> float:
        wish = FitWish(vram=(size * MIB,), ram=ram * MIB, policy=policy)  # type: ignore[arg-type]
        budgets = read_budgets(None, wish)
        found = candidates_of(sets, base, shape, ref=RepoRef(org="o", name="n"), imatrix=False, wish=wish, budgets=budgets)
        best = recommend(found, wish.policy)
        return rank(best[0]) if best else float("inf")

    assert choose(vram + more) <= choose(vram)
