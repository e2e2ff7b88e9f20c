"""What the exported files compute, in words and as a table."""

from collections.abc import Mapping

import pandas as pd

from cifar_bench.report.style import listed


def sentence(measured: Mapping) -> str:
    """Do the exported files compute what the network does? One sentence from an export's measurements."""
    formats = measured["formats"]
    changed = listed(f"{entry['changed_predictions']} of {entry['images']:,} in {name}" for name, entry in formats.items())
    furthest = max(formats, key=lambda name: formats[name]["relative_error"])
    error = formats[furthest]["relative_error"]
    difference = f"differ by at most {error:.1g} of the largest ({furthest})" if error else "are identical"
    return f"Changed predictions: {changed}; logits {difference}."


def table(measured: Mapping) -> pd.DataFrame:
    """A row for each exported file: its format, size (MB), changed predictions, error (of the largest logit) and hash."""
    kinds = {"model.pt": "TorchScript", "model.pt2": "exported program", "model.onnx": "ONNX"}
    return pd.DataFrame({
        "file": name, "format": kinds[name], "MB": entry["file_bytes"] / 1e6, "images": entry["images"],
        "changed predictions": entry["changed_predictions"], "relative logit error": entry["relative_error"],
        "SHA-256": entry["sha256"][:16],
    } for name, entry in measured["formats"].items())
