"""The data of the sweep over tasks: drawn dishes, each photo with all the questions of posed.py, as prepared shards.

They lie in run state, apart from the workspace's data: the default pipeline's sets, and so its figures, stay as they
are. Dishes and photos are functions of the seed; the first share of dishes is for the test.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from components.data.schema import IMAGE_MARKER, Row, Sample, Turn
from components.data.shards import PreparedRows, ShardWriter, index_digests
from components.digests import digest
from components.evaluation.question import Question, question_from
from components.files import fresh_folder, write_json
from components.imports import code_digest
from components.locks import lock
from components.prepare.splits import SCHEMA
from components.prepare.token_counts import count_tokens
from components.synthetic.plates.dish import draw_dish, numbers
from components.synthetic.plates.drawing import photograph, png
from components.synthetic.plates.posed import POSED
from components.workspace import MANIFEST, TOKENIZER, home

SOURCE = "posed"


@dataclass(frozen=True)
class PosedData:
    """`prepared`: the folder of the one source; `assignments`: its splits."""

    folder: Path

    @property
    def prepared(self) -> Path:
        return self.folder / "prepared"

    @property
    def assignments(self) -> Path:
        return self.folder / "assignments.parquet"

    def questions(self, tasks: list[str]) -> list[Question]:
        """Those of the test dishes, of these tasks."""
        rows = PreparedRows(self.prepared / SOURCE)
        table = pq.read_table(self.assignments).to_pylist()
        test = (rows[line["row"]] for line in table if line["split"] == "test")
        return [question_from(row, sample, SOURCE) for row in test for sample in row.samples if sample.task in tasks]


def posed_data(train: int, test: int, size: int, seed: int) -> PosedData:
    """Draw and write the data, unless they are there. size: pixels per side."""
    key = digest([train, test, size, seed, code_digest(__name__), TOKENIZER.read_text(encoding="utf-8")])
    data = PosedData(home() / "tables" / f"posed-{key[:16]}")
    with lock(data.folder.name):
        if not data.folder.is_dir():
            with fresh_folder(data.folder) as folder:
                _write(PosedData(folder), train, test, size, seed)
    return data


def _write(data: PosedData, train: int, test: int, size: int, seed: int) -> None:
    source = data.prepared / SOURCE
    source.mkdir(parents=True)
    writer = ShardWriter(source / "shard-00000.parquet", source / "index.parquet")
    for number in range(test + train):
        row = _row(number, size, seed)
        writer.add(row, count_tokens(TOKENIZER.resolve(), row.samples))
    shard = writer.close()
    write_json(source / MANIFEST, {"source": SOURCE, "shards": [shard], **index_digests(source / "index.parquet")})
    splits = ["test"] * test + ["train"] * train
    columns = {"source": [SOURCE] * len(splits), "row": range(len(splits)), "split": splits}
    pq.write_table(pa.table(columns, SCHEMA), data.assignments)


def _row(number: int, size: int, seed: int) -> Row:
    rng = numbers(seed, SOURCE, number)
    dish = draw_dish(rng)
    photo = photograph(dish, size, rng)
    image = png(photo.image)
    samples = [
        Sample(
            f"{number:06d}-{posed.name}",
            posed.name,
            [Turn("human", f"{IMAGE_MARKER}\n{posed.question}"), Turn("assistant", posed.answer(dish, photo))],
        )
        for posed in POSED
    ]
    return Row(f"dish_{number:06d}", samples, image, sha256(image).hexdigest())
