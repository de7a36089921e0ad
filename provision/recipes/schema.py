"""What a recipe may say, as pydantic models: one TOML file that names a model and everything needed to run and check it.

What a recipe leaves out is decided on the machine by `fit`. Sizes are text such as "6GiB" (provision.units).
The JSON Schema for editors comes from these classes.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from provision.errors import UsageError
from provision.units import parse_size

SCHEMA_VERSION = 1


def _size(text: str) -> str:
    try:
        parse_size(text)
    except UsageError as error:
        raise ValueError(f"{error.message}; {error.hint}") from error
    return text


def _version_bound(text: str) -> str:
    if not re.fullmatch(r"(>=|==)?\s*\d+(\.\d+){1,3}", text):
        raise ValueError("write a version such as 0.3.36, ==0.3.36 or >=0.3.36")
    return text


Size = Annotated[str, AfterValidator(_size), Field(examples=["6GiB"])]
RepoId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$", examples=["Qwen/Qwen3-8B-GGUF"])]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", examples=["qwen3-8b"])]
Quant = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$", examples=["Q4_K_M"])]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# One line of text: what lands in comments, INI values and unit files of other tools must not be able to start a new line there.
Line = Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f]+$", examples=["one line of text"])]
Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Part(BaseModel):
    """A table of a recipe: unknown keys are errors, values are never converted, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Model(Part):
    """Where the GGUF comes from: exactly one of `repo`, `path` and `packaged`."""

    repo: RepoId | None = None
    """Hub repository that holds GGUF files."""
    path: Line | None = None
    """A GGUF on this machine, relative to the recipe's own folder."""
    packaged: Literal["demo"] | None = None
    """A model that ships inside the package."""
    revision: Line = "main"
    sources: Annotated[tuple[Literal["hf", "modelscope"], ...], Field(strict=False, min_length=1)] = ("hf",)
    modelscope_repo: RepoId | None = None
    """The id on ModelScope when it differs."""
    seen: Literal["listing", "mention", "none"] = "none"
    """Where the file names of `variants` come from: a listing or maintained model list, links in public projects, nowhere."""
    seen_in: Line | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        named = [key for key in ("repo", "path", "packaged") if getattr(self, key) is not None]
        if len(named) != 1:
            said = f"this one has {' and '.join(named)}" if named else "this one has none"
            raise ValueError(f"a model needs exactly one of repo, path and packaged; {said}")
        return self


class Needs(Part):
    """The least a machine must have for a variant. What is not said is not asked."""

    vram: Size | None = None
    ram: Size | None = None


class Variant(Part):
    """One quant of the model. A recipe with variants is limited to them; one without takes any quant of the repository."""

    quant: Quant
    files: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """File names as the repository spells them, all shards of a split; checked against known listings."""
    needs: Needs = Needs()


class Select(Part):
    """How one variant is chosen. `quant` fixes it; otherwise `fit` chooses by `policy` among those that fit this machine."""

    quant: Quant | None = None
    file: Line | None = None
    """A file of the repository, or a pattern that names one model, where labels do not tell them apart: `*Q4_K_M*.gguf`."""
    policy: Literal["quality", "balanced", "speed"] = "balanced"
    min_ctx: Positive | None = None
    """A variant that cannot hold this much context is passed over."""

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if self.quant is not None and self.file is not None:
            raise ValueError("give quant or file, not both")
        return self


class Engine(Part):
    """llama-cpp-python: which version, for which backend, built how."""

    version: Annotated[str, AfterValidator(_version_bound)] | None = None
    backend: Literal["auto", "cpu", "cuda", "vulkan", "metal", "rocm"] = "auto"
    toolkit: Line = "auto"
    cmake_args: Annotated[tuple[str, ...], Field(strict=False)] = ()


class Load(Part):
    """Parameters of `llama_cpp.Llama`; "auto" and unset are decided by `fit`."""

    n_ctx: Positive | None = None
    n_gpu_layers: Literal["auto"] | Annotated[int, Field(ge=-1)] = "auto"
    kv_type: Literal["f16", "q8_0", "q4_0"] | None = None
    flash_attn: bool | None = None
    n_batch: Positive | None = None
    n_ubatch: Positive | None = None
    n_threads: Positive | None = None
    use_mmap: bool | None = None
    use_mlock: bool | None = None


class Reasoning(Part):
    """The marks around a model's thinking, so that it can be folded away and kept out of the history."""

    open: str = Field(min_length=1)
    close: str = Field(min_length=1)


class Chat(Part):
    """How turns become a prompt. Without `template` and `chat_format` the template inside the GGUF is used."""

    template: str | None = None
    """Jinja text that replaces the template of the GGUF."""
    chat_format: str | None = None
    """A named format of llama-cpp-python, such as `chatml`."""
    system: str | None = None
    reasoning: Reasoning | None = None
    template_kwargs: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Extra variables for the template, such as enable_thinking = false."""

    @model_validator(mode="after")
    def _one_template(self) -> Self:
        if self.template is not None and self.chat_format is not None:
            raise ValueError("give template or chat_format, not both")
        return self


class Sampling(Part):
    """Sampling defaults, by the names of `create_chat_completion`."""

    temperature: Annotated[float, Field(ge=0)] | None = None
    top_p: Fraction | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    min_p: Fraction | None = None
    repeat_penalty: Annotated[float, Field(gt=0)] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    max_tokens: Positive | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    stop: Annotated[tuple[str, ...], Field(strict=False)] = ()


class Serve(Part):
    """Defaults of `provision serve`."""

    host: Line = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    alias: Line | None = None


class Question(Part):
    """A question with answers that count as right: any of `expect` must appear in what the model says."""

    ask: str = Field(min_length=1)
    expect: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False, min_length=1)]


class Verify(Part):
    """How the deployment proves itself."""

    profile: Literal["quick", "full", "deep"] = "quick"
    require_gpu: bool = False
    questions: Annotated[tuple[Question, ...], Field(strict=False)] = ()


class Recipe(Part):
    """One recipe, with everything it extends already merged in."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    name: Name
    title: Line
    description: str = ""
    license: Line | None = None
    """SPDX id or the licence's own name; shown before anything is downloaded."""
    extends: Name | None = None
    model: Model
    variants: Annotated[tuple[Variant, ...], Field(strict=False)] = ()
    select: Select = Select()
    engine: Engine = Engine()
    load: Load = Load()
    chat: Chat = Chat()
    sampling: Sampling = Sampling()
    serve: Serve = Serve()
    verify: Verify = Verify()

    @model_validator(mode="after")
    def _quants_agree(self) -> Self:
        quants = [variant.quant for variant in self.variants]
        twice = sorted({quant for quant in quants if quants.count(quant) > 1})
        if twice:
            raise ValueError(f"variants name {', '.join(twice)} more than once")
        if self.select.quant and quants and self.select.quant not in quants:
            raise ValueError(f"select.quant {self.select.quant} is not among the variants: {', '.join(quants)}")
        return self

    def to_data(self) -> dict[str, Any]:
        """Plain JSON values under the names of the file, defaults left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a recipe file, for editors and other tools."""
    schema = Recipe.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "provision recipe"}
