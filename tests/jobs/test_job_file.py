"""The job file: every problem at once, with dotted paths; the shipped schema; round trips."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.documents import JobError
from jobs.job import Job
from jobs.job_loading import from_document, load, to_document
from jobs.job_schema import SHIPPED, text

FULL = """
name = "wide-deep"
command = ["python", "train.py"]
arguments = ["--data", "{inputs.adult}", "--out", "{output_folder}/model.npz"]
folder = "work"
seed = 7
priority = 5
preemptible = true
retries = 2
retry_on = ["error", "time_limit"]
time_limit_s = 600
outputs = ["model.npz", "report/*.json"]
[resources]
cpus = 2
memory_mib = 512
[environment]
LEVEL = "3"
[checkpoint]
interval_s = 5
[[inputs]]
name = "adult"
path = "adult.csv"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
[[inputs]]
name = "rows"
table = "tables/rows"
version = "latest"
"""


def problems(document: object) -> list[str]:
    with pytest.raises(JobError) as caught:
        from_document(document, Path("/"))
    return caught.value.problems


def test_a_full_file(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(FULL)
    job = load(path)
    assert job.folder == str(tmp_path / "work")
    assert (job.resources.cpus, job.resources.memory_mib, job.checkpoint.interval_s) == (2, 512, 5)
    assert [given.name for given in job.inputs] == ["adult", "rows"]
    assert from_document(json.loads(json.dumps(to_document(job)))) == job


def test_all_problems_at_once_with_dotted_paths() -> None:
    found = problems(
        {
            "comand": ["x"],
            "seed": -1,
            "preemptible": 1,
            "retry_on": ["error", "oom"],
            "resources": {"cpus": 0, "gpu": 1, "memory_mib": "1G"},
            "environment": {"A": 1},
            "inputs": [{"path": "x", "sha256": "12"}],
            "limits": 3,
        }
    )
    assert [problem.partition(":")[0] for problem in found] == [
        "comand", "seed", "preemptible", "retry_on[1]", "resources.cpus", "resources.gpu", "resources.memory_mib",
        "environment.A", "inputs[0].sha256", "inputs[0].name", "limits", "name",
    ]  # fmt: skip
    assert "did you mean 'command'?" in found[0]


def test_contradictions_at_once() -> None:
    found = problems(
        {
            "name": "x",
            "command": ["a", "{inputs.b}"],
            "function": "m:f",
            "parameters": {"p": 1},
            "environment": {"SLUICE_SEED": "1", "A=B": "2"},
            "outputs": ["../x", "/y"],
            "inputs": [
                {"name": "a-b", "path": "x", "version": 3},
                {"name": "a.b", "table": "x", "sha256": "0" * 64},
                {"name": "c"},
            ],
        }
    )
    assert len(found) == 11, found


@pytest.mark.parametrize("document", [None, [], "text", 3])
def test_not_a_table(document: object) -> None:
    assert problems(document) == [f"the file: must be a table, not {document!r}"]


def test_files_that_are_none(tmp_path: Path) -> None:
    for name, content in (("a.toml", b"name ="), ("b.toml", b"\xff"), ("c.json", b"{"), ("d.toml", b"#" * (2 << 20))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(JobError, match=name):
            load(tmp_path / name)
    with pytest.raises(JobError, match="cannot be read"):
        load(tmp_path / "absent.toml")


def test_a_document_from_elsewhere_has_an_absolute_folder() -> None:
    with pytest.raises(JobError, match="folder: must be an absolute path"):
        from_document({"name": "x", "command": ["a"]})


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*Job.__dataclass_fields__, "cpus", "x"]), inner, max_size=5)
        ),
        max_leaves=12,
    )
)
def test_any_document_is_a_job_or_a_list_of_problems(document: object) -> None:
    found: list[str] = []
    try:
        job = from_document(document, Path("/tmp"))
        assert from_document(to_document(job)) == job
    except JobError as error:
        found = error.problems or [""]
    assert all(problem and problem.isprintable() for problem in found)


def test_the_shipped_schema_is_current() -> None:
    assert SHIPPED.read_text(encoding="utf-8") == text(), "run python -m jobs.job_schema"
