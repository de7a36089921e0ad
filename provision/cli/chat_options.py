"""The options of `provision chat`, some of them those of `serve` too, each with its flag, its bounds and its line of help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MODEL_HELP = "A local GGUF, ORG/REPO[:QUANT|:FILE], or a recipe name."
Model = Annotated[str, typer.Argument(help=MODEL_HELP)]
Prompt = Annotated[str | None, typer.Option("--prompt", "-p", help="Ask this, print the answer, leave.")]
Input = Annotated[Path | None, typer.Option("-i", "--input", help="Go on from this transcript.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Save the conversation here after every turn.")]
History = Annotated[Path | None, typer.Option("--history", help="(or -io) Both: go on from it and save to it.")]
SaveAs = Annotated[str | None, typer.Option("--format", help="Saved as list, openai, sharegpt or llm.")]
System = Annotated[str | None, typer.Option("--system", help="System message; replaces the transcript's.")]
Think = Annotated[str, typer.Option("--think", help="Reasoning: show, fold or hide. It is never sent back.")]
Overflow = Annotated[str, typer.Option("--overflow", help="When the context is full: error, drop-oldest or grow.")]
NoStream = Annotated[bool, typer.Option("--no-stream", help="Print the answer when it is complete.")]
JsonLines = Annotated[bool, typer.Option("--json-lines", help="The answer as JSON lines while it comes.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", min=1, help="Longest answer.")]
Temperature = Annotated[float | None, typer.Option("--temperature", min=0, help="0 always takes the likeliest.")]
TopP = Annotated[float | None, typer.Option("--top-p", min=0, max=1)]
TopK = Annotated[int | None, typer.Option("--top-k", min=0)]
MinP = Annotated[float | None, typer.Option("--min-p", min=0, max=1)]
RepeatPenalty = Annotated[float | None, typer.Option("--repeat-penalty", min=0.01)]
Seed = Annotated[int | None, typer.Option("--seed", min=0, max=2**32 - 2, help="The same seed, the same answers.")]
Ctx = Annotated[int | None, typer.Option("--ctx", min=1, help="n_ctx; default: what fits.")]
NGpuLayers = Annotated[str, typer.Option("--n-gpu-layers", metavar="N|auto", help="Layers on the GPU; -1: all.")]
ChatFormat = Annotated[str | None, typer.Option("--chat-format", help="A named format, for example chatml.")]
Template = Annotated[Path | None, typer.Option("--template", help="A Jinja file instead of the model's template.")]
Smoke = Annotated[bool, typer.Option("--smoke", help="Check the deployment and give a verdict.")]
Profile = Annotated[str, typer.Option("--profile", help="How thoroughly --smoke checks: quick, full or deep.")]
RequireGpu = Annotated[bool, typer.Option("--require-gpu", help="--smoke fails when no layer is on a GPU.")]
Golden = Annotated[Path | None, typer.Option("--golden", help="--smoke compares with this fingerprint.")]
SaveGolden = Annotated[Path | None, typer.Option("--save-golden", help="--smoke stores its fingerprint here.")]
Python = Annotated[Path | None, typer.Option("--python", help="Python whose environment holds the engine.")]
Offline = Annotated[bool, typer.Option("--offline", help="Fetch nothing.")]
