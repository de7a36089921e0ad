"""Checks a running server as its users will meet it: with the real `openai` client. Only this file imports it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from provision.errors import MachineError, UsageError
from provision.events import Progress, ProgressEnded, Reporter, silent

if TYPE_CHECKING:
    from openai import OpenAI

Status = Literal["pass", "warn", "fail", "skip"]
_QUESTION = [{"role": "user", "content": "Count from one to five."}]
_TOKENS = 24
_LOG = "look at the server's log"
_SERVE = "provision serve MODEL"
_SMOKE = "provision chat MODEL --smoke"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCheck:
    """One check, in the shape of the smoke test's."""

    id: str
    status: Status
    value: Any
    threshold: Any
    summary: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerReport:
    """All checks, and the verdict: `fail` when one failed, `warn` when one warned."""

    url: str
    model: str | None
    checks: tuple[ServerCheck, ...]

    @property
    def verdict(self) -> Literal["pass", "warn", "fail"]:
        found = {check.status for check in self.checks}
        return "fail" if "fail" in found else "warn" if "warn" in found else "pass"

    def to_data(self) -> dict[str, Any]:
        """Plain JSON values."""
        checks = [asdict(check) for check in self.checks]
        return {"url": self.url, "model": self.model, "verdict": self.verdict, "checks": checks}


class _Probe:
    """What the checks share."""

    def __init__(self, client: OpenAI, url: str, key: str | None) -> None:
        self.client, self.url, self.key = client, url, key
        self.model = ""
        self.n_ctx: int | None = None
        self.greedy: str | None = None


def check_server(url: str, *, key: str | None, timeout_s: float = 120, reporter: Reporter = silent) -> ServerReport:
    """Run every check against the server at `url` (with or without `/v1`). Raises MachineError without the openai package.

    A server that does not answer at all is a failed first check, after which the others are skipped.
    """
    try:
        import openai
    except ImportError:
        raise MachineError(
            "the openai package is not installed here", code="openai-missing", hint="python -m pip install openai"
        ) from None
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"{url!r} is not an http address", code="bad-url", hint="--test http://127.0.0.1:8000/v1")
    if "@" in url.partition("//")[2].partition("/")[0]:
        # Not repeated: it would stand in logs and reports.
        raise UsageError(
            "an address with a name or password in it is not asked", code="bad-url", hint="--test URL --api-key-file FILE"
        )
    base = url.rstrip("/")
    base = base if base.endswith("/v1") else base + "/v1"
    client = openai.OpenAI(base_url=base, api_key=key or "none", timeout=timeout_s, max_retries=0)
    probe = _Probe(client, base, key)
    checks: list[ServerCheck] = []
    try:
        for number, (check_id, what, run) in enumerate(_CHECKS):
            reporter(Progress(task="test", label=what, done=number, total=len(_CHECKS), unit="steps"))
            if checks and checks[0].status == "fail":
                checks.append(_skip(check_id, "the server does not list a model"))
                continue
            checks.append(_run(check_id, what, run, probe))
    finally:
        reporter(ProgressEnded(task="test"))
        client.close()
    return ServerReport(url=base, model=probe.model or None, checks=tuple(checks))


def _run(check_id: str, what: str, run: Callable[[str, _Probe], ServerCheck], probe: _Probe) -> ServerCheck:
    import openai

    try:
        return run(check_id, probe)
    except openai.AuthenticationError:
        return _fail(check_id, 401, None, f"{what}: the server wants a key", "give it: --api-key-file FILE")
    except openai.APIStatusError as error:
        return _fail(check_id, error.status_code, None, f"{what}: {_short(error)}", _LOG)
    except openai.APIConnectionError as error:
        why = f"{what}: no answer from {probe.url}: {_short(error.__cause__ or error)}"
        return _fail(check_id, None, None, why, "is the server running? provision serve MODEL")


def _models(check_id: str, probe: _Probe) -> ServerCheck:
    rows = list(probe.client.models.list())
    if not rows:
        return _fail(check_id, 0, 1, "the server lists no model", _LOG)
    probe.model = rows[0].id
    meta = getattr(rows[0], "meta", None)
    n_ctx = meta.get("n_ctx") if isinstance(meta, dict) else None
    probe.n_ctx = n_ctx if isinstance(n_ctx, int) and n_ctx > 0 else None
    return _pass(check_id, len(rows), 1, f"lists {', '.join(row.id for row in rows)}")


def _chat(check_id: str, probe: _Probe) -> ServerCheck:
    answer = probe.client.chat.completions.create(
        model=probe.model,
        messages=_QUESTION,
        max_tokens=_TOKENS,
        temperature=0,
        seed=1,
    )
    choice = answer.choices[0]
    probe.greedy = choice.message.content or ""
    problems = []
    if not probe.greedy.strip():
        problems.append("an empty answer")
    if choice.finish_reason not in ("stop", "length"):
        problems.append(f"finish_reason {choice.finish_reason!r}")
    if answer.usage is None or answer.usage.prompt_tokens < 1:
        problems.append("no usage")
    if problems:
        return _fail(check_id, problems, None, f"chat gives {', '.join(problems)}", _SMOKE)
    return _pass(check_id, len(probe.greedy), None, f"answers, finish_reason {choice.finish_reason}")


def _stream_text(probe: _Probe) -> tuple[str, str | None]:
    parts, finish = [], None
    stream = probe.client.chat.completions.create(
        model=probe.model,
        messages=_QUESTION,
        max_tokens=_TOKENS,
        temperature=0,
        seed=1,
        stream=True,
    )
    for chunk in stream:
        if chunk.choices:
            parts.append(chunk.choices[0].delta.content or "")
            finish = chunk.choices[0].finish_reason or finish
    return "".join(parts), finish


def _stream(check_id: str, probe: _Probe) -> ServerCheck:
    text, finish = _stream_text(probe)
    if finish is None:
        return _fail(check_id, None, "a finish_reason", "the stream was cut: it has no finish_reason", _LOG)
    if probe.greedy is None:
        return _skip(check_id, "there is no whole answer to compare with")
    if text.strip() != probe.greedy.strip():
        return _fail(
            check_id,
            text,
            probe.greedy,
            "streamed and whole answers differ under greedy sampling",
            _SMOKE,
        )
    return _pass(check_id, len(text), len(probe.greedy), "the stream says what the whole answer says")


def _two_streams(check_id: str, probe: _Probe) -> ServerCheck:
    results: dict[int, tuple[str, str | None] | Exception] = {}

    def talk(number: int) -> None:
        try:
            results[number] = _stream_text(probe)
        except Exception as error:  # noqa: BLE001 - what went wrong in a thread is the result
            results[number] = error

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(2)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = round(time.monotonic() - started, 3)
    for result in results.values():
        if isinstance(result, Exception):
            return _fail(check_id, _short(result), None, f"one of two streams broke: {_short(result)}", _LOG)
        if result[1] is None:
            return _fail(check_id, None, "a finish_reason", "a second request cuts the first one's answer", _SERVE)
    texts = {result[0].strip() for result in results.values() if not isinstance(result, Exception)}
    if len(texts) > 1:
        return _warn(
            check_id, len(texts), 1, "two streams of the same question differ under greedy sampling", "batching may do this"
        )
    return _pass(check_id, seconds, None, f"two streams at once both finish ({seconds:.1f} s)")


def _wrong_key(check_id: str, probe: _Probe) -> ServerCheck:
    import openai

    with openai.OpenAI(base_url=probe.url, api_key="wrong-" + "x" * 16, timeout=30, max_retries=0) as stranger:
        try:
            stranger.chat.completions.create(model=probe.model, messages=_QUESTION, max_tokens=1)
        except openai.AuthenticationError:
            return _pass(check_id, 401, 401, "a wrong key is refused")
    if probe.key is None:
        return _skip(check_id, "no key was given, and the server asks for none")
    return _fail(check_id, 200, 401, "a wrong key is accepted", "serve with --api-key-file FILE")


def _unknown_model(check_id: str, probe: _Probe) -> ServerCheck:
    import openai

    try:
        probe.client.chat.completions.create(model="no-such-model", messages=_QUESTION, max_tokens=1)
    except (openai.NotFoundError, openai.BadRequestError) as error:
        return _pass(check_id, error.status_code, 404, "an unknown model is refused")
    return _warn(check_id, 200, 404, "an unknown model name gets another model's answer", "ask for models by the names listed")


def _overflow(check_id: str, probe: _Probe) -> ServerCheck:
    import openai

    if probe.n_ctx is None:
        return _skip(check_id, "the server does not say how long its context is")
    long = [{"role": "user", "content": "one " * (probe.n_ctx + 64)}]
    for stream in (False, True):
        how = "streamed" if stream else "whole"
        try:
            answer = probe.client.chat.completions.create(model=probe.model, messages=long, max_tokens=1, stream=stream)
            if stream:
                list(answer)
        except openai.BadRequestError as error:
            if "context" not in _short(error).lower():
                return _warn(check_id, 400, 400, f"a {how} request that is too long fails without saying so", _LOG)
            continue
        except openai.APIError as error:
            status = getattr(error, "status_code", None)
            return _fail(check_id, status, 400, f"a {how} request that is too long ends in {_short(error)}", _SERVE)
        return _fail(check_id, 200, 400, f"a {how} request that is too long is answered as if it fitted", _SERVE)
    return _pass(check_id, 400, 400, f"a prompt longer than the context of {probe.n_ctx} is refused with its reason")


def _embeddings(check_id: str, probe: _Probe) -> ServerCheck:
    import openai

    try:
        answer = probe.client.embeddings.create(model=probe.model, input=["one", "two words"], encoding_format="float")
    except openai.APIStatusError as error:
        return _skip(check_id, f"embeddings are not served ({error.status_code})")
    vectors = [row.embedding for row in answer.data]
    lengths = {len(vector) for vector in vectors}
    if len(vectors) != 2 or len(lengths) != 1 or not all(isinstance(number, float) for number in vectors[0]):
        return _fail(check_id, sorted(lengths), None, "embeddings are not one vector per text", "serve with --embeddings")
    return _pass(check_id, lengths.pop(), None, "one vector per text, all of one length")


_CHECKS: tuple[tuple[str, str, Callable[[str, _Probe], ServerCheck]], ...] = (
    ("G1", "models", _models),
    ("G2", "chat", _chat),
    ("G3", "stream equals whole answer", _stream),
    ("G4", "two streams", _two_streams),
    ("G5", "wrong key", _wrong_key),
    ("G6", "unknown model", _unknown_model),
    ("G7", "overflow", _overflow),
    ("G8", "embeddings", _embeddings),
)


def _short(error: object) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:199] + "…"


def _pass(check_id: str, value: Any, threshold: Any, summary: str) -> ServerCheck:
    return ServerCheck(id=check_id, status="pass", value=value, threshold=threshold, summary=summary)


def _warn(check_id: str, value: Any, threshold: Any, summary: str, remedy: str) -> ServerCheck:
    return ServerCheck(id=check_id, status="warn", value=value, threshold=threshold, summary=summary, remedy=remedy)


def _fail(check_id: str, value: Any, threshold: Any, summary: str, remedy: str) -> ServerCheck:
    return ServerCheck(id=check_id, status="fail", value=value, threshold=threshold, summary=summary, remedy=remedy)


def _skip(check_id: str, why: str) -> ServerCheck:
    return ServerCheck(id=check_id, status="skip", value=None, threshold=None, summary=why)
