#!/usr/bin/env bash
# Install napari-espmedsam from this checkout into a virtual environment.
#
#   bash scripts/install.sh [ENV [PIP-ARGUMENTS...]]       default: .venv ".[all]"
#
# On Debian and Ubuntu it also brings the system libraries that Qt needs to open a window: by
# apt-get as root or with a password-free sudo, else it prints the line that brings them.
# PYTHON chooses the interpreter (default python3); ENV is used again if it is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

environment=${1:-.venv}
shift || true
[ $# -gt 0 ] || set -- ".[all]"
python=${PYTHON:-python3}

fail() { printf '%s\n' "$*" >&2; exit 2; }

# One line per need: how to see that it is there (a shared library, a command) and who brings it.
needs="
libEGL.so.1            libegl1
libGL.so.1             libgl1
libX11-xcb.so.1        libx11-xcb1
libdbus-1.so.3         libdbus-1-3
libfontconfig.so.1     libfontconfig1
libglib-2.0.so.0       libglib2.0-0
libxcb-cursor.so.0     libxcb-cursor0
libxcb-icccm.so.4      libxcb-icccm4
libxcb-image.so.0      libxcb-image0
libxcb-keysyms.so.1    libxcb-keysyms1
libxcb-randr.so.0      libxcb-randr0
libxcb-render-util.so.0  libxcb-render-util0
libxcb-shape.so.0      libxcb-shape0
libxcb-sync.so.1       libxcb-sync1
libxcb-xfixes.so.0     libxcb-xfixes0
libxcb-xkb.so.1        libxcb-xkb1
libxkbcommon-x11.so.0  libxkbcommon-x11-0
libxkbcommon.so.0      libxkbcommon0
"
# The tests open windows on a virtual screen, and cannot do without.
if [ -n "${VIRTUAL_SCREEN:-}" ]; then
    needs+="xvfb-run xvfb
xauth xauth
"
fi

missing_packages() {
    local libraries present package
    libraries=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p)
    while read -r present package; do
        case $present in
            "") ;;
            lib*) grep -qF "$present " <<<"$libraries" || echo "$package" ;;
            *) command -v "$present" >/dev/null || echo "$package" ;;
        esac
    done <<<"$needs"
    command -v "$python" >/dev/null || { echo python3; echo python3-venv; return; }
    # Debian keeps the part of Python that makes environments in a package of its own.
    "$python" -c "import ensurepip, venv" 2>/dev/null || echo python3-venv
}

bring_packages() {
    local packages install
    packages=$(missing_packages | sort -u | tr '\n' ' ')
    [ -n "${packages// /}" ] || return 0
    install="apt-get update && apt-get install -y --no-install-recommends ${packages% }"
    echo "Debian packages needed: $packages"
    if [ "$(id -u)" -eq 0 ]; then
        DEBIAN_FRONTEND=noninteractive bash -c "$install" </dev/null
    elif sudo -n true 2>/dev/null; then
        sudo -n env DEBIAN_FRONTEND=noninteractive bash -c "$install" </dev/null
    else
        echo "This needs root, so run it yourself:
    $install" >&2
        # Without the Qt libraries everything but a window works; without these two, nothing.
        case "${VIRTUAL_SCREEN:+required} $packages" in
            required* | *python3*) exit 2 ;;
        esac
    fi
}

if command -v apt-get >/dev/null && [ "$(uname -s)" = Linux ]; then
    bring_packages
fi

command -v "$python" >/dev/null || fail "There is no command $python. Install Python 3.11 or newer."
"$python" -c "import sys; sys.exit(sys.version_info < (3, 11))" ||
    fail "$("$python" --version) is too old: napari-espmedsam needs 3.11 or newer. Name another interpreter with PYTHON=python3.12."

"$environment/bin/python" -m pip --version >/dev/null 2>&1 ||
    "$python" -m venv --clear "$environment"
echo "Installing into $environment: some minutes the first time"
"$environment/bin/python" -m pip install --disable-pip-version-check --progress-bar off --quiet \
    --no-compile "$@"
# pip would compile thousands of modules one after the other. Some are templates: they never compile.
"$environment/bin/python" -m compileall -q -j 0 "$environment"/lib/python*/site-packages \
    >/dev/null 2>&1 || true
