"""Settings: what the environment says, checked once at start."""

from emergency_stop.config.settings import (
    DEFAULT_SERVICES,
    EXIT_CONFIG,
    Settings,
    SettingsError,
    describe_settings,
)
from emergency_stop.config.values import did_you_mean

__all__ = ["DEFAULT_SERVICES", "EXIT_CONFIG", "Settings", "SettingsError", "describe_settings", "did_you_mean"]
