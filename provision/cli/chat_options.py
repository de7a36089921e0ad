"""The options of `provision chat`, each with its flag, its bounds and its line of help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ModelArgument = Annotated[str, typer.Argument(help="A local GGUF, ORG/REPO[:QUANT|:FILE], or a recipe name.")]
PromptOption = Annotated[str | None, typer.Option("--prompt", "-p", help="Ask this, print the answer, leave.")]
InputOption = Annotated[Path | None, typer.Option("-i", "--input", help="Go on from this transcript.")]
OutputOption = Annotated[Path | None, typer.Option("-o", "--output", help="Save the conversation here after every turn.")]
HistoryOption = Annotated[Path | None, typer.Option("--history", help="(or -io) Both: go on from it and save to it.")]
SaveAsOption = Annotated[str | None, typer.Option("--format", help="Saved as list, openai, sharegpt or llm.")]
SystemOption = Annotated[str | None, typer.Option("--system", help="System message; replaces the transcript's.")]
ThinkOption = Annotated[str, typer.Option("--think", help="Reasoning: show, fold or hide. It is never sent back.")]
OverflowOption = Annotated[str, typer.Option("--overflow", help="When the context is full: error, drop-oldest or grow.")]
NoStreamOption = Annotated[bool, typer.Option("--no-stream", help="Print the answer when it is complete.")]
JsonLinesOption = Annotated[bool, typer.Option("--json-lines", help="The answer as JSON lines while it comes.")]
MaxTokensOption = Annotated[int | None, typer.Option("--max-tokens", min=1, help="Longest answer.")]
TemperatureOption = Annotated[float | None, typer.Option("--temperature", min=0, help="0 always takes the likeliest.")]
TopPOption = Annotated[float | None, typer.Option("--top-p", min=0, max=1)]
TopKOption = Annotated[int | None, typer.Option("--top-k", min=0)]
MinPOption = Annotated[float | None, typer.Option("--min-p", min=0, max=1)]
RepeatPenaltyOption = Annotated[float | None, typer.Option("--repeat-penalty", min=0.01)]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, max=2**32 - 2, help="The same seed, the same answers.")]
CtxOption = Annotated[int | None, typer.Option("--ctx", min=1, help="n_ctx; default: what fits.")]
NGpuLayersOption = Annotated[str, typer.Option("--n-gpu-layers", metavar="N|auto", help="Layers on the GPU; -1: all.")]
ChatFormatOption = Annotated[str | None, typer.Option("--chat-format", help="A named format, for example chatml.")]
TemplateOption = Annotated[Path | None, typer.Option("--template", help="A Jinja file instead of the model's template.")]
SmokeOption = Annotated[bool, typer.Option("--smoke", help="Check the deployment and give a verdict.")]
ProfileOption = Annotated[str, typer.Option("--profile", help="How thoroughly --smoke checks: quick, full or deep.")]
RequireGpuOption = Annotated[bool, typer.Option("--require-gpu", help="--smoke fails when no layer is on a GPU.")]
GoldenOption = Annotated[Path | None, typer.Option("--golden", help="--smoke compares with this fingerprint.")]
SaveGoldenOption = Annotated[Path | None, typer.Option("--save-golden", help="--smoke stores its fingerprint here.")]
PythonOption = Annotated[Path | None, typer.Option("--python", help="Python whose environment holds the engine.")]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Fetch nothing.")]
