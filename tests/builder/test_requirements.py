"""pip steps of commands and directives as users write them."""

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fnbuild.builder.requirements import collect_requirements
from fnbuild.errors import BuildError
from fnbuild.function.types import Build, Directive, Directives, Function, Spec


def function_with(*lines: str, post: tuple[str, ...] = ()) -> Function:
    """Return a function with directives written as in a Dockerfile."""

    def directive(line: str) -> Directive:
        kind, _, value = line.partition(" ")
        return Directive(kind=kind, value=value)

    directives = Directives(
        pre_copy=[directive(line) for line in lines], post_copy=[directive(line) for line in post]
    )
    return Function(spec=Spec(build=Build(directives=directives)))


@pytest.fixture
def arguments(folder):
    """Return the arguments of pip, a tuple for each run."""

    def run(*lines: str, post: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        return [
            step.arguments
            for step in collect_requirements(function_with(*lines, post=post), folder).steps
        ]

    return run


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("RUN pip install numpy", [("numpy",)]),
        ("run pip3 install numpy", [("numpy",)]),
        ("RUN pip install -U pip && pip install --no-cache-dir 'a<5' b==1", [("a<5", "b==1")]),
        ("RUN pip install -U pip setuptools==60", [("-U", "setuptools==60")]),
        ("RUN pip install 'pip<24'", []),
        ("RUN python3 -m pip install a", [("a",)]),
        ("RUN /opt/x/bin/pip install a", [("a",)]),
        ("RUN pip3 install torch --index-url https://x/cpu", [("torch", "--index-url",
            "https://x/cpu")]),
        ("RUN pip install torch -f https://x/torch.html", [("torch", "-f", "https://x/torch.html")]),
        ('RUN ["pip", "install", "a b"]', [("a b",)]),
        ('RUN ["bash", "-c", "pip install a && pip install b"]', [("a",), ("b",)]),
        ("RUN bash -lc 'pip install a'", [("a",)]),
        ("RUN pip install \\\n    a \\\n    # why\n    b", [("a", "b")]),
        ("RUN FOO=1 pip install a", [("a",)]),
        ("RUN --mount=type=cache,target=/root/.cache/pip pip install a", [("a",)]),
        ("RUN <<EOF\npip install a\npip install b\nEOF", [("a",), ("b",)]),
        ("RUN set -eux; cd /tmp; pip install a; rm -rf /tmp/x", [("a",)]),
        ("RUN pip install a || pip install b", [("a",)]),
        ("RUN pip install 'git+https://example.org/a.git@v1#egg=a'", [(
            "git+https://example.org/a.git@v1#egg=a",)]),
        ("RUN pip install 'a @ https://example.org/a.whl'", [("a @ https://example.org/a.whl",)]),
        ("RUN pip uninstall -y opencv-python && pip install a", [("opencv-python",), ("a",)]),
        ("RUN pip cache purge && pip --version", []),
        ("RUN pip install", []),
    ],
)  # fmt: skip
def test_run_lines(arguments, line, expected):
    assert arguments(line) == expected


def test_steps_stay_apart_and_in_order(arguments):
    assert arguments(
        "RUN pip install torch --index-url https://x/cpu",
        "RUN pip install ultralytics",
        post=("RUN pip install late",),
    ) == [("torch", "--index-url", "https://x/cpu"), ("ultralytics",), ("late",)]


def test_uninstall_is_a_step(folder):
    (step,) = collect_requirements(function_with("RUN pip uninstall -y a"), folder).steps
    assert (step.verb, step.arguments) == ("uninstall", ("a",))


def test_values_of_env_and_arg(folder):
    build = Build(
        args={"TORCH": "2.1"},
        directives=function_with(
            "ARG TORCH=1.0",
            "ARG CUDA=cpu",
            "ENV A=1 B='x y'",
            "ENV OLD form of it",
            "ENV INDEX=https://x/${CUDA}",
            'RUN pip install "torch==${TORCH}" --index-url $INDEX $B',
            "RUN pip install $OLD",
        ).spec.build.directives,
    )
    requirements = collect_requirements(Function(spec=Spec(build=build)), folder)
    assert [step.arguments for step in requirements.steps] == [
        ("torch==2.1", "--index-url", "https://x/cpu", "x", "y"),
        ("form", "of", "it"),
    ]


def test_a_value_that_only_a_shell_knows(folder):
    requirements = collect_requirements(
        function_with("RUN pip install $(cat list) && pip install a"), folder
    )
    assert [step.arguments for step in requirements.steps] == [("a",)]
    assert requirements.ignored == ("pip install $(cat list)",)


def test_commands_that_need_a_container_are_listed_once_and_in_order(folder):
    requirements = collect_requirements(
        function_with(
            "USER root",
            "WORKDIR /opt/nuclio",
            "RUN apt-get update && apt-get install -y libgl1 && rm -rf /var/lib/apt/lists/*",
            "RUN apt-get update",
            "RUN pip install a; ln -s /usr/bin/python3 /usr/bin/python",
            "SHELL /bin/bash",
            "RUN echo done",
            "RUN " + "very-long " * 30,
        ),
        folder,
    )
    assert requirements.ignored[:4] == (
        *("USER root", "apt-get update", "apt-get install -y libgl1"),
        "ln -s /usr/bin/python3 /usr/bin/python",
    )
    assert len(requirements.ignored) == 5
    assert len(requirements.ignored[4]) == 80


class TestCommands:
    def test_commands_have_precedence_over_directives(self, folder):
        build = Build(
            commands=["pip install a", "@nuclio.postCopy", "pip install \\", "b"],
            directives=function_with("RUN pip install never", "USER root").spec.build.directives,
        )
        requirements = collect_requirements(Function(spec=Spec(build=build)), folder)
        assert [step.arguments for step in requirements.steps] == [("a",), ("b",)]
        assert [step.place for step in requirements.steps] == [
            *("spec.build.commands[0]", "spec.build.commands[3]")
        ]
        assert requirements.ignored == ()

    def test_a_last_command_with_a_continuation(self, folder):
        requirements = collect_requirements(
            Function(spec=Spec(build=Build(commands=["pip install a \\"]))), folder
        )
        assert [step.arguments for step in requirements.steps] == [("a",)]


class TestFiles:
    def test_a_file_without_a_pip_line_is_used(self, folder, write):
        write("requirements.txt", "numpy\n")
        requirements = collect_requirements(function_with("RUN pip install a"), folder)
        assert [(step.place, step.packages) for step in requirements.steps] == [
            ("spec.build.directives.preCopy[0]", ("a",)),
            ("requirements.txt", ("numpy",)),
        ]
        assert requirements.packages == ("a", "numpy")

    def test_an_empty_file_is_ignored(self, folder, write):
        write("requirements.txt", "# nothing\n")
        assert collect_requirements(function_with(), folder).steps == ()

    @pytest.mark.parametrize(
        "line",
        [
            "RUN pip install -r requirements.txt",
            "RUN pip install -r /opt/nuclio/requirements.txt",
            "RUN cd /opt/nuclio && pip install -r ./requirements.txt",
            "RUN pip install -r /tmp/requirements.txt",
            "RUN pip install --requirement=requirements.txt",
        ],
    )
    def test_a_file_with_a_pip_line_is_used_once(self, folder, write, line):
        path = write("requirements.txt", "numpy\n")
        requirements = collect_requirements(function_with(line), folder)
        assert [step.requirements for step in requirements.steps] == [("numpy",)]
        assert requirements.files == (path,)

    def test_folders_of_the_container(self, folder, write):
        write("sub/more.txt", "numpy\n")
        for lines in (
            ["RUN pip install -r /opt/nuclio/sub/more.txt"],
            ["WORKDIR /opt/nuclio/sub", "RUN pip install -r more.txt"],
            ["WORKDIR /opt", "WORKDIR nuclio", "RUN cd sub && pip install -r more.txt"],
        ):
            (step,) = collect_requirements(function_with(*lines), folder).steps
            assert step.requirements == ("numpy",)

    def test_constraints(self, folder, write):
        write("limits.txt", "numpy<2\n")
        (step,) = collect_requirements(
            function_with("RUN pip install numpy -c limits.txt"), folder
        ).steps
        assert (step.constraints, step.arguments) == (("numpy<2",), ("numpy",))

    def test_local_packages(self, folder, write):
        write("lib/setup.py")
        line = "RUN pip install -e . /opt/nuclio/lib './lib[gpu]' lib/"
        (step,) = collect_requirements(function_with(line), folder).steps
        root = folder.resolve()
        assert step.arguments == (f"{root}", f"{root}/lib", f"{root}/lib[gpu]", f"{root}/lib")
        assert set(step.own_packages) == {root, root / "lib"}

    @pytest.mark.parametrize(
        ("line", "name"),
        [
            ("RUN pip install -r gone.txt", "gone.txt"),
            ("RUN pip install a ./gone", "./gone"),
            ("RUN pip install -r ../../../etc/hostname", "../../../etc/hostname"),
            ("RUN pip install -r", ""),
            ("RUN pip install -r /opt/nuclio", "/opt/nuclio"),
        ],
    )
    def test_a_missing_file_is_reported_with_its_position(self, folder, line, name):
        with pytest.raises(BuildError) as caught:
            collect_requirements(function_with("USER root", line), folder)
        assert str(caught.value) == (
            f"spec.build.directives.preCopy[1]: {name} is not in the function's folder"
            f" ({line.removeprefix('RUN ')})"
        )

    def test_a_file_that_a_container_would_have_fetched(self, folder):
        requirements = collect_requirements(
            function_with(
                "RUN git clone https://x/y && cd y && pip install -r req.txt && pip install a"
            ),
            folder,
        )
        assert [step.arguments for step in requirements.steps] == [("a",)]
        assert requirements.ignored == ("git clone https://x/y", "pip install -r req.txt")


WORDS = [
    *("RUN", "ENV", "WORKDIR", "ARG", "pip", "python3", "-m", "install", "uninstall", "-r", "-c"),
    *(
        "-e",
        "-f",
        ".",
        "..",
        "/",
        "/opt/nuclio",
        "x.txt",
        "a[b]",
        "--index-url",
        "--target",
        "=",
        "",
    ),
    *("&&", "||", ";", "'", '"', "$X", "$(", "`", "\\", "\n", "<<EOF", '["pip",', "]", "[", "\0"),
    *("conda", "run", "sh", "-c", "cd", "sudo", "git", "#", ">", "2>&1", "é", "X=1", "{", "("),
]


@pytest.mark.parametrize("line", ["RUN pip install -r /workspace/gone.txt", "RUN pip install ./a"])
def test_a_file_that_may_be_in_the_image(folder, line):
    requirements = collect_requirements(
        function_with(line, "RUN pip install b"), folder, image=True
    )
    assert requirements.ignored == (line.removeprefix("RUN "),)
    assert requirements.packages == ("b",)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=9), max_size=4))
def test_any_text_ends_as_steps_or_one_clear_error(folder, lines):
    function = function_with(*(" ".join(line) for line in lines))
    with contextlib.suppress(BuildError):
        requirements = collect_requirements(function, folder)
        for step in requirements.steps:
            for source in step.own_packages:
                assert folder.resolve() in [source, *source.parents]


@pytest.mark.parametrize("name", ["./a\0b", "x" * 5000 + ".whl"])
def test_invalid_file_names(folder, name):
    with pytest.raises(BuildError, match="is not in the function's folder"):
        collect_requirements(function_with(f"RUN pip install {name}"), folder)
