"""The properties that a recipe takes from a function, and invalid directives."""

import pytest

from fnbuild.builder.image.dockerfile import pre_copy_dockerfile
from fnbuild.builder.image.recipe import create_recipe
from fnbuild.errors import BuildError, InputError
from fnbuild.function.types import Build, Directive, Directives, Function, Platform, Spec


def function(*lines, post=(), attributes=None, **build):
    """Return a function with these (kind, value) directives before the code."""
    directives = Directives(
        pre_copy=[Directive(kind=kind, value=value) for kind, value in lines],
        post_copy=[Directive(kind=kind, value=value) for kind, value in post],
    )
    platform = Platform(attributes=attributes or {})
    return Function(spec=Spec(build=Build(directives=directives, **build), platform=platform))


def text(*lines, heredocs=False, shell=(), **about):
    """Return the instructions after FROM."""
    recipe = create_recipe(function(*lines, **about), "base", heredocs=heredocs, shell=shell)
    return pre_copy_dockerfile(recipe).text.removeprefix("FROM base\n")


def refused(*lines, error=BuildError, **about):
    with pytest.raises(error) as caught:
        text(*lines, **about)
    return caught.value


class TestDirectives:
    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            ("USER", "root"),
            ("WORKDIR", "/Alphapose"),
            ("ENTRYPOINT", '["conda", "run"]'),
            ("ADD", "https://a.example.org/b?c=1&d=2 /e"),
            ("ENV", "A=1 \\\n    B=2"),
            ("VOLUME", '["/a b"]'),
            ("ONBUILD", "RUN true"),
            ("RUN", 'sh -c "a \\"b\\" `c` $NF"'),
            ("RUN", "--mount=type=cache,target=/root/.cache pip install a"),
            ("RUN", '["a", "b"]'),
            ("RUN", "[ -d a ] || [ -d b ]"),
            ("RUN", "a && \\\n  # comment\n  b"),
        ],
    )
    def test_are_unchanged(self, kind, value):
        assert text((kind, value)) == f"{kind} {value}\n"
        assert text((kind.lower(), f" {value}\n")) == f"{kind} {value}\n"
        assert text((kind, value), heredocs=True) == f"{kind} {value}\n"

    def test_have_their_positions(self):
        recipe = create_recipe(function(("USER", "a"), ("RUN", "b"), args={"A": "1"}), "base")
        assert [
            (instruction.text, instruction.place)
            for instruction in pre_copy_dockerfile(recipe).instructions
        ] == [
            ("FROM base", ""),
            ("ARG A", ""),
            ("USER a", "spec.build.directives.preCopy[0]"),
            ("RUN b", "spec.build.directives.preCopy[1]"),
        ]

    def test_windows_line_ends(self):
        assert text(("RUN", "a \\\r\n  b\r\n")) == "RUN a \\\n  b\n"

    @pytest.mark.parametrize("value", ["a \\", "a \\\n", "a \\  \n\n", "a \\\n# the end\n"])
    @pytest.mark.parametrize("kind", ["RUN", "ENV"])
    def test_a_trailing_backslash_does_not_join_the_next_line(self, kind, value):
        assert text((kind, value), ("USER", "b")) == f"{kind} a\nUSER b\n"

    @pytest.mark.parametrize("kind", ["FROM", "from"])
    def test_a_second_base_image_is_refused(self, kind):
        error = refused((kind, "scratch"))
        assert error.message.startswith("spec.build.directives.preCopy[0]: FROM is not allowed")

    def test_an_unknown_instruction_is_refused(self):
        error = refused(post=[("RUNN", "a")])
        assert error.message == (
            "spec.build.directives.postCopy[0]: 'RUNN' is not a Dockerfile instruction"
        )
        assert error.hint == "did you mean RUN?"
        assert "'RUN A\\x0aUSER' is not" in refused(("RUN a\nUSER", "b")).message

    def test_an_empty_value_is_refused(self):
        assert refused(("RUN", " \n")).message.endswith("preCopy[0]: RUN has no value")

    @pytest.mark.parametrize("kind", ["ENV", "WORKDIR", "COPY", "LABEL", "ENTRYPOINT", "ARG"])
    def test_a_line_break_that_would_begin_another_instruction_is_refused(self, kind):
        error = refused(("RUN", "a"), (kind, "A=1\nUSER root"))
        assert f"preCopy[1]: a line break ends {kind} in the middle" in error.message

    @pytest.mark.parametrize("value", ["/bin/bash -c", "['/bin/bash', '-c']", "[]", '["a", 1]'])
    def test_shell_is_an_array(self, value):
        assert "preCopy[0]: SHELL needs a JSON array" in refused(("SHELL", value)).message

    @pytest.mark.parametrize("kind", ["COPY", "ADD"])
    def test_files_in_a_directive_need_an_engine_that_knows_them(self, kind):
        value = "<<EOF /a.txt\nsome text\nEOF"
        assert text((kind, value), heredocs=True) == f"{kind} {value}\n"
        error = refused((kind, value))
        assert f"preCopy[0]: the engine does not support heredocs in {kind}" in error.message
        assert f"{kind} handler/FILE" in error.hint

    @pytest.mark.parametrize("value", ["<<EOF /a\ntext", "<<EOF /a\nb\nEOF\nUSER root"])
    def test_files_in_a_directive_end_with_it(self, value):
        assert "preCopy[0]: the heredoc" in refused(("COPY", value), heredocs=True).message


class TestRun:
    SCRIPT = 'python3 -c "\n# comment\nprint()\n"'

    def test_a_script_is_run_by_the_current_shell(self):
        lines = [("RUN", self.SCRIPT), ("SHELL", '["/bin/bash", \\\n "-c"]'), ("RUN", self.SCRIPT)]
        quoted = self.SCRIPT.replace('"', '\\"').replace("\n", "\\n")
        assert text(*lines).split("\n") == [
            f'RUN ["/bin/sh", "-c", "{quoted}"]',
            'SHELL ["/bin/bash", \\',
            ' "-c"]',
            f'RUN ["/bin/bash", "-c", "{quoted}"]',
            "",
        ]
        assert text(lines[0], shell=("/bin/zsh", "-c")) == f'RUN ["/bin/zsh", "-c", "{quoted}"]\n'

    def test_a_script_becomes_a_heredoc(self):
        assert text(("RUN", self.SCRIPT), heredocs=True) == f"RUN <<'EOF'\n{self.SCRIPT}\nEOF\n"

    def test_flags_stay_in_front(self):
        value = f"--mount=type=cache,target=/a --network=none {self.SCRIPT}"
        start = "RUN --mount=type=cache,target=/a --network=none "
        assert text(("RUN", value)).startswith(start + '["/bin/sh", "-c", ')
        assert text(("RUN", value), heredocs=True).startswith(start + "<<'EOF'\n")

    @pytest.mark.parametrize("heredocs", [True, False])
    @pytest.mark.parametrize("value", ["<<EOF\na", "<<-EOF\na\n EOF"])
    def test_an_unterminated_heredoc_is_refused(self, value, heredocs):
        error = refused(("RUN", value), heredocs=heredocs)
        assert "preCopy[0]: the heredoc is not closed" in error.message

    def test_text_after_a_heredoc_is_refused(self):
        error = refused(("RUN", "<<EOF\na\nEOF\nb"))
        assert "preCopy[0]: text follows the end of the heredoc" in error.message


class TestCommands:
    def test_replace_the_directives(self):
        about = function(("USER", "a"), commands=["b", "@nuclio.postCopy", "c"])
        recipe = create_recipe(about, "base")
        assert [directive.value for directive in recipe.pre_copy] == ["b"]
        assert [directive.value for directive in recipe.post_copy] == ["c"]
        assert recipe.post_copy[0].place == "spec.build.commands[2]"

    def test_a_continued_command_ends_at_the_code(self):
        recipe = create_recipe(function(commands=["a \\", "@nuclio.postCopy", "b \\"]), "base")
        assert [directive.value.strip() for directive in (*recipe.pre_copy, *recipe.post_copy)] == [
            "a",
            "b",
        ]
        assert recipe.pre_copy[0].place == "spec.build.commands[0]"
        assert recipe.post_copy[0].place == "spec.build.commands[2]"


class TestArguments:
    def test_have_their_order_and_no_values(self):
        assert text(args={"B": "secret", "A": "x y", "C": ""}) == "ARG A\nARG B\n"

    def test_nuclios_arguments_are_set_if_used(self):
        line = ("RUN", "echo ${NUCLIO_ARCH} $NUCLIO_BUILD_LOCAL_HANDLER_DIR")
        first = "ARG NUCLIO_ARCH=arm64\nARG NUCLIO_BUILD_LOCAL_HANDLER_DIR=handler\n"
        recipe = create_recipe(function(line), "base", architecture="arm64")
        assert pre_copy_dockerfile(recipe).text.startswith(f"FROM base\n{first}RUN ")
        assert text(("RUN", "echo $NUCLIO_BUILD_OFFLINE")).startswith("RUN ")
        assert text(("RUN", "echo $NUCLIO_BUILD_OFFLINE"), offline=True).startswith(
            "ARG NUCLIO_BUILD_OFFLINE=true\n"
        )
        assert text(("RUN", "echo $MY_NUCLIO_ARCHIVE")).startswith("RUN ")

    def test_the_functions_own_value_wins(self):
        lines = text(("RUN", "echo $NUCLIO_ARCH"), args={"NUCLIO_ARCH": "riscv64"})
        assert lines.startswith("ARG NUCLIO_ARCH\nRUN ")

    @pytest.mark.parametrize("name", ["A B", "1A", "A\nUSER root", ""])
    def test_an_invalid_name_is_refused(self, name):
        error = refused(args={name: "1"}, error=InputError)
        assert error.message.startswith("spec.build.args: ")


class TestHealthInterval:
    @pytest.mark.parametrize(
        ("value", "interval"),
        [
            (None, "10s"), ("", "10s"), ("30s", "30s"), (" 1m30s ", "1m30s"), ("500ms", "500ms"),
        ],
    )  # fmt: skip
    def test_is_a_duration(self, value, interval):
        attributes = {} if value is None else {"healthCheckInterval": value}
        assert create_recipe(function(attributes=attributes), "base").health_interval == interval

    @pytest.mark.parametrize("value", ["soon", 5, 0, "-1s", "0s", True, [1], "1us"])
    def test_other_values_are_refused(self, value):
        error = refused(attributes={"healthCheckInterval": value}, error=InputError)
        assert error.message.startswith("spec.platform.attributes.healthCheckInterval: ")


@pytest.mark.parametrize("base", ["", "a b", "a\nRUN b", "Upper/case", "$BASE", "a AS b"])
def test_an_invalid_base_image_is_refused(base):
    with pytest.raises(InputError, match=r"spec\.build\.baseImage: "):
        create_recipe(function(), base)
