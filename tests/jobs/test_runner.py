"""The runner with real processes: every way an attempt can end, and what it leaves behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from pathlib import Path

import pytest

from jobs.documents import JobError
from jobs.errors import KeyConflict
from jobs.queueing import Amount
from tests.jobs.world import job_of, shell, world


def test_success_and_the_environment(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            number = await w.submit(
                *shell('echo "$SLUICE_SEED $LEVEL $OMP_NUM_THREADS ${SECRET-none}"; echo hi > "$1"'), "sh",
                arguments=["{output_folder}/m"], outputs=["m"], seed=7, environment={"LEVEL": "3"},
                resources={"cpus": 2},
            )  # fmt: skip
            record = await w.ended(number)
            assert (record.state, record.reason) == ("succeeded", "success")
            assert w.log(number) == b"7 3 2 none\n"

    os.environ["SECRET"] = "s"
    try:
        asyncio.run(story())
    finally:
        del os.environ["SECRET"]


def test_a_function(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(
        "import os\ndef train(lr, name):\n"
        "    print(lr, name)\n    return 3 if name == 'bad' else None\n"
        "def hungry():\n    return bytearray(1 << 46)\n"
    )

    async def story() -> None:
        async with world(tmp_path) as w:
            good = await w.submit(function="work:train", parameters={"lr": 0.5, "name": "x"}, folder=str(tmp_path))
            bad = await w.submit(function="work:train", parameters={"lr": 1, "name": "bad"}, folder=str(tmp_path))
            hungry = await w.submit(function="work:hungry", folder=str(tmp_path))
            assert (await w.ended(good)).state == "succeeded"
            assert w.log(good) == b"0.5 x\n"
            assert (await w.ended(bad)).detail == "ended with exit code 3"
            assert (await w.ended(hungry)).reason == "out_of_memory"

    asyncio.run(story())


def test_reasons_are_told_apart(tmp_path: Path) -> None:
    eats = "x = []\nwhile True: x.append(bytearray(8 << 20))"

    async def story() -> None:
        async with world(tmp_path, capacity=Amount(9, 0, 4096)) as w:
            numbers = {
                "error": await w.submit("false"),
                "out_of_memory": await w.submit("python", "-c", eats, resources={"memory_mib": 200}),
                "time_limit": await w.submit("sleep", "60", time_limit_s=1),
                "outputs_missing": await w.submit("true", outputs=["m", "r/*.json"]),
                "lost": await w.submit(*shell("kill -9 $$"), interruptions=0),
                "preempted": await w.submit(*shell("exit 75"), interruptions=2),
            }
            for reason, number in numbers.items():
                record = await w.ended(number)
                assert (record.state, record.reason) == ("failed", reason), record.detail
                assert w.alive(number) == set()
            assert len(w.store.attempts(numbers["preempted"])) == 3
            peak = w.last(numbers["out_of_memory"]).record
            assert peak is not None
            assert 150 << 20 < peak["peak_bytes"] < 1200 << 20
            missing = w.store.job(numbers["outputs_missing"])
            assert missing is not None
            assert missing.detail == "ended with 0 but did not write m, r/*.json"
            unknown = await w.submit("no-such-program")
            assert "cannot be started: No such file" in (await w.ended(unknown)).detail

    asyncio.run(story())


def test_cancel_ends_grandchildren_that_ignore_sigterm_and_leave_the_session(tmp_path: Path) -> None:
    script = (
        "trap '' TERM; (trap '' TERM; setsid sh -c 'trap \"\" TERM; (env -i sleep 300) & sleep 300' & sleep 300) & "
        "echo ready > {output_folder}/ready; sleep 300; sleep 300"
    )

    async def story() -> None:
        async with world(tmp_path) as w:
            number = await w.submit("sh", "-c", script, grace_s=1)
            await w.file(w.state.outputs(number) / "ready")
            await w.until(lambda: len(w.alive(number)) >= 5, "all are up")
            before = w.alive(number)
            w.runner.cancel(number)
            record = await w.ended(number)
            assert (record.state, record.reason) == ("cancelled", "cancelled")
            assert not [pid for pid in before if _command(pid).startswith(b"sleep")]
            assert w.alive(number) == set()

    asyncio.run(story())


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_what_a_job_leaves_running_ends_with_it(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            number = await w.submit(*shell("setsid sleep 300 & echo started"))
            assert (await w.ended(number)).state == "succeeded"
            assert w.alive(number) == set()
            assert w.log(number) == b"started\n"

    asyncio.run(story())


def test_a_line_of_a_gigabyte_is_bounded(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            writes = (
                "import sys\nw = sys.stdout.buffer.write\nw(b'first\\n')\n"
                "for _ in range(1000): w(b'x' * 10**6)\nw(b'\\nlast\\n')"
            )
            number = await w.submit("python", "-c", writes, limits={"log_mib": 1})
            assert (await w.ended(number)).state == "succeeded"
            found = w.last(number).record
            assert found is not None
            assert (found["log_bytes"], found["log_lost_bytes"]) == (1_000_000_012, 0)
            log = w.log(number)
            assert log.startswith(b"first\nxxx")
            assert log.endswith(b"xxx\nlast\n")
            assert len(log) <= 1 << 20

    asyncio.run(story())


def test_a_full_disk_fails_one_job_only(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            full = await w.submit(*shell("echo x > /dev/full"))
            large = await w.submit(*shell("head -c 3000000 /dev/zero > {output_folder}/f"), limits={"file_mib": 1})
            # Its folder cannot be made, as on a disk that is full.
            broken = await w.submit("true", folder="/tmp", resources={"cpus": 2})
            (w.state.of_job(broken)).write_text("in the way")
            fine = await w.submit("true")
            assert (await w.ended(full)).reason == "error"
            assert (await w.ended(large)).state == "failed"
            assert "cannot be started" in (await w.ended(broken)).detail
            assert (await w.ended(fine)).state == "succeeded"

    asyncio.run(story())


def test_a_state_that_cannot_be_written_is_written_later(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            number = await w.submit(*shell("while ! test -e {output_folder}/go; do sleep 0.05; done"))
            await w.until(lambda: w.runner.running(), "it runs")
            database = sqlite3.connect(w.state.root / "jobs.sqlite", isolation_level=None)
            database.execute("BEGIN EXCLUSIVE")  # nobody else can write, as on a disk that is full
            w.store._db.execute("PRAGMA busy_timeout = 0")
            (w.state.outputs(number) / "go").touch()
            await w.until(lambda: w.runner.trouble, "the runner cannot record the end")
            assert not (w.state.root / "reserve").exists(), "what was set aside has been given back"
            database.execute("ROLLBACK")
            database.close()
            assert (await w.ended(number)).state == "succeeded"
            assert (await w.ended(await w.submit("true"))).state == "succeeded"
            assert w.runner.trouble == ""

    asyncio.run(story())


def test_retries_and_resume(tmp_path: Path) -> None:
    counts = 'n=$(ls {checkpoint_folder} | wc -l); touch "{checkpoint_folder}/$n"; test "$n" -ge %d'

    async def story() -> None:
        async with world(tmp_path) as w:
            number = await w.submit(*shell(counts % 2), retries=2)
            assert (await w.ended(number)).state == "succeeded"
            assert len(w.store.attempts(number)) == 3
            again = await w.submit(*shell(counts % 1))
            assert (await w.ended(again)).state == "failed"
            w.runner.resume(again)
            assert (await w.ended(again)).state == "succeeded"

    asyncio.run(story())


def test_the_same_key_is_the_same_job(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            first = await w.submit("true", key="k")
            assert await w.submit("true", key="k") == first
            with pytest.raises(KeyConflict, match="job 1"):
                await w.submit("false", key="k")
            with pytest.raises(JobError, match=r"resources\.cpus: 3 asked for, the runner has 2"):
                await w.submit("true", resources={"cpus": 3})
            await w.ended(first)
            assert len(w.store.jobs()) == 1

    asyncio.run(story())


def test_pinned_inputs(tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    data.write_text("1")
    (tmp_path / "table" / "_delta_log").mkdir(parents=True)
    (tmp_path / "table" / "_delta_log" / f"{3:020d}.json").write_text("{}")
    pinned = [{"name": "data", "path": "data.csv"}, {"name": "rows", "table": "table", "version": "latest"}]

    async def story() -> None:
        async with world(tmp_path) as w:
            script = shell('cat "$SLUICE_INPUT_DATA"; test "$SLUICE_INPUT_ROWS" = {inputs.rows}')
            number = await w.submit(*script, inputs=pinned, folder=str(tmp_path))
            record = await w.ended(number)
            assert record.state == "succeeded"
            assert record.job.inputs[0].sha256.startswith("6b86b273")
            assert record.job.inputs[1].version == 3
            with pytest.raises(JobError, match=r"inputs\[0\]: cannot read"):
                await w.submit("true", inputs=[{"name": "a", "path": "absent"}], folder=str(tmp_path))
            holds = await w.submit("sleep", "300", resources={"cpus": 2}, preemptible=True)
            await w.until(lambda: w.runner.running(), "the slots are taken")
            late = await w.submit("true", inputs=pinned, folder=str(tmp_path))
            data.write_text("2")
            w.runner.cancel(holds)
            record = await w.ended(late)
            assert (record.state, record.reason) == ("failed", "input_changed")

    asyncio.run(story())


def test_two_hundred_short_jobs_on_two_slots(tmp_path: Path) -> None:
    async def story() -> None:
        async with world(tmp_path) as w:
            job = job_of("true")
            numbers = [(await w.runner.submit(job))[0].id for _ in range(200)]
            for number in numbers:
                while (record := w.store.job(number)) is not None and not record.state.final:
                    assert len(w.runner.running()) <= 2
                    await w.runner.change()
            assert {record.state for record in w.store.jobs()} == {"succeeded"}
            assert [len(w.store.attempts(number)) for number in numbers] == [1] * 200

    asyncio.run(story())


def test_preemption_by_a_job_of_higher_priority(tmp_path: Path) -> None:
    script = shell("trap 'exit 75' TERM; test -e {checkpoint_folder}/x && exit 0; touch {checkpoint_folder}/x; "
                   "while :; do sleep 0.05; done")  # fmt: skip

    async def story() -> None:
        async with world(tmp_path) as w:
            low = await w.submit(*script, preemptible=True, resources={"cpus": 2})
            await w.until((w.state.of_job(low) / "checkpoints" / "x").exists, "it runs")
            high = await w.submit("true", priority=5)
            assert (await w.ended(high)).state == "succeeded"
            record = await w.ended(low)
            assert (record.state, record.interruptions, record.failures) == ("succeeded", 1, 0)
            assert [run.reason for run in w.store.attempts(low)] == ["preempted", "success"]

    asyncio.run(story())


def test_a_killed_keeper_takes_the_job_with_it_and_it_is_queued_again(tmp_path: Path) -> None:
    script = shell("test -e {checkpoint_folder}/x && exit 0; (setsid sleep 300) & touch {checkpoint_folder}/x; "
                   "sleep 300")  # fmt: skip

    async def story() -> None:
        async with world(tmp_path) as w:
            number = await w.submit(*script)
            await w.until((w.state.of_job(number) / "checkpoints" / "x").exists, "it runs")
            first = w.last(number)
            from jobs import files

            claim = files.read_json(w.state.attempt(number, 1) / "claim.json")
            assert claim is not None
            os.kill(claim["pid"], signal.SIGKILL)
            assert (await w.ended(number)).state == "succeeded"
            assert [run.reason for run in w.store.attempts(number)] == ["lost", "success"]
            assert w.alive(number) == set()
            assert first.number == 1

    asyncio.run(story())
