"""Power of the whole chassis by IPMI (``ipmitool``) or Redfish (HTTP): on request only, never by default.

Both report what the supplies draw from the wall, so they contain every other domain. A management controller
answers slowly and averages over about a second.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import partial
from typing import TYPE_CHECKING, Any

from negajoule.catalog import lookup
from negajoule.errors import MeterError
from negajoule.meter.probe import Capability
from negajoule.meter.sampler import SampledProbe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["chassis_probe", "http_get", "ipmi_capability", "ipmi_watts", "redfish_watts"]

PERIOD_S = 2.0
TIMEOUT_S = 5.0
COMMAND = ("ipmitool", "dcmi", "power", "reading")
_READING = re.compile(r"Instantaneous power reading:\s*([\d.]+)\s*Watts", re.IGNORECASE)
_STATE = re.compile(r"Power reading state is:\s*(\S+)", re.IGNORECASE)


def chassis_probe(
    address: str,
    *,
    fetch: Callable[[str], bytes] | None = None,
    run: Callable[[], str] | None = None,
    start: bool = True,
) -> SampledProbe:
    """A probe for the machine's power supplies.

    Args:
        address: ``ipmi`` for the local controller, or the URL of a Redfish resource of this chassis:
            ``https://BMC/redfish/v1/Chassis/1/Power`` or ``.../EnvironmentMetrics``.
        fetch: gets a URL; by default ``http_get`` without credentials.
        run: runs ``ipmitool`` and returns what it prints; a recorded answer in tests.
        start: whether to start asking at once.

    Raises:
        MeterError: (M102) if the address is neither.
    """
    if address == "ipmi":
        name, ask = "ipmi", partial(_ask_ipmi, run or _ipmitool)
    elif address.startswith(("http://", "https://")):
        name, ask = "redfish", partial(_ask_redfish, fetch or http_get, address)
    else:
        raise MeterError(
            f"{address!r} is no chassis",
            code="M102",
            fix="give 'ipmi', or the URL of the chassis's Power or EnvironmentMetrics",
        )
    return SampledProbe(
        name,
        ask,
        {"chassis": "platform"},
        ceiling_w=lookup("meter.ceiling.platform").value,
        accuracy=lookup("meter.accuracy.chassis").value,
        period_s=PERIOD_S,
        start=start,
    )


def ipmi_watts(text: str) -> float | None:
    """Watts from what ``ipmitool dcmi power reading`` prints.

    ``None`` if it has no reading, says that readings are off, or gives 0 W: controllers that don't measure
    say that, and a machine that answers draws something.
    """
    reading, state = _READING.search(text), _STATE.search(text)
    if reading is None or (state is not None and state[1].lower() not in ("activated", "active")):
        return None
    return float(reading[1]) or None


def redfish_watts(document: Any) -> float | None:  # noqa: ANN401 (somebody else's JSON)
    """Watts from a Redfish ``Power`` (``PowerControl``) or ``EnvironmentMetrics`` (``PowerWatts``) resource.

    A chassis with several controls is read as their sum. ``None`` if there is no positive number.
    """
    if not isinstance(document, dict):
        return None
    environment = document.get("PowerWatts")
    if isinstance(environment, dict):
        return _positive(environment.get("Reading"))
    controls = document.get("PowerControl")
    if not isinstance(controls, list):
        return None
    found = [_positive(item.get("PowerConsumedWatts")) for item in controls if isinstance(item, dict)]
    known = [watts for watts in found if watts is not None]
    return sum(known) if known else None


def http_get(url: str, *, user: str = "", password: str = "", verify: bool = True) -> bytes:
    """Get a URL with basic authentication.

    Args:
        url: what to get.
        user: name, empty for none.
        password: its password.
        verify: whether the controller's certificate must be valid; most have a self-signed one.

    Raises:
        OSError: if it can't be had within a few seconds.
    """
    import base64
    import ssl
    from urllib.request import Request, urlopen

    request = Request(url, headers={"Accept": "application/json"})
    if user:
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    with urlopen(request, timeout=TIMEOUT_S, context=context) as answer:
        body: bytes = answer.read()
    return body


def ipmi_capability(root: Path) -> Capability:
    """Whether the local controller could be asked, and what would let it."""
    if not any((root / path).exists() for path in ("dev/ipmi0", "dev/ipmi/0", "dev/ipmidev/0")):
        return Capability("ipmi", "absent", "no local management controller")
    if shutil.which(COMMAND[0]) is None:
        return Capability(
            "ipmi", "unreadable", "a controller, but no ipmitool", "sudo apt install ipmitool", "B"
        )
    try:
        watts = ipmi_watts(_ipmitool())
    except (OSError, subprocess.SubprocessError):
        watts = None
    if watts is None:
        return Capability(
            "ipmi", "unreadable", "the controller gives us no power", "sudo chmod a+rw /dev/ipmi0", "B"
        )
    return Capability("ipmi", "ready", f"chassis at {watts:.0f} W; used only when asked for", grade="B")


def _ask_ipmi(run: Callable[[], str]) -> dict[str, float]:
    watts = ipmi_watts(run())
    return {} if watts is None else {"chassis": watts}


def _ask_redfish(fetch: Callable[[str], bytes], url: str) -> dict[str, float]:
    watts = redfish_watts(json.loads(fetch(url)))
    return {} if watts is None else {"chassis": watts}


def _ipmitool() -> str:
    return subprocess.run(COMMAND, capture_output=True, text=True, timeout=TIMEOUT_S, check=True).stdout


def _positive(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        return None
    return float(value)
