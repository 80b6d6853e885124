"""The engine that the settings ask for."""

from localful_ws.clock import Clock
from localful_ws.engine import Engine
from localful_ws.engine.memory import MemoryEngine
from localful_ws.settings import Settings, SettingsError


def build_engine(settings: Settings, clock: Clock) -> Engine:
    """Make the engine that the setting ``engine`` names.

    Args:
        settings: The daemon's settings.
        clock: The daemon's clock.

    Raises:
        localful_ws.settings.SettingsError: If the client of Redis is not installed.
    """
    if settings.engine == "memory":
        return MemoryEngine(settings, clock)
    # A daemon without Redis need not wait for its client to be imported.
    try:
        from localful_ws.engine.redis.engine import RedisEngine  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "hiredis":
            raise
        raise SettingsError(
            "engine: the client of Redis is not installed; pip install 'localful-ws[redis]' brings it."
        ) from None
    return RedisEngine(settings, clock)
