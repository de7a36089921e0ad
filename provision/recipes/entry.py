"""The real rooms behind `up`: each wish of a recipe in the words of the room that grants it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provision.errors import UsageError
from provision.events import Reporter
from provision.host.types import Host
from provision.models.names import parse_name
from provision.recipes.rooms import Data, Looked, Rooms
from provision.recipes.schema import Recipe
from provision.recipes.up import model_path
from provision.recipes.uses import note_deployment
from provision.settings import Settings

if TYPE_CHECKING:
    from provision.engine.types import InstallWish
    from provision.fit.types import FitWish


def real_rooms(settings: Settings, *, python: Path | None, reporter: Reporter) -> Rooms:
    """Rooms that act on this machine; the engine goes into the environment of `python` (default: this one)."""
    house = _House(settings=settings, executable=python or Path(sys.executable), reporter=reporter)
    return Rooms(
        doctor=house.doctor,
        install=house.install_engine,
        adopt=house.adopt,
        fit=house.fit_model,
        fetch=house.fetch_model,
        smoke=house.smoke,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _House:
    """What every room is told besides its wish. Rooms are imported when they are entered."""

    settings: Settings
    executable: Path
    reporter: Reporter

    def doctor(self) -> Looked:
        from provision.host.doctor import diagnose
        from provision.host.probe import probe_host

        host = probe_host(self.settings, python=self.executable, reporter=self.reporter)
        diagnosis = diagnose(host)
        return Looked(
            host=host,
            verdict=diagnosis.verdict,
            errors=tuple(finding.summary for finding in diagnosis.findings if finding.status == "error"),
            warnings=tuple(finding.summary for finding in diagnosis.findings if finding.status == "warning"),
        )

    def install_engine(self, recipe: Recipe, host: Host, dry_run: bool) -> Data:
        from provision.engine.install import dry_run as plan_install
        from provision.engine.install import install
        from provision.engine.types import plan_to_data

        wish, own = _install_wish(recipe, self.settings, self.executable)
        if dry_run:
            plan, lines = plan_install(wish, host=host, settings=own)
            said = {"backend": plan.backend, "engine_version": plan.engine_version, "action": "planned"}
            return {**said, "plan": plan_to_data(plan, lines)}
        return self._noted(install(wish, host=host, settings=own, reporter=self.reporter).to_data())

    def adopt(self, recipe: Recipe, host: Host, wheel: Path, source: str) -> Data:
        from provision.engine.install import install, make_plan
        from provision.engine.wheelcache import cache_key
        from provision.engine.wheelstore import store_wheel

        wish, own = _install_wish(recipe, self.settings, self.executable)
        # The locked wheel is meant, not whatever else is there and works.
        wish = replace(wish, keep_foreign=False)
        plan = make_plan(wish, host=host, settings=own, python=str(self.executable))
        # Under this machine's own key, so that `install` takes it from the cache, proves it and moves it in as any other.
        store_wheel(wheel, self.settings.provision_home / "wheels", cache_key(plan), source=source)
        return self._noted(install(wish, host=host, settings=own, reporter=self.reporter).to_data())

    def _noted(self, installed: Data) -> Data:
        """Leave a note that this environment lives from that wheel, so that `cache gc` keeps it."""
        wheel = installed.get("wheel")
        if wheel:
            note_deployment(self.settings, python=self.executable, recipe="the engine", sha256=[wheel["sha256"]])
        return installed

    def fit_model(self, target: str, recipe: Recipe, host: Host, *, quant: str | None) -> Data:
        from provision.fit.remembered import remember
        from provision.fit.service import fit

        if recipe.select.file is not None and recipe.model.repo is not None:
            target = f"{target}:{recipe.select.file}"
        if self.settings.offline and recipe.model.repo is not None:
            # No header can be read from a server; what the cache holds is all there is to choose from.
            target = str(model_path(self.fetch_model(recipe, quant, False)))
            quant = parse_name(target.rsplit("/", 1)[-1]).quant
        wish = fit_wish(recipe, quant=quant)
        found = fit(target, wish, host=host, settings=self.settings, reporter=self.reporter, python=self.executable)
        if Path(target).is_file():
            remember(Path(target), wish, found, python=self.executable, settings=self.settings)
        data = {**found.to_data(), "refusal": found.refusal, "way_out": found.way_out}
        if self.settings.offline and data["chosen"] is not None:
            data["chosen"] = {**data["chosen"], "quant": data["chosen"]["quant"] or quant}
        return data

    def fetch_model(self, recipe: Recipe, quant: str | None, dry_run: bool) -> Data:
        from provision.fetch.service import fetch, plan_fetch
        from provision.fetch.types import FetchWish
        from provision.models.refs import parse_ref

        assert recipe.model.repo is not None
        file = recipe.select.file
        wish = FetchWish(quant=quant if file is None else None, revision=recipe.model.revision, sources=recipe.model.sources)
        ref = replace(parse_ref(recipe.model.repo), file=file)
        act = plan_fetch if dry_run else fetch
        return act(ref, wish, settings=self.settings, reporter=self.reporter).to_data()

    def smoke(self, model: Path, recipe: Recipe, llama_kwargs: Data, *, plan: Data | None) -> Data:
        from provision.smoke.service import run_smoke
        from provision.smoke.types import ChatTemplate

        return run_smoke(
            model,
            llama_kwargs=llama_kwargs,
            chat=ChatTemplate(
                template=recipe.chat.template,
                chat_format=recipe.chat.chat_format,
                template_kwargs=recipe.chat.template_kwargs,
            ),
            profile=recipe.verify.profile,
            require_gpu=recipe.verify.require_gpu,
            plan=plan,
            python=self.executable,
            settings=self.settings,
            reporter=self.reporter,
            **_questions(recipe),
        ).to_data()


def fit_wish(recipe: Recipe, *, quant: str | None) -> FitWish:
    """What a recipe asks of `fit`."""
    from provision.fit.types import FitWish

    layers = recipe.load.n_gpu_layers
    return FitWish(
        quant=quant,
        n_ctx=recipe.load.n_ctx,
        kv_type=recipe.load.kv_type,
        policy=recipe.select.policy,
        n_gpu_layers=layers if isinstance(layers, int) and layers >= 0 else None,
        revision=recipe.model.revision if recipe.model.repo else None,
    )


def _install_wish(recipe: Recipe, settings: Settings, executable: Path) -> tuple[InstallWish, Settings]:
    from provision.engine.types import InstallWish

    wish = InstallWish(
        backend=recipe.engine.backend,
        toolkit=recipe.engine.toolkit,
        engine_version=engine_version(recipe),
        python=executable,
    )
    extra = " ".join(recipe.engine.cmake_args)
    return wish, replace(settings, cmake_args=f"{settings.cmake_args} {extra}".strip()) if extra else settings


def engine_version(recipe: Recipe) -> str:
    """The llama-cpp-python a recipe asks for: `==X` exactly, `>=X` the one provision was measured with if it will do."""
    from provision.engine.types import ENGINE_VERSION

    wanted = recipe.engine.version
    if wanted is None:
        return ENGINE_VERSION
    number = wanted.lstrip("=> ")
    if not wanted.startswith(">="):
        return number
    return ENGINE_VERSION if _key(ENGINE_VERSION) >= _key(number) else number


def _key(version: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in version.split("."))
    except ValueError as error:
        raise UsageError(f"not an engine version: {version!r}", code="bad-version") from error


def _questions(recipe: Recipe) -> dict[str, Any]:
    from provision.smoke.types import Question

    asked = [
        Question(id=f"recipe-{number}", ask=question.ask, expect=question.expect)
        for number, question in enumerate(recipe.verify.questions, 1)
    ]
    return {"questions": tuple(asked)} if asked else {}
