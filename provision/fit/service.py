"""What `provision fit` does: target to header, header to estimates, estimates to a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from provision.errors import NotFoundError
from provision.events import Progress, ProgressEnded, Reporter, silent
from provision.fit import bandwidth, measured, speed
from provision.fit.bandwidth import Bandwidth
from provision.fit.budgets import gpus_without_engine, read_budgets
from provision.fit.measuring import plan_model
from provision.fit.plan import Plan, Refusal
from provision.fit.projector import find_projector, no_projector, read_projector
from provision.fit.recommend import recommend
from provision.fit.repository import candidates_of, scaled
from provision.fit.targets import Repository, file_names, find_local, open_repository, read_set, read_url
from provision.fit.types import Budgets, Candidate, Chosen, FitResult, FitWish
from provision.gguf.header import GgufHeader, joined
from provision.gguf.reader import read_header
from provision.gguf.shape import ModelShape, read_shape
from provision.gguf.source import FileSource
from provision.host.types import Host
from provision.models.names import parse_name
from provision.models.quality import judge_quality
from provision.models.quants import select, select_mmproj
from provision.models.refs import is_ref
from provision.models.types import ModelSet
from provision.settings import Settings
from provision.units import format_bytes

_MAX_REVISIONS = 6
"""How often a recommendation may be taken back because its own header says more than its size did."""


def fit(
    target: str,
    wish: FitWish,
    *,
    host: Host | None,
    settings: Settings,
    reporter: Reporter = silent,
    python: Path | None = None,
) -> FitResult:
    """Fit a local file, a URL of one, or `org/repo[:QUANT]`.

    `host` None is allowed when the wish names both memories. `python` runs the engine's probe; None leaves the engine out.
    Raises what the room of each step raises: GgufError for a damaged header, NotFoundError, AccessError, TransferError.
    """
    job = _Job(wish=wish, host=host, settings=settings, reporter=reporter, python=python)
    local = find_local(target)
    if local is not None:
        headers = local.headers()
        quant = parse_name(local.paths[0].name).quant
        job = job.beside(local.paths[0])
        return job.single(headers, target=target, files=file_names(local.paths), path=local.paths[0], quant=quant)
    if target.startswith(("http://", "https://")):
        name = target.partition("?")[0].rpartition("/")[2]
        header = read_url(target, settings=settings)
        job = job.beside(None)
        return job.single((header,), target=target, files=(name,), path=None, quant=parse_name(name).quant)
    if not is_ref(target) and (
        target.endswith(".gguf") or target.startswith(("/", "./", "../", "~")) or target.count("/") != 1
    ):
        raise NotFoundError(
            f"no such file: {target}",
            code="model-not-found",
            hint="give the path of a GGUF file that is here, or a repository: provision fit ORG/REPO",
        )
    return job.repository(target)


def fit_header(
    header: GgufHeader,
    wish: FitWish,
    *,
    target: str,
    host: Host | None,
    settings: Settings,
    files: tuple[str, ...] = (),
    quant: str | None = None,
    python: Path | None = None,
    path: Path | None = None,
) -> FitResult:
    """Fit one model whose header is at hand; `path` is the file, if it is on this disk."""
    job = _Job(wish=wish, host=host, settings=settings, reporter=silent, python=python)
    return job.single((header,), target=target, files=files, path=path, quant=quant)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    wish: FitWish
    host: Host | None
    settings: Settings
    reporter: Reporter
    python: Path | None
    said: tuple[str, ...] = ()
    """About the projector; first among the reasons."""

    def beside(self, model: Path | None) -> _Job:
        """This job with the projector that was asked for, or with a word on the one that lies beside a local `model`."""
        found = find_projector(model) if model is not None else None
        if self.wish.mmproj is None:
            return self._uncounted(found.name if found else None)
        path = Path(self.wish.mmproj).expanduser() if self.wish.mmproj != "auto" else found
        if path is None or not path.is_file():
            raise no_projector(self.wish.mmproj)
        return self._counting(read_header(FileSource(path)), path.name)

    def in_repository(self, repository: Repository, base: ModelSet) -> _Job:
        """The same for a repository: `auto` is the projector that belongs to `base`."""
        if self.wish.mmproj not in (None, "auto"):
            return self.beside(None)
        found = select_mmproj(repository.sets, base)
        if self.wish.mmproj is None:
            return self._uncounted(found.files[0].path if found else None)
        if found is None:
            raise no_projector("auto")
        self._say("reading the header of", found.files[0].path)
        return self._counting(read_set(repository, found, settings=self.settings)[0], found.files[0].path)

    def _uncounted(self, name: str | None) -> _Job:
        if name is None:
            return self
        return replace(self, said=(f"images and audio: the projector {name} is not counted; --mmproj auto counts it",))

    def _counting(self, header: GgufHeader, name: str) -> _Job:
        python = None if self.wish.vram or self.wish.estimator == "analytic" else self.python
        found = read_projector(header, name, python=python, env=self.settings.environ)
        return replace(self, wish=replace(self.wish, mmproj_bytes=found.size_bytes), said=(found.note,))

    def single(
        self, headers: Sequence[GgufHeader], *, target: str, files: tuple[str, ...], path: Path | None, quant: str | None = None
    ) -> FitResult:
        shape = read_shape(joined(headers))
        budgets = self._budgets()
        outcome, notes = self._plan(headers, shape, budgets, path)
        quality = judge_quality(
            quant=quant, model=Path(target).stem, uploader="", bits_per_weight=bits(shape), imatrix=headers[0].imatrix
        )
        candidate = Candidate(
            quant=quant,
            files=files,
            size_bytes=shape.file_bytes,
            bits_per_weight=bits(shape),
            quality=quality,
            verdict="too-big" if isinstance(outcome, Refusal) else ("fits" if outcome.whole else "partly"),
            reason=outcome.reason if isinstance(outcome, Refusal) else outcome.reasons[-1],
        )
        return self._result(target, shape, (candidate,), outcome, budgets, quant, notes)

    def repository(self, target: str) -> FitResult:
        """List, read one header for all quants, recommend, then read the header of what was recommended."""
        self._say("listing", target)
        repository = open_repository(target, self.wish, settings=self.settings, reporter=self.reporter)
        wanted = self.wish.quant or repository.ref.quant
        named = repository.ref.file if self.wish.quant is None else None
        only = select(repository.sets, wanted, repo_id=repository.ref.repo_id, file=named) if wanted or named else None
        usable = repository.usable()
        base = only or min(usable, key=lambda one: one.size_bytes or 0, default=None) or select(repository.sets, None)
        return self.in_repository(repository, base)._of(
            target, repository, base, only, "the file asked for" if named else "the quant asked for"
        )

    def _of(self, target: str, repository: Repository, base: ModelSet, only: ModelSet | None, asked: str) -> FitResult:
        self._say("reading the header of", base.files[0].path)
        headers = read_set(repository, base, settings=self.settings)
        shape = read_shape(joined(headers))
        budgets = self._budgets()
        usable = repository.usable()
        sets = usable if base in usable else (*usable, base)
        candidates = candidates_of(
            sets, base, shape, ref=repository.ref, imatrix=headers[0].imatrix, wish=self.wish, budgets=budgets
        )
        self.reporter(ProgressEnded(task="fit"))
        if only is not None:
            outcome, notes = self._plan(headers, shape, budgets, None)
            paths = tuple(file.path for file in base.files)
            candidates = tuple(_judged(one, outcome) if one.files == paths else one for one in candidates)
            return self._result(target, shape, candidates, outcome, budgets, base.quant, (*notes, asked))
        return self._recommended(target, repository, sets, base, headers, candidates, budgets)

    def _recommended(
        self,
        target: str,
        repository: Repository,
        sets: Sequence[ModelSet],
        base: ModelSet,
        base_headers: Sequence[GgufHeader],
        candidates: tuple[Candidate, ...],
        budgets: Budgets,
    ) -> FitResult:
        """Confirm the recommendation by its own header; what its size alone promised too much for is taken back."""
        read = {base.quant: base_headers}
        shape = read_shape(joined(base_headers))
        for _ in range(_MAX_REVISIONS):
            best = recommend(candidates, self.wish.policy)
            if best is None:
                break
            chosen, why = best
            one = next(one for one in sets if one.quant == chosen.quant)
            if chosen.quant not in read:
                self._say("reading the header of", one.files[0].path)
                read[chosen.quant] = read_set(repository, one, settings=self.settings)
            headers = read[chosen.quant]
            own = read_shape(joined(headers))
            outcome, notes = self._plan(headers, own, budgets, None)
            self.reporter(ProgressEnded(task="fit"))
            judged = _judged(chosen, outcome)
            candidates = tuple(judged if other.quant == chosen.quant else other for other in candidates)
            if isinstance(outcome, Plan) and judged.verdict == chosen.verdict:
                notes = (f"{chosen.quant}: {why} (policy {self.wish.policy})", *notes)
                return self._result(target, own, candidates, outcome, budgets, chosen.quant, notes)
        smallest = min(candidates, key=lambda one: one.size_bytes)
        own = scaled(shape, base, next(one for one in sets if one.quant == smallest.quant))
        refusal, notes = self._plan(read.get(smallest.quant, base_headers), own, budgets, None, formula=True)
        return self._result(target, shape, candidates, refusal, budgets, None, notes)

    def _budgets(self) -> Budgets:
        """What may be used of each memory, with what was measured on this machine where that is more than assumed."""
        return measured.with_overheads(read_budgets(self.host, self.wish), self.settings.provision_home)

    def _plan(
        self,
        headers: Sequence[GgufHeader],
        shape: ModelShape,
        budgets: Budgets,
        path: Path | None,
        *,
        formula: bool = False,
    ) -> tuple[Plan | Refusal, tuple[str, ...]]:
        wish = replace(self.wish, estimator="analytic") if formula else self.wish
        return plan_model(headers, shape, wish, budgets, python=self.python, settings=self.settings, path=path)

    def _result(
        self,
        target: str,
        shape: ModelShape,
        candidates: tuple[Candidate, ...],
        outcome: Plan | Refusal,
        budgets: Budgets,
        quant: str | None,
        notes: tuple[str, ...],
    ) -> FitResult:
        common = {
            "target": target,
            "architecture": shape.architecture,
            "n_layers": shape.n_layers,
            "n_ctx_train": shape.n_ctx_train,
            "candidates": candidates,
        }
        if isinstance(outcome, Refusal):
            return FitResult(**common, chosen=None, refusal=outcome.reason, way_out=self._way_out(target))  # type: ignore[arg-type]
        file = next((Path(one.files[0]).name for one in candidates if one.quant == quant and one.files), "")
        before = measured.said_of(
            self.settings.provision_home, file, outcome.settings, n_layers=shape.n_layers, estimate=outcome.estimate
        )
        chosen = replace(self._chosen(shape, outcome, budgets, quant, notes), measured=before)
        return FitResult(**common, chosen=chosen)  # type: ignore[arg-type]

    def _chosen(self, shape: ModelShape, plan: Plan, budgets: Budgets, quant: str | None, notes: tuple[str, ...]) -> Chosen:
        forecast = speed.forecast(shape, plan.settings, plan.estimate, self._bandwidths(shape, plan, budgets))
        unused = gpus_without_engine(self.host) if self.wish.vram is None else ()
        reasons = [
            f"{gpu.name} is not used: the installed engine was built without it; run: provision install" for gpu in unused
        ]
        reasons += [*notes, *self.said, *plan.reasons, *plan.estimate.notes, *_about(shape, plan, budgets)]
        if isinstance(forecast, str):
            reasons.append(forecast)
        return Chosen(
            quant=quant,
            settings=plan.settings,
            estimate=plan.estimate,
            budgets=budgets,
            tokens_per_s=None if isinstance(forecast, str) else forecast,
            reasons=tuple(dict.fromkeys(reasons)),
        )

    def _bandwidths(self, shape: ModelShape, plan: Plan, budgets: Budgets) -> list[Bandwidth | None]:
        """Per GPU and, last, main memory: measured before, specified, or measured now; only for this machine's memory."""
        home = self.settings.provision_home
        *sizes, rest = speed.token_bytes(shape, plan.estimate)
        found: list[Bandwidth | None] = []
        for budget, size in zip(budgets.devices, sizes, strict=True):
            card = bandwidth.specified(budget.name, budget.total_bytes)
            known = None
            if self.wish.vram is None:
                known = speed.calibrated(home, budget.name, bytes_per_token=size, card=card)
            found.append(known or (bandwidth.of_gpu(card) if card else None))
        if self.host is None:
            return [*found, None]
        known = speed.calibrated(home, budgets.host.name, bytes_per_token=rest)
        return [*found, known or bandwidth.measure_host()]

    def _way_out(self, target: str) -> str:
        wish = self.wish
        if wish.n_ctx is not None and wish.n_ctx > 4096:
            return f"ask for less context: provision fit {target} --ctx 4096"
        if wish.kv_type in (None, "f16") and wish.n_ctx is not None:
            return f"try a smaller KV cache: provision fit {target} --kv-type q8_0"
        return f"choose a smaller quant or a smaller model; what each quant lacks: provision fit {target} --explain"

    def _say(self, what: str, which: str) -> None:
        self.reporter(Progress(task="fit", label=f"{what} {which}", done=0, total=None, unit="steps"))


def bits(shape: ModelShape) -> float | None:
    """Bits of the whole file per parameter of the header; None for a model without tensors."""
    return round(8 * shape.file_bytes / shape.parameters, 3) if shape.parameters else None


def _judged(candidate: Candidate, outcome: Plan | Refusal) -> Candidate:
    if isinstance(outcome, Refusal):
        return replace(candidate, verdict="too-big", reason=outcome.reason)
    return replace(candidate, verdict="fits" if outcome.whole else "partly", reason=outcome.reasons[-1])


def _about(shape: ModelShape, plan: Plan, budgets: Budgets) -> list[str]:
    """What people should know about the plan beyond its numbers."""
    said = []
    repacked = plan.estimate.host.repacked_bytes
    if repacked:
        said.append(
            f"{format_bytes(repacked)} of the weights are repacked for this CPU; while loading, the file's own pages of them "
            "are resident too, until the kernel takes them back"
        )
    if shape.n_expert and not plan.whole and budgets.devices:
        said.append(
            "a mixture of experts: Llama() can't keep only the experts in main memory (it has no tensor_buft_overrides), so "
            "whole layers stay behind"
        )
    if shape.window:
        said.append(f"swa_full=False: windowed layers keep {shape.window} tokens; a chat whose beginning changes is read again")
    if plan.settings.n_seq_max > 1:
        said.append(
            f"memory for {plan.settings.n_seq_max} sequences; Llama() itself runs one at a time (it has no n_seq_max), "
            "n_ctx is their sum"
        )
    python_side = plan.settings.n_batch * shape.n_vocab * 4
    said.append(f"Llama() reserves {format_bytes(python_side)} more for scores, which it touches a row at a time")
    return said
