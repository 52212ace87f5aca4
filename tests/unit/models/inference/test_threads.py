"""Both programs set the environment of their threads before torch reads it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from models.inference.threads import set_wait_policy

AT_IMPORT_OF_TORCH = """
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("OMP_WAIT_POLICY"))
            raise SystemExit(0)
sys.meta_path.insert(0, Finder())
sys.argv = ["program", *{arguments}]
from {package} import main
main()
"""


@pytest.mark.parametrize(
    ("package", "arguments"), [("worker.cli", ["doctor"]), ("training.cli", ["list"])], ids=["facet", "facet-train"]
)
@pytest.mark.parametrize(("given", "expected"), [(None, "passive"), ("active", "active")])
def test_threads_sleep_unless_the_user_chose(tmp_path, package, arguments, given, expected):
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment |= {"FACET_HOME": str(tmp_path)} | ({} if given is None else {"OMP_WAIT_POLICY": given})
    code = AT_IMPORT_OF_TORCH.format(package=package, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.split() == [expected]


def test_the_module_loads_no_library():
    code = f"import sys; import {set_wait_policy.__module__}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False"]
