"""Following redirects without carrying a token to a stranger."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from provision.fetch.wire import Target, origin_of

MAX_REDIRECTS = 5
STATUSES = (301, 302, 303, 307, 308)


def next_target(target: Target, location: str) -> Target:
    """Where a redirect leads; headers (a token may be among them) stay with their origin.

    Raises OSError for a redirect to nowhere or from https down to http.
    """
    url = urljoin(target.url, location)
    if not location or urlsplit(url).scheme not in ("http", "https"):
        raise OSError("a redirect that leads nowhere")
    if target.url.startswith("https:") and not url.startswith("https:"):
        raise OSError("a redirect from https to http")
    return Target(url=url, headers=target.headers if origin_of(url) == origin_of(target.url) else {})
