"""docs/configuration.md says what the settings say."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

from gateway.config import SECTIONS, Config

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "config_docs.py"


def test_the_document_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, TOOL, "--check"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_setting_is_in_it_and_its_example_loads(tmp_path: Path) -> None:
    from gateway.config_loading import load

    text = (ROOT / "docs" / "configuration.md").read_text()
    for section in SECTIONS:
        for setting in dataclasses.fields(getattr(Config(), section)):
            assert f"| `{setting.name}` |" in text
    example = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert example is not None
    file = tmp_path / "gateway.toml"
    file.write_text(example[1])
    assert load(file).batching_for("minilm").max_batch_size == 32
