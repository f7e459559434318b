"""Check a pack, or one file of it: make the report again from the log, and compare everything.

The log is the only thing that is believed, after the verifier has judged it. From it the report is made anew; what
stands in the pack must be that, figure by figure and byte by byte. So an edited number is found in any form, whoever
edited it, the holder of the signing key included; and the signature says who stands for the report as a whole.
"""

from __future__ import annotations

import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any

from fedge.audit import verify
from fedge.audit.verify import Check
from fedge.encoding import digest, from_plain, parse
from fedge.errors import FedgeError, ParseError, StorageError
from fedge.pack.forms import INSIDE, PDF, REPORT, ZIP, Forms
from fedge.pack.manifest import MANIFEST, Manifest, read
from fedge.pack.readme import readme
from fedge.reports.bundle import Bundle
from fedge.reports.document import references
from fedge.reports.judged import Judged, judge
from fedge.reports.references import parse_refs
from fedge.reports.report import SCHEMA, Request, Signer, report
from fedge.reports.words import LANGUAGES
from fedge.signing import public_key

NAMED = 5
"""Differences that are named one by one."""


@dataclass(frozen=True)
class Checked:
    """All answers; `references` are how many were resolved."""

    checks: tuple[Check, ...]
    references: int = 0

    @property
    def holds(self) -> bool:
        """Whether nothing failed."""
        return not any(c.grade == "FAILED" for c in self.checks)


def check(
    folder: Path, bundles: Sequence[Bundle], maker: str, policy: Path | None = None, only: str | None = None
) -> Checked:
    """Return what holds of the pack in `folder` against the logs in `bundles`; of its file `only`, if that is given.

    `maker` is who makes the report again, e.g. `fedge 0.1.0`. The words of another version may be others, so a form
    that it made is not compared (MISSING), and may be that only under the signature of the runs' server; every figure
    is compared all the same.
    The figures are compared as the report's maker judged the log; `policy`, which reached whoever checks by another
    way, judges it once more. Raises ParseError if `report.json` is no report at all, StorageError if a log is not
    there.
    """
    stated = read_report(folder / REPORT)
    request, chosen = _request(stated), _chosen(stated, bundles)
    runs = [_judged(bundle, request.policy) for bundle in chosen]
    checks = [_log(run, "log of") for run in runs]
    if policy is not None:
        checks += [_log(judge(bundle, policy), "by your policy, log of") for bundle in chosen]
    truth = Forms(runs, report(runs, request))
    count, resolved = _references(stated, runs)
    manifest, signature = _signature(folder, request.signer, truth.plain)
    signed = signature.grade == "PROVEN"
    checks += [_figures(stated, truth.plain), resolved, signature]
    checks += _files(folder, truth, manifest, only, maker, signed=signed)
    return Checked(tuple(checks), count)


def read_report(path: Path) -> dict[str, Any]:
    """Return the report in `path`. Raises StorageError or ParseError."""
    try:
        plain = parse(path.read_bytes())
    except OSError as error:
        raise StorageError(
            f"cannot read {path}: {error.strerror}; every form is checked beside its report.json"
        ) from error
    except ParseError as error:
        raise ParseError(f"{path} was edited, or is no report: {error}") from error
    if not isinstance(plain, dict) or plain.get("schema") != SCHEMA or not _has_runs(plain):
        raise ParseError(f"{path} is not a report of {SCHEMA}")
    return plain


def _has_runs(plain: Mapping[str, Any]) -> bool:
    runs = plain.get("runs")
    return isinstance(runs, list) and bool(runs) and all(isinstance(run, dict) for run in runs)


def _chosen(stated: Mapping[str, Any], bundles: Sequence[Bundle]) -> list[Bundle]:
    """Return the bundle of each run that the report names. Raises StorageError if one is not here."""
    by_name, names = {b.name: b for b in bundles}, [run.get("name") for run in stated["runs"]]
    if lost := [name for name in names if name not in by_name]:
        raise StorageError(
            f"the report is about run {lost[0]!r}, whose log is not here; name its folder with --run "
            f"(here: {', '.join(by_name) or 'none'})"
        )
    return [by_name[name] for name in names]


def _judged(bundle: Bundle, policy: str | None) -> Judged:
    """Return the judgement of a run by the policy that the report was made with."""
    if policy is None:
        return judge(bundle)
    with tempfile.TemporaryDirectory(prefix="fedge-policy-") as folder:
        path = Path(folder) / "policy.txt"
        path.write_text(policy, encoding="utf-8")
        return judge(bundle, path)


def _request(stated: Mapping[str, Any]) -> Request:
    """Return what was asked for, as the report says it. Raises ParseError for another spelling, or another language."""
    asked = {name: stated[name] for name in Request.__dataclass_fields__ if name in stated}
    request = from_plain(Request, asked, ParseError)
    if request.language not in LANGUAGES:
        raise ParseError(f"the report speaks {request.language!r}; known: {', '.join(LANGUAGES)}")
    return request


def _log(run: Judged, what: str) -> Check:
    name = f"{what} {run.name}"
    if run.holds:
        return Check(name, "PROVEN", f"{run.verification.size} entries hold")
    return Check(name, "FAILED", run.verification.failures)


def _figures(stated: Mapping[str, Any], true: Mapping[str, Any]) -> Check:
    """Compare every figure with the one that the log gives."""
    found = list(_differences(stated, true))
    if not found:
        return Check(REPORT, "PROVEN", "every figure is what the log gives")
    more = f"; and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return Check(REPORT, "FAILED", "; ".join(found[:NAMED]) + more)


def _differences(stated: Any, true: Any, path: str = "") -> Iterator[str]:
    """Yield where two plain values differ, and how."""
    if isinstance(stated, dict) and isinstance(true, dict):
        for key in sorted(stated.keys() | true.keys()):
            yield from _differences(stated.get(key), true.get(key), f"{path}.{key}" if path else key)
    elif isinstance(stated, list) and isinstance(true, list) and len(stated) == len(true):
        for number, (one, other) in enumerate(zip(stated, true, strict=True)):
            yield from _differences(one, other, f"{path}[{number}]")
    elif type(stated) is not type(true) or stated != true:
        yield f"{path}: the report says {_brief(stated)}, the log says {_brief(true)}"


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _references(stated: Mapping[str, Any], runs: Sequence[Judged]) -> tuple[int, Check]:
    """Resolve every reference of every figure in the log that it points into."""
    count, entries = 0, set[tuple[int, int]]()
    for number, (said, run) in enumerate(zip(stated["runs"], runs, strict=True)):
        there = {e.index for e in run.entries}
        for text in references(said):
            try:
                found = parse_refs(text)
                lost = next((n for n in found if n not in there), None)
            except (ParseError, AttributeError) as error:
                return count, Check("references", "FAILED", f"{run.name}: {error}")
            if lost is not None:
                return count, Check("references", "FAILED", f"{run.name}: entry {lost} is not in the log")
            count += 1
            entries.update((number, n) for n in found)
    return count, Check("references", "PROVEN", f"{count} references to {len(entries)} entries, all of them resolve")


def _signature(folder: Path, signer: Signer | None, true: Mapping[str, Any]) -> tuple[Manifest | None, Check]:
    """Return the manifest, and whether it is signed by whom the report says."""
    try:
        manifest = read(folder / MANIFEST, public_key(signer.key) if signer else None)
    except StorageError:
        return None, Check("signature", "MISSING", f"there is no {MANIFEST} beside the report")
    except FedgeError as error:
        return None, Check("signature", "FAILED", str(error))
    if signer is None:
        return manifest, Check("signature", "MISSING", "the report is not signed")
    if signer.whose == "given":
        return manifest, Check("signature", "DECLARED", f"signed by {signer.key}, a key that no log vouches for")
    if {run["run"]["server_key"]["value"] for run in true["runs"]} != {signer.key}:
        return manifest, Check("signature", "FAILED", f"signed by {signer.key}, not the server of every run")
    return manifest, Check("signature", "PROVEN", f"signed by the server that the log names, {signer.key}")


def _files(
    folder: Path, made: Forms, manifest: Manifest | None, only: str | None, maker: str, *, signed: bool
) -> Iterator[Check]:
    """Yield, of each form that is there, whether it is what the report makes; the report itself was compared before."""
    if manifest is not None and manifest.report != made.digest:
        yield Check(MANIFEST, "FAILED", "it is about another report.json")
    parts = made.parts() | {
        "README.md": lambda: [readme(made.plain, made.digest).encode()],
        "verify.py": lambda: [Path(verify.__file__).read_bytes()],
    }
    for name, pieces in parts.items():
        path = folder / name
        if name == REPORT or (only is not None and name != only):
            continue
        if path.is_file():
            other_maker = made.plain["made_by"] != maker
            listed = manifest.files.get(name) if manifest else None
            yield _file(path, pieces, listed, excused=signed and listed is not None, other_maker=other_maker)
        elif manifest is not None and name in manifest.files:
            yield Check(name, "MISSING", "the manifest names it, and it is not here")
    if only in {None, ZIP} and (folder / ZIP).is_file():
        yield _zipped(folder)


def _zipped(folder: Path) -> Check:
    """Compare what the ZIP holds of the report with the files beside it, which were checked."""
    try:
        with zipfile.ZipFile(folder / ZIP) as archive:
            for member in archive.namelist():
                name = member.removeprefix(INSIDE)
                if "/" not in name and archive.read(member) != (folder / name).read_bytes():
                    return Check(ZIP, "FAILED", f"its {name} is another than the one beside it")
    except (zipfile.BadZipFile, zlib.error, OSError) as error:
        return Check(ZIP, "FAILED", f"it cannot be read, or holds a file that is not beside it: {error}")
    return Check(ZIP, "PROVEN", "its report is the one beside it; check its logs with: fedge report check pack.zip")


def _file(path: Path, pieces: Callable[[], Any], listed: str | None, *, excused: bool, other_maker: bool) -> Check:
    """Compare one form. `listed` is its digest in the manifest; `excused`: the runs' server has signed that."""
    name, data = path.name, path.read_bytes()
    if listed is not None and digest(data) != listed:
        return Check(name, "FAILED", f"it is not the file that the manifest names; {_how(name, data, pieces)}")
    try:
        true = b"".join(pieces())
    except FedgeError as error:  # no Typst here
        compared = "nothing was compared" if listed is None else "only its digest was compared"
        return Check(name, "MISSING", f"it cannot be made again here ({error}); {compared}")
    if data == true:
        return Check(name, "PROVEN", "it is what the report makes")
    if excused and (other_maker or (name == PDF and _maker(data) != _maker(true))):
        said = "another version of its maker wrote it, so it was not compared; its digest is the one that was signed"
        return Check(name, "MISSING", said)
    return Check(name, "FAILED", _how(name, data, pieces))


def _maker(data: bytes) -> bytes:
    start = data.find(b"/Creator")
    return data[start : start + 60] if start >= 0 else b""


def _how(name: str, data: bytes, pieces: Callable[[], Any]) -> str:
    """Return the first line in which a file differs from what the report makes."""
    if name == PDF:
        return "it is not the PDF that the report makes"
    try:
        stated, true = data.decode("utf-8").splitlines(), b"".join(pieces()).decode("utf-8").splitlines()
    except UnicodeDecodeError:
        return "it is not a text"
    for line in unified_diff(true, stated, lineterm="", n=0):
        if line[:1] in "+-" and not line.startswith(("+++", "---")):
            side = "the report makes" if line[0] == "-" else "the file has"
            return f"first difference: {side} {_around(line[1:])}"
    return "its line ends differ"


def _around(line: str) -> str:
    return repr(line if len(line) <= 120 else line[:117] + "…")
