"""Whether the exported files compute the same as the network, in words and as a table."""

from collections.abc import Mapping

import pandas as pd

from cifar_bench.report.words import listed

FORMATS = {"model.pt": "TorchScript", "model.pt2": "exported program", "model.onnx": "ONNX"}


def sentence(measured: Mapping) -> str:
    """How many predictions the exported files change, and how far their logits differ at the most."""
    formats = measured["formats"]
    changed = listed(f"{entry['changed_predictions']} of {entry['images']:,} in {name}" for name, entry in formats.items())
    furthest = max(formats, key=lambda name: formats[name]["relative_error"])
    error = formats[furthest]["relative_error"]
    difference = f"differ by at most {error:.3g} of the largest logit ({furthest})" if error else "are identical"
    words = f"Changed predictions: {changed}; logits {difference}."
    if int8 := measured.get("int8"):  # older records have none
        words += (f" Int8-quantized (model-int8.onnx, {int8['file_bytes'] / 1e6:.1f} MB), the network has an accuracy of "
                  f"{int8['accuracy']:.2f}%, with {int8['changed_predictions']:,} changed predictions.")
    return words


def table(measured: Mapping) -> pd.DataFrame:
    """A row for each exported file: format, size (MB), changed predictions, error relative to the largest logit, and hash."""
    return pd.DataFrame({
        "file": name, "format": FORMATS[name], "MB": entry["file_bytes"] / 1e6, "images": entry["images"],
        "changed predictions": entry["changed_predictions"], "relative logit error": entry["relative_error"],
        "SHA-256": entry["sha256"][:16],
    } for name, entry in measured["formats"].items())
