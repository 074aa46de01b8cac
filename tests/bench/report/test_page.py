"""The report's page: figures, escaped text, no loads or scripts."""

import html
import re
from html.parser import HTMLParser
from itertools import islice

import pytest
from standin_results import CONTENDERS, SUBJECT, graph_rows, row, samples

from cstl_edge.bench.record import Case, Check, Ran
from cstl_edge.bench.report.page import html_page, markdown_page
from cstl_edge.errors import ConfigError, DataError

FULL = Case(graph="full", batch=1, frames=30)
EVIL = "<script>alert(1)</script>\"'><img src=http://evil.test/x onerror=alert(1)> [a](http://evil)"
VOID = {"meta", "br", "img", "link", "hr", "input"}


class Reader(HTMLParser):
    """Fails where tags do not match; gathers what a browser would act on."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.cells, self.ids = [], set(), [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


@pytest.fixture(scope="module")
def graph_page(report_in, tmp_path_factory):
    """The page of every backend for three graphs."""
    return html_page(report_in(tmp_path_factory.mktemp("page"), list(graph_rows())))


def percentile(samples, q):
    """As trtexec counts it, written again."""
    return sorted(samples)[len(samples) - 1 - int((1 - q / 100) * len(samples))]


def test_percentiles_and_counts_are_those_of_the_raw_samples(report_of):
    taken = [round(0.01 * k + 1, 2) for k in range(777, 0, -1)]  # 1.01 to 8.77, digits all carried
    read = Reader(html_page(report_of([row(case=FULL, samples={"wall": taken})])))
    k = read.cells.index("onnxruntime float32")
    shown, count = [float(x) for x in read.cells[k + 1 : k + 5]], read.cells[k + 5]
    assert count == "777"
    for actual, q in zip(shown, (50, 90, 95, 99), strict=True):
        assert actual == pytest.approx(percentile(taken, q), rel=0.05)


def test_ratios_are_within_a_case_and_a_run(report_of):
    rows = [
        row(contender="pytorch float32", case=FULL, samples={"wall": [50.0] * 200}),
        row(case=FULL, samples={"wall": [10.0] * 200}),
        row(case=Case(graph="frames", batch=1), samples={"wall": [1.0] * 200}),
        row(contender="openvino int8", case=FULL, samples={"wall": [5.0] * 200},
            subject=SUBJECT.model_copy(update={"weights_sha256": "b" * 64})),
    ]  # fmt: skip
    markdown = markdown_page(report_of(rows))
    assert re.search(r"\| onnxruntime float32 \| 10.0 .* 5.00× \|", markdown)
    assert not re.search(r"\| openvino int8 [^\n]*×", markdown)


def test_names_with_markup_in_them_are_inert(report_of):
    ran = Ran(backend=EVIL, provider=EVIL, precision=EVIL, computed_in="x", version=EVIL)
    evil = {
        "run": EVIL,
        "contender": EVIL,
        "ran": ran,
        "subject": SUBJECT.model_copy(update={"name": EVIL}),
        "case": Case(graph="full", source=EVIL),
        "warnings": [EVIL],
        "environment": {"cpu": EVIL, "commit": EVIL, "packages": {EVIL: EVIL}, "gpus": [EVIL]},
        "values": {EVIL: 1.0},
    }
    scenarios = ("graph", "single", "multi", "offline", "end_to_end", "accuracy", "peers", "power")
    rows = [row(scenario=name, samples={"wall": samples(1.0, 9), EVIL: samples(1.0, 9)}, **evil)
            for name in (*scenarios, "trtexec")]  # fmt: skip
    rows.append(row(skipped=EVIL, **evil))
    report = report_of(rows)
    read = Reader(html_page(report))
    assert not {"script", "img", "iframe", "object"} & read.tags
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert any(EVIL in cell for cell in read.cells)
    markdown = markdown_page(report)
    assert "<script" not in html.unescape(markdown).replace("\\<script", "")
    assert not re.search(r"(?<!\\)\[a\]|http://", markdown)


def test_the_page_loads_and_runs_nothing(graph_page):
    text = graph_page
    read = Reader(text)
    assert not {"script", "link", "img", "iframe", "object", "embed"} & read.tags
    assert "http:" not in text
    assert "https:" not in text
    assert not re.search(r"url\((?!#)|@import|@font-face|src=", text)
    assert "default-src 'none'" in text
    for name, value in read.attributes:
        if name in ("href", "xlink:href"):
            assert value.startswith("#")


def test_ids_are_unique_and_every_reference_has_one(report_of):
    other = graph_rows(run="r2", environment={"cores": 8})
    two = [*islice(graph_rows(), 3), *islice(other, 3)]
    text = html_page(report_of(two))
    ids = Reader(text).ids
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)) <= {
        pair for one in ids for pair in ((one, ""), ("", one))
    }


def test_pictures_have_words_for_who_does_not_see_them(graph_page):
    pictures = re.findall(r'<svg [^>]*role="img" aria-label="([^"]+)"', graph_page)
    assert len(pictures) == 3
    for contender in CONTENDERS:
        assert all(f"{contender}: median" in alt for alt in pictures)
    assert "<text" in graph_page


def test_two_commits_are_compared(report_of):
    newer = {"environment": {"commit": "feedfeed", "utc": "2026-11-26T00:00:00Z"}, "run": "r2"}
    rows = graph_rows(), graph_rows(scale=0.8, seed=7000, **newer)
    report = report_of(*(list(islice(side, len(CONTENDERS))) for side in rows))
    assert report.chapters[0].title == "Comparison: 0123456789ab and feedfeed"
    verdicts = [str(line[1]) for line in report.chapters[0].sections[0].tables[0].rows]
    assert verdicts == ["faster"] * 8
    assert markdown_page(report).count("| faster |") == 8
    assert report.chapters[0].sections[0].lead == ("8 faster.",)


def test_a_comparison_of_rows_with_warnings_has_a_remark(report_of):
    doubtful = {"warnings": ["busy machine: others took 1.3 of 2 cores"], "case": FULL}
    rows = [row(samples={"wall": samples(9.0)}, environment={"commit": name}, **doubtful)
            for name in ("a", "b")]  # fmt: skip
    assert "1 of 1 pairs" in report_of(rows).chapters[0].sections[0].lead[1]


def test_walkers_held_and_peaks_of_two_commits_stand_beside_each_other(report_of):
    def side(walkers, rate, **more):
        case = Case(graph="streaming", hop=5, walkers=walkers, paced_hz=25.0)
        yield row("multi", case=case, values={"walkers": walkers}, samples={"latency": [9.0] * 99},
                  **more)  # fmt: skip
        yield row("roofline", "peak float32", samples={"wall": samples(1 / rate)},
                  details={"kind": "arithmetic", "device": "cpu", "precision": "float32"},
                  values={"gmacs_per_s": rate}, **more)  # fmt: skip

    newer = {"environment": {"commit": "feedfeed", "utc": "2026-11-26T00:00:00Z"}, "run": "r2"}
    report = report_of([*side(20, 100.0), *side(31, 50.0, **newer)], against="0123")
    assert [one.title for one in report.chapters[0].sections] == [
        "Nothing to compare",
        "Figures beside each other",
    ]
    values = {(line[0], line[3], line[4]) for line in report.chapters[0].sections[1].tables[0].rows}
    assert values == {("onnxruntime float32", "20", "31"), ("peak float32", "100", "50.0")}


def test_machines_that_share_nothing_are_not_compared(report_of):
    other = row(case=FULL, samples={"wall": [1.0]}, environment={"cores": 64, "commit": "x"})
    rows = [row(case=Case(graph="frames", batch=1), samples={"wall": [1.0]}), other]
    assert [chapter.title for chapter in report_of(rows).chapters] == [
        "AMD EPYC-Test, avx512f, 2 cores, Linux x86_64",
        "AMD EPYC-Test, avx512f, 64 cores, Linux x86_64",
    ]
    requested = report_of(rows, against="x").chapters[0]
    assert requested.sections[0].title == "Nothing to compare"


@pytest.mark.parametrize("taken", [[3.2], [0.0], [0.0, 0.0, 5.0], [1e-6, 1e6]])
def test_any_few_samples_make_a_page(report_of, taken):
    rows = [row(scenario=name, case=FULL, samples={"wall": taken, "match": taken})
            for name in ("graph", "single", "end_to_end", "offline", "multi")]  # fmt: skip
    Reader(html_page(report_of(rows)))


def test_only_skipped_rows_make_a_page_of_reasons(report_of):
    read = Reader(html_page(report_of([row(contender="tensorrt float16", skipped="no GPU")])))
    k = read.cells.index("tensorrt float16")
    assert read.cells[k : k + 3] == ["tensorrt float16", "graph", "no GPU"]


def test_a_backend_with_wrong_outputs_has_no_time(report_of):
    wrong = Check(reference="pytorch float32", cosine=0.3, max_abs=2.0, ok=False)
    text = markdown_page(report_of([row(case=FULL, check=wrong)]))
    assert "wrong outputs: cosine 0.3" in text


def test_wrong_rows_of_roofline_are_refused(report_of):
    bad = row("roofline", values={"gmacs_per_s": 1.0}, details={"kind": "arithmetic"})
    with pytest.raises(DataError, match="roofline"):
        report_of([bad, row(case=FULL, samples={"wall": [1.0]})])


def test_an_unknown_commit_is_refused(report_of):
    with pytest.raises(ConfigError, match="--against"):
        report_of(list(graph_rows()), against="ffff")
