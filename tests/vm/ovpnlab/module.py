# SPDX-License-Identifier: GPL-2.0
"""The kernel module under test."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from . import command, waiting

NAME = "ovpn_dco_v2"
_SYSFS = Path("/sys/module", NAME)


def path() -> Path:
    """The module's file, from the environment variable OVPN_DCO_KO."""
    return Path(os.environ["OVPN_DCO_KO"])


def info(field: str, file: Path | None = None) -> list[str]:
    """What `modinfo` says of the file, one value a line."""
    return command.run("modinfo", "-F", field, str(file or path())).split("\n")[:-1]


def is_loaded() -> bool:
    """Whether the kernel has the module now."""
    return _SYSFS.exists() and (_SYSFS / "initstate").read_text().strip() == "live"


def version() -> str:
    """The version of the loaded module, where OpenVPN reads it too."""
    return (_SYSFS / "version").read_text().strip()


def users() -> int:
    """The loaded module's reference count."""
    return int((_SYSFS / "refcnt").read_text())


@functools.cache
def _load_dependencies(file: Path) -> None:
    for dependency in filter(None, ",".join(info("depends", file)).split(",")):
        command.run("modprobe", dependency)


def load(file: Path | None = None) -> None:
    """Load the module, or another build of it, after the modules that it depends on."""
    file = file or path()
    _load_dependencies(file)
    command.run("insmod", str(file))


def c_path() -> Path:
    """Where `scripts/counterparts` puts the C module."""
    return Path("/opt/ovpn-dco-c", os.uname().release, "ovpn-dco-v2.ko")


def unload(timeout: float = 10) -> None:
    """Unload the module; its users must be gone, or go within the time."""
    try:
        waiting.until(lambda: users() == 0, "the module is not in use", timeout)
    finally:
        command.run("rmmod", NAME, timeout=timeout + 20)


def ensure_loaded() -> None:
    """Load the module if it is not loaded."""
    if not is_loaded():
        load()


def ensure_unloaded() -> None:
    """Unload the module if it is loaded."""
    if _SYSFS.exists():
        unload()
