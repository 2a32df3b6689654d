"""Presets that ship: a TOML file each, whose first line says what it is for."""
