"""The experiment: a small network, its images, how it is trained, and the loop that times one image after another.

The training loop itself is in notebooks/1_train.ipynb.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # the clone: notebooks find data/ and results/ from any folder


class InputError(Exception):
    """An error that the user can fix: its message is one sentence that says what is wrong and what to do."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]
