"""Evaluation of the installed sets of models, and the pages that show it.

python -m tests.bench.evaluation                              evaluate, and fill the pages
python -m tests.bench.evaluation starter.json standard.json   fill the pages from result files

evaluation.md has markers for the table and for what failed; the text between them is replaced.
evaluation-transcripts.md shows some whole interviews. evaluation.json holds the results without the
interviews; a test fails if evaluation.md and evaluation.json disagree.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from prepserver.evaluation.records import Evaluation, load_evaluation
from prepserver.evaluation.report import (
    format_failures,
    format_results,
    remeasure,
)
from prepserver.evaluation.transcripts import format_transcripts
from prepserver.folders import default_models_dir
from prepserver.models.sets import is_set_installed
from prepserver.models.store import ModelStore

__all__ = ["FIGURES", "PAGE", "choose_transcripts", "fill_in"]

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "evaluation.md"
FIGURES = PAGE.with_suffix(".json")
TRANSCRIPTS = PAGE.with_name("evaluation-transcripts.md")
RESULTS = ROOT / "build" / "evaluation"

SETS = ("starter", "standard")

SHOWN = ("strong", "vague", "asks-for-help")
"""Candidates whose first interview the page of transcripts shows."""

_MARKER = re.compile(r"<!-- (results|failures) -->\n(.*?)<!-- end -->", re.DOTALL)


def fill_in(page: str, evaluations: Sequence[Evaluation]) -> str:
    """Return the page with the text between its markers replaced by the results."""
    failures = (f"### {one.system.name}\n\n{format_failures(one)}" for one in evaluations)
    texts = {"results": format_results(evaluations), "failures": "\n\n".join(failures)}
    return _MARKER.sub(lambda old: f"<!-- {old[1]} -->\n{texts[old[1]]}\n<!-- end -->", page)


def choose_transcripts(evaluation: Evaluation) -> Evaluation:
    """Return the evaluation with only the first interview of each candidate in `SHOWN`."""
    plain = [one for one in evaluation.interviews if not one.canaries]
    first = {one.candidate: one for one in reversed(plain)}
    shown = [first[name] for name in SHOWN if name in first]
    return msgspec.structs.replace(evaluation, interviews=shown)


def evaluate_sets() -> list[Path]:
    """Evaluate each installed set. Return the paths of the result files."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    store = ModelStore(default_models_dir())
    paths = []
    for chosen in store.catalogue.sets:
        if chosen.name not in SETS or not is_set_installed(store, chosen):
            continue
        path = RESULTS / f"{chosen.name}.json"
        command = ("evaluate", "--set", chosen.name, "--json", str(path))
        status = subprocess.run([sys.executable, "-m", "prepserver", *command], cwd=ROOT).returncode
        if not path.exists():
            sys.exit(status or 1)
        paths.append(path)
    return paths


def main() -> None:
    evaluations = [
        remeasure(load_evaluation(Path(name))) for name in sys.argv[1:] or evaluate_sets()
    ]
    kept = [msgspec.structs.replace(one, interviews=[]) for one in evaluations]
    FIGURES.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")
    PAGE.write_text(fill_in(PAGE.read_text("utf-8"), kept), "utf-8")
    shown = (format_transcripts(choose_transcripts(one)) for one in evaluations)
    TRANSCRIPTS.write_text("\n".join(shown), "utf-8")
    sys.exit(any(row.met is False for one in evaluations for row in one.results))


if __name__ == "__main__":
    main()
