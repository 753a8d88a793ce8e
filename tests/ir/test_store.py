import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from wscc.ir.store import Store, default_folder, digest, write_text

KEY = digest("a key")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def test_what_is_put_is_what_is_got(store: Store) -> None:
    text = "first line\r\nsecond \N{GREEK SMALL LETTER MU}\n\n"
    store.put("program", KEY, text)
    assert store.get("program", KEY) == text


def test_an_entry_is_found_under_its_kind_and_key_only(store: Store) -> None:
    store.put("program", KEY, "text")
    assert store.get("trace", KEY) is None
    assert store.get("program", digest("another key")) is None


def test_a_later_text_replaces_an_earlier_one(store: Store) -> None:
    store.put("program", KEY, "old")
    store.put("program", KEY, "new")
    assert store.get("program", KEY) == "new"


def entry_path(store: Store) -> Path:
    return store.folder / "program" / f"{KEY}.txt"


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-3],
        lambda content: content + b"more",
        lambda content: b"",
        lambda content: b"\xff\xfe" + content,
        lambda content: content.replace(b"text", b"tExt"),
    ],
)
def test_a_damaged_entry_is_a_miss(store: Store, damage: Callable[[bytes], bytes]) -> None:
    store.put("program", KEY, "some text")
    path = entry_path(store)
    path.write_bytes(damage(path.read_bytes()))
    assert store.get("program", KEY) is None


def test_an_entry_that_is_a_folder_is_a_miss(store: Store) -> None:
    entry_path(store).mkdir(parents=True)
    assert store.get("program", KEY) is None


def test_a_folder_that_cannot_be_made_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wscc.ir.store.logger.propagate", True)
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "cache")
    store.put("program", KEY, "text")
    store.put("trace", KEY, "text")
    assert store.get("program", KEY) is None
    assert [record.levelname for record in caplog.records].count("WARNING") == 1


def test_clear_removes_entries_and_leftovers_and_nothing_else(store: Store) -> None:
    store.put("program", KEY, "text")
    store.put("trace", KEY, "text")
    leftover = store.folder / "trace" / f".{KEY}.txt.0a1b2c3d.part"
    leftover.write_text("half")
    stranger = store.folder / "trace" / "notes.txt"
    stranger.write_text("mine")
    assert store.clear() == 2
    assert store.entries() == ()
    assert stranger.exists()
    assert not leftover.exists()


def test_clearing_what_does_not_exist_removes_nothing(store: Store) -> None:
    assert store.clear() == 0


def test_entries_tell_kind_key_and_size_on_disk(store: Store) -> None:
    store.put("program", KEY, "text")
    (entry,) = store.entries()
    assert (entry.kind, entry.key) == ("program", KEY)
    assert entry.bytes == entry_path(store).stat().st_size


def test_the_digest_tells_apart_how_parts_are_cut() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("ab") != digest("ab", "")
    assert digest("ab", "c") == digest("ab", "c")


def test_the_environment_names_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WSCC_CACHE", str(tmp_path))
    assert default_folder() == tmp_path


def test_an_empty_environment_variable_names_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSCC_CACHE", "")
    assert default_folder().name == "wscc"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.json"]


def test_a_written_file_has_the_rights_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_text(tmp_path / "written", "")
    rights = [os.stat(tmp_path / name).st_mode for name in ("plain", "written")]
    assert rights[0] == rights[1]


def test_processes_that_write_one_entry_at_once_leave_it_whole(store: Store) -> None:
    code = (
        "import sys; from pathlib import Path; from wscc.ir.store import Store\n"
        "for _ in range(50): Store(Path(sys.argv[1])).put('program', sys.argv[2], 'x' * 99999)"
    )
    arguments = [sys.executable, "-c", code, str(store.folder), KEY]
    writers = [subprocess.Popen(arguments) for _ in range(3)]
    while any(writer.poll() is None for writer in writers):
        assert store.get("program", KEY) in (None, "x" * 99999)
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert store.get("program", KEY) == "x" * 99999
