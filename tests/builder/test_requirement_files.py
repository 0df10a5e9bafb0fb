"""Requirement files, read as pip reads them."""

import pytest

from fnbuild.builder.requirement_files import FlatRequirements
from fnbuild.errors import BuildError


@pytest.fixture
def flat(folder):
    """Return the flat requirements of the folder, starting with requirements.txt."""

    def read(name="requirements.txt"):
        requirements = FlatRequirements(folder.resolve())
        requirements.read(folder.resolve() / name)
        return requirements

    return read


def test_lines_comments_and_joined_lines(flat, write):
    write(
        "requirements.txt",
        "# all of it\n\nnumpy>=1.26  # why\npillow \\\n  ==10.*\nsix\t# tab\nurl#egg\n"
        'tomli; python_version < "3.11"\n--extra-index-url https://example.org/x\n'
        "git+https://example.org/a.git@main#egg=a\nb @ https://example.org/b.whl\n",
    )
    assert flat().requirements == [
        "numpy>=1.26",
        "pillow   ==10.*",
        "six",
        "url#egg",
        'tomli; python_version < "3.11"',
        "--extra-index-url https://example.org/x",
        "git+https://example.org/a.git@main#egg=a",
        "b @ https://example.org/b.whl",
    ]


def test_byte_order_mark_and_windows_line_ends(flat, write):
    write("requirements.txt", "\ufeffnumpy\r\nsix\r\n".encode())
    assert flat().requirements == ["numpy", "six"]


def test_nested_files(flat, write):
    write("requirements.txt", "-r more/a.txt\n--requirement=more/b.txt\n-c limits.txt\n")
    write("more/a.txt", "a\n-r b.txt\n")
    write("more/b.txt", "b\n-r ../requirements.txt\n-rc.txt\n")
    write("more/c.txt", "c\n")
    write("limits.txt", "a<2\n")
    requirements = flat()
    assert requirements.requirements == ["a", "b", "c"]
    assert requirements.constraints == ["a<2"]
    assert [path.name for path in requirements.files] == [
        *("requirements.txt", "a.txt", "b.txt", "c.txt", "limits.txt")
    ]


def test_local_packages(flat, write, folder):
    write("libs/one/setup.py")
    write("two-1.0-py3-none-any.whl")
    write(
        "requirements.txt",
        "./libs/one\n-e libs/one[gpu]\ntwo-1.0-py3-none-any.whl ; python_version > '3'\n"
        "--find-links libs\n--find-links https://example.org/wheels\n",
    )
    requirements = flat()
    assert requirements.requirements == [
        f"{folder}/libs/one",
        f"{folder}/libs/one[gpu]",
        f"{folder}/two-1.0-py3-none-any.whl; python_version > '3'",
        f"--find-links {folder}/libs",
        "--find-links https://example.org/wheels",
    ]
    assert {path.name for path in requirements.own_packages} == {"one", "two-1.0-py3-none-any.whl"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n\n-r gone.txt\n", "requirements.txt:3: gone.txt is not a file in the function's"),
        ("-r /etc/hostname\n", "requirements.txt:1: /etc/hostname is not a file in"),
        ("-r ../other.txt\n", "requirements.txt:1: ../other.txt is not a file in"),
        ("a \\\n\nb\n./gone\n", "requirements.txt:4: ./gone is not in the function's folder"),
        ("gone-1.whl\n", "requirements.txt:1: gone-1.whl is not in the function's folder"),
        ("-e ../elsewhere\n", "requirements.txt:1: ../elsewhere is not in the"),
    ],
)
def test_a_missing_file_is_reported_with_its_position(flat, write, tmp_path, text, message):
    (tmp_path / "other.txt").write_text("x")
    (tmp_path / "elsewhere").mkdir()
    write("requirements.txt", text)
    with pytest.raises(BuildError) as caught:
        flat()
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfen\0u\0m\0", "is not UTF-8 text"),
        (b"a\n" * 600_000, "is larger than 1 MiB"),
    ],
)
def test_files_that_are_no_requirement_files(flat, write, content, message):
    write("requirements.txt", content)
    with pytest.raises(BuildError, match=message):
        flat()
