import ast
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from provision.errors import MachineError
from provision.fit.analytic import estimate
from provision.fit.service import fit_header
from provision.fit.types import FitResult, FitWish, RunSettings
from provision.gguf.reader import read_header
from provision.gguf.shape import read_shape
from provision.gguf.source import BytesSource
from provision.host.types import Engine, EngineDevice, Gpu, Host, Memory, System
from provision.settings import read_settings
from provision.units import GIB
from tests.support.ggufs import header_bytes
from tests.support.shapes import Model, dense, gemma3_27b, llama_8b, llama_70b

SETTINGS = read_settings({}, home=Path("/home/nobody"))


def fitted(model: Model, **wish: object) -> FitResult:
    return fit_header(model.header(), FitWish(**wish), target="m.gguf", host=None, settings=SETTINGS)  # type: ignore[arg-type]


def test_the_data_is_the_contracts() -> None:
    data = fitted(llama_8b(), vram=(24 * GIB,), ram=64 * GIB).to_data()
    assert set(data) == {"target", "architecture", "n_layers", "n_ctx_train", "candidates", "chosen"}
    assert set(data["chosen"]) == {
        "quant", "n_ctx", "n_gpu_layers", "tensor_split", "devices", "host", "estimator", "llama_kwargs", "tokens_per_s",
        "reasons",
    }  # fmt: skip
    memory = {"name", "model_bytes", "context_bytes", "compute_bytes", "budget_bytes", "spare_bytes"}
    assert set(data["chosen"]["host"]) == memory
    assert [set(device) for device in data["chosen"]["devices"]] == [memory]
    assert set(data["candidates"][0]) == {"quant", "files", "size_bytes", "bits_per_weight", "quality", "verdict", "reason"}
    json.dumps(data)


def test_everything_goes_to_a_large_gpu_with_more_context() -> None:
    chosen = fitted(llama_8b(), vram=(24 * GIB,), ram=64 * GIB).chosen
    assert chosen is not None
    assert chosen.settings.n_gpu_layers == 33
    assert chosen.settings.n_ctx == 32_768
    assert chosen.llama_kwargs["flash_attn"] is True


def test_a_small_gpu_takes_as_many_layers_as_fit_and_not_one_more() -> None:
    chosen = fitted(llama_8b(), vram=(4 * GIB,), ram=64 * GIB, n_ctx=8192).chosen
    assert chosen is not None
    layers = chosen.settings.n_gpu_layers
    assert 0 < layers < 33
    assert chosen.estimate.devices[0].total_bytes <= chosen.budgets.devices[0].budget_bytes
    more = fitted(llama_8b(), vram=(4 * GIB,), ram=64 * GIB, n_ctx=8192, n_gpu_layers=layers + 1)
    assert more.chosen is None


def test_a_context_far_beyond_the_memory_is_refused_without_asking_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine keeps bytes for every cell it is asked about: a probe of two billion took all memory of the machine."""
    asked: list[object] = []
    host = Host(system=System(os="linux", arch="x86_64"), memory=Memory(total_bytes=24 * GIB, available_bytes=20 * GIB))
    monkeypatch.setattr("provision.fit.measuring._by_engine", lambda *arguments: asked.append(arguments))
    found = fit_header(
        llama_8b().header(), FitWish(n_ctx=2_000_000_000), target="m.gguf", host=host, settings=SETTINGS,
        python=Path("python3"), path=Path("m.gguf"),
    )  # fmt: skip
    assert found.chosen is None
    assert "main memory needs" in found.refusal
    assert asked == []


def test_a_70b_is_refused_on_24_gib_of_main_memory() -> None:
    found = fitted(llama_70b(), vram=(), ram=24 * GIB)
    assert found.chosen is None
    assert "main memory needs" in found.refusal
    assert found.candidates[0].verdict == "too-big"
    assert found.way_out.startswith(("ask", "try", "choose"))


def test_a_70b_is_refused_on_a_24_gib_card_with_little_main_memory() -> None:
    assert fitted(llama_70b(), vram=(24 * GIB,), ram=16 * GIB).chosen is None


def test_the_context_is_never_blindly_the_trained_one() -> None:
    chosen = fitted(llama_8b(), vram=(), ram=32 * GIB).chosen
    assert chosen is not None
    assert chosen.settings.n_ctx == 8192
    asked = fitted(llama_8b(), vram=(), ram=32 * GIB, n_ctx=20_000).chosen
    assert asked is not None
    assert asked.settings.n_ctx == 20_000


def test_windowed_layers_cost_little_context() -> None:
    small = fitted(gemma3_27b(), vram=(48 * GIB,), ram=64 * GIB, n_ctx=32_768).chosen
    assert small is not None
    # 3184 MiB is the engine's figure; the full cache is 15872 MiB.
    assert small.estimate.devices[0].context_bytes == 3184 * 1024 * 1024


def test_without_gpus_devices_are_empty_and_available_memory_counts() -> None:
    host = Host(system=System(os="linux", arch="x86_64"), memory=Memory(total_bytes=64 * GIB, available_bytes=6 * GIB))
    found = fit_header(llama_8b().header(), FitWish(), target="m", host=host, settings=SETTINGS)
    assert found.chosen is not None
    assert found.chosen.to_data()["devices"] == []
    assert found.chosen.settings.n_ctx < 8192
    tight = Host(system=System(os="linux", arch="x86_64"), memory=Memory(total_bytes=64 * GIB, available_bytes=5 * GIB))
    assert fit_header(llama_8b().header(), FitWish(), target="m", host=tight, settings=SETTINGS).chosen is None


def test_hidden_gpus_and_gpus_of_unknown_size_are_left_out() -> None:
    host = Host(
        system=System(os="linux", arch="x86_64"),
        memory=Memory(available_bytes=64 * GIB),
        gpus=(
            Gpu(index=0, name="A", vendor="nvidia", source="nvml", memory_free_bytes=24 * GIB, visible=False),
            Gpu(index=1, name="B", vendor="nvidia", source="nvml"),
            Gpu(index=0, name="llvmpipe", vendor="software", source="vulkan", memory_total_bytes=8 * GIB),
            Gpu(index=0, name="Iris", vendor="intel", source="vulkan", memory_total_bytes=16 * GIB, integrated=True),
        ),
    )
    chosen = fit_header(llama_8b().header(), FitWish(), target="m", host=host, settings=SETTINGS).chosen
    assert chosen is not None
    assert chosen.budgets.devices == ()


def test_the_installed_engine_says_which_gpus_count() -> None:
    card = Gpu(index=0, name="RTX 4090", vendor="nvidia", source="nvml", memory_free_bytes=24 * GIB)
    cpu_only = Engine(version="0.3.36", loads=True, backends=("cpu",))
    host = Host(
        system=System(os="linux", arch="x86_64"), memory=Memory(available_bytes=64 * GIB), gpus=(card,), engine=cpu_only
    )
    chosen = fit_header(llama_8b().header(), FitWish(), target="m", host=host, settings=SETTINGS).chosen
    assert chosen is not None
    assert chosen.budgets.devices == ()
    assert "provision install" in chosen.reasons[0]

    device = EngineDevice(name="CUDA0", description="NVIDIA RTX 4090", kind="gpu", memory_free_bytes=22 * GIB)
    with_cuda = replace(host, engine=replace(cpu_only, backends=("cpu", "cuda"), devices=(device,)))
    seen = fit_header(llama_8b().header(), FitWish(), target="m", host=with_cuda, settings=SETTINGS).chosen
    assert seen is not None
    assert [budget.free_bytes for budget in seen.budgets.devices] == [22 * GIB]
    assert seen.settings.n_gpu_layers == 33


def test_unified_memory_is_counted_once() -> None:
    gpu = Gpu(index=0, name="GB10", vendor="nvidia", source="nvml", memory_free_bytes=60 * GIB, unified_memory=True)
    host = Host(system=System(os="linux", arch="aarch64"), memory=Memory(available_bytes=40 * GIB), gpus=(gpu,))
    assert fit_header(llama_70b().header(), FitWish(), target="m", host=host, settings=SETTINGS).chosen is None


def test_unknown_memory_is_an_error_with_a_command() -> None:
    host = Host(system=System(os="linux", arch="x86_64"))
    with pytest.raises(MachineError) as caught:
        fit_header(llama_8b().header(), FitWish(), target="m", host=host, settings=SETTINGS)
    assert "--ram" in caught.value.hint


def test_only_keywords_that_llama_has_are_said() -> None:
    llama_cpp = pytest.importorskip("importlib.util").find_spec("llama_cpp")
    if llama_cpp is None or not llama_cpp.submodule_search_locations:
        pytest.skip("llama-cpp-python is not installed here")
    source = (Path(llama_cpp.submodule_search_locations[0]) / "llama.py").read_text(encoding="utf-8")
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "Llama"]
    init = next(node for node in classes[0].body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    known = {argument.arg for argument in init.args.kwonlyargs}
    chosen = fitted(llama_70b(), vram=(24 * GIB, 48 * GIB), ram=64 * GIB).chosen
    assert chosen is not None
    assert set(chosen.llama_kwargs) <= known


def test_absurd_counts_in_a_header_cost_no_time() -> None:
    model = dense(
        "x", "llama", layers=2, embd=256, ff=256, heads=2, kv_heads=2, vocab=256, n_expert=4, n_expert_used=2, ff_exp=256
    )
    most = 2**31 - 1
    absurd = {
        "llama.expert_used_count": most, "llama.expert_count": most, "llama.hyper_connection.count": most,
        "llama.attention.indexer.top_k": most, "llama.ssm.conv_kernel": most, "llama.ssm.state_size": most,
    }  # fmt: skip
    data, size = header_bytes(model.metadata | absurd, model.tensors)
    shape = read_shape(read_header(BytesSource(data, size_bytes=size)))
    started = time.process_time()
    assert estimate(shape, RunSettings(n_ctx=4096), n_devices=1).host.total_bytes > 0
    assert time.process_time() - started < 1
