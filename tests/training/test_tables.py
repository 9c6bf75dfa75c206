"""Delta tables: pinned at submit, read at that version, checked before the program starts; folders and S3."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from jobs.documents import JobError
from tests.jobs.world import ROOT, World, world
from tests.registry_stores import servers


def people(*ages: int, income: str = ">50K") -> pa.Table:
    return pa.table({"age": pa.array(ages, pa.int64()), "income": [income] * len(ages)})


def job(table: str, **given: Any) -> dict[str, Any]:
    pinned = {"name": "people", "table": table, **given}
    return {"function": "tests.training.table_reader:main", "parameters": {"column": "age"}, "folder": str(ROOT),
            "inputs": [pinned], "outputs": ["found.json"]}  # fmt: skip


def found(w: World, number: int) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((w.state.outputs(number) / "found.json").read_text())
    return document


def test_the_pinned_version_is_read_whatever_comes_after(tmp_path: Path) -> None:
    table = str(tmp_path / "people")
    write_deltalake(table, people(30, 40))
    write_deltalake(table, people(50), mode="append")

    async def story() -> None:
        async with world(tmp_path) as w:
            runs = [await w.submit(**job(table, version=version)) for version in ("latest", 0)]
            write_deltalake(table, people(99), mode="overwrite")
            for number, version, rows in zip(runs, (1, 0), ([30, 40, 50], [30, 40]), strict=True):
                assert (await w.ended(number)).state == "succeeded", w.log(number)
                result = found(w, number)
                assert sorted(result["rows"]) == rows
                assert result["lineage"]["inputs"] == [{"name": "people", "table": table, "version": version}]
                assert len(result["lineage"]["environment_sha256"]) == 64
                assert result["lineage"]["code"]

    asyncio.run(story())


def test_rows_that_the_schema_refuses_are_named(tmp_path: Path) -> None:
    table = str(tmp_path / "people")
    write_deltalake(table, people(30, 200, 40, -1))
    checked = job(table, schema="tests.training.table_reader:PEOPLE")

    async def story() -> None:
        async with world(tmp_path) as w:
            number = await w.submit(**checked, retries=3)
            record = await w.ended(number)
            assert (record.state, record.reason, record.attempts) == ("failed", "data_refused", 1)
            log = w.log(number).decode()
            assert "row 1: column age is 200" in log
            assert "row 3: column age is -1" in log
            assert "row 1: column age is 200" in record.detail
            assert not (w.state.outputs(number) / "found.json").exists()
            write_deltalake(table, people(30, 40), mode="overwrite")
            assert (await w.ended(await w.submit(**checked))).state == "succeeded"

    asyncio.run(story())


def test_a_table_in_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s3").mkdir()
    with servers.seaweedfs(tmp_path / "s3") as s3:
        for name, value in {**s3.environment, "AWS_ALLOW_HTTP": "true"}.items():
            monkeypatch.setenv(name, value)
        table = f"s3://{servers.BUCKET}/tables/people"
        write_deltalake(table, people(30, 40))

        async def story() -> None:
            async with world(tmp_path) as w:
                number = await w.submit(**job(table, schema="tests.training.table_reader:PEOPLE"))
                write_deltalake(table, people(7), mode="append")
                assert (await w.ended(number)).state == "succeeded", w.log(number)
                assert found(w, number)["rows"] == [30, 40]
                assert found(w, number)["lineage"]["inputs"][0]["version"] == 0
                with pytest.raises(JobError, match="versions up to 1"):
                    await w.submit(**job(table, version=5))
                with pytest.raises(JobError, match="cannot read s3://"):
                    await w.submit(**job(f"s3://{servers.BUCKET}/tables/nobody"))

        asyncio.run(story())
