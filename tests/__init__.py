"""Tests, and the stand-ins that they and the demo run on."""
