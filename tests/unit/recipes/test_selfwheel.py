import io
import re
import zipfile

from provision.recipes.selfwheel import pack_provision


def test_the_wheel_carries_code_recipes_and_metadata_and_is_reproducible() -> None:
    name, first = pack_provision()
    assert name.endswith("-py3-none-any.whl")
    assert pack_provision() == (name, first)
    with zipfile.ZipFile(io.BytesIO(first)) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        info = next(n.split("/")[0] for n in names if ".dist-info/" in n)
        assert "Name: provision" in archive.read(f"{info}/METADATA").decode()
        assert re.search(r"provision = provision\.\S+:run", archive.read(f"{info}/entry_points.txt").decode())
    assert "provision/cli/main.py" in names
    assert "provision/recipes/shipped/demo.toml" in names
    assert not [n for n in names if "__pycache__" in n]
