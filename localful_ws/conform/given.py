"""The settings that a scene needs, and those that a server is said to have."""

from collections.abc import Mapping
from typing import Any

from localful_ws.conform.scenes import Scene
from localful_ws.settings import OPTIONS, default_of


def values_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by the field of `localful_ws.settings.Settings`, as their kinds read them.

    Raises:
        SettingsError: If one of them is impossible.
        KeyError: If one of them is no setting.
    """
    return {OPTIONS[name].field: OPTIONS[name].read(value, name) for name, value in given.items()}


def lacking(scene: Scene, told: Mapping[str, Any]) -> list[str]:
    """The settings in which a server is not as a scene needs it, as a scene would write them.

    A setting of which neither speaks is taken to have its default.

    Args:
        scene: The scene.
        told: What is said of the server: settings by name.
    """
    has, needs = values_of(told), values_of(scene.given)
    wrong = []
    for name in sorted({*told, *scene.given}):
        field = OPTIONS[name].field
        needed = needs.get(field, default_of(field))
        if has.get(field, default_of(field)) != needed:
            wrong.append(f"{name}={scene.given.get(name, OPTIONS[name].default)}")
    return wrong
