"""Tables on the terminal: cells are never markup, figures never wrap."""

from cstl_edge.cli.console import boxed_table, plain_table, print_demo, text_console
from cstl_edge.demo import DemoResult, WalkerRow

ROWS = [("[red]Ada " + 12 * "long ", "1.25"), ("Ben", "10.5")]


def test_left_columns_wrap_and_figures_do_not(capsys):
    console = text_console(width=40)
    console.print(boxed_table("Who", ("name", "distance"), ROWS, left=("name",)))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].rstrip() == "Who"
    assert {len(line) for line in lines} == {40}
    assert "[red]Ada long" in lines[4]
    assert lines[4].endswith("│     1.25 │")
    assert lines[-2].startswith("│ Ben")
    assert lines[-2].endswith("│     10.5 │")


def test_plain_table_has_a_line_per_row_however_wide():
    lines = plain_table("FNIR of a title that is wider", ("name", "FNIR"), ROWS).splitlines()
    assert lines[0] == "FNIR of a title that is wider"
    assert len(lines) == 2 + len(ROWS)
    assert lines[2] == f"{ROWS[0][0]}  1.25"
    assert lines[3] == "Ben" + " " * (len(ROWS[0][0]) - 3) + "  10.5"


def test_demo_prints_walkers_and_stages(capsys):
    row = WalkerRow("street", "walker 1", "Ada [x]", "Ada [x]", 0.5881, None, "true accept")
    stages = {"street": {"encode": {"count": 3, "p50_ms": 1.234, "p99_ms": 5.0}}}
    print_demo(DemoResult(0, [row], stages=stages, lines=["look at [here]"]), as_json=False)
    text = capsys.readouterr().out
    assert "│ street │ walker 1 │ Ada [x] │ Ada [x] │ 0.588    │           │ true accept │" in text
    assert "│ street │ encode │     3 │ 1.23 │ 5.00 │" in text
    assert text.endswith("look at [here]\n")
