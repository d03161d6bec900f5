"""How far times to the first token and between tokens are off, on (model, accelerator) pairs never seen.

    python benchmarks/ttft.py [--data FILE]

With the file that the coefficients were fitted on, every pair is judged by a fit made without it (whole pairs
leave, twelve folds); then every accelerator by a fit without it, and every model. With another file of the
same columns, rows of pairs that the fit never saw are judged by the shipped coefficients as they are; rows of
known pairs are counted apart, with their own factors. Beside it the same rows if the first one of each pair,
engine and format is measured, and the error that a third party published for AIConfigurator, in its own runs
(inference-sim, sim-to-real-accuracy-validation @ dcec3fd4): other rows, so an orientation and no race.

Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fitting.kernel_latency import NAME, Study, kind_of, left_out
from fitting.kernel_latency_rows import read_rows

from negajoule.errors import NegajouleError
from negajoule.physics.kernels.latency import latency_of, shipped_latency

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

PEER = {"ttft": 8.00, "tpot": 0.21, "request": 0.17}  # AIConfigurator, mean errors, third party
TITLES = {
    "together": "one pool",
    "apart": "prompts apart",
    "undescribed": "prompts apart, workers unknown",
}


def shipped(study: Study) -> tuple[Floats, Floats]:
    """TTFT and TPOT of each row by the shipped coefficients [s]."""
    found = [latency_of(row.deployed) for row in study.rows]
    return np.array([f.ttft_s for f in found]), np.array([f.tpot_s for f in found])


class Errors:
    """Relative errors of TTFT, TPOT and the whole request, by row."""

    def __init__(self, study: Study, ttft: Floats, tpot: Floats) -> None:
        more = np.array([row.deployed.answer_tokens for row in study.rows]) - 1.0
        self.of = {
            "ttft": abs(ttft / study.ttft - 1.0),
            "tpot": abs(tpot / study.tpot - 1.0),
            "request": abs((ttft + tpot * more) / (study.ttft + study.tpot * more) - 1.0),
        }

    def line(self, title: str, chosen: Bools) -> str:
        """Mean and median of some rows, for people."""
        parts = [
            f"{name} {error[chosen].mean():6.1%} / {np.median(error[chosen]):6.1%}"
            for name, error in self.of.items()
        ]
        return f"  {title:34} {int(chosen.sum()):5}   " + "   ".join(parts)

    def figures(self, chosen: Bools) -> dict[str, float]:
        """The same for programs."""
        found: dict[str, float] = {}
        for name, error in self.of.items():
            found[f"{name}_mape"] = round(float(error[chosen].mean()), 4)
            found[f"{name}_median"] = round(float(np.median(error[chosen])), 4)
        return found


def one_point(study: Study, ttft: Floats, tpot: Floats) -> tuple[Errors, Bools]:
    """Errors if the first row of each pair, engine and format is measured; and the other rows."""
    served = [f"{row.pair} {row.deployed.engine} {row.deployed.formats} {row.mode}" for row in study.rows]
    _, first, place = np.unique(served, return_index=True, return_inverse=True)
    point = first[place]
    first_trust, between_trust = shipped_latency().point_trust
    ttft = ttft * (study.ttft / ttft)[point] ** first_trust
    tpot = tpot * (study.tpot / tpot)[point] ** between_trust
    rest = np.ones(len(point), dtype=np.bool_)
    rest[first] = False
    return Errors(study, ttft, tpot), rest


def main() -> None:
    """Judge a file and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=None, help=f"default NEGAJOULE_DATA/{NAME}")
    given = parser.parse_args()
    file = given.data or Path(os.environ.get("NEGAJOULE_DATA", "../shared/data")) / NAME
    if file.is_dir():
        file = file / Path(NAME).name
    try:
        rows, dropped = read_rows(file)
        if not rows:
            raise NegajouleError(
                f"no row of {file} can be judged: {dropped[0] if dropped else 'it is empty'}"
            )
        study = Study(rows)
    except NegajouleError as error:
        sys.exit(str(error))
    for words in dropped[:5]:
        print(f"left out: {words}")
    print(f"{len(rows)} rows of {len(np.unique(study.pairs))} (model, accelerator) pairs, "
          f"{len(dropped)} left out")  # fmt: skip

    model = shipped_latency()
    fitted = hashlib.sha256(file.read_bytes()).hexdigest() == model.data
    if fitted:
        ttft, tpot = left_out(study, study.pairs)
        judged = np.ones(len(rows), dtype=np.bool_)
        basis = "pairs left out of the fit, twelve folds"
    else:
        ttft, tpot = shipped(study)
        known = np.array([model.knows(*pair.rsplit(" ", 1)) for pair in study.pairs])
        judged = ~known if (~known).any() else known
        basis = "shipped coefficients, " + ("unseen pairs" if (~known).any() else "known pairs only")
    errors = Errors(study, ttft, tpot)
    print(f"\n{basis}; mean / median error")
    print(errors.line("all", judged))
    kinds = np.array([kind_of(row) for row in rows])
    for kind, title in TITLES.items():
        if (judged & (kinds == kind)).any():
            print(errors.line(title, judged & (kinds == kind)))
    if not judged.all():
        print(errors.line("known pairs, own factors", ~judged))
    more: dict[str, Any] = {}
    others, rest = one_point(study, ttft, tpot)
    if (judged & rest).any():
        print(others.line("with one measured point each", judged & rest))
        found = others.figures(judged & rest)
        more |= {f"{name}_mape_calibrated": found[f"{name}_mape"] for name in others.of}
    if fitted:
        model_of, accelerator_of = np.array([pair.rsplit(" ", 1) for pair in study.pairs]).T
        for title, groups in (("accelerator", accelerator_of), ("model", model_of)):
            others = Errors(study, *left_out(study, groups))
            print(others.line(f"{title}s left out", judged))
            more |= {f"{name}_mape_by_{title}": others.figures(judged)[f"{name}_mape"] for name in others.of}
    print("\nby pair")
    for pair in np.unique(study.pairs[judged]):
        print(errors.line(pair, judged & (study.pairs == pair)))
    print(f"\nAIConfigurator, third party, other runs: ttft {PEER['ttft']:.0%}, tpot {PEER['tpot']:.0%}, "
          f"request {PEER['request']:.0%} (means)")  # fmt: skip
    inside: dict[str, Any] = {
        f"{name}_covered": round(float(np.mean(off[judged] <= widths[judged])), 4)
        for name, off, widths in _logs(study, ttft, tpot, kinds)
    }
    print(f"90 % intervals hold {inside}")
    figures = {"rows": int(judged.sum()), "basis": basis, **errors.figures(judged), **inside, **more}
    print(json.dumps({**figures, **{f"aiconfigurator_{name}": value for name, value in PEER.items()}}))


def _logs(study: Study, ttft: Floats, tpot: Floats, kinds: NDArray[Any]) -> list[tuple[str, Floats, Floats]]:
    """Size of the logarithm of each error beside the half-width of its interval."""
    widths = shipped_latency().half_widths
    return [
        (name, abs(np.log(found / measured)), np.array([widths[kind][index] for kind in kinds]))
        for index, (name, found, measured) in enumerate(
            (("ttft", ttft, study.ttft), ("tpot", tpot, study.tpot))
        )
    ]


if __name__ == "__main__":
    main()
