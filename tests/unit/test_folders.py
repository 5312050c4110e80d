"""The data folders of a node can be seen, and nothing beside them."""

import pytest

from common.errors import InvalidSettingsError, OutsideDataFoldersError
from node.home import NodeHome
from node.policy import Policy
from node.steward.folders import Folders, Kind
from tests.support.nodes import make_kits


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    return make_kits(tmp_path_factory.mktemp("kits") / "kits", {"north": "node"})["north"].path


@pytest.fixture
def folders(tmp_path, kit):
    """A data folder, with something beside it, hidden things, and links to all of that."""
    home = NodeHome.create(tmp_path / "data" / "home", kit)
    root = tmp_path / "data"
    (root / "study" / ".cache").mkdir(parents=True)
    (root / "study" / "b.csv").write_text("x\n1\n")
    (root / "A.csv").write_text("x\n1\n2\n")
    (root / ".hidden.csv").write_text("x\n1\n")
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside" / "secret.csv").write_text("x\n1\n")
    (root / "in").symlink_to(root / "study")
    (root / "out").symlink_to(tmp_path / "beside")
    (root / "to_hidden").symlink_to(root / ".hidden.csv")
    (root / "nowhere").symlink_to(root / "gone")
    (root / "loop").symlink_to(root / "loop")
    home.settings_path.write_text(f'data_folders = ["{root}"]\n')
    return Folders(home)


def test_a_folder_shows_folders_first_and_nothing_hidden(folders):
    shown = [(item.name, item.kind, item.is_link) for item in folders.items(folders.place(0, ""))]

    assert [
        ("home", Kind.FOLDER, False),
        ("in", Kind.FOLDER, True),
        ("study", Kind.FOLDER, False),
        ("A.csv", Kind.FILE, False),
        ("loop", Kind.OUTSIDE, True),
        ("nowhere", Kind.OUTSIDE, True),
        ("out", Kind.OUTSIDE, True),
        ("to_hidden", Kind.OUTSIDE, True),
    ] == shown


def test_items_have_their_sizes(folders):
    place = folders.place(0, "")
    sized = {one.item.name: one.size_bytes for one in folders.sized(place, folders.items(place))}

    assert (6, None, None) == (sized["A.csv"], sized["study"], sized["out"])


@pytest.mark.parametrize(
    "name",
    ["..", "../beside", "study/../../beside", "/etc", "/", "./A.csv", "study//b.csv", ".hidden.csv",
     "study/.cache", "out", "out/secret.csv", "to_hidden", "nowhere", "loop", "home", "home/kit", "A.csv/x",
     "a\0b", "gone", "x" * 5000, "\udcff", "..\\beside", "study/"],
)  # fmt: skip
def test_nothing_else_can_be_entered(folders, name):
    with pytest.raises(OutsideDataFoldersError):
        folders.place(0, name)


@pytest.mark.parametrize("folder", [-1, 1, 10**30])
def test_a_data_folder_that_there_is_not_cannot_be_entered(folders, folder):
    with pytest.raises(OutsideDataFoldersError):
        folders.place(folder, "")


def test_a_link_inside_leads_to_where_it_really_is(folders, tmp_path):
    assert tmp_path / "data" / "study" / "b.csv" == folders.place(0, "in/b.csv").path


def test_a_place_is_permitted_only_as_long_as_the_policy_names_its_folder(folders, tmp_path):
    place = folders.place(0, "A.csv")
    assert place.path == folders.permit(place.path)

    folders.home.settings_path.write_text(f'data_folders = ["{tmp_path / "beside"}"]\n')
    with pytest.raises(OutsideDataFoldersError, match="leads out"):
        folders.permit(place.path)


def test_without_data_folders_nothing_is_permitted(folders, tmp_path):
    folders.home.settings_path.write_text("")

    assert () == folders.roots()
    with pytest.raises(OutsideDataFoldersError, match="no data folder"):
        folders.permit(tmp_path / "data" / "A.csv")


def test_a_file_that_took_the_place_of_a_permitted_one_is_not_permitted(folders, tmp_path):
    path = folders.place(0, "A.csv").path
    path.unlink()
    path.symlink_to(tmp_path / "beside" / "secret.csv")

    with pytest.raises(OutsideDataFoldersError, match="leads out"):
        folders.permit(path)


def test_a_data_folder_needs_an_absolute_path(tmp_path):
    file = tmp_path / "policy.toml"
    file.write_text('data_folders = ["data"]\n')

    with pytest.raises(InvalidSettingsError, match="absolute path"):
        Policy.load(file)
