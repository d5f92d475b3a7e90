"""A file that has its name only when it is whole."""

from pathlib import Path

import pytest

from rockets.cli.whole_file import whole_file


def names(folder: Path) -> list[str]:
    """The names of the files in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_the_name_comes_at_the_end_and_replaces_what_had_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    with whole_file(path, keep_after=ValueError) as whole:
        whole.file.write(b"new")
        assert path.read_text() == "old"
        assert names(tmp_path) == ["a", whole.part.name]

    assert (path.read_text(), names(tmp_path)) == ("new", ["a"])
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    with pytest.raises(error), whole_file(path, keep_after=ValueError) as whole:
        whole.file.write(b"new")
        raise error

    assert (path.read_text(), names(tmp_path)) == ("old", ["a"])


def test_after_a_failure_of_one_kind_the_part_stays_with_all_that_was_written(
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match="x"):
        with whole_file(tmp_path / "a", keep_after=ValueError) as whole:
            whole.file.write(b"new")
            raise ValueError("x")

    assert names(tmp_path) == [whole.part.name]
    assert whole.part.read_text() == "new"


def test_behind_a_link_the_file_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/a")

    with whole_file(tmp_path / "link", keep_after=ValueError) as whole:
        whole.file.write(b"new")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "folder/a").read_text() == "new"
