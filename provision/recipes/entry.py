"""The real rooms behind `up`: each wish of a recipe in the words of the room that grants it."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import replace
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


def real_rooms(settings: Settings, *, python: Path | None, reporter: Reporter) -> Rooms:
    """Rooms that act on this machine; the engine goes into the environment of `python` (default: this one)."""
    executable = python or Path(sys.executable)

    def doctor() -> Looked:
        from provision.host.doctor import diagnose
        from provision.host.probe import probe_host

        host = probe_host(settings, python=executable, reporter=reporter)
        diagnosis = diagnose(host)
        return Looked(
            host=host,
            verdict=diagnosis.verdict,
            errors=tuple(finding.summary for finding in diagnosis.findings if finding.status == "error"),
            warnings=tuple(finding.summary for finding in diagnosis.findings if finding.status == "warning"),
        )

    def install_engine(recipe: Recipe, host: Host, dry_run: bool) -> Data:
        from provision.engine.install import dry_run as plan_install
        from provision.engine.install import install
        from provision.engine.types import plan_to_data

        wish, own = _install_wish(recipe, settings, executable)
        if dry_run:
            plan, lines = plan_install(wish, host=host, settings=own)
            said = {"backend": plan.backend, "engine_version": plan.engine_version, "action": "planned"}
            return {**said, "plan": plan_to_data(plan, lines)}
        return _noted(install(wish, host=host, settings=own, reporter=reporter).to_data(), settings, executable)

    def adopt(recipe: Recipe, host: Host, wheel: Path) -> Data:
        from provision.engine.install import install, make_plan
        from provision.engine.wheelcache import cache_key
        from provision.engine.wheelstore import store_wheel

        wish, own = _install_wish(recipe, settings, executable)
        # The locked wheel is meant, not whatever else is there and works.
        wish = dataclasses.replace(wish, keep_foreign=False)
        plan = make_plan(wish, host=host, settings=own, python=str(executable))
        # Under this machine's own key, so that `install` takes it from the cache, proves it and moves it in as any other.
        store_wheel(wheel, settings.provision_home / "wheels", cache_key(plan))
        return _noted(install(wish, host=host, settings=own, reporter=reporter).to_data(), settings, executable)

    def fit_model(target: str, recipe: Recipe, host: Host, *, quant: str | None) -> Data:
        from provision.fit.service import fit
        from provision.fit.types import FitWish

        if recipe.select.file is not None and recipe.model.repo is not None:
            target = f"{target}:{recipe.select.file}"
        if settings.offline and recipe.model.repo is not None:
            # No header can be read from a server; what the cache holds is all there is to choose from.
            target = str(model_path(fetch_model(recipe, quant, False)))
            quant = parse_name(target.rsplit("/", 1)[-1]).quant
        layers = recipe.load.n_gpu_layers
        wish = FitWish(
            quant=quant,
            n_ctx=recipe.load.n_ctx,
            kv_type=recipe.load.kv_type,
            policy=recipe.select.policy,
            n_gpu_layers=layers if isinstance(layers, int) and layers >= 0 else None,
            revision=recipe.model.revision if recipe.model.repo else None,
        )
        result = fit(target, wish, host=host, settings=settings, reporter=reporter, python=executable)
        data = {**result.to_data(), "refusal": result.refusal, "way_out": result.way_out}
        if settings.offline and data["chosen"] is not None:
            data["chosen"] = {**data["chosen"], "quant": data["chosen"]["quant"] or quant}
        return data

    def fetch_model(recipe: Recipe, quant: str | None, dry_run: bool) -> Data:
        from provision.fetch.service import fetch, plan_fetch
        from provision.fetch.types import FetchWish
        from provision.models.refs import parse_ref

        assert recipe.model.repo is not None
        file = recipe.select.file
        wish = FetchWish(quant=quant if file is None else None, revision=recipe.model.revision, sources=recipe.model.sources)
        ref = replace(parse_ref(recipe.model.repo), file=file)
        if dry_run:
            return plan_fetch(ref, wish, settings=settings, reporter=reporter).to_data()
        return fetch(ref, wish, settings=settings, reporter=reporter).to_data()

    def smoke(model: Path, recipe: Recipe, llama_kwargs: Data, *, plan: Data | None) -> Data:
        from provision.smoke.service import run_smoke

        return run_smoke(
            model,
            llama_kwargs={**llama_kwargs, **({"chat_format": recipe.chat.chat_format} if recipe.chat.chat_format else {})},
            profile=recipe.verify.profile,
            require_gpu=recipe.verify.require_gpu,
            plan=plan,
            python=executable,
            settings=settings,
            reporter=reporter,
            **_questions(recipe),
        ).to_data()

    return Rooms(doctor=doctor, install=install_engine, adopt=adopt, fit=fit_model, fetch=fetch_model, smoke=smoke)


def _noted(installed: Data, settings: Settings, executable: Path) -> Data:
    """Leave a note that this environment lives from that wheel, so that `cache gc` keeps it."""
    wheel = installed.get("wheel")
    if wheel:
        note_deployment(settings, python=executable, recipe="the engine", sha256=[wheel["sha256"]])
    return installed


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
