"""`provision sync`: make this machine equal to a lock, then prove that it is."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provision.errors import BuildError, DoesNotFitError, IntegrityError, MachineError, NotFoundError, ProvisionError
from provision.events import Note, Reporter
from provision.host.types import Host
from provision.recipes.likeness import compare_smoke
from provision.recipes.load import parse_recipe
from provision.recipes.lockfile import Lock, LockedHardware, differences, refuse_differences
from provision.recipes.locking import hardware_of
from provision.recipes.observe import hash_files, model_files, observed, unlinked_libraries
from provision.recipes.pins import ENGINE_PACKAGE, Installed, Origin, engine_origin, installed_packages
from provision.recipes.pip_install import damaged_wheel, find_wheel, install_pinned, install_wheels
from provision.recipes.rooms import Data, Rooms
from provision.recipes.schema import Recipe
from provision.recipes.sequence import Outcome, Step, StepRecord, walk
from provision.recipes.target import with_load
from provision.recipes.targets import why_unsuited
from provision.recipes.up import smoke_error, verdict_line
from provision.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncReport:
    """How a sync or a check ended. `differences` are the fields that differ from the lock."""

    recipe: str
    model: str
    """What to type after `provision chat`."""
    records: tuple[StepRecord, ...]
    differences: tuple[str, ...]
    tree_sha256: str | None
    smoke: Data | None
    error: ProvisionError | None

    def to_data(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe,
            "model": self.model,
            "steps": [record.to_data() for record in self.records],
            "differences": list(self.differences),
            "tree_sha256": self.tree_sha256,
            "verdict": self.smoke["verdict"] if self.smoke else None,
            "answer": self.smoke.get("answer") if self.smoke else None,
            "smoke": dict(self.smoke) if self.smoke else None,
        }


@dataclass(slots=True, kw_only=True)
class Deployment:
    """One lock on one machine. `links`: a folder of wheels that replaces the package index."""

    lock: Lock
    folder: Path
    """Where the lock lies; local models are looked for beside it."""
    python: Path
    settings: Settings
    rooms: Rooms
    reporter: Reporter
    frozen: bool = False
    links: Path | None = None
    gpu_check: bool = True
    """False: nothing is run on a GPU, and the smoke test is left to the machine that has one."""
    host: Host | None = None
    looked_at: LockedHardware | None = None
    """Set by `check` alone: `sync` may go on with a warning on a machine of another class."""
    found: tuple[str, ...] = ()
    smoke: Data | None = None
    tree: str | None = None
    recipe: Recipe = field(init=False)

    def __post_init__(self) -> None:
        self.recipe = parse_recipe(tomllib.loads(self.lock.recipe.toml), source="the recipe inside the lock")

    def sync(self) -> SyncReport:
        """Install what differs, then check everything."""
        steps = [
            Step(name="doctor", title="doctor: is this the kind of machine the lock was made for?", run=self._doctor),
            Step(name="packages", title="packages: what the engine needs, by hash", run=self._packages),
            Step(name="engine", title="engine: the locked build of llama-cpp-python", run=self._engine),
            Step(name="model", title="model: the locked bytes", run=self._model),
        ]
        return self._walk([*steps, *self._proof()])

    def check(self) -> SyncReport:
        """Change nothing, compare everything."""
        look = Step(name="doctor", title="doctor: what kind of machine this is", run=self._look)
        return self._walk([look, *self._proof()])

    def _proof(self) -> list[Step]:
        compare = Step(name="compare", title="compare: every locked hash against what is here", run=self._compare)
        if not self.gpu_check:
            return [compare, Step(name="libraries", title="libraries: does the engine find all it needs?", run=self._linked)]
        title = "smoke: does it answer right?" if self._unproven else "smoke: does it still answer the same?"
        return [compare, Step(name="smoke", title=title, run=self._smoke)]

    def _walk(self, steps: Sequence[Step]) -> SyncReport:
        walked = walk(steps, reporter=self.reporter)
        return SyncReport(
            recipe=self.lock.recipe.name,
            model=self._model_name(),
            records=walked.records,
            differences=self.found,
            tree_sha256=self.tree,
            smoke=self.smoke,
            error=walked.error,
        )

    def _look(self) -> Outcome:
        self.host = self.rooms.doctor().host
        self.looked_at = hardware_of(self.host, self.lock.engine.backend)
        return Outcome(status="done", summary=self.looked_at.name)

    def _doctor(self) -> Outcome:
        self.host = self.rooms.doctor().host
        python, wanted = self._origin().python, self.lock.hardware.python
        if wanted is not None and python != wanted:
            raise MachineError(
                f"hardware.python: the lock is for Python {wanted}, {self.python} is {python}",
                code="other-python",
                hint=f"python{wanted} -m venv ENV, then: provision sync provision.lock --python ENV/bin/python",
            )
        hardware = hardware_of(self.host, self.lock.engine.backend)
        here, locked = hardware.name, self.lock.hardware.name
        if here == locked:
            return Outcome(status="done", summary=here)
        if self._unproven:
            return self._suited(hardware)
        if here.split("-")[:2] != locked.split("-")[:2] or self.frozen:
            raise MachineError(
                f"hardware.name: the lock is for {locked}, this machine is {here}",
                code="other-hardware",
                hint=f"make a lock on a machine like this one: provision up {self.lock.recipe.name}",
            )
        self.reporter(Note(level="warning", message=f"the lock was proven on {locked}, this machine is {here}"))
        return Outcome(status="done", summary=f"{here}, not the locked {locked}")

    def _model_name(self) -> str:
        model = self.lock.model
        if model.source == "package":
            return "demo"
        if model.repo is not None:
            return f"{model.repo}:{model.quant}" if model.quant else model.repo
        return str(self._files()[0][1])

    @property
    def _unproven(self) -> bool:
        """The lock was made for another kind of machine than the one that made it: this one proves it."""
        return self.lock.smoke.verdict == "unproven"

    def _suited(self, here: LockedHardware) -> Outcome:
        unsuited = why_unsuited(self.lock.hardware, here)
        if unsuited is not None and self.gpu_check:
            raise MachineError(
                f"hardware.name: the engine does not suit this machine: {unsuited}",
                code="other-hardware",
                hint="provision doctor; for an image without the GPU: --no-gpu-check",
            )
        return Outcome(status="done", summary=f"{here.name}: {unsuited}, left unchecked" if unsuited else here.name)

    def _origin(self) -> Origin:
        return engine_origin(self.python, env=self.settings.environ, home=self.settings.provision_home)

    def _installed(self) -> dict[str, Installed]:
        try:
            return {one.name: one for one in installed_packages(self.python, env=self.settings.environ)}
        except NotFoundError:
            return {}

    def _engine(self) -> Outcome:
        locked = self.lock.engine
        here = self._installed().get(ENGINE_PACKAGE)
        if here is not None and here.files_sha256 == locked.files_sha256:
            return Outcome(status="kept", summary=f"llama-cpp-python {locked.version}, the locked bytes")
        folders = self._wheel_folders()
        wheel = find_wheel(locked.wheel, folders) if locked.wheel else None
        if wheel is not None:
            self._place_engine(wheel)
            return Outcome(status="done", summary=f"{wheel.name}, the locked bytes")
        self._refuse_another_wheel(folders)
        assert self.host is not None
        built = self.rooms.install(self._engine_recipe(), self.host, False)
        return Outcome(
            status="done", summary=f"llama-cpp-python {built['engine_version']} {built['action']} here, not the locked wheel"
        )

    def _wheel_folders(self) -> list[Path]:
        """Where the locked wheel may lie: in the bundle, in the wheel cache, beside the lock."""
        known = (self.links, self.settings.provision_home / "wheels", self.folder)
        return [folder for folder in known if folder is not None and folder.is_dir()]

    def _refuse_another_wheel(self, folders: Sequence[Path]) -> None:
        """Frozen takes nothing but the locked bytes: IntegrityError for a damaged wheel, NotFoundError for none."""
        wheel = self.lock.engine.wheel
        damaged = damaged_wheel(wheel, folders) if wheel is not None else None
        if damaged is not None and wheel is not None:
            said = f"engine.wheel.sha256: {damaged} is not the locked wheel ({wheel.sha256[:16]}...)"
            if self.frozen:
                raise IntegrityError(said, code="locked-wheel-damaged", hint=self._bring_wheel())
            self.reporter(Note(level="warning", message=f"{said}; building it anew"))
        if self.frozen and wheel is None:
            raise IntegrityError(
                "engine.wheel: the lock names none, because provision did not install the engine it was made with",
                code="lock-incomplete",
                hint=f"where it was made: provision install --no-cache, then: provision lock {self.lock.recipe.name}",
            )
        if self.frozen:
            locked = self.lock.engine
            raise NotFoundError(
                f"engine.wheel: the locked wheel of llama-cpp-python {locked.version} ({locked.backend}) is not here",
                code="locked-wheel-missing",
                hint=self._bring_wheel(),
            )

    def _bring_wheel(self) -> str:
        wheel = self.lock.engine.wheel
        copy = f"copy {wheel.filename} from the first machine's wheel cache to {self.folder}, or " if wheel else ""
        return f"{copy}bring a bundle: provision bundle create provision.lock --output FOLDER"

    def _engine_recipe(self) -> Recipe:
        # The recipe's own cmake_args stay: `up` of this recipe must find what is placed here under the same key.
        locked = self.lock.engine
        toolkit = locked.toolkit.partition(" ")[0] if locked.toolkit else self.recipe.engine.toolkit
        wanted = {"version": f"=={locked.version}", "backend": locked.backend, "toolkit": toolkit}
        return self.recipe.model_copy(update={"engine": self.recipe.engine.model_copy(update=wanted)})

    def _place_engine(self, wheel: Path) -> None:
        """Through the engine room, which proves it aside and moves it in by renames, so that `up` keeps it afterwards."""
        assert self.host is not None
        if not self.gpu_check:
            # What cannot be run cannot be proven aside first; `_linked` reads the files instead.
            install_wheels(self.python, [wheel], env=self.settings.environ, reporter=self.reporter)
            return
        sdist = self.lock.engine.sdist
        source = f"{sdist.filename} sha256 {sdist.sha256}" if sdist else ""
        try:
            self.rooms.adopt(self._engine_recipe(), self.host, wheel, source)
        except MachineError as error:
            # No plan can be made here (no compiler, say); the locked wheel needs none.
            self.reporter(Note(level="info", message=f"{error.message}; installing the locked wheel as it is"))
        here = self._installed().get(ENGINE_PACKAGE)
        if here is None or here.files_sha256 != self.lock.engine.files_sha256:
            # Another build for the very same plan was here and the engine room kept it.
            install_wheels(self.python, [wheel], env=self.settings.environ, reporter=self.reporter)

    def _packages(self) -> Outcome:
        here = self._installed()
        wrong = [
            package
            for package in self.lock.packages
            if package.name not in here or here[package.name].files_sha256 != package.files_sha256
        ]
        if not wrong:
            return Outcome(status="kept", summary=f"{len(self.lock.packages)} packages as locked")
        unpinned = [package.name for package in wrong if package.wheel_sha256 is None]
        if unpinned and self.frozen:
            raise IntegrityError(f"packages: the lock has no hash for {unpinned[0]}", code="lock-incomplete", hint="lock again")
        install_pinned(self.python, wrong, links=self.links, env=self.settings.environ, reporter=self.reporter)
        return Outcome(status="done", summary=", ".join(f"{package.name} {package.version}" for package in wrong))

    def _model(self) -> Outcome:
        model = self.lock.model
        if self._model_is_here():
            return Outcome(status="kept", summary=f"{len(model.files)} file(s) as locked")
        if model.repo is None or model.commit is None:
            raise IntegrityError(
                f"model.files[0]: {model.files[0].path} with the locked sha256 is not on this machine",
                code="model-differs",
                hint="copy it beside the lock, or bring it in a bundle",
            )
        origin = self.recipe.model.model_copy(update={"revision": model.commit})
        self.rooms.fetch(self.recipe.model_copy(update={"model": origin}), model.quant, False)
        return Outcome(status="done", summary=f"{model.repo} at {model.commit[:12]}")

    def _model_is_here(self) -> bool:
        try:
            return hash_files(self._files()) == self.lock.model.files
        except NotFoundError:
            return False

    def _files(self) -> list[tuple[str, Path]]:
        return model_files(self.lock.model, settings=self.settings, folder=self.folder)

    def _compare(self) -> Outcome:
        packages = installed_packages(self.python, env=self.settings.environ)
        origin = self._origin()
        files = hash_files(self._files())
        here = observed(
            self.lock, packages=packages, files=files, origin=origin, hardware=None if self._unproven else self.looked_at
        )
        self.tree = here["tree_sha256"]
        self.found = differences(self.lock.to_data(), here)
        refuse_differences(self.found, what="this machine", hint=self._way_out())
        return Outcome(status="done", summary=f"tree {self.lock.tree_sha256[:16]}")

    def _way_out(self) -> str:
        if self.looked_at is not None:
            return "provision sync provision.lock"
        if any(line.startswith("engine.") for line in self.found):
            # A build is not the same bytes twice, so syncing again would not help.
            return self._bring_wheel()
        return f"write down what runs here instead: provision lock {self.lock.recipe.name}"

    def _linked(self) -> Outcome:
        """Without a GPU: every library the engine needs is found, but for the driver's own."""
        here = self._installed()[ENGINE_PACKAGE]
        missing = unlinked_libraries(self.python, env=self.settings.environ)
        if missing:
            raise BuildError(
                f"libraries the engine {here.version} needs are not found: {', '.join(missing)}",
                code="library-missing",
                hint="provision doctor",
            )
        return Outcome(status="done", summary="every library is found; the smoke test waits for the GPU")

    def _smoke(self) -> Outcome:
        path = self._files()[0][1]
        recipe, load, plan = self._how_to_load(path)
        self.smoke = self.rooms.smoke(path, recipe, load, plan=plan)
        if self.smoke["verdict"] == "fail":
            raise smoke_error(self.smoke)
        if self._unproven:
            return Outcome(status="done", summary=verdict_line(self.lock.recipe.name, self.lock.model.quant, self.smoke))
        likeness = compare_smoke(self.lock.smoke, self.smoke)
        for note in likeness.notes:
            self.reporter(Note(level="warning", message=note))
        self.found = likeness.differences
        refuse_differences(self.found, what="the model", hint=f"provision chat {shlex.quote(str(path))} --smoke --profile deep")
        return Outcome(status="done", summary=verdict_line(self.lock.recipe.name, self.lock.model.quant, self.smoke))

    def _how_to_load(self, path: Path) -> tuple[Recipe, Data, Data | None]:
        """As locked; for a lock nobody proved yet, as `fit` chooses here, and on the GPU when the engine is for one."""
        if not self._unproven:
            return self.recipe, self.lock.load, None
        host = self.host or self.rooms.doctor().host
        chosen = self.rooms.fit(str(path), self.recipe, host, quant=None)["chosen"]
        if chosen is None:
            raise DoesNotFitError(
                f"{self.recipe.title} does not fit this machine", code="does-not-fit", hint=f"provision fit {path} --explain"
            )
        needs_gpu = self.recipe.verify.require_gpu or self.lock.engine.backend != "cpu"
        verify = self.recipe.verify.model_copy(update={"require_gpu": needs_gpu})
        recipe = self.recipe.model_copy(update={"verify": verify})
        return recipe, with_load(chosen["llama_kwargs"], recipe), chosen
