"""Writes the demo's speech model as an artifact that programs in other languages run: speech_artifact.py OUT.vit"""

from __future__ import annotations

import sys
from pathlib import Path

import vitrify

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "demo"))

from vad import SPECIALIZE, speech_model

if __name__ == "__main__":
    vitrify.compile(str(speech_model()), specialize=SPECIALIZE).save(sys.argv[1], replace=True)
