"""Files that are not what their ending says, and damaged ones."""

import base64
import bz2
import gzip
import json
import lzma
import os
import threading
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from components.errors import UserError
from components.evaluation.offline import delimited, files
from components.evaluation.offline.answers import Given, read_answers
from components.evaluation.offline.files import is_table, json_values, table
from components.evaluation.offline.findings import Findings
from components.sources import text_files
from tests.evaluation.offline.layouts import score

RECORDS = [{"question_id": n, "text": f"answer {n}"} for n in range(4)]
GIVEN = [Given(str(n), f"answer {n}") for n in range(4)]
LINES = "\n".join(map(json.dumps, RECORDS))

LAYOUTS = {
    "lines": LINES,
    "lines with a BOM and CRLF": "\ufeff" + LINES.replace("\n", "\r\n") + "\r\n",
    "lines with commas": LINES.replace("\n", ",\n") + ",",
    "lines in brackets": "[\n" + LINES.replace("\n", ",\n") + "\n]",
    "one list": json.dumps(RECORDS),
    "one pretty list": json.dumps(RECORDS, indent=2),
    "an object of texts": json.dumps({str(n): f"answer {n}" for n in range(4)}, indent=1),
    "outputs of a result": json.dumps({"acc": 50.0, "outputs": {str(n): f"answer {n}" for n in range(4)}}),
    "right and wrong apart": json.dumps(
        {
            "correct": [{"question_id": str(n), "pred": f"answer {n}"} for n in range(2)],
            "incorrect": [{"question_id": str(n), "pred": f"answer {n}"} for n in range(2, 4)],
        },
        indent=2,
    ),
    "lines of two files": LINES[: LINES.index("\n", 60) + 1] + "\ufeff" + LINES[LINES.index("\n", 60) + 1 :],
    "quotes that quote nothing": "index\tprediction\textra\n" + "".join(f'{n}\tanswer {n}\t"x\n' for n in range(4)),
    "texts in lists": "\n".join(json.dumps({"question_id": n, "text": [f"answer {n}"]}) for n in range(4)),
    "an object of lists of a text": json.dumps({str(n): [f"answer {n}"] for n in range(4)}),
    "an object of records": json.dumps({str(n): {"answer": "right", "output": f"answer {n}"} for n in range(4)}),
    "an object of records with ids": json.dumps({f"row{r['question_id']}": r for r in RECORDS}),
    "pandas by column": pd.DataFrame(RECORDS).to_json(),
    "pandas by row": pd.DataFrame(RECORDS).to_json(orient="index"),
    "lists by column": json.dumps({key: [record[key] for record in RECORDS] for key in RECORDS[0]}),
    "settings around answers by id": json.dumps({"model": "m", "answers": {str(n): f"answer {n}" for n in range(4)}}),
    "settings around the list": json.dumps({"m": {"name": "x", "path": "y"}, "beams": 1, "results": RECORDS}),
    "pretty objects": "\n".join(json.dumps(record, indent=2) for record in RECORDS),
    "objects in one line": "".join(map(json.dumps, RECORDS)),
    "a list of each process": json.dumps(RECORDS[:2]) + "\n" + json.dumps(RECORDS[2:]),
    "capitals and texts alone": "\n".join(json.dumps({"ID": str(n), "Output": f"answer {n}"}) for n in range(4)),
    "predictions": "\n".join(json.dumps({"question_id": str(n), "prediction": f"answer {n}"}) for n in range(4)),
    "tabs": "index\tprediction\n" + "".join(f"{n}\tanswer {n}\n" for n in range(4)),
    "semicolons": "index;prediction\n" + "".join(f"{n};answer {n}\n" for n in range(4)),
    "bars": "index|prediction\n" + "".join(f"{n}|answer {n}\n" for n in range(4)),
    "semicolons in a name": "a;b;c,index,prediction\n" + "".join(f"x,{n},answer {n}\n" for n in range(4)),
    "Excel's first line": "sep=;\r\nindex;prediction\r\n" + "".join(f"{n};answer {n}\r\n" for n in range(4)),
    "blanks and capitals": "Index , Prediction\n" + "".join(f" {n} ,answer {n}\n" for n in range(4)),
    "ids as fractions": "index,prediction\n" + "".join(f"{n}.0,answer {n}\n" for n in range(4)),
    "a first round": "index,round_id,prediction\n" + "".join(f"{n},0,answer {n}\n" for n in range(4)),
    "capitals in lines": "\n".join(json.dumps({"Question_ID": n, "Prediction": f"answer {n}"}) for n in range(4)),
    "commas": "index,prediction\n" + "".join(f"{n},answer {n}\n" for n in range(4)),
}


@pytest.mark.parametrize("ending", ["jsonl", "json", "xlsx"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_is_read_whatever_the_ending(layout: str, ending: str, tmp_path: Path) -> None:
    path, findings = tmp_path / f"answers.{ending}", Findings()
    path.write_text(LAYOUTS[layout], encoding="utf-8", newline="")
    assert read_answers(path, findings) == GIVEN
    assert findings.lines == []


def test_spreadsheet_is_read_whatever_the_ending(tmp_path: Path) -> None:
    path = tmp_path / "sheet.xlsx"
    frame = pd.DataFrame({"index": [0.0, 1.0, 2.0], "prediction": ["answer 0", None, "None"]})
    frame.to_excel(path, index=False)
    path = path.rename(tmp_path / "sheet.csv")
    assert table(path, Findings()) == [
        {"index": "0", "prediction": "answer 0"},
        {"index": "1", "prediction": ""},
        {"index": "2", "prediction": "None"},
    ]


def test_utf16_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("index,prediction\n0,grün\n", encoding="utf-16")
    assert read_answers(path, Findings()) == [Given("0", "grün")]


@pytest.mark.parametrize(
    ("layout", "kept", "message"),
    [
        ("lines", 3, "1 lines are no JSON (the first is line 4"),
        ("one list", 3, "only the 3 entries before that"),
        ("one pretty list", 3, "only the 3 entries before that"),
        ("an object of texts", 1, "only the 1 entries before that"),
    ],
)
def test_cut_off_file_is_read_up_to_the_cut(layout: str, kept: int, message: str, tmp_path: Path) -> None:
    path, findings = tmp_path / "cut.json", Findings()
    path.write_text(LAYOUTS[layout][:-8])
    assert len(json_values(path, findings)) == kept
    assert len(read_answers(path, Findings())) == 3
    assert message in findings.lines[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello", "neither JSON nor a table"),
        (b"{\x00\x01\xff\xfe", "neither text nor"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(99), "is 7z; JSON, JSON lines, delimited text"),
        (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(99), "is OLE2 .old Excel or Word"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "is Git LFS pointer"),
        (b"\x80\x04\x95" + bytes(99), "is pickle"),
        (b"\xff\xff\xff\xff" + bytes(99), "is Arrow stream"),
        (b"PAR1" + bytes(99), "is Parquet that is cut off"),
        (gzip.compress(LINES.encode())[:-9], "is cut off or damaged"),
        (b"PK\x03\x04 damaged", "not a spreadsheet"),
        (b"[nonsense", "no JSON that can be read"),
        (b'{"question": "is there a bird?", "id": 1, "answer": "yes"}', "holds no answers"),
        (b"index,comment\n1,hm\n", "holds no answers"),
        (b"x" * 200_000 + b",comment\n1,hm\n", "holds no answers"),
    ],
)
def test_unreadable_file_is_refused_in_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        read_answers(path, Findings())
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 500


def test_a_field_that_is_too_long_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "_LARGEST_FIELD", 200)
    path = tmp_path / "t.csv"
    for text in ("index,question\n1," + "x" * 300 + "\n", "x" * 300 + ",index\n"):
        path.write_text(text)
        with pytest.raises(UserError, match=r"t.csv is no delimited text .* larger than field limit"):
            table(path, Findings())


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("first", ["", "sep=,"])
def test_lines_end_as_any_system_writes_them(first: str, end: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(end.join(filter(None, (first, "index,question", "1,x", "2,y", ""))).encode())
    rows = [{"index": "1", "question": "x"}, {"index": "2", "question": "y"}]
    assert table(path, Findings()) == rows


def test_rows_of_another_width_are_left_out_and_reported(tmp_path: Path) -> None:
    path, findings = tmp_path / "t.tsv", Findings()
    path.write_text("index\tprediction\n1\tA\n2\n")
    assert len(table(path, findings)) == 1
    assert "1 rows have not the header's 2 columns" in findings.lines[0]


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "UTF-16 without a mark": lambda data: data.decode().encode("utf-16-le"),
    "UTF-16, big end first": lambda data: data.decode().encode("utf-16-be"),
}


@pytest.mark.parametrize("layout", ["lines", "commas", "one list"])
@pytest.mark.parametrize("packing", PACKED)
def test_packed_and_wide_text_is_read(packing: str, layout: str, tmp_path: Path) -> None:
    path, findings = tmp_path / "answers.json", Findings()
    path.write_bytes(PACKED[packing](LAYOUTS[layout].encode()))
    assert read_answers(path, findings) == GIVEN
    assert findings.lines == []


@pytest.mark.parametrize("packing", ["gzip", "bzip2", "xz", "lzma"])
def test_a_file_that_unpacks_without_end_is_refused_in_one_line(
    packing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "MOST_UNPACKED", 3 << 20)
    path = tmp_path / "answers.jsonl"
    path.write_bytes(PACKED[packing](LINES.encode() + b" " * (40 << 20)))
    tracemalloc.start()
    with pytest.raises(UserError, match=f"answers.jsonl is {packing} that holds more than .* give the file unpacked"):
        read_answers(path, Findings())
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("of", ["one value many times", "categories", "rows without a value", "large pages"])
def test_parquet_that_unpacks_without_end_is_refused_in_one_line(
    of: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "MOST_UNPACKED", 1 << 20)
    text = {
        "one value many times": ["x" * 2000] * 2000,
        "categories": pd.Categorical(["x" * 2000] * 2000),
        "rows without a value": [None] * 9000,
        "large pages": ["x" * (2 << 20)],
    }
    path = tmp_path / "answers.parquet"
    pd.DataFrame({"text": text[of], "id": [0] * len(text[of])}).to_parquet(path)
    assert path.stat().st_size < 1 << 18
    with pytest.raises(UserError, match=r"answers.parquet is Parquet that holds more than .* as JSON lines"):
        read_answers(path, Findings())


def test_a_spreadsheet_that_unpacks_without_end_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "MOST_UNPACKED", 1 << 20)
    path = tmp_path / "answers.xlsx"
    pd.DataFrame([{"id": 1, "text": "x"}]).to_excel(path, index=False)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/more.xml", b" " * (2 << 20))
    with pytest.raises(UserError, match=r"answers.xlsx is a spreadsheet that holds more than .* as CSV"):
        read_answers(path, Findings())


def test_a_packed_file_is_unpacked_once_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, unpacked = tmp_path / "answers.jsonl.gz", []
    monkeypatch.setattr(files, "unpacked", lambda data, path: unpacked.append(path) or text_files.unpacked(data, path))
    for text in (LINES, LINES.replace("yes", "no, none")):
        path.write_bytes(gzip.compress(text.encode()))
        assert is_table(path, Findings()) is False
        assert [row["question_id"] for row in table(path, Findings())][3] == "3"
        assert json_values(path, Findings()) == [json.loads(line) for line in text.splitlines()]
    assert unpacked == [path, path]


def test_parquet_is_read_with_its_images(tmp_path: Path) -> None:
    path = tmp_path / "answers.json"
    frame = pd.DataFrame(RECORDS).assign(image=[{"bytes": b"picture", "path": "1.png"}] * 4)
    frame.to_parquet(path)
    assert [(one.id, one.text) for one in read_answers(path, Findings())] == [(one.id, one.text) for one in GIVEN]
    assert [row["image"] for row in table(path, Findings())] == [base64.b64encode(b"picture").decode()] * 4
    assert json_values(path, Findings())[3]["question_id"] == 3


def test_a_pipe_is_read_once_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=[LINES])
    writer.start()
    assert read_answers(path, Findings()) == GIVEN
    writer.join()


def test_blanks_around_an_id_are_not_part_of_it(tmp_path: Path) -> None:
    gold = tmp_path / "gold.jsonl"
    gold.write_text('{"question_id": "a1 ", "gt_answer": "A"}\n{"question_id": "a2", "gt_answer": "A"}\n')
    answers = tmp_path / "answers.jsonl"
    answers.write_text('{"question_id": "a1 ", "text": "A"}\n{"question_id": " a2", "text": "A"}\n')
    assert score("seed_bench", answers, annotations=gold).metrics["seed_bench"]["accuracy"] == 100


def test_quotes_around_lines_still_quote_them(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('index,prediction\n0,"two\nlines, quoted"\n1,"one ""quoted"" word"\n2,"x"\n')
    texts = [answer.text for answer in read_answers(path, Findings())]
    assert texts == ["two\nlines, quoted", 'one "quoted" word', "x"]


def test_parquet_keeps_lists_and_structs(tmp_path: Path) -> None:
    rows = [{"doc_id": n, "doc": {"question_id": str(n)}, "filtered_resps": [f"answer {n}"]} for n in range(4)]
    pd.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    assert read_answers(tmp_path / "a.parquet", Findings()) == GIVEN
    pd.DataFrame([{"question_id": n, "text": [f"answer {n}"]} for n in range(4)]).to_parquet(tmp_path / "b.parquet")
    assert read_answers(tmp_path / "b.parquet", Findings()) == GIVEN
