"""What is kept survives restarts, damage and rivals."""

from __future__ import annotations

import os
import threading

import msgspec
import pytest
from playing_apis import HOUR, NOW, floor

from negajoule.grid.cache import HourCache, replace_file
from negajoule.grid.signal import Signal, Slot

HERE = floor(NOW)


def signal(*grams, estimated=False, kind="average", fetched_s=NOW, zone="FRA"):
    slots = tuple(
        Slot(HERE + i * HOUR / 2, HERE + (i + 1) * HOUR / 2, float(g), estimated) for i, g in enumerate(grams)
    )
    return Signal(zone, kind, "life cycle", "test", fetched_s, slots)


def test_what_was_put_is_got_by_another_process(tmp_path):
    HourCache(tmp_path).put("test", signal(10, 20, 30))
    kept = HourCache(tmp_path).get("test", "FRA", HERE, HERE + 2 * HOUR, NOW)
    assert kept.signal == signal(10, 20, 30)
    assert (kept.settled, kept.asked_s) == (True, NOW)


def test_only_the_hours_of_the_span_are_got(tmp_path):
    HourCache(tmp_path).put("test", signal(10, 20, 30))
    kept = HourCache(tmp_path).get("test", "FRA", HERE + HOUR, HERE + HOUR, NOW)
    assert [slot.g_per_kwh for slot in kept.signal.slots] == [30.0]


@pytest.mark.parametrize(
    ("name", "zone", "start"), [("other", "FRA", HERE), ("test", "DEU", HERE), ("test", "FRA", HERE - HOUR)]
)
def test_another_source_place_or_hour_has_nothing(tmp_path, name, zone, start):
    HourCache(tmp_path).put("test", signal(10))
    assert HourCache(tmp_path).get(name, zone, start, start, NOW) is None


def test_estimates_are_settled_for_a_quarter_of_an_hour_only(tmp_path):
    cache = HourCache(tmp_path)
    cache.put("test", signal(10, estimated=True))
    assert cache.get("test", "FRA", HERE, HERE, NOW + 800).settled
    assert not cache.get("test", "FRA", HERE, HERE, NOW + 1000).settled
    assert not cache.get("test", "FRA", HERE, HERE, NOW - 1000).settled  # the clock was set back
    assert not cache.get("test", "FRA", HERE, HERE, NOW + 1000).is_recent(NOW + 1000)


def test_hours_of_which_one_is_a_forecast_are_a_forecast(tmp_path):
    cache = HourCache(tmp_path)
    cache.put("test", signal(10, 20, 30, 40))
    later = signal(50, kind="forecast")
    cache.put("test", msgspec.structs.replace(later, slots=(Slot(HERE + HOUR, HERE + 2 * HOUR, 50.0),)))
    kept = cache.get("test", "FRA", HERE, HERE + HOUR, NOW + 2000)
    assert (kept.signal.kind, kept.settled) == ("forecast", False)
    assert [slot.g_per_kwh for slot in kept.signal.slots] == [10.0, 20.0, 50.0]


@pytest.mark.parametrize("damage", [b"", b"{", b"null", b"\xff", b'{"zone": 3}', b"[]"])
def test_a_damaged_file_counts_as_none_and_is_replaced(tmp_path, damage):
    cache = HourCache(tmp_path)
    cache.put("test", signal(10))
    for path in tmp_path.rglob("*.json"):
        path.write_bytes(damage)
    assert cache.get("test", "FRA", HERE, HERE, NOW) is None
    cache.put("test", signal(10))
    assert cache.get("test", "FRA", HERE, HERE, NOW) is not None


def test_names_of_regions_stay_inside_the_folder(tmp_path):
    cache = HourCache(tmp_path / "inner")
    cache.put("watttime-../../../x", signal(10))
    assert cache.get("watttime-../../../x", "FRA", HERE, HERE, NOW) is not None
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    cache = HourCache(tmp_path / "file")
    cache.put("test", signal(10))
    assert cache.get("test", "FRA", HERE, HERE, NOW) is None


def test_old_files_are_forgotten(tmp_path):
    cache = HourCache(tmp_path)
    cache.put("test", signal(10))
    for path in tmp_path.rglob("*.json"):
        os.utime(path, (NOW - 41 * 86_400, NOW - 41 * 86_400))
    cache.put("test", msgspec.structs.replace(signal(20), slots=(Slot(HERE + HOUR, HERE + 2 * HOUR, 20.0),)))
    assert cache.get("test", "FRA", HERE, HERE, NOW) is None


def test_readers_never_see_half_a_file_while_others_write(tmp_path):
    versions = [signal(*[float(n)] * 2) for n in range(20)]
    stop = threading.Event()
    seen, failures = set(), []

    def write(offset):
        n = offset
        while not stop.is_set():
            HourCache(tmp_path).put("test", versions[n % len(versions)])
            n += 7

    def read():
        for _ in range(300):
            kept = HourCache(tmp_path).get("test", "FRA", HERE, HERE, NOW)
            if kept is None or kept.signal not in versions:
                failures.append(kept)
            else:
                seen.add(kept.signal.slots[0].g_per_kwh)

    HourCache(tmp_path).put("test", versions[0])
    writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    for writer in writers:
        writer.start()
    read()
    stop.set()
    for writer in writers:
        writer.join()
    assert failures == []
    assert len(seen) > 1
    assert not list(tmp_path.rglob(".draft-*"))


def test_a_draft_is_removed_when_it_cannot_be_moved(tmp_path):
    target = tmp_path / "taken"
    target.mkdir()
    (target / "full").touch()
    with pytest.raises(OSError):  # noqa: PT011 (which one is the system's choice)
        replace_file(target, b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
