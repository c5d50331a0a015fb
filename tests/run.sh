#!/usr/bin/env bash
# Install what the tests need into .venv-test and run them; arguments go to pytest.
#
#   bash tests/run.sh                  everything
#   bash tests/run.sh tests/model      one folder
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Qt's "offscreen" platform has no OpenGL, and napari draws with nothing else: the tests of the
# widgets need a screen. A virtual one also keeps their windows off the user's own.
screen=()
if [ "$(uname -s)" = Linux ]; then
    export VIRTUAL_SCREEN=1 QT_QPA_PLATFORM=xcb
    screen=(xvfb-run --auto-servernum --server-args "-screen 0 1280x1024x24")
fi

bash scripts/install.sh .venv-test --editable ".[testing]"
# ${screen[@]+...}: bash 3.2 of macOS calls an empty array unset.
exec ${screen[@]+"${screen[@]}"} .venv-test/bin/python -m pytest "$@"
