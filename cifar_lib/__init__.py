"""The thin library behind the notebooks: what two of them need, or a test should reach."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # the clone: notebooks find data/ and results/ from any folder
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # a folder under results/


class InputError(Exception):
    """Something the user can mend: the message is one sentence that says what is wrong and what to do."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]
