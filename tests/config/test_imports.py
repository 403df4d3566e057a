"""What the options bring along: nothing heavy, so that whoever loads a model pays for no command line."""

import subprocess
import sys

HEAVY = ("torch", "tyro", "rich", "yaml", "zarr", "sklearn", "accelerate", "timm", "torchvision")


def test_options_and_the_way_to_a_model_import_nothing_heavy() -> None:
    asked = (
        "import sys; import leanet.config.options, leanet.model.load; "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
