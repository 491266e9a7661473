"""Write a checkpoint as GGUF without a tokenizer: write_gguf FOLDER FILE bf16|q8_0."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, quants

from benchmarks.peers.gguf_names import ARCHITECTURE, settings, tensor_name

KINDS = {
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}


def main(folder: str, file: str, kind: str) -> None:
    config = json.loads((Path(folder) / "config.json").read_text())
    writer = GGUFWriter(file, ARCHITECTURE)
    writer.add_file_type(KINDS[kind][1])
    writer.add_quantization_version(2)
    writer.add_tokenizer_model("none")
    for key, value in settings(config).items():
        (writer.add_float32 if isinstance(value, float) else writer.add_uint32)(key, value)
    for name, values in tensors(Path(folder) / "model.safetensors"):
        _add(writer, tensor_name(name), values, KINDS[kind][0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add(writer: GGUFWriter, name: str, values: Any, kind: GGMLQuantizationType) -> None:
    """Matrices in the file's type, vectors as float32: as llama.cpp's own converter does."""
    if values.ndim == 1:
        writer.add_tensor(name, widened(values))
    elif kind is GGMLQuantizationType.BF16:
        writer.add_tensor(name, values.view(np.uint8), raw_dtype=kind)
    else:
        writer.add_tensor(name, quants.quantize(widened(values), kind), raw_dtype=kind)


def widened(values: Any) -> Any:
    """bfloat16, held as uint16, as float32."""
    return (values.astype(np.uint32) << 16).view(np.float32)


def tensors(file: Path) -> Iterator[tuple[str, Any]]:
    """Name and bits (as uint16) of each tensor of a bfloat16 safetensors file."""
    with file.open("rb") as opened:
        size = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(size))
    data = np.memmap(file, np.uint8, "r", offset=8 + size)
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            yield name, data[begin:end].view(np.uint16).reshape(entry["shape"])


if __name__ == "__main__":
    main(*sys.argv[1:])
