"""A bundle opens from a folder, a folder of runs, or a ZIP; a ZIP from strangers can neither lead out nor lie."""

import shutil
import stat
import zipfile
from pathlib import Path

import pytest

from fedge.audit.verify import verify_run
from fedge.errors import StorageError
from fedge.export import export
from fedge.reports.bundle import opened
from fedge.running import Result


def test_a_run_a_folder_of_runs_and_a_zip(finished: Result, tmp_path: Path) -> None:
    name = finished.folder.name
    export(finished.folder, tmp_path / f"{name}.zip", zipped=True)
    for path in (finished.folder, finished.folder.parent, tmp_path / f"{name}.zip"):
        with opened(path) as found:
            (bundle,) = [b for b in found.bundles if b.name == name]
            assert verify_run(bundle.root).holds
    assert not bundle.root.exists(), "what was unpacked is gone"


def test_a_damaged_member_is_named_and_the_rest_can_be_read(finished: Result, tmp_path: Path) -> None:
    path = tmp_path / "run.zip"
    export(finished.folder, path, zipped=True)
    with zipfile.ZipFile(path) as archive:
        member = next(m for m in archive.infolist() if m.filename.endswith("keys.txt"))
    data = bytearray(path.read_bytes())
    data[member.header_offset + 30 + len(member.filename) + 5] ^= 0xFF
    path.write_bytes(data)
    with opened(path) as found:
        assert found.bundles[0].damaged == (member.filename,)
        assert verify_run(found.bundles[0].root).holds
        assert not (found.bundles[0].root / "keys.txt").exists()


def hostile(path: Path, name: str, mode: int = 0o644) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, "x")


@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out", "a\\..\\out"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    hostile(tmp_path / "bad.zip", name)
    with pytest.raises(StorageError, match="leads out"), opened(tmp_path / "bad.zip"):
        pass


def test_links_empty_folders_and_other_files_are_refused(tmp_path: Path) -> None:
    hostile(tmp_path / "link.zip", "audit", stat.S_IFLNK | 0o777)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.zip").write_text("no zip")
    for name, why in [("link.zip", "leads out"), ("empty", "holds no run"), ("text.zip", "neither"), ("no", "exist")]:
        with pytest.raises(StorageError, match=why), opened(tmp_path / name):
            pass


def test_the_run_of_a_pack_may_be_renamed(finished: Result, tmp_path: Path) -> None:
    shutil.copytree(finished.folder / "audit", tmp_path / "pack" / "runs" / "renamed" / "audit")
    with opened(tmp_path / "pack") as found:
        assert [b.name for b in found.bundles] == ["renamed"]
        assert found.root == tmp_path / "pack"
