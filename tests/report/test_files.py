import json
from pathlib import Path

import pytest
from wscc.ir.errors import UserError
from wscc.report.files import check_folder, save, save_files


def test_a_run_leaves_a_report_and_a_program(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "out"
    save({"feasible": True}, {"program.txt": "the program\n"}, folder)
    assert json.loads((folder / "report.json").read_text()) == {"feasible": True}
    assert (folder / "program.txt").read_text() == "the program\n"
    assert sorted(path.name for path in folder.iterdir()) == ["program.txt", "report.json"]


def test_without_a_program_only_the_report_is_written(tmp_path: Path) -> None:
    save({}, {}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_saving_again_replaces_the_files(tmp_path: Path) -> None:
    save({"run": 1}, {"program.txt": "old"}, tmp_path)
    save({"run": 2}, {"program.txt": "new"}, tmp_path)
    assert json.loads((tmp_path / "report.json").read_text()) == {"run": 2}
    assert (tmp_path / "program.txt").read_text() == "new"


def test_a_file_in_the_folders_place_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    for wanted in (tmp_path / "out", tmp_path / "out" / "deeper"):
        with pytest.raises(UserError) as caught:
            save({}, {}, wanted)
        assert str(caught.value) == f"{tmp_path / 'out'}: error: is a file, expected a folder"
    assert (tmp_path / "out").read_text() == "mine"


def test_a_folder_without_a_name_is_the_users_mistake() -> None:
    with pytest.raises(UserError, match="the name of the folder to write to is empty"):
        check_folder("")


def test_checking_a_folder_makes_nothing(tmp_path: Path) -> None:
    check_folder(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "report.json").mkdir()
    with pytest.raises(UserError) as caught:
        save_files(tmp_path, {"report.json": "{}"})
    assert str(caught.value) == f"{tmp_path}: error: cannot be written: is a directory"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
