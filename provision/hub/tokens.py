"""Who gets the token: the Hub itself over https, and origins a person named. Nobody else, wherever a redirect leads.

The official client sends HF_TOKEN to whatever HF_ENDPOINT names; a mirror is not the Hub, so here it gets nothing unless
`PROVISION_TOKEN_ORIGINS` (comma-separated origins; a bare host means https) lists it.
"""

from __future__ import annotations

from provision.hub.origins import origin_of, same_origin
from provision.settings import OFFICIAL_ENDPOINT, Settings

ORIGINS_VARIABLE = "PROVISION_TOKEN_ORIGINS"
_MODELSCOPE_ORIGINS = (
    "https://modelscope.cn",
    "https://www.modelscope.cn",
    "https://www.modelscope.ai",
    "https://modelscope.ai",
)


def token_for(url: str, settings: Settings) -> str | None:
    """The Hub's token if the origin of `url` may have it."""
    return settings.token if settings.token and _trusted(url, (OFFICIAL_ENDPOINT,), settings) else None


def auth_headers(url: str, settings: Settings) -> dict[str, str]:
    """The Authorization header for a request to `url`: empty for every origin the token does not belong to."""
    token = token_for(url, settings)
    return {"Authorization": f"Bearer {token}"} if token else {}


def modelscope_headers(url: str, settings: Settings) -> dict[str, str]:
    """ModelScope's session cookie from `MODELSCOPE_API_TOKEN`, for ModelScope's own hosts and origins a person named."""
    token = settings.environ.get("MODELSCOPE_API_TOKEN", "").strip()
    return {"Cookie": f"m_session_id={token}"} if token and _trusted(url, _MODELSCOPE_ORIGINS, settings) else {}


def withheld_hint(url: str, settings: Settings) -> str:
    """What to say when a server wants a token that it is not given; empty when it was given or there is none."""
    if settings.token is None or token_for(url, settings):
        return ""
    origin = origin_of(url)
    return f"HF_TOKEN was not sent to {origin}; if that server may have it: export {ORIGINS_VARIABLE}={origin}"


def _trusted(url: str, built_in: tuple[str, ...], settings: Settings) -> bool:
    named = [entry.strip() for entry in settings.environ.get(ORIGINS_VARIABLE, "").split(",") if entry.strip()]
    spelled = [entry if "://" in entry else f"https://{entry}" for entry in named]
    return any(same_origin(url, origin) for origin in (*built_in, *spelled))
