"""Which files a run looks at."""

import pytest

from bncheck.discover import source_files, without_excluded


@pytest.mark.parametrize(
    ("path", "patterns", "kept"),
    [
        ("src/a.py", ["build"], True),
        ("src/a.py", ["a.py"], False),
        ("src/generated/a.py", ["generated"], False),
        ("src/generated/a.py", ["src/generated/"], False),
        ("src/a_pb2.py", ["*_pb2.py"], False),
    ],
)
def test_force_exclude_counts_for_files_that_are_named(path, patterns, kept):
    assert without_excluded([path], patterns) == ([path] if kept else [])


def test_a_named_file_is_taken_and_a_folder_gives_its_python_files(tmp_path):
    (tmp_path / "build").mkdir()
    for name in ("a.py", "._a.py", "notes.txt", "build/b.py", "excluded.py"):
        (tmp_path / name).write_text("")
    found = source_files([str(tmp_path)], ["excluded.py"])
    assert found == [str(tmp_path / "a.py")]
    named = [str(tmp_path / "build" / "b.py")]
    assert source_files(named, ["b.py"]) == named
