"""Following redirects without carrying a token to a stranger."""

from __future__ import annotations

from provision.fetch.wire import Target
from provision.hub.addresses import redirected
from provision.hub.http import refuse_downgrade
from provision.hub.origins import same_origin

MAX_REDIRECTS = 5
STATUSES = (301, 302, 303, 307, 308)


def next_target(target: Target, location: str) -> Target:
    """Where a redirect leads; headers (a token may be among them) stay with their origin.

    Raises TransferError for a redirect to nowhere or from https down to http.
    """
    url = redirected(target.url, location)
    refuse_downgrade(target.url, url)
    return Target(url=url, headers=target.headers if same_origin(url, target.url) else {})
