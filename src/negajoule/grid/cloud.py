"""Where a cloud machine stands, asked of its cloud's metadata server; only with ``cloud_metadata = true``.

The server has a link-local address that no packet leaves the host for. All three clouds are asked at once,
with a short deadline, because a machine outside any cloud gets no answer at all:

- AWS, IMDSv2: ``PUT /latest/api/token``, then ``GET /latest/meta-data/placement/region``
- Google Cloud: ``GET /computeMetadata/v1/instance/zone`` with ``Metadata-Flavor: Google``, which comes back
- Azure: ``GET /metadata/instance/compute/location?api-version=2021-02-01&format=text`` with ``Metadata:
  true``

``cloud_regions.csv`` says which grid a region draws from: the grid zone where a region lies in one without
doubt, else the state or country. Regions and their places are those that the providers publish, for Google as
in region-carbon-info 49f3f26b (Apache-2.0), for AWS and Azure as in Cloud Carbon Footprint b0032d9
(Apache-2.0) and the providers' lists of regions.
"""

from __future__ import annotations

import csv
import re
import threading
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from negajoule.errors import GridError
from negajoule.grid.fetch import fetch_url, is_nearby

if TYPE_CHECKING:
    from collections.abc import Callable

    from negajoule.grid.fetch import Fetch

__all__ = ["CloudRegion", "cloud_region", "zone_of_region"]

_TABLE = Path(__file__).parent / "cloud_regions.csv"
_BASE_URL = "http://169.254.169.254"
_TIMEOUT_S = 0.5
_REGION = re.compile(r"[a-z0-9-]{3,40}")


class CloudRegion(NamedTuple):
    """A region of a cloud provider, e.g. aws eu-west-3."""

    provider: str
    region: str


def cloud_region(
    *, fetch: Fetch = fetch_url, base_url: str = _BASE_URL, timeout_s: float = _TIMEOUT_S
) -> CloudRegion | None:
    """The region this machine stands in; ``None`` if no metadata server tells.

    Args:
        fetch: how URLs are asked.
        base_url: of the metadata server; must be on this machine or link-local.
        timeout_s: deadline for each answer [s].
    """
    if not is_nearby(urlsplit(base_url).hostname or ""):
        return None
    found: dict[str, str] = {}

    def ask(provider: str, question: Callable[[Fetch, str, float], str]) -> None:
        try:
            region = question(fetch, base_url, timeout_s)
        except GridError:
            return
        if _REGION.fullmatch(region):
            found[provider] = region

    threads = [threading.Thread(target=ask, args=pair, daemon=True) for pair in _QUESTIONS.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * timeout_s)
    # AWS comes last: others imitate its server, it imitates nobody's.
    return next((CloudRegion(name, found[name]) for name in _QUESTIONS if name in found), None)


def zone_of_region(region: CloudRegion) -> str | None:
    """The canonical place that a region draws its electricity from; ``None`` if the table doesn't know it."""
    return _zones().get(region)


def _google(fetch: Fetch, base_url: str, timeout_s: float) -> str:
    headers = {"Metadata-Flavor": "Google"}
    answer = fetch(f"{base_url}/computeMetadata/v1/instance/zone", headers, timeout_s=timeout_s)
    if answer.status != 200 or answer.headers.get("metadata-flavor") != "Google":
        return ""
    zone = answer.body.decode("ascii", "replace").strip().rpartition("/")[2]
    return zone.rpartition("-")[0]  # europe-west1-b lies in europe-west1


def _azure(fetch: Fetch, base_url: str, timeout_s: float) -> str:
    url = f"{base_url}/metadata/instance/compute/location?api-version=2021-02-01&format=text"
    answer = fetch(url, {"Metadata": "true"}, timeout_s=timeout_s)
    return answer.body.decode("ascii", "replace").strip().lower() if answer.status == 200 else ""


def _amazon(fetch: Fetch, base_url: str, timeout_s: float) -> str:
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = fetch(f"{base_url}/latest/api/token", lifetime, timeout_s=timeout_s, method="PUT")
    text = token.body.decode("ascii", "replace").strip()
    if token.status != 200 or not text.isprintable():
        return ""
    answer = fetch(
        f"{base_url}/latest/meta-data/placement/region",
        {"X-aws-ec2-metadata-token": text},
        timeout_s=timeout_s,
    )
    return answer.body.decode("ascii", "replace").strip() if answer.status == 200 else ""


_QUESTIONS: dict[str, Callable[[Fetch, str, float], str]] = {"gcp": _google, "azure": _azure, "aws": _amazon}


@cache
def _zones() -> dict[CloudRegion, str]:
    with _TABLE.open(encoding="utf-8", newline="") as stream:
        return {CloudRegion(row["provider"], row["region"]): row["zone"] for row in csv.DictReader(stream)}
