"""Where the AWS CLI of the trigger's layer is, for what runs the trigger's code outside Lambda."""

from pathlib import Path

from tests.support.paths import ROOT
from tests.support.process import StackError

BUILD = ROOT / "trigger" / ".build"


def layer_path() -> Path:
    """To be put on PYTHONPATH. Raises StackError when the layer is not built."""
    path = BUILD / "layer" / "python"
    if not path.is_dir():
        raise StackError("The awscli layer is not built. Run: make package (make test and make demo do).")
    return path
