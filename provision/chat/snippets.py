"""How to talk to the running server from a shell, from Python and from an editor. The key itself is never printed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path


def snippets(*, url: str, alias: str, api_key_file: Path | None) -> dict[str, str]:
    """Ready to paste, by name: curl, python, editor."""
    return {
        "curl": _curl(url, alias, api_key_file),
        "python": _python(url, alias, api_key_file),
        "editor": _editor(url, alias, api_key_file),
    }


def _curl(url: str, alias: str, key_file: Path | None) -> str:
    body = json.dumps({"model": alias, "messages": [{"role": "user", "content": "Hello"}]})
    lines = [f"curl {url}/chat/completions", "-H 'Content-Type: application/json'"]
    if key_file is not None:
        # $(cat ...) sits inside double quotes, where a quoted path would end them.
        lines.append(f'-H "Authorization: Bearer $(cat {shlex.quote(str(key_file))})"')
    lines.append(f"-d {shlex.quote(body)}")
    return " \\\n  ".join(lines)


def _python(url: str, alias: str, key_file: Path | None) -> str:
    key = f"open({str(key_file)!r}).read().strip()" if key_file is not None else repr("none")
    return "\n".join(
        [
            "from openai import OpenAI",
            f"client = OpenAI(base_url={url!r}, api_key={key})",
            f"answer = client.chat.completions.create(model={alias!r},",
            '    messages=[{"role": "user", "content": "Hello"}])',
            "print(answer.choices[0].message.content)",
        ]
    )


def _editor(url: str, alias: str, key_file: Path | None) -> str:
    """Continue's config.yaml (docs.continue.dev/reference); other editors ask for the same three values."""
    key = f"the line in {key_file}" if key_file is not None else "none"
    return "\n".join(
        [
            "# ~/.continue/config.yaml",
            "name: local",
            "version: 0.0.1",
            "schema: v1",
            "models:",
            f"  - name: {json.dumps(alias)}",
            "    provider: openai",
            f"    model: {json.dumps(alias)}",
            f"    apiBase: {json.dumps(url)}",
            f"    apiKey: {json.dumps(key)}",
        ]
    )
