"""Hardware profiles: constants with units, sources and a confidence mark, one TOML file each; a user adds a file."""

from spikenet.energy.hardware.profile import Profile, load_profile, profiles

__all__ = ["Profile", "load_profile", "profiles"]
