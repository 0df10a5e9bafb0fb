"""The limits that all findings about a reply share."""

from fnbuild.cvat.reply_report import ReplyReport

LABELS = {f"label-{i}": i for i in range(40)}


def test_the_number_of_suggestions_is_limited():
    report = ReplyReport()
    hints = [report.suggestion(f"lable-{i}", ["label"]) for i in range(150)]
    assert hints[:100] == ['did you mean "label"?'] * 100
    assert hints[100:] == [None] * 50
    many = ReplyReport()
    assert sum(many.suggestion("lable-1", LABELS) is not None for _ in range(150)) == 50


def test_long_words_and_many_candidates_are_not_compared(monkeypatch):
    compared = []

    def matches(word, candidates, **_):
        compared.append(len(word))
        return []

    monkeypatch.setattr("difflib.get_close_matches", matches)
    report = ReplyReport()
    assert report.suggestion("x" * 100_000, LABELS).startswith("known: label-0, ")
    assert compared == [80]
    thousands = dict.fromkeys(map(str, range(5000)))
    assert report.suggestion("17", thousands) == "known: 0, 1, 2, 3, 4, 5, …"
    assert compared == [80]
